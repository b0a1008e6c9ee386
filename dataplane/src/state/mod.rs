//! Keyed state of one subtask: one table per key group that the subtask owns.
//!
//! Owns: [`KeyedState`], [`KeyExtractor`]: typed entries in memory, for operators whose state is one record per key; and in the
//! modules behind it what user functions see: [`handles`] (typed states with Flink's names) over [`backend`] (named stores of
//! bytes), [`timers`], and [`operator_state`], which belongs to no key. A record's key hash, computed once by the partitioner
//! of the keyed edge, gives the key group (its remainder) and the slot (other bits of it, mixed).
//! Invariant: an entry is in the table of its key's key group, so a key group can be copied, dropped or moved alone; a key
//! group that the subtask does not own is refused.
//! Left out: snapshots. State larger than memory is behind [`backend`], in [`disk`].

use std::marker::PhantomData;
use std::ops::Range;

use ringflow_schemas::key_group::{self, KeyGroupOf};

use crate::error::{Error, Result};
use crate::state::table::{Entry, Table};

pub(crate) mod arena;
pub mod backend;
pub mod byte_table;
pub mod disk;
pub mod handles;
mod key_groups;
mod list_table;
pub(crate) mod map_table;
pub mod operator_state;
pub mod table;
pub mod timers;
mod ttl;
pub mod value;

/// Tells which key an entry is of. An entry that contains its key (a record) needs no second copy of it.
pub trait KeyExtractor<E> {
    /// What entries are found by.
    type Key: ?Sized;

    /// `entry` is the one of `key`.
    fn is_of(&self, entry: &E, key: &Self::Key) -> bool;
}

/// Entries that are a key and a value.
#[derive(Debug)]
pub struct KeyBeside<K>(PhantomData<fn() -> K>);

impl<K> Default for KeyBeside<K> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<K: Eq, V> KeyExtractor<(K, V)> for KeyBeside<K> {
    type Key = K;

    #[inline]
    fn is_of(&self, entry: &(K, V), key: &K) -> bool {
        entry.0 == *key
    }
}

/// Entries of the keys of one subtask.
///
/// Lives: on the subtask's core. Shape: a table of 32 bytes per key group, which allocates with its first entry.
#[derive(Debug)]
pub struct KeyedState<E, X> {
    /// Of the owned key groups, in order.
    tables: Box<[Table<E>]>,
    key_groups: Range<u32>,
    key_group_of: KeyGroupOf,
    extractor: X,
}

impl<E, X: KeyExtractor<E>> KeyedState<E, X> {
    /// Empty state of subtask `subtask_index` of `parallelism` with `max_parallelism` key groups in all.
    #[must_use]
    pub fn new(subtask_index: u32, parallelism: u32, max_parallelism: u32, extractor: X) -> Self {
        let key_groups = key_group::range(subtask_index, max_parallelism, parallelism);
        Self {
            tables: key_groups.clone().map(|_| Table::default()).collect(),
            key_groups,
            key_group_of: KeyGroupOf::new(max_parallelism),
            extractor,
        }
    }

    /// Has the entries of keys with these hashes fetched into the cache, without waiting.
    ///
    /// Cost: about 2 ns each; misses overlap, so that what follows finds its entries there.
    #[inline]
    pub fn prefetch(&self, key_hashes: &[u32]) {
        for key_hash in key_hashes {
            let group = self.key_group_of.key_group(*key_hash);
            let index = group.wrapping_sub(self.key_groups.start) as usize;
            if let Some(table) = self.tables.get(index) {
                table.prefetch(*key_hash);
            }
        }
    }

    /// The entry of `key`, or its place.
    ///
    /// Cost: [`Table::entry`].
    ///
    /// # Errors
    /// The key group is not this subtask's: records did not come over an edge keyed as this state is.
    #[inline]
    pub fn entry(&mut self, key_hash: u32, key: &X::Key) -> Result<Entry<'_, E>> {
        let (index, extractor) = (self.index(key_hash)?, &self.extractor);
        Ok(self.tables[index].entry(key_hash, |entry| extractor.is_of(entry, key)))
    }

    /// The entry of `key`, if there is one.
    ///
    /// # Errors
    /// As [`KeyedState::entry`].
    #[inline]
    pub fn get(&self, key_hash: u32, key: &X::Key) -> Result<Option<&E>> {
        let table = &self.tables[self.index(key_hash)?];
        Ok(table.get(key_hash, |entry| self.extractor.is_of(entry, key)))
    }

    /// Takes the entry of `key` out.
    ///
    /// # Errors
    /// As [`KeyedState::entry`].
    pub fn remove(&mut self, key_hash: u32, key: &X::Key) -> Result<Option<E>> {
        let (index, extractor) = (self.index(key_hash)?, &self.extractor);
        Ok(self.tables[index].remove(key_hash, |entry| extractor.is_of(entry, key)))
    }

    /// The key groups that this state owns.
    #[must_use]
    pub fn key_groups(&self) -> Range<u32> {
        self.key_groups.clone()
    }

    /// The table of an owned key group.
    #[must_use]
    pub fn key_group(&self, key_group: u32) -> Option<&Table<E>> {
        let index = key_group.checked_sub(self.key_groups.start)?;
        self.tables.get(index as usize)
    }

    /// Number of entries. Cost: a look at every table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tables.iter().map(Table::len).sum()
    }

    /// There are none. Cost: a look at every table.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(Table::is_empty)
    }

    /// Bytes of all slots.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.tables.iter().map(Table::bytes).sum()
    }

    #[inline]
    fn index(&self, key_hash: u32) -> Result<usize> {
        let key_group = self.key_group_of.key_group(key_hash);
        let index = key_group.wrapping_sub(self.key_groups.start) as usize;
        if index < self.tables.len() {
            Ok(index)
        } else {
            Err(foreign(key_group, &self.key_groups))
        }
    }
}

#[cold]
fn foreign(key_group: u32, own: &Range<u32>) -> Error {
    let Range { start, end } = own;
    Error::operator(format!(
        "a record of key group {key_group} reached the subtask of key groups {start}..{end}: keyed state needs records \
         that come over `key_by`"
    ))
}

#[cfg(test)]
mod tests;
