//! The body of [`KeyedProcess`] around a function on a keyed stream and a broadcast one.
//!
//! Owns: the function and the key selector of input 0.
//! Invariant: records of input 1 have no key, and they alone write the broadcast state; records of input 0 and timers
//! read it.
//! Left out: keeping the subtasks' copies equal: each gets the same broadcast records, and the function must do the same
//! with them.

use std::marker::PhantomData;

use super::context::{KeyedContext, RuntimeContext};
use super::function::KeyedBroadcastProcessFunction;
use super::keyed::{Body, Emit, KeyedProcess, Types, not_open};
use crate::error::Result;
use crate::record::{Record, RecordRef, Row};
use crate::state::operator_state::{BroadcastAccess, OperatorStateStore};

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
