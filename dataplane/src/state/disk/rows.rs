//! The rows of one operator in one subtask: the newest in memory, all of them in a tree on disk.
//!
//! ```text
//!  access -> active tables -> frozen batch -> tree        a row that is found further right moves into the active tables
//!            full: become the frozen batch, which one thread writes while it still answers reads
//! ```
//! Owns: [`StateRows`]. A write costs what it costs in memory: it changes the row in the active tables, and no thread but the
//! core touches those. A row that is changed often is written once per batch. A read that finds nothing in memory reads the tree.
//! Invariant: active before frozen before tree is newest first; active tables and frozen batch together stay below this
//! backend's share of the state memory, but for one row.
//! Left out: what rows mean ([`crate::state::disk::place`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::state::arena::Ref;
use crate::state::byte_table::{ByteTable, EntryError};
use crate::state::disk::row::{RowKey, prefix, range_of};
use crate::state::disk::storage::{DiskStorage, Job};
use crate::state::disk::tree::{Rows, StateTree, mark, unmark};

/// Why an access failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The row is too large.
    Entry(EntryError),
    /// The disk.
    Disk(Error),
}

impl From<EntryError> for Failure {
    fn from(problem: EntryError) -> Self {
        Self::Entry(problem)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Disk(error)
    }
}

/// Lives: on the subtask's core; its drop leaves the files to a housekeeping thread.
#[derive(Debug)]
pub(super) struct StateRows {
    active: Box<[ByteTable]>,
    /// Of the active tables.
    bytes: usize,
    frozen: Option<Arc<Rows>>,
    tree: Arc<StateTree>,
    storage: Arc<DiskStorage>,
    /// A row on its way into a table, with its mark.
    marked: Vec<u8>,
}

fn tables(count: usize) -> Box<[ByteTable]> {
    std::iter::repeat_with(ByteTable::default)
        .take(count)
        .collect()
}

impl StateRows {
    /// # Errors
    /// There is too little memory for one more operator with state.
    pub(super) fn new(storage: &Arc<DiskStorage>, groups: usize) -> Result<Self> {
        Ok(Self {
            tree: storage.open()?,
            active: tables(groups),
            bytes: 0,
            frozen: None,
            storage: Arc::clone(storage),
            marked: Vec::new(),
        })
    }

    /// Bytes of memory.
    pub(super) fn memory_bytes(&self) -> usize {
        let frozen = self.frozen.iter().flat_map(|rows| &rows.groups);
        size_of_val(&*self.active) + self.bytes + frozen.map(ByteTable::bytes).sum::<usize>()
    }

    /// The active table of a key group.
    #[inline]
    pub(super) fn table(&self, group: usize) -> &ByteTable {
        &self.active[group]
    }

    pub(super) fn tree(&self) -> &StateTree {
        &self.tree
    }

    /// The value of a row.
    #[inline]
    pub(super) fn get(&mut self, row: &RowKey) -> Result<Option<&[u8]>, Failure> {
        let Some(entry) = self.load(row)? else {
            return Ok(None);
        };
        Ok(Some(unmark(self.active[row.group].value(entry)).0))
    }

    /// The value of a row, to be changed in place.
    #[inline]
    pub(super) fn get_mut(&mut self, row: &RowKey) -> Result<Option<&mut [u8]>, Failure> {
        let Some(entry) = self.load(row)? else {
            return Ok(None);
        };
        let stored = self.active[row.group].value_mut(entry);
        Ok(stored.split_last_mut().map(|(mark, value)| {
            *mark = mark::DIRTY;
            value
        }))
    }

    /// Lets `look` see the value of a row, and change it if it is worth writing: it says so.
    pub(super) fn visit<T>(
        &mut self,
        row: &RowKey,
        look: impl FnOnce(&mut [u8]) -> (bool, T),
    ) -> Result<Option<T>, Failure> {
        let Some(entry) = self.load(row)? else {
            return Ok(None);
        };
        let stored = self.active[row.group].value_mut(entry);
        Ok(stored.split_last_mut().map(|(mark, value)| {
            let (changed, result) = look(value);
            if changed {
                *mark = mark::DIRTY;
            }
            result
        }))
    }

    /// Writes a row.
    #[inline]
    pub(super) fn put(&mut self, row: &RowKey, value: &[u8]) -> Result<(), Failure> {
        self.make_room()?;
        self.marked.clear();
        self.marked.extend_from_slice(value);
        self.marked.push(mark::DIRTY);
        self.store(row)?;
        Ok(())
    }

    /// Takes a row out.
    pub(super) fn remove(&mut self, row: &RowKey) -> Result<(), Failure> {
        self.make_room()?;
        if self.frozen.is_none() && !self.tree.exists() {
            let table = &mut self.active[row.group];
            let before = table.bytes();
            table.remove(row.hash(), &row.bytes, &[]);
            self.bytes = self.bytes + table.bytes() - before;
            return Ok(());
        }
        self.marked.clear();
        self.marked.push(mark::REMOVED);
        self.store(row)?;
        Ok(())
    }

