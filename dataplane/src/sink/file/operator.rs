//! The writer of one subtask, on its data core.
//!
//! Owns: [`FileWriter`]. Rows are encoded into a block, which goes to the sink's thread when it is full, or with the
//! next turn when that thread has nothing else to do: so rows leave at once while it is quiet, and in large blocks
//! under load.
//! Invariant: a record counts (`sink_records`, latency) when its row is in its file; while a full block finds the queue
//! full, the chain is blocked. A watermark that completes partitions leaves only after their files are finished and the
//! committer has been told. The end of input is done when all files are finished.
//! Left out: files ([`super::buckets`]); checkpoints, with which files would be finished at their completion.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::rc::Rc;

use crate::element::StopMode;
use crate::error::{Error, Result};
use crate::metrics::{SubtaskMetrics, add};
use crate::operator::chain::Output;
use crate::operator::{Operator, Progress};
use crate::record::{EventTime, RecordRef, RowKind};
use crate::runtime::clock::Clock;
use crate::runtime::context::OpenContext;
use crate::runtime::doorbell::Bell;
use crate::runtime::on_core::OnCore;
use crate::sink::file::block::Block;
use crate::sink::file::bucket::check_bucket;
use crate::sink::file::committable::{Committable, is_complete};
use crate::sink::file::thread::{FileThread, Job};
use crate::sink::file::{BucketAssigner, PartitionCommit, RowEncoder};

/// What makes rows and buckets of records.
#[derive(Clone)]
pub(super) struct Rows {
    pub(super) encoder: RowEncoder,
    pub(super) assigner: Option<BucketAssigner>,
    pub(super) commit: Option<PartitionCommit>,
    pub(super) all_row_kinds: bool,
    /// A block of this size is full.
    pub(super) block_bytes: usize,
}

/// How far finishing files has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finishing {
    No,
    /// Files of the partitions that are complete, or all, once what is gathered is handed over.
    Begin {
        all: bool,
    },
    /// The thread is at it.
    Wait,
    /// Files are finished: the committer is to hear of it.
    Tell,
}

/// Writes the records of one subtask to files.
pub struct FileWriter {
    rows: Rows,
    subtask_index: u32,
    block: Block,
    /// Blocks to be filled again.
    spare: Vec<Block>,
    /// The bucket of the record at hand.
    bucket: String,
    /// The last one that came.
    watermark: EventTime,
    /// Partitions of which files may be open, and the time that completes them; where there is a commit. Memory: an
    /// entry for each.
    partitions: HashMap<String, EventTime>,
    /// The least of these times.
    next_complete: EventTime,
    /// Complete partitions whose files are being finished.
    complete: VecDeque<String>,
    finishing: Finishing,
    committable: Vec<u8>,
    on_core: OnCore<(Rc<Clock>, Rc<SubtaskMetrics>)>,
    thread: FileThread,
}

impl FileWriter {
    pub(super) fn new(rows: Rows, subtask_index: u32, thread: FileThread) -> Self {
        Self {
            rows,
            subtask_index,
            block: Block::default(),
            spare: Vec::new(),
            bucket: String::new(),
            watermark: EventTime::NONE,
            partitions: HashMap::new(),
            next_complete: EventTime::MAX,
            complete: VecDeque::new(),
            finishing: Finishing::No,
            committable: Vec::new(),
            on_core: OnCore::empty(),
            thread,
        }
    }

    /// The rows that follow are of another bucket than the last one.
    fn begin_bucket(&mut self, output: &mut Output) -> Result<()> {
        let bucket = self.bucket.as_str();
        if let Some(commit) = &self.rows.commit {
            if !self.partitions.contains_key(bucket) {
                check(bucket)?;
                let time = commit.completed_by(bucket, self.watermark);
                let time = time.ok_or_else(|| no_time(bucket))?;
                let committable = Committable {
                    open: true,
                    subtask_index: self.subtask_index,
                    time,
                    bucket,
                };
                committable.send(&mut self.committable, output)?;
                self.partitions.insert(bucket.to_owned(), time);
                self.next_complete = self.next_complete.min(time);
            }
        } else {
            check(bucket)?;
        }
        self.block.begin(bucket);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.block.bytes() >= self.rows.block_bytes
    }

    /// Gives the block to the thread, if there is something in it and the queue has room.
    fn hand_over(&mut self) -> Result<()> {
        if self.block.is_empty() || !self.thread.has_room() {
            return Ok(());
        }
        let next = self.spare.pop().unwrap_or_default();
        let block = std::mem::replace(&mut self.block, next);
        self.thread.submit(Job::Write(block))
    }

    /// Counts what was written.
    fn serve(&mut self) -> Result<()> {
        let (clock, metrics) = self.on_core.get();
        let spare = &mut self.spare;
        self.thread.serve(|mut block| {
            add(&metrics.sink_records, block.records());
            if !block.origins_ns().is_empty() {
                let wall_ns = clock.wall_ns();
                for origin_ns in block.origins_ns() {
                    metrics.record_latency(*origin_ns, wall_ns);
                }
            }
            block.clear();
            spare.push(block);
        })
    }

