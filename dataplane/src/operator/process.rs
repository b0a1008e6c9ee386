//! Process functions: user code with state, timers and side outputs.
//!
//! Owns: the traits that users implement ([`ProcessFunction`], [`KeyedProcessFunction`], [`KeyedCoProcessFunction`],
//! [`KeyedBroadcastProcessFunction`]), the contexts they are given, and the operators that call them, each with its
//! operator state.
//! Invariant: a function is called by one core only, for one record or timer at a time, and sees state of that record's or
//! timer's key. Event-time timers fire in order, before the watermark that made them due goes on.
//! Left out: processing-time timers that are open when the input ends: they do not fire, as in Flink.

use std::marker::PhantomData;

use crate::error::{Error, Result};
use crate::operator::chain::Output;
use crate::operator::co::without_input;
use crate::operator::keyed::{Firing, Keyed, processing_time};
use crate::operator::stateless::{Collector, Scratch};
use crate::operator::{Operator, Progress};
use crate::record::{EventTime, Record, RecordRef, Row};
use crate::runtime::clock::Clock;
use crate::runtime::context::OpenContext;
use crate::state::backend::{At, KeyedStateBackend};
use crate::state::handles::{
    AggregatingState, AggregatingStateDescriptor, KeyedAccess, ListState, ListStateDescriptor,
    MapState, MapStateDescriptor, ReducingState, ReducingStateDescriptor, StateAggregate,
    ValueState, ValueStateDescriptor,
};
use crate::state::operator_state::{OperatorLists, OperatorStateStore};
use crate::state::timers::{DueTimer, TimeDomain, TimerService};
use crate::state::value::{PlainValue, StateValue, decode_whole};

pub use crate::state::operator_state::{BroadcastAccess, BroadcastState, BroadcastView};

/// What a function learns and registers when it opens.
#[derive(Debug)]
pub struct RuntimeContext<'a> {
    /// Of functions on keyed streams.
    backend: Option<&'a mut KeyedStateBackend>,
    operator_state: &'a mut OperatorStateStore,
    open: &'a OpenContext,
}

impl RuntimeContext<'_> {
    /// Index of the subtask, from 0.
    #[must_use]
    pub fn subtask_index(&self) -> u32 {
        self.open.subtask_index
    }

    /// Number of subtasks.
    #[must_use]
    pub fn parallelism(&self) -> u32 {
        self.open.parallelism
    }

    /// State that belongs to no key: lists that a restore deals out again, and broadcast state.
    pub fn operator_state(&mut self) -> &mut OperatorStateStore {
        self.operator_state
    }

    fn keyed(&mut self) -> Result<&mut KeyedStateBackend> {
        self.backend.as_deref_mut().ok_or_else(|| {
            Error::operator(
                "state by key belongs to functions on a keyed stream: `stream.key_by(..).process(..)`; without a key there is \
                 `operator_state()`",
            )
        })
    }

    /// One value per key.
    ///
    /// # Errors
    /// The name is taken by state of another kind or type; or the function is not on a keyed stream.
    pub fn get_state<T: StateValue>(
        &mut self,
        descriptor: &ValueStateDescriptor<T>,
    ) -> Result<ValueState<T>> {
        descriptor.register(self.keyed()?)
    }

    /// A list per key.
    ///
    /// # Errors
    /// As [`RuntimeContext::get_state`].
    pub fn get_list_state<T: StateValue>(
        &mut self,
        descriptor: &ListStateDescriptor<T>,
    ) -> Result<ListState<T>> {
        descriptor.register(self.keyed()?)
    }

    /// A map per key.
    ///
    /// # Errors
    /// As [`RuntimeContext::get_state`].
    pub fn get_map_state<K: PlainValue, V: StateValue>(
        &mut self,
        descriptor: &MapStateDescriptor<K, V>,
    ) -> Result<MapState<K, V>> {
        descriptor.register(self.keyed()?)
    }

    /// One value per key, which new ones are reduced into.
    ///
    /// # Errors
    /// As [`RuntimeContext::get_state`].
    pub fn get_reducing_state<T: PlainValue>(
        &mut self,
        descriptor: &ReducingStateDescriptor<T>,
    ) -> Result<ReducingState<T>> {
        descriptor.register(self.keyed()?)
    }

    /// One accumulator per key.
    ///
    /// # Errors
    /// As [`RuntimeContext::get_state`].
    pub fn get_aggregating_state<A: StateAggregate>(
        &mut self,
        descriptor: &AggregatingStateDescriptor<A>,
    ) -> Result<AggregatingState<A::In, A::Out>> {
        descriptor.register(self.keyed()?)
    }

    /// State that broadcast records write and all records read: a copy in each subtask.
    ///
    /// # Errors
    /// As [`RuntimeContext::get_state`]; or the function has no broadcast input.
    pub fn get_broadcast_state<K: PlainValue, V: StateValue>(
        &mut self,
        descriptor: &MapStateDescriptor<K, V>,
    ) -> Result<BroadcastState<K, V>> {
        self.operator_state.get_broadcast_state(descriptor)
    }
}

