//! Figures of a job, merged over its attempts.
//!
//! Owns: latency histograms, accumulators, and where time went. Counters stay with their execution (graph/execution_graph.rs).
//! Invariant: bounded by `limits`, whatever TaskManagers send.
//! Left out: time series, Prometheus.

pub(crate) mod accumulator;
pub(crate) mod cpu;
pub(crate) mod latency;
pub(crate) mod time;
