//! Two keyed streams that are joined within bounds of event time.
//!
//! Owns: [`IntervalJoined`], [`IntervalJoinBounds`]. Invariant: bounds that join nothing are refused when the job is executed.
//! Left out: joins without bounds ([`super::joined_streams`]).

use ringflow_dataplane::operator::Operator;
use ringflow_dataplane::operator::interval_join::{
    Interval, IntervalContext, IntervalJoin, LateOutputs,
};
use ringflow_dataplane::operator::side_output::OutputTag;
use ringflow_dataplane::operator::stateless::Collector;
use ringflow_dataplane::record::{Record, Row};
use ringflow_dataplane::runtime::context::PrepareContext;

use crate::api::data_stream::{DataStream, factory};
use crate::api::key::Key;
use crate::api::keyed_stream::KeyedStream;

/// Two keyed streams, on their way to be joined within bounds.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct IntervalJoined<A, B, K, KA, KB> {
    left: KeyedStream<A, K, KA>,
    right: KeyedStream<B, K, KB>,
}

/// Two keyed streams and the bounds they are joined within.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct IntervalJoinBounds<A, B, K, KA, KB> {
    left: KeyedStream<A, K, KA>,
    right: KeyedStream<B, K, KB>,
    lower_ms: i64,
    upper_ms: i64,
    late: LateOutputs<A, B>,
}

impl<A, B, K, KA, KB> IntervalJoined<A, B, K, KA, KB> {
    pub(crate) fn new(left: KeyedStream<A, K, KA>, right: KeyedStream<B, K, KB>) -> Self {
        Self { left, right }
    }

    /// A left record at event time t meets right records of its key from t + `lower_ms` to t + `upper_ms`, in milliseconds; both
    /// bounds are within, and may be negative.
    #[must_use]
    pub fn between(self, lower_ms: i64, upper_ms: i64) -> IntervalJoinBounds<A, B, K, KA, KB> {
        IntervalJoinBounds {
            left: self.left,
            right: self.right,
            lower_ms,
            upper_ms,
            late: LateOutputs {
                left: None,
                right: None,
            },
        }
    }
}

impl<A, B, K, KA, KB> IntervalJoinBounds<A, B, K, KA, KB>
where
    A: Record,
    B: Record,
    K: Key,
    KA: for<'a> Fn(Row<'a, A>) -> K + Clone + Send + Sync + 'static,
    KB: for<'b> Fn(Row<'b, B>) -> K + Clone + Send + Sync + 'static,
{
    /// The lower bound itself is outside.
    #[must_use]
    pub fn lower_bound_exclusive(mut self) -> Self {
        self.lower_ms = self.lower_ms.saturating_add(1);
        self
    }

    /// The upper bound itself is outside.
    #[must_use]
    pub fn upper_bound_exclusive(mut self) -> Self {
        self.upper_ms = self.upper_ms.saturating_sub(1);
        self
    }

    /// Left records behind the watermark go to this side output. Without, they are dropped and counted.
    #[must_use]
    pub fn side_output_left_late_data(mut self, tag: OutputTag<A>) -> Self {
        self.late.left = Some(tag);
        self
    }

    /// Right records behind the watermark go to this side output. Without, they are dropped and counted.
    #[must_use]
    pub fn side_output_right_late_data(mut self, tag: OutputTag<B>) -> Self {
        self.late.right = Some(tag);
        self
    }

    /// Makes any number of records of each pair. Results have the later of the two event times.
    #[must_use]
    pub fn process<O: Record>(
        self,
        function: impl for<'a, 'b> Fn(Row<'a, A>, Row<'b, B>, &IntervalContext, &mut Collector<'_, O>)
        + Clone
        + Send
        + Sync
        + 'static,
    ) -> DataStream<O> {
        let (left, left_key) = self.left.into_parts();
        let (right, right_key) = self.right.into_parts();
        let interval = Interval::new(self.lower_ms, self.upper_ms).or_else(|why| {
            left.env().refuse(why);
            // Never runs: `execute` reports the refusal.
            Interval::new(0, 0)
        });
        let late = self.late;
        let make = move |_: &PrepareContext| {
            let interval = interval
                .clone()
                .map_err(ringflow_dataplane::error::Error::deployment)?;
            let operator = IntervalJoin::<A, B, K, O, _, _, _>::new(
                interval,
                left_key.clone(),
                right_key.clone(),
                function.clone(),
                late,
            );
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        left.add_two_input(right, "Interval Join", factory(make))
    }
}
