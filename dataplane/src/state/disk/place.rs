//! Values, lists and maps as rows.
//!
//! ```text
//!  value    head: the value
//!  list     head: | first number | next number |     element n: the element; none of first..next is missing
//!  map      head: | first link | last link | next number | entries |
//!           link n: | link before | link behind | map key |     entry of a map key: | its link | value |
//! ```
//! Owns: [`DiskPlace`]. A value costs one row; an element two (itself and the head); a map's entry one to read or change, and
//! three or four to make or take out. Numbers are never given twice while a list or map lives; 0 is no link.
//! Invariant: a list or map without elements has no rows.
//! Left out: where rows are ([`crate::state::disk::rows`]).
//!
//! Expired entries are looked for as tables in memory are gone through, with each access, and 512 rows of the tree at a time, so
//! that setting a scan up is paid for by many accesses.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::state::backend::{At, StateKind, StoredEntry};
use crate::state::byte_table::Change;
use crate::state::disk::row::{Row, RowKey, Tail, range_of, value_hash};
use crate::state::disk::rows::{Failure, StateRows};
use crate::state::disk::storage::DiskStorage;
use crate::state::disk::tree::unmark;
use crate::state::key_groups::OwnedKeyGroups;
use crate::state::map_table::Visit;

/// Slots that one step of a sweep looks at in memory, for each store: they share tables.
const SWEEP_SLOTS: usize = 16;

/// A sweep reads the tree when so many entries were to be looked at, and then so many rows.
const SWEEP_ENTRIES: usize = 128;
const SWEEP_ROWS: usize = 512;

/// Bytes of a map's entry before its value.
const LINK_BYTES: usize = 8;

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

/// A list's elements are numbered `first..next`.
#[derive(Debug, Clone, Copy, Default)]
struct ListHead {
    first: u64,
    next: u64,
}

impl ListHead {
    fn read(bytes: &[u8]) -> Self {
        let [first, next] = numbers(bytes);
        Self { first, next }
    }
}

/// A map's entries are chained through their links.
#[derive(Debug, Clone, Copy)]
struct MapHead {
    first: u64,
    last: u64,
    next: u64,
    entries: u64,
}

impl MapHead {
    fn read(bytes: &[u8]) -> Self {
        let [first, last, next, entries] = numbers(bytes);
        Self {
            first,
            last,
            next,
            entries,
        }
    }
}

/// What is between the entries of a map.
#[derive(Debug, Clone, Copy)]
struct Link {
    before: u64,
    behind: u64,
}

impl Link {
    const BYTES: usize = 16;

    fn read(bytes: &[u8]) -> (Self, &[u8]) {
        let [before, behind] = numbers(bytes);
        (
            Self { before, behind },
            bytes.get(Self::BYTES..).unwrap_or_default(),
        )
    }
}

/// Where the search for expired entries of a store is.
#[derive(Debug, Default)]
struct Sweep {
    group: usize,
    slot: usize,
    /// Entries to look at in the tree.
    owed: usize,
    tree_group: usize,
    /// Row of the tree where it goes on; empty: at the first.
    cursor: Vec<u8>,
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

    fn list_head(&mut self) -> Result<Option<ListHead>, Failure> {
        Ok(self.rows.get(self.row.head())?.map(ListHead::read))
    }

    /// Writes the head, or takes it out with the last element.
    fn put_list_head(&mut self, head: ListHead) -> Result<(), Failure> {
        let row = self.row.head();
        if head.first == head.next {
            return self.rows.remove(row);
        }
        self.rows
            .put(row, bytes_of([head.first, head.next]).as_flattened())
    }

    pub(crate) fn list_add(
        &mut self,
        store: usize,
        at: At<'_>,
        element: &[u8],
    ) -> Result<(), Failure> {
        self.point(store, at)?;
        let mut head = self.list_head()?.unwrap_or_default();
        self.rows.put(self.row.element(head.next), element)?;
        head.next += 1;
        self.put_list_head(head)
    }