/// The clock and the timers, as far as a function may use them.
#[derive(Debug)]
pub struct Timers<'a> {
    timers: &'a mut TimerService,
    at: At<'a>,
    watermark: Option<EventTime>,
    clock: Clock,
}

impl Timers<'_> {
    /// Calls `on_timer` for the key at hand once the watermark reaches `timestamp` (milliseconds since the epoch). Registered
    /// twice it fires once.
    ///
    /// # Errors
    /// The key group's memory is full.
    pub fn register_event_time_timer(&mut self, timestamp: i64) -> Result<()> {
        self.timers.register_event_time_timer(self.at, timestamp)
    }

    /// Calls `on_timer` for the key at hand once the wall clock reaches `timestamp` (milliseconds since the epoch).
    ///
    /// # Errors
    /// As [`Timers::register_event_time_timer`].
    pub fn register_processing_time_timer(&mut self, timestamp: i64) -> Result<()> {
        self.timers
            .register_processing_time_timer(self.at, timestamp)
    }

    /// Takes a timer of the key at hand back, if there is one.
    ///
    /// # Errors
    /// The key is of another subtask.
    pub fn delete_event_time_timer(&mut self, timestamp: i64) -> Result<()> {
        self.timers.delete_event_time_timer(self.at, timestamp)
    }

    /// Takes a timer of the key at hand back, if there is one.
    ///
    /// # Errors
    /// The key is of another subtask.
    pub fn delete_processing_time_timer(&mut self, timestamp: i64) -> Result<()> {
        self.timers.delete_processing_time_timer(self.at, timestamp)
    }

    /// How far event time has come; `None` before the first watermark.
    #[must_use]
    pub fn current_watermark(&self) -> Option<EventTime> {
        self.watermark
    }

    /// The wall clock, in milliseconds since the epoch.
    #[must_use]
    pub fn current_processing_time(&self) -> i64 {
        processing_time(&self.clock)
    }
}

/// What a keyed function is given with each record or timer.
#[derive(Debug)]
pub struct KeyedContext<'a, K> {
    access: KeyedAccess<'a>,
    lists: &'a mut OperatorLists,
    timers: &'a mut TimerService,
    key: &'a K,
    timestamp: EventTime,
    domain: Option<TimeDomain>,
    watermark: Option<EventTime>,
    clock: Clock,
}

impl<'a, K> KeyedContext<'a, K> {
    /// The key of the record or timer.
    #[must_use]
    pub fn current_key(&self) -> &K {
        self.key
    }

    /// Event time of the record; of a timer, the time it was for.
    #[must_use]
    pub fn timestamp(&self) -> EventTime {
        self.timestamp
    }

    /// Which time a timer was in; `None` with a record.
    #[must_use]
    pub fn time_domain(&self) -> Option<TimeDomain> {
        self.domain
    }

    /// The state of the key: what handles ask for.
    pub fn state(&mut self) -> &mut KeyedAccess<'a> {
        &mut self.access
    }

    /// The list state of the operator, whatever the key is: what its handles ask for.
    pub fn operator_state(&mut self) -> &mut OperatorLists {
        self.lists
    }

    /// The timers of the key.
    pub fn timer_service(&mut self) -> Timers<'_> {
        Timers {
            timers: self.timers,
            at: self.access.at(),
            watermark: self.watermark,
            clock: self.clock,
        }
    }
}

