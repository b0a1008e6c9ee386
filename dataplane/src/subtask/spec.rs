//! A subtask on its way to its core: everything about it that may cross threads.
//!
//! Owns: [`SubtaskSpec`] and how it becomes a [`Subtask`] on the core. Operators and readers were built on housekeeping
//! threads; channels inside the process are wired already, those of the core itself and to other processes are named.
//! Invariant: opening happens on the core, so state is allocated there. Left out: who decided all this (control plane).

use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringflow_schemas::id::ExecutionAttemptId;

use crate::batch::{Buffer, BufferPool};
use crate::error::Result;
use crate::exchange::channel::{ChannelReceiver, ChannelSender};
use crate::exchange::frame::ChannelKey;
use crate::exchange::input_gate::InputGate;
use crate::exchange::local::LocalQueue;
use crate::exchange::partitioner::Partitioner;
use crate::exchange::remote::{RemoteReceiver, SenderHandle};
use crate::exchange::result_partition::ResultPartition;
use crate::exchange::ring::{Consumer, Producer};
use crate::operator::Operator;
use crate::operator::chain::{Chain, ChainNode, Output, SideOutputId};
use crate::runtime::context::OpenContext;
use crate::runtime::core::ConnectionId;
use crate::runtime::doorbell::Doorbell;
use crate::source::alignment::AlignmentCell;
use crate::source::watermark::{SplitWatermarks, WatermarkPolicy};
use crate::source::{SourceReader, TimestampAssigner};
use crate::subtask::{Alignment, Head, Subtask};

/// The core's own tables, which complete the wiring.
pub trait Wiring {
    /// The queue of a channel inside the core; both ends ask for it. The one that comes first says how many buffers it holds.
    fn local_queue(&mut self, key: ChannelKey, road: usize) -> LocalQueue;
    /// Opens a channel on a connection, with `road` filled buffers at most.
    ///
    /// # Errors
    /// The connection is gone.
    fn open_remote(
        &mut self,
        connection: ConnectionId,
        key: ChannelKey,
        road: usize,
    ) -> Result<SenderHandle>;
    /// Expects a channel from another process, and grants it `credit`.
    fn expect_remote(&mut self, key: ChannelKey, credit: u32) -> Rc<RemoteReceiver>;
}

/// The producer's end of a channel, before it is on its core.
#[derive(Debug)]
pub enum SenderSpec {
    /// To a subtask of the same core, with so many filled buffers at most.
    Local(ChannelKey, usize),
    /// To another core of this process.
    CrossCore(Producer<Buffer>, Arc<Doorbell>),
    /// To another process, over a connection that the core has, with so many filled buffers at most.
    Remote(ConnectionId, ChannelKey, usize),
}

/// The consumer's end of a channel, before it is on its core.
#[derive(Debug)]
pub enum ReceiverSpec {
    /// From a subtask of the same core, with so many filled buffers at most.
    Local(ChannelKey, usize),
    /// From another core of this process.
    CrossCore(Consumer<Buffer>, Arc<Doorbell>),
    /// From another process, which gets so much credit.
    Remote(ChannelKey, u32),
}

/// What is behind an operator.
#[allow(missing_debug_implementations, reason = "holds boxed operators")]
pub enum OutputSpec {
    /// Another operator of the chain: its name, the operator, what is behind it.
    Chained(String, Box<dyn Operator>, Box<OutputSpec>),
    /// Another subtask: how records are spread, the channels with the TaskManagers at their other ends.
    Partition(Partitioner, Vec<(SenderSpec, String)>),
    /// Each of these.
    Several(Vec<OutputSpec>),
    /// The main output, and side outputs.
    Sides(Box<OutputSpec>, Vec<(SideOutputId, OutputSpec)>),
    /// Nothing.
    End,
}

/// Where the records come from.
#[allow(missing_debug_implementations, reason = "holds boxed readers")]
pub enum HeadSpec {
    /// A source: reader, watermarks, timestamps, number of splits, and what it shares with the control thread where it is aligned
    /// with others.
    Source(
        Box<dyn SourceReader>,
        WatermarkPolicy,
        Option<TimestampAssigner>,
        usize,
        Option<Arc<AlignmentCell>>,
    ),
    /// Input channels, with the TaskManagers at their other ends and the input of the first operator that they lead to.
    Gate(Vec<(ReceiverSpec, String, u8)>),
}

/// One subtask to run.
#[allow(missing_debug_implementations, reason = "holds boxed operators")]
pub struct SubtaskSpec {
    /// Which attempt.
    pub attempt: ExecutionAttemptId,
    /// Name of the source, for messages; unused where there is a gate.
    pub source_name: String,
    /// Number of subtasks of its vertex.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// How long its partly filled output buffers may wait for more; `None`: until it runs out of input.
    pub buffer_timeout_ns: Option<NonZeroU64>,
    /// Input.
    pub head: HeadSpec,
    /// Chain and outputs.
    pub output: OutputSpec,
}

