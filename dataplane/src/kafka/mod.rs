//! Kafka, as sources, sinks and the command line share it: configuration, clients, metadata, topics.
//!
//! Owns: everything that touches librdkafka. [`config`] says how clients are set up, [`client`] owns one, [`log`] listens
//! to it; [`queue`] drains fetched records, [`producer`] sends, [`ready`] tells the core when either has something;
//! [`metadata`] asks a cluster and [`admin`] changes it.
//! Invariant: whatever blocks (creating, asking, dropping) runs on a housekeeping thread or in the command line, never
//! on a data core; [`OffCore`](crate::runtime::housekeeping::OffCore) takes clients off their core again. What a core
//! calls never blocks.
//! Left out: consumer groups. Partitions are assigned by the control plane and positions belong to checkpoints, so
//! librdkafka's group-less consumer (`rd_kafka_consume_start`) is used: no coordinator, no session, no rebalance.

pub mod admin;
pub mod client;
pub mod config;
pub mod log;
pub mod metadata;
pub mod producer;
pub mod queue;
pub mod ready;

pub use admin::{TopicCreation, create_topic, delete_topic};
pub use config::KafkaClientConfig;
pub use metadata::{OffsetRange, TopicPartitions, describe_topics, offset_ranges};
