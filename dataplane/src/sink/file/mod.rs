//! The file sink: rows appended to part files in buckets, and partitions marked when they are complete. At least once.
//!
//! ```text
//!   records --> FileWriter --blocks--> thread: <directory>/<bucket>/.part-<uid>-<subtask>-<n>.csv.inprogress
//!                  |                             rolled, synced, renamed: part-<uid>-<subtask>-<n>.csv
//!                  | open / finished, then the watermark
//!                  v
//!               FileCommitter (one subtask) --> thread: <directory>/<bucket>/_SUCCESS
//! ```
//! Owns: [`FileSinkFactory`], [`PartitionCommit`], [`RollingPolicy`] and the operators behind them.
//! Invariant: no file operation runs on a data core. A file under its last name is whole and durable, and is never
//! written again. What a job that is cancelled or fails leaves are finished files, and hidden ones (a leading dot) that
//! readers skip and that may be deleted.
//! Left out: exactly once. Without checkpoints files are finished as they roll, so a job that is started again writes
//! rows again, into new files: `uid` is another one in every attempt, and nothing is overwritten but `_SUCCESS`. Bulk
//! formats (Parquet), compaction.
//!
//! Source: Flink `FileSink`, row format; the partition commit is that of Flink SQL's filesystem connector (trigger
//! `partition-time`, policy `success-file`).

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::limits::{FILE_BLOCK_BYTES, FILE_LATE_COMMIT_MS, FILES_OPEN_MAX};
use crate::operator::{Operator, OperatorFactory};
use crate::record::{EventTime, RecordRef};
use crate::runtime::clock::Clock;
use crate::runtime::context::PrepareContext;

mod block;
mod bucket;
mod buckets;
mod committable;
mod committer;
mod disk;
mod operator;
mod rolling;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod thread;

pub use bucket::{BucketError, append_partition, check_bucket};
pub use committable::COMMITTABLES;
pub use committer::FileCommitter;
pub use operator::FileWriter;
pub use rolling::RollingPolicy;

use buckets::{Buckets, PartNames};
use committable::is_complete;
use operator::Rows;
use thread::FileThread;

/// Appends a record as it shall stand in its file, with what ends a row.
pub type RowEncoder = Arc<dyn Fn(&RecordRef<'_>, &mut Vec<u8>) + Send + Sync>;

/// Writes the bucket of a record into an empty string: a path below the sink's directory ([`check_bucket`]).
pub type BucketAssigner = Arc<dyn Fn(&RecordRef<'_>, &mut String) + Send + Sync>;

/// Reads the time of a partition out of its bucket; none where it is no partition of this sink.
pub type PartitionTime = Arc<dyn Fn(&str) -> Option<EventTime> + Send + Sync>;

/// When a partition is complete: the watermark of all writers has passed its time and a delay.
///
/// Source: Flink SQL's `sink.partition-commit.trigger` = `partition-time`. The time of a partition is as a rule that of
/// its first record, so the delay is how long it is. Rows that come for a partition that was complete are written all
/// the same; it is committed again when the watermark has moved on by the delay, and by 1 s at least (Flink: with the
/// next checkpoint).
#[derive(Clone)]
pub struct PartitionCommit {
    partition_time: PartitionTime,
    delay_ms: i64,
}

impl PartitionCommit {
    /// Commits partitions whose time `partition_time` reads out of their buckets, without delay.
    #[must_use]
    pub fn partition_time(
        partition_time: impl Fn(&str) -> Option<EventTime> + Send + Sync + 'static,
    ) -> Self {
        Self {
            partition_time: Arc::new(partition_time),
            delay_ms: 0,
        }
    }

    /// Commits so long after the partition's time, in event time.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        self
    }

    /// What the watermark, which stands at `watermark`, must pass: of a partition that was complete already, the same
    /// delay once more.
    fn completed_by(&self, bucket: &str, watermark: EventTime) -> Option<EventTime> {
        let time = (self.partition_time)(bucket)?;
        let time = EventTime(time.0.saturating_add(self.delay_ms));
        if !is_complete(time, watermark) {
            return Some(time);
        }
        let delay_ms = self.delay_ms.max(FILE_LATE_COMMIT_MS);
        Some(EventTime(watermark.0.saturating_add(delay_ms)))
    }
}

impl fmt::Debug for PartitionCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionCommit")
            .field("delay_ms", &self.delay_ms)
            .finish_non_exhaustive()
    }
}

/// Builds the writers and the committer of one sink.
#[derive(Clone)]
pub struct FileSinkFactory {
    directory: PathBuf,
    encoder: RowEncoder,
    assigner: Option<BucketAssigner>,
    commit: Option<PartitionCommit>,
    policy: RollingPolicy,
    prefix: String,
    suffix: String,
    all_row_kinds: bool,
}

