//! The keyed state of one operator in one subtask: named stores of bytes, by key group.
//!
//! Owns: [`KeyedStateBackend`], [`At`] (where an access goes), [`StoreDescriptor`], [`StoreId`], [`StoredEntry`]. The typed face
//! is [`crate::state::handles`]; a process function reaches it through [`crate::state::handles::KeyedAccess`].
//! Invariant: an entry is in its key's key group; a store holds only what its type wrote (a name belongs to one kind and type,
//! an id to one backend), so its values may be read without checks.
//! Left out: types, time to live, and snapshots, which will go through [`KeyedStateBackend::for_each_entry`]. The bytes are in tables
//! in memory (here) or in rows on disk ([`crate::state::disk`]).

use std::any::TypeId;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::state::byte_table::{ByteTable, Change, EntryError, hash_in_namespace};
use crate::state::disk::StateStorage;
use crate::state::disk::place::DiskPlace;
use crate::state::disk::rows::Failure;
use crate::state::key_groups::OwnedKeyGroups;
use crate::state::list_table::ListTable;
use crate::state::map_table::{MapTable, OWNER_BYTES, Visit};

/// Slots that one step of [`KeyedStateBackend::sweep`] looks at, taken or not.
const SWEEP_SLOTS: usize = 16;

/// Where an access goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At<'a> {
    /// The record's key hash ([`crate::record::RecordRef::key_hash`]).
    pub key_hash: u32,
    /// The key's bytes.
    pub key: &'a [u8],
    /// What divides the key's state further: a window's bytes; empty for none.
    pub namespace: &'a [u8],
}

/// What a store is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateKind {
    /// One value per key.
    Value,
    /// Elements in the order they were added.
    List,
    /// Values by map key.
    Map,
    /// One value per key, which each new one is reduced into.
    Reducing,
    /// One accumulator per key.
    Aggregating,
}

/// A named store: what an operator registers when it opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreDescriptor {
    name: String,
    kind: StateKind,
    /// Type of what is stored, with the map key's.
    stored: TypeId,
    stored_name: &'static str,
    /// Each stored value begins with 8 bytes of last access.
    expires: bool,
}

impl StoreDescriptor {
    pub(crate) fn new<T: 'static>(name: &str, kind: StateKind, expires: bool) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            stored: TypeId::of::<T>(),
            stored_name: std::any::type_name::<T>(),
            expires,
        }
    }

    /// Its name: unique in the operator.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> StateKind {
        self.kind
    }

    /// Each stored value begins with 8 bytes of last access.
    #[must_use]
    pub fn expires(&self) -> bool {
        self.expires
    }
}

/// A registered store of one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId {
    /// Ids of backends are never given twice in a process, so an id opens no store of another one.
    backend: u64,
    index: usize,
}

impl StoreId {
    /// Of no backend.
    pub(crate) const NONE: Self = Self {
        backend: u64::MAX,
        index: 0,
    };
}

/// One entry of a store, for snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredEntry<'a> {
    /// Where it is.
    pub at: At<'a>,
    /// Map key of an entry of a map; empty in other stores.
    pub map_key: &'a [u8],
    /// The value, or one element of a list: those of a list come one after the other, in order.
    pub value: &'a [u8],
}

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

/// Bytes in memory.
#[derive(Debug)]
struct Heap {
    key_groups: OwnedKeyGroups,
    stores: Vec<HeapStore>,
}

/// A table per owned key group, in order, and where the sweep for expired entries is.
#[derive(Debug)]
struct HeapStore {
    tables: Tables,
    sweep_group: usize,
    sweep_slot: usize,
}

#[derive(Debug)]
enum Tables {
    Values(Box<[ByteTable]>),
    Lists(Box<[ListTable]>),
    Maps(Box<[MapTable]>),
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
        let heap = match &self.place {
            Place::Heap(heap) => heap,
            Place::Disk(disk) => return disk.for_each_entry(index, key_group, visit),
        };
        let Some(group) = heap.key_groups.position(key_group) else {
            let owned = heap.key_groups.range();
            return Err(Error::operator(format!(
                "key group {key_group} is not among this subtask's {owned:?}"
            )));
        };
        match &heap.stores[index].tables {
            Tables::Values(tables) => visit_values(&tables[group], visit),
            Tables::Lists(tables) => visit_lists(&tables[group], visit),
            Tables::Maps(tables) => visit_maps(&tables[group], visit),
        }
        Ok(())
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

