//! Interval join: a record meets those of its key and the other side whose event times are within bounds around its own.
//!
//! ```text
//!  left at t     meets right in   t + lower ..= t + upper      is kept until the watermark is beyond   t + max(upper, 0)
//!  right at t    meets left in    t - upper ..= t - lower      is kept until the watermark is beyond   t + max(-lower, 0)
//! ```
//! Owns: [`IntervalJoin`], [`Interval`], [`IntervalContext`]. Both sides are lists in state; a timer takes out what nothing can
//! meet any more.
//! Invariant: each pair within the bounds comes out once, if neither of the two was late when it came; a late record (behind the
//! watermark) meets nothing, goes to its side output, or is dropped and counted.
//! Left out: retractions, which are refused, and processing time, as in Flink.
//!
//! Source: Flink `IntervalJoinOperator`, which lets go of records 1 ms earlier: it then misses what comes at exactly the watermark's
//! time, though it does not call it late.

use std::marker::PhantomData;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::limits::FIRE_BITE;
use crate::metrics::{SubtaskMetrics, add};
use crate::operator::chain::Output;
use crate::operator::changelog::cannot_retract;
use crate::operator::co::without_input;
use crate::operator::keyed::Keyed;
use crate::operator::side_output::OutputTag;
use crate::operator::stateless::{Collector, Scratch};
use crate::operator::{Operator, Progress};
use crate::record::{EventTime, Record, RecordRef, Row};
use crate::runtime::context::OpenContext;
use crate::runtime::on_core::OnCore;
use crate::state::handles::{KeyedAccess, ListState, ListStateDescriptor};
use crate::state::map_table::Visit;
use crate::state::timers::DueTimer;
use crate::state::value::{PlainValue, RecordOf, Stored};

/// Namespace of the timers of each side.
const LEFT: &[u8] = b"l";
const RIGHT: &[u8] = b"r";

/// Distances in event time from a left record to the right ones that it meets, in milliseconds; both bounds are within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    lower_ms: i64,
    upper_ms: i64,
}

/// Distances beyond this (36 million years) are no bounds.
const BOUND_MS_MAX: i64 = 1 << 60;

impl Interval {
    /// `lower_ms ..= upper_ms`.
    ///
    /// # Errors
    /// There is no distance between the bounds, or they are beyond 2^60 ms.
    pub fn new(lower_ms: i64, upper_ms: i64) -> Result<Self, String> {
        let bounds = -BOUND_MS_MAX..=BOUND_MS_MAX;
        if !bounds.contains(&lower_ms) || !bounds.contains(&upper_ms) {
            return Err(format!(
                "an interval join between {lower_ms} ms and {upper_ms} ms has a bound beyond 2^60 ms: use smaller ones"
            ));
        }
        if lower_ms > upper_ms {
            return Err(format!(
                "an interval join between {lower_ms} ms and {upper_ms} ms joins nothing: the lower bound must not be above the \
                 upper one (an exclusive bound is 1 ms further in)"
            ));
        }
        Ok(Self { lower_ms, upper_ms })
    }

    /// As the right side sees it.
    const fn mirrored(self) -> Self {
        Self {
            lower_ms: -self.upper_ms,
            upper_ms: -self.lower_ms,
        }
    }

    fn contains(self, own: EventTime, other: EventTime) -> bool {
        let from = own.0.saturating_add(self.lower_ms);
        let to = own.0.saturating_add(self.upper_ms);
        (from..=to).contains(&other.0)
    }

    /// The watermark at which a record can meet nothing any more: what would be within its bounds is late then.
    const fn end(self, own: EventTime) -> i64 {
        let ahead = if self.upper_ms > 0 { self.upper_ms } else { 0 };
        own.0.saturating_add(ahead + 1)
    }
}

/// What user code learns of a pair beside its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntervalContext {
    left: EventTime,
    right: EventTime,
}

impl IntervalContext {
    /// Event time of the left record.
    #[must_use]
    pub fn left_timestamp(&self) -> EventTime {
        self.left
    }

    /// Event time of the right record.
    #[must_use]
    pub fn right_timestamp(&self) -> EventTime {
        self.right
    }

    /// Event time of the result: the later of the two.
    #[must_use]
    pub fn timestamp(&self) -> EventTime {
        self.left.max(self.right)
    }
}

