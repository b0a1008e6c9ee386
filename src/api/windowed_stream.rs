//! Keyed streams, cut into windows.
//!
//! Owns: [`WindowedStream`]. Invariant: windows that are not legal are refused when the job is executed; whichever of the two
//! operators runs (panes or the general one), the results are the same.
//! Left out: what windows are ([`super::window`]).

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytemuck::Pod;
use ringflow_dataplane::operator::Operator;
use ringflow_dataplane::operator::chain::SideOutputId;
use ringflow_dataplane::operator::side_output::OutputTag;
use ringflow_dataplane::operator::stateless::Collector;
use ringflow_dataplane::operator::window::assigner::{SlidingWindows, WindowAssigner};
use ringflow_dataplane::operator::window::contents::{Accumulated, Contents, Listed};
use ringflow_dataplane::operator::window::evictor::Evictor;
use ringflow_dataplane::operator::window::function::{
    Aggregated, Apply, Elements, Emit, EmitRecord, Folded, ProcessWindowFunction, WindowElements,
};
use ringflow_dataplane::operator::window::operator::Windowing;
use ringflow_dataplane::operator::window::trigger::Trigger;
use ringflow_dataplane::operator::window::{
    AggregateFunction, PaneOperator, Reducing, TimeWindow, WindowOperator, WindowResult,
};
use ringflow_dataplane::record::{Record, Row, StructRecord};
use ringflow_dataplane::runtime::context::PrepareContext;
use ringflow_schemas::graph::OperatorKind;

use crate::api::data_stream::{DataStream, factory};
use crate::api::key::Key;

/// Makes a part of an operator for each subtask.
type Make<T> = Arc<dyn Fn() -> Box<T> + Send + Sync>;

/// A keyed stream, cut into windows; or a whole stream, with the key `()`.
///
/// ```
/// use std::time::Duration;
/// use ringflow::prelude::*;
///
/// # fn main() -> ringflow::Result<()> {
/// let env = StreamExecutionEnvironment::create_local_environment();
/// const LATE: OutputTag<Number> = OutputTag::new("late");
/// let sessions = env
///     .from_source(SequenceSource::new(1_000), WatermarkStrategy::monotonous_timestamps(), "numbers")
///     .key_by(|number| number.value() % 10)
///     .window(EventTimeSessionWindows::with_gap(Duration::from_millis(50)))
///     .allowed_lateness(Duration::from_millis(20))
///     .side_output_late_data(&LATE)
///     .aggregate(Count);
/// sessions.get_side_output(&LATE).discard();
/// sessions.discard();
/// // Each digit's numbers are 10 ms apart, so each has one session.
/// # assert_eq!(env.execute("sessions")?.records_out, 10);
/// # Ok(())
/// # }
/// ```
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct WindowedStream<R, K, KF> {
    stream: DataStream<R>,
    key: KF,
    assigner: Arc<dyn WindowAssigner<R>>,
    trigger: Option<Make<dyn Trigger<R>>>,
    evictor: Option<Make<dyn Evictor<R>>>,
    allowed_lateness: Duration,
    late_output: Option<SideOutputId>,
    /// In one subtask, because there are no keys.
    whole: bool,
    keys: PhantomData<fn() -> K>,
}

