//! The Kafka sink: every record is acknowledged by the broker before the stream counts as written. At least once.
//!
//! Owns: [`KafkaSinkFactory`] and its operator. A record is copied into librdkafka's queue, which batches while requests
//! are under way; it counts (`sink_records`, latency) when its acknowledgement is served.
//! Invariant: records go to librdkafka in the order they came; one that finds the queue full waits here, blocks the
//! chain, and goes first. A failed delivery fails the subtask. The end of input is done when nothing is in flight.
//! Left out: transactions (exactly once); flushing for checkpoints, which waits as the end of input does.

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;

use crate::element::StopMode;
use crate::error::{Error, Result};
use crate::kafka::client::NativeClient;
use crate::kafka::config::{KafkaClientConfig, Role};
use crate::kafka::metadata::partition_count;
use crate::kafka::producer::{Delivery, Producer};
use crate::metrics::{Accumulator, SubtaskMetrics, add};
use crate::operator::chain::Output;
use crate::operator::{Operator, OperatorFactory, Progress};
use crate::record::{EventTime, RecordRef};
use crate::runtime::clock::Clock;
use crate::runtime::context::{OpenContext, PrepareContext};
use crate::runtime::doorbell::Bell;
use crate::runtime::housekeeping::OffCore;
use crate::runtime::on_core::OnCore;

/// Writes a record's bytes as they shall stand in Kafka, behind what the vector holds (it is empty).
pub type Encoder = Arc<dyn Fn(&RecordRef<'_>, &mut Vec<u8>) + Send + Sync>;

/// How long a request to the cluster may take while a subtask starts.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Which partition a record goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SinkPartitioning {
    /// librdkafka spreads records: to one partition for some milliseconds, then to another.
    #[default]
    Spread,
    /// `key_hash % partitions`: records of one key stay in order. Partitions are counted when the subtask starts.
    ByKey,
}

/// Builds sinks that write one topic.
#[derive(Clone)]
pub struct KafkaSinkFactory {
    client: KafkaClientConfig,
    topic: String,
    partitioning: SinkPartitioning,
    encoder: Option<Encoder>,
    event_times: bool,
}

impl KafkaSinkFactory {
    /// A sink that writes the bytes of records as they are.
    #[must_use]
    pub fn new(client: KafkaClientConfig, topic: impl Into<String>) -> Self {
        Self {
            client,
            topic: topic.into(),
            partitioning: SinkPartitioning::Spread,
            encoder: None,
            event_times: true,
        }
    }

    /// Which partition a record goes to.
    #[must_use]
    pub fn partitioning(mut self, partitioning: SinkPartitioning) -> Self {
        self.partitioning = partitioning;
        self
    }

    /// Whether a record's event time becomes its Kafka timestamp (the default, as in Flink); without it, that is the time
    /// of writing. Brokers delete by that timestamp: rows with old event times vanish from a topic with a retention time.
    #[must_use]
    pub fn event_times(mut self, event_times: bool) -> Self {
        self.event_times = event_times;
        self
    }

    /// Writes records in another form, such as a line of JSON.
    #[must_use]
    pub fn encoder(mut self, encoder: Encoder) -> Self {
        self.encoder = Some(encoder);
        self
    }

    /// How to reach the cluster.
    #[must_use]
    pub fn client(&self) -> &KafkaClientConfig {
        &self.client
    }

    /// What is written.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Builds the sink of one subtask, as itself. Blocks; see [`OperatorFactory::prepare`].
    ///
    /// # Errors
    /// The cluster is unreachable, the topic is missing.
    pub fn prepare_sink(&self, context: &PrepareContext) -> Result<KafkaSink> {
        let config = self
            .client
            .for_subtask(&context.operator_name, context.subtask_index);
        let client = NativeClient::new(&config, Role::Producer)?;
        let producer = Producer::new(&client, &self.topic)?;
        let partition_count = partition_count(producer.topic(), REQUEST_TIMEOUT)?.partition_count;
        Ok(KafkaSink {
            event_times: self.event_times,
            encoder: self.encoder.clone(),
            encoded: Vec::new(),
            keyed_partitions: match self.partitioning {
                SinkPartitioning::Spread => None,
                SinkPartitioning::ByKey => u32::try_from(partition_count).ok(),
            },
            waiting: VecDeque::new(),
            on_core: OnCore::empty(),
            producer: OffCore::new(producer, context.housekeeping.clone()),
        })
    }
}

impl OperatorFactory for KafkaSinkFactory {
    fn prepare(&self, context: &PrepareContext) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.prepare_sink(context)?))
    }
}

impl fmt::Debug for KafkaSinkFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSinkFactory")
            .field("client", &self.client)
            .field("topic", &self.topic)
            .field("partitioning", &self.partitioning)
            .field("encoded", &self.encoder.is_some())
            .finish()
    }
}

/// A record that found librdkafka's queue full.
#[derive(Debug)]
struct Waiting {
    kafka_partition: Option<i32>,
    bytes: Vec<u8>,
    timestamp: EventTime,
    origin_ns: u64,
}

/// Writes the records of one subtask.
pub struct KafkaSink {
    event_times: bool,
    encoder: Option<Encoder>,
    encoded: Vec<u8>,
    keyed_partitions: Option<u32>,
    /// Records that found the queue full, oldest first. One as a rule: the chain is blocked while there is one. More
    /// only where an operator emits several records for the one that it was given.
    waiting: VecDeque<Waiting>,
    on_core: OnCore<(Rc<Clock>, Rc<SubtaskMetrics>)>,
    /// Dropped on a housekeeping thread, together with what is in flight.
    producer: OffCore<Producer>,
}

