//! A running subtask: input, chain, outputs, and its turn on the core.
//!
//! Owns: [`Subtask`] and [`Turn`]. The core calls [`Subtask::turn`] in its sweep; a turn takes a bounded bite of input,
//! passes it through the chain and flushes what is partly filled when nothing more came in, or when it is due.
//! Invariant: no element enters a chain that is blocked, so order is kept and what waits is bounded; after the last
//! input the end of input passes through once, behind the final watermark unless a stop cut the input off, and the subtask ends
//! when all it wrote is handed over.
//! Left out: who runs next (core), what failures mean (control plane). No await point: a turn is a plain call.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use ringflow_schemas::id::ExecutionAttemptId;

use crate::batch::InputBuffer;
use crate::batch::layout::{self, Piece};
use crate::element::{Control, StopMode, Watermark};
use crate::error::Result;
use crate::exchange::input_gate::InputGate;
use crate::exchange::result_partition::Flush;
use crate::limits::{
    BLOCKED_POLL_NS, GATE_TURN_BUFFERS, KEYS_AHEAD, RUN_RECORDS, SOURCE_POLL_RECORDS,
};
use crate::metrics::{Accumulator, SubtaskMetrics, add};
use crate::operator::Progress;
use crate::operator::chain::{Chain, Signal};
use crate::record::EventTime;
use crate::runtime::clock::{Clock, NS_PER_MS};
use crate::source::alignment::AlignmentCell;
use crate::source::watermark::SplitWatermarks;
use crate::source::{SourceOutput, SourceProgress, SourceReader, TimestampAssigner};

pub mod finished;
pub mod spec;

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Something moved; there may be more.
    Worked,
    /// Nothing to do until something comes in, or until this monotonic time.
    Idle {
        /// Look again then.
        until_ns: Option<u64>,
    },
    /// There is input, but the outputs are full, until somebody takes from them, or until this monotonic time.
    Backpressured {
        /// Look again then.
        until_ns: Option<u64>,
    },
    /// All input is done and handed over.
    Finished,
}

impl Turn {
    /// The same, with another look at `wake_ns` at the latest.
    fn no_later_than(self, wake_ns: Option<u64>) -> Self {
        let earliest = |until_ns: Option<u64>| [until_ns, wake_ns].into_iter().flatten().min();
        match self {
            Self::Idle { until_ns } => Self::Idle {
                until_ns: earliest(until_ns),
            },
            Self::Backpressured { until_ns } => Self::Backpressured {
                until_ns: earliest(until_ns),
            },
            Self::Worked | Self::Finished => self,
        }
    }
}

/// Where a subtask's records come from.
#[allow(missing_debug_implementations, reason = "holds boxed readers")]
pub enum Head {
    /// A source.
    Source {
        /// Name of the operator, for messages.
        name: String,
        /// The reader.
        reader: Box<dyn SourceReader>,
        /// Watermarks of its splits.
        watermarks: SplitWatermarks,
        /// Reads event times out of records.
        assigner: Option<TimestampAssigner>,
        /// Of a source that is aligned with others.
        alignment: Option<Alignment>,
    },
    /// Other subtasks.
    Gate {
        /// The channels.
        gate: InputGate,
        /// The buffer being read: its channel and position.
        current: Option<(usize, InputBuffer, usize)>,
    },
}

/// How a source learns how far it may go.
#[derive(Debug)]
pub struct Alignment {
    cell: Arc<AlignmentCell>,
    /// As of the last turn.
    limit: EventTime,
}

impl Alignment {
    /// `cell` is shared with the control thread.
    #[must_use]
    pub fn new(cell: Arc<AlignmentCell>) -> Self {
        let limit = cell.limit();
        Self { cell, limit }
    }
}

/// What follows in a buffer, and where that ends.
struct Next<'a>(Piece<'a>, usize);

