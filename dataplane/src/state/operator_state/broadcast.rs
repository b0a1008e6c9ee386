//! Broadcast state: a map that every subtask has a copy of.
//!
//! Owns: [`BroadcastState`] (the handle), [`BroadcastView`] and [`BroadcastAccess`] (leave to read it, and to write
//! it), and where the maps are.
//! Invariant: who has a view cannot write, so that functions change the state only with broadcast records, which all
//! subtasks get.
//! Left out: that functions of all subtasks do the same with them, which is theirs.

use std::any::type_name;
use std::fmt;

use crate::error::{Error, Result};
use crate::state::backend::{At, KeyedStateBackend};
use crate::state::byte_table::Change;
use crate::state::handles::{KeyedAccess, MapState, MapStateDescriptor};
use crate::state::operator_state::snapshot::{NamedState, Redistribution};
use crate::state::value::{PlainValue, StateValue, decode_whole};

/// State that broadcast records write and all records read. Its map is the same in every subtask as long as functions
/// write what follows from the broadcast record and the state alone.
pub struct BroadcastState<K, V>(MapState<K, V>);

impl<K, V> Clone for BroadcastState<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, V> Copy for BroadcastState<K, V> {}

/// Unregistered: using it is an error.
impl<K, V> Default for BroadcastState<K, V> {
    fn default() -> Self {
        Self(MapState::default())
    }
}

impl<K, V> fmt::Debug for BroadcastState<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BroadcastState")
    }
}

/// The broadcast state, to be read.
#[derive(Debug)]
pub struct BroadcastView<'a>(KeyedAccess<'a>);

/// The broadcast state, to be written.
#[derive(Debug)]
pub struct BroadcastAccess<'a>(BroadcastView<'a>);

impl<'a> BroadcastAccess<'a> {
    /// Reading.
    pub fn view(&mut self) -> &mut BroadcastView<'a> {
        &mut self.0
    }
}

impl<K: PlainValue, V: StateValue> BroadcastState<K, V> {
    /// The value of a key.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn get<'v>(&self, view: &'v mut BroadcastView<'_>, key: &K) -> Result<Option<V::View<'v>>> {
        self.0.get(&mut view.0, key)
    }

    /// Calls `visit` with each entry, in the order in which keys were first put.
    ///
    /// # Errors
    /// The state cannot be read, or `visit` failed.
    pub fn for_each(
        &self,
        view: &mut BroadcastView<'_>,
        visit: impl FnMut(K, V::View<'_>) -> Result<()>,
    ) -> Result<()> {
        self.0.for_each(&mut view.0, visit)
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// The value is too long to be kept.
    pub fn put(
        &self,
        access: &mut BroadcastAccess<'_>,
        key: &K,
        value: &V::Given<'_>,
    ) -> Result<()> {
        self.0.put(&mut access.0.0, key, value)
    }

    /// Takes a key out.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn remove(&self, access: &mut BroadcastAccess<'_>, key: &K) -> Result<()> {
        self.0.remove(&mut access.0.0, key)
    }
}

/// Where broadcast state is in its backend: it has no keys, so all of it is in one place.
const EVERYWHERE: At<'static> = At {
    key_hash: 0,
    key: &[],
    namespace: &[],
};

/// Names both types of a map.
fn map_type<K: 'static, V: 'static>() -> &'static str {
    type_name::<(K, V)>()
}

/// The maps of one operator in one subtask, in memory whatever the state backend is, as in Flink.
#[derive(Debug)]
pub(super) struct BroadcastMaps {
    backend: KeyedStateBackend,
    /// Name and type of each map that was asked for, in the order of the backend's stores.
    registered: Vec<(String, &'static str)>,
    /// What was restored and nobody has asked for yet.
    restored: Vec<NamedState>,
}

impl BroadcastMaps {
    pub(super) fn new() -> Self {
        Self {
            backend: KeyedStateBackend::new(0, 1, 1),
            registered: Vec::new(),
            restored: Vec::new(),
        }
    }

    pub(super) fn register<K: PlainValue, V: StateValue>(
        &mut self,
        descriptor: &MapStateDescriptor<K, V>,
    ) -> Result<BroadcastState<K, V>> {
        let name = descriptor.name();
        let asked = map_type::<K, V>();
        let named = |state: &NamedState| state.name == name;
        let found = self.restored.iter().position(named);
        let mut entries = Vec::new();
        if let Some(state) = found.map(|index| &self.restored[index]) {
            if state.type_name != asked {
                let kind = Redistribution::Broadcast;
                let (was, asked) = ((kind, state.type_name.as_str()), (kind, asked));
                return Err(super::other_state(name, was, asked, false));
            }
            for item in &state.items {
                entries.push(entry::<K, V>(item)?);
            }
        }
        let state = descriptor.register(&mut self.backend)?;
        if self.registered.iter().all(|(known, _)| known != name) {
            self.registered.push((name.to_owned(), asked));
        }
        if let Some(index) = found {
            let stores = self.backend.stores();
            let store = stores.last().map(|(id, _)| id);
            let store =
                store.ok_or_else(|| Error::operator("a store that was just made is gone"))?;
            for (key, value) in entries {
                let write_key = |out: &mut Vec<u8>| out.extend_from_slice(key);
                self.backend
                    .map_update(store, EVERYWHERE, write_key, |_, fresh| {
                        fresh.extend_from_slice(value);
                        Ok(Change::Put)
                    })?;
            }
            self.restored.remove(index);
        }
        Ok(BroadcastState(state))
    }

    pub(super) fn restore(&mut self, state: NamedState) {
        self.restored.push(state);
    }

    pub(super) fn snapshot(&self) -> Result<Vec<NamedState>> {
        let mut states = self.restored.clone();
        for ((store, _), (name, type_name)) in self.backend.stores().zip(&self.registered) {
            let mut items = Vec::new();
            self.backend.for_each_entry(store, 0, |stored| {
                let mut item = Vec::new();
                stored.map_key.to_vec().encode(&mut item);
                item.extend_from_slice(stored.value);
                items.push(item);
            })?;
            states.push(NamedState {
                name: name.clone(),
                redistribution: Redistribution::Broadcast,
                type_name: (*type_name).to_owned(),
                items,
            });
        }
        Ok(states)
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        let mut restored = self.restored.iter().map(|state| state.name.as_str());
        let mut registered = self.registered.iter().map(|(known, _)| known.as_str());
        restored.any(|known| known == name) || registered.any(|known| known == name)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.restored.is_empty() && self.registered.is_empty()
    }

    pub(super) fn access(&mut self) -> BroadcastAccess<'_> {
        let access = KeyedAccess::new(&mut self.backend, EVERYWHERE, 0);
        BroadcastAccess(BroadcastView(access))
    }

    pub(super) fn bytes(&self) -> usize {
        let restored = self.restored.iter().flat_map(|state| &state.items);
        self.backend.bytes() + restored.map(Vec::len).sum::<usize>()
    }
}

/// Key and value in an item, which are a `K` and a `V`.
fn entry<K: PlainValue, V: StateValue>(item: &[u8]) -> Result<(&[u8], &[u8])> {
    let mut rest = item;
    let count = u32::decode(&mut rest)? as usize;
    let split = rest.split_at_checked(count);
    let (key, value) = split.ok_or_else(|| {
        let missing = count - rest.len();
        crate::state::value::Corrupt::Short { missing }
    })?;
    decode_whole::<K>(key)?;
    V::view(value)?;
    Ok((key, value))
}
