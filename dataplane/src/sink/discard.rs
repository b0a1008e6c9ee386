//! Counts records and forgets them.
//!
//! Owns: [`DiscardSink`]. Invariant: every record is counted once. Left out: their contents.

use std::rc::Rc;

use crate::error::Result;
use crate::metrics::{SubtaskMetrics, add};
use crate::operator::Operator;
use crate::operator::chain::Output;
use crate::record::RecordRef;
use crate::runtime::clock::Clock;
use crate::runtime::context::OpenContext;
use crate::runtime::on_core::OnCore;

/// The blackhole, for measuring.
#[derive(Debug)]
pub struct DiscardSink(OnCore<(Rc<SubtaskMetrics>, Rc<Clock>)>);

impl DiscardSink {
    /// A sink that counts.
    #[must_use]
    pub const fn new() -> Self {
        Self(OnCore::empty())
    }
}

impl Default for DiscardSink {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts a record at a sink, and its latency when its source stamped it.
#[inline]
pub fn count_at_sink(metrics: &SubtaskMetrics, clock: &Clock, record: &RecordRef<'_>) {
    add(&metrics.sink_records, 1);
    if record.origin_ns != 0 {
        metrics.record_latency(record.origin_ns, clock.wall_ns());
    }
}

impl Operator for DiscardSink {
    fn open(&mut self, context: &OpenContext) -> Result<()> {
        self.0
            .set((Rc::clone(&context.metrics), Rc::clone(&context.clock)));
        Ok(())
    }

    #[inline]
    fn on_record(&mut self, record: &RecordRef<'_>, _output: &mut Output) -> Result<()> {
        let (metrics, clock) = self.0.get();
        count_at_sink(metrics, clock, record);
        Ok(())
    }
}
