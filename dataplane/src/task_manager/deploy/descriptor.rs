//! What a deployment message says, read once.
//!
//! Owns: [`Deployment`], [`SubtaskPlan`], [`Peer`]. Invariant: operators, and edges inside chains, are those of the
//! graph; counts of buffers and the buffer timeout are within their limits.
//! Left out: whether code and slots are there for it ([`super::building`], [`super::wiring`]).

use std::num::NonZeroU64;

use ringflow_schemas::control as wire_format;
use ringflow_schemas::graph::{OperatorKind, Partitioner as WirePartitioner, StreamGraph};
use ringflow_schemas::id::ExecutionAttemptId;
use ringflow_schemas::network::{BUFFER_TIMEOUT_NS_MAX, CREDIT_MAX, ROAD_BUFFERS_MAX};
use ringflow_schemas::rpc::{FromJobManager, Message};

use crate::error::{Error, Result};
use crate::exchange::frame::ChannelKey;
use crate::runtime::context::SplitAssignment;

/// The other end of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer {
    /// TaskManager.
    pub task_manager_id: String,
    /// Its core.
    pub core: u32,
    /// Where that core listens, when it consumes.
    pub address: (String, u16),
}

/// A channel between a subtask here and one anywhere.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) key: ChannelKey,
    pub(super) peer: Peer,
}

/// A channel that ends here.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) channel: Channel,
    /// Frames that the consumer grants a peer in another process; 1..=`CREDIT_MAX`.
    pub(super) credit: u32,
    pub(super) edge: u32,
}

/// A result partition of an operator here.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) edge: u32,
    pub(super) operator: u32,
    pub(super) partitioner: WirePartitioner,
    pub(super) max_parallelism: u32,
    /// Filled buffers that may wait on the road of each channel; 1..=`ROAD_BUFFERS_MAX`.
    pub(super) road_buffers: u32,
    pub(super) channels: Vec<Channel>,
}

/// An edge inside a chain.
#[derive(Debug)]
pub(super) struct ChainedEdge {
    pub(super) edge: u32,
    pub(super) source: u32,
    pub(super) target: u32,
}

/// One subtask as described.
#[derive(Debug)]
pub struct SubtaskPlan {
    /// Which attempt.
    pub attempt: ExecutionAttemptId,
    /// Slot it goes to.
    pub slot: u32,
    pub(super) parallelism: u32,
    pub(super) max_parallelism: u32,
    pub(super) operators: Vec<u32>,
    pub(super) chained: Vec<ChainedEdge>,
    pub(super) inputs: Vec<Input>,
    pub(super) outputs: Vec<Output>,
    pub(super) splits: Vec<SplitAssignment>,
    /// Its operators do not run again.
    pub(super) finished_before: bool,
}

/// An operator of the graph.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) is_source: bool,
}

/// All subtasks of a job for this TaskManager.
#[derive(Debug)]
pub struct Deployment {
    message: Message<FromJobManager>,
    pub(super) nodes: Vec<Node>,
    pub(super) buffer_timeout_ns: Option<NonZeroU64>,
    /// The subtasks.
    pub subtasks: Vec<SubtaskPlan>,
}

impl Deployment {
    /// Reads a deployment; `None` when the message is another.
    ///
    /// # Errors
    /// Descriptors that contradict the graph.
    pub fn parse(message: &Message<FromJobManager>) -> Option<Result<Self>> {
        let deploy = message.get().payload_as_deploy_subtasks()?;
        Some(Self::read(message, deploy))
    }

    /// Attempts that a deployment speaks of, even if the rest of it cannot be read.
    #[must_use]
    pub fn attempts(message: &Message<FromJobManager>) -> Vec<ExecutionAttemptId> {
        let deploy = message.get().payload_as_deploy_subtasks();
        deploy.map_or_else(Vec::new, |deploy| {
            deploy
                .subtasks()
                .iter()
                .map(|subtask| subtask.attempt().into())
                .collect()
        })
    }

