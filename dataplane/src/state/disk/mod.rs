//! State on local disk, for more of it than memory holds.
//!
//! ```text
//!  place    what a value, list and map are in rows
//!  rows     the newest rows in memory, all of them in a tree
//!  tree     one LSM tree                        storage    directory, memory and threads of a TaskManager
//!  row      keys of rows                        directory  whose it is, and who removes it
//! ```
//! Owns: [`StateStorage`], which says where the state of a TaskManager's operators is.
//! Invariant: a data core writes to memory only. It waits for a disk in two cases: a read of a row that is not in memory reads
//! the tree, which is a disk read where the page cache does not have the block; and when tables fill faster than they are written,
//! the core stops until one is.
//! Left out: timers and broadcast state, which stay in memory; and writing what must outlive the process (checkpoints).

use std::sync::Arc;

mod directory;
pub(crate) mod place;
mod row;
pub(crate) mod rows;
pub mod storage;
mod tree;

pub use storage::{DiskOptions, DiskStorage, StateThreads};

/// Where operators keep their state.
#[derive(Debug, Clone, Default)]
pub enum StateStorage {
    /// In tables in memory (Flink's `hashmap`).
    #[default]
    HashMap,
    /// In LSM trees on local disk.
    Disk(Arc<DiskStorage>),
}

#[cfg(test)]
pub(crate) mod tests;
