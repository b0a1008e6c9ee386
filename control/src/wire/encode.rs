//! From inner types to FlatBuffers.
//!
//! Strings that many descriptors share (TaskManager ids, hosts, vertex names) are written once per message.

use std::collections::HashMap;
use std::sync::Arc;

use flatbuffers::{FlatBufferBuilder, WIPOffset};
use ringflow_schemas::control as wire;
use ringflow_schemas::rpc;

use super::encode_graph::{partitioner, splits, stream_graph};
use crate::command::{
    Channel, Deployment, InputGate, ResultPartition, SubtaskDescriptor, ToTaskManager,
};

/// Writes what the JobManager says.
#[must_use]
pub fn encode_to_task_manager(message: &ToTaskManager) -> rpc::Message<rpc::FromJobManager> {
    rpc::Message::build(|builder| {
        let mut encoder = Encoder {
            builder,
            texts: HashMap::new(),
        };
        let (payload_type, payload) = encoder.payload(message);
        wire::JobManagerMessage::create(
            encoder.builder,
            &wire::JobManagerMessageArgs {
                payload_type,
                payload: Some(payload),
            },
        )
    })
}

/// A message being written, and the texts already in it.
struct Encoder<'m, 'b> {
    builder: &'m mut FlatBufferBuilder<'b>,
    texts: HashMap<Arc<str>, WIPOffset<&'b str>>,
}