    fn read(
        message: &Message<FromJobManager>,
        deploy: wire_format::DeploySubtasks<'_>,
    ) -> Result<Self> {
        let graph = deploy.graph();
        let node = |node: ringflow_schemas::graph::StreamNode<'_>| Node {
            name: node.name().to_owned(),
            is_source: node.kind() == OperatorKind::Source,
        };
        let nodes: Vec<Node> = graph.nodes().iter().map(node).collect();
        let subtasks = deploy
            .subtasks()
            .iter()
            .map(|subtask| read_subtask(subtask, graph, nodes.len()));
        let subtasks = subtasks.collect::<Result<Vec<_>>>()?;
        let buffer_timeout_ns = graph.buffer_timeout_ns();
        if buffer_timeout_ns > BUFFER_TIMEOUT_NS_MAX {
            return Err(Error::deployment(format!(
                "a buffer timeout of {buffer_timeout_ns} ns is more than {BUFFER_TIMEOUT_NS_MAX} ns: JobManager and \
                 TaskManager must be of one version"
            )));
        }
        Ok(Self {
            message: message.clone(),
            nodes,
            buffer_timeout_ns: NonZeroU64::new(buffer_timeout_ns),
            subtasks,
        })
    }

    /// The graph of the whole job.
    pub(super) fn graph(&self) -> Result<StreamGraph<'_>> {
        let deploy = self.message.get().payload_as_deploy_subtasks();
        Ok(deploy
            .ok_or_else(|| Error::deployment("not a deployment"))?
            .graph())
    }

    /// Channels that leave this process: the core here, and the peer.
    pub fn remote_outputs<'a>(
        &'a self,
        me: &'a str,
        slots: &'a [u32],
    ) -> impl Iterator<Item = (u32, &'a Peer)> {
        self.subtasks.iter().flat_map(move |subtask| {
            let core = slots.get(subtask.slot as usize).copied().unwrap_or(0);
            let channels = subtask.outputs.iter().flat_map(|output| &output.channels);
            channels
                .filter(move |channel| channel.peer.task_manager_id != me)
                .map(move |channel| (core, &channel.peer))
        })
    }
}

fn read_subtask(
    subtask: wire_format::SubtaskDescriptor<'_>,
    graph: StreamGraph<'_>,
    nodes: usize,
) -> Result<SubtaskPlan> {
    let operators: Vec<u32> = subtask.operators().iter().collect();
    let edges = graph.edges();
    if operators.is_empty() || operators.iter().any(|operator| *operator as usize >= nodes) {
        return Err(Error::deployment(format!(
            "a chain of operators {operators:?} in a graph of {nodes}"
        )));
    }
    let mut chained = Vec::new();
    for id in subtask.chained_edges() {
        if id as usize >= edges.len() {
            return Err(Error::deployment(format!(
                "edge {id} in a graph of {} edges",
                edges.len()
            )));
        }
        let edge = edges.get(id as usize);
        chained.push(ChainedEdge {
            edge: id,
            source: edge.source(),
            target: edge.target(),
        });
    }
    let channel = |edge: u32, channel: wire_format::ChannelDescriptor<'_>| Channel {
        key: ChannelKey::new(edge, &channel.producer().into(), &channel.consumer().into()),
        peer: Peer {
            task_manager_id: channel.peer_task_manager_id().to_owned(),
            core: channel.peer_core(),
            address: (
                channel.peer_host().unwrap_or_default().to_owned(),
                channel.peer_port(),
            ),
        },
    };
    let mut inputs = Vec::new();
    for gate in subtask.inputs() {
        let credit = within("credit", gate.credit(), CREDIT_MAX, gate.edge())?;
        let channels = gate.channels().iter();
        inputs.extend(channels.map(|descriptor| Input {
            channel: channel(gate.edge(), descriptor),
            credit,
            edge: gate.edge(),
        }));
    }
    let mut outputs = Vec::new();
    for output in subtask.outputs() {
        let road_buffers = output.road_buffers();
        outputs.push(Output {
            edge: output.edge(),
            operator: output.operator(),
            partitioner: output.partitioner(),
            max_parallelism: output.max_parallelism(),
            road_buffers: within(
                "road_buffers",
                road_buffers,
                ROAD_BUFFERS_MAX,
                output.edge(),
            )?,
            channels: output
                .channels()
                .iter()
                .map(|descriptor| channel(output.edge(), descriptor))
                .collect(),
        });
    }
    let splits = subtask
        .splits()
        .into_iter()
        .flatten()
        .map(|split| SplitAssignment {
            topic: split.topic().to_owned(),
            kafka_partition: split.partition(),
        });
    Ok(SubtaskPlan {
        attempt: subtask.attempt().into(),
        slot: subtask.slot(),
        parallelism: subtask.parallelism(),
        max_parallelism: subtask.max_parallelism(),
        operators,
        chained,
        inputs,
        outputs,
        splits: splits.collect(),
        finished_before: subtask.finished_before(),
    })
}

/// A number of buffers of edge `edge`, 1..=`most`.
fn within(what: &str, count: u32, most: u32, edge: u32) -> Result<u32> {
    if (1..=most).contains(&count) {
        return Ok(count);
    }
    Err(Error::deployment(format!(
        "{what} {count} of edge {edge} is not within 1..={most}: JobManager and TaskManager must be of one version"
    )))
}
