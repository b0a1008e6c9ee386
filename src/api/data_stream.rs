//! Streams: what a program chains its calls on.
//!
//! Owns: [`DataStream`], [`KeyedStream`], [`WindowedStream`], [`Source`], [`Sink`].
//! Invariant: a stream of `R` comes from a node whose records are `R`: this is the type that operators trust when they
//! read bytes unchecked.
//! Left out: running anything.

use std::marker::PhantomData;
use std::sync::Arc;

use bytemuck::Pod;
use ringflow_dataplane::error::Result as DataResult;
use ringflow_dataplane::exchange::partitioner::KeyHash;
use ringflow_dataplane::operator::reduce::Reduce;
use ringflow_dataplane::operator::stateless::{Collector, Filter, FlatMap, Map};
use ringflow_dataplane::operator::window::assigner::SlidingWindows;
use ringflow_dataplane::operator::window::{
    AggregateFunction, TimeWindow, WindowOperator, WindowResult,
};
use ringflow_dataplane::operator::{Operator, OperatorFactory};
use ringflow_dataplane::program::NodeCode;
use ringflow_dataplane::record::{EventTime, Record, RecordRef, Row, StructRecord};
use ringflow_dataplane::runtime::context::PrepareContext;
use ringflow_dataplane::sink::discard::{DiscardSink, SumSink};
use ringflow_dataplane::sink::print::{PrintSink, Render, TopRows};
use ringflow_dataplane::source::SourceFactory;
use ringflow_schemas::graph::{ChainingStrategy, OperatorKind, Partitioner};
use ringflow_schemas::key_group::spread;

use crate::api::environment::StreamExecutionEnvironment;
use crate::api::graph::{Discover, Node};
use crate::api::key::Key;
use crate::api::window::WindowAssigner;

/// A source of records.
pub trait Source {
    /// What it gives out.
    type Record: Record;

    /// Builds its readers.
    fn factory(&self) -> Arc<dyn SourceFactory>;

    /// What it is made of, asked at submit; none for sources that divide themselves.
    fn discover(&self) -> Option<Discover> {
        None
    }
}

/// A sink of records of `R`.
pub trait Sink<R: Record> {
    /// Builds its writers.
    fn factory(self) -> Arc<dyn OperatorFactory>;
    /// Name in graphs.
    fn name(&self) -> String;
}

/// A factory made of a closure.
struct Factory<F>(F);

impl<F> OperatorFactory for Factory<F>
where
    F: Fn(&PrepareContext) -> DataResult<Box<dyn Operator>> + Send + Sync,
{
    fn prepare(&self, context: &PrepareContext) -> DataResult<Box<dyn Operator>> {
        (self.0)(context)
    }
}

pub(crate) fn factory(
    make: impl Fn(&PrepareContext) -> DataResult<Box<dyn Operator>> + Send + Sync + 'static,
) -> Arc<dyn OperatorFactory> {
    Arc::new(Factory(make))
}

/// A stream of records of `R`.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct DataStream<R> {
    env: StreamExecutionEnvironment,
    node: u32,
    /// How records get to the next operator.
    partitioner: Partitioner,
    key_hash: Option<KeyHash>,
    record: PhantomData<fn() -> R>,
}

impl<R: Record> DataStream<R> {
    pub(crate) fn from_node(env: StreamExecutionEnvironment, node: u32) -> Self {
        Self {
            env,
            node,
            partitioner: Partitioner::Forward,
            key_hash: None,
            record: PhantomData,
        }
    }

    fn add<O: Record>(
        self,
        name: &str,
        kind: OperatorKind,
        factory: Arc<dyn OperatorFactory>,
    ) -> DataStream<O> {
        let node = self.env.with_graph(|graph| {
            let node = graph.add_node(Node {
                name: name.to_owned(),
                uid: None,
                kind,
                parallelism: 0,
                auto_parallelism: false,
                max_parallelism: 0,
                slot_sharing_group: None,
                chaining: ChainingStrategy::Always,
                discover: None,
                code: NodeCode::Operator(factory),
            });
            graph.add_edge(self.node, node, self.partitioner, self.key_hash.clone());
            node
        });
        DataStream::from_node(self.env, node)
    }

    fn set(self, change: impl FnOnce(&mut Node)) -> Self {
        self.env
            .with_graph(|graph| change(graph.node_mut(self.node)));
        self
    }

    fn partitioned(mut self, partitioner: Partitioner) -> Self {
        self.partitioner = partitioner;
        self
    }

