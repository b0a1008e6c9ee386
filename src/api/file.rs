//! Files as a sink of typed records.
//!
//! Owns: [`FileSink`]. Invariant: what is under its last name is whole and durable; rows come at least once.
//! Left out: exactly-once delivery (with checkpoints), bulk formats such as Parquet.

use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;

use ringflow_dataplane::operator::OperatorFactory;
use ringflow_dataplane::record::{Record, RecordRef, Row};
use ringflow_dataplane::sink::file::{COMMITTABLES, FileSinkFactory};

pub use ringflow_dataplane::sink::file::{PartitionCommit, RollingPolicy, append_partition};

use crate::api::data_stream::{Committer, Sink};

/// Appends rows to files: `<directory>/<bucket>/part-<uid>-<subtask>-<n>`, where `uid` is another one in every attempt.
///
/// A file is hidden, as `.part-...inprogress`, until it is finished: when its [`RollingPolicy`] says so, when its
/// partition is complete, and at the end of the input. Then it is synced and renamed, and never written again. A job
/// that is cancelled or fails leaves what it finished and hidden files, which may be deleted; one that is started again
/// writes its rows again, into new files.
///
/// The directory is on the hosts of the TaskManagers; with several of them and a partition commit it must be on a file
/// system that they share. Rows go to the directory itself unless there is a bucket assigner (Flink's default is a
/// bucket per hour of processing time).
///
/// ```
/// use std::time::Duration;
/// use ringflow::prelude::*;
///
/// let directory = std::env::temp_dir().join(format!("ringflow-doc-{}", std::process::id()));
/// let sink = FileSink::for_row_format(&directory, |number: Row<'_, Number>, row: &mut Vec<u8>| {
///         CsvRow::new(row).number(number.value()).end();
///     })
///     .with_bucket_assigner(|number, bucket| {
///         append_partition(bucket, "thousand", &(number.value() / 1000).to_string());
///     })
///     .with_rolling_policy(RollingPolicy::default().with_max_part_size(64 << 20))
///     .with_partition_commit(
///         // Numbers of a sequence are their own event times, in milliseconds.
///         PartitionCommit::partition_time(|bucket| {
///             let thousand: i64 = bucket.strip_prefix("thousand=")?.parse().ok()?;
///             Some(EventTime(1000 * thousand))
///         })
///         .with_delay(Duration::from_secs(1)),
///     )
///     .with_part_names("part", ".csv");
/// let env = StreamExecutionEnvironment::create_local_environment();
/// env.from_source(SequenceSource::new(2_500), WatermarkStrategy::monotonous_timestamps(), "numbers")
///     .sink_to(sink);
/// assert_eq!(env.execute("numbers in files")?.records_out, 2_500);
/// for thousand in 0..3 {
///     assert!(directory.join(format!("thousand={thousand}/_SUCCESS")).exists());
/// }
/// # std::fs::remove_dir_all(directory)?;
/// # Ok::<(), ringflow::Error>(())
/// ```
///
/// Source: Flink `FileSink.forRowFormat`.
#[derive(Debug)]
pub struct FileSink<R> {
    factory: FileSinkFactory,
    record: PhantomData<fn(R)>,
}

impl<R: Record> FileSink<R> {
    /// A sink that writes what `encode` appends for each record, which includes what ends a row.
    #[must_use]
    pub fn for_row_format(
        directory: impl Into<PathBuf>,
        encode: impl for<'a> Fn(Row<'a, R>, &mut Vec<u8>) + Send + Sync + 'static,
    ) -> Self {
        let encode = move |record: &RecordRef<'_>, bytes: &mut Vec<u8>| {
            // SAFETY: a sink of `R` stands behind a stream of `R` (the type of `sink_to`).
            encode(unsafe { Row::<R>::read(record) }, bytes);
        };
        Self {
            factory: FileSinkFactory::new(directory, Arc::new(encode)),
            record: PhantomData,
        }
    }

    /// Writes each record below the sink's directory, in the bucket that `assign` writes into an empty string: a
    /// relative path such as `dt=2026-01-01/hm=00%3A01`, best made with [`append_partition`]. A bucket that is
    /// absolute, has an empty component or `.` or `..` fails the job.
    #[must_use]
    pub fn with_bucket_assigner(
        mut self,
        assign: impl for<'a> Fn(Row<'a, R>, &mut String) + Send + Sync + 'static,
    ) -> Self {
        let assign = move |record: &RecordRef<'_>, bucket: &mut String| {
            // SAFETY: as above.
            assign(unsafe { Row::<R>::read(record) }, bucket);
        };
        self.factory = self.factory.bucket_assigner(Arc::new(assign));
        self
    }

    /// When files are finished; by default Flink's 128 MiB, 60 s open, 60 s without a row.
    #[must_use]
    pub fn with_rolling_policy(mut self, policy: RollingPolicy) -> Self {
        self.factory = self.factory.rolling_policy(policy);
        self
    }

    /// Marks each bucket by an empty file `_SUCCESS` once the watermark says that it is complete, and all its files are
    /// finished. Rows that come later still go there, and it is marked again, as in Flink. While the input of a subtask
    /// is idle (see `WatermarkStrategy::idleness`), what it has open is not marked.
    #[must_use]
    pub fn with_partition_commit(mut self, commit: PartitionCommit) -> Self {
        self.factory = self.factory.partition_commit(commit);
        self
    }

    /// Names files `<prefix>-<uid>-<subtask>-<n><suffix>`; by default `part` and nothing.
    ///
    /// Source: Flink `OutputFileConfig`.
    #[must_use]
    pub fn with_part_names(mut self, prefix: impl Into<String>, suffix: impl Into<String>) -> Self {
        self.factory = self.factory.part_names(prefix, suffix);
        self
    }

    /// Takes records of a changelog too, where the encoder writes what each of them means (`row.kind()`). Otherwise one
    /// that is no insertion fails the job: files can only be appended to.
    #[must_use]
    pub fn with_all_row_kinds(mut self) -> Self {
        self.factory = self.factory.all_row_kinds(true);
        self
    }
}

impl<R: Record> Sink<R> for FileSink<R> {
    fn factory(self) -> Arc<dyn OperatorFactory> {
        Arc::new(self.factory)
    }

    fn name(&self) -> String {
        format!("Files {}", self.factory.directory().display())
    }

    fn committer(&self) -> Option<Committer> {
        Some(Committer {
            factory: self.factory.committer()?,
            side_output: COMMITTABLES,
        })
    }
}