    /// Looks the value up once and lets `change` say what becomes of it ([`ByteTable::update`]).
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

fn encode_map_key(map_key: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    map_key.clear();
    map_key.extend_from_slice(&[0; OWNER_BYTES]);
    write(map_key);
}

fn visit_values(table: &ByteTable, mut visit: impl FnMut(StoredEntry<'_>)) {
    for (hash, entry) in table.iter() {
        visit(StoredEntry {
            at: at(table, hash, entry),
            map_key: &[],
            value: table.value(entry),
        });
    }
}

fn visit_lists(lists: &ListTable, mut visit: impl FnMut(StoredEntry<'_>)) {
    for (hash, entry) in lists.table().iter() {
        let at = at(lists.table(), hash, entry);
        lists.read(entry, |value| {
            visit(StoredEntry {
                at,
                map_key: &[],
                value,
            });
        });
    }
}

fn visit_maps(maps: &MapTable, mut visit: impl FnMut(StoredEntry<'_>)) {
    for (hash, map) in maps.maps().iter() {
        let at = at(maps.maps(), hash, map);
        maps.read(map, |map_key, value| {
            visit(StoredEntry { at, map_key, value })
        });
    }
}

/// Where an entry is that lies in a table.
fn at(table: &ByteTable, hash: u32, entry: u32) -> At<'_> {
    let (key, namespace) = table.address(entry);
    At {
        key_hash: hash_in_namespace(hash, namespace),
        key,
        namespace,
    }
}

impl Heap {
    fn prefetch(&self, key_hashes: &[u32], fetch: impl Fn(&ByteTable, u32)) {
        for key_hash in key_hashes {
            let Some(group) = self.key_groups.index_if_owned(*key_hash) else {
                continue;
            };
            for store in &self.stores {
                let table = match &store.tables {
                    Tables::Values(tables) => &tables[group],
                    Tables::Lists(tables) => tables[group].table(),
                    Tables::Maps(tables) => tables[group].maps(),
                };
                fetch(table, *key_hash);
            }
        }
    }

    fn add(&mut self, kind: StateKind) {
        let count = self.key_groups.count();
        let tables = match kind {
            StateKind::Value | StateKind::Reducing | StateKind::Aggregating => Tables::Values(
                std::iter::repeat_with(ByteTable::default)
                    .take(count)
                    .collect(),
            ),
            StateKind::List => Tables::Lists(
                std::iter::repeat_with(ListTable::default)
                    .take(count)
                    .collect(),
            ),
            StateKind::Map => Tables::Maps(
                std::iter::repeat_with(MapTable::default)
                    .take(count)
                    .collect(),
            ),
        };
        self.stores.push(HeapStore {
            tables,
            sweep_group: 0,
            sweep_slot: 0,
        });
    }
}

impl HeapStore {
    fn bytes(&self) -> usize {
        match &self.tables {
            Tables::Values(tables) => {
                size_of_val(&**tables) + tables.iter().map(ByteTable::bytes).sum::<usize>()
            }
            Tables::Lists(tables) => {
                size_of_val(&**tables) + tables.iter().map(ListTable::bytes).sum::<usize>()
            }
            Tables::Maps(tables) => {
                size_of_val(&**tables) + tables.iter().map(MapTable::bytes).sum::<usize>()
            }
        }
    }

    fn len(&self) -> usize {
        match &self.tables {
            Tables::Values(tables) => tables.iter().map(ByteTable::len).sum(),
            Tables::Lists(tables) => tables.iter().map(ListTable::len).sum(),
            Tables::Maps(tables) => tables.iter().map(MapTable::len).sum(),
        }
    }

    fn groups(&self) -> usize {
        match &self.tables {
            Tables::Values(tables) => tables.len(),
            Tables::Lists(tables) => tables.len(),
            Tables::Maps(tables) => tables.len(),
        }
    }

    /// The table whose slots are gone through.
    fn swept(&self, group: usize) -> &ByteTable {
        match &self.tables {
            Tables::Values(tables) => &tables[group],
            Tables::Lists(tables) => tables[group].table(),
            Tables::Maps(tables) => tables[group].entries(),
        }
    }

    fn sweep(&mut self, mut entries: usize, mut expired: impl FnMut(&[u8]) -> bool) {
        for _ in 0..SWEEP_SLOTS {
            if entries == 0 || self.sweep_group >= self.groups() {
                return;
            }
            let table = self.swept(self.sweep_group);
            if self.sweep_slot >= table.slots() {
                self.sweep_slot = 0;
                self.sweep_group = (self.sweep_group + 1) % self.groups();
                continue;
            }
            let Some((hash, entry)) = table.slot(self.sweep_slot) else {
                self.sweep_slot += 1;
                continue;
            };
            // What was probed past an entry that goes may move into its slot: look there again.
            if !self.sweep_entry(hash, entry, &mut entries, &mut expired) {
                self.sweep_slot += 1;
            }
        }
    }

    /// Takes an entry out if it has expired; says whether it did.
    fn sweep_entry(
        &mut self,
        hash: u32,
        entry: u32,
        entries: &mut usize,
        expired: &mut impl FnMut(&[u8]) -> bool,
    ) -> bool {
        let group = self.sweep_group;
        let mut look = |value: &[u8]| {
            *entries = entries.saturating_sub(1);
            expired(value)
        };
        match &mut self.tables {
            Tables::Values(tables) => {
                let goes = look(tables[group].value(entry));
                goes && tables[group].remove_entry(hash, entry)
            }
            Tables::Maps(tables) => {
                let goes = look(tables[group].entry(entry).2);
                if goes {
                    tables[group].remove_entry(hash, entry);
                }
                goes
            }
            // The oldest elements come first.
            Tables::Lists(tables) => {
                let mut looks = SWEEP_SLOTS;
                tables[group].drop_front(hash, entry, |value| {
                    looks = looks.saturating_sub(1);
                    looks > 0 && look(value)
                })
            }
        }
    }
}

#[cold]
fn foreign_handle() -> Error {
    Error::operator(
        "a state handle was used with the state of another operator or subtask: make handles in `open`, with the context given \
         there",
    )
}

#[cold]
fn wrong_kind(store: &StoreDescriptor) -> Error {
    let StoreDescriptor { name, kind, .. } = store;
    Error::operator(format!("state `{name}` is {kind:?} state: use it as such"))
}

#[cold]
fn taken_name(there: &StoreDescriptor, new: &StoreDescriptor) -> Error {
    let describe = |store: &StoreDescriptor| {
        let expiry = if store.expires {
            " with a time to live"
        } else {
            ""
        };
        format!("{:?} state of {}{expiry}", store.kind, store.stored_name)
    };
    Error::operator(format!(
        "state `{}` is registered twice, as {} and as {}: give each state of an operator a name of its own",
        there.name,
        describe(there),
        describe(new)
    ))
}

#[cfg(test)]
mod tests;
