//! One LSM tree on disk: the rows of one operator in one subtask that do not fit into memory.
//!
//! Owns: [`StateTree`], [`Rows`] (a batch on its way into it). Files appear with the first batch, so small state never touches the
//! disk. There is no write-ahead log: what must survive a process is in checkpoints.
//! Invariant: batches are written in the order in which they were handed over, by one thread; a batch is visible in the tree
//! before it says that it is written. Once anything failed, nothing is written any more.
//! Left out: who writes and compacts when ([`crate::state::disk::storage`]).

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use lsm_tree::compaction::Leveled;
use lsm_tree::{
    AbstractTree, AnyTree, Cache, Config, DescriptorTable, Guard, SeqNo, SequenceNumberCounter,
    Slice,
};

use crate::error::{Error, Result};
use crate::limits::{STATE_LEVEL_0_RUNS_MAX, STATE_TABLE_BYTES};
use crate::state::byte_table::ByteTable;

/// Reads see the newest version there is. Not one by its number: while a number is on its way, compaction may drop its version.
const NEWEST: SeqNo = SeqNo::MAX;

/// How long who waits sleeps before it looks again by itself.
const WAIT: Duration = Duration::from_millis(5);

/// What the last byte of a row in memory says of it.
pub(super) mod mark {
    /// As in the tree, or in the batch before.
    pub(in crate::state::disk) const CLEAN: u8 = 0;
    /// To be written.
    pub(in crate::state::disk) const DIRTY: u8 = 1;
    /// Taken out, and to be taken out of the tree.
    pub(in crate::state::disk) const REMOVED: u8 = 2;
}

/// Rows in memory, by owned key group: the keys are row keys, the values have a byte of [`mark`] at their end.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) groups: Box<[ByteTable]>,
    /// Set once, by the writing thread.
    written: AtomicBool,
    /// The core, once it waits.
    waiter: OnceLock<Thread>,
}

impl Rows {
    pub(super) fn new(groups: Box<[ByteTable]>) -> Self {
        Self {
            groups,
            written: AtomicBool::new(false),
            waiter: OnceLock::new(),
        }
    }

    /// The tree has them.
    pub(super) fn is_written(&self) -> bool {
        self.written.load(Ordering::Acquire)
    }

    /// Blocks until the tree has them, or will not get them. For the core alone.
    pub(super) fn wait(&self) {
        self.waiter.get_or_init(std::thread::current);
        while !self.is_written() {
            // Whoever writes may have looked for a waiter just before: look again from time to time.
            std::thread::park_timeout(WAIT);
        }
    }

    /// Lets the core go on if it waits.
    pub(super) fn set_written(&self) {
        self.written.store(true, Ordering::Release);
        if let Some(waiter) = self.waiter.get() {
            waiter.unpark();
        }
    }
}

/// Splits a stored row into its value and its mark.
#[inline]
pub(super) fn unmark(stored: &[u8]) -> (&[u8], u8) {
    match stored.split_last() {
        Some((mark, value)) => (value, *mark),
        None => (&[], mark::CLEAN),
    }
}

/// The tree. Lives: shared by its operator, which reads on its core, and the two threads that write and compact.
pub(super) struct StateTree {
    /// Of all trees of a TaskManager.
    number: u64,
    directory: PathBuf,
    cache: Arc<Cache>,
    descriptors: Arc<DescriptorTable>,
    next: SequenceNumberCounter,
    visible: SequenceNumberCounter,
    tree: OnceLock<AnyTree>,
    failed: AtomicBool,
    failure: OnceLock<String>,
    /// Its operator is gone: what is left to do is to remove the files.
    pub(super) abandoned: AtomicBool,
}

