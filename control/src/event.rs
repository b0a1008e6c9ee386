//! What reaches the engine.
//!
//! Owns: [`Event`] and the inner forms of a TaskManager's messages (`schemas/fbs/control.fbs`).
//! Invariant: none about content. A TaskManager may say anything; the engine ignores what cannot be.
//! Left out: bytes (wire/), who sent them over which socket (runtime/).

use std::sync::Arc;

use ringflow_schemas::id::{ExecutionAttemptId, JobId};

use crate::graph::StreamGraph;
use crate::supervise::StopMode;

/// One connection of a TaskManager. A TaskManager that comes back has a new one, so this also names its incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Something happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A client submits a job. Answered by [`crate::command::Command::SubmissionAnswered`].
    SubmitJob {
        /// Drawn by the runtime.
        job: JobId,
        /// As it came.
        graph: Arc<StreamGraph>,
    },
    /// A client cancels a job. Answered by [`crate::command::Command::CancelAnswered`].
    CancelJob {
        /// Which.
        job: JobId,
    },
    /// A client stops a job in good order. Answered by [`crate::command::Command::StopAnswered`].
    StopJob {
        /// Which.
        job: JobId,
        /// With the end of event time or without.
        mode: StopMode,
    },
    /// A TaskManager said something.
    TaskManager {
        /// Over this connection.
        connection: ConnectionId,
        /// What.
        message: FromTaskManager,
    },
    /// A connection ended.
    ConnectionClosed {
        /// Which.
        connection: ConnectionId,
        /// Why, as far as known.
        reason: String,
    },
    /// Time passed.
    Tick,
}

/// What a TaskManager says.
#[derive(Debug, Clone)]
pub enum FromTaskManager {
    /// First on each connection.
    Register(Box<Registration>),
    /// Each heartbeat interval.
    Heartbeat(Heartbeat),
    /// An attempt went on.
    SubtaskStatusChanged(Box<SubtaskStatusChange>),
    /// How far attempts of aligned sources are, in milliseconds since the epoch; `i64::MIN`: no watermark yet; `i64::MAX`: it holds
    /// nobody up.
    SourceWatermarks(Vec<(ExecutionAttemptId, i64)>),
    /// It leaves in good order.
    Goodbye {
        /// Why.
        reason: String,
    },
}

/// One slot that a TaskManager offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotDescription {
    /// Its number.
    pub slot: u32,
    /// Index of the core that runs it.
    pub core: u32,
}

/// What a TaskManager is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its name.
    pub task_manager_id: String,
    /// Where other TaskManagers reach it.
    pub data_host: String,
    /// A port for each data core.
    pub data_ports: Vec<u16>,
    /// What it offers.
    pub slots: Vec<SlotDescription>,
    /// CPU of each data core.
    pub core_cpus: Vec<u32>,
    /// Version of its binary.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// CPUs of its host.
    pub cpu_cores: u32,
    /// Memory of its host.
    pub physical_memory_bytes: u64,
    /// Free of it.
    pub free_memory_bytes: u64,
    /// Memory of its buffer pools.
    pub network_memory_bytes: u64,
}

impl Registration {
    /// Both come from one TaskManager process: same host, same process, same ports.
    #[must_use]
    pub fn is_same_process(&self, other: &Self) -> bool {
        (&self.data_host, self.pid, &self.data_ports)
            == (&other.data_host, other.pid, &other.data_ports)
    }
}

/// A sign of life with figures.
#[derive(Debug, Clone, Default)]
pub struct Heartbeat {
    /// CPU time of the process since it started.
    pub process_cpu_ns: u64,
    /// Free memory of its host.
    pub free_memory_bytes: u64,
    /// Exchange buffers in use, over all data cores.
    pub network_buffers_used: u64,
    /// All of them.
    pub network_buffers_total: u64,
    /// A report of each running attempt.
    pub subtasks: Vec<SubtaskReport>,
}

/// Counters of one attempt since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "named and explained in schemas/fbs/control.fbs"
)]
pub struct SubtaskCounters {
    pub records_in: u64,
    pub records_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub buffers_out: u64,
    pub busy_ns: u64,
    pub idle_ns: u64,
    pub backpressured_ns: u64,
    pub spinning_ns: u64,
    pub late_records_dropped: u64,
    pub bad_records: u64,
    pub source_records: u64,
    pub sink_records: u64,
    pub bytes_copied: u64,
    pub pending_records: u64,
    pub state_bytes: u64,
    pub state_bytes_max: u64,
}

/// How accumulators of the same name become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccumulatorKind {
    /// Added, wrapping.
    Sum,
    /// The greatest.
    Max,
    /// The least.
    Min,
    /// The rows of greatest order, ties by text ascending.
    TopRows,
}

/// One row of a [`AccumulatorKind::TopRows`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccumulatorRow {
    /// Rank: greater is nearer the top.
    pub order: i64,
    /// The row.
    pub text: String,
}

/// A named value of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accumulator {
    /// The same in all attempts that share it.
    pub name: String,
    /// How it merges.
    pub kind: AccumulatorKind,
    /// The value, unless it is rows.
    pub value: u64,
    /// Rows to keep.
    pub limit: u32,
    /// The rows.
    pub rows: Vec<AccumulatorRow>,
}

/// Figures of one attempt.
#[derive(Debug, Clone)]
pub struct SubtaskReport {
    /// Whose.
    pub attempt: ExecutionAttemptId,
    /// Since it started.
    pub counters: SubtaskCounters,
    /// Watermark of its input, once there is one.
    pub watermark_ms: Option<i64>,
    /// HdrHistogram, V2 encoding, of latency in us since the last report; unverified.
    pub latency: Option<Vec<u8>>,
    /// In the last report only.
    pub accumulators: Vec<Accumulator>,
}

/// The states that a TaskManager tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names of Flink's execution states")]
pub enum ReportedStatus {
    Deploying,
    Initializing,
    Running,
    Finished,
    Canceling,
    Canceled,
    Failed,
}

/// Which part of an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// An operator, source or sink.
    Operator,
    /// Building or wiring it.
    Deployment,
    /// A data connection ended.
    PeerLost,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which part.
    pub kind: FailureKind,
    /// For people.
    pub message: String,
    /// The peer, when one was lost.
    pub task_manager_id: Option<String>,
}

/// An attempt went on to `status`.
#[derive(Debug, Clone)]
pub struct SubtaskStatusChange {
    /// Whose.
    pub attempt: ExecutionAttemptId,
    /// The new status.
    pub status: ReportedStatus,
    /// When it failed.
    pub failure: Option<Failure>,
    /// When it ended.
    pub report: Option<SubtaskReport>,
    /// CPU time of the process at that moment.
    pub process_cpu_ns: u64,
}