/// A function on a keyed stream: any number of records for each record and timer, with state and timers by key.
///
/// Each subtask has a clone of its own. Source: Flink `KeyedProcessFunction`.
pub trait KeyedProcessFunction<K, R: Record, O: Record>: Send + 'static {
    /// First call: registers state.
    ///
    /// # Errors
    /// The function cannot start: the subtask fails.
    fn open(&mut self, context: &mut RuntimeContext<'_>) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// One record.
    ///
    /// # Errors
    /// State cannot be read, or the function failed: the subtask fails.
    fn process_element(
        &mut self,
        row: Row<'_, R>,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> Result<()>;

    /// A timer is due. What is emitted has its time.
    ///
    /// # Errors
    /// As [`KeyedProcessFunction::process_element`].
    fn on_timer(
        &mut self,
        timestamp: i64,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> Result<()> {
        let _ = (timestamp, context, out);
        Ok(())
    }
}

/// A function on two keyed streams of one key type, which share state and timers.
///
/// Source: Flink `KeyedCoProcessFunction`.
pub trait KeyedCoProcessFunction<K, A: Record, B: Record, O: Record>: Send + 'static {
    /// First call: registers state.
    ///
    /// # Errors
    /// The function cannot start: the subtask fails.
    fn open(&mut self, context: &mut RuntimeContext<'_>) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// One record of the first stream.
    ///
    /// # Errors
    /// State cannot be read, or the function failed: the subtask fails.
    fn process_element1(
        &mut self,
        row: Row<'_, A>,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> Result<()>;

    /// One record of the second stream.
    ///
    /// # Errors
    /// As [`KeyedCoProcessFunction::process_element1`].
    fn process_element2(
        &mut self,
        row: Row<'_, B>,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> Result<()>;

    /// A timer is due. What is emitted has its time.
    ///
    /// # Errors
    /// As [`KeyedCoProcessFunction::process_element1`].
    fn on_timer(
        &mut self,
        timestamp: i64,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> Result<()> {
        let _ = (timestamp, context, out);
        Ok(())
    }
}

/// A function on a keyed stream and a broadcast one: the pattern of rules that reach every subtask.
///
/// Source: Flink `KeyedBroadcastProcessFunction`.
pub trait KeyedBroadcastProcessFunction<K, R: Record, B: Record, O: Record>:
    Send + 'static
{
    /// First call: registers state.
    ///
    /// # Errors
    /// The function cannot start: the subtask fails.
    fn open(&mut self, context: &mut RuntimeContext<'_>) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// One record of the keyed stream; it reads the broadcast state.
    ///
    /// # Errors
    /// State cannot be read, or the function failed: the subtask fails.
    fn process_element(
        &mut self,
        row: Row<'_, R>,
        broadcast: &mut BroadcastView<'_>,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> Result<()>;

    /// One record of the broadcast stream: every subtask gets it, and writes the broadcast state.
    ///
    /// # Errors
    /// As [`KeyedBroadcastProcessFunction::process_element`].
    fn process_broadcast_element(
        &mut self,
        row: Row<'_, B>,
        broadcast: &mut BroadcastAccess<'_>,
        out: &mut Collector<'_, O>,
    ) -> Result<()>;

    /// A timer is due. What is emitted has its time.
    ///
    /// # Errors
    /// As [`KeyedBroadcastProcessFunction::process_element`].
    fn on_timer(
        &mut self,
        timestamp: i64,
        broadcast: &mut BroadcastView<'_>,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> Result<()> {
        let _ = (timestamp, broadcast, context, out);
        Ok(())
    }
}

/// What a function without a key is given with each record.
#[derive(Debug)]
pub struct ProcessContext<'a> {
    lists: &'a mut OperatorLists,
    timestamp: EventTime,
    watermark: Option<EventTime>,
    clock: Clock,
}

impl ProcessContext<'_> {
    /// The list state of the operator: what its handles ask for.
    pub fn operator_state(&mut self) -> &mut OperatorLists {
        self.lists
    }

    /// Event time of the record.
    #[must_use]
    pub fn timestamp(&self) -> EventTime {
        self.timestamp
    }

    /// How far event time has come; `None` before the first watermark.
    #[must_use]
    pub fn current_watermark(&self) -> Option<EventTime> {
        self.watermark
    }

    /// The wall clock, in milliseconds since the epoch.
    #[must_use]
    pub fn current_processing_time(&self) -> i64 {
        processing_time(&self.clock)
    }
}

/// A function on any stream: any number of records for each, also into side outputs.
///
/// Source: Flink `ProcessFunction`.
pub trait ProcessFunction<R: Record, O: Record>: Send + 'static {
    /// First call: registers operator state.
    ///
    /// # Errors
    /// The function cannot start: the subtask fails.
    fn open(&mut self, context: &mut RuntimeContext<'_>) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// One record.
    ///
    /// # Errors
    /// The function failed: the subtask fails.
    fn process_element(
        &mut self,
        row: Row<'_, R>,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, O>,
    ) -> Result<()>;
}

/// Calls a [`ProcessFunction`].
#[allow(
    missing_debug_implementations,
    reason = "holds a function of the user's"
)]
pub struct Process<R, O, P> {
    function: P,
    operator_state: OperatorStateStore,
    scratch: Scratch,
    watermark: Option<EventTime>,
    clock: Clock,
    records: PhantomData<fn(R) -> O>,
}

impl<R, O, P> Process<R, O, P> {
    /// An operator around `function`.
    #[must_use]
    pub fn new(function: P) -> Self {
        Self {
            function,
            operator_state: OperatorStateStore::new(),
            scratch: Scratch::default(),
            watermark: None,
            clock: Clock::system(),
            records: PhantomData,
        }
    }
}

impl<R: Record, O: Record, P: ProcessFunction<R, O>> Operator for Process<R, O, P> {
    fn open(&mut self, context: &OpenContext) -> Result<()> {
        self.clock = *context.clock;
        self.function.open(&mut RuntimeContext {
            backend: None,
            operator_state: &mut self.operator_state,
            open: context,
        })
    }

    fn on_record(&mut self, record: &RecordRef<'_>, output: &mut Output) -> Result<()> {
        let mut context = ProcessContext {
            lists: self.operator_state.lists(),
            timestamp: record.timestamp,
            watermark: self.watermark,
            clock: self.clock,
        };
        let mut collector = Collector::of(output, &mut self.scratch, record);
        // SAFETY: the edge carries `R` (checked when the graph was built), and records on edges are verified.
        let row = unsafe { Row::<R>::read(record) };
        self.function
            .process_element(row, &mut context, &mut collector)?;
        collector.finish()
    }

    fn on_watermark(
        &mut self,
        watermark: EventTime,
        _origin_ns: u64,
        _output: &mut Output,
    ) -> Result<Progress> {
        self.watermark = self.watermark.max(Some(watermark));
        Ok(Progress::Done)
    }

    fn operator_state(&mut self) -> Option<&mut OperatorStateStore> {
        Some(&mut self.operator_state)
    }

    fn state_bytes(&self) -> usize {
        self.operator_state.bytes()
    }
}

/// What the keyed functions have in common: opening, records by input, timers.
trait Body<K>: Send {
    fn open(&mut self, context: &mut RuntimeContext<'_>) -> Result<()>;

    /// Reads the key of a record of `input`.
    fn key(&self, input: u8, record: &RecordRef<'_>) -> Option<K>;

    /// `broadcast` is there where the operator has a broadcast input.
    fn on_record(
        &mut self,
        input: u8,
        record: &RecordRef<'_>,
        context: Option<&mut KeyedContext<'_, K>>,
        broadcast: Option<BroadcastAccess<'_>>,
        emit: Emit<'_>,
    ) -> Result<()>;

    fn on_timer(
        &mut self,
        timestamp: i64,
        context: &mut KeyedContext<'_, K>,
        broadcast: Option<BroadcastAccess<'_>>,
        emit: Emit<'_>,
    ) -> Result<()>;
}

/// Where a function's records go, and the time and origin they take.
struct Emit<'a> {
    output: &'a mut Output,
    scratch: &'a mut Scratch,
    record: RecordRef<'a>,
}

impl Emit<'_> {
    fn run<O: Record>(self, call: impl FnOnce(&mut Collector<'_, O>) -> Result<()>) -> Result<()> {
        let mut collector = Collector::of(self.output, self.scratch, &self.record);
        call(&mut collector)?;
        collector.finish()
    }
}

/// Calls a keyed process function, with its state and timers.
#[allow(
    missing_debug_implementations,
    reason = "holds a function of the user's"
)]
pub struct KeyedProcess<K, B> {
    body: B,
    /// Empty until `open`.
    keyed: Option<Keyed>,
    operator_state: OperatorStateStore,
    firing: Firing,
    scratch: Scratch,
    watermark: Option<EventTime>,
    inputs: u8,
    key: PhantomData<fn() -> K>,
}

impl<K, B> KeyedProcess<K, B> {
    fn around(body: B, inputs: u8, operator_state: OperatorStateStore) -> Self {
        Self {
            body,
            keyed: None,
            operator_state,
            firing: Firing::default(),
            scratch: Scratch::default(),
            watermark: None,
            inputs,
            key: PhantomData,
        }
    }
}

#[allow(private_bounds, reason = "bodies are made in this file alone")]
impl<K: PlainValue, B: Body<K>> KeyedProcess<K, B> {
    fn record(&mut self, input: u8, record: &RecordRef<'_>, output: &mut Output) -> Result<()> {
        let keyed = self.keyed.as_mut().ok_or_else(not_open)?;
        let emit = Emit {
            output,
            scratch: &mut self.scratch,
            record: *record,
        };
        let (lists, broadcast) = self.operator_state.parts();
        let Some(key) = self.body.key(input, record) else {
            return self.body.on_record(input, record, None, broadcast, emit);
        };
        let clock = keyed.clock();
        let (access, timers) = keyed.of(record.key_hash, &key);
        let mut context = KeyedContext {
            access,
            lists,
            timers,
            key: &key,
            timestamp: record.timestamp,
            domain: None,
            watermark: self.watermark,
            clock,
        };
        self.body
            .on_record(input, record, Some(&mut context), broadcast, emit)
    }

    fn fire(&mut self, output: &mut Output) -> Result<Progress> {
        let keyed = self.keyed.as_mut().ok_or_else(not_open)?;
        let Self {
            body,
            operator_state,
            firing,
            scratch,
            watermark,
            ..
        } = self;
        let fire = |keyed: &mut Keyed,
                    due: &DueTimer,
                    domain: TimeDomain,
                    origin_ns: u64,
                    output: &mut Output| {
            let key = decode_whole::<K>(&due.key)?;
            let clock = keyed.clock();
            let (access, timers) = keyed.of_timer(due);
            let (lists, broadcast) = operator_state.parts();
            let mut context = KeyedContext {
                access,
                lists,
                timers,
                key: &key,
                timestamp: EventTime(due.timestamp),
                domain: Some(domain),
                watermark: *watermark,
                clock,
            };
            let emit = Emit {
                output,
                scratch,
                record: RecordRef {
                    bytes: &[],
                    // A timer in processing time says nothing of event time.
                    timestamp: match domain {
                        TimeDomain::EventTime => EventTime(due.timestamp),
                        TimeDomain::ProcessingTime => EventTime::NONE,
                    },
                    key_hash: 0,
                    kind: crate::record::RowKind::Insert,
                    origin_ns,
                },
            };
            body.on_timer(due.timestamp, &mut context, broadcast, emit)
        };
        firing.go_on(keyed, output, fire)
    }
}

#[cold]
fn not_open() -> Error {
    Error::operator("a record came before `open`")
}

#[allow(private_bounds, reason = "bodies are made in this file alone")]
impl<K: PlainValue, B: Body<K>> Operator for KeyedProcess<K, B> {
    fn open(&mut self, context: &OpenContext) -> Result<()> {
        let mut keyed = Keyed::open(context)?;
        self.body.open(&mut RuntimeContext {
            backend: Some(&mut keyed.backend),
            operator_state: &mut self.operator_state,
            open: context,
        })?;
        keyed.registered();
        self.keyed = Some(keyed);
        Ok(())
    }

    fn wants_keys(&self) -> bool {
        true
    }

    fn on_keys_ahead(&mut self, key_hashes: &[u32]) {
        if let Some(keyed) = &mut self.keyed {
            keyed.on_keys_ahead(key_hashes);
        }
    }

    fn on_record(&mut self, record: &RecordRef<'_>, output: &mut Output) -> Result<()> {
        if self.inputs > 1 {
            return Err(without_input());
        }
        self.record(0, record, output)
    }

    #[inline]
    fn on_record_of(
        &mut self,
        input: u8,
        record: &RecordRef<'_>,
        output: &mut Output,
    ) -> Result<()> {
        self.record(input, record, output)
    }

    fn on_watermark(
        &mut self,
        watermark: EventTime,
        origin_ns: u64,
        output: &mut Output,
    ) -> Result<Progress> {
        self.watermark = self.watermark.max(Some(watermark));
        self.firing
            .begin(TimeDomain::EventTime, watermark.0, origin_ns);
        self.fire(output)
    }

    fn uses_processing_time(&self) -> bool {
        true
    }

    fn next_processing_time(&mut self) -> Option<i64> {
        self.keyed
            .as_mut()
            .and_then(|keyed| keyed.timers.next_processing_time())
    }

    fn on_processing_time(&mut self, now_ms: i64, output: &mut Output) -> Result<Progress> {
        self.firing.begin(TimeDomain::ProcessingTime, now_ms, 0);
        self.fire(output)
    }

    fn resume(&mut self, output: &mut Output) -> Result<Progress> {
        self.fire(output)
    }

    fn state_bytes(&self) -> usize {
        self.keyed.as_ref().map_or(0, Keyed::bytes) + self.operator_state.bytes()
    }

    fn operator_state(&mut self) -> Option<&mut OperatorStateStore> {
        Some(&mut self.operator_state)
    }
}

type Types<K, A, B, O> = PhantomData<fn(K, A, B) -> O>;

/// A [`KeyedProcessFunction`] and its key selector.
#[allow(
    missing_debug_implementations,
    reason = "holds a function of the user's"
)]
pub struct OneInput<K, R, O, KF, P> {
    key: KF,
    function: P,
    types: Types<K, R, (), O>,
}

