//! How a source's event times and watermarks come about.
//!
//! Owns: [`WatermarkStrategy`]. Invariant: as Flink's: watermark = greatest timestamp of the split - bound - 1 ms.
//! Left out: custom generators, alignment.

use std::sync::Arc;
use std::time::Duration;

use ringflow_dataplane::record::{EventTime, Record, RecordRef, Row, RowKind};
use ringflow_dataplane::source::TimestampAssigner;
use ringflow_dataplane::source::watermark::WatermarkPolicy;

/// Event times and watermarks of a source of `R`.
#[allow(missing_debug_implementations, reason = "holds a closure")]
pub struct WatermarkStrategy<R> {
    pub(crate) policy: WatermarkPolicy,
    pub(crate) assigner: Option<TimestampAssigner>,
    record: std::marker::PhantomData<fn(R)>,
}

impl<R: Record> WatermarkStrategy<R> {
    fn with(policy: WatermarkPolicy) -> Self {
        Self {
            policy,
            assigner: None,
            record: std::marker::PhantomData,
        }
    }

    /// Records may be up to `bound` behind the newest of their split.
    #[must_use]
    pub fn bounded_out_of_orderness(bound: Duration) -> Self {
        let bound = i64::try_from(bound.as_millis()).unwrap_or(i64::MAX);
        Self::with(WatermarkPolicy {
            out_of_orderness_ms: Some(bound),
            idle_after_ns: None,
        })
    }

    /// Timestamps only grow within a split.
    #[must_use]
    pub fn monotonous_timestamps() -> Self {
        Self::bounded_out_of_orderness(Duration::ZERO)
    }

    /// No watermark before the end of the stream.
    #[must_use]
    pub fn no_watermarks() -> Self {
        Self::with(WatermarkPolicy::NONE)
    }

    /// Takes the event time (milliseconds since the epoch) out of the record, in place of the source's own.
    #[must_use]
    pub fn timestamp(
        mut self,
        assigner: impl for<'a> Fn(Row<'a, R>) -> i64 + Send + Sync + 'static,
    ) -> Self {
        self.assigner = Some(Arc::new(move |bytes| {
            let record = RecordRef {
                bytes,
                timestamp: EventTime::NONE,
                key_hash: 0,
                kind: RowKind::Insert,
                origin_ns: 0,
            };
            // SAFETY: the source gives out verified records of `R` (the assigner sits behind it).
            EventTime(assigner(unsafe { Row::read(&record) }))
        }));
        self
    }

    /// A split without records for this long does not hold the others up.
    #[must_use]
    pub fn idleness(mut self, after: Duration) -> Self {
        self.policy.idle_after_ns = Some(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        self
    }
}
