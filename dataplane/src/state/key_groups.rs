//! Which key groups a subtask owns, and which of them a key is in.
//!
//! Owns: [`OwnedKeyGroups`]. Invariant: an index it gives is below the number of owned key groups; a key of another subtask
//! is refused. Left out: what is kept for each ([`crate::state::backend`], [`crate::state::timers`]).

use std::ops::Range;

use ringflow_schemas::key_group::{self, KeyGroupOf};

use crate::error::Result;
use crate::state::foreign;

/// The key groups of one subtask.
#[derive(Debug, Clone)]
pub(crate) struct OwnedKeyGroups {
    range: Range<u32>,
    of: KeyGroupOf,
}

impl OwnedKeyGroups {
    /// Those of subtask `subtask_index` of `parallelism`, of `max_parallelism` in all.
    pub(crate) fn new(subtask_index: u32, parallelism: u32, max_parallelism: u32) -> Self {
        Self {
            range: key_group::range(subtask_index, max_parallelism, parallelism),
            of: KeyGroupOf::new(max_parallelism),
        }
    }

    pub(crate) fn range(&self) -> Range<u32> {
        self.range.clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.range.len()
    }

    /// Where the key group of a key is among the owned ones.
    ///
    /// # Errors
    /// It is not among them: records did not come over an edge keyed as this state is.
    #[inline]
    pub(crate) fn index(&self, key_hash: u32) -> Result<usize> {
        self.index_if_owned(key_hash)
            .ok_or_else(|| foreign(self.of.key_group(key_hash), &self.range))
    }

    #[inline]
    pub(crate) fn index_if_owned(&self, key_hash: u32) -> Option<usize> {
        let index = self.of.key_group(key_hash).wrapping_sub(self.range.start) as usize;
        (index < self.range.len()).then_some(index)
    }

    /// Where a key group is among the owned ones.
    pub(crate) fn position(&self, key_group: u32) -> Option<usize> {
        let owned = self.range.contains(&key_group);
        owned.then(|| (key_group - self.range.start) as usize)
    }
}
