//! The keyed state of one operator in one subtask: named stores of bytes, by key group.
//!
//! ```text
//!  store               names, kinds and ids of stores; where an access goes
//!  value, list, map    accesses, by kind
//!  heap                tables in memory, and the search for expired entries in them
//! ```
//! Owns: [`KeyedStateBackend`]. The typed face is [`crate::state::handles`]; a process function reaches it through
//! [`crate::state::handles::KeyedAccess`].
//! Invariant: an entry is in its key's key group; a store holds only what its type wrote (a name belongs to one kind and
//! type, an id to one backend), so its values may be read without checks.
//! Left out: types, time to live, and snapshots, which will go through [`KeyedStateBackend::for_each_entry`]. The bytes are
//! in tables in memory (`heap`) or in rows on disk ([`crate::state::disk`]).

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::state::backend::heap::{Heap, HeapStore};
use crate::state::backend::store::{foreign_handle, taken_name};
use crate::state::byte_table::{ByteTable, EntryError};
use crate::state::disk::StateStorage;
use crate::state::disk::place::DiskPlace;
use crate::state::disk::rows::Failure;
use crate::state::key_groups::OwnedKeyGroups;

mod heap;
mod store;

pub use store::{At, StateKind, StoreDescriptor, StoreId, StoredEntry};

/// Keyed state of one operator in one subtask.
///
/// Lives: on the subtask's core. Shape: in memory of each store a table per owned key group, which allocates with its first entry;
/// on disk rows of an LSM tree of its own. Accesses may fail with the disk.
#[derive(Debug)]
pub struct KeyedStateBackend {
    id: u64,
    stores: Vec<StoreDescriptor>,
    /// A value on its way in.
    fresh: Vec<u8>,
    /// A map key on its way in, behind room for its map's reference.
    map_key: Vec<u8>,
    place: Place,
}

/// Where the bytes are.
#[derive(Debug)]
enum Place {
    Heap(Heap),
    Disk(Box<DiskPlace>),
}

/// Stores of this kind are in these tables.
macro_rules! holds {
    (Values, $kind:expr) => {
        !matches!($kind, StateKind::List | StateKind::Map)
    };
    (Lists, $kind:expr) => {
        $kind == StateKind::List
    };
    (Maps, $kind:expr) => {
        $kind == StateKind::Map
    };
}

/// The table of an access, by what the store holds. On disk, returns what `$on_disk` is with `$disk` and the store's index `$index`.
macro_rules! table {
    ($self:ident, $id:expr, $at:expr, $tables:ident, |$disk:ident, $index:ident| $on_disk:expr) => {{
        let $index = $self.checked($id)?;
        match &mut $self.place {
            Place::Heap(heap) => {
                let group = heap.key_groups.index($at.key_hash)?;
                match &mut heap.stores[$index].tables {
                    Tables::$tables(tables) => &mut tables[group],
                    _ => return Err(wrong_kind(&$self.stores[$index])),
                }
            }
            Place::Disk($disk) => {
                if !holds!($tables, $self.stores[$index].kind) {
                    return Err(wrong_kind(&$self.stores[$index]));
                }
                let stores = &$self.stores;
                return $on_disk.map_err(|failure| told(&stores[$index], failure));
            }
        }
    }};
}

// Behind the macros, which they use.
mod list;
mod map;
mod value;

impl KeyedStateBackend {
    /// Empty state in memory of subtask `subtask_index` of `parallelism`, with `max_parallelism` key groups in all.
    #[must_use]
    pub fn new(subtask_index: u32, parallelism: u32, max_parallelism: u32) -> Self {
        Self::at(Place::Heap(Heap {
            key_groups: OwnedKeyGroups::new(subtask_index, parallelism, max_parallelism),
            stores: Vec::new(),
        }))
    }

    /// Empty state where `storage` says, of subtask `subtask_index` of `parallelism`, with `max_parallelism` key groups in all.
    ///
    /// # Errors
    /// There is too little memory for one more operator with state on disk.
    pub fn open(
        storage: &StateStorage,
        subtask_index: u32,
        parallelism: u32,
        max_parallelism: u32,
    ) -> Result<Self> {
        match storage {
            StateStorage::HashMap => Ok(Self::new(subtask_index, parallelism, max_parallelism)),
            StateStorage::Disk(disk) => {
                let place = DiskPlace::open(disk, subtask_index, parallelism, max_parallelism)?;
                Ok(Self::at(Place::Disk(Box::new(place))))
            }
        }
    }

