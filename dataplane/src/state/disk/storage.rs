//! State on local disk of one TaskManager: its directory, its memory, and the threads that write and compact.
//!
//! Owns: [`DiskStorage`], [`DiskOptions`], [`StateThreads`]. A pair of threads for up to [`STATE_THREAD_PAIRS_MAX`] housekeeping
//! cores: one writes batches, one compacts. They start when the TaskManager does, on its housekeeping cores. A tree belongs to one
//! pair, so it is compacted by one thread at a time.
//! Invariant: block cache, tables in memory and what writing needs stay within the memory given, however many operators there are:
//! each has an equal share.
//! Left out: what is written (`disk::tree`).

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use lsm_tree::{Cache, DescriptorTable};

use crate::error::{Error, Result};
use crate::limits::{
    STATE_FILES_OPEN, STATE_SHARE_BYTES_MIN, STATE_STOP_TIMEOUT_S, STATE_THREAD_PAIRS_MAX,
};
use crate::state::disk::directory::StateDirectory;
use crate::state::disk::tree::{Rows, StateTree};

/// How a TaskManager keeps state on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskOptions {
    /// Where; `None`: a directory of its own under the system's one for temporary files.
    pub directory: Option<PathBuf>,
    /// Memory for block cache and tables of all its operators, in bytes.
    pub memory_bytes: usize,
}

/// What the writing thread does.
pub(super) enum Job {
    Write(Arc<StateTree>, Arc<Rows>),
    /// Memory that is given back off the core.
    Discard(Arc<Rows>),
    /// The tree's operator has gone.
    Remove(Arc<StateTree>),
    Stop,
}

/// Where operators find their trees. Lives: one per TaskManager, shared by its cores.
pub struct DiskStorage {
    directory: StateDirectory,
    /// Of all active and frozen tables, in bytes.
    tables_bytes: usize,
    memory_bytes: usize,
    /// Least share of an operator.
    share_min: usize,
    cache: Arc<Cache>,
    descriptors: Arc<DescriptorTable>,
    /// Operators that are open. Written by the cores as they open and close them.
    open: AtomicUsize,
    opened: AtomicU64,
    writers: Vec<Sender<Job>>,
    stopping: Arc<AtomicBool>,
}

/// The threads of a [`DiskStorage`]: dropping it ends them and removes the directory.
#[derive(Debug)]
pub struct StateThreads {
    storage: Arc<DiskStorage>,
    /// Says nothing; ends when all threads have.
    ended: Receiver<()>,
}

