//! The process functions: traits that users implement.
//!
//! Owns: what is called when. `open` comes first and once; records and timers follow, one at a time.
//! Invariant: an error of any of them fails the subtask.
//! Left out: the operators that call them, and a call at the end (Flink's `close`): a function ends when it is dropped.

use super::context::{KeyedContext, ProcessContext, RuntimeContext};
use crate::error::Result;
use crate::operator::stateless::Collector;
use crate::record::{Record, Row};
use crate::state::operator_state::{BroadcastAccess, BroadcastView};

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
