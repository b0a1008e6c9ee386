//! The Kafka source: partitions assigned by the control plane, read through librdkafka.
//!
//! Owns: [`KafkaSourceFactory`] and its options; `prepare` connects, finds the offsets to start and stop at, and starts
//! fetching. The pieces: [`reader`] gives records on, [`split`] knows positions and ends, [`bad_records`] judges them.
//! Invariant: a record is given on exactly once per attempt, in its partition's order, or the subtask fails with the
//! partition and offset; nothing between start and position is left out silently.
//! Left out: consumer groups and commits of offsets to Kafka; positions restored from checkpoints (next).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::kafka::client::{ClientErrors, NativeClient, Topic};
use crate::kafka::config::{KafkaClientConfig, Role};
use crate::kafka::metadata::{OffsetRange, offset_range, offsets_at, partition_count};
use crate::kafka::queue::PartitionQueue;
use crate::runtime::context::{PrepareContext, SplitAssignment};
use crate::runtime::housekeeping::OffCore;
use crate::source::kafka::bad_records::BadRecords;
use crate::source::kafka::reader::{Fetching, KafkaReader, Lane};
use crate::source::kafka::split::Split;
use crate::source::{SourceFactory, SourceReader};

pub mod bad_records;
pub mod reader;
pub mod split;

pub use bad_records::OnBadRecord;

/// Checks that bytes are a valid record of the source's type.
pub type VerifyRecord = fn(&[u8]) -> Result<(), String>;

/// How long a request to the cluster may take while a subtask starts.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Where to start in each partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartingOffsets {
    /// At the first record that is kept.
    #[default]
    Earliest,
    /// Behind the last record there is at start.
    Latest,
    /// At the first record whose Kafka timestamp is this or later, in milliseconds since the epoch; behind the last
    /// record where there is none.
    Timestamp(i64),
}

/// Builds readers of Kafka topics.
#[derive(Clone)]
pub struct KafkaSourceFactory {
    client: KafkaClientConfig,
    topics: Vec<String>,
    starting_offsets: StartingOffsets,
    bounded: bool,
    verify: VerifyRecord,
    on_bad_record: OnBadRecord,
}

impl KafkaSourceFactory {
    /// A source of topics whose records pass `verify`: from the earliest offset, without end, failing on bad records.
    #[must_use]
    pub fn new(client: KafkaClientConfig, topics: Vec<String>, verify: VerifyRecord) -> Self {
        Self {
            client,
            topics,
            starting_offsets: StartingOffsets::Earliest,
            bounded: false,
            verify,
            on_bad_record: OnBadRecord::Fail,
        }
    }

    /// Where to start.
    #[must_use]
    pub fn starting_offsets(mut self, starting_offsets: StartingOffsets) -> Self {
        self.starting_offsets = starting_offsets;
        self
    }

    /// Whether to end at the offsets that the partitions have reached when the subtask starts.
    #[must_use]
    pub fn bounded(mut self, bounded: bool) -> Self {
        self.bounded = bounded;
        self
    }

    /// What to do with payloads that are no valid record.
    #[must_use]
    pub fn on_bad_record(mut self, on_bad_record: OnBadRecord) -> Self {
        self.on_bad_record = on_bad_record;
        self
    }

    /// How to reach the cluster.
    #[must_use]
    pub fn client(&self) -> &KafkaClientConfig {
        &self.client
    }

    /// What is read.
    #[must_use]
    pub fn topics(&self) -> &[String] {
        &self.topics
    }

