//! Accesses to stores of one value per key: value, reducing and aggregating state.
//!
//! Owns: the `value_...` methods of [`KeyedStateBackend`].
//! Invariant: a store of another kind is refused, and not looked at.
//! Left out: where the value is, in a [`ByteTable`](crate::state::byte_table::ByteTable) or in a row of
//! [`DiskPlace`](crate::state::disk::place::DiskPlace); and its type ([`crate::state::handles`]).

use crate::error::Result;
use crate::state::backend::heap::Tables;
use crate::state::backend::store::wrong_kind;
use crate::state::backend::{At, KeyedStateBackend, Place, StateKind, StoreId, told};
use crate::state::byte_table::{Change, hash_in_namespace};

impl KeyedStateBackend {
    #[inline]
    pub(crate) fn value_get(&mut self, id: StoreId, at: At<'_>) -> Result<Option<&[u8]>> {
        let table = table!(self, id, at, Values, |disk, index| disk
            .value_get(index, at));
        Ok(table.get(
            hash_in_namespace(at.key_hash, at.namespace),
            at.key,
            at.namespace,
        ))
    }

    /// The value, to be changed in place.
    #[inline]
    pub(crate) fn value_get_mut(&mut self, id: StoreId, at: At<'_>) -> Result<Option<&mut [u8]>> {
        let table = table!(self, id, at, Values, |disk, index| disk
            .value_get_mut(index, at));
        Ok(table.get_mut(
            hash_in_namespace(at.key_hash, at.namespace),
            at.key,
            at.namespace,
        ))
    }

    /// Looks the value up once and lets `change` say what becomes of it
    /// ([`ByteTable::update`](crate::state::byte_table::ByteTable::update)).
    #[inline]
    pub(crate) fn value_update(
        &mut self,
        id: StoreId,
        at: At<'_>,
        change: impl FnOnce(Option<&[u8]>, &mut Vec<u8>) -> Result<Change>,
    ) -> Result<()> {
        let table = table!(self, id, at, Values, |disk, index| disk.value_update(
            index,
            at,
            &mut self.fresh,
            change
        ));
        let hash = hash_in_namespace(at.key_hash, at.namespace);
        let mut failure = Ok(());
        let changed = table.update(hash, at.key, at.namespace, &mut self.fresh, |old, fresh| {
            change(old, fresh).unwrap_or_else(|error| {
                failure = Err(error);
                Change::Keep
            })
        });
        match changed {
            Ok(_) => failure,
            Err(problem) => Err(self.refused(id, problem)),
        }
    }

    #[inline]
    pub(crate) fn value_put(
        &mut self,
        id: StoreId,
        at: At<'_>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<()> {
        self.fresh.clear();
        write(&mut self.fresh);
        let table = table!(self, id, at, Values, |disk, index| disk.value_put(
            index,
            at,
            &self.fresh
        ));
        let hash = hash_in_namespace(at.key_hash, at.namespace);
        match table.put(hash, at.key, at.namespace, &self.fresh) {
            Ok(_) => Ok(()),
            Err(problem) => Err(self.refused(id, problem)),
        }
    }

    pub(crate) fn value_remove(&mut self, id: StoreId, at: At<'_>) -> Result<bool> {
        let table = table!(self, id, at, Values, |disk, index| disk
            .value_remove(index, at));
        Ok(table.remove(
            hash_in_namespace(at.key_hash, at.namespace),
            at.key,
            at.namespace,
        ))
    }
}
