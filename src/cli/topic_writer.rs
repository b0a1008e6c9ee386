//! Filling a Kafka topic from the command line, as fast as it takes records.
//!
//! Owns: [`TopicWriter`]. Invariant: `finish` returns only when every record is acknowledged by all in-sync replicas.
//! Left out: everything a sink of a job needs (it never waits; this one does).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use ringflow_dataplane::kafka::{KafkaClientConfig, describe_topics};

/// Counts deliveries that failed.
#[derive(Debug, Default, Clone)]
struct Deliveries(Arc<AtomicU64>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes records to the partitions of one topic.
#[allow(
    missing_debug_implementations,
    reason = "a producer has nothing to show"
)]
pub struct TopicWriter {
    producer: BaseProducer<Deliveries>,
    failed: Deliveries,
    topic: String,
    partition_count: i32,
}

impl TopicWriter {
    /// Connects and asks for the topic's partitions.
    ///
    /// # Errors
    /// The cluster is unreachable or the topic is missing; the message says what to do.
    pub fn open(bootstrap_servers: &str, topic: &str, timeout: Duration) -> crate::Result<Self> {
        let client = KafkaClientConfig::new(bootstrap_servers);
        let described =
            describe_topics(&client, &[topic.to_owned()], timeout).map_err(anyhow::Error::msg)?;
        let partition_count = described.first().context("no such topic")?.partition_count;
        let failed = Deliveries::default();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap_servers)
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("queue.buffering.max.messages", "500000")
            .create_with_context(failed.clone())
            .context("cannot create a Kafka producer")?;
        Ok(Self {
            producer,
            failed,
            topic: topic.to_owned(),
            partition_count,
        })
    }

    /// Partitions of the topic.
    #[must_use]
    pub fn partition_count(&self) -> u32 {
        self.partition_count.unsigned_abs()
    }

    /// Queues a record, waiting while the queue is full.
    ///
    /// # Errors
    /// The producer refuses it for good.
    pub fn write(&self, partition: i32, payload: &[u8]) -> crate::Result<()> {
        let mut record = BaseRecord::<(), [u8]>::to(&self.topic)
            .partition(partition)
            .payload(payload);
        loop {
            record = match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(Duration::from_millis(1));
                    back
                }
                Err((error, _)) => bail!("cannot write to topic `{}`: {error}", self.topic),
            };
        }
        if self.producer.in_flight_count() % 1024 == 0 {
            self.producer.poll(Duration::ZERO);
        }
        Ok(())
    }

    /// Waits until every record is acknowledged.
    ///
    /// # Errors
    /// Some were not.
    pub fn finish(self) -> crate::Result<()> {
        self.producer
            .flush(Duration::from_secs(300))
            .map_err(|error| anyhow!("cannot write to topic `{}`: {error}", self.topic))?;
        match self.failed.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            failed => bail!(
                "{failed} records were not written to topic `{}`",
                self.topic
            ),
        }
    }
}
