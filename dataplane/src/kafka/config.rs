//! How Kafka clients are configured: our defaults, then the user's properties, then what we rely on.
//!
//! Owns: [`KafkaClientConfig`] and the properties of each [`Role`]. Invariant: properties that the code relies on
//! (offsets under our control, every delivery reported) are applied last, so no user property can break them.
//! Left out: property names of Kafka's Java clients that librdkafka does not know; they are refused by name.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use rdkafka::config::NativeClientConfig;
use rdkafka::error::KafkaError;

use crate::error::{Error, Result};

/// Bytes that a reader may hold fetched and unread, over all its partitions: 16 MiB is 16 fetches of the default
/// `fetch.message.max.bytes`, and 10 ms of a reader at 1.6 GB/s.
const READER_BYTES: usize = 16 << 20;

/// Least of those bytes for one partition: one fetch of 1 MiB in hand while the next is on its way.
const PARTITION_BYTES_MIN: usize = 2 << 20;

/// Records fetched and unread at which a partition pauses fetching, whatever their size. Each costs librdkafka a heap
/// object of about 400 B beside its payload, so 25 000 x 4 partitions x 400 B = 40 MB at most.
const PARTITION_RECORDS: usize = 25_000;

/// What a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Asks for metadata and offsets, and changes topics.
    Admin,
    /// Reads partitions.
    Reader {
        /// Partitions that share the memory for fetched records; at least 1.
        partitions: usize,
        /// Announce the end of each partition.
        announce_end: bool,
    },
    /// Writes.
    Producer,
}

/// How to reach a Kafka cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaClientConfig {
    /// `host:port`, several with commas between them.
    pub bootstrap_servers: String,
    /// Properties by librdkafka's names, for all clients made from this; they win over ringflow's defaults.
    pub properties: BTreeMap<String, String>,
    /// Name in the broker's logs and metrics.
    pub client_id: String,
}

impl KafkaClientConfig {
    /// A cluster, without further properties.
    #[must_use]
    pub fn new(bootstrap_servers: impl Into<String>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            properties: BTreeMap::new(),
            client_id: "ringflow".to_owned(),
        }
    }

    /// Sets one property.
    #[must_use]
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(key.into(), value.into());
        self
    }

    /// The same cluster under the name of one subtask.
    #[must_use]
    pub fn for_subtask(&self, operator_name: &str, subtask_index: u32) -> Self {
        let client_id = format!("{}-{operator_name}-{subtask_index}", self.client_id);
        Self {
            client_id,
            ..self.clone()
        }
    }

    /// librdkafka's configuration for a client of this role.
    ///
    /// # Errors
    /// A property is unknown to librdkafka, or its value is: names the property.
    pub fn native(&self, role: Role) -> Result<NativeClientConfig> {
        self.resolve(role)
            .create_native_config()
            .map_err(|error| self.explain(error))
    }

    fn resolve(&self, role: Role) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (key, value) in defaults(role) {
            config.set(key, value);
        }
        config.set("client.id", &self.client_id);
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        config.set("bootstrap.servers", &self.bootstrap_servers);
        for (key, value) in relied_on(role) {
            config.set(key, value);
        }
        // A group would make every reader look for its coordinator; nobody commits through it yet.
        config.remove("group.id");
        config
    }

    fn explain(&self, error: KafkaError) -> Error {
        match error {
            KafkaError::ClientConfig(_, description, key, value) => {
                let value = if is_secret(&key) {
                    "(secret)".to_owned()
                } else {
                    value
                };
                Error::deployment(format!(
                    "Kafka property `{key}` = `{value}` is refused: {description}; names and values are librdkafka's"
                ))
            }
            other => Error::deployment(format!(
                "Kafka client for {}: {other}",
                self.bootstrap_servers
            )),
        }
    }
}

impl fmt::Debug for KafkaClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(key, value): (&String, &String)| {
            (
                key.clone(),
                if is_secret(key) {
                    "(secret)".to_owned()
                } else {
                    value.clone()
                },
            )
        };
        f.debug_struct("KafkaClientConfig")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field(
                "properties",
                &self
                    .properties
                    .iter()
                    .map(shown)
                    .collect::<BTreeMap<_, _>>(),
            )
            .field("client_id", &self.client_id)
            .finish()
    }
}

fn is_secret(key: &str) -> bool {
    ["password", "secret", "key.pem", "sasl.oauthbearer.config"]
        .iter()
        .any(|part| key.contains(part))
}

