//! From a deployment message to subtasks on cores.
//!
//! Owns: reading descriptors into inner types ([`Deployment::parse`]), building operators on housekeeping threads
//! ([`build`]), wiring channels inside the process ([`wire`]).
//! Invariant: nothing starts unless every subtask of the deployment could be built; all channels inside the process are
//! wired before the first subtask reaches its core.
//! Left out: connections to other processes (made before, by the control client).

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use ringflow_schemas::control as wire_format;
use ringflow_schemas::graph::{OperatorKind, Partitioner as WirePartitioner, StreamGraph};
use ringflow_schemas::id::ExecutionAttemptId;
use ringflow_schemas::network::{
    BUFFER_TIMEOUT_NS_MAX, CREDIT_MAX, NetworkLevel, ROAD_BUFFERS_MAX,
};
use ringflow_schemas::rpc::{FromJobManager, Message};

use crate::error::{Error, Result};
use crate::exchange::frame::ChannelKey;
use crate::exchange::partitioner::Partitioner;
use crate::exchange::ring;
use crate::operator::Operator;
use crate::operator::chain::SideOutputId;
use crate::program::{EdgeCode, NodeCode, ProgramResolver, Topology};
use crate::runtime::context::{PrepareContext, SplitAssignment};
use crate::runtime::core::{ConnectionId, CoreHandle};
use crate::runtime::housekeeping::Housekeeping;
use crate::source::SourceReader;
use crate::subtask::finished;
use crate::subtask::spec::{HeadSpec, OutputSpec, ReceiverSpec, SenderSpec, SubtaskSpec};

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

#[derive(Debug)]
struct Channel {
    key: ChannelKey,
    peer: Peer,
}

/// A channel that ends here.
#[derive(Debug)]
struct Input {
    channel: Channel,
    /// Frames that the consumer grants a peer in another process; 1..=`CREDIT_MAX`.
    credit: u32,
    edge: u32,
}

#[derive(Debug)]
struct Output {
    edge: u32,
    operator: u32,
    partitioner: WirePartitioner,
    max_parallelism: u32,
    /// Filled buffers that may wait on the road of each channel; 1..=`ROAD_BUFFERS_MAX`.
    road_buffers: u32,
    channels: Vec<Channel>,
}

/// An edge inside a chain.
#[derive(Debug)]
struct ChainedEdge {
    edge: u32,
    source: u32,
    target: u32,
}

/// One subtask as described.
#[derive(Debug)]
pub struct SubtaskPlan {
    /// Which attempt.
    pub attempt: ExecutionAttemptId,
    /// Slot it goes to.
    pub slot: u32,
    parallelism: u32,
    max_parallelism: u32,
    operators: Vec<u32>,
    chained: Vec<ChainedEdge>,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    splits: Vec<SplitAssignment>,
    /// Its operators do not run again.
    finished_before: bool,
}

#[derive(Debug)]
struct Node {
    name: String,
    is_source: bool,
}

/// All subtasks of a job for this TaskManager.
#[derive(Debug)]
pub struct Deployment {
    message: Message<FromJobManager>,
    nodes: Vec<Node>,
    buffer_timeout_ns: Option<NonZeroU64>,
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

