//! Kafka as a source and a sink of typed records.
//!
//! Owns: [`KafkaSource`], [`KafkaSink`] and their builders. Invariant: a payload is verified as the record type once, as
//! it comes in; what is no valid record is counted and skipped, or fails the job, as asked.
//! Left out: exactly-once delivery, offset commits (with checkpoints).

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use ringflow_dataplane::kafka::{KafkaClientConfig, describe_topics};
use ringflow_dataplane::operator::OperatorFactory;
use ringflow_dataplane::record::{Record, Row};
use ringflow_dataplane::sink::kafka::{KafkaSinkFactory, SinkPartitioning};
use ringflow_dataplane::source::SourceFactory;
use ringflow_dataplane::source::kafka::KafkaSourceFactory;

pub use ringflow_dataplane::source::kafka::{OnBadRecord, StartingOffsets};

use crate::api::data_stream::{Sink, Source};
use crate::api::graph::Discover;

/// How long a cluster may take to describe its topics at submit.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads Kafka topics as records of `R`.
#[derive(Debug, Clone)]
pub struct KafkaSource<R> {
    client: KafkaClientConfig,
    topics: Vec<String>,
    starting_offsets: StartingOffsets,
    bounded: bool,
    on_bad_record: OnBadRecord,
    record: PhantomData<fn() -> R>,
}

/// Builds a [`KafkaSource`].
#[derive(Debug)]
pub struct KafkaSourceBuilder<R> {
    bootstrap_servers: Option<String>,
    properties: Vec<(String, String)>,
    topics: Vec<String>,
    starting_offsets: StartingOffsets,
    bounded: bool,
    on_bad_record: OnBadRecord,
    record: PhantomData<fn() -> R>,
}

impl<R: Record> KafkaSource<R> {
    /// Starts building.
    #[must_use]
    pub fn builder() -> KafkaSourceBuilder<R> {
        KafkaSourceBuilder {
            bootstrap_servers: None,
            properties: Vec::new(),
            topics: Vec::new(),
            starting_offsets: StartingOffsets::Earliest,
            bounded: false,
            on_bad_record: OnBadRecord::Skip,
            record: PhantomData,
        }
    }
}

impl<R: Record> KafkaSourceBuilder<R> {
    /// Brokers, as `host:port,host:port`.
    #[must_use]
    pub fn bootstrap_servers(mut self, servers: impl Into<String>) -> Self {
        self.bootstrap_servers = Some(servers.into());
        self
    }

    /// Topics to read.
    #[must_use]
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics.extend(topics.into_iter().map(Into::into));
        self
    }

    /// Where to start; earliest by default.
    #[must_use]
    pub fn starting_offsets(mut self, starting_offsets: StartingOffsets) -> Self {
        self.starting_offsets = starting_offsets;
        self
    }

    /// Stops at the end that each partition has when the job starts.
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

    /// A property of librdkafka's consumer.
    #[must_use]
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((key.into(), value.into()));
        self
    }

    /// Ends building.
    ///
    /// # Errors
    /// Brokers or topics are missing.
    pub fn build(self) -> crate::Result<KafkaSource<R>> {
        ensure!(
            !self.topics.is_empty(),
            "a Kafka source needs at least one topic"
        );
        Ok(KafkaSource {
            client: client(self.bootstrap_servers, self.properties, "source")?,
            topics: self.topics,
            starting_offsets: self.starting_offsets,
            bounded: self.bounded,
            on_bad_record: self.on_bad_record,
            record: PhantomData,
        })
    }
}

impl<R: Record> Source for KafkaSource<R> {
    type Record = R;

    fn factory(&self) -> Arc<dyn SourceFactory> {
        let factory = KafkaSourceFactory::new(self.client.clone(), self.topics.clone(), R::verify)
            .starting_offsets(self.starting_offsets)
            .bounded(self.bounded)
            .on_bad_record(self.on_bad_record);
        Arc::new(factory)
    }

    fn discover(&self) -> Option<Discover> {
        let (client, topics) = (self.client.clone(), self.topics.clone());
        Some(Arc::new(move || {
            let described =
                describe_topics(&client, &topics, DESCRIBE_TIMEOUT).map_err(anyhow::Error::msg)?;
            let splits = described.into_iter().flat_map(|topic| {
                (0..topic.partition_count).map(move |partition| (topic.topic.clone(), partition))
            });
            Ok(splits.collect())
        }))
    }
}