impl FileSinkFactory {
    /// A sink that writes into `directory` itself, on the host of each TaskManager, into files named `part-..`.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>, encoder: RowEncoder) -> Self {
        Self {
            directory: directory.into(),
            encoder,
            assigner: None,
            commit: None,
            policy: RollingPolicy::default(),
            prefix: "part".to_owned(),
            suffix: String::new(),
            all_row_kinds: false,
        }
    }

    /// Writes each record into the directory of its bucket.
    #[must_use]
    pub fn bucket_assigner(mut self, assigner: BucketAssigner) -> Self {
        self.assigner = Some(assigner);
        self
    }

    /// When files are finished.
    #[must_use]
    pub fn rolling_policy(mut self, policy: RollingPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Commits partitions, which the sink's committer does: an operator of one subtask behind the writers' side output
    /// [`COMMITTABLES`].
    #[must_use]
    pub fn partition_commit(mut self, commit: PartitionCommit) -> Self {
        self.commit = Some(commit);
        self
    }

    /// Names files `<prefix>-<uid>-<subtask>-<n><suffix>`.
    #[must_use]
    pub fn part_names(mut self, prefix: impl Into<String>, suffix: impl Into<String>) -> Self {
        (self.prefix, self.suffix) = (prefix.into(), suffix.into());
        self
    }

    /// Takes records of every kind: the encoder writes what they mean.
    #[must_use]
    pub fn all_row_kinds(mut self, all: bool) -> Self {
        self.all_row_kinds = all;
        self
    }

    /// Where files go.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Builds the committer; none where nothing is committed.
    #[must_use]
    pub fn committer(&self) -> Option<Arc<dyn OperatorFactory>> {
        self.commit.as_ref()?;
        Some(Arc::new(CommitterFactory(self.clone())))
    }

    /// Builds the writer of one subtask, as itself. Blocks; see [`OperatorFactory::prepare`].
    ///
    /// # Errors
    /// The directory cannot be made, the names of files would not be names, or there is no thread left.
    pub fn prepare_writer(&self, context: &PrepareContext) -> Result<FileWriter> {
        let thread = self.start(context)?;
        let block_bytes = usize::try_from(self.policy.max_part_size()).unwrap_or(usize::MAX);
        let rows = Rows {
            encoder: Arc::clone(&self.encoder),
            assigner: self.assigner.clone(),
            commit: self.commit.clone(),
            all_row_kinds: self.all_row_kinds,
            block_bytes: block_bytes.clamp(1, FILE_BLOCK_BYTES),
        };
        Ok(FileWriter::new(rows, context.subtask_index, thread))
    }

    /// Makes the directory and starts the thread of one subtask.
    fn start(&self, context: &PrepareContext) -> Result<FileThread> {
        for part in [&self.prefix, &self.suffix] {
            if part.contains(['/', '\0']) {
                return Err(Error::deployment(format!(
                    "`{}` cannot be part of a file's name: leave out `/` and zero bytes",
                    part.escape_debug()
                )));
            }
        }
        // A hidden file would never be read, and an empty one is hidden before the first `-`.
        if self.prefix.is_empty() || self.prefix.starts_with(['.', '_']) {
            return Err(Error::deployment(format!(
                "part files that begin with `{}` would be skipped by readers: choose a prefix such as `part`",
                self.prefix.escape_debug()
            )));
        }
        disk::create_directories(&self.directory)
            .map_err(|error| Error::deployment(error.to_string()))?;
        let clock = Clock::system();
        let subtask_index = context.subtask_index;
        // Hashed with keys that are random in every thread.
        let uid = RandomState::new().hash_one((clock.wall_ns(), std::process::id(), subtask_index));
        let names = PartNames {
            directory: self.directory.clone(),
            prefix: self.prefix.clone(),
            suffix: self.suffix.clone(),
            uid,
            subtask_index,
        };
        let buckets = Buckets::new(names, self.policy, FILES_OPEN_MAX);
        FileThread::start(subtask_index, buckets, clock)
    }
}

impl OperatorFactory for FileSinkFactory {
    fn prepare(&self, context: &PrepareContext) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.prepare_writer(context)?))
    }
}

impl fmt::Debug for FileSinkFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSinkFactory")
            .field("directory", &self.directory)
            .field("policy", &self.policy)
            .field("commit", &self.commit)
            .finish_non_exhaustive()
    }
}

struct CommitterFactory(FileSinkFactory);

impl OperatorFactory for CommitterFactory {
    fn prepare(&self, context: &PrepareContext) -> Result<Box<dyn Operator>> {
        let thread = self.0.start(context)?;
        Ok(Box::new(FileCommitter::new(thread)))
    }
}