impl<'a> Next<'a> {
    /// Reads what follows at `from`, and has the chain hear of its keys.
    #[inline]
    fn read(
        elements: &'a [u8],
        from: usize,
        chain: &mut Chain,
        hashes: &mut [u32; KEYS_AHEAD],
    ) -> Option<Self> {
        let mut end = from;
        let most = if chain.takes_runs() {
            RUN_RECORDS
        } else {
            KEYS_AHEAD
        };
        let piece = layout::next_piece(elements, &mut end, most)?;
        if let Piece::Run(run) = &piece
            && chain.wants_keys()
        {
            let count = run.len().min(KEYS_AHEAD);
            for (place, hash) in hashes.iter_mut().zip(run.key_hashes()) {
                *place = hash;
            }
            chain.on_keys_ahead(&hashes[..count]);
        }
        Some(Self(piece, end))
    }
}

/// Passes a signal into the chain. The end of event time fires and clears what windows and timers hold, so state is looked at
/// before: a job that ends between two reports has had state all the same.
fn pass(chain: &mut Chain, metrics: &SubtaskMetrics, signal: Control) -> Result<Progress> {
    let ends_time = Watermark::At(EventTime::MAX);
    if matches!(signal, Control::Watermark { watermark, .. } if watermark == ends_time) {
        metrics.found_state(chain.state_bytes());
    }
    chain.on_signal(Signal::Control(signal))
}

/// One parallel instance at work.
#[allow(missing_debug_implementations, reason = "holds boxed operators")]
pub struct Subtask {
    attempt: ExecutionAttemptId,
    head: Head,
    chain: Chain,
    metrics: Rc<SubtaskMetrics>,
    clock: Rc<Clock>,
    /// Signals that still have to pass through the chain, before any more input.
    signals: VecDeque<Control>,
    /// A source that shall end, and how. What it has read passes through the chain before.
    stopping: Option<StopMode>,
    /// No more input comes.
    ended: bool,
    /// The outputs have been full since then: no time for a split to be called idle.
    blocked_since_ns: Option<u64>,
    /// When the next partly filled buffer is due, where the job has a buffer timeout.
    flush_at_ns: Option<u64>,
    /// A road to another process ended while it still held buffers: look after each turn whether it is empty.
    suspect: bool,
    last_turn: Turn,
    last_ns: u64,
    /// Bytes that arriving data cost, as far as they are counted.
    copied_bytes: u64,
    /// What the core had spun in all when this subtask last looked, and how much of it is not accounted yet.
    spun_ns: Option<u64>,
    spinning_ns: u64,
}

impl Subtask {
    /// A subtask whose chain and reader are open.
    #[must_use]
    pub fn new(
        attempt: ExecutionAttemptId,
        head: Head,
        chain: Chain,
        metrics: Rc<SubtaskMetrics>,
        clock: Rc<Clock>,
    ) -> Self {
        let last_ns = clock.now_ns();
        Self {
            attempt,
            head,
            chain,
            metrics,
            clock,
            signals: VecDeque::new(),
            stopping: None,
            ended: false,
            blocked_since_ns: None,
            flush_at_ns: None,
            suspect: false,
            last_turn: Turn::Idle { until_ns: None },
            last_ns,
            copied_bytes: 0,
            spun_ns: None,
            spinning_ns: 0,
        }
    }

    /// Which attempt this is.
    #[must_use]
    pub fn attempt(&self) -> ExecutionAttemptId {
        self.attempt
    }

    /// Its counters.
    #[must_use]
    pub fn metrics(&self) -> &Rc<SubtaskMetrics> {
        &self.metrics
    }

    /// The watermark of its input.
    #[must_use]
    pub fn watermark(&self) -> Option<EventTime> {
        match &self.head {
            Head::Source { watermarks, .. } => watermarks.current(),
            Head::Gate { gate, .. } => gate.watermark(),
        }
    }