    /// Builds the reader of one subtask, as itself. Blocks; see [`SourceFactory::prepare`].
    ///
    /// # Errors
    /// The cluster is unreachable, a topic or partition is missing.
    pub fn prepare_reader(&self, context: &PrepareContext) -> Result<KafkaReader> {
        let bad_records = BadRecords::new(self.verify, self.on_bad_record);
        let housekeeping = context.housekeeping.clone();
        if context.splits.is_empty() {
            // More subtasks than partitions: no client, nothing to do.
            let fetching = OffCore::new(Fetching::default(), housekeeping);
            return Ok(KafkaReader::new(
                Vec::new(),
                fetching,
                self.bounded,
                bad_records,
            ));
        }
        let role = Role::Reader {
            partitions: context.splits.len(),
            announce_end: self.bounded,
        };
        let config = self
            .client
            .for_subtask(&context.operator_name, context.subtask_index);
        let client = NativeClient::new(&config, role)?;
        let partitions = self.locate(&client, &context.splits)?;
        let splits = self.splits(&client, &partitions)?;
        // From here on fetches run; should one fail to start, the others stop on their housekeeping thread.
        let errors = Some(ClientErrors::new(&client)?);
        let mut fetching = OffCore::new(
            Fetching {
                lanes: Vec::new(),
                errors,
            },
            housekeeping,
        );
        for (split, (topic, kafka_partition)) in splits.iter().zip(&partitions) {
            let queue = PartitionQueue::start(topic, *kafka_partition, split.position())?;
            fetching.lanes.push(Lane::new(queue, Arc::clone(&client)));
        }
        Ok(KafkaReader::new(
            splits,
            fetching,
            self.bounded,
            bad_records,
        ))
    }

    /// The assigned partitions with their topics, each topic asked for once.
    fn locate(
        &self,
        client: &Arc<NativeClient>,
        splits: &[SplitAssignment],
    ) -> Result<Vec<(Arc<Topic>, i32)>> {
        let mut known: Vec<(Arc<Topic>, i32)> = Vec::new();
        let mut partitions = Vec::with_capacity(splits.len());
        for SplitAssignment {
            topic: name,
            kafka_partition,
        } in splits
        {
            if !known.iter().any(|(topic, _)| topic.name() == name) {
                let topic = Topic::new(client, name)?;
                let count = partition_count(&topic, REQUEST_TIMEOUT)?.partition_count;
                known.push((Arc::new(topic), count));
            }
            let found = known.iter().find(|(topic, _)| topic.name() == name);
            let (topic, count) = found.expect("looked up or pushed just now");
            if !(0..*count).contains(kafka_partition) {
                return Err(Error::deployment(format!(
                    "topic `{name}` has no partition {kafka_partition} on {}: it has {count}; was it created anew?",
                    client.bootstrap_servers()
                )));
            }
            partitions.push((Arc::clone(topic), *kafka_partition));
        }
        Ok(partitions)
    }

    /// Where each partition starts and ends, asked for now, so that a reader that connects late reads the same.
    fn splits(
        &self,
        client: &Arc<NativeClient>,
        partitions: &[(Arc<Topic>, i32)],
    ) -> Result<Vec<Split>> {
        let at_time = match self.starting_offsets {
            StartingOffsets::Timestamp(time) => {
                let partitions: Vec<_> = partitions
                    .iter()
                    .map(|(topic, partition)| (&**topic, *partition))
                    .collect();
                Some(offsets_at(client, &partitions, time, REQUEST_TIMEOUT)?)
            }
            StartingOffsets::Earliest | StartingOffsets::Latest => None,
        };
        let split = |(topic, kafka_partition): &(Arc<Topic>, i32)| {
            let OffsetRange { start, end } =
                offset_range(topic, *kafka_partition, REQUEST_TIMEOUT)?;
            let name = topic.name().to_owned();
            let position = match (self.starting_offsets, &at_time) {
                (StartingOffsets::Earliest, _) => start,
                (_, Some(at_time)) => at_time
                    .get(&(name.clone(), *kafka_partition))
                    .copied()
                    .unwrap_or(end),
                (_, None) => end,
            };
            let assignment = SplitAssignment {
                topic: name,
                kafka_partition: *kafka_partition,
            };
            Ok(Split::new(
                assignment,
                position,
                self.bounded.then_some(end),
            ))
        };
        partitions.iter().map(split).collect()
    }
}

impl SourceFactory for KafkaSourceFactory {
    fn prepare(&self, context: &PrepareContext) -> Result<Box<dyn SourceReader>> {
        Ok(Box::new(self.prepare_reader(context)?))
    }
}

impl fmt::Debug for KafkaSourceFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSourceFactory")
            .field("client", &self.client)
            .field("topics", &self.topics)
            .field("starting_offsets", &self.starting_offsets)
            .field("bounded", &self.bounded)
            .field("on_bad_record", &self.on_bad_record)
            .finish_non_exhaustive()
    }
}
