//! Typed state of a keyed operator, with Flink's names.
//!
//! Owns: the descriptors (what an operator registers in `open`), the handles (what it keeps) and [`KeyedAccess`] (what it is
//! given with each record or timer: whose state it is, and what time it is).
//! Invariant: a handle reads a store that only handles of the same type write; every access is to the state of the current
//! key and namespace. Handles borrow nothing, so an operator keeps them beside its state.
//! Left out: where the bytes are ([`crate::state::backend`]).
//!
//! ```
//! use ringflow_dataplane::state::backend::{At, KeyedStateBackend};
//! use ringflow_dataplane::state::handles::{KeyedAccess, ValueStateDescriptor};
//!
//! # fn main() -> ringflow_dataplane::Result<()> {
//! let mut backend = KeyedStateBackend::new(0, 1, 128);
//! let count = ValueStateDescriptor::<u64>::new("count").register(&mut backend)?;
//!
//! let at = At { key_hash: 7, key: b"a key", namespace: &[] };
//! let mut access = KeyedAccess::new(&mut backend, at, 0);
//! count.modify(&mut access, |count| Some(count.unwrap_or(0) + 1))?;
//! assert_eq!(count.value(&mut access)?, Some(1));
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::error::Result;
use crate::record::{Record, Row};
use crate::state::backend::{At, KeyedStateBackend, StateKind, StoreDescriptor, StoreId};
use crate::state::byte_table::Change;
use crate::state::map_table::Visit;
use crate::state::ttl::{STAMP_BYTES, Ttl};
use crate::state::value::{Corrupt, PlainValue, StateValue, Stored, decode_whole};

pub use crate::state::ttl::{StateTtlConfig, StateVisibility, UpdateType};

/// Leave to use the state of one key and namespace.
#[derive(Debug)]
pub struct KeyedAccess<'a> {
    backend: &'a mut KeyedStateBackend,
    at: At<'a>,
    now_ms: i64,
}

impl<'a> KeyedAccess<'a> {
    /// Access at `at`; `now_ms` is processing time, in milliseconds since the epoch.
    #[inline]
    #[must_use]
    pub fn new(backend: &'a mut KeyedStateBackend, at: At<'a>, now_ms: i64) -> Self {
        Self {
            backend,
            at,
            now_ms,
        }
    }

    /// Access to the state of the same key in another namespace.
    #[inline]
    #[must_use]
    pub fn in_namespace<'b>(&'b mut self, namespace: &'b [u8]) -> KeyedAccess<'b> {
        let at = At {
            namespace,
            ..self.at
        };
        KeyedAccess::new(self.backend, at, self.now_ms)
    }

    /// Whose state it is.
    #[inline]
    #[must_use]
    pub fn at(&self) -> At<'a> {
        self.at
    }

    /// Processing time, in milliseconds since the epoch.
    #[inline]
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }
}

/// What all handles have in common.
#[derive(Debug, Clone, Copy)]
struct Store {
    id: StoreId,
    ttl: Option<Ttl>,
}

impl Store {
    const UNREGISTERED: Self = Self {
        id: StoreId::NONE,
        ttl: None,
    };