impl SubtaskSpec {
    /// What an aligned source shares with the control thread, and how often it is to be asked.
    #[must_use]
    pub fn alignment(&self) -> Option<(&Arc<AlignmentCell>, Duration)> {
        let HeadSpec::Source(_, policy, _, _, Some(cell)) = &self.head else {
            return None;
        };
        Some((cell, policy.alignment.as_ref()?.update_interval))
    }

    /// Builds and opens the subtask on its core.
    ///
    /// # Errors
    /// An operator or reader cannot start, or a connection is gone.
    pub fn open(
        self,
        context: &OpenContext,
        pool: &BufferPool,
        wiring: &mut dyn Wiring,
    ) -> Result<Subtask> {
        // Inputs first: a producer on the same core then finds its consumers' queues.
        let head = match self.head {
            HeadSpec::Source(mut reader, policy, assigner, splits, alignment) => {
                reader
                    .open(context.doorbell.as_raw_fd())
                    .map_err(|error| error.at_operator(&self.source_name))?;
                let watermarks = SplitWatermarks::new(policy, splits, context.clock.now_ns());
                Head::Source {
                    name: self.source_name.clone(),
                    reader,
                    watermarks,
                    assigner,
                    alignment: alignment.map(Alignment::new),
                }
            }
            HeadSpec::Gate(inputs) => {
                let roads = inputs
                    .into_iter()
                    .map(|(spec, peer, input)| (receiver(spec, wiring), peer, input))
                    .collect();
                Head::Gate {
                    gate: InputGate::new(roads),
                    current: None,
                }
            }
        };
        let mut chain = Chain::new(output(
            self.output,
            self.buffer_timeout_ns,
            context,
            pool,
            wiring,
        )?);
        chain.open(context)?;
        Ok(Subtask::new(
            self.attempt,
            head,
            chain,
            Rc::clone(&context.metrics),
            Rc::clone(&context.clock),
        ))
    }
}

fn receiver(spec: ReceiverSpec, wiring: &mut dyn Wiring) -> ChannelReceiver {
    match spec {
        ReceiverSpec::Local(key, road) => ChannelReceiver::Local(wiring.local_queue(key, road)),
        ReceiverSpec::CrossCore(consumer, doorbell) => {
            ChannelReceiver::CrossCore(consumer, doorbell)
        }
        ReceiverSpec::Remote(key, credit) => {
            ChannelReceiver::Remote(wiring.expect_remote(key, credit))
        }
    }
}

fn output(
    spec: OutputSpec,
    buffer_timeout_ns: Option<NonZeroU64>,
    context: &OpenContext,
    pool: &BufferPool,
    wiring: &mut dyn Wiring,
) -> Result<Output> {
    Ok(match spec {
        OutputSpec::Chained(name, operator, behind) => {
            let behind = output(*behind, buffer_timeout_ns, context, pool, wiring)?;
            Output::Chained(Box::new(ChainNode::new(name, operator, behind)))
        }
        OutputSpec::Partition(partitioner, channels) => {
            let mut roads = Vec::with_capacity(channels.len());
            for (spec, peer) in channels {
                let sender = match spec {
                    SenderSpec::Local(key, road) => {
                        ChannelSender::Local(wiring.local_queue(key, road))
                    }
                    SenderSpec::CrossCore(producer, doorbell) => {
                        ChannelSender::CrossCore(producer, doorbell)
                    }
                    SenderSpec::Remote(connection, key, road) => {
                        ChannelSender::Remote(wiring.open_remote(connection, key, road)?)
                    }
                };
                roads.push((sender, peer));
            }
            let metrics = Rc::clone(&context.metrics);
            Output::Partition(Box::new(ResultPartition::new(
                partitioner,
                roads,
                buffer_timeout_ns,
                pool.clone(),
                metrics,
            )))
        }
        OutputSpec::Several(specs) => {
            let mut outputs = Vec::with_capacity(specs.len());
            for spec in specs {
                outputs.push(output(spec, buffer_timeout_ns, context, pool, wiring)?);
            }
            Output::Several(outputs)
        }
        OutputSpec::Sides(main, specs) => {
            let main = Box::new(output(*main, buffer_timeout_ns, context, pool, wiring)?);
            let mut sides = Vec::with_capacity(specs.len());
            for (id, spec) in specs {
                sides.push((id, output(spec, buffer_timeout_ns, context, pool, wiring)?));
            }
            Output::Sides(main, sides)
        }
        OutputSpec::End => Output::End,
    })
}
