//! Watching jobs run: status machines, failures, and the job that holds them together.
//!
//! Invariant: every status changes only through its machine; the whole (status x event) table is a committed file
//! (`src/supervise/status_tables.txt`).
//! Left out: restarting what failed.

pub(crate) mod alignment;
pub(crate) mod effects;
pub(crate) mod failure;
pub(crate) mod job;
mod job_status;
mod subtask_status;

pub use ringflow_schemas::stop_mode::StopMode;

pub use job_status::{InvalidJobTransition, JobEvent, JobStatus};
pub use subtask_status::{InvalidSubtaskTransition, SubtaskEvent, SubtaskStatus};

#[cfg(test)]
mod table_tests;