impl<K, R, O, KF, P> KeyedProcess<K, OneInput<K, R, O, KF, P>> {
    /// `function` on records that go by `key`.
    #[must_use]
    pub fn one_input(key: KF, function: P) -> Self {
        let body = OneInput {
            key,
            function,
            types: PhantomData,
        };
        Self::around(body, 1, OperatorStateStore::new())
    }
}

impl<K, R, O, KF, P> Body<K> for OneInput<K, R, O, KF, P>
where
    R: Record,
    O: Record,
    KF: for<'a> Fn(Row<'a, R>) -> K + Send,
    P: KeyedProcessFunction<K, R, O>,
{
    fn open(&mut self, context: &mut RuntimeContext<'_>) -> Result<()> {
        self.function.open(context)
    }

    fn key(&self, _input: u8, record: &RecordRef<'_>) -> Option<K> {
        // SAFETY: the edge carries `R` (checked when the graph was built), and records on edges are verified.
        Some((self.key)(unsafe { Row::<R>::read(record) }))
    }

    fn on_record(
        &mut self,
        _input: u8,
        record: &RecordRef<'_>,
        context: Option<&mut KeyedContext<'_, K>>,
        _broadcast: Option<BroadcastAccess<'_>>,
        emit: Emit<'_>,
    ) -> Result<()> {
        let context = context.ok_or_else(not_open)?;
        // SAFETY: as above.
        let row = unsafe { Row::<R>::read(record) };
        emit.run(|out| self.function.process_element(row, context, out))
    }

    fn on_timer(
        &mut self,
        timestamp: i64,
        context: &mut KeyedContext<'_, K>,
        _broadcast: Option<BroadcastAccess<'_>>,
        emit: Emit<'_>,
    ) -> Result<()> {
        emit.run(|out| self.function.on_timer(timestamp, context, out))
    }
}

