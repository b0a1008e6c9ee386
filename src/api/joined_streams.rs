//! Two streams that are joined by key.
//!
//! Owns: [`JoinedStreams`], [`JoinedWhere`], [`EqualTo`]: the steps of `left.join(right).where_key(..).equal_to(..)`.
//! Invariant: both sides go to their operator by the same type of key, so records of equal keys meet in one subtask.
//! Left out: conditions besides the key: `apply` emits nothing for pairs that do not meet them.

use std::marker::PhantomData;

use ringflow_dataplane::operator::Operator;
use ringflow_dataplane::operator::join::{Join, JoinType};
use ringflow_dataplane::operator::stateless::Collector;
use ringflow_dataplane::record::{Record, Row};
use ringflow_dataplane::runtime::context::PrepareContext;
use ringflow_dataplane::state::handles::StateTtlConfig;

use crate::api::data_stream::{DataStream, factory};
use crate::api::key::Key;
use crate::api::keyed_stream::KeyedStream;

/// What streams are brought together for: every pair of records.
#[derive(Debug, Clone, Copy)]
pub struct Pairs;

/// Two streams, on their way to be joined. `T` says what for.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct JoinedStreams<A, B, T = Pairs> {
    left: DataStream<A>,
    right: DataStream<B>,
    what: PhantomData<fn() -> T>,
}

/// Two streams, of which the left one has its key.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct JoinedWhere<A, B, K, KA, T> {
    left: KeyedStream<A, K, KA>,
    right: DataStream<B>,
    what: PhantomData<fn() -> T>,
}

/// Two streams and their keys.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct EqualTo<A, B, K, KA, KB, T> {
    left: KeyedStream<A, K, KA>,
    right: KeyedStream<B, K, KB>,
    ttl: Option<StateTtlConfig>,
    what: PhantomData<fn() -> T>,
}

impl<A: Record, B: Record, T> JoinedStreams<A, B, T> {
    pub(crate) fn new(left: DataStream<A>, right: DataStream<B>) -> Self {
        Self {
            left,
            right,
            what: PhantomData,
        }
    }

    /// Reads the key of the left stream's records.
    #[must_use]
    pub fn where_key<K: Key, KA>(self, key: KA) -> JoinedWhere<A, B, K, KA, T>
    where
        KA: for<'a> Fn(Row<'a, A>) -> K + Clone + Send + Sync + 'static,
    {
        JoinedWhere {
            left: self.left.key_by(key),
            right: self.right,
            what: PhantomData,
        }
    }
}

impl<A: Record, B: Record, K: Key, KA, T> JoinedWhere<A, B, K, KA, T> {
    /// Reads the key of the right stream's records.
    #[must_use]
    pub fn equal_to<KB>(self, key: KB) -> EqualTo<A, B, K, KA, KB, T>
    where
        KB: for<'b> Fn(Row<'b, B>) -> K + Clone + Send + Sync + 'static,
    {
        EqualTo {
            left: self.left,
            right: self.right.key_by(key),
            ttl: None,
            what: PhantomData,
        }
    }
}

