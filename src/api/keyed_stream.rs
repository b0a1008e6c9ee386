//! Streams by key.
//!
//! Owns: [`KeyedStream`]. Invariant: records of one key meet in one subtask, and operators on a keyed stream see state of
//! their record's key only.
//! Left out: windows ([`super::windowed_stream`]), and joins without bounds ([`super::joined_streams`]).

use std::marker::PhantomData;

use ringflow_dataplane::operator::Operator;
use ringflow_dataplane::operator::changelog::ChangelogOptions;
use ringflow_dataplane::operator::deduplicate::{Deduplicate, DeduplicateOperator};
use ringflow_dataplane::operator::group_aggregate::{GroupAggregate, GroupAggregateFunction};
use ringflow_dataplane::operator::process::{KeyedProcess, KeyedProcessFunction, OneInput};
use ringflow_dataplane::operator::reduce::Reduce;
use ringflow_dataplane::operator::stateless::Collector;
use ringflow_dataplane::operator::top_n::{TopN, TopNOperator};
use ringflow_dataplane::record::{Record, Row, StructRecord};
use ringflow_dataplane::runtime::context::PrepareContext;
use ringflow_schemas::graph::OperatorKind;

use crate::api::connected_streams::{BroadcastConnectedStream, ConnectedKeyedStreams};
use crate::api::data_stream::{DataStream, factory};
use crate::api::environment::StreamExecutionEnvironment;
use crate::api::interval_join::IntervalJoined;
use crate::api::key::Key;
use crate::api::window::{
    CountEvictor, CountTrigger, GlobalWindows, PurgingTrigger, WindowAssigner,
};
use crate::api::windowed_stream::WindowedStream;

/// A stream whose records of one key meet in one subtask.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct KeyedStream<R, K, KF> {
    stream: DataStream<R>,
    key: KF,
    keys: PhantomData<fn() -> K>,
}

impl<R: Record, K: Key, KF> KeyedStream<R, K, KF> {
    /// The environment that this stream is part of.
    pub(crate) fn env(&self) -> &StreamExecutionEnvironment {
        self.stream.env()
    }
}

