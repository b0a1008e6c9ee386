//! Holding a source back until the others of its group have come as far.
//!
//! ```text
//! core: how far this subtask is -> [AlignmentCell] -> control thread -> JobManager: the slowest + drift
//! core: waits beyond the limit  <- [AlignmentCell] <- control thread <-
//! ```
//! Owns: [`WatermarkAlignment`] (what the user chose), [`AlignmentCell`] (what core and control thread share).
//! Invariant: the cell's two words are independent of each other, each written by one side; an old value only makes a source wait,
//! or read on, for an update interval longer.
//! Left out: who is slowest (the JobManager knows), ringing the core's doorbell (whoever writes a limit does).
//!
//! Source: Flink `SourceOperator`, `WatermarkStrategy.withWatermarkAlignment`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::record::EventTime;

/// A source that waits for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatermarkAlignment {
    /// Sources of the same name, in one job, wait for each other.
    pub group: Arc<str>,
    /// How far its watermark may be ahead of the slowest of them, in milliseconds.
    pub max_drift_ms: i64,
    /// How often they are compared.
    pub update_interval: Duration,
}

/// How far a subtask is, and how far it may go.
///
/// Lives: as long as the subtask, shared with the control thread.
#[derive(Debug)]
pub struct AlignmentCell {
    watermark_ms: AtomicI64,
    limit_ms: AtomicI64,
}

impl Default for AlignmentCell {
    /// Nothing was said yet: whoever has a watermark waits until the others have spoken (where Flink reads on).
    fn default() -> Self {
        Self {
            watermark_ms: AtomicI64::new(i64::MIN),
            limit_ms: AtomicI64::new(i64::MIN),
        }
    }
}

impl AlignmentCell {
    /// The subtask is this far; it holds nobody up at [`EventTime::MAX`].
    pub fn reached(&self, watermark: EventTime) {
        // Relaxed: nothing else is read on the strength of it.
        self.watermark_ms.store(watermark.0, Ordering::Relaxed);
    }

    /// How far the subtask said it is, in milliseconds since the epoch; `i64::MIN`: nowhere yet.
    #[must_use]
    pub fn watermark_ms(&self) -> i64 {
        self.watermark_ms.load(Ordering::Relaxed)
    }

    /// The subtask may read while its watermark is at most this.
    pub fn allow(&self, limit_ms: i64) {
        self.limit_ms.store(limit_ms, Ordering::Relaxed);
    }

    /// How far it may go.
    #[must_use]
    pub fn limit(&self) -> EventTime {
        EventTime(self.limit_ms.load(Ordering::Relaxed))
    }
}
