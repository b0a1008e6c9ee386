//! Streams: what a program chains its calls on.
//!
//! Owns: [`DataStream`], [`Source`], [`Sink`].
//! Invariant: a stream of `R` comes from a node whose records are `R`: this is the type that operators trust when they
//! read bytes unchecked.
//! Left out: running anything.

use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use ringflow_dataplane::error::Result as DataResult;
use ringflow_dataplane::exchange::partitioner::{KeyHash, SelectChannel};
use ringflow_dataplane::operator::chain::SideOutputId;
use ringflow_dataplane::operator::lookup_join::{LookupJoin, LookupTable};
use ringflow_dataplane::operator::process::{Process, ProcessFunction};
use ringflow_dataplane::operator::side_output::OutputTag;
use ringflow_dataplane::operator::stateless::{Collector, Filter, FlatMap, Map};
use ringflow_dataplane::operator::watermarks::TimestampsAndWatermarks;
use ringflow_dataplane::operator::{Operator, OperatorFactory};
use ringflow_dataplane::program::{EdgeCode, EdgeRouting, NodeCode};
use ringflow_dataplane::record::{EventTime, Record, RecordRef, Row, RowKind, StructRecord};
use ringflow_dataplane::runtime::context::PrepareContext;
use ringflow_dataplane::sink::discard::{DiscardSink, SumSink};
use ringflow_dataplane::sink::print::{PrintSink, Render, TopRows};
use ringflow_dataplane::source::SourceFactory;
use ringflow_schemas::graph::{ChainingStrategy, OperatorKind, Partitioner};
use ringflow_schemas::key_group::spread;

use crate::api::connected_streams::ConnectedStreams;
use crate::api::environment::StreamExecutionEnvironment;
use crate::api::graph::{Discover, Edge, Node};
use crate::api::joined_streams::{Groups, JoinedStreams};
use crate::api::key::Key;
use crate::api::keyed_stream::KeyedStream;
use crate::api::watermark::WatermarkStrategy;
use crate::api::window::WindowAssigner;
use crate::api::windowed_stream::WindowedStream;

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
    /// What makes visible what all writers have written; none where each does so by itself.
    fn committer(&self) -> Option<Committer> {
        None
    }
}

/// An operator of one subtask behind all writers of a sink.
#[allow(missing_debug_implementations, reason = "holds a factory")]
pub struct Committer {
    /// Builds it.
    pub factory: Arc<dyn OperatorFactory>,
    /// The writers' side output that it reads. Their main output stays empty: it is a stream of the sink's records.
    pub side_output: SideOutputId,
}

