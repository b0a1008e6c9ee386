//! Drawing job ids.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use ringflow_schemas::id::JobId;

use crate::time::Timestamp;

/// A job id that no other has: two keyed hashes, whose keys the operating system drew.
pub(crate) fn job_id(now: Timestamp, number: u64) -> JobId {
    let half = || RandomState::new().hash_one((now, number));
    JobId::from_halves(half(), half())
}
