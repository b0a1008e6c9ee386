//! From built operators to subtasks that a core can run.
//!
//! Owns: [`wire`], and what is left when it fails ([`Unwired`], [`Leftover`]). Invariant: every operator that was built
//! is either in a spec or given back, since dropping it may block and this runs on the control thread.
//! Left out: the ends of channels ([`super::channels`]); handing specs to cores.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::exchange::partitioner::Partitioner;
use crate::operator::chain::SideOutputId;
use crate::program::{EdgeCode, NodeCode, Topology};
use crate::runtime::core::{ConnectionId, CoreHandle};
use crate::subtask::finished;
use crate::subtask::spec::{HeadSpec, OutputSpec, SubtaskSpec};

use super::building::{Built, BuiltDeployment};
use super::channels::{Channels, Rings};
use super::descriptor::{ChainedEdge, Deployment, Input, Node, Output, Peer, SubtaskPlan};

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
                channels: Channels {
                    me,
                    core,
                    cores,
                    rings: &mut rings,
                    connection: &connection,
                },
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

/// Makes the specs of subtasks of one core.
struct Wire<'a> {
    channels: Channels<'a>,
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
                self.channels.receiver(channel, *credit)?,
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
                self.channels.sender(channel, output.road_buffers)?,
                channel.peer.task_manager_id.clone(),
            ));
        }
        Ok(OutputSpec::Partition(partitioner, channels))
    }
}
