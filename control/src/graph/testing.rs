//! Graphs for unit tests.

use super::stream_graph::{
    ChainingStrategy, OperatorKind, Partitioner, Program, ProgramKind, SourceSplit, StreamEdge,
    StreamGraph, StreamNode,
};

/// A graph of `names`, each a source when it starts with `src`, a sink when it starts with `snk`.
pub(crate) fn graph(names: &[&str], edges: &[(u32, u32, Partitioner)]) -> StreamGraph {
    StreamGraph {
        name: "test".to_owned(),
        program: Program {
            kind: ProgramKind::BuiltIn,
            name: "test".to_owned(),
            arguments: vec!["-x".to_owned()],
        },
        parallelism: 0,
        max_parallelism: 0,
        nodes: (0u32..)
            .zip(names)
            .map(|(id, name)| node(id, name))
            .collect(),
        edges: (0u32..)
            .zip(edges)
            .map(|(id, &(source, target, partitioner))| StreamEdge {
                id,
                source,
                target,
                partitioner,
            })
            .collect(),
        hash: 7,
        buffer_timeout_ns: 0,
    }
}

fn node(id: u32, name: &str) -> StreamNode {
    let kind = match name.get(..3) {
        Some("src") => OperatorKind::Source,
        Some("snk") => OperatorKind::Sink,
        _ => OperatorKind::OneInput,
    };
    StreamNode {
        id,
        uid: format!("uid-{id}"),
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

/// Splits 0..`count` of one topic.
pub(crate) fn splits(count: i32) -> Vec<SourceSplit> {
    (0..count)
        .map(|partition| SourceSplit {
            topic: "topic".to_owned(),
            partition,
        })
        .collect()
}
