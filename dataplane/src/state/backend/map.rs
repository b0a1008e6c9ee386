//! Accesses to map state.
//!
//! Owns: the `map_...` methods of [`KeyedStateBackend`].
//! Invariant: a store of another kind is refused, and not looked at.
//! Left out: where entries are, in a [`MapTable`](crate::state::map_table::MapTable) or in rows of
//! [`DiskPlace`](crate::state::disk::place::DiskPlace); and their types ([`crate::state::handles`]).

use crate::error::Result;
use crate::state::backend::heap::Tables;
use crate::state::backend::store::wrong_kind;
use crate::state::backend::{At, KeyedStateBackend, Place, StateKind, StoreId, told};
use crate::state::byte_table::Change;
use crate::state::map_table::{OWNER_BYTES, Visit};

impl KeyedStateBackend {
    /// The value of a map key.
    pub(crate) fn map_get(
        &mut self,
        id: StoreId,
        at: At<'_>,
        write_key: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Option<&[u8]>> {
        let table = table!(self, id, at, Maps, |disk, index| disk
            .map_get(index, at, write_key));
        encode_map_key(&mut self.map_key, write_key);
        Ok(table.get_mut(at, &mut self.map_key).map(|value| &*value))
    }

    /// The value of a map key, to be changed in place.
    pub(crate) fn map_get_mut(
        &mut self,
        id: StoreId,
        at: At<'_>,
        write_key: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Option<&mut [u8]>> {
        let table = table!(self, id, at, Maps, |disk, index| disk
            .map_get_mut(index, at, write_key));
        encode_map_key(&mut self.map_key, write_key);
        Ok(table.get_mut(at, &mut self.map_key))
    }

    /// Looks a map key up once and lets `change` say what becomes of its value. `change` appends to what is in its second
    /// argument.
    pub(crate) fn map_update(
        &mut self,
        id: StoreId,
        at: At<'_>,
        write_key: impl FnOnce(&mut Vec<u8>),
        change: impl FnOnce(Option<&[u8]>, &mut Vec<u8>) -> Result<Change>,
    ) -> Result<()> {
        let table = table!(self, id, at, Maps, |disk, index| disk.map_update(
            index,
            at,
            write_key,
            &mut self.fresh,
            change
        ));
        encode_map_key(&mut self.map_key, write_key);
        let mut failure = Ok(());
        let changed = table.update(at, &mut self.map_key, &mut self.fresh, |old, fresh| {
            change(old, fresh).unwrap_or_else(|error| {
                failure = Err(error);
                Change::Keep
            })
        });
        match changed {
            Ok(()) => failure,
            Err(problem) => Err(self.refused(id, problem)),
        }
    }

    /// Calls `visit` with each map key and value, in the order in which the keys were first put, and takes out those for which
    /// it says so.
    pub(crate) fn map_visit(
        &mut self,
        id: StoreId,
        at: At<'_>,
        visit: impl FnMut(&[u8], &mut [u8]) -> Result<Visit>,
    ) -> Result<()> {
        table!(self, id, at, Maps, |disk, index| disk
            .map_visit(index, at, visit))
        .visit(at, visit)
    }

    pub(crate) fn map_contains_any(&mut self, id: StoreId, at: At<'_>) -> Result<bool> {
        Ok(table!(self, id, at, Maps, |disk, index| disk
            .map_contains_any(index, at))
        .contains(at))
    }
}

#[inline]
fn encode_map_key(map_key: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    map_key.clear();
    map_key.extend_from_slice(&[0; OWNER_BYTES]);
    write(map_key);
}
