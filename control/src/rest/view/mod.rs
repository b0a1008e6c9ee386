//! What each answer looks like: functions of the engine's state, without effects.
//!
//! Invariant: field names and their kinds (numbers in ms, -1 for "not yet") are Flink's.

pub(crate) mod cluster;
pub(crate) mod exceptions;
pub(crate) mod job;
pub(crate) mod jobs;
pub(crate) mod metrics;
pub(crate) mod progress;
pub(crate) mod task_managers;
pub(crate) mod vertex;

mod figures;
