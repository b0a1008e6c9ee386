//! Stores in memory.
//!
//! Owns: [`Heap`]: of each store its tables, and where the search for expired entries is in them.
//! Invariant: the tables of a store are those of its kind, one for each key group that the subtask owns, in order.
//! Left out: what an access does to its table (`value`, `list` and `map` beside this), and how a table is laid out
//! ([`crate::state::byte_table`], [`crate::state::list_table`], [`crate::state::map_table`]).

use crate::error::{Error, Result};
use crate::state::backend::{At, StateKind, StoredEntry};
use crate::state::byte_table::{ByteTable, hash_in_namespace};
use crate::state::key_groups::OwnedKeyGroups;
use crate::state::list_table::ListTable;
use crate::state::map_table::MapTable;

/// Slots that one step of [`HeapStore::sweep`] looks at, taken or not.
const SWEEP_SLOTS: usize = 16;

/// Bytes in memory.
#[derive(Debug)]
pub(super) struct Heap {
    pub(super) key_groups: OwnedKeyGroups,
    pub(super) stores: Vec<HeapStore>,
}

/// A table per owned key group, in order, and where the sweep for expired entries is.
#[derive(Debug)]
pub(super) struct HeapStore {
    pub(super) tables: Tables,
    sweep_group: usize,
    sweep_slot: usize,
}

#[derive(Debug)]
pub(super) enum Tables {
    Values(Box<[ByteTable]>),
    Lists(Box<[ListTable]>),
    Maps(Box<[MapTable]>),
}

impl Heap {
    pub(super) fn prefetch(&self, key_hashes: &[u32], fetch: impl Fn(&ByteTable, u32)) {
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

    pub(super) fn add(&mut self, kind: StateKind) {
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

    pub(super) fn for_each_entry(
        &self,
        store: usize,
        key_group: u32,
        visit: impl FnMut(StoredEntry<'_>),
    ) -> Result<()> {
        let Some(group) = self.key_groups.position(key_group) else {
            let owned = self.key_groups.range();
            return Err(Error::operator(format!(
                "key group {key_group} is not among this subtask's {owned:?}"
            )));
        };
        match &self.stores[store].tables {
            Tables::Values(tables) => visit_values(&tables[group], visit),
            Tables::Lists(tables) => visit_lists(&tables[group], visit),
            Tables::Maps(tables) => visit_maps(&tables[group], visit),
        }
        Ok(())
    }
}

impl HeapStore {
    pub(super) fn bytes(&self) -> usize {
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

    pub(super) fn len(&self) -> usize {
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

    pub(super) fn sweep(&mut self, mut entries: usize, mut expired: impl FnMut(&[u8]) -> bool) {
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
