//! Expired entries of stores on disk: how they are found and taken out.
//!
//! Owns: [`Sweep`] (where the search of a store is) and [`DiskPlace::sweep`].
//! Invariant: what the search found is looked up again before it goes, so that only the newest of a row counts.
//! Left out: what has expired; the caller says so of a value, an element or an entry's value.
//!
//! Expired entries are looked for as tables in memory are gone through, with each access, and 512 rows of the tree at a
//! time, so that setting a scan up is paid for by many accesses.

use crate::error::Result;
use crate::state::backend::StateKind;
use crate::state::byte_table::Change;
use crate::state::disk::place::map::LINK_BYTES;
use crate::state::disk::place::{DiskPlace, number};
use crate::state::disk::row::{Row, Tail, range_of};
use crate::state::disk::rows::Failure;
use crate::state::disk::tree::unmark;

/// Slots that one step of a sweep looks at in memory, for each store: they share tables.
const SWEEP_SLOTS: usize = 16;

/// A sweep reads the tree when so many entries were to be looked at, and then so many rows.
const SWEEP_ENTRIES: usize = 128;
const SWEEP_ROWS: usize = 512;

/// Where the search for expired entries of a store is.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    group: usize,
    slot: usize,
    /// Entries to look at in the tree.
    owed: usize,
    tree_group: usize,
    /// Row of the tree where it goes on; empty: at the first.
    cursor: Vec<u8>,
}

impl DiskPlace {
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