    pub(crate) fn list_for_each(
        &mut self,
        store: usize,
        at: At<'_>,
        mut visit: impl FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<(), Failure> {
        self.point(store, at)?;
        let head = self.list_head()?.unwrap_or_default();
        for number in head.first..head.next {
            let visited = self.rows.visit(self.row.element(number), |element| {
                watched(element, &mut visit)
            })?;
            visited.ok_or_else(damaged)??;
        }
        Ok(())
    }

    /// Elements have numbers without gaps: behind one that goes, the others move up.
    ///
    /// Cost: one read per element up to the last one visited; a write for each that changed or moves.
    pub(crate) fn list_visit(
        &mut self,
        store: usize,
        at: At<'_>,
        mut visit: impl FnMut(&mut [u8]) -> Result<Visit>,
    ) -> Result<(), Failure> {
        self.point(store, at)?;
        let Some(mut head) = self.list_head()? else {
            return Ok(());
        };
        let (mut kept, mut stopped, mut failure) = (head.first, false, Ok(()));
        let (mut before, mut element) = (Vec::new(), Vec::new());
        for number in head.first..head.next {
            if stopped && kept == number {
                return failure;
            }
            before.clear();
            let stored = self.rows.get(self.row.element(number))?;
            before.extend_from_slice(stored.ok_or_else(damaged)?);
            element.clone_from(&before);
            let verdict = if stopped {
                Ok(Visit::Keep)
            } else {
                visit(&mut element)
            };
            match verdict {
                Ok(Visit::Remove) => continue,
                Ok(Visit::Keep) => {}
                Ok(Visit::Stop) => stopped = true,
                // What was taken out so far is out; the rest stays.
                Err(error) => (stopped, failure) = (true, Err(error.into())),
            }
            if kept != number || element != before {
                self.rows.put(self.row.element(kept), &element)?;
            }
            kept += 1;
        }
        for number in kept..head.next {
            self.rows.remove(self.row.element(number))?;
        }
        if kept != head.next {
            head.next = kept;
            self.put_list_head(head)?;
        }
        failure
    }

    pub(crate) fn list_drop_while(
        &mut self,
        store: usize,
        at: At<'_>,
        mut goes: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Failure> {
        self.point(store, at)?;
        let Some(mut head) = self.list_head()? else {
            return Ok(());
        };
        let first = head.first;
        while head.first < head.next {
            let row = self.row.element(head.first);
            if !goes(self.rows.get(row)?.ok_or_else(damaged)?) {
                break;
            }
            self.rows.remove(row)?;
            head.first += 1;
        }
        if head.first == first {
            return Ok(());
        }
        self.put_list_head(head)
    }

    pub(crate) fn list_contains(&mut self, store: usize, at: At<'_>) -> Result<bool, Failure> {
        self.point(store, at)?;
        Ok(self.list_head()?.is_some())
    }

    pub(crate) fn list_clear(&mut self, store: usize, at: At<'_>) -> Result<(), Failure> {
        self.point(store, at)?;
        let Some(head) = self.list_head()? else {
            return Ok(());
        };
        for number in head.first..head.next {
            self.rows.remove(self.row.element(number))?;
        }
        self.rows.remove(self.row.head())
    }

    fn map_head(&mut self) -> Result<Option<MapHead>, Failure> {
        Ok(self.rows.get(self.row.head())?.map(MapHead::read))
    }

    fn put_map_head(&mut self, head: MapHead) -> Result<(), Failure> {
        let row = self.row.head();
        if head.entries == 0 {
            return self.rows.remove(row);
        }
        let MapHead {
            first,
            last,
            next,
            entries,
        } = head;
        self.rows
            .put(row, bytes_of([first, last, next, entries]).as_flattened())
    }

    /// The value of a map key.
    pub(crate) fn map_get(
        &mut self,
        store: usize,
        at: At<'_>,
        write_key: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Option<&[u8]>, Failure> {
        self.point(store, at)?;
        let entry = self.rows.get(self.row.map_key(write_key))?;
        Ok(entry.map(|entry| entry.get(LINK_BYTES..).unwrap_or_default()))
    }

    /// The value of a map key, to be changed in place.
    pub(crate) fn map_get_mut(
        &mut self,
        store: usize,
        at: At<'_>,
        write_key: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Option<&mut [u8]>, Failure> {
        self.point(store, at)?;
        let entry = self.rows.get_mut(self.row.map_key(write_key))?;
        Ok(entry.map(|entry| entry.get_mut(LINK_BYTES..).unwrap_or_default()))
    }

    pub(crate) fn map_update(
        &mut self,
        store: usize,
        at: At<'_>,
        write_key: impl FnOnce(&mut Vec<u8>),
        fresh: &mut Vec<u8>,
        change: impl FnOnce(Option<&[u8]>, &mut Vec<u8>) -> Result<Change>,
    ) -> Result<(), Failure> {
        self.point(store, at)?;
        fresh.clear();
        let old = self.rows.get(self.row.map_key(write_key))?;
        let link = old.map(|old| numbers::<1>(old)[0]);
        fresh.extend_from_slice(&link.unwrap_or(0).to_le_bytes());
        let change = change(
            old.map(|old| old.get(LINK_BYTES..).unwrap_or_default()),
            fresh,
        )?;
        match (change, link) {
            (Change::Put, Some(_)) => self.rows.put(&self.row, fresh),
            (Change::Put, None) => self.begin_entry(fresh),
            (Change::Remove, Some(link)) => {
                self.rows.remove(&self.row)?;
                self.unlink(link)
            }
            (Change::Remove, None) | (Change::Keep, _) => Ok(()),
        }
    }

    /// Puts a new entry, whose row is at hand, behind the others of its map.
    fn begin_entry(&mut self, fresh: &mut [u8]) -> Result<(), Failure> {
        self.named.clear();
        self.named.extend_from_slice(self.row.map_key_bytes());
        let mut head = self.map_head()?.unwrap_or(MapHead {
            first: 0,
            last: 0,
            next: 1,
            entries: 0,
        });
        let number = head.next;
        fresh[..LINK_BYTES].copy_from_slice(&number.to_le_bytes());
        let named = std::mem::take(&mut self.named);
        let entry = self
            .rows
            .put(self.row.map_key(|out| out.extend_from_slice(&named)), fresh);
        let mut link = bytes_of([head.last, 0]).as_flattened().to_vec();
        link.extend_from_slice(&named);
        self.named = named;
        entry?;
        self.rows.put(self.row.element(number), &link)?;
        match head.last {
            0 => head.first = number,
            last => self.relink(last, |link| link.behind = number)?,
        }
        (head.last, head.next, head.entries) = (number, number + 1, head.entries + 1);
        self.put_map_head(head)
    }

    /// Changes the neighbours of a link.
    fn relink(&mut self, number: u64, change: impl FnOnce(&mut Link)) -> Result<(), Failure> {
        let bytes = self
            .rows
            .get_mut(self.row.element(number))?
            .ok_or_else(damaged)?;
        let (mut link, _) = Link::read(bytes);
        change(&mut link);
        let written = bytes_of([link.before, link.behind]);
        bytes
            .get_mut(..Link::BYTES)
            .ok_or_else(damaged)?
            .copy_from_slice(written.as_flattened());
        Ok(())
    }

    /// Takes a link out, and with the last one the head.
    fn unlink(&mut self, number: u64) -> Result<(), Failure> {
        let mut head = self.map_head()?.ok_or_else(damaged)?;
        let (link, _) = Link::read(
            self.rows
                .get(self.row.element(number))?
                .ok_or_else(damaged)?,
        );
        self.rows.remove(&self.row)?;
        match link.before {
            0 => head.first = link.behind,
            before => self.relink(before, |neighbour| neighbour.behind = link.behind)?,
        }
        match link.behind {
            0 => head.last = link.before,
            behind => self.relink(behind, |neighbour| neighbour.before = link.before)?,
        }
        head.entries = head.entries.saturating_sub(1);
        self.put_map_head(head)
    }

    pub(crate) fn map_visit(
        &mut self,
        store: usize,
        at: At<'_>,
        mut visit: impl FnMut(&[u8], &mut [u8]) -> Result<Visit>,
    ) -> Result<(), Failure> {
        self.point(store, at)?;
        let mut number = self.map_head()?.map_or(0, |head| head.first);
        let mut named = std::mem::take(&mut self.named);
        let mut step = |place: &mut Self, number: u64| -> Result<(u64, Visit), Failure> {
            let (link, map_key) = Link::read(
                place
                    .rows
                    .get(place.row.element(number))?
                    .ok_or_else(damaged)?,
            );
            named.clear();
            named.extend_from_slice(map_key);
            let row = place.row.map_key(|out| out.extend_from_slice(&named));
            let visited = place
                .rows
                .visit(row, |entry| match entry.get_mut(LINK_BYTES..) {
                    Some(value) => watched(value, |value| visit(&named, value)),
                    None => (false, Err(damaged())),
                })?;
            Ok((link.behind, visited.ok_or_else(damaged)??))
        };
        let mut result = Ok(());
        while number != 0 {
            match step(self, number) {
                Ok((behind, Visit::Keep)) => number = behind,
                Ok((behind, Visit::Remove)) => {
                    result = self
                        .rows
                        .remove(&self.row)
                        .and_then(|()| self.unlink(number));
                    number = if result.is_ok() { behind } else { 0 };
                }
                Ok((_, Visit::Stop)) => number = 0,
                Err(failure) => {
                    result = Err(failure);
                    number = 0;
                }
            }
        }
        self.named = named;
        result
    }

    pub(crate) fn map_contains_any(&mut self, store: usize, at: At<'_>) -> Result<bool, Failure> {
        self.point(store, at)?;
        Ok(self.map_head()?.is_some())
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

    /// Takes out what `expired` says of: looks at some slots in memory, and now and then at some rows of the tree.
    pub(crate) fn sweep(
        &mut self,
        store: usize,
        entries: usize,
        mut expired: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Failure> {
        let mut found = Vec::new();
        self.sweep_memory(store, entries, &mut expired, &mut found);
        self.sweeps[store].owed += entries;
        if self.sweeps[store].owed >= SWEEP_ENTRIES && self.rows.tree().exists() {
            self.sweeps[store].owed = 0;
            self.sweep_tree(store, &mut expired, &mut found)?;
        }
        found
            .iter()
            .try_for_each(|key| self.expire(store, key, &mut expired))
    }

    fn sweep_memory(
        &mut self,
        store: usize,
        mut entries: usize,
        expired: &mut impl FnMut(&[u8]) -> bool,
        found: &mut Vec<Vec<u8>>,
    ) {
        let groups = self.key_groups.count();
        let sweep = &mut self.sweeps[store];
        for _ in 0..SWEEP_SLOTS * self.kinds.len() {
            if entries == 0 || groups == 0 {
                return;
            }
            let table = self.rows.table(sweep.group);
            if sweep.slot >= table.slots() {
                (sweep.group, sweep.slot) = ((sweep.group + 1) % groups, 0);
                continue;
            }
            let slot = table.slot(sweep.slot);
            sweep.slot += 1;
            let Some((_, entry)) = slot else {
                continue;
            };
            let (key, _) = table.address(entry);
            let (value, _) = unmark(table.value(entry));
            if Row::read(key).is_some_and(|row| usize::from(row.store) == store) {
                entries -= 1;
                if row_expired(self.kinds[store], key, value, expired) {
                    found.push(key.to_vec());
                }
            }
        }
    }

    fn sweep_tree(
        &mut self,
        store: usize,
        expired: &mut impl FnMut(&[u8]) -> bool,
        found: &mut Vec<Vec<u8>>,
    ) -> Result<(), Failure> {
        let (groups, kind) = (self.key_groups.count(), self.kinds[store]);
        let mut rows = SWEEP_ROWS;
        for _ in 0..groups {
            let group = self.sweeps[store].tree_group;
            let mut range = range_of(self.key_group(group), number(store));
            if !self.sweeps[store].cursor.is_empty() {
                range.start = std::mem::take(&mut self.sweeps[store].cursor);
            }
            let mut stopped = Vec::new();
            self.rows.tree().scan(range, |key, value| {
                if rows == 0 {
                    stopped = key.to_vec();
                    return Ok(false);
                }
                rows -= 1;
                if row_expired(kind, key, value, expired) {
                    found.push(key.to_vec());
                }
                Ok(true)
            })?;
            if !stopped.is_empty() {
                self.sweeps[store].cursor = stopped;
                return Ok(());
            }
            self.sweeps[store].tree_group = (group + 1) % groups;
        }
        Ok(())
    }

    /// Takes the value, element or entry of a row out if the newest of it has expired; of a list what is in front.
    fn expire(
        &mut self,
        store: usize,
        key: &[u8],
        expired: &mut impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Failure> {
        let Some(Row { at, tail, .. }) = Row::read(key) else {
            return Ok(());
        };
        match (self.kinds[store], tail) {
            (StateKind::List, _) => {
                let mut looks = SWEEP_SLOTS;
                self.list_drop_while(store, at, |element| {
                    looks = looks.saturating_sub(1);
                    looks > 0 && expired(element)
                })
            }
            (StateKind::Map, Tail::MapKey(map_key)) => {
                let write = |out: &mut Vec<u8>| out.extend_from_slice(map_key);
                let change = |old: Option<&[u8]>, _: &mut Vec<u8>| match old {
                    Some(old) if expired(old) => Ok(Change::Remove),
                    _ => Ok(Change::Keep),
                };
                self.map_update(store, at, write, &mut Vec::new(), change)
            }
            _ => self.value_update(store, at, &mut Vec::new(), |old, _| match old {
                Some(old) if expired(old) => Ok(Change::Remove),
                _ => Ok(Change::Keep),
            }),
        }
    }
}

/// A row carries a value, element or entry, which has expired.
fn row_expired(
    kind: StateKind,
    key: &[u8],
    value: &[u8],
    expired: &mut impl FnMut(&[u8]) -> bool,
) -> bool {
    match (kind, Row::read(key).map(|row| row.tail)) {
        (StateKind::List, Some(Tail::Element(_))) => expired(value),
        (StateKind::Map, Some(Tail::MapKey(_))) => value.get(LINK_BYTES..).is_some_and(expired),
        (StateKind::List | StateKind::Map, _) | (_, None) => false,
        (_, Some(_)) => expired(value),
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