    /// Keeps the records for which `keep` is true.
    #[must_use]
    pub fn filter(
        self,
        keep: impl for<'a> Fn(Row<'a, R>) -> bool + Clone + Send + Sync + 'static,
    ) -> Self {
        self.add(
            "Filter",
            OperatorKind::OneInput,
            factory(move |_| Ok(Box::new(Filter::<R, _>::new(keep.clone())))),
        )
    }

    /// Makes one struct record of each.
    #[must_use]
    pub fn map<O: StructRecord>(
        self,
        map: impl for<'a> Fn(Row<'a, R>) -> O + Clone + Send + Sync + 'static,
    ) -> DataStream<O> {
        self.add(
            "Map",
            OperatorKind::OneInput,
            factory(move |_| Ok(Box::new(Map::<R, O, _>::new(map.clone())))),
        )
    }

    /// Makes any number of records of each; tables are built with `out.collect_table(|builder| ..)`.
    #[must_use]
    pub fn flat_map<O: Record>(
        self,
        map: impl for<'a> Fn(Row<'a, R>, &mut Collector<'_, O>) + Clone + Send + Sync + 'static,
    ) -> DataStream<O> {
        self.add(
            "Flat Map",
            OperatorKind::OneInput,
            factory(move |_| Ok(Box::new(FlatMap::<R, O, _>::new(map.clone())))),
        )
    }

    /// Sends records of the same key to the same subtask of the next operator.
    #[must_use]
    pub fn key_by<K: Key, KF>(mut self, key: KF) -> KeyedStream<R, K, KF>
    where
        KF: for<'a> Fn(Row<'a, R>) -> K + Clone + Send + Sync + 'static,
    {
        let select = key.clone();
        self.partitioner = Partitioner::Hash;
        self.key_hash = Some(Arc::new(move |bytes: &[u8]| {
            let record = RecordRef {
                bytes,
                timestamp: EventTime::NONE,
                key_hash: 0,
                origin_ns: 0,
            };
            // SAFETY: this stream's records are `R`.
            spread(select(unsafe { Row::<R>::read(&record) }).hash_code())
        }));
        KeyedStream {
            stream: self,
            key,
            keys: PhantomData,
        }
    }

    /// Spreads records evenly over the next operator's subtasks.
    #[must_use]
    pub fn rebalance(self) -> Self {
        self.partitioned(Partitioner::Rebalance)
    }

    /// Spreads records over the next operator's subtasks at random.
    #[must_use]
    pub fn shuffle(self) -> Self {
        self.partitioned(Partitioner::Shuffle)
    }

    /// Sends each record to every subtask of the next operator.
    #[must_use]
    pub fn broadcast(self) -> Self {
        self.partitioned(Partitioner::Broadcast)
    }

    /// Sends all records to the first subtask of the next operator.
    #[must_use]
    pub fn global(self) -> Self {
        self.partitioned(Partitioner::Global)
    }

    /// Names the last operator.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.set(|node| node.name = name.to_owned())
    }

    /// Gives the last operator an identity that survives changes of the program.
    #[must_use]
    pub fn uid(self, uid: &str) -> Self {
        self.set(|node| node.uid = Some(uid.to_owned()))
    }

    /// Number of subtasks of the last operator; 0: the job's default.
    #[must_use]
    pub fn set_parallelism(self, parallelism: u32) -> Self {
        self.set(|node| node.parallelism = parallelism)
    }

    /// Number of key groups of the last operator; 0: derived from its parallelism.
    #[must_use]
    pub fn set_max_parallelism(self, max_parallelism: u32) -> Self {
        self.set(|node| node.max_parallelism = max_parallelism)
    }

    /// The last operator begins a new chain.
    #[must_use]
    pub fn start_new_chain(self) -> Self {
        self.set(|node| node.chaining = ChainingStrategy::Head)
    }

    /// The last operator is never chained.
    #[must_use]
    pub fn disable_chaining(self) -> Self {
        self.set(|node| node.chaining = ChainingStrategy::Never)
    }

    /// Subtasks of operators in one group may share a slot.
    #[must_use]
    pub fn slot_sharing_group(self, group: &str) -> Self {
        self.set(|node| node.slot_sharing_group = Some(group.to_owned()))
    }

    /// Ends the stream in a sink.
    pub fn sink_to(self, sink: impl Sink<R>) -> DataStream<R> {
        let name = sink.name();
        let factory = sink.factory();
        self.add(&name, OperatorKind::Sink, factory)
    }

    /// Prints a line per record to the standard output of the TaskManager.
    pub fn print_with(
        self,
        render: impl for<'a> Fn(Row<'a, R>, &mut Vec<u8>) + Clone + Send + Sync + 'static,
    ) -> DataStream<R> {
        let make = move |_: &PrepareContext| {
            let render = read_rows(render.clone());
            Ok(Box::new(PrintSink::new(render)) as Box<dyn Operator>)
        };
        self.add("Print to Std. Out", OperatorKind::Sink, factory(make))
    }

    /// Prints each record with `{:?}`.
    pub fn print(self) -> DataStream<R>
    where
        for<'a> R::View<'a>: std::fmt::Debug,
    {
        self.print_with(|row, line| {
            use std::io::Write;
            // Writing to a vector cannot fail.
            drop(write!(line, "{:?}", row.view()));
        })
    }

    /// Counts records and forgets them.
    pub fn discard(self) -> DataStream<R> {
        self.add(
            "Discard",
            OperatorKind::Sink,
            factory(|_| Ok(Box::new(DiscardSink::new()))),
        )
    }

    /// Counts records, adds up a `number` of each (wrapping) and forgets them: the job's results `records` and `sum`.
    pub fn discard_with_sum(
        self,
        number: impl for<'a> Fn(Row<'a, R>) -> u64 + Clone + Send + Sync + 'static,
    ) -> DataStream<R> {
        let make = move |_: &PrepareContext| {
            let number = number.clone();
            let number = move |record: &RecordRef<'_>| {
                // SAFETY: this stream's records are `R`.
                number(unsafe { Row::<R>::read(record) })
            };
            let sink = SumSink::new(number);
            Ok(Box::new(sink) as Box<dyn Operator>)
        };
        self.add("Sum", OperatorKind::Sink, factory(make))
    }

    /// Passes records on and keeps the `limit` greatest by `order` as the job's result `name`.
    #[must_use]
    pub fn keep_top(
        self,
        name: &'static str,
        limit: u32,
        order: impl for<'a> Fn(Row<'a, R>) -> i64 + Clone + Send + Sync + 'static,
        render: impl for<'a> Fn(Row<'a, R>, &mut Vec<u8>) + Clone + Send + Sync + 'static,
    ) -> Self {
        let make = move |_: &PrepareContext| {
            let order = order.clone();
            // SAFETY: this stream's records are `R`.
            let order =
                Box::new(move |record: &RecordRef<'_>| order(unsafe { Row::<R>::read(record) }));
            Ok(
                Box::new(TopRows::new(name, limit, order, read_rows(render.clone())))
                    as Box<dyn Operator>,
            )
        };
        self.add("Top Rows", OperatorKind::OneInput, factory(make))
    }
}

