//! The operator around a function on keyed streams, whatever its inputs are.
//!
//! Owns: [`KeyedProcess`]: the keyed and the operator state, the timers that fire, and the time; and what it asks of
//! its body, which knows the function and how many inputs of which types there are ([`super::OneInput`],
//! [`super::TwoInputs`], [`super::WithBroadcast`]).
//! Invariant: state and timers are those of the key that the body read from the record, or that the timer was set for.
//! Left out: how keys are kept and timers paced ([`crate::operator::keyed`]).

use std::marker::PhantomData;

use super::context::{KeyedContext, RuntimeContext};
use crate::error::{Error, Result};
use crate::operator::chain::Output;
use crate::operator::co::without_input;
use crate::operator::keyed::{Firing, Keyed};
use crate::operator::stateless::{Collector, Scratch};
use crate::operator::{Operator, Progress};
use crate::record::{EventTime, Record, RecordRef};
use crate::runtime::context::OpenContext;
use crate::state::operator_state::{BroadcastAccess, OperatorStateStore};
use crate::state::timers::{DueTimer, TimeDomain};
use crate::state::value::{PlainValue, decode_whole};

/// What the keyed functions have in common: opening, records by input, timers.
pub(super) trait Body<K>: Send {
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
pub(super) struct Emit<'a> {
    output: &'a mut Output,
    scratch: &'a mut Scratch,
    record: RecordRef<'a>,
}

impl Emit<'_> {
    pub(super) fn run<O: Record>(
        self,
        call: impl FnOnce(&mut Collector<'_, O>) -> Result<()>,
    ) -> Result<()> {
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
    pub(super) fn around(body: B, inputs: u8, operator_state: OperatorStateStore) -> Self {
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

#[allow(private_bounds, reason = "bodies are made in this folder alone")]
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
pub(super) fn not_open() -> Error {
    Error::operator("a record came before `open`")
}

#[allow(private_bounds, reason = "bodies are made in this folder alone")]
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

pub(super) type Types<K, A, B, O> = PhantomData<fn(K, A, B) -> O>;
