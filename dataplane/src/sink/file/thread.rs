//! The thread that does what blocks: one per subtask of a file sink, on the housekeeping cores.
//!
//! ```text
//!   data core --submit--> jobs (bounded) --> thread --> reports, then the flag, then the core's bell
//!             <------------------------- serve --------
//! ```
//! Owns: [`FileThread`] (the core's end), [`Job`], [`Reports`] (the thread's end).
//! Invariant: jobs are done in order, and each leaves one report; at most `FILE_QUEUE_JOBS` are without one. The core
//! never waits: a look at no reports is one load. The thread ends when the core's end is dropped, after the jobs that
//! it was given; open files stay as they are, hidden.
//! Left out: what is written ([`super::buckets`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, channel, sync_channel,
};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::limits::FILE_QUEUE_JOBS;
use crate::runtime::clock::Clock;
use crate::runtime::doorbell::Bell;
use crate::sink::file::block::Block;
use crate::sink::file::buckets::Buckets;
use crate::sink::file::disk::FileError;

/// Something to do.
#[derive(Debug)]
pub(super) enum Job {
    Write(Block),
    /// Finish the open files of these buckets.
    Finish(Vec<String>),
    FinishAll,
    /// Mark these partitions as complete.
    Commit(Vec<String>),
}

/// What became of a job.
#[derive(Debug)]
pub(super) enum Report {
    /// The rows are in their files. The block comes back to be filled again.
    Written(Block),
    Done,
    /// Nothing more is done after this.
    Failed(FileError),
}

/// Raised by the thread when there are reports, lowered by the core.
#[derive(Debug, Default)]
struct Signal {
    raised: AtomicBool,
    /// Set once by the core.
    bell: OnceLock<Bell>,
}

impl Signal {
    fn raise(&self) {
        // One that was up already has rung and was not looked at since.
        if !self.raised.swap(true, Ordering::AcqRel)
            && let Some(bell) = self.bell.get()
        {
            bell.ring();
        }
    }
}

/// Where the thread reports. Dropping it, however the thread ends, is told too.
#[derive(Debug)]
pub(super) struct Reports {
    sender: Option<Sender<Report>>,
    signal: Arc<Signal>,
}

impl Reports {
    pub(super) fn send(&self, report: Report) {
        if let Some(sender) = &self.sender {
            // Without a core nobody wants it.
            drop(sender.send(report));
            self.signal.raise();
        }
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        self.sender = None;
        self.signal.raise();
    }
}

/// The core's end.
#[derive(Debug)]
pub(super) struct FileThread {
    jobs: SyncSender<Job>,
    reports: Receiver<Report>,
    signal: Arc<Signal>,
    /// Jobs without a report.
    outstanding: usize,
}

impl FileThread {
    /// Starts the thread that looks after `buckets`, on the CPUs of the calling thread, which is a housekeeping one.
    ///
    /// # Errors
    /// The process may have no more threads.
    pub(super) fn start(subtask_index: u32, buckets: Buckets, clock: Clock) -> Result<Self> {
        Self::start_with(subtask_index, move |jobs, reports| {
            run(buckets, &jobs, &reports, clock);
        })
    }

    pub(super) fn start_with(
        subtask_index: u32,
        run: impl FnOnce(Receiver<Job>, Reports) + Send + 'static,
    ) -> Result<Self> {
        let (jobs, arrived) = sync_channel(FILE_QUEUE_JOBS);
        let (sender, reports) = channel();
        let signal = Arc::new(Signal::default());
        let end = Reports {
            sender: Some(sender),
            signal: Arc::clone(&signal),
        };
        let started = std::thread::Builder::new()
            .name(format!("rf-file-{subtask_index}"))
            .spawn(move || run(arrived, end));
        started.map_err(|error| {
            Error::deployment(format!(
                "cannot start a thread that writes files: {error}; raise the limit of processes (`ulimit -u`)"
            ))
        })?;
        Ok(Self {
            jobs,
            reports,
            signal,
            outstanding: 0,
        })
    }

    /// From now on, reports ring the bell.
    pub(super) fn ring(&self, bell: Bell) {
        // An operator is opened once; a report that was sent before is found at the next look.
        drop(self.signal.bell.set(bell));
    }

    /// One more job may be submitted.
    pub(super) const fn has_room(&self) -> bool {
        self.outstanding < FILE_QUEUE_JOBS
    }

    /// All jobs are done.
    pub(super) const fn is_idle(&self) -> bool {
        self.outstanding == 0
    }

    /// Gives the thread something to do. Only where there is room.
    ///
    /// # Errors
    /// The thread has ended.
    pub(super) fn submit(&mut self, job: Job) -> Result<()> {
        debug_assert!(self.has_room(), "asked before");
        self.jobs.try_send(job).map_err(|_| ended())?;
        self.outstanding += 1;
        Ok(())
    }

    /// Takes reports; calls `written` with each block whose rows are in their files.
    ///
    /// # Errors
    /// A job failed: path and cause.
    pub(super) fn serve(&mut self, mut written: impl FnMut(Block)) -> Result<()> {
        let raised = &self.signal.raised;
        // Lowered before it is looked, so that what comes meanwhile raises it again.
        if !raised.load(Ordering::Relaxed) || !raised.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        loop {
            match self.reports.try_recv() {
                Ok(Report::Written(block)) => {
                    self.outstanding -= 1;
                    written(block);
                }
                Ok(Report::Done) => self.outstanding -= 1,
                Ok(Report::Failed(error)) => return Err(Error::operator(error.to_string())),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(ended()),
            }
        }
    }
}

fn ended() -> Error {
    Error::operator("the thread that writes files has ended: look at the TaskManager's log")
}

/// The thread: does jobs, and rolls files that are due by time.
fn run(mut buckets: Buckets, jobs: &Receiver<Job>, reports: &Reports, clock: Clock) {
    loop {
        let job = match buckets.next_due_ns() {
            Some(due_ns) => {
                let wait_ns = due_ns.saturating_sub(clock.now_ns());
                jobs.recv_timeout(Duration::from_nanos(wait_ns))
            }
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let now_ns = clock.now_ns();
        let done = match job {
            Ok(job) => work(&mut buckets, job, now_ns).map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        match done.and_then(|report| buckets.roll(now_ns).map(|()| report)) {
            Ok(Some(report)) => reports.send(report),
            Ok(None) => {}
            Err(error) => return reports.send(Report::Failed(error)),
        }
    }
}

fn work(buckets: &mut Buckets, job: Job, now_ns: u64) -> Result<Report, FileError> {
    match job {
        Job::Write(block) => {
            buckets.write(&block, now_ns)?;
            return Ok(Report::Written(block));
        }
        Job::Finish(of) => of.iter().try_for_each(|bucket| buckets.finish(bucket))?,
        Job::FinishAll => buckets.finish_all()?,
        Job::Commit(of) => of.iter().try_for_each(|bucket| buckets.commit(bucket))?,
    }
    Ok(Report::Done)
}