    /// The value of a row, left where it is.
    pub(super) fn peek(&self, row: &RowKey) -> Result<Option<Vec<u8>>> {
        let hash = row.hash();
        for table in self.in_memory(row.group) {
            if let Some(stored) = table.get(hash, &row.bytes, &[]) {
                let (value, mark) = unmark(stored);
                return Ok((mark != mark::REMOVED).then(|| value.to_vec()));
            }
        }
        Ok(self.tree.get(&row.bytes)?.map(|value| value.to_vec()))
    }

    /// Calls `visit` with the rows of a store in a key group, in the order of their keys.
    ///
    /// Cost: what of the key group is in memory is gone through and sorted, the rest read from disk.
    pub(super) fn scan(
        &self,
        group: usize,
        key_group: u16,
        store: u16,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let prefix = prefix(key_group, store);
        let mut newest: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
        for table in self.in_memory(group).rev() {
            let rows = table
                .iter()
                .map(|(_, entry)| (table.address(entry).0, table.value(entry)));
            newest.extend(rows.filter(|(key, _)| key.starts_with(&prefix)));
        }
        let mut newest = newest.into_iter().peekable();
        self.tree.scan(range_of(key_group, store), |key, value| {
            while let Some((newer, stored)) = newest.next_if(|(newer, _)| *newer <= key) {
                visit_marked(newer, stored, &mut visit)?;
                if newer == key {
                    return Ok(true);
                }
            }
            visit(key, value)?;
            Ok(true)
        })?;
        newest.try_for_each(|(key, stored)| visit_marked(key, stored, &mut visit))
    }

    /// What is in memory of a key group, newest first.
    fn in_memory(&self, group: usize) -> impl DoubleEndedIterator<Item = &ByteTable> {
        let frozen = self.frozen.iter().map(move |rows| &rows.groups[group]);
        std::iter::once(&self.active[group]).chain(frozen)
    }

    /// Brings a row into the active tables.
    #[inline]
    fn load(&mut self, row: &RowKey) -> Result<Option<Ref>, Failure> {
        let table = &self.active[row.group];
        match table.find(row.hash(), &row.bytes, &[]) {
            Some(entry) => Ok((unmark(table.value(entry)).1 != mark::REMOVED).then_some(entry)),
            None => self.fetch(row),
        }
    }

    #[inline(never)]
    fn fetch(&mut self, row: &RowKey) -> Result<Option<Ref>, Failure> {
        self.make_room()?;
        let frozen = self.frozen.as_ref().map(|rows| &rows.groups[row.group]);
        let value;
        let (value, found) = match frozen.and_then(|table| table.get(row.hash(), &row.bytes, &[])) {
            Some(stored) => unmark(stored),
            None => match self.tree.get(&row.bytes)? {
                Some(read) => {
                    value = read;
                    (&*value, mark::CLEAN)
                }
                None => return Ok(None),
            },
        };
        if found == mark::REMOVED {
            return Ok(None);
        }
        self.marked.clear();
        self.marked.extend_from_slice(value);
        self.marked.push(mark::CLEAN);
        self.store(row)?;
        Ok(self.active[row.group].find(row.hash(), &row.bytes, &[]))
    }

    #[inline]
    fn store(&mut self, row: &RowKey) -> Result<(), EntryError> {
        let table = &mut self.active[row.group];
        let before = table.bytes();
        let put = table.put(row.hash(), &row.bytes, &[], &self.marked);
        self.bytes = self.bytes + table.bytes() - before;
        put.map(drop)
    }

    /// Freezes the active tables when they are full.
    #[inline]
    fn make_room(&mut self) -> Result<()> {
        self.tree.check()?;
        if self.bytes < self.storage.active_bytes() {
            return Ok(());
        }
        self.freeze()
    }

    /// Hands the active tables to the writing thread. When the batch before is not written yet, they grow by a quarter; then the
    /// core waits.
    #[cold]
    fn freeze(&mut self) -> Result<()> {
        if let Some(frozen) = &self.frozen
            && !frozen.is_written()
        {
            let full = self.storage.active_bytes();
            if self.bytes < full + full / 4 {
                return Ok(());
            }
            frozen.wait();
            self.tree.check()?;
        }
        let fresh = tables(self.active.len());
        let rows = Arc::new(Rows::new(std::mem::replace(&mut self.active, fresh)));
        self.bytes = 0;
        if let Some(old) = self.frozen.replace(Arc::clone(&rows)) {
            self.storage.submit(&self.tree, Job::Discard(old))?;
        }
        self.storage
            .submit(&self.tree, Job::Write(Arc::clone(&self.tree), rows))
    }
}

impl Drop for StateRows {
    fn drop(&mut self) {
        self.tree.abandoned.store(true, Ordering::Release);
        let rows = Rows::new(std::mem::take(&mut self.active));
        let rows = [Some(Arc::new(rows)), self.frozen.take()];
        self.storage
            .close(&self.tree, rows.into_iter().flatten().collect());
    }
}

fn visit_marked(
    key: &[u8],
    stored: &[u8],
    visit: &mut impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    match unmark(stored) {
        (_, mark::REMOVED) => Ok(()),
        (value, _) => visit(key, value),
    }
}
