//! Values, lists and maps as rows.
//!
//! ```text
//!  value    head: the value
//!  list     head: | first number | next number |     element n: the element; none of first..next is missing
//!  map      head: | first link | last link | next number | entries |
//!           link n: | link before | link behind | map key |     entry of a map key: | its link | value |
//! ```
//! Owns: [`DiskPlace`], with the accesses to values; those to lists and maps, and the search for expired entries, are
//! in files of their own (`list`, `map`, `sweep`). A value costs one row; an element two (itself and the head); a map's
//! entry one to read or change, and three or four to make or take out. Numbers are never given twice while a list or
//! map lives; 0 is no link.
//! Invariant: a list or map without elements has no rows.
//! Left out: where rows are ([`crate::state::disk::rows`]).

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::state::backend::{At, StateKind, StoredEntry};
use crate::state::byte_table::Change;
use crate::state::disk::place::list::ListHead;
use crate::state::disk::place::map::{LINK_BYTES, Link, MapHead};
use crate::state::disk::place::sweep::Sweep;
use crate::state::disk::row::{Row, RowKey, Tail, value_hash};
use crate::state::disk::rows::{Failure, StateRows};
use crate::state::disk::storage::DiskStorage;
use crate::state::key_groups::OwnedKeyGroups;

mod list;
mod map;
mod sweep;

/// How much of a value is compared to tell whether a visitor changed it: visitors change the time of the last access, which is
/// first.
const STAMP_BYTES: usize = 8;

/// Numbers in a row. Missing ones are 0, which only damage makes.
fn numbers<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|index| words.get(index).map_or(0, |word| u64::from_le_bytes(*word)))
}

fn bytes_of<const N: usize>(numbers: [u64; N]) -> [[u8; 8]; N] {
    numbers.map(u64::to_le_bytes)
}

/// The stores of one operator in one subtask. Lives: on the subtask's core.
#[derive(Debug)]
pub(crate) struct DiskPlace {
    key_groups: OwnedKeyGroups,
    rows: StateRows,
    kinds: Vec<StateKind>,
    sweeps: Vec<Sweep>,
    /// The row of the access at hand.
    row: RowKey,
    /// A map key that its link names.
    named: Vec<u8>,
}

impl DiskPlace {
    /// # Errors
    /// There is too little memory for one more operator with state.
    pub(crate) fn open(
        storage: &Arc<DiskStorage>,
        subtask_index: u32,
        parallelism: u32,
        max_parallelism: u32,
    ) -> Result<Self> {
        let key_groups = OwnedKeyGroups::new(subtask_index, parallelism, max_parallelism);
        Ok(Self {
            rows: StateRows::new(storage, key_groups.count())?,
            key_groups,
            kinds: Vec::new(),
            sweeps: Vec::new(),
            row: RowKey::default(),
            named: Vec::new(),
        })
    }

    pub(crate) fn add(&mut self, kind: StateKind) -> Result<()> {
        if self.kinds.len() > usize::from(u16::MAX) {
            return Err(Error::operator(
                "an operator may have 65536 states on disk, and no more",
            ));
        }
        self.kinds.push(kind);
        self.sweeps.push(Sweep::default());
        Ok(())
    }

    pub(crate) fn key_groups(&self) -> Range<u32> {
        self.key_groups.range()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.rows.memory_bytes()
    }

    /// Has the slots of values of keys with these hashes fetched into the cache.
    pub(crate) fn prefetch(&self, key_hashes: &[u32]) {
        for key_hash in key_hashes {
            let Some(group) = self.key_groups.index_if_owned(*key_hash) else {
                continue;
            };
            for store in 0..self.kinds.len() {
                self.rows
                    .table(group)
                    .prefetch_slot(value_hash(*key_hash, &[], number(store)));
            }
        }
    }

    /// Points to the head of an access.
    #[inline]
    fn point(&mut self, store: usize, at: At<'_>) -> Result<(), Failure> {
        let group = self.key_groups.index(at.key_hash)?;
        let key_group = self.key_group(group);
        self.row.set(group, key_group, number(store), at)?;
        Ok(())
    }

