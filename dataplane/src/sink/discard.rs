//! Counts records and forgets them.
//!
//! Owns: [`DiscardSink`], and [`SumSink`], which adds up one number of each so that a run can be checked.
//! Invariant: every record is counted once. Left out: their contents.

use std::rc::Rc;

use crate::batch::Run;
use crate::error::Result;
use crate::metrics::{Accumulator, AccumulatorValue, SubtaskMetrics, add};
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
        measure(metrics, clock, record.origin_ns);
    }
}

/// Apart, so that records that are not measured stay cheap.
#[inline(never)]
fn measure(metrics: &SubtaskMetrics, clock: &Clock, origin_ns: u64) {
    metrics.record_latency(origin_ns, clock.wall_ns());
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

    fn takes_runs(&self) -> bool {
        true
    }

    fn on_run(&mut self, run: &Run<'_>, output: &mut Output) -> Result<()> {
        match run.in_common() {
            Some((_, 0)) => {
                add(&self.0.get().0.sink_records, run.len() as u64);
                Ok(())
            }
            _ => run
                .records()
                .try_for_each(|record| self.on_record(&record, output)),
        }
    }
}

/// A blackhole that leaves two accumulators: how many `records` came, and the wrapping `sum` of a number of each.
///
/// Cost: an addition more than [`DiscardSink`].
#[allow(missing_debug_implementations, reason = "holds a closure")]
pub struct SumSink<F> {
    number: F,
    records: u64,
    sum: u64,
    count: DiscardSink,
}

impl<F: Fn(&RecordRef<'_>) -> u64 + Send> SumSink<F> {
    /// A sink that adds up what `number` reads out of each record.
    #[must_use]
    pub const fn new(number: F) -> Self {
        Self {
            number,
            records: 0,
            sum: 0,
            count: DiscardSink::new(),
        }
    }
}

impl<F: Fn(&RecordRef<'_>) -> u64 + Send> Operator for SumSink<F> {
    fn open(&mut self, context: &OpenContext) -> Result<()> {
        self.count.open(context)
    }

    #[inline]
    fn on_record(&mut self, record: &RecordRef<'_>, output: &mut Output) -> Result<()> {
        self.records += 1;
        self.sum = self.sum.wrapping_add((self.number)(record));
        self.count.on_record(record, output)
    }

    fn takes_runs(&self) -> bool {
        true
    }

    fn on_run(&mut self, run: &Run<'_>, output: &mut Output) -> Result<()> {
        self.records += run.len() as u64;
        let mut sum = self.sum;
        for record in run.records() {
            sum = sum.wrapping_add((self.number)(&record));
        }
        self.sum = sum;
        self.count.on_run(run, output)
    }

    fn close(&mut self, accumulators: &mut Vec<Accumulator>) {
        for (name, value) in [("records", self.records), ("sum", self.sum)] {
            accumulators.push(Accumulator {
                name: name.to_owned(),
                value: AccumulatorValue::Sum(value),
            });
        }
    }
}
