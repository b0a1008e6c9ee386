//! A stream graph as FlatBuffer: submitted by clients, passed on to TaskManagers.

use flatbuffers::{FlatBufferBuilder, WIPOffset};
use ringflow_schemas::graph as wire_graph;
use ringflow_schemas::rpc;

use crate::graph::stream_graph::{
    ChainingStrategy, OperatorKind, Partitioner, ProgramKind, SourceSplit, StreamGraph, StreamNode,
};

/// Writes a graph as a client submits it.
#[must_use]
pub fn encode_stream_graph(graph: &StreamGraph) -> rpc::Message<rpc::SubmittedGraph> {
    rpc::Message::build(|builder| stream_graph(builder, graph))
}

pub(super) fn stream_graph<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    graph: &StreamGraph,
) -> WIPOffset<wire_graph::StreamGraph<'b>> {
    let name = builder.create_string(&graph.name);
    let program_name = builder.create_string(&graph.program.name);
    let arguments: Vec<_> = graph
        .program
        .arguments
        .iter()
        .map(|argument| builder.create_string(argument))
        .collect();
    let arguments = builder.create_vector(&arguments);
    let kind = match graph.program.kind {
        ProgramKind::BuiltIn => wire_graph::ProgramKind::BuiltIn,
        ProgramKind::Application => wire_graph::ProgramKind::Application,
    };
    let program = wire_graph::Program::create(
        builder,
        &wire_graph::ProgramArgs {
            kind,
            name: Some(program_name),
            arguments: Some(arguments),
        },
    );
    let nodes: Vec<_> = graph.nodes.iter().map(|one| node(builder, one)).collect();
    let nodes = builder.create_vector(&nodes);
    let edges: Vec<_> = graph
        .edges
        .iter()
        .map(|edge| {
            wire_graph::StreamEdge::create(
                builder,
                &wire_graph::StreamEdgeArgs {
                    id: edge.id,
                    source: edge.source,
                    target: edge.target,
                    partitioner: partitioner(edge.partitioner),
                },
            )
        })
        .collect();
    let edges = builder.create_vector(&edges);
    wire_graph::StreamGraph::create(
        builder,
        &wire_graph::StreamGraphArgs {
            name: Some(name),
            program: Some(program),
            parallelism: graph.parallelism,
            max_parallelism: graph.max_parallelism,
            nodes: Some(nodes),
            edges: Some(edges),
            hash: graph.hash,
            buffer_timeout_ns: graph.buffer_timeout_ns,
        },
    )
}

fn node<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    node: &StreamNode,
) -> WIPOffset<wire_graph::StreamNode<'b>> {
    let uid = builder.create_string(&node.uid);
    let name = builder.create_string(&node.name);
    let group = (!node.slot_sharing_group.is_empty())
        .then(|| builder.create_string(&node.slot_sharing_group));
    let splits = (!node.splits.is_empty()).then(|| splits(builder, &node.splits));
    let watermark_alignment = node.watermark_alignment.as_ref().map(|alignment| {
        let group = builder.create_string(&alignment.group);
        wire_graph::WatermarkAlignment::create(
            builder,
            &wire_graph::WatermarkAlignmentArgs {
                group: Some(group),
                max_drift_ms: alignment.max_drift_ms,
                update_interval_ms: alignment.update_interval_ms,
            },
        )
    });
    wire_graph::StreamNode::create(
        builder,
        &wire_graph::StreamNodeArgs {
            id: node.id,
            uid: Some(uid),
            name: Some(name),
            kind: match node.kind {
                OperatorKind::Source => wire_graph::OperatorKind::Source,
                OperatorKind::OneInput => wire_graph::OperatorKind::OneInput,
                OperatorKind::Sink => wire_graph::OperatorKind::Sink,
                OperatorKind::TwoInput => wire_graph::OperatorKind::TwoInput,
            },
            parallelism: node.parallelism,
            auto_parallelism: node.auto_parallelism,
            max_parallelism: node.max_parallelism,
            slot_sharing_group: group,
            chaining: match node.chaining {
                ChainingStrategy::Always => wire_graph::ChainingStrategy::Always,
                ChainingStrategy::Never => wire_graph::ChainingStrategy::Never,
                ChainingStrategy::Head => wire_graph::ChainingStrategy::Head,
            },
            splits,
            watermark_alignment,
        },
    )
}

type Splits<'b> =
    flatbuffers::Vector<'b, flatbuffers::ForwardsUOffset<wire_graph::SourceSplit<'b>>>;

/// Writes splits; a topic's name is written once per message.
pub(super) fn splits<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    splits: &[SourceSplit],
) -> WIPOffset<Splits<'b>> {
    let offsets: Vec<_> = splits
        .iter()
        .map(|split| {
            let topic = builder.create_shared_string(&split.topic);
            let args = wire_graph::SourceSplitArgs {
                topic: Some(topic),
                partition: split.partition,
            };
            wire_graph::SourceSplit::create(builder, &args)
        })
        .collect();
    builder.create_vector(&offsets)
}

pub(super) fn partitioner(partitioner: Partitioner) -> wire_graph::Partitioner {
    match partitioner {
        Partitioner::Forward => wire_graph::Partitioner::Forward,
        Partitioner::Rebalance => wire_graph::Partitioner::Rebalance,
        Partitioner::Rescale => wire_graph::Partitioner::Rescale,
        Partitioner::Shuffle => wire_graph::Partitioner::Shuffle,
        Partitioner::Broadcast => wire_graph::Partitioner::Broadcast,
        Partitioner::Global => wire_graph::Partitioner::Global,
        Partitioner::Hash => wire_graph::Partitioner::Hash,
        Partitioner::Custom => wire_graph::Partitioner::Custom,
    }
}
