//! From placed executions to what each TaskManager is told.
//!
//! Owns: descriptors and the wiring of channels; one [`Deployment`] per TaskManager holds everything of the job for it.
//! Invariant: both ends of a channel are described, each with the address of the other; channels of a gate stand in
//! order of producers, those of a result partition in order of consumers.
//! Left out: encoding (wire/).

use std::collections::BTreeMap;
use std::sync::Arc;

use ringflow_schemas::id::JobId;
use ringflow_schemas::network::NetworkLevel;

use crate::command::{Channel, Deployment, InputGate, ResultPartition, SubtaskDescriptor};
use crate::event::ConnectionId;
use crate::graph::StreamGraph;
use crate::graph::execution_graph::{Execution, ExecutionGraph, Placement};
use crate::graph::job_graph::{JobEdge, JobGraph, JobVertex};
use crate::graph::stream_graph::SourceSplit;
use crate::graph::wiring;
use crate::submit::splits;

/// What each TaskManager runs, all channels at `level`. Executions without a placement are left out; there are none when a job
/// is deployed.
pub(crate) fn deployments(
    job: JobId,
    graph: &Arc<StreamGraph>,
    job_graph: &JobGraph,
    executions: &ExecutionGraph,
    level: NetworkLevel,
) -> BTreeMap<ConnectionId, Deployment> {
    let mut deployments = BTreeMap::new();
    for (index, vertex) in (0u32..).zip(&job_graph.vertices) {
        let name: Arc<str> = vertex.name.as_str().into();
        let mut splits = splits::assign(&vertex.splits, vertex.parallelism);
        for execution in executions.vertex(index) {
            let Some(placement) = &execution.placement else {
                continue;
            };
            let splits = splits
                .get_mut(execution.id.subtask as usize)
                .map(std::mem::take)
                .unwrap_or_default();
            let wiring = Wiring {
                job_graph,
                executions,
                execution,
                level,
            };
            deployments
                .entry(placement.slot.connection)
                .or_insert_with(|| Deployment {
                    job,
                    graph: Arc::clone(graph),
                    subtasks: Vec::new(),
                })
                .subtasks
                .push(wiring.descriptor(vertex, Arc::clone(&name), placement, splits));
        }
    }
    deployments
}

/// The surroundings of one execution.
struct Wiring<'a> {
    job_graph: &'a JobGraph,
    executions: &'a ExecutionGraph,
    execution: &'a Execution,
    level: NetworkLevel,
}

impl Wiring<'_> {
    fn descriptor(
        &self,
        vertex: &JobVertex,
        vertex_name: Arc<str>,
        placement: &Placement,
        splits: Vec<SourceSplit>,
    ) -> SubtaskDescriptor {
        let edges = |indexes: &[usize]| {
            indexes
                .iter()
                .map(|&index| &self.job_graph.edges[index])
                .collect::<Vec<_>>()
        };
        SubtaskDescriptor {
            attempt: self.execution.id,
            slot: placement.slot.slot,
            vertex_name,
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            operators: vertex.operators.clone(),
            chained_edges: vertex.chained_edges.clone(),
            inputs: edges(&vertex.inputs)
                .into_iter()
                .map(|edge| self.input(edge))
                .collect(),
            outputs: edges(&vertex.outputs)
                .into_iter()
                .map(|edge| self.output(edge))
                .collect(),
            splits,
            // Jobs start anew; there is nothing to restore from yet.
            finished_before: false,
        }
    }

    fn input(&self, edge: &JobEdge) -> InputGate {
        let (producers, consumers) = self.ends(edge);
        let range = wiring::producers_of(
            edge.partitioner,
            self.execution.id.subtask,
            count(producers),
            count(consumers),
        );
        let channels = range
            .filter_map(|producer| producers.get(producer as usize))
            .filter_map(|producer| {
                let peer = producer.placement.as_ref()?;
                Some(Channel {
                    producer: producer.id,
                    consumer: self.execution.id,
                    peer_task_manager_id: Arc::clone(&peer.task_manager.id),
                    peer_core: peer.core,
                    peer_address: None,
                })
            })
            .collect();
        InputGate {
            edge: edge.edge,
            operator: edge.target_operator,
            credit: self.level.credit,
            channels,
        }
    }

    fn output(&self, edge: &JobEdge) -> ResultPartition {
        let (producers, consumers) = self.ends(edge);
        let range = wiring::consumers_of(
            edge.partitioner,
            self.execution.id.subtask,
            count(producers),
            count(consumers),
        );
        let channels = range
            .filter_map(|consumer| consumers.get(consumer as usize))
            .filter_map(|consumer| {
                let peer = consumer.placement.as_ref()?;
                let port = peer
                    .task_manager
                    .data_ports
                    .get(peer.core as usize)
                    .copied();
                Some(Channel {
                    producer: self.execution.id,
                    consumer: consumer.id,
                    peer_task_manager_id: Arc::clone(&peer.task_manager.id),
                    peer_core: peer.core,
                    peer_address: port.map(|port| (Arc::clone(&peer.task_manager.host), port)),
                })
            })
            .collect();
        ResultPartition {
            edge: edge.edge,
            operator: edge.source_operator,
            partitioner: edge.partitioner,
            max_parallelism: self.job_graph.vertices[edge.consumer as usize].max_parallelism,
            road_buffers: self.level.road,
            channels,
        }
    }

    fn ends(&self, edge: &JobEdge) -> (&[Execution], &[Execution]) {
        (
            self.executions.vertex(edge.producer),
            self.executions.vertex(edge.consumer),
        )
    }
}

fn count(executions: &[Execution]) -> u32 {
    u32::try_from(executions.len()).unwrap_or(u32::MAX)
}
