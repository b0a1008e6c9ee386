//! Elements per key, in the order they were added.
//!
//! Owns: [`ListState`] and its descriptor.
//! Invariant: elements expire one by one, the oldest in front; each has its own stamp.
//! Left out: a time to live for the list as a whole.

use std::marker::PhantomData;

use super::KeyedAccess;
use super::macros::{descriptor, descriptor_tells, handle_has_default, handle_is_copy, show};
use super::store::Store;
use crate::error::Result;
use crate::record::{Record, Row};
use crate::state::backend::{KeyedStateBackend, StateKind};
use crate::state::map_table::Visit;
use crate::state::ttl::STAMP_BYTES;
use crate::state::value::{PlainValue, StateValue, Stored};

descriptor! {
    /// Describes [`ListState`].
    ListStateDescriptor<T>
}
descriptor_tells!(ListStateDescriptor<T>);

/// Elements per key, in the order they were added. A few words; kept by the operator.
pub struct ListState<T> {
    store: Store,
    element: PhantomData<fn() -> T>,
}
handle_is_copy!(ListState<T>);
handle_has_default!(ListState<T> { element });

impl<T: StateValue> ListStateDescriptor<T> {
    /// Makes the state, or finds it.
    ///
    /// # Errors
    /// As [`ValueStateDescriptor::register`](super::ValueStateDescriptor::register).
    pub fn register(&self, backend: &mut KeyedStateBackend) -> Result<ListState<T>> {
        Ok(ListState {
            store: Store::register::<T>(backend, &self.name, StateKind::List, self.ttl)?,
            element: PhantomData,
        })
    }
}

/// Errors of all accesses are those of [`ValueState`](super::ValueState).
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

show! {
    ListStateDescriptor<T> { name, ttl }
    ListState<T> { store }
}