    /// One turn: a bounded bite of work, with its time accounted. `spun_ns`: what the core has spent in all, up to now, looking
    /// for work that was not there.
    ///
    /// # Errors
    /// The subtask failed.
    pub fn turn(&mut self, spun_ns: u64) -> Result<Turn> {
        let started_ns = self.clock.now_ns();
        let result = self.work(started_ns);
        let turn = *result.as_ref().unwrap_or(&Turn::Worked);
        let ended_ns = self.clock.now_ns();
        self.spinning_ns += spun_ns - self.spun_ns.unwrap_or(spun_ns);
        self.spun_ns = Some(spun_ns);
        let waited_ns = started_ns.saturating_sub(self.last_ns);
        match self.last_turn {
            Turn::Backpressured { .. } => {
                add(&self.metrics.backpressured_ns, waited_ns);
                self.spinning_ns = 0;
            }
            // A subtask that waits for its turn on a shared core is not busy: the core is, with another one.
            Turn::Idle { .. } | Turn::Finished | Turn::Worked => self.account_idle(waited_ns),
        }
        let spent_ns = ended_ns.saturating_sub(started_ns);
        match turn {
            Turn::Worked => add(&self.metrics.busy_ns, spent_ns),
            Turn::Backpressured { .. } => add(&self.metrics.backpressured_ns, spent_ns),
            Turn::Idle { .. } | Turn::Finished => self.account_idle(spent_ns),
        }
        if turn != self.last_turn && matches!(turn, Turn::Worked | Turn::Backpressured { .. }) {
            // What the core spun before this is no idle time of what comes.
            self.spinning_ns = 0;
        }
        self.last_turn = turn;
        self.last_ns = ended_ns;
        result
    }

    /// Idle time: spinning as far as the core spun, idle for the rest.
    fn account_idle(&mut self, ns: u64) {
        let spinning_ns = ns.min(self.spinning_ns);
        self.spinning_ns -= spinning_ns;
        add(&self.metrics.spinning_ns, spinning_ns);
        add(&self.metrics.idle_ns, ns - spinning_ns);
    }

    /// A turn at the monotonic time `now_ns`, which ends no wait later than the next buffer is due.
    fn work(&mut self, now_ns: u64) -> Result<Turn> {
        let turn = self.bite(now_ns)?;
        Ok(turn.no_later_than(self.flush_at_ns))
    }

    fn bite(&mut self, now_ns: u64) -> Result<Turn> {
        let mut moved = false;
        self.chain
            .for_each_partition(|partition| moved |= partition.pump());
        self.chain.poll()?;
        moved |= self.chain.release()?;
        if self.chain.is_resuming() && self.chain.resume()? != Progress::Done {
            moved |= self.flush(Flush::Busy, now_ns);
            return Ok(if moved {
                Turn::Worked
            } else {
                self.blocked(now_ns)
            });
        }
        if !self.pass_signals()? {
            return Ok(Turn::Worked);
        }
        if self.ended {
            return Ok(self.drain(moved, now_ns));
        }
        let timer_ns = self.fire_timers(now_ns)?;
        if self.chain.is_blocked() {
            // Consumers that are not in the way still get what is theirs.
            moved |= self.flush(Flush::Busy, now_ns);
            return Ok(if moved {
                Turn::Worked
            } else {
                self.blocked(now_ns)
            });
        }
        let took = match &mut self.head {
            Head::Source { .. } => self.take_from_source(now_ns)?,
            Head::Gate { .. } => self.take_from_gate(now_ns)?,
        };
        // A blocked chain may have more input waiting, so it is not idle; a partly filled buffer may go only to a
        // consumer that has nothing else.
        let idle = matches!(took, Turn::Idle { .. }) && !self.chain.is_blocked();
        let flush = if idle { Flush::Idle } else { Flush::Busy };
        moved |= self.flush(flush, now_ns);
        Ok(match took {
            Turn::Idle { .. } | Turn::Backpressured { .. } if moved => Turn::Worked,
            Turn::Idle { until_ns } => Turn::Idle {
                until_ns: until_ns.into_iter().chain(timer_ns).min(),
            },
            took => took,
        })
    }