    fn register<T: 'static>(
        backend: &mut KeyedStateBackend,
        name: &str,
        kind: StateKind,
        ttl: Option<StateTtlConfig>,
    ) -> Result<Self> {
        let ttl = ttl.map(|ttl| ttl.checked(name)).transpose()?;
        let id = backend.register(StoreDescriptor::new::<T>(name, kind, ttl.is_some()))?;
        Ok(Self { id, ttl })
    }

    /// Removes some expired entries.
    #[inline]
    fn clean_up(&self, access: &mut KeyedAccess<'_>) -> Result<()> {
        match &self.ttl {
            None => Ok(()),
            Some(ttl) => {
                let (entries, now_ms) = (ttl.cleanup_entries, access.now_ms);
                let expired = |stored: &[u8]| ttl.has_expired(stored, now_ms);
                access.backend.sweep(self.id, entries, expired)
            }
        }
    }

    /// Appends a value as it is stored.
    #[inline]
    fn write<T: StateValue>(&self, given: &T::Given<'_>, now_ms: i64, out: &mut Vec<u8>) {
        self.stamp(now_ms, out);
        T::write(given, out);
    }

    #[inline]
    fn stamp(&self, now_ms: i64, out: &mut Vec<u8>) {
        if self.ttl.is_some() {
            now_ms.encode(out);
        }
    }

    /// The value in stored bytes.
    #[inline]
    fn strip<'v>(&self, stored: &'v [u8]) -> Result<&'v [u8], Corrupt> {
        if self.ttl.is_none() {
            return Ok(stored);
        }
        let value = stored.get(STAMP_BYTES..);
        value.ok_or_else(|| Corrupt::Short {
            missing: STAMP_BYTES - stored.len(),
        })
    }

    #[inline]
    fn hides(&self, stored: &[u8], now_ms: i64) -> bool {
        self.ttl.is_some_and(|ttl| ttl.hides(stored, now_ms))
    }

    /// The value in stored bytes, which handles of `T` wrote.
    #[inline]
    fn view<'v, T: StateValue>(&self, stored: &'v [u8]) -> Result<T::View<'v>> {
        let value = self.strip(stored)?;
        // SAFETY: `T::write` wrote it: a store takes the type it was registered with, an id opens no other backend's stores,
        // and only the handles here write.
        Ok(unsafe { T::view_trusted(value) }?)
    }

    /// The bytes of the current key's value.
    #[inline]
    fn value<'v>(&self, access: &'v mut KeyedAccess<'_>) -> Result<Option<&'v [u8]>> {
        let at = access.at;
        if let Some(ttl) = &self.ttl {
            self.clean_up(access)?;
            let Some(stored) = access.backend.value_get(self.id, at)? else {
                return Ok(None);
            };
            if ttl.hides(stored, access.now_ms) {
                access.backend.value_remove(self.id, at)?;
                return Ok(None);
            }
            // A value that is changed is written again: only where that is asked for.
            if ttl.on_read
                && let Some(stored) = access.backend.value_get_mut(self.id, at)?
            {
                ttl.on_read(stored, access.now_ms);
            }
        }
        access.backend.value_get(self.id, at)
    }

    /// Changes the current key's value: `change` sees what [`Store::strip`] gives, and appends behind the stamp.
    #[inline]
    fn change_value(
        &self,
        access: &mut KeyedAccess<'_>,
        change: impl FnOnce(Option<&[u8]>, &mut Vec<u8>) -> Result<Change>,
    ) -> Result<()> {
        self.clean_up(access)?;
        let (at, now_ms) = (access.at, access.now_ms);
        access.backend.value_update(self.id, at, |old, fresh| {
            self.stamp(now_ms, fresh);
            match old.filter(|stored| !self.hides(stored, now_ms)) {
                Some(stored) => change(Some(self.strip(stored)?), fresh),
                None => match change(None, fresh)? {
                    // Nothing is made of nothing, or of what has expired.
                    Change::Keep => Ok(Change::Remove),
                    other => Ok(other),
                },
            }
        })
    }

    fn remove_value(&self, access: &mut KeyedAccess<'_>) -> Result<()> {
        self.clean_up(access)?;
        let at = access.at;
        access.backend.value_remove(self.id, at)?;
        Ok(())
    }
}

/// Writes what a function made of a value.
#[inline]
fn put_or_remove<T: PlainValue>(made: Option<T>, out: &mut Vec<u8>) -> Change {
    match made {
        Some(value) => {
            value.encode(out);
            Change::Put
        }
        None => Change::Remove,
    }
}