    fn graph(&self) -> Result<StreamGraph<'_>> {
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

/// The code of one subtask, built.
struct Built {
    reader: Option<Box<dyn SourceReader>>,
    operators: HashMap<u32, Box<dyn Operator>>,
}

/// A deployment whose operators exist.
#[allow(missing_debug_implementations, reason = "holds boxed operators")]
pub struct BuiltDeployment {
    /// What was described.
    pub deployment: Deployment,
    topology: Arc<Topology>,
    built: Vec<Built>,
}

/// Finds the code and builds every operator. Runs on a housekeeping thread; may block for seconds.
///
/// # Errors
/// The program is unknown or differs from the client's, or a source or sink cannot reach its outside.
pub fn build(
    deployment: Deployment,
    resolver: &dyn ProgramResolver,
    housekeeping: &Housekeeping,
) -> Result<BuiltDeployment> {
    let graph = deployment.graph()?;
    let topology = resolver
        .resolve(graph.program())
        .map_err(Error::deployment)?;
    if topology.hash != graph.hash() || topology.nodes.len() != deployment.nodes.len() {
        return Err(Error::deployment(format!(
            "program `{}` builds another graph here ({:016x}) than at the client ({:016x}): run the same build with the same \
             arguments everywhere",
            graph.program().name(),
            topology.hash,
            graph.hash()
        )));
    }
    let built = deployment
        .subtasks
        .iter()
        .map(|plan| build_subtask(plan, &deployment.nodes, &topology, housekeeping));
    let built = built.collect::<Result<Vec<_>>>()?;
    Ok(BuiltDeployment {
        deployment,
        topology,
        built,
    })
}

fn build_subtask(
    plan: &SubtaskPlan,
    nodes: &[Node],
    topology: &Topology,
    housekeeping: &Housekeeping,
) -> Result<Built> {
    let mut built = Built {
        reader: None,
        operators: HashMap::new(),
    };
    if plan.finished_before {
        return Ok(built);
    }
    for id in &plan.operators {
        let (node, code) = (&nodes[*id as usize], &topology.nodes[*id as usize]);
        let context = PrepareContext {
            operator_name: node.name.clone(),
            subtask_index: plan.attempt.subtask,
            parallelism: plan.parallelism,
            max_parallelism: plan.max_parallelism,
            splits: plan.splits.clone(),
            housekeeping: housekeeping.clone(),
        };
        let named = |error: Error| error.at_operator(&node.name);
        match code {
            NodeCode::Source { factory, .. } => {
                built.reader = Some(factory.prepare(&context).map_err(named)?)
            }
            NodeCode::Operator(factory) => {
                built
                    .operators
                    .insert(*id, factory.prepare(&context).map_err(named)?);
            }
        }
    }
    Ok(built)
}

/// A deployment that could not be wired, with all that was built for it.
#[allow(missing_debug_implementations, reason = "holds boxed operators")]
pub struct Unwired {
    /// Why.
    pub error: Error,
    /// Dropping it may block.
    pub leftover: Leftover,
}

/// What was built and does not run: in its subtasks' operators, in specs, and in chains that were begun.
#[allow(missing_debug_implementations, reason = "holds boxed operators")]
#[allow(dead_code, reason = "held only to be dropped on another thread")]
pub struct Leftover {
    built: Vec<Built>,
    specs: Vec<(u32, SubtaskSpec)>,
    scraps: Vec<OutputSpec>,
}

/// Makes specs of everything and wires the channels inside the process. `slots` maps slots to cores, `connection` finds
/// the connection of a core to a peer.
///
/// # Errors
/// A slot that does not exist, or a descriptor that contradicts the code; with what was built.
pub fn wire(
    built: BuiltDeployment,
    me: &str,
    slots: &[u32],
    cores: &[CoreHandle],
    connection: impl Fn(u32, &Peer) -> Option<ConnectionId>,
) -> std::result::Result<Vec<(u32, SubtaskSpec)>, Box<Unwired>> {
    let BuiltDeployment {
        deployment,
        topology,
        mut built,
    } = built;
    let (mut rings, mut scraps) = (Rings::default(), Vec::new());
    let mut specs = Vec::new();
    for (plan, code) in deployment.subtasks.iter().zip(&mut built) {
        let core = slots.get(plan.slot as usize).copied();
        let core = core.ok_or_else(|| {
            Error::deployment(format!("slot {} of {} slots", plan.slot, slots.len()))
        });
        let wired = core.and_then(|core| {
            let mut wiring = Wire {
                me,
                core,
                cores,
                rings: &mut rings,
                connection: &connection,
                scraps: &mut scraps,
            };
            let spec = wiring.subtask(plan, code, &deployment, &topology)?;
            Ok((core, spec))
        });
        match wired {
            Ok(spec) => specs.push(spec),
            Err(error) => {
                let leftover = Leftover {
                    built,
                    specs,
                    scraps,
                };
                return Err(Box::new(Unwired { error, leftover }));
            }
        }
    }
    Ok(specs)
}

fn edge_code(topology: &Topology, edge: u32) -> Option<&EdgeCode> {
    topology.edges.get(edge as usize)
}

/// The connection to `peer` is gone.
pub(super) fn not_connected(peer: &Peer) -> Error {
    let message = format!("no data connection to TaskManager {}", peer.task_manager_id);
    Error::peer_lost(&peer.task_manager_id, message)
}

type Half<T> = HashMap<ChannelKey, T>;

/// Places of a road; a ring wants a power of two.
fn places(road: u32) -> usize {
    usize::try_from(road.next_power_of_two()).unwrap_or(1)
}

/// Rings of which one end has been given out.
#[derive(Default)]
struct Rings {
    producers: Half<ring::Producer<crate::batch::Buffer>>,
    consumers: Half<ring::Consumer<crate::batch::Buffer>>,
}

impl Rings {
    fn producer(&mut self, key: ChannelKey, road: u32) -> ring::Producer<crate::batch::Buffer> {
        self.producers.remove(&key).unwrap_or_else(|| {
            let (producer, consumer) = ring::ring(places(road));
            self.consumers.insert(key, consumer);
            producer
        })
    }

