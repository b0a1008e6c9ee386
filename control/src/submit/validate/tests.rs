use proptest::prelude::*;

use super::*;
use crate::graph::stream_graph::{ChainingStrategy, Partitioner as P, StreamEdge};
use crate::graph::testing::{graph, splits};
use crate::submit;

fn valid() -> StreamGraph {
    graph(
        &["src", "map", "snk"],
        &[(0, 1, P::Forward), (1, 2, P::Hash)],
    )
}

#[test]
fn each_defect_is_named_with_its_operator() {
    assert_eq!(validate(&valid()), Ok(()));
    type Break = fn(&mut StreamGraph);
    let cases: &[(Break, &str)] = &[
        (|graph| graph.nodes.clear(), "job has no operators"),
        (|graph| graph.name.clear(), "name of the job is empty"),
        (
            |graph| graph.nodes[1].id = 0,
            "operator `map` has id 0, expected its position 1",
        ),
        (|graph| graph.edges[1].id = 9, "edge at position 1 has id 9"),
        (
            |graph| graph.edges[1].target = 3,
            "edge 1 has target 3, but the job has 3 operators",
        ),
        (
            |graph| graph.nodes[1].uid = "uid-0".to_owned(),
            "operators `src` and `map` have the same uid `uid-0`",
        ),
        (
            |graph| graph.edges[1].target = 0,
            "source `src` has an input",
        ),
        (
            |graph| graph.edges[0].source = 2,
            "sink `snk` has an output",
        ),
        (
            |graph| graph.edges[0].source = 1,
            "operator `map` is part of a cycle",
        ),
        (
            |graph| graph.edges.truncate(1),
            "operator `snk` has no input",
        ),
        (
            |graph| graph.nodes[1].parallelism = 40_000,
            "parallelism of operator `map` is 40000, more than 32768",
        ),
        (
            |graph| graph.max_parallelism = 40_000,
            "max parallelism of job is 40000, more than 32768",
        ),
        (
            |graph| graph.buffer_timeout_ns = 3_600_000_000_001,
            "buffer timeout of job is 3600000000001 ns, more than the 3600000000000 ns",
        ),
        (
            |graph| (graph.nodes[1].parallelism, graph.nodes[1].max_parallelism) = (9, 4),
            "parallelism of operator `map` is 9, more than its max parallelism 4",
        ),
        (
            |graph| graph.nodes[1].splits = splits(1),
            "operator `map` has splits but is no source",
        ),
        (
            |graph| graph.nodes[2].auto_parallelism = true,
            "operator `snk` asks for automatic parallelism",
        ),
        (
            |graph| graph.nodes[0].splits = [splits(1), splits(1)].concat(),
            "operator `src` reads split `topic`/0 twice",
        ),
        (
            |graph| graph.nodes[0].name = "x".repeat(5000),
            "name of an operator has 5000 bytes",
        ),
    ];
    for (break_it, expected) in cases {
        let mut graph = valid();
        break_it(&mut graph);
        let refused = validate(&graph).expect_err(expected).to_string();
        assert!(
            refused.contains(expected),
            "`{refused}` does not say `{expected}`"
        );
        assert!(refused.len() < 4000);
    }
}

#[test]
fn jobs_beyond_the_limits_are_refused() {
    let mut graph = valid();
    graph.nodes[0].parallelism = 1000;
    graph.parallelism = 1000;
    graph.nodes[1].parallelism = 1000;
    let refused = submit::plan(&graph, None).unwrap_err().to_string();
    assert!(refused.contains("1000000 channels"), "{refused}");
    graph.edges[1].partitioner = P::Rescale;
    graph.parallelism = 20_000;
    graph.nodes[0].parallelism = 20_000;
    graph.nodes[1].parallelism = 20_000;
    let refused = submit::plan(&graph, None).unwrap_err().to_string();
    assert!(refused.contains("subtasks"), "{refused}");
}

proptest! {
    /// Whatever a client sends: an answer, never a panic.
    #[test]
    fn any_graph_is_planned_or_refused(
        nodes in proptest::collection::vec((0u32..6, 0u32..70_000, any::<bool>(), 0i32..5, 0u32..200, 0u8..3), 0..6),
        edges in proptest::collection::vec((0u32..6, 0u32..6, 0u32..7, 0u8..3), 0..8),
        parallelism in 0u32..40,
        slots in proptest::option::of(0u32..20),
        honest in any::<bool>(),
    ) {
        let names: Vec<&str> = nodes.iter().map(|node| ["src", "map", "snk"][usize::from(node.5)]).collect();
        let mut graph = graph(&names, &[]);
        graph.parallelism = parallelism;
        for (node, &(id, wide, auto, count, max, _)) in graph.nodes.iter_mut().zip(&nodes) {
            node.id = if honest { node.id } else { id };
            node.parallelism = if honest { wide % 4 } else { wide };
            node.auto_parallelism = auto;
            node.splits = splits(count);
            node.max_parallelism = if honest { 0 } else { max };
            node.chaining = ChainingStrategy::Always;
        }
        graph.edges = (0u32..)
            .zip(&edges)
            .map(|(id, &(source, target, kind, wrong))| StreamEdge {
                id: if honest || wrong > 0 { id } else { kind },
                source,
                target,
                partitioner: [P::Forward, P::Rebalance, P::Rescale, P::Shuffle, P::Broadcast, P::Global, P::Hash]
                    [kind as usize % 7],
            })
            .collect();
        if let Ok(plan) = submit::plan(&graph, slots) {
            prop_assert!(plan.job_graph.slots_needed() > 0);
            prop_assert!(plan.job_graph.vertices.iter().all(|vertex| vertex.parallelism <= vertex.max_parallelism));
        }
    }
}