impl std::fmt::Debug for StateTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateTree")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl StateTree {
    pub(super) fn new(
        number: u64,
        directory: PathBuf,
        cache: Arc<Cache>,
        descriptors: Arc<DescriptorTable>,
    ) -> Self {
        Self {
            number,
            directory,
            cache,
            descriptors,
            next: SequenceNumberCounter::default(),
            visible: SequenceNumberCounter::default(),
            tree: OnceLock::new(),
            failed: AtomicBool::new(false),
            failure: OnceLock::new(),
            abandoned: AtomicBool::new(false),
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Something was written to disk.
    #[inline]
    pub(super) fn exists(&self) -> bool {
        self.tree.get().is_some()
    }

    /// The value of a row.
    ///
    /// Cost: a look at the filters of every level, and mostly one block, from the block cache, the system's page cache or the
    /// disk: the core waits for it.
    ///
    /// # Errors
    /// The files cannot be read.
    #[inline]
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Slice>> {
        match self.tree.get() {
            None => Ok(None),
            Some(tree) => tree
                .get(key, NEWEST)
                .map_err(|error| self.unreadable(&error)),
        }
    }

    /// Calls `visit` with the rows of a range, in order, until it says `false`.
    ///
    /// # Errors
    /// The files cannot be read; or what `visit` returns.
    pub(super) fn scan(
        &self,
        range: Range<Vec<u8>>,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let Some(tree) = self.tree.get() else {
            return Ok(());
        };
        for row in tree.range(range, NEWEST, None) {
            let (key, value) = row.into_inner().map_err(|error| self.unreadable(&error))?;
            if !visit(&key, &value)? {
                break;
            }
        }
        Ok(())
    }

    /// # Errors
    /// Writing or compacting failed.
    #[inline]
    pub(super) fn check(&self) -> Result<()> {
        if self.failed.load(Ordering::Relaxed) {
            Err(self.failed())
        } else {
            Ok(())
        }
    }

    #[cold]
    fn failed(&self) -> Error {
        Error::operator(
            self.failure
                .get()
                .map_or("state cannot be written", String::as_str),
        )
    }

    #[cold]
    fn unreadable(&self, error: &lsm_tree::Error) -> Error {
        Error::operator(format!(
            "state cannot be read from {}: {}; look at that disk and its messages in `dmesg`",
            self.directory.display(),
            cause(error)
        ))
    }

    /// Nothing can be written any more: the operator fails with its next access.
    pub(super) fn fail(&self, why: &str) {
        drop(self.failure.set(format!(
            "state cannot be written to {}: {why}; make room there, or choose another directory with --state-dir",
            self.directory.display()
        )));
        self.failed.store(true, Ordering::Release);
    }

    /// Writes the changed rows of a batch. On the writing thread.
    pub(super) fn write(&self, rows: &Rows) {
        if !self.is_given_up()
            && let Err(error) = self.try_write(rows)
        {
            self.fail(&cause(&error));
        }
        rows.set_written();
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.failed.load(Ordering::Acquire) || self.abandoned.load(Ordering::Acquire)
    }

    fn try_write(&self, rows: &Rows) -> lsm_tree::Result<()> {
        let tree = match self.tree.get() {
            Some(tree) => tree,
            None => {
                std::fs::create_dir_all(&self.directory)?;
                let config = Config::new(&self.directory, self.next.clone(), self.visible.clone())
                    .use_cache(Arc::clone(&self.cache))
                    .use_descriptor_table(Some(Arc::clone(&self.descriptors)));
                let tree = config.open()?;
                self.tree.get_or_init(|| tree)
            }
        };
        let mut ingestion = tree.ingestion()?;
        let mut sorted = Vec::new();
        for table in &rows.groups {
            sorted.clear();
            sorted.extend(table.iter().filter_map(|(_, entry)| {
                let (key, _) = table.address(entry);
                let (_, mark) = unmark(table.value(entry));
                (mark != mark::CLEAN).then_some((key, entry))
            }));
            sorted.sort_unstable_by_key(|(key, _)| *key);
            for (key, entry) in &sorted {
                match unmark(table.value(*entry)) {
                    (_, mark::REMOVED) => ingestion.write_tombstone(*key)?,
                    (value, _) => ingestion.write(*key, value)?,
                }
            }
        }
        ingestion.finish()
    }

    /// Merges tables until every level is as small as it should be. On the compacting thread.
    pub(super) fn compact(&self) {
        let Some(tree) = self.tree.get() else {
            return;
        };
        let strategy = Arc::new(Leveled::default().with_table_target_size(STATE_TABLE_BYTES));
        while !self.is_given_up() {
            let before = shape(tree);
            let strategy: Arc<Leveled> = Arc::clone(&strategy);
            if let Err(error) = tree.compact(strategy, self.visible.get()) {
                self.fail(&cause(&error));
            }
            if shape(tree) == before {
                break;
            }
        }
    }

    /// Blocks while so many unmerged batches lie in the tree that reads get slow. On the writing thread.
    pub(super) fn wait_for_compaction(&self, stopping: &AtomicBool) {
        let Some(tree) = self.tree.get() else {
            return;
        };
        while tree.l0_run_count() > STATE_LEVEL_0_RUNS_MAX
            && !self.is_given_up()
            && !stopping.load(Ordering::Acquire)
        {
            std::thread::park_timeout(WAIT);
        }
    }
}

/// Changes with every compaction that did something.
fn shape(tree: &AnyTree) -> ([usize; 7], u64) {
    let tables = std::array::from_fn(|level| tree.level_table_count(level).unwrap_or(0));
    (tables, tree.next_table_id())
}

/// The system's words where it is the system's error.
fn cause(error: &lsm_tree::Error) -> String {
    match error {
        lsm_tree::Error::Io(error) => error.to_string(),
        other => format!("{other:?}"),
    }
}
