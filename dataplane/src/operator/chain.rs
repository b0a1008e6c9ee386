//! Operators fused into one subtask, called one from another without queues.
//!
//! Owns: [`Output`] (where an operator's records go: next operator, result partition, several of them, nowhere),
//! [`Chain`] (the tree of one subtask) and the order in which signals pass through it.
//! Invariant: a signal (watermark, end of input) reaches an operator after everything that came before it, and leaves it
//! only when the operator is done with it; while any node is not [`Progress::Done`] the chain takes no new input. An operator
//! may keep a watermark back; the chain then goes on, and passes it from there when the operator releases it.
//! Left out: reading input and sharing time (subtask), what is behind a partition (exchange).

use std::rc::Rc;
use std::sync::Arc;

use crate::batch::Run;
use crate::element::{Control, Watermark};
use crate::error::{Error, Result};
use crate::exchange::result_partition::ResultPartition;
use crate::limits::FIRE_BITE;
use crate::metrics::{Accumulator, SubtaskMetrics};
use crate::operator::{Operator, Progress};
use crate::record::{EventTime, RecordRef, RowKind};
use crate::runtime::context::OpenContext;
use crate::runtime::doorbell::Doorbell;
#[cfg(test)]
use crate::state::operator_state::OperatorStateStore;

/// What passes through a chain in order with records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A control element of the stream.
    Control(Control),
    /// The wall clock, in milliseconds since the epoch: for the operators of this chain alone.
    ProcessingTime(i64),
}

/// Number of a side output, from its name and the type of its records.
pub type SideOutputId = u64;

/// Where an operator's output goes. A concrete type, so that a record costs one virtual call per operator.
#[allow(missing_debug_implementations, reason = "holds boxed operators")]
pub enum Output {
    /// The next operator of the chain.
    Chained(Box<ChainNode>),
    /// Another subtask.
    Partition(Box<ResultPartition>),
    /// Every one of these gets each record.
    Several(Vec<Output>),
    /// The main output, and side outputs, which get only what is meant for them.
    Sides(Box<Output>, Vec<(SideOutputId, Output)>),
    /// Behind a sink.
    End,
    /// Collects what comes, for tests of operators.
    Capture(Vec<Captured>),
}

/// An element that [`Output::Capture`] saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Captured {
    /// A record's bytes and time.
    Record(Vec<u8>, EventTime),
    /// A record that is no insertion: its bytes, time and kind.
    Change(Vec<u8>, EventTime, RowKind),
    /// A control element.
    Signal(Control),
}

impl Output {
    /// Passes a record on.
    ///
    /// # Errors
    /// An operator behind failed.
    #[inline]
    pub fn collect(&mut self, record: &RecordRef<'_>) -> Result<()> {
        match self {
            Self::Chained(node) => node.on_record(record),
            _ => self.leave(record),
        }
    }

    /// Passes a run on.
    ///
    /// # Errors
    /// An operator behind failed.
    pub fn collect_run(&mut self, run: &Run<'_>) -> Result<()> {
        match self {
            Self::Chained(node) => node.on_run(run),
            Self::Partition(partition) => partition.push_run(run),
            Self::Several(outputs) => outputs
                .iter_mut()
                .try_for_each(|output| output.collect_run(run)),
            Self::Sides(main, _) => main.collect_run(run),
            Self::End => Ok(()),
            Self::Capture(_) => run.records().try_for_each(|record| self.leave(&record)),
        }
    }

    /// Passes a record to side output `id`; without a consumer it is dropped, as in Flink.
    ///
    /// # Errors
    /// An operator behind failed.
    pub fn collect_side(&mut self, id: SideOutputId, record: &RecordRef<'_>) -> Result<()> {
        if let Self::Sides(_, sides) = self
            && let Some((_, output)) = sides.iter_mut().find(|(side, _)| *side == id)
        {
            return output.collect(record);
        }
        Ok(())
    }

    /// Where signals go on: each output behind this one.
    fn branches(&mut self) -> impl Iterator<Item = &mut Self> {
        let (several, main, sides) = match self {
            Self::Several(outputs) => (outputs.as_mut_slice(), None, Default::default()),
            Self::Sides(main, sides) => (
                Default::default(),
                Some(main.as_mut()),
                sides.as_mut_slice(),
            ),
            _ => (Default::default(), None, Default::default()),
        };
        let sides = sides.iter_mut().map(|(_, output)| output);
        several.iter_mut().chain(main).chain(sides)
    }

