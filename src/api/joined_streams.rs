//! Two streams that are joined by key.
//!
//! Owns: [`JoinedStreams`], [`JoinedWhere`], [`EqualTo`], [`JoinedWindows`]: the steps of
//! `left.join(right).where_key(..).equal_to(..)`, of a join or a co-group ([`Pairs`], [`Groups`]), with a window or without.
//! Invariant: both sides go to their operator by the same type of key, so records of equal keys meet in one subtask.
//! Left out: conditions besides the key: `apply` emits nothing for pairs that do not meet them.

use std::marker::PhantomData;

use ringflow_dataplane::error::Error;
use ringflow_dataplane::operator::Operator;
use ringflow_dataplane::operator::co_group::{CoGroup, Rows};
use ringflow_dataplane::operator::join::{Join, JoinType};
use ringflow_dataplane::operator::stateless::Collector;
use ringflow_dataplane::operator::window::TimeWindow;
use ringflow_dataplane::operator::window::assigner::SlidingWindows;
use ringflow_dataplane::record::{Record, Row};
use ringflow_dataplane::runtime::context::PrepareContext;
use ringflow_dataplane::state::handles::StateTtlConfig;

use crate::api::data_stream::{DataStream, factory};
use crate::api::key::Key;
use crate::api::keyed_stream::KeyedStream;
use crate::api::window::WindowAssigner;

/// What streams are brought together for: every pair of records.
#[derive(Debug, Clone, Copy)]
pub struct Pairs;

/// What streams are brought together for: all records of a key's window at once.
#[derive(Debug, Clone, Copy)]
pub struct Groups;

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

/// Two streams, their keys, and windows.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct JoinedWindows<A, B, K, KA, KB, T> {
    left: KeyedStream<A, K, KA>,
    right: KeyedStream<B, K, KB>,
    windows: Result<SlidingWindows, String>,
    what: PhantomData<fn() -> T>,
}

impl<A: Record, B: Record, K: Key, KA, KB, T> EqualTo<A, B, K, KA, KB, T> {
    /// Brings records together that share a window too: tumbling or sliding windows of event time.
    #[must_use]
    pub fn window(self, windows: impl WindowAssigner<A>) -> JoinedWindows<A, B, K, KA, KB, T> {
        if self.ttl.is_some() {
            self.left.env().refuse(
                "`state_ttl` is for joins without a window: the state of a window goes when the window ends".to_owned(),
            );
        }
        JoinedWindows {
            left: self.left,
            right: self.right,
            windows: aligned(&windows),
            what: PhantomData,
        }
    }
}

/// Windows that both sides can be in, whatever their records are.
fn aligned<R: Record>(windows: &impl WindowAssigner<R>) -> Result<SlidingWindows, String> {
    windows.check()?;
    windows.aligned().ok_or_else(|| {
        format!(
            "a join or co-group cannot use {}: use TumblingEventTimeWindows or SlidingEventTimeWindows",
            windows.name()
        )
    })
}

impl<A, B, K, KA, KB> JoinedWindows<A, B, K, KA, KB, Pairs>
where
    A: Record,
    B: Record,
    K: Key,
    KA: for<'a> Fn(Row<'a, A>) -> K + Clone + Send + Sync + 'static,
    KB: for<'b> Fn(Row<'b, B>) -> K + Clone + Send + Sync + 'static,
{
    /// Makes any number of records of each pair with equal keys in a window, when the window ends; with its last millisecond as
    /// event time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ringflow::prelude::*;
    ///
    /// let env = StreamExecutionEnvironment::create_local_environment();
    /// let numbers = |name| {
    ///     env.from_source(SequenceSource::new(100), WatermarkStrategy::monotonous_timestamps(), name)
    /// };
    /// numbers("persons")
    ///     .join(numbers("auctions"))
    ///     .where_key(|person| person.value() % 5)
    ///     .equal_to(|auction| auction.value() % 5)
    ///     .window(TumblingEventTimeWindows::of(Duration::from_millis(10)))
    ///     .apply(|person, auction, out: &mut Collector<'_, Number>| {
    ///         out.collect(Number::new(person.value() + auction.value()));
    ///     })
    ///     .discard();
    /// // 10 windows, 5 keys, 2 x 2 pairs.
    /// # assert_eq!(env.execute("pairs")?.records_out, 200);
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
            "Window Join",
            move |_, _, left, right, out: &mut Collector<'_, O>| {
                for left in left.iter() {
                    for right in right.iter() {
                        function(left, right, out);
                    }
                }
            },
        )
    }
}

impl<A, B, K, KA, KB> JoinedWindows<A, B, K, KA, KB, Groups>
where
    A: Record,
    B: Record,
    K: Key,
    KA: for<'a> Fn(Row<'a, A>) -> K + Clone + Send + Sync + 'static,
    KB: for<'b> Fn(Row<'b, B>) -> K + Clone + Send + Sync + 'static,
{
    /// Makes any number of records of each key's window when it ends, given the records of both sides in it, of which one may
    /// have none; with the window's last millisecond as event time.
    #[must_use]
    pub fn apply<O: Record>(
        self,
        function: impl for<'a, 'b> Fn(&K, TimeWindow, Rows<'a, A>, Rows<'b, B>, &mut Collector<'_, O>)
        + Clone
        + Send
        + Sync
        + 'static,
    ) -> DataStream<O> {
        self.add("Co-Group", function)
    }
}

impl<A, B, K, KA, KB, T> JoinedWindows<A, B, K, KA, KB, T>
where
    A: Record,
    B: Record,
    K: Key,
    KA: for<'a> Fn(Row<'a, A>) -> K + Clone + Send + Sync + 'static,
    KB: for<'b> Fn(Row<'b, B>) -> K + Clone + Send + Sync + 'static,
{
    fn add<O: Record>(
        self,
        name: &str,
        function: impl for<'a, 'b> Fn(&K, TimeWindow, Rows<'a, A>, Rows<'b, B>, &mut Collector<'_, O>)
        + Clone
        + Send
        + Sync
        + 'static,
    ) -> DataStream<O> {
        let (left, left_key) = self.left.into_parts();
        let (right, right_key) = self.right.into_parts();
        let windows = self.windows;
        if let Err(why) = &windows {
            left.env().refuse(why.clone());
        }
        let make = move |_: &PrepareContext| {
            let windows = windows.clone().map_err(Error::deployment)?;
            let operator = CoGroup::<A, B, K, O, _, _, _>::new(
                windows,
                left_key.clone(),
                right_key.clone(),
                function.clone(),
            );
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        left.add_two_input(right, name, factory(make))
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
