//! Where records come from: readers that a core polls, and the output they write to.
//!
//! Owns: [`SourceFactory`], [`SourceReader`], [`SourceOutput`]. A factory is part of a program and lives in every
//! TaskManager; `prepare` runs on a housekeeping thread (connect, create clients), the reader then moves to its core.
//! Invariant: `poll` never blocks and never waits; a reader with nothing to give says when to look again, or rings the
//! core's doorbell when something comes.
//! Left out: which splits a subtask reads (the control plane assigns them).

use std::os::fd::RawFd;
use std::sync::Arc;

use crate::batch::Run;
use crate::error::Result;
use crate::limits::RUN_RECORDS;
use crate::operator::chain::Chain;
use crate::record::{EventTime, RecordRef, RowKind};
use crate::runtime::context::PrepareContext;
use crate::source::watermark::SplitWatermarks;
use crate::state::operator_state::OperatorStateStore;

pub mod alignment;
pub mod kafka;
pub mod pace;
pub mod watermark;

/// Builds the readers of one source operator.
pub trait SourceFactory: Send + Sync {
    /// Builds the reader of one subtask. Runs on a housekeeping thread and may block for seconds.
    ///
    /// # Errors
    /// The source cannot be read: the broker is unreachable, a topic is missing. The message says what to do.
    fn prepare(&self, context: &PrepareContext) -> Result<Box<dyn SourceReader>>;

    /// The source divides itself over its subtasks (a generator): each subtask has one split that nobody assigned.
    fn divides_itself(&self) -> bool {
        false
    }
}

/// What a poll found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceProgress {
    /// Records were emitted and more may be ready now.
    More,
    /// Nothing more is ready.
    Idle {
        /// Look again at this monotonic time at the latest; `None`: the doorbell will ring.
        until_ns: Option<u64>,
    },
    /// The source is bounded and has given its last record.
    Finished,
}

/// One subtask's reader. Lives on the subtask's core after [`SourceReader::open`].
pub trait SourceReader: Send {
    /// First call on the core.
    ///
    /// Shape: `doorbell_fd` is the core's eventfd: writing a native-endian `u64` 1 to it wakes the core; it stays open
    /// as long as the reader lives.
    ///
    /// # Errors
    /// The reader cannot start.
    fn open(&mut self, doorbell_fd: RawFd) -> Result<()>;

    /// Emits at most `records_max` records, and stops early when `output.is_blocked()`.
    ///
    /// Cost: never blocks, never waits.
    ///
    /// # Errors
    /// The source or an operator behind it failed: the subtask fails.
    fn poll(&mut self, records_max: usize, output: &mut SourceOutput<'_>)
    -> Result<SourceProgress>;

    /// Its operator state, where it keeps its positions in some: a checkpoint takes a snapshot of it, and a restore fills it before
    /// [`SourceReader::open`].
    fn operator_state(&mut self) -> Option<&mut OperatorStateStore> {
        None
    }

    /// Records known to wait outside (Kafka's lag), when the reader knows it.
    fn pending_records(&self) -> Option<u64> {
        None
    }
}

/// Reads the event time out of a record's bytes; the typed closure of a watermark strategy, erased.
pub type TimestampAssigner = Arc<dyn Fn(&[u8]) -> EventTime + Send + Sync>;

/// Where a reader writes: the head of the chain, with timestamps and watermarks of each split taken on the way.
#[allow(
    missing_debug_implementations,
    reason = "borrows a chain of boxed operators"
)]
pub struct SourceOutput<'a> {
    pub(crate) chain: &'a mut Chain,
    pub(crate) watermarks: &'a mut SplitWatermarks,
    pub(crate) assigner: Option<&'a TimestampAssigner>,
    pub(crate) now_ns: u64,
    pub(crate) wall_ns: u64,
    pub(crate) records: u64,
    pub(crate) bad_records: u64,
    /// `origin_ns` of the newest record, for the watermark that speaks of it.
    pub(crate) origin_ns: u64,
}

impl SourceOutput<'_> {
    /// Emits one record of the reader's split number `split` (0.. in the order of the assignment).
    ///
    /// Shape: `timestamp` is the source's own (Kafka's); a watermark strategy's assigner replaces it.
    /// `origin_ns` as in [`RecordRef::origin_ns`].
    ///
    /// # Errors
    /// An operator of the chain failed.
    #[inline]
    pub fn emit(
        &mut self,
        split: usize,
        bytes: &[u8],
        timestamp: EventTime,
        origin_ns: u64,
    ) -> Result<()> {
        let timestamp = match self.assigner {
            Some(assigner) => assigner(bytes),
            None => timestamp,
        };
        self.watermarks.on_record(split, timestamp, self.now_ns);
        self.origin_ns = origin_ns.max(self.origin_ns);
        self.records += 1;
        let record = RecordRef {
            bytes,
            timestamp,
            key_hash: 0,
            kind: RowKind::Insert,
            origin_ns,
        };
        if self.watermarks.is_custom() {
            self.watermarks.on_event(split, &record);
        }
        self.chain.on_record(&record)
    }

    /// Emits several records of `size` bytes each, one behind the other in `bytes`, at one time and of one origin. The rest is as
    /// in [`SourceOutput::emit`].
    ///
    /// # Errors
    /// An operator of the chain failed.
    pub fn emit_run(
        &mut self,
        split: usize,
        bytes: &[u8],
        size: usize,
        timestamp: EventTime,
        origin_ns: u64,
    ) -> Result<()> {
        let as_runs = self.chain.takes_runs() && self.assigner.is_none();
        if !as_runs || self.watermarks.tracks_records() {
            return bytes
                .chunks_exact(size.max(1))
                .try_for_each(|record| self.emit(split, record, timestamp, origin_ns));
        }
        self.origin_ns = origin_ns.max(self.origin_ns);
        for bytes in bytes.chunks(RUN_RECORDS * size.max(1)) {
            let run = Run::of_payloads(bytes, size, timestamp, origin_ns);
            if !run.is_empty() {
                self.records += run.len() as u64;
                self.chain.on_run(&run)?;
            }
        }
        Ok(())
    }

    /// Counts one payload that is no valid record and was skipped.
    pub fn count_bad_record(&mut self) {
        self.bad_records += 1;
    }

    /// Marks a split as having reached its end; it holds no watermark back any more.
    pub fn finish_split(&mut self, split: usize) {
        self.watermarks.finish_split(split);
    }

    /// The split is not held back for others of its alignment group: read it. Records of one that is are taken all the same.
    #[must_use]
    pub fn may_read(&self, split: usize) -> bool {
        self.watermarks.may_read(split)
    }

    /// The chain's outputs can take no more now: return from `poll`.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.chain.is_blocked()
    }

    /// Monotonic time at the start of this poll, in nanoseconds.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Nanoseconds since the epoch at the start of this poll, for `origin_ns`.
    #[must_use]
    pub fn wall_ns(&self) -> u64 {
        self.wall_ns
    }
}