/// Erases a typed renderer; only for nodes whose records are `R`.
pub(crate) fn read_rows<R: Record>(
    render: impl for<'a> Fn(Row<'a, R>, &mut Vec<u8>) + Send + 'static,
) -> Render {
    // SAFETY: callers put this behind a stream of `R`.
    Box::new(move |record, line| render(unsafe { Row::<R>::read(record) }, line))
}

/// A stream whose records of one key meet in one subtask.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct KeyedStream<R, K, KF> {
    stream: DataStream<R>,
    key: KF,
    keys: PhantomData<fn() -> K>,
}

impl<R: Record, K: Key, KF> KeyedStream<R, K, KF>
where
    KF: for<'a> Fn(Row<'a, R>) -> K + Clone + Send + Sync + 'static,
{
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

    /// Groups records by windows of event time.
    #[must_use]
    pub fn window(self, windows: impl WindowAssigner) -> WindowedStream<R, K, KF> {
        WindowedStream {
            stream: self.stream,
            key: self.key,
            windows: windows.windows(),
            keys: PhantomData,
        }
    }
}

/// A keyed stream, cut into windows.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct WindowedStream<R, K, KF> {
    stream: DataStream<R>,
    key: KF,
    windows: Result<SlidingWindows, String>,
    keys: PhantomData<fn() -> K>,
}

impl<R: Record, K: Key, KF> WindowedStream<R, K, KF>
where
    KF: for<'a> Fn(Row<'a, R>) -> K + Clone + Send + Sync + 'static,
{
    /// Aggregates each key's window as records come in; gives out key, value and window.
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
        O: Record,
        EF: Fn(&K, A::Output, TimeWindow, &mut Collector<'_, O>) + Clone + Send + Sync + 'static,
    {
        let windows = match self.windows {
            Ok(windows) => windows,
            Err(why) => {
                self.stream.env.refuse(why);
                // Never runs: `execute` reports the refusal.
                SlidingWindows::new(
                    std::time::Duration::from_secs(1),
                    std::time::Duration::from_secs(1),
                    0,
                )
                .expect("one second is a legal window")
            }
        };
        let name = if windows.is_tumbling() {
            "TumblingEventTimeWindows"
        } else {
            "SlidingEventTimeWindows"
        };
        let key = self.key;
        let make = move |_: &PrepareContext| {
            let operator = WindowOperator::<R, K, A, O, _, _>::new(
                windows,
                key.clone(),
                aggregate.clone(),
                emit.clone(),
            );
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        self.stream.add(name, OperatorKind::OneInput, factory(make))
    }
}