impl<R: Record, K: Key, KF> KeyedStream<R, K, KF>
where
    KF: for<'a> Fn(Row<'a, R>) -> K + Clone + Send + Sync + 'static,
{
    /// `stream`, whose records go by `key`.
    pub(crate) fn new(stream: DataStream<R>, key: KF) -> Self {
        Self {
            stream,
            key,
            keys: PhantomData,
        }
    }

    /// The stream, and what reads its key.
    pub(crate) fn into_parts(self) -> (DataStream<R>, KF) {
        (self.stream, self.key)
    }

    /// Combines each record with what came of the earlier ones of its key: the first goes on as it is, later ones as
    /// `reduce(before, record)`, each with its own event time. What `reduce` returns must have the same key.
    ///
    /// ```
    /// use ringflow::prelude::*;
    ///
    /// let mut env = StreamExecutionEnvironment::create_local_environment();
    /// env.from_source(SequenceSource::new(100), WatermarkStrategy::no_watermarks(), "numbers")
    ///     .key_by(|number| number.value() % 10)
    ///     .reduce(|greatest, number| if number.value() > greatest.value() { number } else { greatest })
    ///     .discard();
    /// # assert_eq!(env.execute("greatest by last digit")?.records_out, 100);
    /// # Ok::<(), ringflow::Error>(())
    /// ```
    #[must_use]
    pub fn reduce(self, reduce: impl Fn(R, R) -> R + Clone + Send + Sync + 'static) -> DataStream<R>
    where
        R: StructRecord,
    {
        let key = self.key;
        let make = move |_: &PrepareContext| {
            let operator = Reduce::<R, K, _, _>::new(key.clone(), reduce.clone());
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        self.stream
            .add("Keyed Reduce", OperatorKind::OneInput, factory(make))
    }

    /// Aggregates all records of each key, without windows; `emit` makes records of a key and its result. The output is a
    /// changelog: a key's first result comes as `+I`, a changed one as `-U` (the old one) and `+U` (the new one), and `-D` says
    /// that the key has no rows any more. Inputs may be changelogs, if the function can take rows back.
    ///
    /// ```
    /// use ringflow::prelude::*;
    ///
    /// #[derive(Clone)]
    /// struct Sum;
    ///
    /// impl GroupAggregateFunction<Number> for Sum {
    ///     type Accumulator = u64;
    ///     type Output = u64;
    ///     fn create_accumulator(&self) -> u64 {
    ///         0
    ///     }
    ///     fn accumulate(&self, number: Row<'_, Number>, sum: &mut u64) {
    ///         *sum += number.value();
    ///     }
    ///     fn result(&self, sum: &u64) -> u64 {
    ///         *sum
    ///     }
    /// }
    ///
    /// let env = StreamExecutionEnvironment::create_local_environment();
    /// env.from_source(SequenceSource::new(6), WatermarkStrategy::no_watermarks(), "numbers")
    ///     .key_by(|number| number.value() % 2)
    ///     .group_aggregate(Sum, |_parity, sum, out: &mut Collector<'_, Number>| out.collect(Number::new(*sum)))
    ///     .discard();
    /// // Even numbers: +I 0, -U 0 +U 2, -U 2 +U 6; odd ones: +I 1, -U 1 +U 4, -U 4 +U 9.
    /// # assert_eq!(env.execute("sums by parity")?.records_out, 10);
    /// # Ok::<(), ringflow::Error>(())
    /// ```
    #[must_use]
    pub fn group_aggregate<A, O, EF>(self, aggregate: A, emit: EF) -> DataStream<O>
    where
        A: GroupAggregateFunction<R> + Sync,
        O: Record,
        EF: Fn(&K, &A::Output, &mut Collector<'_, O>) + Clone + Send + Sync + 'static,
    {
        self.group_aggregate_with(ChangelogOptions::new(), aggregate, emit)
    }

    /// As [`KeyedStream::group_aggregate`], with a say in how updates travel and how long state lives.
    #[must_use]
    pub fn group_aggregate_with<A, O, EF>(
        self,
        options: ChangelogOptions,
        aggregate: A,
        emit: EF,
    ) -> DataStream<O>
    where
        A: GroupAggregateFunction<R> + Sync,
        O: Record,
        EF: Fn(&K, &A::Output, &mut Collector<'_, O>) + Clone + Send + Sync + 'static,
    {
        let key = self.key;
        let make = move |_: &PrepareContext| {
            let operator = GroupAggregate::<R, K, A, O, _, _>::new(
                key.clone(),
                aggregate.clone(),
                emit.clone(),
                options,
            );
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        self.stream
            .add("GroupAggregate", OperatorKind::OneInput, factory(make))
    }

    /// The first rows of each key, kept up to date: `order` gives what rows are sorted by, least first (a number, or a tuple;
    /// `std::cmp::Reverse` or a minus sign for greatest first), and of equal rows the earlier come first. The output is a changelog
    /// of rows as they came: one that gets among the first comes as `+I`, one that is pushed out goes as `-D`; with one row per
    /// key it is updated, `-U` and `+U`.
    ///
    /// Takes insertions only, unless asked for [`TopN::retractable`].
    ///
    /// ```
    /// use std::cmp::Reverse;
    /// use ringflow::prelude::*;
    ///
    /// let env = StreamExecutionEnvironment::create_local_environment();
    /// env.from_source(SequenceSource::new(6), WatermarkStrategy::no_watermarks(), "numbers")
    ///     .key_by(|number| number.value() % 2)
    ///     .top_n(2, |number| Reverse(number.value()))
    ///     .discard();
    /// // Even numbers: +I 0, +I 2, -D 0 +I 4; odd ones: +I 1, +I 3, -D 1 +I 5.
    /// # assert_eq!(env.execute("two greatest by parity")?.records_out, 8);
    /// # Ok::<(), ringflow::Error>(())
    /// ```
    #[must_use]
    pub fn top_n<S: Ord + 'static>(
        self,
        top: impl Into<TopN>,
        order: impl for<'a> Fn(Row<'a, R>) -> S + Clone + Send + Sync + 'static,
    ) -> DataStream<R> {
        let emit = |row: Row<'_, R>, _rank, out: &mut Collector<'_, R>| out.collect_row(row);
        self.add_top_n(top.into(), false, order, emit)
    }

    /// As [`KeyedStream::top_n`]; `emit` makes records of a row and its rank, from 1. A row whose rank changes is sent again: per
    /// rank, `-U` with the row that had it and `+U` with the one that has it now.
    #[must_use]
    pub fn top_n_with_rank<S: Ord + 'static, O: Record>(
        self,
        top: impl Into<TopN>,
        order: impl for<'a> Fn(Row<'a, R>) -> S + Clone + Send + Sync + 'static,
        emit: impl for<'a> Fn(Row<'a, R>, u64, &mut Collector<'_, O>) + Clone + Send + Sync + 'static,
    ) -> DataStream<O> {
        self.add_top_n(top.into(), true, order, emit)
    }

    fn add_top_n<S: Ord + 'static, O: Record>(
        self,
        top: TopN,
        ranked: bool,
        order: impl for<'a> Fn(Row<'a, R>) -> S + Clone + Send + Sync + 'static,
        emit: impl for<'a> Fn(Row<'a, R>, u64, &mut Collector<'_, O>) + Clone + Send + Sync + 'static,
    ) -> DataStream<O> {
        if let Err(why) = top.checked() {
            self.stream.env().refuse(why);
        }
        let key = self.key;
        let make = move |_: &PrepareContext| {
            let operator = TopNOperator::<R, K, S, O, _, _, _>::new(
                top,
                ranked,
                key.clone(),
                order.clone(),
                emit.clone(),
            );
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        self.stream
            .add("Rank", OperatorKind::OneInput, factory(make))
    }

    /// Keeps one row of each key: the first or the last, by arrival or by event time. What is kept comes as `+I`, and is updated
    /// by `-U` and `+U`; the first row by arrival is never updated. Takes insertions only.
    ///
    /// ```
    /// use ringflow::prelude::*;
    ///
    /// let env = StreamExecutionEnvironment::create_local_environment();
    /// env.from_source(SequenceSource::new(6), WatermarkStrategy::no_watermarks(), "numbers")
    ///     .key_by(|number| number.value() % 2)
    ///     .deduplicate(Deduplicate::keep_first())
    ///     .discard();
    /// // 0 and 1.
    /// # assert_eq!(env.execute("first by parity")?.records_out, 2);
    /// # Ok::<(), ringflow::Error>(())
    /// ```
    #[must_use]
    pub fn deduplicate(self, what: Deduplicate) -> DataStream<R> {
        let key = self.key;
        let make = move |_: &PrepareContext| {
            let operator = DeduplicateOperator::<R, K, _>::new(what, key.clone());
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        self.stream
            .add("Deduplicate", OperatorKind::OneInput, factory(make))
    }

    /// Joins this stream, the left side, with another one of the same type of key within bounds of event time.
    ///
    /// ```
    /// use ringflow::prelude::*;
    ///
    /// let env = StreamExecutionEnvironment::create_local_environment();
    /// let numbers = |name| {
    ///     let watermarks = WatermarkStrategy::monotonous_timestamps();
    ///     env.from_source(SequenceSource::new(100), watermarks, name).key_by(|number| number.value() % 10)
    /// };
    /// numbers("orders")
    ///     .interval_join(numbers("payments"))
    ///     .between(0, 10)
    ///     .process(|order, payment, _, out: &mut Collector<'_, Number>| {
    ///         out.collect(Number::new(payment.value() - order.value()));
    ///     })
    ///     .discard();
    /// // Each number with itself, and all but the last ten with the one that is 10 later.
    /// # assert_eq!(env.execute("payments of orders")?.records_out, 100 + 90);
    /// # Ok::<(), ringflow::Error>(())
    /// ```
    #[must_use]
    pub fn interval_join<B: Record, KB>(
        self,
        other: KeyedStream<B, K, KB>,
    ) -> IntervalJoined<R, B, K, KF, KB> {
        IntervalJoined::new(self, other)
    }

    /// Groups the records of each key by windows.
    #[must_use]
    pub fn window(self, windows: impl WindowAssigner<R>) -> WindowedStream<R, K, KF> {
        WindowedStream::new(self.stream, self.key, windows)
    }

    /// Groups each `size` records of a key that follow each other. Records that make no whole window give no result.
    ///
    /// ```
    /// use ringflow::prelude::*;
    ///
    /// # fn main() -> ringflow::Result<()> {
    /// let env = StreamExecutionEnvironment::create_local_environment();
    /// env.from_source(SequenceSource::new(1_000), WatermarkStrategy::no_watermarks(), "numbers")
    ///     .key_by(|number| number.value() % 10)
    ///     .count_window(7)
    ///     .reduce(|greatest, number| if number.value() > greatest.value() { number } else { greatest })
    ///     .discard();
    /// // 100 numbers of each digit make 14 windows.
    /// # assert_eq!(env.execute("sevens")?.records_out, 140);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn count_window(self, size: u64) -> WindowedStream<R, K, KF> {
        self.window(GlobalWindows::create())
            .trigger(PurgingTrigger::of(CountTrigger::of(size)))
    }

    /// With each `slide`th record of a key, groups its last `size`.
    #[must_use]
    pub fn count_window_sliding(self, size: u64, slide: u64) -> WindowedStream<R, K, KF> {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        self.window(GlobalWindows::create())
            .trigger(CountTrigger::of(slide))
            .evictor(CountEvictor::of(size))
    }

    /// Calls `function` with each record, with state and timers by key. Each subtask has a clone of it.
    ///
    /// ```
    /// use ringflow::prelude::*;
    ///
    /// /// Says how many numbers a key had, once it has had none for a second of event time.
    /// #[derive(Clone, Default)]
    /// struct CountUntilQuiet {
    ///     count: ValueState<(u64, i64)>,
    /// }
    ///
    /// impl KeyedProcessFunction<u64, Number, Number> for CountUntilQuiet {
    ///     fn open(&mut self, context: &mut RuntimeContext<'_>) -> OperatorResult<()> {
    ///         self.count = context.get_state(&ValueStateDescriptor::new("count"))?;
    ///         Ok(())
    ///     }
    ///
    ///     fn process_element(
    ///         &mut self,
    ///         number: Row<'_, Number>,
    ///         context: &mut KeyedContext<'_, u64>,
    ///         _out: &mut Collector<'_, Number>,
    ///     ) -> OperatorResult<()> {
    ///         let time = number.timestamp().0;
    ///         let (count, _) = self.count.value(context.state())?.unwrap_or((0, 0));
    ///         self.count.update(context.state(), &(count + 1, time))?;
    ///         context.timer_service().register_event_time_timer(time + 1000)
    ///     }
    ///
    ///     fn on_timer(
    ///         &mut self,
    ///         timestamp: i64,
    ///         context: &mut KeyedContext<'_, u64>,
    ///         out: &mut Collector<'_, Number>,
    ///     ) -> OperatorResult<()> {
    ///         match self.count.value(context.state())? {
    ///             Some((count, last)) if last + 1000 == timestamp => {
    ///                 out.collect(Number::new(count));
    ///                 self.count.clear(context.state())
    ///             }
    ///             _ => Ok(()),
    ///         }
    ///     }
    /// }
    ///
    /// let env = StreamExecutionEnvironment::create_local_environment();
    /// env.from_source(SequenceSource::new(100), WatermarkStrategy::monotonous_timestamps(), "numbers")
    ///     .key_by(|number| number.value() % 10)
    ///     .process(CountUntilQuiet::default())
    ///     .discard();
    /// # assert_eq!(env.execute("quiet keys")?.records_out, 10);
    /// # Ok::<(), ringflow::Error>(())
    /// ```
    #[must_use]
    pub fn process<O: Record, P>(self, function: P) -> DataStream<O>
    where
        P: KeyedProcessFunction<K, R, O> + Clone + Sync,
    {
        let key = self.key;
        let make = move |_: &PrepareContext| {
            let operator = KeyedProcess::<K, OneInput<K, R, O, KF, P>>::one_input(
                key.clone(),
                function.clone(),
            );
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        self.stream
            .add("KeyedProcess", OperatorKind::OneInput, factory(make))
    }

    /// This stream and another one with keys of the same type, on their way to one operator that shares its state between them.
    #[must_use]
    pub fn connect<S: Record, SF>(
        self,
        other: KeyedStream<S, K, SF>,
    ) -> ConnectedKeyedStreams<R, S, K, KF, SF>
    where
        SF: for<'a> Fn(Row<'a, S>) -> K + Clone + Send + Sync + 'static,
    {
        ConnectedKeyedStreams::new((self.stream, self.key), (other.stream, other.key))
    }

    /// This stream and one whose records go to every subtask: the broadcast state pattern.
    #[must_use]
    pub fn connect_broadcast<B: Record>(
        self,
        broadcast: DataStream<B>,
    ) -> BroadcastConnectedStream<R, B, K, KF> {
        BroadcastConnectedStream::new((self.stream, self.key), broadcast.broadcast())
    }
}
