//! What the engine wants done.
//!
//! Owns: [`Command`] and the inner forms of the JobManager's messages.
//! Invariant: commands of one event are carried out in order; none of them is needed for the engine's own state to be
//! right (a message that cannot be sent comes back as a closed connection).
//! Left out: how (runtime/), bytes (wire/).

use std::sync::Arc;

use ringflow_schemas::id::{ExecutionAttemptId, JobId};

use crate::event::ConnectionId;
use crate::graph::StreamGraph;
use crate::graph::stream_graph::{Partitioner, SourceSplit};
use crate::submit::Rejected;
use crate::supervise::{JobStatus, StopMode, SubtaskStatus};

/// Something to do.
#[derive(Debug, Clone)]
pub enum Command {
    /// Send to a TaskManager.
    Send {
        /// Over this connection.
        connection: ConnectionId,
        /// What.
        message: ToTaskManager,
    },
    /// End a connection, after what was sent before.
    Close {
        /// Which.
        connection: ConnectionId,
        /// Why, for the log.
        reason: String,
    },
    /// Answer the submitter.
    SubmissionAnswered {
        /// Of this job.
        job: JobId,
        /// Warnings, or why not.
        answer: Result<Vec<String>, Rejected>,
    },
    /// Answer who asked to cancel.
    CancelAnswered {
        /// This job.
        job: JobId,
        /// What became of it.
        answer: CancelAnswer,
    },
    /// Answer who asked to stop.
    StopAnswered {
        /// This job.
        job: JobId,
        /// What became of it.
        answer: StopAnswer,
    },
    /// Tell: a job went on.
    JobStatusChanged {
        /// Which.
        job: JobId,
        /// Its name.
        name: String,
        /// Before.
        from: JobStatus,
        /// Now.
        to: JobStatus,
        /// The root failure, when it is failing.
        reason: Option<String>,
    },
    /// Tell: an attempt went on.
    SubtaskStatusChanged {
        /// Which.
        attempt: ExecutionAttemptId,
        /// `name (1/4)`.
        task_name: String,
        /// Before.
        from: SubtaskStatus,
        /// Now.
        to: SubtaskStatus,
    },
    /// Tell: something an operator of the cluster should know.
    Log {
        /// The sentence.
        message: String,
    },
}

/// What became of a request to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelAnswer {
    /// It is being cancelled, or was already.
    Accepted,
    /// It ended in another way before.
    AlreadyTerminal(JobStatus),
    /// There is no such job.
    Unknown,
}

/// What became of a request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopAnswer {
    /// Its sources end, or are on their way to it already, in the mode that was asked for.
    Accepted,
    /// It is being stopped already, in this other mode.
    OtherMode(StopMode),
    /// Only a running job can be stopped: one that waits for slots, ends or has ended cannot.
    NotRunning(JobStatus),
    /// There is no such job.
    Unknown,
}

/// What the JobManager says.
#[derive(Debug, Clone)]
pub enum ToTaskManager {
    /// Welcome.
    Registered {
        /// The cluster.
        cluster_id: String,
        /// Grows with each start of the JobManager.
        leader_epoch: u64,
        /// Send heartbeats this often.
        heartbeat_interval_ms: u32,
        /// Silence longer than this is a loss, in both directions.
        heartbeat_timeout_ms: u32,
    },
    /// Go away.
    RegistrationRefused {
        /// Why.
        reason: String,
    },
    /// Run these.
    DeploySubtasks(Arc<Deployment>),
    /// End these.
    CancelSubtasks(Vec<ExecutionAttemptId>),
    /// Aligned sources read on only while their watermarks are at most these.
    AlignSources {
        /// Whose.
        job: JobId,
        /// By vertex, in milliseconds since the epoch.
        limits: Vec<(u32, i64)>,
    },
    /// Have these sources, which run, end in good order.
    StopSubtasks {
        /// Which.
        attempts: Vec<ExecutionAttemptId>,
        /// With the end of event time or without.
        mode: StopMode,
    },
    /// The JobManager is there.
    HeartbeatAck {
        /// As in `Registered`.
        leader_epoch: u64,
    },
}

/// Everything of one job for one TaskManager.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// The job.
    pub job: JobId,
    /// As it was submitted: its hash must agree with what the TaskManager builds.
    pub graph: Arc<StreamGraph>,
    /// What to run.
    pub subtasks: Vec<SubtaskDescriptor>,
}

/// One attempt to run.
#[derive(Debug, Clone)]
pub struct SubtaskDescriptor {
    /// Its id.
    pub attempt: ExecutionAttemptId,
    /// The slot it takes.
    pub slot: u32,
    /// Name of its vertex.
    pub vertex_name: Arc<str>,
    /// Subtasks of its vertex.
    pub parallelism: u32,
    /// Key groups of its vertex.
    pub max_parallelism: u32,
    /// Stream graph nodes, head first.
    pub operators: Vec<u32>,
    /// Stream graph edges between them.
    pub chained_edges: Vec<u32>,
    /// What it reads.
    pub inputs: Vec<InputGate>,
    /// What it writes.
    pub outputs: Vec<ResultPartition>,
    /// Splits it reads, when it is a source.
    pub splits: Vec<SourceSplit>,
    /// It had finished in the checkpoint that the job is restored from: it only passes the end on.
    pub finished_before: bool,
}

/// All channels that reach a subtask over one edge, in order of producers.
#[derive(Debug, Clone)]
pub struct InputGate {
    /// Stream graph edge.
    pub edge: u32,
    /// Operator that reads it.
    pub operator: u32,
    /// Frames granted to each channel from another process.
    pub credit: u32,
    /// One per producer.
    pub channels: Vec<Channel>,
}

/// All channels that leave a subtask over one edge, in order of consumers.
#[derive(Debug, Clone)]
pub struct ResultPartition {
    /// Stream graph edge.
    pub edge: u32,
    /// Operator that writes it.
    pub operator: u32,
    /// How records choose a channel.
    pub partitioner: Partitioner,
    /// Key groups of the consumer.
    pub max_parallelism: u32,
    /// Filled buffers that may wait on the road of each channel.
    pub road_buffers: u32,
    /// One per consumer.
    pub channels: Vec<Channel>,
}

/// One parallel edge as one end sees it.
#[derive(Debug, Clone)]
pub struct Channel {
    /// Who writes.
    pub producer: ExecutionAttemptId,
    /// Who reads.
    pub consumer: ExecutionAttemptId,
    /// The TaskManager at the other end.
    pub peer_task_manager_id: Arc<str>,
    /// Its core.
    pub peer_core: u32,
    /// Where that core listens, when it consumes.
    pub peer_address: Option<(Arc<str>, u16)>,
}