impl<R: Record, K: Key, KF> WindowedStream<R, K, KF>
where
    KF: for<'a> Fn(Row<'a, R>) -> K + Clone + Send + Sync + 'static,
{
    /// `stream`, whose records go by `key`, in windows of `assigner`.
    pub(crate) fn new(stream: DataStream<R>, key: KF, assigner: impl WindowAssigner<R>) -> Self {
        if let Err(why) = assigner.check() {
            stream.env().refuse(why);
        }
        Self {
            stream,
            key,
            assigner: Arc::new(assigner),
            trigger: None,
            evictor: None,
            allowed_lateness: Duration::ZERO,
            late_output: None,
            whole: false,
            keys: PhantomData,
        }
    }

    /// Of a stream without keys: one subtask has all.
    pub(crate) fn whole(mut self) -> Self {
        self.whole = true;
        self
    }

    /// Has windows fire as `trigger` says, instead of their own. Windows that merge need a trigger that can.
    #[must_use]
    pub fn trigger(mut self, trigger: impl Trigger<R> + Clone + Sync) -> Self {
        if self.assigner.is_merging() && !trigger.can_merge() {
            self.stream.env().refuse(
                "session windows merge, and the trigger given cannot: implement `can_merge` and `on_merge`, or use another one"
                    .to_owned(),
            );
        }
        self.trigger = Some(Arc::new(move || Box::new(trigger.clone())));
        self
    }

    /// Has `evictor` take records out of windows that fire. Windows then keep all of their records.
    #[must_use]
    pub fn evictor(mut self, evictor: impl Evictor<R> + Clone + Sync) -> Self {
        self.evictor = Some(Arc::new(move || Box::new(evictor.clone())));
        self
    }

    /// How long windows of event time wait for late records after they fired; each that comes fires them again. 0 unless set.
    #[must_use]
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.allowed_lateness = lateness;
        self
    }

    /// Sends records that come too late to the side output `tag`, which otherwise are dropped and counted.
    #[must_use]
    pub fn side_output_late_data(mut self, tag: &OutputTag<R>) -> Self {
        self.late_output = Some(tag.id());
        self
    }

    /// Aggregates each key's window as records come in; gives out key, value and window.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ringflow::prelude::*;
    ///
    /// # fn main() -> ringflow::Result<()> {
    /// let env = StreamExecutionEnvironment::create_local_environment();
    /// env.from_source(SequenceSource::new(1_000), WatermarkStrategy::monotonous_timestamps(), "numbers")
    ///     .key_by(|number| number.value() % 10)
    ///     .window(SlidingEventTimeWindows::of(Duration::from_millis(200), Duration::from_millis(100)))
    ///     .aggregate(Count)
    ///     .discard();
    /// // Windows from -100..100 to 900..1100, of 10 keys each.
    /// # assert_eq!(env.execute("counts")?.records_out, 110);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn aggregate<A>(self, aggregate: A) -> DataStream<WindowResult<K, A::Output>>
    where
        K: Pod,
        A: AggregateFunction<R> + Sync,
        A::Output: Pod,
    {
        self.aggregate_then(
            aggregate,
            |key: &K, value, window, out: &mut Collector<'_, WindowResult<K, A::Output>>| {
                out.collect_window_result(key, &value, window);
            },
        )
    }

    /// Aggregates each key's window as records come in; `emit` makes any number of records of the result.
    #[must_use]
    pub fn aggregate_then<A, O, EF>(self, aggregate: A, emit: EF) -> DataStream<O>
    where
        A: AggregateFunction<R> + Sync,
        A::Output: 'static,
        O: Record,
        EF: Fn(&K, A::Output, TimeWindow, &mut Collector<'_, O>) + Clone + Send + Sync + 'static,
    {
        match self.panes() {
            Some(windows) => self.add_panes(windows, aggregate, emit),
            None => self.aggregate_with(aggregate, Emit(emit)),
        }
    }

    /// Aggregates each key's window as records come in; `function` makes records of the result, with the window's context:
    /// Flink's `aggregate(AggregateFunction, ProcessWindowFunction)`.
    #[must_use]
    pub fn aggregate_with<A, O, W>(self, aggregate: A, function: W) -> DataStream<O>
    where
        A: AggregateFunction<R> + Sync,
        A::Output: 'static,
        O: Record,
        W: ProcessWindowFunction<Aggregated<A::Output>, K, O> + Sync,
    {
        if self.evictor.is_some() {
            return self.process(Folded::new(aggregate, function));
        }
        let contents = move || Accumulated::<R, A>::new(aggregate.clone());
        self.add_general(contents, function)
    }

    /// Combines the records of each key's window as they come in.
    #[must_use]
    pub fn reduce(self, reduce: impl Fn(R, R) -> R + Clone + Send + Sync + 'static) -> DataStream<R>
    where
        R: StructRecord,
    {
        match self.panes() {
            Some(windows) => {
                let emit = |_: &K, record, _: TimeWindow, out: &mut Collector<'_, R>| {
                    out.collect(record);
                };
                self.add_panes(windows, Reducing::new(reduce), emit)
            }
            None => self.reduce_with(reduce, EmitRecord),
        }
    }

    /// Combines the records of each key's window as they come in; `function` makes records of the result, with the window's
    /// context: Flink's `reduce(ReduceFunction, ProcessWindowFunction)`.
    #[must_use]
    pub fn reduce_with<O, W>(
        self,
        reduce: impl Fn(R, R) -> R + Clone + Send + Sync + 'static,
        function: W,
    ) -> DataStream<O>
    where
        R: StructRecord,
        O: Record,
        W: ProcessWindowFunction<Aggregated<R>, K, O> + Sync,
    {
        self.aggregate_with(Reducing::new(reduce), function)
    }

    /// Gives `function` all records of each key's window when it fires, with the window's context and state. Windows keep all
    /// of their records.
    #[must_use]
    pub fn process<O, W>(self, function: W) -> DataStream<O>
    where
        O: Record,
        W: ProcessWindowFunction<Elements<R>, K, O> + Sync,
    {
        let evictor = self.evictor.clone();
        let contents = move || Listed::<R>::new(evictor.as_ref().map(|make| make()));
        self.add_general(contents, function)
    }

    /// Gives `function` the key, the window and all of its records when it fires.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ringflow::prelude::*;
    ///
    /// # fn main() -> ringflow::Result<()> {
    /// let env = StreamExecutionEnvironment::create_local_environment();
    /// env.from_source(SequenceSource::new(1_000), WatermarkStrategy::monotonous_timestamps(), "numbers")
    ///     .key_by(|number| number.value() % 10)
    ///     .window(TumblingEventTimeWindows::of(Duration::from_millis(100)))
    ///     .apply(|_key, _window, numbers, out: &mut Collector<'_, Number>| {
    ///         let mut values: Vec<u64> = numbers.iter().map(|number| number.value()).collect();
    ///         values.sort_unstable();
    ///         out.collect(Number::new(values[values.len() / 2]));
    ///     })
    ///     .discard();
    /// # assert_eq!(env.execute("medians")?.records_out, 100);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn apply<O: Record>(
        self,
        function: impl for<'a> Fn(&K, TimeWindow, WindowElements<'a, R>, &mut Collector<'_, O>)
        + Clone
        + Send
        + Sync
        + 'static,
    ) -> DataStream<O> {
        self.process(Apply(function))
    }

    /// The windows, if panes will do: aligned event-time windows that fire once.
    fn panes(&self) -> Option<SlidingWindows> {
        let plain = self.trigger.is_none()
            && self.evictor.is_none()
            && self.allowed_lateness.is_zero()
            && self.late_output.is_none();
        self.assigner.aligned().filter(|_| plain)
    }

    fn add_panes<A, O, EF>(self, windows: SlidingWindows, aggregate: A, emit: EF) -> DataStream<O>
    where
        A: AggregateFunction<R> + Sync,
        O: Record,
        EF: Fn(&K, A::Output, TimeWindow, &mut Collector<'_, O>) + Clone + Send + Sync + 'static,
    {
        let (key, name) = (self.key.clone(), self.assigner.name());
        let make = move |_: &PrepareContext| {
            let operator = PaneOperator::<R, K, A, O, _, _>::new(
                windows,
                key.clone(),
                aggregate.clone(),
                emit.clone(),
            );
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        self.finish(name, make)
    }

    fn add_general<C, O, W>(
        self,
        contents: impl Fn() -> C + Send + Sync + 'static,
        function: W,
    ) -> DataStream<O>
    where
        C: Contents<R> + 'static,
        O: Record,
        W: ProcessWindowFunction<C::Input, K, O> + Sync,
    {
        let (key, assigner) = (self.key.clone(), Arc::clone(&self.assigner));
        let (trigger, allowed_lateness) = (self.trigger.clone(), self.allowed_lateness);
        let (late_output, name) = (self.late_output, self.assigner.name());
        let make = move |_: &PrepareContext| {
            let windowing = Windowing {
                assigner: Arc::clone(&assigner),
                trigger: trigger.as_ref().map(|make| make()),
                allowed_lateness,
                late_output,
            };
            let (key, function) = (key.clone(), function.clone());
            let operator =
                WindowOperator::<R, K, C, W, O, KF>::new(windowing, key, contents(), function);
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        self.finish(name, make)
    }

    fn finish<O: Record>(
        self,
        name: &str,
        make: impl Fn(&PrepareContext) -> ringflow_dataplane::error::Result<Box<dyn Operator>>
        + Send
        + Sync
        + 'static,
    ) -> DataStream<O> {
        let stream = self.stream.add(name, OperatorKind::OneInput, factory(make));
        if self.whole {
            stream.set_parallelism(1)
        } else {
            stream
        }
    }
}
