//! What both suites need: graphs to submit.

use ringflow_control::graph::stream_graph::{
    ChainingStrategy, OperatorKind, Partitioner, Program, ProgramKind, SourceSplit, StreamEdge,
    StreamGraph, StreamNode,
};

/// A node with defaults everywhere.
pub(crate) fn node(id: u32, name: &str, kind: OperatorKind) -> StreamNode {
    StreamNode {
        id,
        uid: format!("uid-{name}"),
        name: name.to_owned(),
        kind,
        parallelism: 0,
        auto_parallelism: false,
        max_parallelism: 0,
        slot_sharing_group: String::new(),
        chaining: ChainingStrategy::Always,
        splits: Vec::new(),
        watermark_alignment: None,
    }
}

/// `bids -> filter =hash=> count -> out`.
pub(crate) fn counting_job(parallelism: u32, splits: i32) -> StreamGraph {
    let mut source = node(0, "bids", OperatorKind::Source);
    source.splits = (0..splits)
        .map(|partition| SourceSplit {
            topic: "bids".to_owned(),
            partition,
        })
        .collect();
    let edges = [
        Partitioner::Forward,
        Partitioner::Hash,
        Partitioner::Forward,
    ];
    StreamGraph {
        name: "counting".to_owned(),
        program: Program {
            kind: ProgramKind::BuiltIn,
            name: "counting".to_owned(),
            arguments: Vec::new(),
        },
        parallelism,
        max_parallelism: 0,
        nodes: vec![
            source,
            node(1, "filter", OperatorKind::OneInput),
            node(2, "count", OperatorKind::OneInput),
            node(3, "out", OperatorKind::Sink),
        ],
        edges: (0u32..)
            .zip(edges)
            .map(|(id, partitioner)| StreamEdge {
                id,
                source: id,
                target: id + 1,
                partitioner,
            })
            .collect(),
        buffer_timeout_ns: 0,
        hash: 4711,
    }
}
