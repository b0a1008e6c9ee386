//! What operators, sources and sinks learn about where they run.
//!
//! Owns: [`PrepareContext`] (on a housekeeping thread, before the subtask exists) and [`OpenContext`] (on its core).
//! Invariant: what is here is fixed for one attempt.
//! Left out: counters that change ([`crate::metrics`]) except as a shared handle.

use std::rc::Rc;
use std::sync::Arc;

use crate::metrics::SubtaskMetrics;
use crate::runtime::clock::Clock;
use crate::runtime::doorbell::Doorbell;
use crate::runtime::housekeeping::Housekeeping;
use crate::state::disk::StateStorage;

/// One split of a source, assigned to a subtask: a Kafka partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SplitAssignment {
    /// Topic.
    pub topic: String,
    /// Partition of the topic.
    pub kafka_partition: i32,
}

/// What a factory knows when it builds an operator or reader on a housekeeping thread.
#[derive(Debug, Clone)]
pub struct PrepareContext {
    /// Name of the operator.
    pub operator_name: String,
    /// Index of the subtask, from 0.
    pub subtask_index: u32,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// What a source reads; empty where it divides itself, or where there are more subtasks than splits.
    pub splits: Vec<SplitAssignment>,
    /// Threads for what blocks.
    pub housekeeping: Housekeeping,
}

/// What an operator knows on its core.
#[derive(Debug, Clone)]
pub struct OpenContext {
    /// Index of the subtask, from 0.
    pub subtask_index: u32,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// The core's clock.
    pub clock: Rc<Clock>,
    /// The subtask's counters.
    pub metrics: Rc<SubtaskMetrics>,
    /// Where keyed state is kept.
    pub state: StateStorage,
    /// The core's bell: whoever has something for the operator publishes it, then rings.
    pub doorbell: Arc<Doorbell>,
}