/// Puts an operator behind `inputs`, one list of origins for each.
fn add_operator<O: Record>(
    env: StreamExecutionEnvironment,
    name: &str,
    kind: OperatorKind,
    inputs: Vec<Vec<Origin>>,
    factory: Arc<dyn OperatorFactory>,
) -> DataStream<O> {
    let node = env.with_graph(|graph| {
        let target = graph.add_node(Node {
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
        for (origins, input) in inputs.into_iter().zip(0u8..) {
            for origin in origins {
                graph.add_edge(Edge {
                    source: origin.node,
                    target,
                    partitioner: origin.partitioner,
                    code: EdgeCode {
                        routing: origin.routing,
                        side_output: origin.side_output,
                        input,
                    },
                });
            }
        }
        target
    });
    DataStream::from_node(env, node)
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

/// Where records of a stream come from, and how they get to the next operator.
#[derive(Clone)]
pub(crate) struct Origin {
    node: u32,
    side_output: Option<SideOutputId>,
    partitioner: Partitioner,
    routing: EdgeRouting,
}

/// A stream of records of `R`: the output of an operator, or of several (a union).
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct DataStream<R> {
    env: StreamExecutionEnvironment,
    origins: Vec<Origin>,
    record: PhantomData<fn() -> R>,
}

/// A stream can go several ways: each operator behind it, and behind its clones, gets all of its records.
impl<R> Clone for DataStream<R> {
    fn clone(&self) -> Self {
        Self {
            env: self.env.clone(),
            origins: self.origins.clone(),
            record: PhantomData,
        }
    }
}

impl<R: Record> DataStream<R> {
    pub(crate) fn from_node(env: StreamExecutionEnvironment, node: u32) -> Self {
        Self {
            env,
            origins: vec![Origin {
                node,
                side_output: None,
                partitioner: Partitioner::Forward,
                routing: EdgeRouting::Plain,
            }],
            record: PhantomData,
        }
    }

    /// The environment that this stream is part of.
    #[must_use]
    pub fn env(&self) -> &StreamExecutionEnvironment {
        &self.env
    }

    pub(crate) fn add<O: Record>(
        self,
        name: &str,
        kind: OperatorKind,
        factory: Arc<dyn OperatorFactory>,
    ) -> DataStream<O> {
        add_operator(self.env, name, kind, vec![self.origins], factory)
    }

    /// An operator of this stream, its input 0, and `other`, its input 1.
    pub(crate) fn add_two_input<S: Record, O: Record>(
        self,
        other: DataStream<S>,
        name: &str,
        factory: Arc<dyn OperatorFactory>,
    ) -> DataStream<O> {
        if !self.env.is_same(&other.env) {
            self.env.refuse(format!(
                "`{name}` connects streams of two environments: a job is built in one"
            ));
            return add_operator(
                self.env,
                name,
                OperatorKind::TwoInput,
                vec![self.origins],
                factory,
            );
        }
        let inputs = vec![self.origins, other.origins];
        add_operator(self.env, name, OperatorKind::TwoInput, inputs, factory)
    }

    fn set(self, change: impl FnOnce(&mut Node)) -> Self {
        match &self.origins[..] {
            [Origin { node, side_output: None, .. }] => {
                self.env.with_graph(|graph| change(graph.node_mut(*node)));
            }
            _ => self.env.refuse(
                "name, uid, parallelism, chaining and slot sharing group belong to an operator: set them on the stream that \
                 an operator returns, not on a union or a side output"
                    .to_owned(),
            ),
        }
        self
    }

    pub(crate) fn partitioned(mut self, partitioner: Partitioner, routing: &EdgeRouting) -> Self {
        for origin in &mut self.origins {
            origin.partitioner = partitioner;
            origin.routing = routing.clone();
        }
        self
    }

    /// The records of this stream and of all `others`, in no particular order between them.
    #[must_use]
    pub fn union(mut self, others: impl IntoIterator<Item = Self>) -> Self {
        for other in others {
            if !self.env.is_same(&other.env) {
                self.env.refuse(
                    "a union of streams of two environments: a job is built in one".to_owned(),
                );
            }
            self.origins.extend(other.origins);
        }
        self
    }

    /// This stream and another one, of records of another type perhaps, on their way to one operator.
    #[must_use]
    pub fn connect<S: Record>(self, other: DataStream<S>) -> ConnectedStreams<R, S> {
        ConnectedStreams::new(self, other)
    }

    /// Joins this stream, the left side, with another one: name their keys next.
    #[must_use]
    pub fn join<S: Record>(self, other: DataStream<S>) -> JoinedStreams<R, S> {
        JoinedStreams::new(self, other)
    }

    /// Brings the records of this stream, the left side, and of another one together, by key and window: name the keys next, then
    /// the window.
    #[must_use]
    pub fn co_group<S: Record>(self, other: DataStream<S>) -> JoinedStreams<R, S, Groups> {
        JoinedStreams::new(self, other)
    }

    /// Looks up the row of each record's key in a bounded table; records without one are dropped.
    ///
    /// ```
    /// use ringflow::prelude::*;
    ///
    /// let squares = LookupTable::of(|| (0..5u64).map(|number| (number, number * number)));
    /// let env = StreamExecutionEnvironment::create_local_environment();
    /// env.from_source(SequenceSource::new(10), WatermarkStrategy::no_watermarks(), "numbers")
    ///     .lookup_join(squares, |number| number.value(), |_, square, out: &mut Collector<'_, Number>| {
    ///         out.collect(Number::new(*square));
    ///     })
    ///     .discard();
    /// # assert_eq!(env.execute("squares of numbers below 5")?.records_out, 5);
    /// # Ok::<(), ringflow::Error>(())
    /// ```
    #[must_use]
    pub fn lookup_join<K, V, O: Record>(
        self,
        table: LookupTable<K, V>,
        key: impl for<'a> Fn(Row<'a, R>) -> K + Clone + Send + Sync + 'static,
        function: impl for<'a> Fn(Row<'a, R>, &V, &mut Collector<'_, O>) + Clone + Send + Sync + 'static,
    ) -> DataStream<O>
    where
        K: Eq + Hash + Send + 'static,
        V: Send + 'static,
    {
        self.left_lookup_join(
            table,
            key,
            move |row, value: Option<&V>, out: &mut Collector<'_, O>| {
                if let Some(value) = value {
                    function(row, value, out);
                }
            },
        )
    }

    /// As [`DataStream::lookup_join`], and `function` gets records without a row too.
    #[must_use]
    pub fn left_lookup_join<K, V, O: Record>(
        self,
        table: LookupTable<K, V>,
        key: impl for<'a> Fn(Row<'a, R>) -> K + Clone + Send + Sync + 'static,
        function: impl for<'a> Fn(Row<'a, R>, Option<&V>, &mut Collector<'_, O>)
        + Clone
        + Send
        + Sync
        + 'static,
    ) -> DataStream<O>
    where
        K: Eq + Hash + Send + 'static,
        V: Send + 'static,
    {
        let make = move |_: &PrepareContext| {
            let (key, function) = (key.clone(), function.clone());
            let operator = LookupJoin::<R, K, V, O, _, _>::new(table.load()?, key, function);
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        self.add("Lookup Join", OperatorKind::OneInput, factory(make))
    }

    /// What the last operator sends to the side output `tag`.
    #[must_use]
    pub fn get_side_output<T: Record>(&self, tag: &OutputTag<T>) -> DataStream<T> {
        let mut side = DataStream::from_node(self.env.clone(), 0);
        side.origins.clone_from(&self.origins);
        for origin in &mut side.origins {
            if origin.side_output.is_some() {
                self.env.refuse(format!(
                    "`{tag}` is asked of a side output: ask the operator's main output"
                ));
            }
            origin.side_output = Some(tag.id());
            origin.partitioner = Partitioner::Forward;
            origin.routing = EdgeRouting::Plain;
        }
        side
    }

    /// Gives records the event times, and the stream the watermarks, of `strategy`, in place of those from before; the end of event
    /// time still comes from upstream. A strategy of the source itself is better where it can be had: it knows splits, and its
    /// watermarks wait for the slowest of them.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ringflow::prelude::*;
    ///
    /// let env = StreamExecutionEnvironment::create_local_environment();
    /// let numbers = env.from_source(SequenceSource::new(1000), WatermarkStrategy::no_watermarks(), "numbers");
    /// let seconds = WatermarkStrategy::<Number>::monotonous_timestamps().timestamp(|number| 1000 * number.value() as i64);
    /// numbers
    ///     .filter(|number| number.value() % 2 == 0)
    ///     .assign_timestamps_and_watermarks(seconds)
    ///     .key_by(|_| 0)
    ///     .window(TumblingEventTimeWindows::of(Duration::from_secs(100)))
    ///     .aggregate(Count)
    ///     .discard();
    /// # assert_eq!(env.execute("seconds")?.records_out, 10);
    /// # Ok::<(), ringflow::Error>(())
    /// ```
    ///
    /// Source: Flink `DataStream.assignTimestampsAndWatermarks`.
    #[must_use]
    pub fn assign_timestamps_and_watermarks(self, strategy: WatermarkStrategy<R>) -> Self {
        let WatermarkStrategy {
            policy, assigner, ..
        } = strategy;
        if policy.alignment.is_some() {
            self.env.refuse(
                "`assign_timestamps_and_watermarks` cannot align watermarks, because only sources can wait: give the \
                 alignment to `from_source`"
                    .to_owned(),
            );
        }
        self.add(
            "Timestamps/Watermarks",
            OperatorKind::OneInput,
            factory(move |_| {
                let (policy, assigner) = (policy.clone(), assigner.clone());
                Ok(Box::new(TimestampsAndWatermarks::new(policy, assigner)))
            }),
        )
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

    /// Calls `function` with each record; it makes any number of records, also for side outputs. Each subtask has a clone of it.
    #[must_use]
    pub fn process<O: Record, P>(self, function: P) -> DataStream<O>
    where
        P: ProcessFunction<R, O> + Clone + Sync,
    {
        let make = move |_: &PrepareContext| {
            let operator = Process::<R, O, P>::new(function.clone());
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        self.add("Process", OperatorKind::OneInput, factory(make))
    }

    /// Sends records of the same key to the same subtask of the next operator.
    #[must_use]
    pub fn key_by<K: Key, KF>(self, key: KF) -> KeyedStream<R, K, KF>
    where
        KF: for<'a> Fn(Row<'a, R>) -> K + Clone + Send + Sync + 'static,
    {
        let select = key.clone();
        let hash: KeyHash = Arc::new(move |bytes: &[u8]| {
            let record = RecordRef {
                bytes,
                timestamp: EventTime::NONE,
                key_hash: 0,
                kind: RowKind::Insert,
                origin_ns: 0,
            };
            // SAFETY: this stream's records are `R`.
            spread(select(unsafe { Row::<R>::read(&record) }).hash_code())
        });
        KeyedStream::new(
            self.partitioned(Partitioner::Hash, &EdgeRouting::Key(hash)),
            key,
        )
    }

    /// Groups all records by windows, without keys: in one subtask. Results have the key `()`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ringflow::prelude::*;
    ///
    /// # fn main() -> ringflow::Result<()> {
    /// let mut env = StreamExecutionEnvironment::create_local_environment();
    /// env.set_parallelism(2);
    /// env.from_source(SequenceSource::new(1_000), WatermarkStrategy::monotonous_timestamps(), "numbers")
    ///     .window_all(TumblingEventTimeWindows::of(Duration::from_millis(100)))
    ///     .aggregate(Count)
    ///     .discard();
    /// # assert_eq!(env.execute("counts of all")?.records_out, 10);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn window_all(
        self,
        windows: impl WindowAssigner<R>,
    ) -> WindowedStream<R, (), impl for<'a> Fn(Row<'a, R>) + Clone + Send + Sync + 'static> {
        WindowedStream::new(self.global(), |_: Row<'_, R>| (), windows).whole()
    }

    /// Sends each record to the subtask of the next operator that `select` names: it gets the record and the number of
    /// subtasks, and returns less than that.
    #[must_use]
    pub fn partition_custom(
        self,
        select: impl for<'a> Fn(Row<'a, R>, usize) -> usize + Send + Sync + 'static,
    ) -> Self {
        let select: SelectChannel = Arc::new(move |record: &RecordRef<'_>, channels| {
            // SAFETY: this stream's records are `R`.
            select(unsafe { Row::<R>::read(record) }, channels)
        });
        self.partitioned(Partitioner::Custom, &EdgeRouting::Custom(select))
    }

    /// Spreads records evenly over the subtasks of the next operator that are neighbours of their own: of p subtasks to n x p
    /// each feeds n, of n x p to p n feed each. Fewer channels than [`DataStream::rebalance`].
    #[must_use]
    pub fn rescale(self) -> Self {
        self.partitioned(Partitioner::Rescale, &EdgeRouting::Plain)
    }

    /// Sends records to the subtask of the same index of the next operator, which must have the same parallelism.
    #[must_use]
    pub fn forward(self) -> Self {
        self.partitioned(Partitioner::Forward, &EdgeRouting::Plain)
    }

    /// Spreads records evenly over the next operator's subtasks.
    #[must_use]
    pub fn rebalance(self) -> Self {
        self.partitioned(Partitioner::Rebalance, &EdgeRouting::Plain)
    }

    /// Spreads records over the next operator's subtasks at random.
    #[must_use]
    pub fn shuffle(self) -> Self {
        self.partitioned(Partitioner::Shuffle, &EdgeRouting::Plain)
    }

    /// Sends each record to every subtask of the next operator.
    #[must_use]
    pub fn broadcast(self) -> Self {
        self.partitioned(Partitioner::Broadcast, &EdgeRouting::Plain)
    }

    /// Sends all records to the first subtask of the next operator.
    #[must_use]
    pub fn global(self) -> Self {
        self.partitioned(Partitioner::Global, &EdgeRouting::Plain)
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
        let (name, committer) = (sink.name(), sink.committer());
        let factory = sink.factory();
        let Some(Committer {
            factory: commit,
            side_output,
        }) = committer
        else {
            return self.add(&name, OperatorKind::Sink, factory);
        };
        let writers: Self = self.add(&format!("{name}: Writer"), OperatorKind::OneInput, factory);
        let mut committables = writers.clone().global();
        for origin in &mut committables.origins {
            origin.side_output = Some(side_output);
        }
        let name = format!("{name}: Committer");
        let committed: Self = committables.add(&name, OperatorKind::Sink, commit);
        drop(committed.set_parallelism(1));
        writers
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