/// What we choose where librdkafka's defaults favour throughput over latency. The user's properties win.
fn defaults(role: Role) -> Vec<(&'static str, String)> {
    // A broker that comes back should be seen within a second, not librdkafka's 10 s.
    let mut defaults = vec![
        ("reconnect.backoff.max.ms", "1000".to_owned()),
        // A topic that vanishes is an error after 10 s, not librdkafka's 30 s; starting brokers know theirs by then.
        ("topic.metadata.propagation.max.ms", "10000".to_owned()),
    ];
    match role {
        Role::Admin => {}
        Role::Reader { partitions, .. } => {
            let bytes = (READER_BYTES / partitions.max(1)).max(PARTITION_BYTES_MIN);
            defaults.extend([
                // A broker answers as soon as it has anything; this bounds how long a partition that was left out of
                // a waiting fetch (its queue was full) waits for the next one.
                ("fetch.wait.max.ms", "10".to_owned()),
                // librdkafka's 1 s is a hole of 1 s after each time the local queue was full.
                ("fetch.queue.backoff.ms", "2".to_owned()),
                ("fetch.error.backoff.ms", "100".to_owned()),
                ("queued.min.messages", PARTITION_RECORDS.to_string()),
                ("queued.max.messages.kbytes", (bytes >> 10).to_string()),
                // Open and aborted transactions stay unseen.
                ("isolation.level", "read_committed".to_owned()),
            ]);
        }
        Role::Producer => defaults.extend([
            ("acks", "all".to_owned()),
            // Retries neither double nor reorder; it also keeps at most 5 requests in flight, below.
            ("enable.idempotence", "true".to_owned()),
            // Batches grow by themselves while 5 requests are out; without this bound one request per record
            // is sent, and the broker falls behind at 10 000 records/s.
            ("linger.ms", "0".to_owned()),
            ("max.in.flight.requests.per.connection", "5".to_owned()),
            // Kafka's `delivery.timeout.ms`.
            ("message.timeout.ms", "120000".to_owned()),
            // The broker's own default.
            ("message.max.bytes", "1048588".to_owned()),
            // What may wait in this client: Kafka's `buffer.memory` of 32 MiB, and librdkafka's own count.
            ("queue.buffering.max.kbytes", (32 << 10).to_string()),
            ("queue.buffering.max.messages", "100000".to_owned()),
        ]),
    }
    defaults
}

/// What the code relies on. Wins over the user's properties.
fn relied_on(role: Role) -> Vec<(&'static str, &'static str)> {
    // Nobody serves a log or statistics queue: logs are called back, see `client`.
    let mut relied_on = vec![("log.queue", "false"), ("statistics.interval.ms", "0")];
    match role {
        Role::Admin => relied_on.push(("allow.auto.create.topics", "false")),
        Role::Reader { announce_end, .. } => relied_on.extend([
            ("allow.auto.create.topics", "false"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            // Records that vanished before they were read are a failure, never a silent jump.
            ("auto.offset.reset", "error"),
            (
                "enable.partition.eof",
                if announce_end { "true" } else { "false" },
            ),
        ]),
        Role::Producer => relied_on.push(("delivery.report.only.error", "false")),
    }
    relied_on
}

#[cfg(test)]
mod tests {
    use super::*;

    const READER: Role = Role::Reader {
        partitions: 4,
        announce_end: true,
    };

    fn value(config: &KafkaClientConfig, role: Role, key: &str) -> String {
        config.native(role).unwrap().get(key).unwrap()
    }

    #[test]
    fn user_properties_win_over_defaults_but_not_over_what_we_rely_on() {
        let config = KafkaClientConfig::new("kafka:9092")
            .property("fetch.wait.max.ms", "77")
            .property("auto.offset.reset", "latest")
            .property("enable.auto.commit", "true")
            .property("group.id", "mine");
        assert_eq!(value(&config, READER, "fetch.wait.max.ms"), "77");
        assert_eq!(value(&config, READER, "enable.auto.commit"), "false");
        assert_eq!(value(&config, READER, "enable.partition.eof"), "true");
        assert_eq!(value(&config, READER, "bootstrap.servers"), "kafka:9092");
        assert!(config.resolve(READER).get("group.id").is_none());
        assert_eq!(
            config.resolve(READER).get("auto.offset.reset"),
            Some("error")
        );
    }

    #[test]
    fn a_producer_batches_by_requests_in_flight() {
        let config = KafkaClientConfig::new("kafka:9092");
        assert_eq!(value(&config, Role::Producer, "linger.ms"), "0");
        assert_eq!(
            value(
                &config,
                Role::Producer,
                "max.in.flight.requests.per.connection"
            ),
            "5"
        );
        assert_eq!(value(&config, Role::Producer, "enable.idempotence"), "true");
    }

    #[test]
    fn memory_for_fetched_records_is_shared_by_partitions() {
        let kbytes = |partitions| {
            let role = Role::Reader {
                partitions,
                announce_end: false,
            };
            value(
                &KafkaClientConfig::new("k:1"),
                role,
                "queued.max.messages.kbytes",
            )
        };
        assert_eq!(kbytes(0), "16384");
        assert_eq!(kbytes(4), "4096");
        assert_eq!(kbytes(100), "2048");
    }

    #[test]
    fn an_unknown_property_is_named() {
        let config = KafkaClientConfig::new("k:1").property("key.deserializer", "x");
        let message = config.native(Role::Admin).err().unwrap().to_string();
        assert!(
            message.contains("`key.deserializer` = `x` is refused"),
            "{message}"
        );
    }

    #[test]
    fn secrets_stay_secret() {
        let config = KafkaClientConfig::new("k:1").property("sasl.password", "hunter2");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn subtasks_have_names() {
        let config = KafkaClientConfig::new("k:1").for_subtask("bids", 3);
        assert_eq!(config.client_id, "ringflow-bids-3");
    }
}