    fn consumer(&mut self, key: ChannelKey, road: u32) -> ring::Consumer<crate::batch::Buffer> {
        self.consumers.remove(&key).unwrap_or_else(|| {
            let (producer, consumer) = ring::ring(places(road));
            self.producers.insert(key, producer);
            consumer
        })
    }
}

struct Wire<'a> {
    me: &'a str,
    core: u32,
    cores: &'a [CoreHandle],
    rings: &'a mut Rings,
    connection: &'a dyn Fn(u32, &Peer) -> Option<ConnectionId>,
    /// Operators of a chain that could not be finished.
    scraps: &'a mut Vec<OutputSpec>,
}

impl Wire<'_> {
    fn subtask(
        &mut self,
        plan: &SubtaskPlan,
        code: &mut Built,
        deployment: &Deployment,
        topology: &Topology,
    ) -> Result<SubtaskSpec> {
        let nodes = &deployment.nodes;
        let head_id = plan.operators[0];
        let head_node = &nodes[head_id as usize];
        let (head, output) = if plan.finished_before {
            let head = if head_node.is_source {
                finished::source()
            } else {
                self.gate(plan, topology)?
            };
            let partitions = plan.outputs.iter();
            let partitions = partitions.map(|output| self.partition(output, plan, topology));
            let partitions = partitions.collect::<Result<Vec<_>>>()?;
            (head, finished::output(&head_node.name, partitions))
        } else if head_node.is_source {
            let NodeCode::Source {
                factory,
                watermarks,
                assigner,
            } = &topology.nodes[head_id as usize]
            else {
                return Err(Error::deployment(format!(
                    "`{}` is a source in the graph and none in the code",
                    head_node.name
                )));
            };
            let splits = if factory.divides_itself() {
                1
            } else {
                plan.splits.len()
            };
            let output = self.behind(head_id, plan, code, nodes, topology)?;
            let Some(reader) = code.reader.take() else {
                self.scraps.push(output);
                return Err(Error::deployment("a source without a reader"));
            };
            (
                HeadSpec::Source(
                    reader,
                    watermarks.clone(),
                    assigner.clone(),
                    splits,
                    watermarks.alignment.as_ref().map(|_| Arc::default()),
                ),
                output,
            )
        } else {
            (
                self.gate(plan, topology)?,
                self.node(head_id, plan, code, nodes, topology)?,
            )
        };
        Ok(SubtaskSpec {
            attempt: plan.attempt,
            source_name: head_node.name.clone(),
            parallelism: plan.parallelism,
            max_parallelism: plan.max_parallelism,
            buffer_timeout_ns: deployment.buffer_timeout_ns,
            head,
            output,
        })
    }

    fn gate(&mut self, plan: &SubtaskPlan, topology: &Topology) -> Result<HeadSpec> {
        let mut inputs = Vec::new();
        for Input {
            channel,
            credit,
            edge,
        } in &plan.inputs
        {
            inputs.push((
                self.receiver(channel, *credit)?,
                channel.peer.task_manager_id.clone(),
                edge_code(topology, *edge).map_or(0, |code| code.input),
            ));
        }
        Ok(HeadSpec::Gate(inputs))
    }

    fn node(
        &mut self,
        id: u32,
        plan: &SubtaskPlan,
        code: &mut Built,
        nodes: &[Node],
        topology: &Topology,
    ) -> Result<OutputSpec> {
        let name = nodes
            .get(id as usize)
            .map_or_else(String::new, |node| node.name.clone());
        let operator = code.operators.remove(&id);
        let operator = operator.ok_or_else(|| {
            Error::deployment(format!(
                "operator {id} `{name}` is chained twice or not at all"
            ))
        })?;
        match self.behind(id, plan, code, nodes, topology) {
            Ok(behind) => Ok(OutputSpec::Chained(name, operator, Box::new(behind))),
            Err(error) => {
                let end = Box::new(OutputSpec::End);
                self.scraps.push(OutputSpec::Chained(name, operator, end));
                Err(error)
            }
        }
    }

    /// What is behind operator `id`: its chained successors and its result partitions.
    fn behind(
        &mut self,
        id: u32,
        plan: &SubtaskPlan,
        code: &mut Built,
        nodes: &[Node],
        topology: &Topology,
    ) -> Result<OutputSpec> {
        let chained = plan.chained.iter().filter(|edge| edge.source == id);
        let partitions = plan.outputs.iter().filter(|output| output.operator == id);
        // In the order of the graph.
        let mut outputs: Vec<(Option<SideOutputId>, OutputSpec)> = Vec::new();
        let fill = || -> Result<()> {
            let side = |edge| edge_code(topology, edge).and_then(|code| code.side_output);
            for ChainedEdge { edge, target, .. } in chained {
                let node = self.node(*target, plan, code, nodes, topology)?;
                outputs.push((side(*edge), node));
            }
            for output in partitions {
                let partition = self.partition(output, plan, topology)?;
                outputs.push((side(output.edge), partition));
            }
            Ok(())
        };
        if let Err(error) = fill() {
            let specs = outputs.into_iter().map(|(_, spec)| spec);
            self.scraps.extend(specs);
            return Err(error);
        }
        let mut grouped: Vec<(Option<SideOutputId>, Vec<OutputSpec>)> = Vec::new();
        for (side, spec) in outputs {
            match grouped.iter_mut().find(|(output, _)| *output == side) {
                Some((_, specs)) => specs.push(spec),
                None => grouped.push((side, vec![spec])),
            }
        }
        let mut main = OutputSpec::End;
        let mut sides = Vec::new();
        for (side, mut specs) in grouped {
            let spec = match specs.len() {
                0 => OutputSpec::End,
                1 => specs.remove(0),
                _ => OutputSpec::Several(specs),
            };
            match side {
                None => main = spec,
                Some(id) => sides.push((id, spec)),
            }
        }
        Ok(if sides.is_empty() {
            main
        } else {
            OutputSpec::Sides(Box::new(main), sides)
        })
    }

    fn partition(
        &mut self,
        output: &Output,
        plan: &SubtaskPlan,
        topology: &Topology,
    ) -> Result<OutputSpec> {
        let routing = edge_code(topology, output.edge).map(|code| code.routing.clone());
        let seed = u64::from(plan.attempt.subtask);
        let count = output.channels.len();
        let partitioner = Partitioner::new(
            output.partitioner,
            count,
            output.max_parallelism,
            routing.unwrap_or_default(),
            seed,
        )?;
        let mut channels = Vec::new();
        for channel in &output.channels {
            channels.push((
                self.sender(channel, output.road_buffers)?,
                channel.peer.task_manager_id.clone(),
            ));
        }
        Ok(OutputSpec::Partition(partitioner, channels))
    }

    fn sender(&mut self, channel: &Channel, road: u32) -> Result<SenderSpec> {
        let peer = &channel.peer;
        if peer.task_manager_id != self.me {
            let id = (self.connection)(self.core, peer);
            let id = id.ok_or_else(|| not_connected(peer))?;
            return Ok(SenderSpec::Remote(id, channel.key, places(road)));
        }
        if peer.core == self.core {
            return Ok(SenderSpec::Local(channel.key, places(road)));
        }
        Ok(SenderSpec::CrossCore(
            self.rings.producer(channel.key, road),
            self.doorbell(peer.core)?,
        ))
    }

    /// A gate is told its credit only; a road inside the process has as many places as the level with that credit.
    fn receiver(&mut self, channel: &Channel, credit: u32) -> Result<ReceiverSpec> {
        let road = NetworkLevel::road_of(credit);
        let peer = &channel.peer;
        if peer.task_manager_id != self.me {
            return Ok(ReceiverSpec::Remote(channel.key, credit));
        }
        if peer.core == self.core {
            return Ok(ReceiverSpec::Local(channel.key, places(road)));
        }
        Ok(ReceiverSpec::CrossCore(
            self.rings.consumer(channel.key, road),
            self.doorbell(peer.core)?,
        ))
    }

    fn doorbell(&self, core: u32) -> Result<Arc<crate::runtime::doorbell::Doorbell>> {
        let found = self.cores.get(core as usize);
        found
            .map(|core| Arc::clone(core.doorbell()))
            .ok_or_else(|| Error::deployment(format!("no core {core} here")))
    }
}

#[cfg(test)]
mod tests;