/// A [`KeyedCoProcessFunction`] and the key selectors of both inputs.
#[allow(
    missing_debug_implementations,
    reason = "holds a function of the user's"
)]
pub struct TwoInputs<K, A, B, O, KA, KB, P> {
    keys: (KA, KB),
    function: P,
    types: Types<K, A, B, O>,
}

impl<K, A, B, O, KA, KB, P> KeyedProcess<K, TwoInputs<K, A, B, O, KA, KB, P>> {
    /// `function` on records of input 0, which go by `first`, and of input 1, by `second`.
    #[must_use]
    pub fn two_inputs(first: KA, second: KB, function: P) -> Self {
        let body = TwoInputs {
            keys: (first, second),
            function,
            types: PhantomData,
        };
        Self::around(body, 2, OperatorStateStore::new())
    }
}

impl<K, A, B, O, KA, KB, P> Body<K> for TwoInputs<K, A, B, O, KA, KB, P>
where
    A: Record,
    B: Record,
    O: Record,
    KA: for<'a> Fn(Row<'a, A>) -> K + Send,
    KB: for<'a> Fn(Row<'a, B>) -> K + Send,
    P: KeyedCoProcessFunction<K, A, B, O>,
{
    fn open(&mut self, context: &mut RuntimeContext<'_>) -> Result<()> {
        self.function.open(context)
    }

    fn key(&self, input: u8, record: &RecordRef<'_>) -> Option<K> {
        Some(if input == 0 {
            // SAFETY: edges to input 0 carry `A` (checked when the graph was built), and records on edges are verified.
            (self.keys.0)(unsafe { Row::<A>::read(record) })
        } else {
            // SAFETY: as above, and edges to input 1 carry `B`.
            (self.keys.1)(unsafe { Row::<B>::read(record) })
        })
    }

    fn on_record(
        &mut self,
        input: u8,
        record: &RecordRef<'_>,
        context: Option<&mut KeyedContext<'_, K>>,
        _broadcast: Option<BroadcastAccess<'_>>,
        emit: Emit<'_>,
    ) -> Result<()> {
        let (context, function) = (context.ok_or_else(not_open)?, &mut self.function);
        if input == 0 {
            // SAFETY: as above.
            let row = unsafe { Row::<A>::read(record) };
            emit.run(|out| function.process_element1(row, context, out))
        } else {
            // SAFETY: as above.
            let row = unsafe { Row::<B>::read(record) };
            emit.run(|out| function.process_element2(row, context, out))
        }
    }

    fn on_timer(
        &mut self,
        timestamp: i64,
        context: &mut KeyedContext<'_, K>,
        _broadcast: Option<BroadcastAccess<'_>>,
        emit: Emit<'_>,
    ) -> Result<()> {
        emit.run(|out| self.function.on_timer(timestamp, context, out))
    }
}