impl<'b> Encoder<'_, 'b> {
    fn payload(
        &mut self,
        message: &ToTaskManager,
    ) -> (
        wire::JobManagerPayload,
        WIPOffset<flatbuffers::UnionWIPOffset>,
    ) {
        match message {
            ToTaskManager::Registered {
                cluster_id,
                leader_epoch,
                heartbeat_interval_ms,
                heartbeat_timeout_ms,
            } => {
                let cluster_id = self.builder.create_string(cluster_id);
                let registered = wire::Registered::create(
                    self.builder,
                    &wire::RegisteredArgs {
                        cluster_id: Some(cluster_id),
                        leader_epoch: *leader_epoch,
                        heartbeat_interval_ms: *heartbeat_interval_ms,
                        heartbeat_timeout_ms: *heartbeat_timeout_ms,
                    },
                );
                (
                    wire::JobManagerPayload::Registered,
                    registered.as_union_value(),
                )
            }
            ToTaskManager::RegistrationRefused { reason } => {
                let reason = self.builder.create_string(reason);
                let args = wire::RegistrationRefusedArgs {
                    reason: Some(reason),
                };
                let refused = wire::RegistrationRefused::create(self.builder, &args);
                (
                    wire::JobManagerPayload::RegistrationRefused,
                    refused.as_union_value(),
                )
            }
            ToTaskManager::DeploySubtasks(deployment) => (
                wire::JobManagerPayload::DeploySubtasks,
                self.deployment(deployment).as_union_value(),
            ),
            ToTaskManager::CancelSubtasks(attempts) => {
                let attempts: Vec<wire::ExecutionAttemptId> =
                    attempts.iter().map(|&id| id.into()).collect();
                let attempts = self.builder.create_vector(&attempts);
                let args = wire::CancelSubtasksArgs {
                    attempts: Some(attempts),
                };
                let cancel = wire::CancelSubtasks::create(self.builder, &args);
                (
                    wire::JobManagerPayload::CancelSubtasks,
                    cancel.as_union_value(),
                )
            }
            ToTaskManager::AlignSources { job, limits } => {
                let limits: Vec<wire::SourceLimit> = limits
                    .iter()
                    .map(|(vertex, max_watermark_ms)| {
                        wire::SourceLimit::new(*vertex, 0, *max_watermark_ms)
                    })
                    .collect();
                let limits = self.builder.create_vector(&limits);
                let args = wire::AlignSourcesArgs {
                    job: Some(&(*job).into()),
                    limits: Some(limits),
                };
                let align = wire::AlignSources::create(self.builder, &args);
                (
                    wire::JobManagerPayload::AlignSources,
                    align.as_union_value(),
                )
            }
            ToTaskManager::StopSubtasks { attempts, mode } => {
                let attempts: Vec<wire::ExecutionAttemptId> =
                    attempts.iter().map(|&id| id.into()).collect();
                let attempts = self.builder.create_vector(&attempts);
                let args = wire::StopSubtasksArgs {
                    attempts: Some(attempts),
                    drain: mode.drains(),
                };
                let stop = wire::StopSubtasks::create(self.builder, &args);
                (wire::JobManagerPayload::StopSubtasks, stop.as_union_value())
            }
            ToTaskManager::HeartbeatAck { leader_epoch } => {
                let args = wire::HeartbeatAckArgs {
                    leader_epoch: *leader_epoch,
                };
                let ack = wire::HeartbeatAck::create(self.builder, &args);
                (wire::JobManagerPayload::HeartbeatAck, ack.as_union_value())
            }
        }
    }

    fn deployment(&mut self, deployment: &Deployment) -> WIPOffset<wire::DeploySubtasks<'b>> {
        let graph = stream_graph(self.builder, &deployment.graph);
        let subtasks: Vec<_> = deployment
            .subtasks
            .iter()
            .map(|subtask| self.subtask(subtask))
            .collect();
        let subtasks = self.builder.create_vector(&subtasks);
        let job = deployment.job.into();
        wire::DeploySubtasks::create(
            self.builder,
            &wire::DeploySubtasksArgs {
                job: Some(&job),
                graph: Some(graph),
                subtasks: Some(subtasks),
            },
        )
    }

    fn subtask(&mut self, subtask: &SubtaskDescriptor) -> WIPOffset<wire::SubtaskDescriptor<'b>> {
        let vertex_name = self.text(&subtask.vertex_name);
        let operators = self.builder.create_vector(&subtask.operators);
        let chained_edges = self.builder.create_vector(&subtask.chained_edges);
        let inputs: Vec<_> = subtask
            .inputs
            .iter()
            .map(|input| self.input(input))
            .collect();
        let inputs = self.builder.create_vector(&inputs);
        let outputs: Vec<_> = subtask
            .outputs
            .iter()
            .map(|output| self.output(output))
            .collect();
        let outputs = self.builder.create_vector(&outputs);
        let splits = (!subtask.splits.is_empty()).then(|| splits(self.builder, &subtask.splits));
        let attempt = subtask.attempt.into();
        wire::SubtaskDescriptor::create(
            self.builder,
            &wire::SubtaskDescriptorArgs {
                attempt: Some(&attempt),
                slot: subtask.slot,
                vertex_name: Some(vertex_name),
                parallelism: subtask.parallelism,
                max_parallelism: subtask.max_parallelism,
                operators: Some(operators),
                chained_edges: Some(chained_edges),
                inputs: Some(inputs),
                outputs: Some(outputs),
                splits,
                finished_before: subtask.finished_before,
            },
        )
    }

    fn input(&mut self, input: &InputGate) -> WIPOffset<wire::InputGateDescriptor<'b>> {
        let channels: Vec<_> = input
            .channels
            .iter()
            .map(|channel| self.channel(channel))
            .collect();
        let channels = self.builder.create_vector(&channels);
        let args = wire::InputGateDescriptorArgs {
            edge: input.edge,
            operator: input.operator,
            credit: input.credit,
            channels: Some(channels),
        };
        wire::InputGateDescriptor::create(self.builder, &args)
    }

    fn output(
        &mut self,
        output: &ResultPartition,
    ) -> WIPOffset<wire::ResultPartitionDescriptor<'b>> {
        let channels: Vec<_> = output
            .channels
            .iter()
            .map(|channel| self.channel(channel))
            .collect();
        let channels = self.builder.create_vector(&channels);
        wire::ResultPartitionDescriptor::create(
            self.builder,
            &wire::ResultPartitionDescriptorArgs {
                edge: output.edge,
                operator: output.operator,
                partitioner: partitioner(output.partitioner),
                channels: Some(channels),
                max_parallelism: output.max_parallelism,
                road_buffers: output.road_buffers,
            },
        )
    }

    fn channel(&mut self, channel: &Channel) -> WIPOffset<wire::ChannelDescriptor<'b>> {
        let (producer, consumer) = (channel.producer.into(), channel.consumer.into());
        let peer_task_manager_id = self.text(&channel.peer_task_manager_id);
        let (peer_host, peer_port) = match &channel.peer_address {
            Some((host, port)) => (Some(self.text(host)), *port),
            None => (None, 0),
        };
        wire::ChannelDescriptor::create(
            self.builder,
            &wire::ChannelDescriptorArgs {
                producer: Some(&producer),
                consumer: Some(&consumer),
                peer_task_manager_id: Some(peer_task_manager_id),
                peer_core: channel.peer_core,
                peer_host,
                peer_port,
            },
        )
    }

    fn text(&mut self, text: &Arc<str>) -> WIPOffset<&'b str> {
        if let Some(&offset) = self.texts.get(text) {
            return offset;
        }
        let offset = self.builder.create_string(text);
        self.texts.insert(Arc::clone(text), offset);
        offset
    }
}