    /// A record leaves the straight road from operator to operator. Apart, so that this road stays short.
    #[inline(never)]
    fn leave(&mut self, record: &RecordRef<'_>) -> Result<()> {
        match self {
            Self::Chained(node) => node.on_record(record),
            Self::Partition(partition) => partition.push(record),
            Self::Several(outputs) => outputs
                .iter_mut()
                .try_for_each(|output| output.collect(record)),
            Self::Sides(main, _) => main.collect(record),
            Self::End => Ok(()),
            Self::Capture(captured) => {
                let (bytes, time) = (record.bytes.to_vec(), record.timestamp);
                captured.push(match record.kind {
                    RowKind::Insert => Captured::Record(bytes, time),
                    kind => Captured::Change(bytes, time, kind),
                });
                Ok(())
            }
        }
    }

    /// A consumer behind can take no more now: resumable work should pause.
    ///
    /// Cost: asked per record, so a chain is walked without calls, but for operators that may block by themselves.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        let mut output = self;
        loop {
            match output {
                Self::Chained(node) => {
                    if node.pending.is_some() || (node.wants_poll && node.operator.is_blocked()) {
                        return true;
                    }
                    output = &node.output;
                }
                Self::Partition(partition) => return partition.is_blocked(),
                Self::Several(outputs) => return outputs.iter().any(Self::is_blocked),
                Self::Sides(main, sides) => {
                    return main.is_blocked() || sides.iter().any(|(_, side)| side.is_blocked());
                }
                Self::End | Self::Capture(_) => return false,
            }
        }
    }

    fn signal(&mut self, signal: Signal) -> Result<Progress> {
        match (self, signal) {
            (Self::Chained(node), _) => node.on_signal(signal),
            (Self::Partition(partition), Signal::Control(control)) => {
                partition.push_control(control);
                Ok(Progress::Done)
            }
            (output @ (Self::Several(_) | Self::Sides(..)), _) => {
                let mut progress = Progress::Done;
                for output in output.branches() {
                    progress = progress.and(output.signal(signal)?);
                }
                Ok(progress)
            }
            (Self::Capture(captured), Signal::Control(control)) => {
                captured.push(Captured::Signal(control));
                Ok(Progress::Done)
            }
            (Self::Partition(_) | Self::Capture(_) | Self::End, _) => Ok(Progress::Done),
        }
    }

    fn resume(&mut self) -> Result<Progress> {
        match self {
            Self::Chained(node) => node.resume(),
            Self::Several(_) | Self::Sides(..) => {
                let mut progress = Progress::Done;
                for output in self.branches() {
                    progress = progress.and(output.resume()?);
                }
                Ok(progress)
            }
            Self::Partition(_) | Self::End | Self::Capture(_) => Ok(Progress::Done),
        }
    }

    /// Has operators give out what they kept back: the last ones first, which makes room for those before them. Says whether
    /// anything moved, and what came of the control elements among it.
    fn release(&mut self) -> Result<(bool, Progress)> {
        if let Self::Chained(node) = self {
            return node.release();
        }
        let (mut moved, mut progress) = (false, Progress::Done);
        for output in self.branches() {
            let (branch_moved, branch) = output.release()?;
            moved |= branch_moved;
            progress = progress.and(branch);
        }
        Ok((moved, progress))
    }

    /// Some operator would give out what it kept back.
    fn can_release(&mut self) -> bool {
        match self {
            Self::Chained(node) => {
                let own = node.keeps_back && node.operator.can_release();
                (own && !node.output.is_blocked()) || node.output.can_release()
            }
            _ => self.branches().any(Self::can_release),
        }
    }

    fn for_each_node(
        &mut self,
        visit: &mut impl FnMut(&mut ChainNode) -> Result<()>,
    ) -> Result<()> {
        if let Self::Chained(node) = self {
            visit(node)?;
            return node.output.for_each_node(visit);
        }
        self.branches()
            .try_for_each(|output| output.for_each_node(visit))
    }

    fn for_each_partition(&mut self, visit: &mut impl FnMut(&mut ResultPartition)) {
        match self {
            Self::Chained(node) => node.output.for_each_partition(visit),
            Self::Partition(partition) => visit(partition),
            _ => self
                .branches()
                .for_each(|output| output.for_each_partition(visit)),
        }
    }

    /// The earliest processing time that an operator wants to be called at.
    fn next_processing_time(&mut self) -> Option<i64> {
        if let Self::Chained(node) = self {
            let own = node.operator.next_processing_time();
            let behind = node.output.next_processing_time();
            return own.into_iter().chain(behind).min();
        }
        self.branches().filter_map(Self::next_processing_time).min()
    }
}

