//! What a cluster says about its topics: partitions and offsets.
//!
//! Owns: [`describe_topics`], [`offset_ranges`] and their forms on a client that exists. All of it blocks: for
//! housekeeping threads and the command line. Invariant: an error says where the cluster was looked for, what it
//! answered and what to do.
//! Left out: caching; librdkafka keeps its own.

use std::collections::BTreeMap;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as ffi;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::error::{Error, Result};
use crate::kafka::client::{NativeClient, Topic};
use crate::kafka::config::{KafkaClientConfig, Role};
use crate::runtime::clock::Clock;

/// How long to wait before asking again for a topic that is being created.
const ASK_AGAIN_MS: i32 = 50;

/// A topic and how many partitions it has, numbered from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPartitions {
    /// Topic.
    pub topic: String,
    /// Number of partitions, at least 1.
    pub partition_count: i32,
}

/// Offsets that a partition holds: `start..end`, where `end` is that of the next record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    /// Offset of the first record kept.
    pub start: i64,
    /// Offset behind the last record that a reader may see.
    pub end: i64,
}

/// Asks for the partitions of topics. Blocks, at most for about `timeout`.
///
/// # Errors
/// The cluster is unreachable, or a topic is missing, forbidden or damaged; the message says what to do.
pub fn describe_topics(
    config: &KafkaClientConfig,
    topics: &[String],
    timeout: Duration,
) -> Result<Vec<TopicPartitions>> {
    let client = NativeClient::new(config, Role::Admin)?;
    topics
        .iter()
        .map(|name| partition_count(&Topic::new(&client, name)?, timeout))
        .collect()
}

/// Asks for the offsets of a topic's partitions, in their order. Blocks, at most for about `timeout` per partition.
///
/// # Errors
/// As [`describe_topics`].
pub fn offset_ranges(
    config: &KafkaClientConfig,
    topic: &str,
    timeout: Duration,
) -> Result<Vec<OffsetRange>> {
    let client = NativeClient::new(config, Role::Admin)?;
    let topic = Topic::new(&client, topic)?;
    let count = partition_count(&topic, timeout)?.partition_count;
    (0..count)
        .map(|kafka_partition| offset_range(&topic, kafka_partition, timeout))
        .collect()
}

/// Asks for a topic's partitions through a client that exists.
pub(crate) fn partition_count(topic: &Topic, timeout: Duration) -> Result<TopicPartitions> {
    let deadline_ns = Clock::system()
        .now_ns()
        .saturating_add(nanoseconds(timeout));
    loop {
        match ask(topic, timeout)? {
            Ok(partition_count) => {
                return Ok(TopicPartitions {
                    topic: topic.name().to_owned(),
                    partition_count,
                });
            }
            // Being created: it has no leader yet.
            Err(RDKafkaErrorCode::LeaderNotAvailable) if Clock::system().now_ns() < deadline_ns => {
                topic.client().serve(ASK_AGAIN_MS);
            }
            Err(code) => return Err(topic_error(topic, code)),
        }
    }
}

/// Asks whether a topic exists: its number of partitions, `None` without it or while it is being created.
pub(crate) fn find(topic: &Topic, timeout: Duration) -> Result<Option<i32>> {
    match ask(topic, timeout)? {
        Ok(partition_count) => Ok(Some(partition_count)),
        Err(
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::LeaderNotAvailable,
        ) => Ok(None),
        Err(code) => Err(topic_error(topic, code)),
    }
}

/// Asks for the offsets of one partition.
pub(crate) fn offset_range(
    topic: &Topic,
    kafka_partition: i32,
    timeout: Duration,
) -> Result<OffsetRange> {
    let (mut start, mut end) = (0, 0);
    let code = {
        let (client, name) = (topic.client().as_ptr(), topic.c_name().as_ptr());
        let timeout_ms = milliseconds(timeout);
        // SAFETY: client and name are alive; the two offsets are written before it returns.
        unsafe {
            ffi::rd_kafka_query_watermark_offsets(
                client,
                name,
                kafka_partition,
                &raw mut start,
                &raw mut end,
                timeout_ms,
            )
        }
    };
    match RDKafkaErrorCode::from(code) {
        RDKafkaErrorCode::NoError => Ok(OffsetRange { start, end }),
        RDKafkaErrorCode::UnknownPartition => Err(Error::deployment(format!(
            "topic `{}` has no partition {kafka_partition} on {}",
            topic.name(),
            topic.client().bootstrap_servers()
        ))),
        code => Err(request_error(topic, code, timeout)),
    }
}

/// Asks for the first offset at or after a time, of several partitions; absent where no record is that young.
pub(crate) fn offsets_at(
    client: &Arc<NativeClient>,
    partitions: &[(&Topic, i32)],
    timestamp_ms: i64,
    timeout: Duration,
) -> Result<BTreeMap<(String, i32), i64>> {
    let Some((first, _)) = partitions.first() else {
        return Ok(BTreeMap::new());
    };
    let mut list = TopicPartitionList::new();
    for (topic, kafka_partition) in partitions {
        list.add_partition_offset(
            topic.name(),
            *kafka_partition,
            Offset::Offset(timestamp_ms.max(0)),
        )
        .map_err(|error| Error::deployment(format!("topic `{}`: {error}", topic.name())))?;
    }
    // SAFETY: client and list are alive; librdkafka writes the answers into the list.
    let code = unsafe {
        ffi::rd_kafka_offsets_for_times(client.as_ptr(), list.ptr(), milliseconds(timeout))
    };
    let code = RDKafkaErrorCode::from(code);
    if code != RDKafkaErrorCode::NoError {
        return Err(request_error(first, code, timeout));
    }
    let mut offsets = BTreeMap::new();
    for element in list.elements() {
        element.error().map_err(|error| {
            Error::deployment(format!("offsets of `{}`: {error}", element.topic()))
        })?;
        if let Offset::Offset(offset) = element.offset() {
            offsets.insert((element.topic().to_owned(), element.partition()), offset);
        }
    }
    Ok(offsets)
}

