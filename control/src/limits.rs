//! Every bound of the control plane, with its unit and its arithmetic.
//!
//! Owns: the numbers. Who enforces each is named beside it.
//! Invariant: what a JobManager holds is bounded by
//! `(JOBS_LIVE_MAX + JOBS_TERMINAL_KEPT) x job + TASK_MANAGERS_MAX x TaskManager`; a job is bounded by its graph and its
//! subtasks, both below.

use std::time::Duration;

/// Nodes in a submitted graph (submit/validate.rs). Hand-written jobs have tens.
pub const NODES_MAX: usize = 1024;
/// Edges in a submitted graph (submit/validate.rs): eight per node.
pub const EDGES_MAX: usize = 8 * NODES_MAX;
/// Splits over all sources of a graph (submit/validate.rs).
pub const SPLITS_MAX: usize = 1 << 15;
/// Bytes of a name, uid, topic or id in anything that comes from outside.
pub const NAME_BYTES_MAX: usize = 1024;
/// Least and most time between two comparisons of aligned sources, in milliseconds (submit/validate.rs).
pub const ALIGNMENT_INTERVAL_MS: (u32, u32) = (10, 3_600_000);
/// Arguments of a program, each of at most [`ARGUMENT_BYTES_MAX`] (submit/validate.rs).
pub const ARGUMENTS_MAX: usize = 1024;
/// Bytes of one program argument.
pub const ARGUMENT_BYTES_MAX: usize = 64 << 10;
/// Bytes of a graph submitted over REST: `SPLITS_MAX` splits at some 64 bytes are 2 MiB, names and arguments the rest.
pub const GRAPH_BYTES_MAX: usize = 4 << 20;
/// Bytes of a vertex's name (graph/job_graph.rs): a longer chain's name is cut.
pub const VERTEX_NAME_BYTES_MAX: usize = 4 * NAME_BYTES_MAX;

/// Subtasks of one job (submit). An execution is about 600 bytes with its counters: at most 10 MiB a job.
pub const SUBTASKS_MAX: usize = 1 << 14;
/// Operators and chained edges of one job, times its subtasks (submit): each subtask lists its own, 4 bytes each.
pub const OPERATOR_INSTANCES_MAX: usize = 1 << 20;
/// Parallel channels of one job (submit). Each is described at both ends in at most 112 bytes.
///
/// With everything on one TaskManager its deployment is
/// `2 x 196608 x 112 B = 42 MiB` of channels, 4 MiB of graph, at most as much again of splits, 4 MiB of operators, and
/// `16384 x 200 B = 3 MiB` of descriptors: 57 MiB, below the message limit of 64 MiB (tested in wire/tests.rs).
pub const CHANNELS_MAX: u64 = 3 << 16;

/// Jobs that are not terminal (engine). More are refused.
pub const JOBS_LIVE_MAX: usize = 256;
/// Terminal jobs kept for REST (engine); the one that ended first is dropped first. Each keeps its latency histogram
/// encoded: at most 100 x 256 KiB, a few KiB as a rule.
pub const JOBS_TERMINAL_KEPT: usize = 100;
/// Warnings kept with a job.
pub const WARNINGS_MAX: usize = 64;

/// Registered TaskManagers (cluster).
pub const TASK_MANAGERS_MAX: usize = 1024;
/// Slots of one TaskManager (cluster).
pub const SLOTS_PER_TASK_MANAGER_MAX: usize = 1024;
/// Data cores of one TaskManager (cluster).
pub const CORES_PER_TASK_MANAGER_MAX: usize = 1024;

/// Failures kept in a job's exception history, the root among them (supervise/failure.rs).
pub const FAILURES_MAX: usize = 64;
/// Bytes of one failure's message; the rest is cut (supervise/failure.rs). A job's history is at most 1 MiB.
pub const FAILURE_BYTES_MAX: usize = 16 << 10;
/// How long a job whose only failure is a lost peer waits for that peer's own story before FAILED is published.
pub const ROOT_CAUSE_HOLD: Duration = Duration::from_secs(1);
/// How long the set of slots must be unchanged before a waiting job with automatic parallelism settles for fewer, and
/// before one fails for want of buffers.
pub const SLOTS_STABLE: Duration = Duration::from_secs(1);

/// Bytes of one encoded latency histogram (metrics/latency.rs): 3 digits over 1 us..1 h are 23 buckets of 1024 counts
/// and 1024 more, at most 9 bytes each: 216 KiB.
pub const HISTOGRAM_BYTES_MAX: usize = 256 << 10;
/// Lowest latency told apart, in us.
pub const LATENCY_US_MIN: u64 = 1;
/// Highest latency told apart, in us: one hour.
pub const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Significant decimal digits of a latency. One histogram is 24 x 1024 counts of 8 bytes: 192 KiB, three per live job.
pub const LATENCY_DIGITS: u8 = 3;
/// The interval over which `latency_us_interval` looks back.
pub const LATENCY_INTERVAL: Duration = Duration::from_secs(1);

/// Named accumulators of one job (metrics/accumulator.rs).
pub const ACCUMULATORS_MAX: usize = 64;
/// Rows of one TopRows accumulator.
pub const ACCUMULATOR_ROWS_MAX: usize = 1000;
/// Bytes of one row's text; 64 x 1000 x 4 KiB bounds a job's rows.
pub const ACCUMULATOR_TEXT_BYTES_MAX: usize = 4 << 10;

/// Events waiting for the engine (runtime). A full queue holds its senders back: back-pressure, not loss.
pub const ENGINE_QUEUE_MAX: usize = 1024;
/// Messages waiting for one TaskManager (runtime). A TaskManager that lets them pile up does not read: it is lost.
pub const OUTBOUND_QUEUE_MAX: usize = 1024;
/// Connections that may be open at once (runtime): all TaskManagers, and as many again that are registering anew.
pub const CONNECTIONS_MAX: usize = 2 * TASK_MANAGERS_MAX;
/// How long a connection may take to register (runtime).
pub const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the engine looks at its deadlines (runtime): a tenth of the shortest of them, [`ROOT_CAUSE_HOLD`].
pub const TICK: Duration = Duration::from_millis(100);
/// A tick that comes this long after the one before shows that the JobManager itself stood still (engine): ten ticks,
/// a fifth of the default heartbeat timeout.
pub const TICK_LATE: Duration = Duration::from_secs(1);
/// How long an orderly shutdown waits for open connections (runtime).
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// REST clients connected at a time: each may hold one submitted graph (4 MiB) while it is slow, 256 MiB in all.
pub const REST_CONNECTIONS_MAX: usize = 64;

/// Ranges of subtasks that one request for metrics may name: each subtask is compared with each.
pub const SUBTASK_RANGES_MAX: usize = 64;

/// How long a REST client may take for its headers.
pub const REST_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a REST connection lives: longer than any client waits for one answer (15 s), short enough to end one that is
/// slow with its body. Clients that keep connections alive open a new one.
pub const REST_CONNECTION_TIME: Duration = Duration::from_secs(30);

/// Wait after a failed accept (no file descriptor left), so that it does not spin.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);
