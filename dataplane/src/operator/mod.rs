//! What happens to a record: operators, called record by record inside their chain.
//!
//! Owns: [`Operator`], [`OperatorFactory`], [`Progress`]. Order of calls on the subtask's core:
//! `open`, then any of `on_record` / `on_watermark` / `on_processing_time` / `poll` / `release`, then `on_end_of_input` once,
//! then `close` once.
//! `close` alone follows a cancellation or a failure.
//! Invariant: an operator that returned [`Progress::Blocked`] or [`Progress::Yielded`] gets `resume` and nothing else (but `poll`
//! and `release`, if it wants them) until it says `Done`; so long work (firing many windows, flushing a producer) is cut into
//! pieces and never blocks the core.
//! Left out: threads, queues and the network: an operator sees its chain only.

use crate::batch::Run;
use crate::element::{Control, StopMode};
use crate::error::Result;
use crate::metrics::Accumulator;
use crate::operator::chain::Output;
use crate::record::{EventTime, RecordRef};
use crate::runtime::context::{OpenContext, PrepareContext};
use crate::state::operator_state::OperatorStateStore;

pub mod async_wait;
pub mod chain;
pub mod changelog;
pub mod co;
pub mod co_group;
pub mod deduplicate;
pub mod group_aggregate;
pub mod interval_join;
pub mod join;
pub mod keyed;
pub mod lookup_join;
pub mod process;
pub mod reduce;
pub mod side_output;
pub mod stateless;
#[cfg(test)]
pub(crate) mod testing;
pub mod top_n;
pub mod watermarks;
pub mod window;

/// Whether a piece of resumable work is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// Complete.
    Done,
    /// The outputs are full, or the outside has not answered: call `resume` later.
    Blocked,
    /// Nothing is in the way, but it is the others' turn: call `resume` in the next one.
    Yielded,
}

impl Progress {
    /// Of two pieces of work that were begun together.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yielded, _) | (_, Self::Yielded) => Self::Yielded,
            (Self::Blocked, _) | (_, Self::Blocked) => Self::Blocked,
            (Self::Done, Self::Done) => Self::Done,
        }
    }
}