    /// Calls operators whose processing time has come; when the next of them wants to be called, in monotonic time.
    fn fire_timers(&mut self, now_ns: u64) -> Result<Option<u64>> {
        let Some(due_ms) = self.chain.next_processing_time() else {
            return Ok(None);
        };
        let wall_ns = self.clock.wall_of(now_ns);
        let now_ms = i64::try_from(wall_ns / NS_PER_MS).unwrap_or(i64::MAX);
        if due_ms > now_ms {
            let due_ns = u64::try_from(due_ms).map_or(0, |ms| ms.saturating_mul(NS_PER_MS));
            return Ok(Some(now_ns.saturating_add(due_ns.saturating_sub(wall_ns))));
        }
        if self.chain.on_signal(Signal::ProcessingTime(now_ms))? != Progress::Done {
            return Ok(None);
        }
        // What they emitted may be all there is: look at once when they want to be called again.
        Ok(Some(now_ns))
    }

    /// The outputs are full, or a sink waits for the outside: look again soon even if no bell rings for it. An operator that only
    /// yielded goes on in the next turn.
    fn blocked(&mut self, now_ns: u64) -> Turn {
        if self.chain.has_yielded() {
            return Turn::Worked;
        }
        self.blocked_since_ns.get_or_insert(now_ns);
        let polls = self.chain.wants_poll();
        Turn::Backpressured {
            until_ns: polls.then_some(now_ns + BLOCKED_POLL_NS),
        }
    }

