use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ringflow_schemas::control as wire_format;
use ringflow_schemas::graph::{self, StreamGraph};
use ringflow_schemas::network;
use ringflow_schemas::rpc::{FromJobManager, Message};

use super::building::Built;
use super::descriptor::{ChainedEdge, Node};
use super::*;
use crate::error::Result;
use crate::operator::Operator;
use crate::operator::chain::Output as ChainOutput;
use crate::program::Topology;
use crate::record::RecordRef;

/// One subtask that reads an edge with `credit` and writes one with `road_buffers`, a channel each.
fn deployment(credit: u32, road_buffers: u32) -> Result<Deployment> {
    deployment_with(credit, road_buffers, 0)
}

fn deployment_with(credit: u32, road_buffers: u32, buffer_timeout_ns: u64) -> Result<Deployment> {
    let message = Message::<FromJobManager>::build(|builder| {
        let name = builder.create_string("n");
        let program = graph::Program::create(
            builder,
            &graph::ProgramArgs {
                name: Some(name),
                ..graph::ProgramArgs::default()
            },
        );
        let node = graph::StreamNode::create(
            builder,
            &graph::StreamNodeArgs {
                uid: Some(name),
                name: Some(name),
                ..graph::StreamNodeArgs::default()
            },
        );
        let (nodes, edges) = (
            builder.create_vector(&[node]),
            builder.create_vector::<flatbuffers::WIPOffset<graph::StreamEdge<'_>>>(&[]),
        );
        let graph = StreamGraph::create(
            builder,
            &graph::StreamGraphArgs {
                name: Some(name),
                program: Some(program),
                nodes: Some(nodes),
                edges: Some(edges),
                buffer_timeout_ns,
                ..graph::StreamGraphArgs::default()
            },
        );
        let attempt = wire_format::ExecutionAttemptId::default();
        let channel = wire_format::ChannelDescriptor::create(
            builder,
            &wire_format::ChannelDescriptorArgs {
                producer: Some(&attempt),
                consumer: Some(&attempt),
                peer_task_manager_id: Some(name),
                ..wire_format::ChannelDescriptorArgs::default()
            },
        );
        let channels = builder.create_vector(&[channel]);
        let input = wire_format::InputGateDescriptor::create(
            builder,
            &wire_format::InputGateDescriptorArgs {
                edge: 3,
                channels: Some(channels),
                credit,
                ..wire_format::InputGateDescriptorArgs::default()
            },
        );
        let output = wire_format::ResultPartitionDescriptor::create(
            builder,
            &wire_format::ResultPartitionDescriptorArgs {
                edge: 5,
                channels: Some(channels),
                road_buffers,
                ..wire_format::ResultPartitionDescriptorArgs::default()
            },
        );
        let (inputs, outputs) = (
            builder.create_vector(&[input]),
            builder.create_vector(&[output]),
        );
        let (operators, chained) = (
            builder.create_vector(&[0u32]),
            builder.create_vector::<u32>(&[]),
        );
        let subtask = wire_format::SubtaskDescriptor::create(
            builder,
            &wire_format::SubtaskDescriptorArgs {
                attempt: Some(&attempt),
                vertex_name: Some(name),
                operators: Some(operators),
                chained_edges: Some(chained),
                inputs: Some(inputs),
                outputs: Some(outputs),
                ..wire_format::SubtaskDescriptorArgs::default()
            },
        );
        let subtasks = builder.create_vector(&[subtask]);
        let deploy = wire_format::DeploySubtasks::create(
            builder,
            &wire_format::DeploySubtasksArgs {
                job: Some(&wire_format::JobId::default()),
                graph: Some(graph),
                subtasks: Some(subtasks),
            },
        );
        wire_format::JobManagerMessage::create(
            builder,
            &wire_format::JobManagerMessageArgs {
                payload_type: wire_format::JobManagerPayload::DeploySubtasks,
                payload: Some(deploy.as_union_value()),
            },
        )
    });
    Deployment::parse(&message).expect("a deployment")
}

#[test]
fn every_level_is_read() {
    for level in network::NETWORK_LEVELS {
        let deployment = deployment(level.credit, level.road).expect("a legal level");
        let subtask = &deployment.subtasks[0];
        assert_eq!(subtask.inputs[0].credit, level.credit);
        assert_eq!(subtask.outputs[0].road_buffers, level.road);
    }
}

#[test]
fn buffers_that_are_missing_or_too_many_are_a_deployment_error_that_names_the_edge() {
    for (credit, road_buffers, expected) in [
        (0, 8, "credit 0 of edge 3 is not within 1..=16"),
        (17, 8, "credit 17 of edge 3 is not within 1..=16"),
        (16, 0, "road_buffers 0 of edge 5 is not within 1..=8"),
        (16, 9, "road_buffers 9 of edge 5 is not within 1..=8"),
    ] {
        let error = deployment(credit, road_buffers)
            .expect_err("illegal")
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_buffer_timeout_is_read_and_one_that_no_timer_takes_is_a_deployment_error() {
    for (ns, expected) in [(0, None), (200_000_000, NonZeroU64::new(200_000_000))] {
        let deployment = deployment_with(16, 8, ns).expect("legal");
        assert_eq!(deployment.buffer_timeout_ns, expected);
    }
    let error = deployment_with(16, 8, u64::MAX)
        .expect_err("illegal")
        .to_string();
    assert!(error.contains("is more than 3600000000000 ns"), "{error}");
}

/// An operator that counts its end.
struct Counted(Arc<AtomicU32>);

impl Operator for Counted {
    fn on_record(&mut self, _: &RecordRef<'_>, _: &mut ChainOutput) -> Result<()> {
        Ok(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// An operator's end may block, and who wires is the control thread.
#[test]
fn what_cannot_be_wired_comes_back_whole() {
    // 0 is chained to 1 and 2; the partition is behind 2, so that 1 is done when it fails; 3 is in no chain.
    for (me, connected, slots, expected) in [
        ("another", false, &[0][..], "no data connection"),
        ("n", true, &[7], "no core 0 here"),
        ("n", true, &[], "slot 0 of 0 slots"),
    ] {
        let mut deployment = deployment(16, 8).expect("legal");
        let node = || Node {
            name: "n".to_owned(),
            is_source: false,
        };
        deployment.nodes = (0..4).map(|_| node()).collect();
        let plan = &mut deployment.subtasks[0];
        plan.inputs.clear();
        let chained = |edge, target| ChainedEdge {
            edge,
            source: 0,
            target,
        };
        plan.chained = vec![chained(0, 1), chained(1, 2)];
        plan.outputs[0].operator = 2;
        let dropped = Arc::new(AtomicU32::new(0));
        let operator = |id| {
            (
                id,
                Box::new(Counted(Arc::clone(&dropped))) as Box<dyn Operator>,
            )
        };
        let built = BuiltDeployment {
            deployment,
            topology: Arc::new(Topology {
                nodes: Vec::new(),
                edges: Vec::new(),
                hash: 0,
            }),
            built: vec![Built {
                reader: None,
                operators: (0..4).map(operator).collect(),
            }],
        };
        let wired = wire(built, me, slots, &[], |_, _| connected.then_some(0));
        let Err(unwired) = wired else {
            panic!("it is wired");
        };
        let error = unwired.error.to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(dropped.load(Ordering::Relaxed), 0, "{expected}");
        drop(unwired.leftover);
        assert_eq!(dropped.load(Ordering::Relaxed), 4, "{expected}");
    }
}
