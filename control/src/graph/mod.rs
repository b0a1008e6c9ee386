//! The three forms of a job's graph.
//!
//! ```text
//! StreamGraph (what was submitted) -> JobGraph (chained vertices) -> ExecutionGraph (subtasks and their attempts)
//! ```
//!
//! Invariant: spec, decision and attempt are three types; nothing is two of them.

mod chaining;
pub(crate) mod execution_graph;
pub(crate) mod job_graph;
pub(crate) mod plan;
pub mod stream_graph;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod wiring;

pub use stream_graph::StreamGraph;