/// One request; the inner result is the broker's answer about the topic.
fn ask(topic: &Topic, timeout: Duration) -> Result<Result<i32, RDKafkaErrorCode>> {
    let mut metadata = ptr::null();
    let code = {
        let (client, handle) = (topic.client().as_ptr(), topic.as_ptr());
        // SAFETY: client and topic are alive; `metadata` is written before it returns.
        unsafe {
            ffi::rd_kafka_metadata(client, 0, handle, &raw mut metadata, milliseconds(timeout))
        }
    };
    let code = RDKafkaErrorCode::from(code);
    if code != RDKafkaErrorCode::NoError {
        return Err(request_error(topic, code, timeout));
    }
    Ok(
        Answer::new(metadata).map_or(Err(RDKafkaErrorCode::Fail), |answer| {
            answer.partition_count(topic)
        }),
    )
}

/// A metadata response, freed on drop.
struct Answer(NonNull<ffi::rd_kafka_metadata>);

impl Answer {
    fn new(metadata: *const ffi::rd_kafka_metadata) -> Option<Self> {
        NonNull::new(metadata.cast_mut()).map(Self)
    }

    fn partition_count(&self, topic: &Topic) -> Result<i32, RDKafkaErrorCode> {
        // SAFETY: librdkafka filled it in; it lives until drop.
        let metadata = unsafe { self.0.as_ref() };
        let Ok(count @ 1..) = usize::try_from(metadata.topic_cnt) else {
            return Err(RDKafkaErrorCode::UnknownTopicOrPartition);
        };
        // SAFETY: librdkafka lays out `topic_cnt` topics there. One was asked for, so the first is it.
        let topics = unsafe { slice::from_raw_parts(metadata.topics, count) };
        debug_assert_eq!(topics.len(), 1, "asked for `{}` alone", topic.name());
        match (
            RDKafkaErrorCode::from(topics[0].err),
            topics[0].partition_cnt,
        ) {
            (RDKafkaErrorCode::NoError, 0) => Err(RDKafkaErrorCode::LeaderNotAvailable),
            (RDKafkaErrorCode::NoError, partition_count) => Ok(partition_count),
            (code, _) => Err(code),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: allocated by `rd_kafka_metadata`, freed once.
        unsafe { ffi::rd_kafka_metadata_destroy(self.0.as_ptr()) };
    }
}

/// The cluster answered, and has something against the topic.
fn topic_error(topic: &Topic, code: RDKafkaErrorCode) -> Error {
    let (name, servers) = (topic.name(), topic.client().bootstrap_servers());
    Error::deployment(match code {
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
            format!(
                "topic `{name}` does not exist on {servers}; create it, or pass --create-topic N"
            )
        }
        RDKafkaErrorCode::TopicAuthorizationFailed => {
            format!(
                "topic `{name}` on {servers} is not open to this user; ask for DESCRIBE, READ or WRITE on it"
            )
        }
        RDKafkaErrorCode::LeaderNotAvailable => {
            format!("topic `{name}` on {servers} has no leader; are all brokers of the cluster up?")
        }
        code => format!("topic `{name}` on {servers}: {code}"),
    })
}

/// The cluster did not answer, or answered with an error.
fn request_error(topic: &Topic, code: RDKafkaErrorCode, timeout: Duration) -> Error {
    match code {
        RDKafkaErrorCode::BrokerTransportFailure
        | RDKafkaErrorCode::AllBrokersDown
        | RDKafkaErrorCode::Resolve
        | RDKafkaErrorCode::OperationTimedOut
        | RDKafkaErrorCode::RequestTimedOut => unreachable_cluster(topic.client(), code, timeout),
        code => topic_error(topic, code),
    }
}

/// Nobody answers at the bootstrap servers.
fn unreachable_cluster(client: &NativeClient, code: RDKafkaErrorCode, timeout: Duration) -> Error {
    let servers = client.bootstrap_servers();
    let cause = client.take_trouble().unwrap_or_else(|| code.to_string());
    Error::deployment(format!(
        "cannot reach Kafka at {servers} within {timeout:?}: {cause}; is the broker running and is --bootstrap-servers \
         right?"
    ))
}

pub(crate) fn milliseconds(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}

pub(crate) fn nanoseconds(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_cluster_is_named_with_cause_and_advice() {
        let config = KafkaClientConfig::new("127.0.0.1:1");
        let error =
            describe_topics(&config, &["bids".to_owned()], Duration::from_millis(700)).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("cannot reach Kafka at 127.0.0.1:1 within 700ms: "),
            "{message}"
        );
        assert!(message.contains("Connection refused"), "{message}");
        assert!(
            message.ends_with("is --bootstrap-servers right?"),
            "{message}"
        );
    }

    #[test]
    fn answers_about_a_topic_say_what_to_do() {
        let client =
            NativeClient::new(&KafkaClientConfig::new("127.0.0.1:1"), Role::Admin).unwrap();
        let topic = Topic::new(&client, "bids").unwrap();
        let message = topic_error(&topic, RDKafkaErrorCode::UnknownTopicOrPartition).to_string();
        assert_eq!(
            message,
            "topic `bids` does not exist on 127.0.0.1:1; create it, or pass --create-topic N"
        );
        let message = topic_error(&topic, RDKafkaErrorCode::TopicAuthorizationFailed).to_string();
        assert!(message.contains("is not open to this user"), "{message}");
    }
}
