//! The operator around a function on a stream without a key.
//!
//! Owns: [`Process`].
//! Invariant: the function is called on the core that opened it, for one record at a time.
//! Left out: state by key and timers, which need a key ([`super::KeyedProcess`]).

use std::marker::PhantomData;

use super::context::{ProcessContext, RuntimeContext};
use super::function::ProcessFunction;
use crate::error::Result;
use crate::operator::chain::Output;
use crate::operator::stateless::{Collector, Scratch};
use crate::operator::{Operator, Progress};
use crate::record::{EventTime, Record, RecordRef, Row};
use crate::runtime::clock::Clock;
use crate::runtime::context::OpenContext;
use crate::state::operator_state::OperatorStateStore;

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
