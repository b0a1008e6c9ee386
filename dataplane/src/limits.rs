//! Every bound of the data plane, with its unit and its arithmetic.
//!
//! Owns: the numbers. Invariant: each queue, buffer and wait of this crate has its bound here.
//! Left out: bounds of the control plane (in its own crate).

/// Size of a pooled buffer. The control plane counts in it too.
pub use ringflow_schemas::network::BUFFER_BYTES;

/// Alignment of elements in a buffer.
pub const ELEMENT_ALIGN: usize = 8;

/// Head of each element: length, key hash, event time, origin: 4 + 4 + 8 + 8.
pub const ELEMENT_HEADER_BYTES: usize = 24;

/// Largest record: Kafka's default `message.max.bytes` (1 MiB + 12) with room for a rebuilt table around it. A record
/// larger than a pooled buffer travels alone in a buffer of its own from the heap.
pub const RECORD_BYTES_MAX: usize = (1 << 20) + (64 << 10);

/// Largest payload of one frame: one record of the largest size with its header.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = RECORD_BYTES_MAX + ELEMENT_HEADER_BYTES + ELEMENT_ALIGN;

/// Head of each frame on the wire.
pub const FRAME_HEADER_BYTES: usize = 32;

/// Filled buffers that wait in one subpartition for a consumer in this process. Flink allows 10 per subpartition; 8 keeps
/// the ring a power of two. In flight per edge at most producers x consumers x 8 x 32 KiB.
pub const CHANNEL_BUFFERS: usize = ringflow_schemas::network::ROAD_BUFFERS_MAX as usize;

/// Credit that a consumer grants a remote channel when it opens: buffers it reserves, 16 x 32 KiB measured enough to
/// fill a loopback connection.
pub const CHANNEL_CREDIT: u32 = ringflow_schemas::network::CREDIT_MAX;

/// Room for control elements of a frame that needed no credit, and for those that join them: 20 elements.
pub const FREE_BUFFER_BYTES: usize = 20 * ELEMENT_HEADER_BYTES;

/// Credit is given back in so many steps of a window, so that credit frames stay rare.
pub const CREDIT_STEPS: u32 = 4;

/// Blocks of one remote channel that may wait where the kernel put them, however little of its data is in each. What comes
/// behind them is copied together.
pub const IN_PLACE_MAX: u32 = ringflow_schemas::network::PINNED_BLOCKS_MAX;

/// Blocks that each core keeps ready for the kernel to receive into: 1 MiB, about what a core reads in one sweep.
#[allow(clippy::cast_possible_truncation, reason = "32")]
pub const RECEIVE_BUFFERS: u16 = ringflow_schemas::network::RECEIVE_BUFFERS as u16;

/// Blocks of them that are out at a time: 256 KiB, which the nearest caches hold. More would be as good as none while the core
/// works on these, and colder.
pub const RECEIVE_READY: u16 = 8;

/// Times that an ending core waits 10 ms at most for the kernel to let go of its sockets.
pub const SHUTDOWN_WAITS: usize = 500;

/// How long an ending core waits for its consumers to read what it sent them: their cores need a sweep, unless user code keeps
/// them busy. Together with the waits above at most 7 s.
pub const LINGER_NS: u64 = 2_000_000_000;

/// Channels that may be open on one connection at a time: 256 subtasks here x 256 there. Beyond it the peer is at fault.
pub const OPEN_CHANNELS_MAX: usize = 1 << 16;

/// How soon a subtask looks again that is blocked by something outside, for which no bell rings.
pub const BLOCKED_POLL_NS: u64 = 1_000_000;

/// Records that one source poll may emit before other subtasks of the core get their turn.
pub const SOURCE_POLL_RECORDS: usize = 512;

/// Timers that a window operator fires in one call, rows that it gives out, or results that an async operator does in one
/// turn: about as much as [`SOURCE_POLL_RECORDS`].
pub const FIRE_BITE: usize = 512;

/// Places of a pane's table that a window operator looks at in one call: some 100 us.
pub const MERGE_BITE: usize = 8 * FIRE_BITE;

/// Buffers that a subtask may take from its gate in one turn.
pub const GATE_TURN_BUFFERS: usize = 4;

/// Records of one subtask that an async operator awaits or holds, unless the program says otherwise: Flink's default.
pub const ASYNC_CAPACITY: usize = 100;

/// The most that a program may ask for: its queue of answers has a place of some 100 bytes for each, so 7 MiB.
pub const ASYNC_CAPACITY_MAX: usize = 1 << 16;

