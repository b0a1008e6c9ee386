//! The body of [`KeyedProcess`] around a function on two keyed streams, which share state and timers.
//!
//! Owns: the function and the key selectors of both inputs.
//! Invariant: input 0 is read as the first record type only, input 1 as the second; both selectors give one key type.
//! Left out: any order between the inputs: records come as they arrive.

use std::marker::PhantomData;

use super::context::{KeyedContext, RuntimeContext};
use super::function::KeyedCoProcessFunction;
use super::keyed::{Body, Emit, KeyedProcess, Types, not_open};
use crate::error::Result;
use crate::record::{Record, RecordRef, Row};
use crate::state::operator_state::{BroadcastAccess, OperatorStateStore};

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
