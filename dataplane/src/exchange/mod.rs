//! How buffers get from one subtask to another, and the flow control that bounds them.
//!
//! Owns: the producer's side ([`result_partition`], [`partitioner`]), the roads ([`local`], [`ring`], [`remote`] over
//! [`connection`] and [`frame`], which [`network`] drives with [`uring`] and [`receive_ring`]), the consumer's side
//! ([`input_gate`], [`valve`]), joined by [`channel`].
//! ```text
//! operator -> ResultPartition -> one of { same core: LocalQueue | other core: ring | other process: RemoteSender ->
//!             Connection ~TCP~ Connection -> RemoteReceiver } -> InputGate -> operator
//! ```
//! Invariant: on each road a producer may have at most as many filled buffers as its job's network level says
//! (`ringflow_schemas::network`), and on the wire at most the credit its consumer granted; a full road blocks its producer and
//! nobody else.
//! Left out: what is in the buffers ([`crate::batch`]).

pub mod channel;
pub mod connection;
pub mod frame;
pub mod input_gate;
pub mod local;
pub mod network;
pub mod partitioner;
pub mod receive_ring;
pub mod remote;
pub mod result_partition;
pub mod ring;
pub mod uring;
pub mod valve;