    /// Goes on with finishing files.
    fn finish(&mut self, output: &mut Output) -> Result<Progress> {
        self.poll()?;
        loop {
            match self.finishing {
                Finishing::No => return Ok(Progress::Done),
                Finishing::Begin { all } => {
                    self.hand_over()?;
                    if !self.block.is_empty() || !self.thread.has_room() {
                        return Ok(Progress::Blocked);
                    }
                    self.thread.submit(match all {
                        true => Job::FinishAll,
                        false => Job::Finish(self.complete.iter().cloned().collect()),
                    })?;
                    self.finishing = Finishing::Wait;
                }
                // Nothing comes meanwhile, so this job is the last one.
                Finishing::Wait if !self.thread.is_idle() => return Ok(Progress::Blocked),
                Finishing::Wait => self.finishing = Finishing::Tell,
                Finishing::Tell => {
                    while let Some(bucket) = self.complete.front() {
                        if output.is_blocked() {
                            return Ok(Progress::Blocked);
                        }
                        if let Some(time) = self.partitions.remove(bucket) {
                            let committable = Committable {
                                open: false,
                                subtask_index: self.subtask_index,
                                time,
                                bucket,
                            };
                            committable.send(&mut self.committable, output)?;
                        }
                        self.complete.pop_front();
                    }
                    let times = self.partitions.values();
                    self.next_complete = times.copied().min().unwrap_or(EventTime::MAX);
                    self.finishing = Finishing::No;
                }
            }
        }
    }
}

fn check(bucket: &str) -> Result<()> {
    check_bucket(bucket).map_err(|error| {
        Error::operator(format!(
            "the bucket assigner gave `{}`, which {error}",
            bucket.escape_debug()
        ))
    })
}

fn no_time(bucket: &str) -> Error {
    Error::operator(format!(
        "the partition commit finds no time in the bucket `{}`: the bucket assigner and the partition time must agree",
        bucket.escape_debug()
    ))
}

#[cold]
fn refused(kind: RowKind) -> Error {
    Error::operator(format!(
        "a `{}` record came to a file sink, which can only append rows: write streams that insert only, or have the \
         encoder write what each row means and allow all row kinds (`with_all_row_kinds`)",
        kind.short_name()
    ))
}

impl Operator for FileWriter {
    fn open(&mut self, context: &OpenContext) -> Result<()> {
        self.on_core
            .set((Rc::clone(&context.clock), Rc::clone(&context.metrics)));
        self.thread.ring(Bell::new(context.doorbell.as_raw_fd())?);
        Ok(())
    }

    fn on_record(&mut self, record: &RecordRef<'_>, output: &mut Output) -> Result<()> {
        if record.kind != RowKind::Insert && !self.rows.all_row_kinds {
            return Err(refused(record.kind));
        }
        if let Some(assign) = &self.rows.assigner {
            self.bucket.clear();
            assign(record, &mut self.bucket);
        }
        if self.block.last_bucket() != Some(&self.bucket) {
            self.begin_bucket(output)?;
        }
        (self.rows.encoder)(record, self.block.rows_mut());
        self.block.count(record.origin_ns);
        if self.is_full() {
            self.hand_over()?;
        }
        Ok(())
    }

    fn takes_runs(&self) -> bool {
        true
    }

    fn on_watermark(
        &mut self,
        watermark: EventTime,
        _origin_ns: u64,
        output: &mut Output,
    ) -> Result<Progress> {
        self.watermark = watermark;
        if self.partitions.is_empty() || !is_complete(self.next_complete, watermark) {
            return Ok(Progress::Done);
        }
        let complete = self.partitions.iter();
        let complete = complete.filter(|(_, time)| is_complete(**time, watermark));
        let mut complete: Vec<_> = complete.map(|(bucket, time)| (*time, bucket)).collect();
        complete.sort_unstable();
        let complete = complete.into_iter().map(|(_, bucket)| bucket.clone());
        self.complete.extend(complete);
        self.finishing = Finishing::Begin { all: false };
        self.finish(output)
    }

    /// Partitions that are not complete by then, as after a stop without a drain, get their files and no mark. Behind the end
    /// of event time all are complete, also those of rows that came since (of windows in processing time).
    fn on_end_of_input(&mut self, mode: StopMode, output: &mut Output) -> Result<Progress> {
        if mode.drains() {
            let mut open: Vec<String> = self.partitions.keys().cloned().collect();
            open.sort_unstable();
            self.complete.extend(open);
        }
        self.finishing = Finishing::Begin { all: true };
        self.finish(output)
    }

    fn resume(&mut self, output: &mut Output) -> Result<Progress> {
        self.finish(output)
    }

    fn wants_poll(&self) -> bool {
        true
    }

    fn poll(&mut self) -> Result<()> {
        self.serve()?;
        if self.thread.is_idle() || self.is_full() {
            self.hand_over()?;
        }
        Ok(())
    }

    fn is_blocked(&self) -> bool {
        self.is_full()
    }

    fn state_bytes(&self) -> usize {
        let partition = size_of::<(String, EventTime)>();
        let text: usize = self.partitions.keys().map(String::capacity).sum();
        self.partitions.capacity() * partition + text
    }
}

impl fmt::Debug for FileWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileWriter")
            .field("subtask_index", &self.subtask_index)
            .field("partitions", &self.partitions.len())
            .field("finishing", &self.finishing)
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}