macro_rules! descriptor {
    ($(#[$doc:meta])* $name:ident<$($type:ident),+>) => {
        $(#[$doc])*
        pub struct $name<$($type),+> {
            name: String,
            ttl: Option<StateTtlConfig>,
            types: PhantomData<fn() -> ($($type,)+)>,
        }

        impl<$($type),+> $name<$($type),+> {
            /// A state of this name, which no other state of the operator has. Snapshots find it by its name.
            #[must_use]
            pub fn new(name: impl Into<String>) -> Self {
                Self { name: name.into(), ttl: None, types: PhantomData }
            }

            /// Has its values expire.
            #[must_use]
            pub fn enable_time_to_live(mut self, ttl: StateTtlConfig) -> Self {
                self.ttl = Some(ttl);
                self
            }
        }
    };
}

descriptor! {
    /// Describes [`ValueState`].
    ValueStateDescriptor<T>
}
descriptor! {
    /// Describes [`ListState`].
    ListStateDescriptor<T>
}
descriptor! {
    /// Describes [`MapState`].
    MapStateDescriptor<K, V>
}

/// What operator state asks of a descriptor.
macro_rules! descriptor_tells {
    ($name:ident<$($type:ident),+>) => {
        impl<$($type),+> $name<$($type),+> {
            pub(crate) fn name(&self) -> &str {
                &self.name
            }

            pub(crate) fn expires(&self) -> bool {
                self.ttl.is_some()
            }
        }
    };
}
descriptor_tells!(ListStateDescriptor<T>);
descriptor_tells!(MapStateDescriptor<K, V>);

/// Copies a handle, whatever its types are.
macro_rules! handle_is_copy {
    ($name:ident<$($type:ident),+>) => {
        impl<$($type),+> Clone for $name<$($type),+> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<$($type),+> Copy for $name<$($type),+> {}
    };
}

/// A handle that no state has been asked for yet, so that a function can be made before it opens; using it is an error.
macro_rules! handle_has_default {
    ($name:ident<$($type:ident),+> { $types:ident }) => {
        impl<$($type),+> Default for $name<$($type),+> {
            fn default() -> Self {
                Self { store: Store::UNREGISTERED, $types: PhantomData }
            }
        }
    };
}
handle_has_default!(ValueState<T> { value });
handle_has_default!(ListState<T> { element });
handle_has_default!(MapState < K, V > { entry });
/// One value per key. A few words; kept by the operator.
pub struct ValueState<T> {
    store: Store,
    value: PhantomData<fn() -> T>,
}
handle_is_copy!(ValueState<T>);

impl<T: StateValue> ValueStateDescriptor<T> {
    /// Makes the state, or finds it.
    ///
    /// # Errors
    /// The name belongs to another kind or type of state, or the time to live is below 1 ms.
    pub fn register(&self, backend: &mut KeyedStateBackend) -> Result<ValueState<T>> {
        Ok(ValueState {
            store: Store::register::<T>(backend, &self.name, StateKind::Value, self.ttl)?,
            value: PhantomData,
        })
    }
}

/// Errors of all accesses are the same: the current key is of a key group of another subtask, the handle is of another operator,
/// or (writes) there is no room for so much.
impl<T: StateValue> ValueState<T> {
    /// The current key's value.
    ///
    /// # Errors
    /// As all accesses; or the stored bytes are damaged.
    #[inline]
    pub fn value<'v>(&self, access: &'v mut KeyedAccess<'_>) -> Result<Option<T::View<'v>>> {
        match self.store.value(access)? {
            Some(stored) => self.store.view::<T>(stored).map(Some),
            None => Ok(None),
        }
    }

    /// Sets the current key's value.
    ///
    /// # Errors
    /// As all accesses.
    #[inline]
    pub fn update(&self, access: &mut KeyedAccess<'_>, value: &T::Given<'_>) -> Result<()> {
        self.store.clean_up(access)?;
        let (at, now_ms) = (access.at, access.now_ms);
        access.backend.value_put(self.store.id, at, |out| {
            self.store.write::<T>(value, now_ms, out)
        })
    }

    /// Takes the current key's value out.
    ///
    /// # Errors
    /// As all accesses.
    pub fn clear(&self, access: &mut KeyedAccess<'_>) -> Result<()> {
        self.store.remove_value(access)
    }
}

impl<T: StateValue> ValueState<T> {
    /// Looks the current key's value up once and lets `change` say what becomes of it; what `change` appends is the new one, and
    /// must be what `T` writes.
    #[inline]
    pub(crate) fn change(
        &self,
        access: &mut KeyedAccess<'_>,
        change: impl FnOnce(Option<T::View<'_>>, &mut Vec<u8>) -> Result<Change>,
    ) -> Result<()> {
        self.store.change_value(access, |old, fresh| {
            // SAFETY: what is left of a stored value behind its stamp; `T::write` or a `change` wrote it, as in `Store::view`.
            let old = old.map(|old| unsafe { T::view_trusted(old) }).transpose()?;
            change(old, fresh)
        })
    }
}

impl<T: PlainValue> ValueState<T> {
    /// Makes a new value of the old one; `None` is none.
    ///
    /// Cost: one look-up, where `value` and `update` take two.
    ///
    /// # Errors
    /// As all accesses; or the stored bytes are damaged.
    #[inline]
    pub fn modify(
        &self,
        access: &mut KeyedAccess<'_>,
        function: impl FnOnce(Option<T>) -> Option<T>,
    ) -> Result<()> {
        self.store.change_value(access, |old, fresh| {
            let old = old.map(decode_whole).transpose()?;
            Ok(put_or_remove(function(old), fresh))
        })
    }
}

/// Elements per key, in the order they were added. A few words; kept by the operator.
pub struct ListState<T> {
    store: Store,
    element: PhantomData<fn() -> T>,
}
handle_is_copy!(ListState<T>);

impl<T: StateValue> ListStateDescriptor<T> {
    /// Makes the state, or finds it.
    ///
    /// # Errors
    /// As [`ValueStateDescriptor::register`].
    pub fn register(&self, backend: &mut KeyedStateBackend) -> Result<ListState<T>> {
        Ok(ListState {
            store: Store::register::<T>(backend, &self.name, StateKind::List, self.ttl)?,
            element: PhantomData,
        })
    }
}

/// Errors of all accesses are those of [`ValueState`].
impl<T: StateValue> ListState<T> {
    /// Puts an element behind the others.
    ///
    /// # Errors
    /// As all accesses.
    pub fn add(&self, access: &mut KeyedAccess<'_>, element: &T::Given<'_>) -> Result<()> {
        self.store.clean_up(access)?;
        let (at, now_ms) = (access.at, access.now_ms);
        access.backend.list_add(self.store.id, at, |out| {
            self.store.write::<T>(element, now_ms, out)
        })
    }

    /// Puts elements behind the others.
    ///
    /// # Errors
    /// As all accesses.
    pub fn add_all<'g>(
        &self,
        access: &mut KeyedAccess<'_>,
        elements: impl IntoIterator<Item = &'g T::Given<'g>>,
    ) -> Result<()>
    where
        T::Given<'g>: 'g,
    {
        elements
            .into_iter()
            .try_for_each(|element| self.add(access, element))
    }

    /// Has these elements instead of the old ones.
    ///
    /// # Errors
    /// As all accesses.
    pub fn update<'g>(
        &self,
        access: &mut KeyedAccess<'_>,
        elements: impl IntoIterator<Item = &'g T::Given<'g>>,
    ) -> Result<()>
    where
        T::Given<'g>: 'g,
    {
        self.clear(access)?;
        self.add_all(access, elements)
    }

    /// Calls `visit` with each element, in order.
    ///
    /// # Errors
    /// As all accesses; the stored bytes are damaged; or what `visit` returns.
    pub fn for_each(
        &self,
        access: &mut KeyedAccess<'_>,
        mut visit: impl FnMut(T::View<'_>) -> Result<()>,
    ) -> Result<()> {
        self.remove_expired(access)?;
        let (store, at, now_ms) = (self.store, access.at, access.now_ms);
        access.backend.list_for_each(store.id, at, |stored| {
            if let Some(ttl) = &store.ttl {
                if ttl.hides(stored, now_ms) {
                    return Ok(());
                }
                ttl.on_read(stored, now_ms);
            }
            visit(store.view::<T>(stored)?)
        })
    }

    /// There are no elements.
    ///
    /// # Errors
    /// As all accesses.
    pub fn is_empty(&self, access: &mut KeyedAccess<'_>) -> Result<bool> {
        self.remove_expired(access)?;
        let at = access.at;
        Ok(!access.backend.list_contains(self.store.id, at)?)
    }

    /// Takes all elements out.
    ///
    /// # Errors
    /// As all accesses.
    pub fn clear(&self, access: &mut KeyedAccess<'_>) -> Result<()> {
        self.store.clean_up(access)?;
        let at = access.at;
        access.backend.list_clear(self.store.id, at)
    }

    /// The oldest elements are in front, and expire first.
    fn remove_expired(&self, access: &mut KeyedAccess<'_>) -> Result<()> {
        let (store, at, now_ms) = (self.store, access.at, access.now_ms);
        if store.ttl.is_none() {
            return Ok(());
        }
        store.clean_up(access)?;
        let hidden = |stored: &[u8]| store.hides(stored, now_ms);
        access.backend.list_drop_while(store.id, at, hidden)
    }
}

impl<R: Record> ListState<Stored<R>> {
    /// Calls `visit` with each record, in order, and its note, which it may change; takes out those for which it says so.
    ///
    /// # Errors
    /// As [`ListState::for_each`].
    pub(crate) fn visit(
        &self,
        access: &mut KeyedAccess<'_>,
        mut visit: impl FnMut(Row<'_, R>, &mut u32) -> Result<Visit>,
    ) -> Result<()> {
        self.store.clean_up(access)?;
        let (store, at, now_ms) = (self.store, access.at, access.now_ms);
        let stamp = if store.ttl.is_some() { STAMP_BYTES } else { 0 };
        access.backend.list_visit(store.id, at, |stored| {
            if let Some(ttl) = &store.ttl {
                if ttl.hides(stored, now_ms) {
                    return Ok(Visit::Remove);
                }
                ttl.on_read(stored, now_ms);
            }
            let place = stamp + Stored::<R>::NOTE;
            let note = stored.get(place..).and_then(<[u8]>::first_chunk);
            let mut noted = note.map_or(0, |note| u32::from_le_bytes(*note));
            let verdict = visit(store.view::<Stored<R>>(stored)?, &mut noted)?;
            if let Some(note) = stored.get_mut(place..).and_then(<[u8]>::first_chunk_mut) {
                *note = noted.to_le_bytes();
            }
            Ok(verdict)
        })
    }
}

impl<T: PlainValue> ListState<T> {
    /// All elements, in order.
    ///
    /// # Errors
    /// As [`ListState::for_each`].
    pub fn get(&self, access: &mut KeyedAccess<'_>) -> Result<Vec<T>> {
        let mut elements = Vec::new();
        self.for_each(access, |element| {
            elements.push(element);
            Ok(())
        })?;
        Ok(elements)
    }
}

/// Values per key and map key. A few words; kept by the operator.
pub struct MapState<K, V> {
    store: Store,
    entry: PhantomData<fn() -> (K, V)>,
}
handle_is_copy!(MapState<K, V>);

impl<K: PlainValue, V: StateValue> MapStateDescriptor<K, V> {
    /// Makes the state, or finds it.
    ///
    /// # Errors
    /// As [`ValueStateDescriptor::register`].
    pub fn register(&self, backend: &mut KeyedStateBackend) -> Result<MapState<K, V>> {
        Ok(MapState {
            store: Store::register::<(K, PhantomData<V>)>(
                backend,
                &self.name,
                StateKind::Map,
                self.ttl,
            )?,
            entry: PhantomData,
        })
    }
}

/// Errors of all accesses are those of [`ValueState`].
impl<K: PlainValue, V: StateValue> MapState<K, V> {
    /// The value of a map key.
    ///
    /// # Errors
    /// As all accesses; or the stored bytes are damaged.
    pub fn get<'v>(&self, access: &'v mut KeyedAccess<'_>, key: &K) -> Result<Option<V::View<'v>>> {
        if !self.meet(access, key)? {
            return Ok(None);
        }
        let (id, at) = (self.store.id, access.at);
        let stored = access.backend.map_get(id, at, |out| key.encode(out))?;
        stored
            .map(|stored| self.store.view::<V>(stored))
            .transpose()
    }

    /// There is a value of this map key.
    ///
    /// # Errors
    /// As all accesses.
    pub fn contains(&self, access: &mut KeyedAccess<'_>, key: &K) -> Result<bool> {
        if !self.meet(access, key)? {
            return Ok(false);
        }
        let (id, at) = (self.store.id, access.at);
        let stored = access.backend.map_get(id, at, |out| key.encode(out))?;
        Ok(stored.is_some())
    }

    /// Sets the value of a map key.
    ///
    /// # Errors
    /// As all accesses.
    pub fn put(&self, access: &mut KeyedAccess<'_>, key: &K, value: &V::Given<'_>) -> Result<()> {
        self.store.clean_up(access)?;
        let (store, at, now_ms) = (self.store, access.at, access.now_ms);
        let write_key = |out: &mut Vec<u8>| key.encode(out);
        access
            .backend
            .map_update(store.id, at, write_key, |_, fresh| {
                store.write::<V>(value, now_ms, fresh);
                Ok(Change::Put)
            })
    }

    /// Takes the value of a map key out.
    ///
    /// # Errors
    /// As all accesses.
    pub fn remove(&self, access: &mut KeyedAccess<'_>, key: &K) -> Result<()> {
        self.store.clean_up(access)?;
        self.take_out(access, key)
    }

    /// Calls `visit` with each map key and value, in the order in which the map keys were first put.
    ///
    /// # Errors
    /// As all accesses; the stored bytes are damaged; or what `visit` returns.
    pub fn for_each(
        &self,
        access: &mut KeyedAccess<'_>,
        mut visit: impl FnMut(K, V::View<'_>) -> Result<()>,
    ) -> Result<()> {
        let store = self.store;
        self.visit(access, |key, stored| {
            visit(decode_whole(key)?, store.view::<V>(stored)?)?;
            Ok(Visit::Keep)
        })
    }

    /// All map keys, in the order in which they were first put.
    ///
    /// # Errors
    /// As [`MapState::for_each`].
    pub fn keys(&self, access: &mut KeyedAccess<'_>) -> Result<Vec<K>> {
        let mut keys = Vec::new();
        self.visit(access, |key, _| {
            keys.push(decode_whole(key)?);
            Ok(Visit::Keep)
        })?;
        Ok(keys)
    }

    /// There are no values.
    ///
    /// # Errors
    /// As all accesses.
    pub fn is_empty(&self, access: &mut KeyedAccess<'_>) -> Result<bool> {
        if self.store.ttl.is_none() {
            let at = access.at;
            return Ok(!access.backend.map_contains_any(self.store.id, at)?);
        }
        let mut is_empty = true;
        self.visit(access, |_, _| {
            is_empty = false;
            Ok(Visit::Stop)
        })?;
        Ok(is_empty)
    }

    /// Takes all values out.
    ///
    /// # Errors
    /// As all accesses.
    pub fn clear(&self, access: &mut KeyedAccess<'_>) -> Result<()> {
        let at = access.at;
        access
            .backend
            .map_visit(self.store.id, at, |_, _| Ok(Visit::Remove))
    }

    /// Goes through what has not expired, and removes what has.
    fn visit(
        &self,
        access: &mut KeyedAccess<'_>,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<Visit>,
    ) -> Result<()> {
        self.store.clean_up(access)?;
        let (store, at, now_ms) = (self.store, access.at, access.now_ms);
        access.backend.map_visit(store.id, at, |key, stored| {
            if let Some(ttl) = &store.ttl {
                if ttl.hides(stored, now_ms) {
                    return Ok(Visit::Remove);
                }
                ttl.on_read(stored, now_ms);
            }
            visit(key, stored)
        })
    }

    /// Before a map key is read: says whether there may be something to read.
    fn meet(&self, access: &mut KeyedAccess<'_>, key: &K) -> Result<bool> {
        let Some(ttl) = &self.store.ttl else {
            return Ok(true);
        };
        self.store.clean_up(access)?;
        let (id, at, now_ms) = (self.store.id, access.at, access.now_ms);
        match access.backend.map_get(id, at, |out| key.encode(out))? {
            None => Ok(false),
            Some(stored) if ttl.hides(stored, now_ms) => {
                self.take_out(access, key)?;
                Ok(false)
            }
            Some(_) => {
                if ttl.on_read
                    && let Some(stored) =
                        access.backend.map_get_mut(id, at, |out| key.encode(out))?
                {
                    ttl.on_read(stored, now_ms);
                }
                Ok(true)
            }
        }
    }

    fn take_out(&self, access: &mut KeyedAccess<'_>, key: &K) -> Result<()> {
        let (id, at) = (self.store.id, access.at);
        let write_key = |out: &mut Vec<u8>| key.encode(out);
        access
            .backend
            .map_update(id, at, write_key, |_, _| Ok(Change::Remove))
    }
}

impl<K: PlainValue, V: PlainValue> MapState<K, V> {
    /// Makes a new value of a map key's old one; `None` is none.
    ///
    /// # Errors
    /// As all accesses; or the stored bytes are damaged.
    pub fn modify(
        &self,
        access: &mut KeyedAccess<'_>,
        key: &K,
        function: impl FnOnce(Option<V>) -> Option<V>,
    ) -> Result<()> {
        self.store.clean_up(access)?;
        let (store, at, now_ms) = (self.store, access.at, access.now_ms);
        let write_key = |out: &mut Vec<u8>| key.encode(out);
        access
            .backend
            .map_update(store.id, at, write_key, |old, fresh| {
                store.stamp(now_ms, fresh);
                let old = old.filter(|stored| !store.hides(stored, now_ms));
                let old = old.map(|stored| decode_whole(store.strip(stored)?));
                Ok(put_or_remove(function(old.transpose()?), fresh))
            })
    }

    /// All values, in the order in which their map keys were first put.
    ///
    /// # Errors
    /// As [`MapState::for_each`].
    pub fn values(&self, access: &mut KeyedAccess<'_>) -> Result<Vec<V>> {
        let mut values = Vec::new();
        self.for_each(access, |_, value| {
            values.push(value);
            Ok(())
        })?;
        Ok(values)
    }
}

/// How two values become one.
type ReduceFunction<T> = Arc<dyn Fn(T, T) -> T + Send + Sync>;

/// Describes [`ReducingState`].
pub struct ReducingStateDescriptor<T> {
    name: String,
    function: ReduceFunction<T>,
    ttl: Option<StateTtlConfig>,
}

/// One value per key, which each new one is reduced into.
pub struct ReducingState<T> {
    store: Store,
    function: ReduceFunction<T>,
}

impl<T: PlainValue> ReducingStateDescriptor<T> {
    /// A state of this name ([`ValueStateDescriptor::new`]); `function` takes the old value and the new one.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        function: impl Fn(T, T) -> T + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            function: Arc::new(function),
            ttl: None,
        }
    }

    /// Has its values expire.
    #[must_use]
    pub fn enable_time_to_live(mut self, ttl: StateTtlConfig) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Makes the state, or finds it.
    ///
    /// # Errors
    /// As [`ValueStateDescriptor::register`].
    pub fn register(&self, backend: &mut KeyedStateBackend) -> Result<ReducingState<T>> {
        Ok(ReducingState {
            store: Store::register::<T>(backend, &self.name, StateKind::Reducing, self.ttl)?,
            function: Arc::clone(&self.function),
        })
    }
}

/// Errors of all accesses are those of [`ValueState`].
impl<T: PlainValue> ReducingState<T> {
    /// What the current key's values have been reduced to.
    ///
    /// # Errors
    /// As [`ValueState::value`].
    pub fn get(&self, access: &mut KeyedAccess<'_>) -> Result<Option<T>> {
        self.as_value().value(access)
    }

    /// Reduces a value into the current key's.
    ///
    /// # Errors
    /// As [`ValueState::modify`].
    pub fn add(&self, access: &mut KeyedAccess<'_>, value: T) -> Result<()> {
        self.as_value().modify(access, |old| match old {
            Some(old) => Some((self.function)(old, value)),
            None => Some(value),
        })
    }

    /// Takes the current key's value out.
    ///
    /// # Errors
    /// As all accesses.
    pub fn clear(&self, access: &mut KeyedAccess<'_>) -> Result<()> {
        self.store.remove_value(access)
    }

    fn as_value(&self) -> ValueState<T> {
        ValueState {
            store: self.store,
            value: PhantomData,
        }
    }
}

/// What [`AggregatingState`] does with values.
pub trait StateAggregate: Send + Sync + 'static {
    /// What comes in.
    type In;
    /// What is kept.
    type Accumulator: PlainValue;
    /// What comes out.
    type Out;

    /// An empty accumulator.
    fn create_accumulator(&self) -> Self::Accumulator;
    /// Takes one value in.
    fn add(&self, value: Self::In, accumulator: &mut Self::Accumulator);
    /// The result.
    fn result(&self, accumulator: Self::Accumulator) -> Self::Out;
}

/// [`StateAggregate`] without its accumulator's type.
trait Aggregation<In, Out>: Send + Sync {
    /// Appends the accumulator that comes of `old` and `value`.
    fn add(&self, old: Option<&[u8]>, value: In, fresh: &mut Vec<u8>) -> Result<(), Corrupt>;
    fn result(&self, accumulator: &[u8]) -> Result<Out, Corrupt>;
}

impl<A: StateAggregate> Aggregation<A::In, A::Out> for A {
    fn add(&self, old: Option<&[u8]>, value: A::In, fresh: &mut Vec<u8>) -> Result<(), Corrupt> {
        let mut accumulator = match old {
            Some(old) => decode_whole(old)?,
            None => self.create_accumulator(),
        };
        StateAggregate::add(self, value, &mut accumulator);
        accumulator.encode(fresh);
        Ok(())
    }

    fn result(&self, accumulator: &[u8]) -> Result<A::Out, Corrupt> {
        decode_whole(accumulator).map(|accumulator| StateAggregate::result(self, accumulator))
    }
}

/// Describes [`AggregatingState`].
#[derive(Debug)]
pub struct AggregatingStateDescriptor<A> {
    name: String,
    aggregate: Arc<A>,
    ttl: Option<StateTtlConfig>,
}

/// One accumulator per key, which values are added to and results are read from.
pub struct AggregatingState<In, Out> {
    store: Store,
    aggregation: Arc<dyn Aggregation<In, Out>>,
}

impl<A: StateAggregate> AggregatingStateDescriptor<A> {
    /// A state of this name ([`ValueStateDescriptor::new`]).
    #[must_use]
    pub fn new(name: impl Into<String>, aggregate: A) -> Self {
        Self {
            name: name.into(),
            aggregate: Arc::new(aggregate),
            ttl: None,
        }
    }

    /// Has its accumulators expire.
    #[must_use]
    pub fn enable_time_to_live(mut self, ttl: StateTtlConfig) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Makes the state, or finds it.
    ///
    /// # Errors
    /// As [`ValueStateDescriptor::register`].
    pub fn register(
        &self,
        backend: &mut KeyedStateBackend,
    ) -> Result<AggregatingState<A::In, A::Out>> {
        let kind = StateKind::Aggregating;
        let store = Store::register::<A::Accumulator>(backend, &self.name, kind, self.ttl)?;
        let aggregation: Arc<A> = Arc::clone(&self.aggregate);
        Ok(AggregatingState { store, aggregation })
    }
}

/// Errors of all accesses are those of [`ValueState`].
impl<In, Out> AggregatingState<In, Out> {
    /// The result for the current key, if a value was added.
    ///
    /// # Errors
    /// As [`ValueState::value`].
    pub fn get(&self, access: &mut KeyedAccess<'_>) -> Result<Option<Out>> {
        match self.store.value(access)? {
            Some(stored) => {
                let accumulator = self.store.strip(stored)?;
                Ok(Some(self.aggregation.result(accumulator)?))
            }
            None => Ok(None),
        }
    }

    /// Adds a value to the current key's accumulator.
    ///
    /// # Errors
    /// As [`ValueState::modify`].
    pub fn add(&self, access: &mut KeyedAccess<'_>, value: In) -> Result<()> {
        self.store.change_value(access, |old, fresh| {
            self.aggregation.add(old, value, fresh)?;
            Ok(Change::Put)
        })
    }

    /// Takes the current key's accumulator out.
    ///
    /// # Errors
    /// As all accesses.
    pub fn clear(&self, access: &mut KeyedAccess<'_>) -> Result<()> {
        self.store.remove_value(access)
    }
}

/// Shows a handle or descriptor whatever its types are.
macro_rules! show {
    ($($name:ident<$($type:ident),+> { $($field:ident),+ })*) => {$(
        impl<$($type),+> fmt::Debug for $name<$($type),+> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    $(.field(stringify!($field), &self.$field))+
                    .finish_non_exhaustive()
            }
        }
    )*};
}

show! {
    ValueStateDescriptor<T> { name, ttl }
    ListStateDescriptor<T> { name, ttl }
    MapStateDescriptor<K, V> { name, ttl }
    ValueState<T> { store }
    ListState<T> { store }
    MapState<K, V> { store }
    ReducingStateDescriptor<T> { name, ttl }
    ReducingState<T> { store }
    AggregatingState<In, Out> { store }
}

#[cfg(test)]
mod tests;
