//! ringflow's data plane: the TaskManager and the road of a record.
//!
//! ```text
//!              one data core (a pinned glommio executor, one poller task)
//!   +---------------------------------------------------------------------------------------+
//!   |  source::SourceReader --poll--> operator::chain::Chain --> exchange::ResultPartition    |
//!   |      (generator, Kafka)          filter, map, window, sink          |  batch::Buffer    |
//!   |                                        ^                            v                   |
//!   |                              exchange::InputGate <-- LocalQueue | ring | Connection ----|--> other cores, hosts
//!   |  runtime::core sweeps: mailbox, connections, subtasks (turn by turn), flush, spin, sleep |
//!   +---------------------------------------------------------------------------------------+
//!   task_manager: the process around it: registers, deploys, reports (tokio, housekeeping cores)
//! ```
//! In the order a record travels: [`source`], [`record`], [`operator`], [`batch`], [`exchange`], [`sink`]; around it
//! [`subtask`], [`runtime`], [`task_manager`], [`program`]; bounds in [`limits`].
//! Invariant: nothing on a data core blocks, and nothing that may block runs on one (user code excepted).
//! Left out: scheduling and job life cycles (the control plane).

#![deny(unsafe_op_in_unsafe_fn)]

pub mod batch;
pub mod element;
pub mod error;
pub mod exchange;
pub mod kafka;
pub mod limits;
pub mod metrics;
pub mod operator;
pub mod program;
pub mod record;
pub mod runtime;
pub mod sink;
pub mod source;
pub mod state;
pub mod subtask;
pub mod task_manager;

pub use error::{Error, Result};
