//! A store as the handles see it.
//!
//! Owns: [`Store`], what all handles have in common: the store's id in the backend and its time to live, if it has one.
//! Invariant: with a time to live each stored value begins with its stamp, and without one there is the value alone;
//! what the time to live hides is not given out.
//! Left out: lists and maps, whose elements expire one by one: their handles do that.

use super::{KeyedAccess, StateTtlConfig};
use crate::error::Result;
use crate::state::backend::{KeyedStateBackend, StateKind, StoreDescriptor, StoreId};
use crate::state::byte_table::Change;
use crate::state::ttl::{STAMP_BYTES, Ttl};
use crate::state::value::{Corrupt, PlainValue, StateValue};

/// What all handles have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Store {
    pub(super) id: StoreId,
    pub(super) ttl: Option<Ttl>,
}

impl Store {
    pub(super) const UNREGISTERED: Self = Self {
        id: StoreId::NONE,
        ttl: None,
    };

    pub(super) fn register<T: 'static>(
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
    pub(super) fn clean_up(&self, access: &mut KeyedAccess<'_>) -> Result<()> {
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
    pub(super) fn write<T: StateValue>(
        &self,
        given: &T::Given<'_>,
        now_ms: i64,
        out: &mut Vec<u8>,
    ) {
        self.stamp(now_ms, out);
        T::write(given, out);
    }

    #[inline]
    pub(super) fn stamp(&self, now_ms: i64, out: &mut Vec<u8>) {
        if self.ttl.is_some() {
            now_ms.encode(out);
        }
    }

    /// The value in stored bytes.
    #[inline]
    pub(super) fn strip<'v>(&self, stored: &'v [u8]) -> Result<&'v [u8], Corrupt> {
        if self.ttl.is_none() {
            return Ok(stored);
        }
        let value = stored.get(STAMP_BYTES..);
        value.ok_or_else(|| Corrupt::Short {
            missing: STAMP_BYTES - stored.len(),
        })
    }

    #[inline]
    pub(super) fn hides(&self, stored: &[u8], now_ms: i64) -> bool {
        self.ttl.is_some_and(|ttl| ttl.hides(stored, now_ms))
    }

    /// The value in stored bytes, which handles of `T` wrote.
    #[inline]
    pub(super) fn view<'v, T: StateValue>(&self, stored: &'v [u8]) -> Result<T::View<'v>> {
        let value = self.strip(stored)?;
        // SAFETY: `T::write` wrote it: a store takes the type it was registered with, an id opens no other backend's stores,
        // and only the handles of this folder write.
        Ok(unsafe { T::view_trusted(value) }?)
    }

    /// The bytes of the current key's value.
    #[inline]
    pub(super) fn value<'v>(&self, access: &'v mut KeyedAccess<'_>) -> Result<Option<&'v [u8]>> {
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
    pub(super) fn change_value(
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

    pub(super) fn remove_value(&self, access: &mut KeyedAccess<'_>) -> Result<()> {
        self.clean_up(access)?;
        let at = access.at;
        access.backend.value_remove(self.id, at)?;
        Ok(())
    }
}

/// Writes what a function made of a value.
#[inline]
pub(super) fn put_or_remove<T: PlainValue>(made: Option<T>, out: &mut Vec<u8>) -> Change {
    match made {
        Some(value) => {
            value.encode(out);
            Change::Put
        }
        None => Change::Remove,
    }
}