impl std::fmt::Debug for DiskStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskStorage")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl DiskStorage {
    /// Takes the directory and starts the threads, which run on the CPUs of the calling thread.
    ///
    /// # Errors
    /// The directory cannot be used, or belongs to another TaskManager; no threads.
    pub fn start(
        options: &DiskOptions,
        housekeeping_cores: usize,
    ) -> Result<(Arc<Self>, StateThreads)> {
        let directory = StateDirectory::take(options.directory.as_deref())?;
        Self::start_in(
            directory,
            options,
            housekeeping_cores,
            STATE_SHARE_BYTES_MIN,
        )
    }

    /// With shares of any size, in a directory of its own in `base`.
    #[cfg(test)]
    pub(super) fn of_any_size(
        base: &std::path::Path,
        options: &DiskOptions,
    ) -> Result<(Arc<Self>, StateThreads)> {
        Self::start_in(StateDirectory::take_temporary(base)?, options, 1, 0)
    }

    fn start_in(
        directory: StateDirectory,
        options: &DiskOptions,
        housekeeping_cores: usize,
        share_min: usize,
    ) -> Result<(Arc<Self>, StateThreads)> {
        // A quarter for blocks, a quarter for what writing, compacting and the allocator take beside, half for tables.
        let cache = options.memory_bytes / 4;
        let working = options.memory_bytes / 4;
        let stopping = Arc::new(AtomicBool::new(false));
        let (alive, ended) = channel();
        let mut writers = Vec::new();
        for index in 0..housekeeping_cores.clamp(1, STATE_THREAD_PAIRS_MAX) {
            writers.push(start_pair(index, &stopping, &alive)?);
        }
        let storage = Arc::new(Self {
            directory,
            tables_bytes: options.memory_bytes - cache - working,
            memory_bytes: options.memory_bytes,
            share_min,
            cache: Arc::new(Cache::with_capacity_bytes(cache as u64)),
            descriptors: Arc::new(DescriptorTable::new(STATE_FILES_OPEN)),
            open: AtomicUsize::new(0),
            opened: AtomicU64::new(0),
            writers,
            stopping,
        });
        let threads = StateThreads {
            storage: Arc::clone(&storage),
            ended,
        };
        Ok((storage, threads))
    }

    /// Where the files are.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Bytes that the active tables of one operator may take: with the frozen batch, and a quarter more while that is being
    /// written, they are its share.
    #[inline]
    pub(super) fn active_bytes(&self) -> usize {
        let share = self.tables_bytes / self.open.load(Ordering::Relaxed).max(1);
        share / 9 * 4
    }

    /// A tree for one more operator.
    ///
    /// # Errors
    /// The share of each would be too small.
    pub(super) fn open(&self) -> Result<Arc<StateTree>> {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        if self.tables_bytes / open < self.share_min {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::operator(format!(
                "{} bytes of state memory are too little for {open} subtasks with state on disk: each needs {STATE_SHARE_BYTES_MIN} \
                 of the half that is for tables; raise --memory",
                self.memory_bytes
            )));
        }
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let directory = self.directory.path().join(format!("{number}"));
        let (cache, descriptors) = (Arc::clone(&self.cache), Arc::clone(&self.descriptors));
        Ok(Arc::new(StateTree::new(
            number,
            directory,
            cache,
            descriptors,
        )))
    }

    /// Gives the writing thread of a tree something to do.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn submit(&self, tree: &StateTree, job: Job) -> Result<()> {
        let pair = usize::try_from(tree.number()).unwrap_or(0) % self.writers.len();
        let sent = self.writers[pair].send(job);
        sent.map_err(|_| {
            Error::operator(
                "the thread that writes state to disk has ended: look at the TaskManager's log",
            )
        })
    }

    /// The operator of a tree is gone, and so are its rows.
    pub(super) fn close(&self, tree: &Arc<StateTree>, rows: Vec<Arc<Rows>>) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        for rows in rows {
            drop(self.submit(tree, Job::Discard(rows)));
        }
        // Without the thread the directory goes as a whole.
        drop(self.submit(tree, Job::Remove(Arc::clone(tree))));
    }
}

impl Drop for StateThreads {
    fn drop(&mut self) {
        self.storage.stopping.store(true, Ordering::Release);
        for writer in &self.storage.writers {
            drop(writer.send(Job::Stop));
        }
        let timeout = Duration::from_secs(STATE_STOP_TIMEOUT_S);
        if self.ended.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a compaction of state goes on while its files are removed");
        }
        self.storage.directory.remove();
    }
}

/// A thread that writes and one that compacts what the first has written.
fn start_pair(index: usize, stopping: &Arc<AtomicBool>, alive: &Sender<()>) -> Result<Sender<Job>> {
    let (jobs, arrived) = channel();
    let (written, grown) = channel();
    let flag = Arc::clone(stopping);
    start_thread(format!("rf-state-w{index}"), alive, move || {
        write(&arrived, &written, &flag)
    })?;
    start_thread(format!("rf-state-c{index}"), alive, move || compact(&grown))?;
    Ok(jobs)
}

fn start_thread(
    name: String,
    alive: &Sender<()>,
    run: impl FnOnce() + Send + 'static,
) -> Result<()> {
    let alive = alive.clone();
    let started = std::thread::Builder::new().name(name).spawn(move || {
        run();
        drop(alive);
    });
    let started = started.map_err(|error| {
        Error::deployment(format!("cannot start a thread for state on disk: {error}"))
    });
    started.map(drop)
}

fn write(jobs: &Receiver<Job>, written: &Sender<Arc<StateTree>>, stopping: &AtomicBool) {
    for job in jobs {
        match job {
            Job::Write(tree, rows) => {
                guarded(&tree, || {
                    tree.wait_for_compaction(stopping);
                    tree.write(&rows);
                });
                rows.set_written();
                drop(written.send(tree));
            }
            Job::Discard(rows) => drop(rows),
            Job::Remove(tree) => {
                let directory = tree.directory().to_owned();
                drop(tree);
                // It may never have had files; and what stays goes with the whole directory.
                drop(std::fs::remove_dir_all(directory));
            }
            Job::Stop => break,
        }
    }
}

fn compact(grown: &Receiver<Arc<StateTree>>) {
    for tree in grown {
        guarded(&tree, || tree.compact());
    }
}

/// Makes a panic of the library a failure of that tree.
fn guarded(tree: &StateTree, run: impl FnOnce()) {
    if std::panic::catch_unwind(AssertUnwindSafe(run)).is_err() {
        tree.fail("the storage library panicked");
    }
}