    fn at(place: Place) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            stores: Vec::new(),
            fresh: Vec::new(),
            map_key: Vec::new(),
            place,
        }
    }

    /// Makes a store, or finds the one that was registered by the same descriptor.
    ///
    /// # Errors
    /// The name belongs to a store of another kind or type.
    pub fn register(&mut self, descriptor: StoreDescriptor) -> Result<StoreId> {
        let backend = self.id;
        let named = |store: &StoreDescriptor| store.name == descriptor.name;
        if let Some(index) = self.stores.iter().position(named) {
            return if self.stores[index] == descriptor {
                Ok(StoreId { backend, index })
            } else {
                Err(taken_name(&self.stores[index], &descriptor))
            };
        }
        match &mut self.place {
            Place::Heap(heap) => heap.add(descriptor.kind),
            Place::Disk(disk) => disk.add(descriptor.kind)?,
        }
        self.stores.push(descriptor);
        let index = self.stores.len() - 1;
        Ok(StoreId { backend, index })
    }

    /// The stores, in the order they were registered.
    pub fn stores(&self) -> impl Iterator<Item = (StoreId, &StoreDescriptor)> {
        let backend = self.id;
        let stores = self.stores.iter().enumerate();
        stores.map(move |(index, store)| (StoreId { backend, index }, store))
    }

    /// The key groups that this subtask owns.
    #[must_use]
    pub fn key_groups(&self) -> Range<u32> {
        match &self.place {
            Place::Heap(heap) => heap.key_groups.range(),
            Place::Disk(disk) => disk.key_groups(),
        }
    }

    /// Bytes of memory of all stores; on disk without the block cache, which operators share. Cost: a look at every table.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let scratch = self.fresh.capacity() + self.map_key.capacity();
        let place = match &self.place {
            Place::Heap(heap) => heap.stores.iter().map(HeapStore::bytes).sum(),
            Place::Disk(disk) => disk.memory_bytes(),
        };
        scratch + place
    }

    /// Number of values, list elements and map entries of all stores. Cost: a look at every table; on disk all rows are read.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn entries(&self) -> Result<usize> {
        match &self.place {
            Place::Heap(heap) => Ok(heap.stores.iter().map(HeapStore::len).sum()),
            Place::Disk(disk) => disk.len(),
        }
    }

    /// Calls `visit` with each entry of one store and key group.
    ///
    /// # Errors
    /// The store or the key group is not here; or the disk cannot be read.
    pub fn for_each_entry(
        &self,
        store: StoreId,
        key_group: u32,
        visit: impl FnMut(StoredEntry<'_>),
    ) -> Result<()> {
        let index = self.checked(store)?;
        match &self.place {
            Place::Heap(heap) => heap.for_each_entry(index, key_group, visit),
            Place::Disk(disk) => disk.for_each_entry(index, key_group, visit),
        }
    }

    /// Has the slots of keys with these hashes, without a namespace, fetched into the cache. Announce keys to
    /// [`KeyedStateBackend::prefetch_entries`] some records later.
    ///
    /// Cost: about 1 ns for each key and store.
    pub fn prefetch_slots(&self, key_hashes: &[u32]) {
        match &self.place {
            Place::Heap(heap) => heap.prefetch(key_hashes, ByteTable::prefetch_slot),
            Place::Disk(disk) => disk.prefetch(key_hashes),
        }
    }

    /// Has the entries of keys with these hashes fetched into the cache, of which the slots are there.
    pub fn prefetch_entries(&self, key_hashes: &[u32]) {
        if let Place::Heap(heap) = &self.place {
            heap.prefetch(key_hashes, ByteTable::prefetch_entry);
        }
    }

    /// Goes on through a store where the last call stopped, and takes out what `expired` says of: `entries` of them are looked at,
    /// and 16 slots, so that an access that does this costs little, and a store that is accessed is gone through again and again.
    pub(crate) fn sweep(
        &mut self,
        id: StoreId,
        entries: usize,
        expired: impl FnMut(&[u8]) -> bool,
    ) -> Result<()> {
        let index = self.checked(id)?;
        match &mut self.place {
            Place::Heap(heap) => heap.stores[index].sweep(entries, expired),
            Place::Disk(disk) => {
                let swept = disk.sweep(index, entries, expired);
                swept.map_err(|failure| told(&self.stores[index], failure))?;
            }
        }
        Ok(())
    }

    /// The place of a store that is this backend's.
    #[inline]
    fn checked(&self, id: StoreId) -> Result<usize> {
        if id.backend == self.id {
            Ok(id.index)
        } else {
            Err(foreign_handle())
        }
    }

    #[cold]
    fn refused(&self, id: StoreId, problem: EntryError) -> Error {
        told(&self.stores[id.index], Failure::Entry(problem))
    }
}

#[cold]
fn told(store: &StoreDescriptor, failure: Failure) -> Error {
    match failure {
        Failure::Entry(problem) => Error::operator(format!("state `{}`: {problem}", store.name)),
        Failure::Disk(error) => error,
    }
}

#[cfg(test)]
mod tests;
