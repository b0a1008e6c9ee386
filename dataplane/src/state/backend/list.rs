//! Accesses to list state.
//!
//! Owns: the `list_...` methods of [`KeyedStateBackend`].
//! Invariant: a store of another kind is refused, and not looked at.
//! Left out: where elements are, in a [`ListTable`](crate::state::list_table::ListTable) or in rows of
//! [`DiskPlace`](crate::state::disk::place::DiskPlace); and their type ([`crate::state::handles`]).

use crate::error::Result;
use crate::state::backend::heap::Tables;
use crate::state::backend::store::wrong_kind;
use crate::state::backend::{At, KeyedStateBackend, Place, StateKind, StoreId, told};
use crate::state::map_table::Visit;

impl KeyedStateBackend {
    pub(crate) fn list_add(
        &mut self,
        id: StoreId,
        at: At<'_>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<()> {
        self.fresh.clear();
        write(&mut self.fresh);
        let table = table!(self, id, at, Lists, |disk, index| disk.list_add(
            index,
            at,
            &self.fresh
        ));
        match table.append(at, &self.fresh) {
            Ok(()) => Ok(()),
            Err(problem) => Err(self.refused(id, problem)),
        }
    }

    pub(crate) fn list_for_each(
        &mut self,
        id: StoreId,
        at: At<'_>,
        visit: impl FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<()> {
        table!(self, id, at, Lists, |disk, index| disk
            .list_for_each(index, at, visit))
        .for_each(at, visit)
    }

    /// Calls `visit` with each element, in order, and takes out those for which it says so.
    pub(crate) fn list_visit(
        &mut self,
        id: StoreId,
        at: At<'_>,
        visit: impl FnMut(&mut [u8]) -> Result<Visit>,
    ) -> Result<()> {
        table!(self, id, at, Lists, |disk, index| disk
            .list_visit(index, at, visit))
        .visit(at, visit)
    }

    /// Takes elements from the front while `goes` says so.
    pub(crate) fn list_drop_while(
        &mut self,
        id: StoreId,
        at: At<'_>,
        goes: impl FnMut(&[u8]) -> bool,
    ) -> Result<()> {
        table!(self, id, at, Lists, |disk, index| disk
            .list_drop_while(index, at, goes))
        .drop_while(at, goes);
        Ok(())
    }

    pub(crate) fn list_contains(&mut self, id: StoreId, at: At<'_>) -> Result<bool> {
        Ok(table!(self, id, at, Lists, |disk, index| disk
            .list_contains(index, at))
        .contains(at))
    }

    pub(crate) fn list_clear(&mut self, id: StoreId, at: At<'_>) -> Result<()> {
        table!(self, id, at, Lists, |disk, index| disk
            .list_clear(index, at))
        .clear(at);
        Ok(())
    }
}
