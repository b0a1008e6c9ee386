//! Values per key and map key.
//!
//! Owns: [`MapState`] and its descriptor.
//! Invariant: map keys are visited in the order in which they were first put; each value has its own stamp.
//! Left out: a time to live for the map as a whole.

use std::marker::PhantomData;

use super::KeyedAccess;
use super::macros::{descriptor, descriptor_tells, handle_has_default, handle_is_copy, show};
use super::store::{Store, put_or_remove};
use crate::error::Result;
use crate::state::backend::{KeyedStateBackend, StateKind};
use crate::state::byte_table::Change;
use crate::state::map_table::Visit;
use crate::state::value::{PlainValue, StateValue, decode_whole};

descriptor! {
    /// Describes [`MapState`].
    MapStateDescriptor<K, V>
}
descriptor_tells!(MapStateDescriptor<K, V>);

/// Values per key and map key. A few words; kept by the operator.
pub struct MapState<K, V> {
    store: Store,
    entry: PhantomData<fn() -> (K, V)>,
}
handle_is_copy!(MapState<K, V>);
handle_has_default!(MapState < K, V > { entry });

impl<K: PlainValue, V: StateValue> MapStateDescriptor<K, V> {
    /// Makes the state, or finds it.
    ///
    /// # Errors
    /// As [`ValueStateDescriptor::register`](super::ValueStateDescriptor::register).
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

/// Errors of all accesses are those of [`ValueState`](super::ValueState).
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

show! {
    MapStateDescriptor<K, V> { name, ttl }
    MapState<K, V> { store }
}
