//! What a process function is given: when it opens, and with each record or timer.
//!
//! Owns: [`RuntimeContext`], which registers state; [`KeyedContext`] with the [`Timers`] of a key, and
//! [`ProcessContext`] where there is no key.
//! Invariant: a context lives for one call. Its state and timers are those of the key at hand.
//! Left out: what a function emits into (`Collector`), and reading broadcast state: functions are given both beside the
//! context.

use crate::error::{Error, Result};
use crate::operator::keyed::processing_time;
use crate::record::EventTime;
use crate::runtime::clock::Clock;
use crate::runtime::context::OpenContext;
use crate::state::backend::{At, KeyedStateBackend};
use crate::state::handles::{
    AggregatingState, AggregatingStateDescriptor, KeyedAccess, ListState, ListStateDescriptor,
    MapState, MapStateDescriptor, ReducingState, ReducingStateDescriptor, StateAggregate,
    ValueState, ValueStateDescriptor,
};
use crate::state::operator_state::{BroadcastState, OperatorLists, OperatorStateStore};
use crate::state::timers::{TimeDomain, TimerService};
use crate::state::value::{PlainValue, StateValue};

/// What a function learns and registers when it opens.
#[derive(Debug)]
pub struct RuntimeContext<'a> {
    /// Of functions on keyed streams.
    pub(super) backend: Option<&'a mut KeyedStateBackend>,
    pub(super) operator_state: &'a mut OperatorStateStore,
    pub(super) open: &'a OpenContext,
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
    pub(super) access: KeyedAccess<'a>,
    pub(super) lists: &'a mut OperatorLists,
    pub(super) timers: &'a mut TimerService,
    pub(super) key: &'a K,
    pub(super) timestamp: EventTime,
    pub(super) domain: Option<TimeDomain>,
    pub(super) watermark: Option<EventTime>,
    pub(super) clock: Clock,
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

/// What a function without a key is given with each record.
#[derive(Debug)]
pub struct ProcessContext<'a> {
    pub(super) lists: &'a mut OperatorLists,
    pub(super) timestamp: EventTime,
    pub(super) watermark: Option<EventTime>,
    pub(super) clock: Clock,
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
