//! The body of [`KeyedProcess`] around a function on one keyed stream.
//!
//! Owns: the function and its key selector.
//! Invariant: each record has a key: the function is never called without a context.
//! Left out: a second input.

use std::marker::PhantomData;

use super::context::{KeyedContext, RuntimeContext};
use super::function::KeyedProcessFunction;
use super::keyed::{Body, Emit, KeyedProcess, Types, not_open};
use crate::error::Result;
use crate::record::{Record, RecordRef, Row};
use crate::state::operator_state::{BroadcastAccess, OperatorStateStore};

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
