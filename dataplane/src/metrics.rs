//! Counters of one subtask, its latency histogram, and accumulators.
//!
//! Owns: [`SubtaskMetrics`] (written by the subtask's core only, so plain cells) and [`Accumulator`] (a named result
//! that the JobManager merges over subtasks). Invariant: counters only grow, but for what waits
//! outside and the size of state.
//! Left out: how they reach the JobManager (task_manager) and Prometheus (later).

use std::cell::{Cell, RefCell};

use hdrhistogram::Histogram;

/// Longest latency told apart, in microseconds: 1 h.
pub const LATENCY_MAX_US: u64 = 3_600_000_000;

/// What one subtask counts. Written by its core; one sentence each.
#[derive(Debug)]
#[allow(missing_docs, reason = "each field has its sentence below")]
pub struct SubtaskMetrics {
    /// Records that came over input gates.
    pub records_in: Cell<u64>,
    /// Records that left over result partitions.
    pub records_out: Cell<u64>,
    /// Bytes of buffers that came over input gates.
    pub bytes_in: Cell<u64>,
    /// Bytes of buffers that left over result partitions.
    pub bytes_out: Cell<u64>,
    /// Buffers that left.
    pub buffers_out: Cell<u64>,
    /// Time in which the subtask worked.
    pub busy_ns: Cell<u64>,
    /// Time in which it had nothing to do and its core slept or ran other subtasks.
    pub idle_ns: Cell<u64>,
    /// Time in which its outputs were full.
    pub backpressured_ns: Cell<u64>,
    /// Time in which it had nothing to do while its core kept looking for work.
    pub spinning_ns: Cell<u64>,
    /// Records behind the watermark that no window took.
    pub late_records_dropped: Cell<u64>,
    /// Payloads from outside that were no valid record.
    pub bad_records: Cell<u64>,
    /// Records read from outside.
    pub source_records: Cell<u64>,
    /// Records handed to the outside.
    pub sink_records: Cell<u64>,
    /// Bytes of elements copied: into buffers, and on arrival where they could not stay where the kernel put them.
    pub bytes_copied: Cell<u64>,
    /// Records known to wait outside.
    pub pending_records: Cell<u64>,
    /// Bytes of memory of the chain's state when it was last looked at.
    pub state_bytes: Cell<u64>,
    /// The most that any look at it found.
    pub state_bytes_max: Cell<u64>,
    /// Source-to-sink latency in microseconds since the last report, at sinks.
    pub latency_us: RefCell<Histogram<u64>>,
}

impl Default for SubtaskMetrics {
    fn default() -> Self {
        let zero = || Cell::new(0);
        Self {
            records_in: zero(),
            records_out: zero(),
            bytes_in: zero(),
            bytes_out: zero(),
            buffers_out: zero(),
            busy_ns: zero(),
            idle_ns: zero(),
            backpressured_ns: zero(),
            spinning_ns: zero(),
            late_records_dropped: zero(),
            bad_records: zero(),
            source_records: zero(),
            sink_records: zero(),
            bytes_copied: zero(),
            pending_records: zero(),
            state_bytes: zero(),
            state_bytes_max: zero(),
            latency_us: RefCell::new(
                Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)
                    .expect("1 < 1 h, 3 digits: legal bounds"),
            ),
        }
    }
}

/// Adds to a counter.
#[inline]
pub fn add(counter: &Cell<u64>, amount: u64) {
    counter.set(counter.get().wrapping_add(amount));
}

impl SubtaskMetrics {
    /// The chain's state was found to take `bytes`.
    pub fn found_state(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.state_bytes.set(bytes);
        self.state_bytes_max
            .set(self.state_bytes_max.get().max(bytes));
    }

    /// Records how long a record took from when it was due at its source until `wall_ns`.
    #[inline]
    pub fn record_latency(&self, origin_ns: u64, wall_ns: u64) {
        let latency_us = wall_ns.saturating_sub(origin_ns) / 1_000;
        self.latency_us
            .borrow_mut()
            .saturating_record(latency_us.max(1));
    }
}

/// How the JobManager merges an accumulator over subtasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccumulatorValue {
    /// Added up, wrapping.
    Sum(u64),
    /// The greatest.
    Max(u64),
    /// The least.
    Min(u64),
    /// The `limit` rows of greatest order, ties by text ascending.
    TopRows {
        /// Rows kept.
        limit: u32,
        /// Order and text.
        rows: Vec<(i64, String)>,
    },
}

/// A named value that a subtask leaves when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accumulator {
    /// Name, unique in the job.
    pub name: String,
    /// Value.
    pub value: AccumulatorValue,
}