impl KafkaSink {
    /// Serves deliveries: counts what was acknowledged.
    fn serve(&mut self) -> Result<()> {
        if self.producer.in_flight() == 0 {
            return Ok(());
        }
        let (clock, metrics) = self.on_core.get();
        let mut failed = None;
        // Read with the first delivery: most turns see none.
        let mut wall_ns = 0;
        let mut acknowledged = 0;
        self.producer.serve(|delivery| match delivery.error {
            None => {
                if wall_ns == 0 {
                    wall_ns = clock.wall_ns();
                }
                acknowledged += 1;
                if delivery.origin_ns > 0 {
                    metrics.record_latency(delivery.origin_ns, wall_ns);
                }
            }
            Some(code) => {
                failed.get_or_insert((delivery, code));
            }
        });
        add(&metrics.sink_records, acknowledged);
        failed.map_or(Ok(()), |(delivery, code)| {
            Err(self.delivery_error(&delivery, code))
        })
    }

    /// Sends what waited, as far as there is room.
    fn send_waiting(&mut self) -> Result<()> {
        while let Some(record) = self.waiting.front() {
            let Waiting {
                kafka_partition,
                bytes,
                timestamp,
                origin_ns,
            } = record;
            match self
                .producer
                .send(*kafka_partition, bytes, *timestamp, *origin_ns)
            {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(RDKafkaErrorCode::QueueFull) => break,
                Err(code) => return Err(self.send_error(code, bytes.len())),
            }
        }
        Ok(())
    }

    /// Whether all that came is acknowledged.
    fn flush(&mut self) -> Result<Progress> {
        self.poll()?;
        let done = self.waiting.is_empty() && self.producer.in_flight() == 0;
        Ok(if done {
            Progress::Done
        } else {
            Progress::Blocked
        })
    }

    fn delivery_error(&self, delivery: &Delivery, code: RDKafkaErrorCode) -> Error {
        let topic = self.producer.topic();
        let (name, client) = (topic.name(), topic.client());
        let partition = match delivery.kafka_partition {
            kafka_partition @ 0.. => format!("partition {kafka_partition} of topic `{name}`"),
            _ => format!("topic `{name}`"),
        };
        let cause = match code {
            RDKafkaErrorCode::MessageTimedOut => {
                let trouble = client.take_trouble();
                let trouble = trouble
                    .as_deref()
                    .unwrap_or("no connection failed; does the topic still exist?");
                let servers = client.bootstrap_servers();
                format!(
                    "not acknowledged within message.timeout.ms: {trouble}; is Kafka at {servers} up?"
                )
            }
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition => {
                format!("{code}; was the topic deleted?")
            }
            RDKafkaErrorCode::MessageSizeTooLarge => {
                format!("{code}; the topic's max.message.bytes is smaller")
            }
            code => match client.fatal_error() {
                Some(fatal) => format!("{code}: {fatal}"),
                None => code.to_string(),
            },
        };
        Error::operator(format!("a record for {partition} was not written: {cause}"))
    }

    fn send_error(&self, code: RDKafkaErrorCode, bytes: usize) -> Error {
        let topic = self.producer.topic().name();
        Error::operator(match code {
            RDKafkaErrorCode::MessageSizeTooLarge => format!(
                "a record of {bytes} bytes for topic `{topic}` is larger than the property `message.max.bytes` allows"
            ),
            RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownPartition => {
                format!("topic `{topic}` can be written no more: {code}; was it deleted?")
            }
            code => format!("a record of {bytes} bytes for topic `{topic}` was refused: {code}"),
        })
    }
}

impl Operator for KafkaSink {
    fn open(&mut self, context: &OpenContext) -> Result<()> {
        self.on_core
            .set((Rc::clone(&context.clock), Rc::clone(&context.metrics)));
        self.producer.ring(Bell::new(context.doorbell.as_raw_fd())?);
        Ok(())
    }

    fn on_record(&mut self, record: &RecordRef<'_>, _output: &mut Output) -> Result<()> {
        let bytes = match &self.encoder {
            Some(encode) => {
                self.encoded.clear();
                encode(record, &mut self.encoded);
                &self.encoded
            }
            None => record.bytes,
        };
        let timestamp = if self.event_times {
            record.timestamp
        } else {
            EventTime::NONE
        };
        // Remainders by a count that came from an i32 fit one.
        let kafka_partition = self
            .keyed_partitions
            .map(|count| i32::try_from(record.key_hash % count).unwrap_or_default());
        let sent = match self.waiting.is_empty() {
            true => self
                .producer
                .send(kafka_partition, bytes, timestamp, record.origin_ns),
            false => Err(RDKafkaErrorCode::QueueFull),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(RDKafkaErrorCode::QueueFull) => {
                let (bytes, origin_ns) = (bytes.to_vec(), record.origin_ns);
                self.waiting.push_back(Waiting {
                    kafka_partition,
                    bytes,
                    timestamp,
                    origin_ns,
                });
                Ok(())
            }
            Err(code) => Err(self.send_error(code, bytes.len())),
        }
    }

    fn on_end_of_input(&mut self, _mode: StopMode, _output: &mut Output) -> Result<Progress> {
        self.flush()
    }

    fn resume(&mut self, _output: &mut Output) -> Result<Progress> {
        self.flush()
    }

    fn wants_poll(&self) -> bool {
        true
    }

    fn poll(&mut self) -> Result<()> {
        self.serve()?;
        self.send_waiting()
    }

    fn is_blocked(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn close(&mut self, _accumulators: &mut Vec<Accumulator>) {
        // What is in flight is given up with the producer, on a housekeeping thread.
        self.waiting.clear();
    }
}

impl fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSink")
            .field("producer", &*self.producer)
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}
