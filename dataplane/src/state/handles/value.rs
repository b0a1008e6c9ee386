//! One value per key.
//!
//! Owns: [`ValueState`] and its descriptor.
//! Invariant: a value is what `T` wrote, behind its stamp.
//! Left out: reducing and aggregating state, which keep their one value in the same way.

use std::marker::PhantomData;

use super::KeyedAccess;
use super::macros::{descriptor, handle_has_default, handle_is_copy, show};
use super::store::{Store, put_or_remove};
use crate::error::Result;
use crate::state::backend::{KeyedStateBackend, StateKind};
use crate::state::byte_table::Change;
use crate::state::value::{PlainValue, StateValue, decode_whole};

descriptor! {
    /// Describes [`ValueState`].
    ValueStateDescriptor<T>
}

/// One value per key. A few words; kept by the operator.
pub struct ValueState<T> {
    pub(super) store: Store,
    pub(super) value: PhantomData<fn() -> T>,
}
handle_is_copy!(ValueState<T>);
handle_has_default!(ValueState<T> { value });

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

show! {
    ValueStateDescriptor<T> { name, ttl }
    ValueState<T> { store }
}