/// A signal on its way through a node.
#[derive(Debug, Clone, Copy)]
enum Pending {
    /// The operator is still at it.
    AtOperator(Signal),
    /// The operator is done; somebody behind is not.
    Behind,
}

/// One operator and what is behind it.
#[allow(missing_debug_implementations, reason = "holds boxed operators")]
pub struct ChainNode {
    name: String,
    operator: Box<dyn Operator>,
    wants_poll: bool,
    keeps_back: bool,
    pending: Option<Pending>,
    output: Output,
}

impl ChainNode {
    /// A node in front of `output`.
    #[must_use]
    pub fn new(name: impl Into<String>, operator: Box<dyn Operator>, output: Output) -> Self {
        let (wants_poll, keeps_back) = (operator.wants_poll(), operator.keeps_back());
        Self {
            name: name.into(),
            operator,
            wants_poll,
            keeps_back,
            pending: None,
            output,
        }
    }

    #[inline]
    fn on_record(&mut self, record: &RecordRef<'_>) -> Result<()> {
        match self.operator.on_record(record, &mut self.output) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.named(error)),
        }
    }

    #[inline]
    fn on_record_of(&mut self, input: u8, record: &RecordRef<'_>) -> Result<()> {
        match self.operator.on_record_of(input, record, &mut self.output) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.named(error)),
        }
    }

    fn on_run(&mut self, run: &Run<'_>) -> Result<()> {
        match self.operator.on_run(run, &mut self.output) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.named(error)),
        }
    }

    #[cold]
    fn named(&self, error: Error) -> Error {
        error.at_operator(&self.name)
    }

    fn on_signal(&mut self, signal: Signal) -> Result<Progress> {
        debug_assert!(self.pending.is_none(), "a blocked chain takes no signal");
        if self.keeps_back
            && let Signal::Control(control @ Control::Watermark { .. }) = signal
            && self.operator.keep_back(control)
        {
            return Ok(Progress::Done);
        }
        let done = match signal {
            Signal::Control(Control::Watermark {
                watermark: Watermark::At(time),
                origin_ns,
            }) => self
                .operator
                .on_watermark(time, origin_ns, &mut self.output),
            Signal::Control(Control::Watermark {
                watermark: Watermark::Idle,
                ..
            }) => Ok(Progress::Done),
            Signal::Control(Control::EndOfInput(mode)) => {
                self.operator.on_end_of_input(mode, &mut self.output)
            }
            Signal::ProcessingTime(now_ms) => {
                self.operator.on_processing_time(now_ms, &mut self.output)
            }
        };
        match done.map_err(|error| error.at_operator(&self.name))? {
            Progress::Done => self.pass_on(signal),
            waits => {
                self.pending = Some(Pending::AtOperator(signal));
                Ok(waits)
            }
        }
    }

    fn pass_on(&mut self, signal: Signal) -> Result<Progress> {
        let progress = self.output.signal(signal)?;
        self.pending = (progress != Progress::Done).then_some(Pending::Behind);
        Ok(progress)
    }

    fn release(&mut self) -> Result<(bool, Progress)> {
        let (mut moved, mut progress) = self.output.release()?;
        if !self.keeps_back {
            return Ok((moved, progress));
        }
        let mut budget = FIRE_BITE;
        while budget > 0 && progress == Progress::Done && !self.output.is_blocked() {
            match self.operator.release(&mut self.output, &mut budget) {
                Ok(Some(control)) => progress = self.output.signal(Signal::Control(control))?,
                Ok(None) => break,
                Err(error) => return Err(self.named(error)),
            }
        }
        moved |= budget < FIRE_BITE;
        Ok((moved, progress))
    }

    fn resume(&mut self) -> Result<Progress> {
        match self.pending {
            // A watermark that was kept back may be on its way behind.
            None => self.output.resume(),
            Some(Pending::AtOperator(signal)) => {
                // What fires here may wait on something blocked behind (a sink's full queue), so let that go on first.
                match self.output.resume()? {
                    Progress::Done => {}
                    waits => return Ok(waits),
                }
                let done = self.operator.resume(&mut self.output);
                match done.map_err(|error| error.at_operator(&self.name))? {
                    Progress::Done => self.pass_on(signal),
                    waits => Ok(waits),
                }
            }
            Some(Pending::Behind) => {
                let progress = self.output.resume()?;
                if progress == Progress::Done {
                    self.pending = None;
                }
                Ok(progress)
            }
        }
    }
}

