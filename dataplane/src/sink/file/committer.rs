//! Marks partitions as complete: one subtask behind all writers.
//!
//! Owns: [`FileCommitter`]. A partition is committed, by an empty file `_SUCCESS` in its directory, once the watermark
//! of all writers has passed its time and none of them has files of it open. A row that comes later opens its partition
//! again, which is then committed again, as in Flink.
//! Invariant: the marker is written after every file that it stands for has its last name and is durable: a writer's
//! word comes after its files and before its watermark, in one channel.
//! Left out: partitions that a writer holds open while its input is idle: they are committed when it goes on, or ends.

use std::collections::{BTreeSet, HashMap};

use crate::element::StopMode;
use crate::error::Result;
use crate::operator::chain::Output;
use crate::operator::{Operator, Progress};
use crate::record::{EventTime, RecordRef};
use crate::runtime::context::OpenContext;
use crate::runtime::doorbell::Bell;
use crate::sink::file::committable::{Committable, is_complete};
use crate::sink::file::thread::{FileThread, Job};

/// A partition that is not committed.
#[derive(Debug)]
struct Partition {
    time: EventTime,
    /// Writers that have files of it open.
    writers: BTreeSet<u32>,
}

/// Commits the partitions of all writers.
#[derive(Debug)]
pub struct FileCommitter {
    partitions: HashMap<String, Partition>,
    thread: FileThread,
}

impl FileCommitter {
    pub(super) fn new(thread: FileThread) -> Self {
        Self {
            partitions: HashMap::new(),
            thread,
        }
    }

    #[cfg(test)]
    pub(super) fn partitions_open(&self) -> usize {
        self.partitions.len()
    }

    /// Marks partitions that `watermark` has passed and nobody writes to.
    fn commit(&mut self, watermark: EventTime) -> Result<Progress> {
        let complete = |_: &String, partition: &mut Partition| {
            partition.writers.is_empty() && is_complete(partition.time, watermark)
        };
        let complete = self.partitions.extract_if(complete);
        let mut complete: Vec<(EventTime, String)> = complete
            .map(|(bucket, partition)| (partition.time, bucket))
            .collect();
        if complete.is_empty() {
            return Ok(Progress::Done);
        }
        complete.sort();
        let buckets = complete.into_iter().map(|(_, bucket)| bucket).collect();
        // There is room: each job is waited for.
        self.thread.submit(Job::Commit(buckets))?;
        self.wait()
    }

    fn wait(&mut self) -> Result<Progress> {
        self.poll()?;
        Ok(match self.thread.is_idle() {
            true => Progress::Done,
            false => Progress::Blocked,
        })
    }
}

impl Operator for FileCommitter {
    fn open(&mut self, context: &OpenContext) -> Result<()> {
        self.thread.ring(Bell::new(context.doorbell.as_raw_fd())?);
        Ok(())
    }

    fn on_record(&mut self, record: &RecordRef<'_>, _output: &mut Output) -> Result<()> {
        let committable = Committable::read(record.bytes)?;
        let Committable {
            subtask_index,
            time,
            bucket,
            ..
        } = committable;
        if !self.partitions.contains_key(bucket) {
            let writers = BTreeSet::new();
            let partition = Partition { time, writers };
            self.partitions.insert(bucket.to_owned(), partition);
        }
        if let Some(partition) = self.partitions.get_mut(bucket) {
            partition.time = partition.time.max(time);
            if committable.open {
                partition.writers.insert(subtask_index);
            } else {
                partition.writers.remove(&subtask_index);
            }
        }
        Ok(())
    }

    fn on_watermark(
        &mut self,
        watermark: EventTime,
        _origin_ns: u64,
        _output: &mut Output,
    ) -> Result<Progress> {
        self.commit(watermark)
    }

    /// Behind the end of event time, partitions of rows that came since are complete too.
    fn on_end_of_input(&mut self, mode: StopMode, _output: &mut Output) -> Result<Progress> {
        if mode.drains() {
            self.commit(EventTime::MAX)
        } else {
            self.wait()
        }
    }

    fn resume(&mut self, _output: &mut Output) -> Result<Progress> {
        self.wait()
    }

    fn wants_poll(&self) -> bool {
        true
    }

    fn poll(&mut self) -> Result<()> {
        self.thread.serve(drop)
    }

    fn state_bytes(&self) -> usize {
        let partition = size_of::<(String, Partition)>();
        let text: usize = self.partitions.keys().map(String::capacity).sum();
        self.partitions.capacity() * partition + text
    }
}