/// A [`KeyedBroadcastProcessFunction`] and its key selector.
#[allow(
    missing_debug_implementations,
    reason = "holds a function of the user's"
)]
pub struct WithBroadcast<K, R, B, O, KF, P> {
    key: KF,
    function: P,
    types: Types<K, R, B, O>,
}

impl<K, R, B, O, KF, P> KeyedProcess<K, WithBroadcast<K, R, B, O, KF, P>> {
    /// `function` on records of input 0, which go by `key`, and of input 1, which all subtasks get.
    #[must_use]
    pub fn with_broadcast(key: KF, function: P) -> Self {
        let body = WithBroadcast {
            key,
            function,
            types: PhantomData,
        };
        Self::around(body, 2, OperatorStateStore::with_broadcast())
    }
}

impl<K, R, B, O, KF, P> Body<K> for WithBroadcast<K, R, B, O, KF, P>
where
    R: Record,
    B: Record,
    O: Record,
    KF: for<'a> Fn(Row<'a, R>) -> K + Send,
    P: KeyedBroadcastProcessFunction<K, R, B, O>,
{
    fn open(&mut self, context: &mut RuntimeContext<'_>) -> Result<()> {
        self.function.open(context)
    }

    fn key(&self, input: u8, record: &RecordRef<'_>) -> Option<K> {
        // SAFETY: edges to input 0 carry `R` (checked when the graph was built), and records on edges are verified.
        (input == 0).then(|| (self.key)(unsafe { Row::<R>::read(record) }))
    }

    fn on_record(
        &mut self,
        _input: u8,
        record: &RecordRef<'_>,
        context: Option<&mut KeyedContext<'_, K>>,
        broadcast: Option<BroadcastAccess<'_>>,
        emit: Emit<'_>,
    ) -> Result<()> {
        let function = &mut self.function;
        let mut broadcast = broadcast.ok_or_else(not_open)?;
        match context {
            Some(context) => {
                // SAFETY: as above: only records of input 0 have a key.
                let row = unsafe { Row::<R>::read(record) };
                emit.run(|out| function.process_element(row, broadcast.view(), context, out))
            }
            None => {
                // SAFETY: as above, and edges to input 1 carry `B`.
                let row = unsafe { Row::<B>::read(record) };
                emit.run(|out| function.process_broadcast_element(row, &mut broadcast, out))
            }
        }
    }

    fn on_timer(
        &mut self,
        timestamp: i64,
        context: &mut KeyedContext<'_, K>,
        broadcast: Option<BroadcastAccess<'_>>,
        emit: Emit<'_>,
    ) -> Result<()> {
        let function = &mut self.function;
        let mut broadcast = broadcast.ok_or_else(not_open)?;
        emit.run(|out| function.on_timer(timestamp, broadcast.view(), context, out))
    }
}