    #[inline]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "there are at most 32768 key groups"
    )]
    fn key_group(&self, group: usize) -> u16 {
        self.key_groups.range().start as u16 + group as u16
    }

    #[inline]
    pub(crate) fn value_get(&mut self, store: usize, at: At<'_>) -> Result<Option<&[u8]>, Failure> {
        self.point(store, at)?;
        self.rows.get(&self.row)
    }

    #[inline]
    pub(crate) fn value_get_mut(
        &mut self,
        store: usize,
        at: At<'_>,
    ) -> Result<Option<&mut [u8]>, Failure> {
        self.point(store, at)?;
        self.rows.get_mut(&self.row)
    }

    #[inline]
    pub(crate) fn value_update(
        &mut self,
        store: usize,
        at: At<'_>,
        fresh: &mut Vec<u8>,
        change: impl FnOnce(Option<&[u8]>, &mut Vec<u8>) -> Result<Change>,
    ) -> Result<(), Failure> {
        self.point(store, at)?;
        fresh.clear();
        let old = self.rows.get(&self.row)?;
        let existed = old.is_some();
        match change(old, fresh)? {
            Change::Put => self.rows.put(&self.row, fresh),
            Change::Remove if existed => self.rows.remove(&self.row),
            Change::Keep | Change::Remove => Ok(()),
        }
    }

    #[inline]
    pub(crate) fn value_put(
        &mut self,
        store: usize,
        at: At<'_>,
        value: &[u8],
    ) -> Result<(), Failure> {
        self.point(store, at)?;
        self.rows.put(&self.row, value)
    }

    pub(crate) fn value_remove(&mut self, store: usize, at: At<'_>) -> Result<bool, Failure> {
        self.point(store, at)?;
        let existed = self.rows.get(&self.row)?.is_some();
        if existed {
            self.rows.remove(&self.row)?;
        }
        Ok(existed)
    }

    /// Number of values, elements and entries. Cost: all of them are read.
    pub(crate) fn len(&self) -> Result<usize> {
        let mut count = 0;
        for (store, kind) in self.kinds.iter().enumerate() {
            for group in 0..self.key_groups.count() {
                self.rows
                    .scan(group, self.key_group(group), number(store), |key, value| {
                        if matches!(Row::read(key).map(|row| row.tail), Some(Tail::Head)) {
                            count += match kind {
                                StateKind::List => {
                                    let head = ListHead::read(value);
                                    head.next - head.first
                                }
                                StateKind::Map => MapHead::read(value).entries,
                                _ => 1,
                            };
                        }
                        Ok(())
                    })?;
            }
        }
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    pub(crate) fn for_each_entry(
        &self,
        store: usize,
        key_group: u32,
        mut visit: impl FnMut(StoredEntry<'_>),
    ) -> Result<()> {
        let Some(group) = self.key_groups.position(key_group) else {
            let owned = self.key_groups.range();
            return Err(Error::operator(format!(
                "key group {key_group} is not among this subtask's {owned:?}"
            )));
        };
        let kind = self.kinds[store];
        let mut entry = RowKey::default();
        self.rows
            .scan(group, self.key_group(group), number(store), |key, value| {
                let row = Row::read(key).ok_or_else(damaged)?;
                let at = row.at;
                match (kind, row.tail) {
                    (StateKind::List, Tail::Head)
                    | (StateKind::Map, Tail::Head | Tail::MapKey(_)) => {}
                    (StateKind::Map, Tail::Element(_)) => {
                        // Links come in the order of their numbers, which is that in which their keys were first put.
                        let (_, map_key) = Link::read(value);
                        let set = entry.set(group, self.key_group(group), number(store), at);
                        set.map_err(|problem| Error::operator(problem.to_string()))?;
                        let found = self
                            .rows
                            .peek(entry.map_key(|out| out.extend_from_slice(map_key)))?;
                        let found = found.ok_or_else(damaged)?;
                        let value = found.get(LINK_BYTES..).unwrap_or_default();
                        visit(StoredEntry { at, map_key, value });
                    }
                    _ => visit(StoredEntry {
                        at,
                        map_key: &[],
                        value,
                    }),
                }
                Ok(())
            })
    }
}

/// Says whether a visitor changed what it saw.
fn watched<T>(value: &mut [u8], visit: impl FnOnce(&mut [u8]) -> T) -> (bool, T) {
    let before: Option<[u8; STAMP_BYTES]> = value.first_chunk().copied();
    let result = visit(value);
    (value.first_chunk().copied() != before, result)
}

/// The number of a store in rows; there are no more (checked in [`DiskPlace::add`]).
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "checked when it was added")]
const fn number(store: usize) -> u16 {
    store as u16
}

#[cold]
fn damaged() -> Error {
    Error::operator("state on disk is damaged: a row that its list or map names is missing")
}
