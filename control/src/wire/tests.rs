use std::sync::Arc;

use proptest::prelude::*;
use ringflow_schemas::id::{ExecutionAttemptId, JobId};
use ringflow_schemas::rpc::{self, MESSAGE_BYTES_MAX, Message};

use super::*;
use crate::command::{Channel, Deployment, InputGate, SubtaskDescriptor, ToTaskManager};
use crate::graph::stream_graph::Partitioner as P;
use crate::graph::testing::{graph, splits};
use crate::limits;
use crate::supervise::StopMode;

#[test]
fn a_graph_survives_the_wire() {
    let mut graph = graph(
        &["src", "map", "snk"],
        &[(0, 1, P::Forward), (1, 2, P::Broadcast)],
    );
    graph.nodes[0].splits = splits(5);
    graph.nodes[0].auto_parallelism = true;
    graph.nodes[1].slot_sharing_group = "mine".to_owned();
    graph.nodes[1].max_parallelism = 12;
    graph.buffer_timeout_ns = 200_000_000;
    let message = encode_stream_graph(&graph);
    let message = Message::<rpc::SubmittedGraph>::parse(message.bytes().clone()).unwrap();
    assert_eq!(decode_stream_graph(&message).unwrap(), graph);
}

/// One source subtask.
fn subtask(finished_before: bool) -> SubtaskDescriptor {
    SubtaskDescriptor {
        attempt: ExecutionAttemptId {
            job: JobId(1),
            vertex: 0,
            subtask: 3,
            attempt: 0,
        },
        slot: 0,
        vertex_name: "v".into(),
        parallelism: 4,
        max_parallelism: 128,
        operators: vec![0],
        chained_edges: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        splits: Vec::new(),
        finished_before,
    }
}

#[test]
fn a_subtask_that_had_finished_and_a_stop_survive_the_wire() {
    let deployment = Deployment {
        job: JobId(1),
        graph: Arc::new(graph(&["src"], &[])),
        subtasks: vec![subtask(false), subtask(true)],
    };
    let message = encode_to_task_manager(&ToTaskManager::DeploySubtasks(Arc::new(deployment)));
    let message = Message::<rpc::FromJobManager>::parse(message.bytes().clone()).unwrap();
    let deployment = message.get().payload_as_deploy_subtasks().unwrap();
    let finished = deployment.subtasks().iter();
    let finished: Vec<bool> = finished.map(|subtask| subtask.finished_before()).collect();
    assert_eq!(finished, [false, true]);

    for mode in [StopMode::Drain, StopMode::NoDrain] {
        let attempts = vec![subtask(false).attempt];
        let message = encode_to_task_manager(&ToTaskManager::StopSubtasks { attempts, mode });
        let message = Message::<rpc::FromJobManager>::parse(message.bytes().clone()).unwrap();
        let stop = message.get().payload_as_stop_subtasks().unwrap();
        let stopped = ExecutionAttemptId::from(stop.attempts().get(0));
        assert_eq!(
            (stopped, stop.drain()),
            (subtask(false).attempt, mode.drains())
        );
    }
}

/// The arithmetic of `limits::CHANNELS_MAX`.
#[test]
fn the_largest_deployment_fits_a_message() {
    let attempt = |subtask| ExecutionAttemptId {
        job: JobId(1),
        vertex: 0,
        subtask,
        attempt: 0,
    };
    let count: u32 = 10_000;
    let host: Arc<str> = "a-host.example.org".into();
    let id: Arc<str> = "tm-1".into();
    let channels = (0..count)
        .map(|consumer| Channel {
            producer: attempt(consumer),
            consumer: attempt(0),
            peer_task_manager_id: Arc::clone(&id),
            peer_core: 1,
            peer_address: Some((Arc::clone(&host), 40_000)),
        })
        .collect();
    let subtask = SubtaskDescriptor {
        inputs: vec![InputGate {
            edge: 0,
            operator: 0,
            credit: 16,
            channels,
        }],
        ..subtask(false)
    };
    let graph = Arc::new(graph(&["src"], &[]));
    let deployment = Deployment {
        job: JobId(1),
        graph,
        subtasks: vec![subtask],
    };
    let bytes = encode_to_task_manager(&ToTaskManager::DeploySubtasks(Arc::new(deployment)))
        .bytes()
        .len();
    let per_channel = bytes as u64 / u64::from(count);
    assert!(per_channel <= 112, "{per_channel} bytes");
    assert!(2 * limits::CHANNELS_MAX * per_channel < MESSAGE_BYTES_MAX as u64);
}

proptest! {
    /// Bytes of a graph with some of them changed: refused by the verifier, by the decoder, or read; never a panic.
    #[test]
    fn damaged_graphs_do_not_panic(damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..12)) {
        let mut graph = graph(&["src", "map", "snk"], &[(0, 1, P::Forward), (1, 2, P::Hash)]);
        graph.nodes[0].splits = splits(3);
        let mut bytes = encode_stream_graph(&graph).bytes().to_vec();
        let len = bytes.len();
        for (at, byte) in damage {
            bytes[at % len] = byte;
        }
        if let Ok(message) = Message::<rpc::SubmittedGraph>::parse(bytes)
            && let Ok(graph) = decode_stream_graph(&message)
        {
            drop(crate::submit::plan(&graph, Some(4)));
        }
    }
}
