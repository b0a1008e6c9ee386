//! Event times and watermarks made in the middle of a stream.
//!
//! Owns: [`TimestampsAndWatermarks`]. Records get the event time that an assigner reads out of them; watermarks are made of them as a
//! source makes those of one split, and given out once in a turn.
//! Invariant: watermarks and idleness from before go no further, but for the end of event time; a watermark leaves behind the records
//! that it speaks of, because it waits for the turn after theirs.
//! Left out: several splits (what comes from upstream is one stream here), alignment (only sources can wait).
//!
//! Source: Flink `TimestampsAndWatermarksOperator`.

use std::rc::Rc;

use crate::element::{Control, StopMode, Watermark};
use crate::error::Result;
use crate::operator::chain::Output;
use crate::operator::{Operator, Progress};
use crate::record::{EventTime, RecordRef};
use crate::runtime::clock::{Clock, NS_PER_MS};
use crate::runtime::context::OpenContext;
use crate::runtime::on_core::OnCore;
use crate::source::TimestampAssigner;
use crate::source::watermark::{SplitWatermarks, WatermarkPolicy};

/// Gives records new event times, and the stream new watermarks.
#[allow(missing_debug_implementations, reason = "holds a closure")]
pub struct TimestampsAndWatermarks {
    policy: WatermarkPolicy,
    assigner: Option<TimestampAssigner>,
    /// One split: what comes in. Made on the core, where the time is.
    watermarks: SplitWatermarks,
    clock: OnCore<Rc<Clock>>,
    /// As of the last news; 0 where nothing falls idle, so that the clock need not be read.
    now_ns: u64,
    /// Records came since the last turn.
    records: bool,
    /// The time has come at which the stream falls idle.
    due: bool,
    /// The stream has ended, or event time has: nothing follows.
    ended: bool,
    /// Of the newest record, for the watermark that speaks of it.
    origin_ns: u64,
}

impl TimestampsAndWatermarks {
    /// An operator without records. Without an assigner, records keep their event times.
    #[must_use]
    pub fn new(policy: WatermarkPolicy, assigner: Option<TimestampAssigner>) -> Self {
        Self {
            watermarks: SplitWatermarks::new(policy.clone(), 1, 0),
            policy,
            assigner,
            clock: OnCore::empty(),
            now_ns: 0,
            records: false,
            due: false,
            ended: false,
            origin_ns: 0,
        }
    }

    fn read_clock(&mut self) {
        if self.policy.idle_after_ns.is_some() {
            self.now_ns = self.clock.get().now_ns();
        }
    }
}

impl Operator for TimestampsAndWatermarks {
    fn open(&mut self, context: &OpenContext) -> Result<()> {
        self.clock.set(Rc::clone(&context.clock));
        self.read_clock();
        self.watermarks = SplitWatermarks::new(self.policy.clone(), 1, self.now_ns);
        Ok(())
    }

    fn on_record(&mut self, record: &RecordRef<'_>, output: &mut Output) -> Result<()> {
        let timestamp = match &self.assigner {
            Some(assigner) => assigner(record.bytes),
            None => record.timestamp,
        };
        let record = RecordRef {
            timestamp,
            ..*record
        };
        self.watermarks.on_record(0, timestamp, self.now_ns);
        if self.watermarks.is_custom() {
            self.watermarks.on_event(0, &record);
        }
        self.records = true;
        self.origin_ns = self.origin_ns.max(record.origin_ns);
        output.collect(&record)
    }

    fn keeps_back(&self) -> bool {
        true
    }

    /// Those of upstream are of no use here; the end of event time is.
    fn keep_back(&mut self, control: Control) -> bool {
        let end = Watermark::At(EventTime::MAX);
        self.ended |= matches!(control, Control::Watermark { watermark, .. } if watermark == end);
        !self.ended
    }

    fn release(&mut self, _output: &mut Output, budget: &mut usize) -> Result<Option<Control>> {
        let (records, due) = (
            std::mem::take(&mut self.records),
            std::mem::take(&mut self.due),
        );
        if self.ended || !(records || due) {
            return Ok(None);
        }
        self.read_clock();
        if records {
            self.watermarks.touch(0, self.now_ns);
        }
        let Some(watermark) = self.watermarks.advance(self.now_ns) else {
            return Ok(None);
        };
        *budget -= 1;
        Ok(Some(Control::Watermark {
            watermark,
            origin_ns: self.origin_ns,
        }))
    }

    fn can_release(&self) -> bool {
        self.records || self.due
    }

    fn on_end_of_input(&mut self, _mode: StopMode, _output: &mut Output) -> Result<Progress> {
        // Without a drain, what the last records would have fired does not fire.
        self.ended = true;
        Ok(Progress::Done)
    }

    fn uses_processing_time(&self) -> bool {
        self.policy.idle_after_ns.is_some()
    }

    /// When the stream may fall idle.
    fn next_processing_time(&mut self) -> Option<i64> {
        let idle_ns = self.watermarks.next_idle_ns(self.now_ns)?;
        let wall_ns = self.clock.get().wall_of(idle_ns);
        // The millisecond after: at that time it is idle.
        i64::try_from(wall_ns / NS_PER_MS + 1).ok()
    }

    fn on_processing_time(&mut self, _now_ms: i64, output: &mut Output) -> Result<Progress> {
        self.read_clock();
        if output.is_blocked() {
            // Records may be waiting: nobody could give any.
            self.watermarks.touch(0, self.now_ns);
        } else {
            self.due = true;
        }
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests;