    /// Passes waiting signals on; false when one is blocked.
    fn pass_signals(&mut self) -> Result<bool> {
        while let Some(signal) = self.signals.pop_front() {
            if pass(&mut self.chain, &self.metrics, signal)? != Progress::Done {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn drain(&mut self, moved: bool, now_ns: u64) -> Turn {
        let moved = self.flush(Flush::End, now_ns) | moved;
        let mut handed_over = true;
        self.chain
            .for_each_partition(|partition| handed_over &= partition.is_handed_over());
        if handed_over {
            Turn::Finished
        } else if moved {
            Turn::Worked
        } else {
            self.blocked(now_ns)
        }
    }

    /// True if anything left.
    fn flush(&mut self, flush: Flush, now_ns: u64) -> bool {
        let (mut sent, mut at_ns) = (false, None::<u64>);
        self.chain.for_each_partition(|partition| {
            sent |= partition.flush(flush, now_ns);
            if let Some(due_ns) = partition.flush_at_ns() {
                at_ns = Some(at_ns.map_or(due_ns, |at_ns| at_ns.min(due_ns)));
            }
        });
        self.flush_at_ns = at_ns;
        sent
    }

    /// The last input is in: what remains is to say so. Where it came over a gate, the end of time did too.
    fn end_input(&mut self, mode: StopMode) -> Result<Turn> {
        self.ended = true;
        self.signals.push_back(Control::EndOfInput(mode));
        self.pass_signals()?;
        Ok(Turn::Worked)
    }

    // ------------------------------------------------------------------------------------------------- source

    /// Has a source end with its next turn that can take input: it reads no more, and says whether that is the end of time. Other
    /// subtasks end with their input. The first call counts.
    pub fn stop(&mut self, mode: StopMode) {
        if matches!(self.head, Head::Source { .. }) {
            self.stopping.get_or_insert(mode);
        }
    }

    /// The source has given its last record, of origin `origin_ns`.
    fn end_source(&mut self, mode: StopMode, origin_ns: u64) -> Result<Turn> {
        if let Head::Source {
            alignment: Some(alignment),
            ..
        } = &self.head
        {
            // Others wait for it no more.
            alignment.cell.reached(EventTime::MAX);
        }
        if mode == StopMode::Drain {
            self.signals.push_back(Control::Watermark {
                watermark: Watermark::At(EventTime::MAX),
                origin_ns,
            });
        }
        self.end_input(mode)
    }

    fn take_from_source(&mut self, now_ns: u64) -> Result<Turn> {
        if let Some(mode) = self.stopping {
            return self.end_source(mode, 0);
        }
        let Head::Source {
            name,
            reader,
            watermarks,
            assigner,
            alignment,
        } = &mut self.head
        else {
            return Ok(Turn::Worked);
        };
        if let Some(since_ns) = self.blocked_since_ns.take() {
            watermarks.on_paused(now_ns.saturating_sub(since_ns));
        }
        if let Some(Alignment { cell, limit }) = alignment {
            *limit = cell.limit();
            let waits = watermarks.hold_beyond(*limit, now_ns);
            cell.reached(watermarks.position());
            if waits {
                // The doorbell rings when the limit is another one.
                return Ok(Turn::Idle { until_ns: None });
            }
        }
        let mut output = SourceOutput {
            chain: &mut self.chain,
            watermarks,
            assigner: assigner.as_ref(),
            now_ns,
            wall_ns: self.clock.wall_of(now_ns),
            records: 0,
            bad_records: 0,
            origin_ns: 0,
        };
        let progress = reader
            .poll(SOURCE_POLL_RECORDS, &mut output)
            .map_err(|error| error.at_operator(name))?;
        let (records, origin_ns) = (output.records, output.origin_ns);
        add(&self.metrics.source_records, records);
        add(&self.metrics.bad_records, output.bad_records);
        if progress == SourceProgress::Finished {
            return self.end_source(StopMode::Drain, origin_ns);
        }
        if let Some(watermark) = watermarks.advance(now_ns) {
            if let Some(Alignment { cell, .. }) = alignment {
                cell.reached(watermarks.position());
            }
            self.signals.push_back(Control::Watermark {
                watermark,
                origin_ns,
            });
            self.pass_signals()?;
        }
        let idle_at = self.next_idle_ns(now_ns);
        Ok(match progress {
            SourceProgress::Idle { until_ns } if records == 0 => Turn::Idle {
                until_ns: [until_ns, idle_at].into_iter().flatten().min(),
            },
            SourceProgress::Idle { .. } => {
                // All there was is in the chain: what is partly filled leaves now.
                let blocked = self.chain.is_blocked();
                let flush = if blocked { Flush::Busy } else { Flush::Idle };
                self.flush(flush, now_ns);
                Turn::Worked
            }
            _ if records == 0 && self.chain.is_blocked() => self.blocked(now_ns),
            _ => Turn::Worked,
        })
    }

    fn next_idle_ns(&self, now_ns: u64) -> Option<u64> {
        match &self.head {
            Head::Source { watermarks, .. } => watermarks.next_idle_ns(now_ns),
            Head::Gate { .. } => None,
        }
    }

    // --------------------------------------------------------------------------------------------------- gate

    fn take_from_gate(&mut self, now_ns: u64) -> Result<Turn> {
        if self.suspect && !self.has_input() {
            self.check_roads()?;
        }
        let mut took = false;
        for _ in 0..GATE_TURN_BUFFERS {
            let Head::Gate { gate, current } = &mut self.head else {
                return Ok(Turn::Worked);
            };
            let next = current.take().or_else(|| {
                let (channel, buffer) = gate.next_buffer()?;
                add(&self.metrics.bytes_in, buffer.bytes() as u64);
                add(&self.metrics.records_in, u64::from(buffer.records()));
                Some((channel, buffer, 0))
            });
            let Some((channel, buffer, mut offset)) = next else {
                if took {
                    // This was all there was: what is partly filled leaves now.
                    self.flush(Flush::Idle, now_ns);
                    return Ok(Turn::Worked);
                }
                return Ok(Turn::Idle { until_ns: None });
            };
            took = true;
            let (mut ended, mut stopped) = (None, false);
            let elements = buffer.as_slice();
            let input = gate.input_of(channel);
            let mut hashes = [0; KEYS_AHEAD];
            let mut next = Next::read(elements, offset, &mut self.chain, &mut hashes);
            while let Some(Next(piece, end)) = next {
                // Keys of what follows are announced while this is worked on.
                next = Next::read(elements, end, &mut self.chain, &mut hashes);
                match piece {
                    Piece::Run(run) if self.chain.takes_runs() => {
                        self.chain.on_run(&run)?;
                        offset = end;
                        stopped = self.chain.is_blocked();
                    }
                    Piece::Run(run) => {
                        for record in run.records() {
                            self.chain.on_record_of(input, &record)?;
                            offset += run.stride();
                            stopped = self.chain.is_blocked();
                            if stopped {
                                break;
                            }
                        }
                    }
                    Piece::Record(record) => {
                        self.chain.on_record_of(input, &record)?;
                        offset = end;
                        stopped = self.chain.is_blocked();
                    }
                    Piece::Control(control) => {
                        offset = end;
                        ended = gate.on_control(channel, control, &mut self.signals)?;
                        while let Some(signal) = self.signals.pop_front() {
                            let progress = pass(&mut self.chain, &self.metrics, signal)?;
                            stopped = progress != Progress::Done;
                            if stopped {
                                break;
                            }
                        }
                    }
                }
                if stopped {
                    break;
                }
            }
            let left = offset < elements.len();
            if let Some(mode) = ended {
                return self.end_input(mode);
            }
            if left {
                *current = Some((channel, buffer, offset));
            }
            if stopped {
                return Ok(Turn::Worked);
            }
        }
        // The budget is spent. When nothing more waits, this was all for now: what is partly filled leaves at once.
        if !self.has_input() {
            self.flush(Flush::Idle, now_ns);
        }
        Ok(Turn::Worked)
    }

    /// The next turn would move something: a last look before the core sleeps, at the monotonic time `now_ns`.
    #[must_use]
    pub fn can_move(&mut self, now_ns: u64) -> bool {
        let blocked = self.chain.is_blocked();
        // As `bite` will flush.
        let flush = if self.ended && !self.chain.is_resuming() {
            Flush::End
        } else if blocked {
            Flush::Busy
        } else {
            Flush::Idle
        };
        let mut moves = false;
        self.chain
            .for_each_partition(|partition| moves |= partition.can_move(flush, now_ns));
        // Who is blocked, or at the end, looks at no limit.
        let limit_moved = match &self.head {
            Head::Source {
                alignment: Some(alignment),
                ..
            } => !blocked && !self.ended && alignment.cell.limit() != alignment.limit,
            _ => false,
        };
        moves
            || limit_moved
            || self.chain.has_yielded()
            || self.chain.can_release()
            || (!blocked && self.has_input())
    }

    /// Brings counters up to date that are not kept per record: what the source knows to wait outside, what arriving data cost,
    /// what state takes.
    pub fn count(&mut self) {
        match &self.head {
            Head::Source { reader, .. } => {
                if let Some(pending) = reader.pending_records() {
                    self.metrics.pending_records.set(pending);
                }
            }
            Head::Gate { gate, .. } => {
                let copied = gate.copied_bytes();
                add(&self.metrics.bytes_copied, copied - self.copied_bytes);
                self.copied_bytes = copied;
            }
        }
        self.metrics.found_state(self.chain.state_bytes());
    }

    fn has_input(&self) -> bool {
        match &self.head {
            Head::Source { .. } => false,
            Head::Gate { gate, current } => current.is_some() || !gate.is_empty(),
        }
    }

    /// Fails when a road to or from another process has ended under the subtask.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::PeerLost`].
    pub fn check_roads(&mut self) -> Result<()> {
        self.suspect = true;
        if let Head::Gate { gate, current } = &self.head {
            // The end of a channel may be in the buffer that is being read.
            gate.check(current.as_ref().map(|(channel, ..)| *channel))?;
        }
        let mut result = Ok(());
        self.chain.for_each_partition(|partition| {
            if result.is_ok() {
                result = partition.check();
            }
        });
        result
    }

    /// Ends the subtask, however it went, and takes its accumulators.
    pub fn close(mut self) -> (Rc<SubtaskMetrics>, Option<EventTime>, Vec<Accumulator>) {
        self.count();
        let watermark = self.watermark();
        let accumulators = self.chain.close();
        (self.metrics, watermark, accumulators)
    }
}

#[cfg(test)]
mod tests;