impl<A, B, K, KA, KB> EqualTo<A, B, K, KA, KB, Pairs>
where
    A: Record,
    B: Record,
    K: Key,
    KA: for<'a> Fn(Row<'a, A>) -> K + Clone + Send + Sync + 'static,
    KB: for<'b> Fn(Row<'b, B>) -> K + Clone + Send + Sync + 'static,
{
    /// Has rows of a join without a window expire: a row that has joins nothing any more. Without, they are kept for ever.
    #[must_use]
    pub fn state_ttl(mut self, ttl: StateTtlConfig) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Makes any number of records of each pair with equal keys, as soon as both are there. Both streams may be changelogs: a
    /// retraction takes one equal row back (equal byte for byte) and retracts its pairs. Results carry the kind of the record that
    /// made the pair, and the later of the two times.
    ///
    /// ```
    /// use ringflow::prelude::*;
    ///
    /// let env = StreamExecutionEnvironment::create_local_environment();
    /// let numbers = |count, name| {
    ///     env.from_source(SequenceSource::new(count), WatermarkStrategy::no_watermarks(), name)
    /// };
    /// numbers(10, "left")
    ///     .join(numbers(20, "right"))
    ///     .where_key(|left| left.value())
    ///     .equal_to(|right| right.value() / 2)
    ///     .apply(|left, right, out: &mut Collector<'_, Number>| {
    ///         out.collect(Number::new(left.value() * right.value()));
    ///     })
    ///     .discard();
    /// # assert_eq!(env.execute("each number with its double")?.records_out, 20);
    /// # Ok::<(), ringflow::Error>(())
    /// ```
    #[must_use]
    pub fn apply<O: Record>(
        self,
        function: impl for<'a, 'b> Fn(Row<'a, A>, Row<'b, B>, &mut Collector<'_, O>)
        + Clone
        + Send
        + Sync
        + 'static,
    ) -> DataStream<O> {
        self.add(
            "Join",
            JoinType::Inner,
            move |left, right, out: &mut Collector<'_, O>| {
                if let (Some(left), Some(right)) = (left, right) {
                    function(left, right, out);
                }
            },
        )
    }

    /// As [`EqualTo::apply`], and a left row without a partner comes out alone; it is taken back (`-D`) when its first partner
    /// comes, and comes out again when its last one goes.
    #[must_use]
    pub fn left_outer<O: Record>(
        self,
        function: impl for<'a, 'b> Fn(Row<'a, A>, Option<Row<'b, B>>, &mut Collector<'_, O>)
        + Clone
        + Send
        + Sync
        + 'static,
    ) -> DataStream<O> {
        self.add(
            "Left Outer Join",
            JoinType::LeftOuter,
            move |left, right, out: &mut Collector<'_, O>| {
                if let Some(left) = left {
                    function(left, right, out);
                }
            },
        )
    }

    /// As [`EqualTo::left_outer`], for rows of the right side.
    #[must_use]
    pub fn right_outer<O: Record>(
        self,
        function: impl for<'a, 'b> Fn(Option<Row<'a, A>>, Row<'b, B>, &mut Collector<'_, O>)
        + Clone
        + Send
        + Sync
        + 'static,
    ) -> DataStream<O> {
        self.add(
            "Right Outer Join",
            JoinType::RightOuter,
            move |left, right, out: &mut Collector<'_, O>| {
                if let Some(right) = right {
                    function(left, right, out);
                }
            },
        )
    }

    /// As [`EqualTo::left_outer`], for rows of both sides.
    #[must_use]
    pub fn full_outer<O: Record>(
        self,
        function: impl for<'a, 'b> Fn(Option<Row<'a, A>>, Option<Row<'b, B>>, &mut Collector<'_, O>)
        + Clone
        + Send
        + Sync
        + 'static,
    ) -> DataStream<O> {
        self.add("Full Outer Join", JoinType::FullOuter, function)
    }

    fn add<O: Record>(
        self,
        name: &str,
        join_type: JoinType,
        function: impl for<'a, 'b> Fn(Option<Row<'a, A>>, Option<Row<'b, B>>, &mut Collector<'_, O>)
        + Clone
        + Send
        + Sync
        + 'static,
    ) -> DataStream<O> {
        let (left, left_key) = self.left.into_parts();
        let (right, right_key) = self.right.into_parts();
        let ttl = self.ttl;
        let make = move |_: &PrepareContext| {
            let (left_key, right_key) = (left_key.clone(), right_key.clone());
            let operator = Join::<A, B, K, O, _, _, _>::new(
                join_type,
                left_key,
                right_key,
                function.clone(),
                ttl,
            );
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        left.add_two_input(right, name, factory(make))
    }
}