/// How to reach the brokers that a builder was given.
fn client(
    bootstrap_servers: Option<String>,
    properties: Vec<(String, String)>,
    what: &str,
) -> crate::Result<KafkaClientConfig> {
    let servers = bootstrap_servers.filter(|servers| !servers.is_empty());
    let servers = servers.with_context(|| format!("a Kafka {what} needs bootstrap_servers"))?;
    let config = KafkaClientConfig::new(servers);
    Ok(properties
        .into_iter()
        .fold(config, |config, (key, value)| config.property(key, value)))
}

type RowEncoder =
    Arc<dyn Fn(&ringflow_dataplane::record::RecordRef<'_>, &mut Vec<u8>) + Send + Sync>;

/// Writes records of `R` to a Kafka topic, at least once.
#[allow(missing_debug_implementations, reason = "holds a closure")]
pub struct KafkaSink<R> {
    client: KafkaClientConfig,
    topic: String,
    encoder: Option<RowEncoder>,
    by_key: bool,
    event_times: bool,
    record: PhantomData<fn(R)>,
}

/// Builds a [`KafkaSink`].
#[allow(missing_debug_implementations, reason = "holds a closure")]
pub struct KafkaSinkBuilder<R> {
    bootstrap_servers: Option<String>,
    properties: Vec<(String, String)>,
    topic: Option<String>,
    encoder: Option<RowEncoder>,
    by_key: bool,
    event_times: bool,
    record: PhantomData<fn(R)>,
}

impl<R: Record> KafkaSink<R> {
    /// Starts building.
    #[must_use]
    pub fn builder() -> KafkaSinkBuilder<R> {
        KafkaSinkBuilder {
            bootstrap_servers: None,
            properties: Vec::new(),
            topic: None,
            encoder: None,
            by_key: false,
            event_times: true,
            record: PhantomData,
        }
    }
}

impl<R: Record> KafkaSinkBuilder<R> {
    /// Brokers, as `host:port,host:port`.
    #[must_use]
    pub fn bootstrap_servers(mut self, servers: impl Into<String>) -> Self {
        self.bootstrap_servers = Some(servers.into());
        self
    }

    /// The topic to write to.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// A property of librdkafka's producer.
    #[must_use]
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((key.into(), value.into()));
        self
    }

    /// Writes what `encode` appends in place of the record's own bytes.
    #[must_use]
    pub fn encode_with(
        mut self,
        encode: impl for<'a> Fn(Row<'a, R>, &mut Vec<u8>) + Clone + Send + Sync + 'static,
    ) -> Self {
        self.encoder = Some(Arc::new(move |record, bytes| {
            // SAFETY: a sink of `R` stands behind a stream of `R` (the type of `sink_to`).
            encode(unsafe { Row::<R>::read(record) }, bytes);
        }));
        self
    }

    /// Whether a record's event time becomes its Kafka timestamp (the default, as in Flink). Brokers delete by that
    /// timestamp: rows with old event times vanish from a topic with a retention time; without it, it is the time of writing.
    #[must_use]
    pub fn event_times(mut self, event_times: bool) -> Self {
        self.event_times = event_times;
        self
    }

    /// Chooses the partition by the record's key hash (behind a keyed edge).
    #[must_use]
    pub fn partition_by_key(mut self) -> Self {
        self.by_key = true;
        self
    }

    /// Ends building.
    ///
    /// # Errors
    /// Brokers or topic are missing.
    pub fn build(self) -> crate::Result<KafkaSink<R>> {
        let topic = self.topic.context("a Kafka sink needs a topic")?;
        Ok(KafkaSink {
            client: client(self.bootstrap_servers, self.properties, "sink")?,
            topic,
            encoder: self.encoder,
            by_key: self.by_key,
            event_times: self.event_times,
            record: PhantomData,
        })
    }
}

impl<R: Record> Sink<R> for KafkaSink<R> {
    fn factory(self) -> Arc<dyn OperatorFactory> {
        let mut factory =
            KafkaSinkFactory::new(self.client, self.topic).event_times(self.event_times);
        if self.by_key {
            factory = factory.partitioning(SinkPartitioning::ByKey);
        }
        if let Some(encoder) = self.encoder {
            factory = factory.encoder(encoder);
        }
        Arc::new(factory)
    }

    fn name(&self) -> String {
        format!("Kafka {}", self.topic)
    }
}