/// The tree of operators of one subtask, entered at its head.
#[allow(missing_debug_implementations, reason = "holds boxed operators")]
pub struct Chain {
    head: Output,
    /// What came of the last signal.
    progress: Progress,
    polls: bool,
    /// Some operator keeps control elements back.
    keeps_back: bool,
    /// Something in it may refuse records: an operator that wants polls, or a partition.
    can_block: bool,
    /// Its head wants to hear of keys early.
    wants_keys: bool,
    /// Some operator wants to be called at times of the wall clock.
    uses_time: bool,
    /// All its operators take runs.
    takes_runs: bool,
}

impl Chain {
    /// A chain entered at `head`.
    #[must_use]
    pub fn new(mut head: Output) -> Self {
        let (mut polls, mut keeps_back) = (false, false);
        let (mut takes_runs, mut uses_time) = (true, false);
        head.for_each_node(&mut |node| {
            polls |= node.wants_poll;
            keeps_back |= node.keeps_back;
            uses_time |= node.operator.uses_processing_time();
            takes_runs &= node.operator.takes_runs();
            Ok(())
        })
        .expect("the visit above cannot fail");
        let mut can_block = polls;
        head.for_each_partition(&mut |_| can_block = true);
        let wants_keys = matches!(&head, Output::Chained(node) if node.operator.wants_keys());
        Self {
            head,
            progress: Progress::Done,
            polls,
            keeps_back,
            can_block,
            wants_keys,
            takes_runs,
            uses_time,
        }
    }

    /// Opens every operator.
    ///
    /// # Errors
    /// An operator could not start.
    pub fn open(&mut self, context: &OpenContext) -> Result<()> {
        self.head.for_each_node(&mut |node| {
            node.operator
                .open(context)
                .map_err(|error| error.at_operator(&node.name))
        })
    }

    /// A record enters.
    ///
    /// # Errors
    /// An operator failed.
    #[inline]
    pub fn on_record(&mut self, record: &RecordRef<'_>) -> Result<()> {
        self.head.collect(record)
    }

    /// A record of input `input` of the head enters.
    ///
    /// # Errors
    /// An operator failed.
    #[inline]
    pub fn on_record_of(&mut self, input: u8, record: &RecordRef<'_>) -> Result<()> {
        match &mut self.head {
            Output::Chained(node) => node.on_record_of(input, record),
            head => head.collect(record),
        }
    }

    /// The earliest processing time, in milliseconds since the epoch, that an operator wants to be called at.
    #[inline]
    #[must_use]
    pub fn next_processing_time(&mut self) -> Option<i64> {
        if self.uses_time {
            self.head.next_processing_time()
        } else {
            None
        }
    }

    /// Runs may enter.
    #[inline]
    #[must_use]
    pub fn takes_runs(&self) -> bool {
        self.takes_runs
    }

    /// A run enters a chain that takes them. Afterwards the chain may be blocked.
    ///
    /// # Errors
    /// An operator failed.
    pub fn on_run(&mut self, run: &Run<'_>) -> Result<()> {
        debug_assert!(self.takes_runs, "asked before");
        self.head.collect_run(run)
    }

    /// It wants to hear of keys early.
    #[inline]
    #[must_use]
    pub fn wants_keys(&self) -> bool {
        self.wants_keys
    }

    /// Records with these key hashes come next.
    #[inline]
    pub fn on_keys_ahead(&mut self, key_hashes: &[u32]) {
        if self.wants_keys
            && let Output::Chained(node) = &mut self.head
        {
            node.operator.on_keys_ahead(key_hashes);
        }
    }