/// Records whose keys are announced before they come: enough for their cache misses to overlap, no more than a core has in flight
/// (10 to 24; it drops prefetches beyond).
pub const KEYS_AHEAD: usize = 16;

/// Records that pass through a chain in one call: enough for calls to cost nothing beside them, few enough that all of them stay
/// in the nearest cache, and that what they make is less than a buffer for each consumer.
pub const RUN_RECORDS: usize = 64;

/// Data frames gathered into one send, well below the kernel's limit of 1024 pieces.
pub const SEND_FRAMES: usize = 16;

/// Entries of a core's submission queue; more are submitted in several calls.
pub const RING_ENTRIES: u32 = 256;

/// Entries of a core's completion queue: a send for each connection and every block that can be received into. The kernel
/// keeps what is beyond it, and says so.
pub const RING_COMPLETIONS: u32 = 1024;

/// How long a core spins before it sleeps where nothing measured what waking up costs.
pub const SPIN_AUTO_NS: u64 = 50_000;

/// Least and most that `--spin auto` chooses: below, the poller's own sweeps are coarser; above, an idle core would burn more
/// than it saves whatever waking up costs.
pub const SPIN_AUTO_RANGE_NS: (u64, u64) = (20_000, 500_000);

/// How many wake-ups long `--spin auto` is.
pub const SPIN_AUTO_WAKE_UPS: u64 = 4;

/// Wake-ups measured for `--spin auto` when a TaskManager starts: the median of so many.
pub const WAKE_UP_SAMPLES: usize = 31;

/// How long measuring them may take on a machine that is busy with something else.
pub const WAKE_UP_PATIENCE_NS: u64 = 500_000_000;

/// The watchdog's period.
pub const WATCHDOG_PERIOD_MS: u64 = 1;

/// Commands that may wait in a core's mailbox.
pub const MAILBOX_COMMANDS: usize = 1024;

/// How long two TaskManagers may take to connect and shake hands.
pub const CONNECT_TIMEOUT_S: u64 = 10;

/// How long at least a connected peer may leave data unacknowledged or unread before it is lost; twice the JobManager's heartbeat
/// timeout where that is longer, because a process that only stood still is the JobManager's to judge. An idle peer answers
/// keepalive probes within 2 + 3 x 2 s.
pub const PEER_SILENCE_MS_MIN: u32 = 8_000;

/// Rows that a subtask keeps in a TopRows accumulator.
pub const ACCUMULATOR_ROWS_MAX: u32 = 1000;

/// Bytes of items in the operator state of one operator in one subtask: it is in memory, and so is a snapshot of it while it is
/// taken. The layout of a snapshot would take 4 GiB.
pub const OPERATOR_STATE_BYTES_MAX: usize = 256 << 20;

/// Size that tables of a state's LSM tree are merged to.
pub const STATE_TABLE_BYTES: u64 = 16 << 20;

/// Batches that may lie unmerged in a state's LSM tree, each of which a read may have to look at, before writing waits for
/// merging.
pub const STATE_LEVEL_0_RUNS_MAX: usize = 12;

/// Files of state that are kept open.
pub const STATE_FILES_OPEN: usize = 256;

/// Least memory for the tables of one operator with state on disk, in bytes.
pub const STATE_SHARE_BYTES_MIN: usize = 1 << 20;

/// Pairs of threads that write and compact state, where there are as many housekeeping cores.
pub const STATE_THREAD_PAIRS_MAX: usize = 4;

/// Rows that a file sink gathers before they go to the thread that writes: enough for a write to cost little beside them.
pub const FILE_BLOCK_BYTES: usize = 64 << 10;

/// Blocks and other work that may lie before the thread of a file sink: 16 x 64 KiB, with the one that is being gathered
/// 1088 KiB per subtask, and one row of the largest size.
pub const FILE_QUEUE_JOBS: usize = 16;

/// How far the watermark moves at least before a partition is committed again for rows that came late: without checkpoints there is
/// nothing else to gather them by, and a file for each turn would be many.
pub const FILE_LATE_COMMIT_MS: i64 = 1_000;

/// Files that one subtask of a file sink keeps open. Eight such subtasks stay below the 1024 that a process may have as a rule.
pub const FILES_OPEN_MAX: usize = 96;

/// How long the end of a TaskManager waits for a compaction.
pub const STATE_STOP_TIMEOUT_S: u64 = 5;

const _: () =
    assert!(BUFFER_BYTES.is_multiple_of(ELEMENT_ALIGN) && CHANNEL_BUFFERS.is_power_of_two());
const _: () = assert!(RECEIVE_BUFFERS.is_power_of_two() && CREDIT_STEPS <= CHANNEL_CREDIT);