/// One operator of one subtask. Built on a housekeeping thread, then owned by the subtask's core.
pub trait Operator: Send {
    /// First call on the core: allocate state here, so that memory is local to the core.
    ///
    /// # Errors
    /// The operator cannot start: the subtask fails.
    fn open(&mut self, context: &OpenContext) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// One record.
    ///
    /// # Errors
    /// The operator or one behind it failed: the subtask fails.
    fn on_record(&mut self, record: &RecordRef<'_>, output: &mut Output) -> Result<()>;

    /// One record of input `input`, in an operator with several inputs, which is the head of its chain.
    ///
    /// Shape: `input` counts from 0 in the order in which the program connected them.
    ///
    /// # Errors
    /// As [`Operator::on_record`].
    #[inline]
    fn on_record_of(
        &mut self,
        input: u8,
        record: &RecordRef<'_>,
        output: &mut Output,
    ) -> Result<()> {
        let _ = input;
        self.on_record(record, output)
    }

    /// The operator makes at most one record of each, of a size that is small beside a buffer, and gains from taking several
    /// in one call. A chain passes runs on when all of its operators do.
    fn takes_runs(&self) -> bool {
        false
    }

    /// Several records at once.
    ///
    /// # Errors
    /// As [`Operator::on_record`].
    fn on_run(&mut self, run: &Run<'_>, output: &mut Output) -> Result<()> {
        for record in run.records() {
            self.on_record(&record, output)?;
        }
        Ok(())
    }

    /// Event time has reached `watermark` (it only grows). The chain passes it on when this is done.
    ///
    /// Shape: `origin_ns` is that of the newest record the watermark speaks of, for the latency of what fires.
    ///
    /// # Errors
    /// As [`Operator::on_record`].
    fn on_watermark(
        &mut self,
        watermark: EventTime,
        origin_ns: u64,
        output: &mut Output,
    ) -> Result<Progress> {
        let _ = (watermark, origin_ns, output);
        Ok(Progress::Done)
    }

    /// The operator wants to be called at times of the wall clock. Asked once.
    fn uses_processing_time(&self) -> bool {
        false
    }

    /// When it wants to be called next, in milliseconds since the epoch. Asked in each turn of operators that use
    /// processing time.
    fn next_processing_time(&mut self) -> Option<i64> {
        None
    }

    /// The wall clock has reached `now_ms`, and with it the time that [`Operator::next_processing_time`] named.
    ///
    /// # Errors
    /// As [`Operator::on_record`].
    fn on_processing_time(&mut self, now_ms: i64, output: &mut Output) -> Result<Progress> {
        let _ = (now_ms, output);
        Ok(Progress::Done)
    }

    /// No record will come any more. With [`StopMode::Drain`] the final watermark has been seen, and what the operator still holds
    /// goes out; with [`StopMode::NoDrain`] the input was cut off: nothing new is made of what is held. A sink hands over what it
    /// was given, in both.
    ///
    /// # Errors
    /// As [`Operator::on_record`]; for a sink also: what was written could not be made durable.
    fn on_end_of_input(&mut self, mode: StopMode, output: &mut Output) -> Result<Progress> {
        let _ = (mode, output);
        Ok(Progress::Done)
    }

    /// Goes on with what the last call left [`Progress::Blocked`] or [`Progress::Yielded`].
    ///
    /// # Errors
    /// As the call that it continues.
    fn resume(&mut self, output: &mut Output) -> Result<Progress> {
        let _ = output;
        Ok(Progress::Done)
    }

    /// The operator looks up state by key, and gains from hearing of keys early ([`Operator::on_keys_ahead`]). Asked of the head
    /// of a chain.
    fn wants_keys(&self) -> bool {
        false
    }

    /// Records with these key hashes come next, unless the chain stops before: their state can be fetched into the cache
    /// meanwhile, all of it at once instead of one miss after another. Of a run only the first are announced; an operator
    /// that takes runs sees the rest in them.
    ///
    /// Shape: at most `limits::KEYS_AHEAD`.
    fn on_keys_ahead(&mut self, key_hashes: &[u32]) {
        let _ = key_hashes;
    }

    /// The operator wants [`Operator::poll`] once in every turn of its subtask (delivery reports of a producer).
    fn wants_poll(&self) -> bool {
        false
    }

    /// Looks after work outside the stream.
    ///
    /// # Errors
    /// As [`Operator::on_record`].
    fn poll(&mut self) -> Result<()> {
        Ok(())
    }

    /// This operator cannot take records now: the subtask reads no more input until it can (a producer's full queue). Asked
    /// only of operators that want polls, because only a poll can end it.
    fn is_blocked(&self) -> bool {
        false
    }

    /// Its operator state, where it keeps some: a checkpoint takes a snapshot of it, and a restore fills it before `open`.
    fn operator_state(&mut self) -> Option<&mut OperatorStateStore> {
        None
    }

    /// The operator gives records out later than they came in, and keeps control elements that come meanwhile in order with them:
    /// it gets [`Operator::keep_back`], and [`Operator::release`] in every turn of its subtask. Asked once. The end of input it
    /// holds up in [`Operator::on_end_of_input`], until all it kept is out.
    fn keeps_back(&self) -> bool {
        false
    }

    /// A watermark has come. True: the operator keeps it, and hands it back from [`Operator::release`] when all that came
    /// before it is out; false: nothing is before it, so it passes as it does everywhere.
    fn keep_back(&mut self, control: Control) -> bool {
        let _ = control;
        false
    }

    /// Gives out records that are ready, until the outputs are full, `budget` is used up, or a control element that was kept back
    /// comes next: that one is handed to the chain, which passes it on and calls again.
    ///
    /// Shape: `budget` in elements; what is given out, and what is handed back, is taken off it.
    ///
    /// # Errors
    /// As [`Operator::on_record`].
    fn release(&mut self, output: &mut Output, budget: &mut usize) -> Result<Option<Control>> {
        let _ = (output, budget);
        Ok(None)
    }

    /// [`Operator::poll`] and [`Operator::release`] would find something: the last look before the core sleeps.
    fn can_release(&self) -> bool {
        false
    }

    /// Bytes of memory of its state: keyed state, windows, timers; 0 for operators without. Asked when counters are reported, not
    /// per record, so it may look at every table.
    fn state_bytes(&self) -> usize {
        0
    }

    /// Last call: leaves its accumulators. Must not block; hand blocking work to the housekeeping threads.
    fn close(&mut self, accumulators: &mut Vec<Accumulator>) {
        let _ = accumulators;
    }
}

/// Builds the operators of one node of the graph.
pub trait OperatorFactory: Send + Sync {
    /// Builds the operator of one subtask. Runs on a housekeeping thread and may block.
    ///
    /// # Errors
    /// The operator cannot be built (a sink's broker is unreachable): the subtask fails before it runs.
    fn prepare(&self, context: &PrepareContext) -> Result<Box<dyn Operator>>;
}