    /// A signal enters. Unless it is [`Progress::Done`]: call [`Chain::resume`] until it is, and nothing else.
    ///
    /// # Errors
    /// An operator failed.
    pub fn on_signal(&mut self, signal: Signal) -> Result<Progress> {
        self.progress = self.head.signal(signal)?;
        Ok(self.progress)
    }

    /// A signal is still on its way.
    #[must_use]
    pub fn is_resuming(&self) -> bool {
        self.progress != Progress::Done
    }

    /// A signal is still on its way, and would go on if asked.
    #[must_use]
    pub fn has_yielded(&self) -> bool {
        self.progress == Progress::Yielded
    }

    /// Goes on with a blocked signal.
    ///
    /// # Errors
    /// An operator failed.
    pub fn resume(&mut self) -> Result<Progress> {
        self.progress = self.head.resume()?;
        Ok(self.progress)
    }

    /// The chain can take no record now.
    #[inline]
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.is_resuming() || (self.can_block && self.head.is_blocked())
    }

    /// Lets operators that asked for it look after outside work.
    ///
    /// # Errors
    /// An operator failed.
    pub fn poll(&mut self) -> Result<()> {
        if !self.polls {
            return Ok(());
        }
        self.head.for_each_node(&mut |node| {
            if node.wants_poll {
                node.operator
                    .poll()
                    .map_err(|error| error.at_operator(&node.name))?;
            }
            Ok(())
        })
    }

    /// Has operators give out what they kept back and is ready; true if anything moved. A watermark among it may leave the chain
    /// resuming.
    ///
    /// # Errors
    /// An operator failed.
    pub fn release(&mut self) -> Result<bool> {
        if !self.keeps_back {
            return Ok(false);
        }
        let (moved, progress) = self.head.release()?;
        self.progress = self.progress.and(progress);
        Ok(moved)
    }

    /// The next [`Chain::release`] would move something.
    #[must_use]
    pub fn can_release(&mut self) -> bool {
        self.keeps_back && self.head.can_release()
    }

    /// Some operator has outside work to look after.
    #[must_use]
    pub fn wants_poll(&self) -> bool {
        self.polls
    }

    /// Calls `visit` for every result partition.
    pub fn for_each_partition(&mut self, mut visit: impl FnMut(&mut ResultPartition)) {
        self.head.for_each_partition(&mut visit);
    }

    /// Bytes of memory of the state of all operators. Cost: a look at every table.
    #[must_use]
    pub fn state_bytes(&mut self) -> usize {
        let mut bytes = 0;
        self.head
            .for_each_node(&mut |node| {
                bytes += node.operator.state_bytes();
                Ok(())
            })
            .expect("the visit above cannot fail");
        bytes
    }

    /// Closes every operator and collects its accumulators.
    pub fn close(&mut self) -> Vec<Accumulator> {
        let mut accumulators = Vec::new();
        self.head
            .for_each_node(&mut |node| {
                node.operator.close(&mut accumulators);
                Ok(())
            })
            .expect("the visit above cannot fail");
        accumulators
    }

    /// The operator state of the head, for tests.
    #[cfg(test)]
    pub(crate) fn operator_state(&mut self) -> Option<&mut OperatorStateStore> {
        match &mut self.head {
            Output::Chained(node) => node.operator.operator_state(),
            _ => None,
        }
    }

    /// What an [`Output::Capture`] at the end of a straight chain has seen, for tests.
    #[must_use]
    pub fn captured(&self) -> &[Captured] {
        let mut output = &self.head;
        loop {
            match output {
                Output::Chained(node) => output = &node.output,
                Output::Capture(captured) => return captured,
                _ => return &[],
            }
        }
    }
}

/// A context for tests of operators outside a core.
#[must_use]
pub fn test_context(metrics: Rc<SubtaskMetrics>) -> OpenContext {
    OpenContext {
        subtask_index: 0,
        parallelism: 1,
        max_parallelism: 128,
        clock: Rc::new(crate::runtime::clock::Clock::system()),
        metrics,
        state: crate::state::disk::StateStorage::HashMap,
        doorbell: Arc::new(Doorbell::new().expect("a test process has a file descriptor left")),
    }
}