/// Where late records of the two sides go; without a tag they are dropped, and counted.
#[derive(Debug)]
pub struct LateOutputs<A, B> {
    /// Those of the left side.
    pub left: Option<OutputTag<A>>,
    /// Those of the right side.
    pub right: Option<OutputTag<B>>,
}

impl<A, B> Clone for LateOutputs<A, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<A, B> Copy for LateOutputs<A, B> {}

impl<A, B> Default for LateOutputs<A, B> {
    fn default() -> Self {
        Self {
            left: None,
            right: None,
        }
    }
}

/// Joins records of `A`, input 0 and the left side, with records of `B`, input 1 and the right side.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct IntervalJoin<A, B, K, O, KA, KB, F> {
    interval: Interval,
    left_key: KA,
    right_key: KB,
    function: F,
    late: LateOutputs<A, B>,
    watermark: EventTime,
    /// Empty until `open`.
    state: Option<Sides<A, B>>,
    due: DueTimer,
    scratch: Scratch,
    metrics: OnCore<Rc<SubtaskMetrics>>,
    types: PhantomData<fn() -> (K, O)>,
}

struct Sides<A, B> {
    keyed: Keyed,
    left: ListState<Stored<A>>,
    right: ListState<Stored<B>>,
}

impl<A, B, K, O, KA, KB, F> IntervalJoin<A, B, K, O, KA, KB, F>
where
    A: Record,
    B: Record,
    K: PlainValue,
    O: Record,
    KA: for<'a> Fn(Row<'a, A>) -> K,
    KB: for<'b> Fn(Row<'b, B>) -> K,
    F: for<'a, 'b> Fn(Row<'a, A>, Row<'b, B>, &IntervalContext, &mut Collector<'_, O>),
{
    /// A join without state. `left_key` and `right_key` read keys, `function` makes any number of records of a pair.
    #[must_use]
    pub fn new(
        interval: Interval,
        left_key: KA,
        right_key: KB,
        function: F,
        late: LateOutputs<A, B>,
    ) -> Self {
        Self {
            interval,
            left_key,
            right_key,
            function,
            late,
            watermark: EventTime::NONE,
            state: None,
            due: DueTimer::default(),
            scratch: Scratch::default(),
            metrics: OnCore::empty(),
            types: PhantomData,
        }
    }

    /// Takes out what nothing can meet any more, until there is no such thing or it is the others' turn.
    fn clean_due(&mut self) -> Result<Progress> {
        let Sides { keyed, left, right } = opened(&mut self.state);
        for _ in 0..FIRE_BITE {
            if !keyed
                .timers
                .pop_due_event_time(self.watermark, &mut self.due)
            {
                return Ok(Progress::Done);
            }
            let mut at = self.due.at();
            let namespace = std::mem::take(&mut at.namespace);
            let mut access = KeyedAccess::new(&mut keyed.backend, at, 0);
            if namespace == LEFT {
                clean(&mut access, self.interval, *left, self.watermark)?;
            } else {
                let interval = self.interval.mirrored();
                clean(&mut access, interval, *right, self.watermark)?;
            }
        }
        Ok(Progress::Yielded)
    }

    /// A record is behind the watermark.
    #[cold]
    fn on_late<R: Record>(
        &mut self,
        record: &RecordRef<'_>,
        tag: Option<OutputTag<R>>,
        output: &mut Output,
    ) -> Result<()> {
        match tag {
            Some(tag) => output.collect_side(tag.id(), record),
            None => {
                add(&self.metrics.get().late_records_dropped, 1);
                Ok(())
            }
        }
    }
}

impl<A, B, K, O, KA, KB, F> Operator for IntervalJoin<A, B, K, O, KA, KB, F>
where
    A: Record,
    B: Record,
    K: PlainValue,
    O: Record,
    KA: for<'a> Fn(Row<'a, A>) -> K + Send,
    KB: for<'b> Fn(Row<'b, B>) -> K + Send,
    F: for<'a, 'b> Fn(Row<'a, A>, Row<'b, B>, &IntervalContext, &mut Collector<'_, O>) + Send,
{
    fn state_bytes(&self) -> usize {
        self.state.as_ref().map_or(0, |sides| sides.keyed.bytes())
    }

    fn open(&mut self, context: &OpenContext) -> Result<()> {
        self.metrics.set(Rc::clone(&context.metrics));
        let mut keyed = Keyed::open(context)?;
        let left = ListStateDescriptor::new("left").register(&mut keyed.backend)?;
        let right = ListStateDescriptor::new("right").register(&mut keyed.backend)?;
        self.state = Some(Sides { keyed, left, right });
        Ok(())
    }

    fn wants_keys(&self) -> bool {
        true
    }

    fn on_keys_ahead(&mut self, key_hashes: &[u32]) {
        if let Some(state) = &mut self.state {
            state.keyed.on_keys_ahead(key_hashes);
        }
    }

    fn on_record(&mut self, _record: &RecordRef<'_>, _output: &mut Output) -> Result<()> {
        Err(without_input())
    }

    #[inline]
    fn on_record_of(
        &mut self,
        input: u8,
        record: &RecordRef<'_>,
        output: &mut Output,
    ) -> Result<()> {
        check(record)?;
        if record.timestamp < self.watermark {
            return if input == 0 {
                self.on_late(record, self.late.left, output)
            } else {
                self.on_late(record, self.late.right, output)
            };
        }
        let Sides { keyed, left, right } = opened(&mut self.state);
        let (function, scratch) = (&self.function, &mut self.scratch);
        let mut emit = |left: Row<'_, A>, right: Row<'_, B>| {
            let context = IntervalContext {
                left: left.timestamp(),
                right: right.timestamp(),
            };
            let origin_ns = record.origin_ns;
            let mut collector = Collector::new(output, scratch, context.timestamp(), origin_ns);
            function(left, right, &context, &mut collector);
            collector.finish()
        };
        if input == 0 {
            // SAFETY: edges to input 0 carry `A` (checked when the graph was built), and records on edges are verified.
            let row = unsafe { Row::<A>::read(record) };
            let mut access = keyed.access(record.key_hash, &(self.left_key)(row));
            meet(&mut access, self.interval, row, *left, *right, &mut emit)?;
            let end = self.interval.end(record.timestamp);
            keyed.register_event_time_timer(record.key_hash, LEFT, end)
        } else {
            let interval = self.interval.mirrored();
            // SAFETY: as above, and edges to input 1 carry `B`.
            let row = unsafe { Row::<B>::read(record) };
            let mut access = keyed.access(record.key_hash, &(self.right_key)(row));
            meet(&mut access, interval, row, *right, *left, |right, left| {
                emit(left, right)
            })?;
            keyed.register_event_time_timer(record.key_hash, RIGHT, interval.end(record.timestamp))
        }
    }

    fn on_watermark(
        &mut self,
        watermark: EventTime,
        _origin_ns: u64,
        _output: &mut Output,
    ) -> Result<Progress> {
        self.watermark = self.watermark.max(watermark);
        self.clean_due()
    }

    fn resume(&mut self, _output: &mut Output) -> Result<Progress> {
        self.clean_due()
    }
}

fn opened<A, B>(state: &mut Option<Sides<A, B>>) -> &mut Sides<A, B> {
    state
        .as_mut()
        .expect("`open` is the first call and makes the state")
}

#[inline]
fn check(record: &RecordRef<'_>) -> Result<()> {
    if !record.kind.is_addition() {
        return Err(cannot_retract(
            "an interval join",
            "join the streams without an interval, or take the updates out before",
        ));
    }
    if record.timestamp == EventTime::NONE {
        return Err(Error::operator(
            "a record without a timestamp reached an interval join: give the source a timestamp assigner",
        ));
    }
    Ok(())
}

/// A row of one side meets those of the other that are within its bounds, and is kept.
#[inline]
fn meet<S: Record, T: Record>(
    access: &mut KeyedAccess<'_>,
    interval: Interval,
    row: Row<'_, S>,
    own: ListState<Stored<S>>,
    other: ListState<Stored<T>>,
    mut emit: impl FnMut(Row<'_, S>, Row<'_, T>) -> Result<()>,
) -> Result<()> {
    own.add(access, &RecordOf::from(row))?;
    other.for_each(access, |theirs| {
        if interval.contains(row.timestamp(), theirs.timestamp()) {
            emit(row, theirs)?;
        }
        Ok(())
    })
}

/// Takes out what can meet nothing any more.
fn clean<R: Record>(
    access: &mut KeyedAccess<'_>,
    interval: Interval,
    rows: ListState<Stored<R>>,
    watermark: EventTime,
) -> Result<()> {
    rows.visit(access, |row, _| {
        let ended = interval.end(row.timestamp()) <= watermark.0;
        Ok(if ended { Visit::Remove } else { Visit::Keep })
    })
}

#[cfg(test)]
mod tests;
