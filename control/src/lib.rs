//! ringflow's control plane: the JobManager.
//!
//! ```text
//! a job's path
//!   bytes -> wire::decode -> StreamGraph -> submit (validate, resolve) -> graph::chaining -> JobGraph
//!         -> ExecutionGraph -> schedule (slots) -> deploy (descriptors) -> TaskManagers -> supervise -> FINISHED
//!
//! a failure's path
//!   closed connection | missed heartbeats | FAILED report -> supervise::failure (root and concurrent)
//!         -> FAILING -> every subtask cancelled -> all terminal -> FAILED, slots free again
//! ```
//!
//! Owns: accepting jobs, who runs where, what the outside sees of it (REST).
//! Invariant: [`engine::Engine`] is synchronous and pure: an [`event::Event`] and the time go in, [`command::Command`]s
//! come out. Sockets, clocks and randomness live in `runtime` alone, so a seeded simulation drives the whole plane
//! (`tests/simulation`).
//! Left out so far: checkpoints, restarts, durable jobs. A failed subtask fails its job.

pub mod command;
pub mod engine;
pub mod error;
pub mod event;
pub mod graph;
pub mod limits;
pub mod time;

mod cluster;
mod deploy;
mod invariants;
mod metrics;
mod rest;
mod runtime;
mod schedule;
mod submit;
pub mod supervise;
mod wire;

pub use error::{Error, ErrorKind};
pub use graph::plan::plan_json;
pub use runtime::{JobManager, JobManagerConfig, RunningJobManager};
pub use submit::Rejected;
pub use wire::{
    decode_from_task_manager, decode_stream_graph, encode_stream_graph, encode_to_task_manager,
};
