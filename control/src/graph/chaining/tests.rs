use proptest::prelude::*;

use super::*;
use crate::graph::job_graph::JobGraph;
use crate::graph::stream_graph::Partitioner as P;
use crate::graph::testing::graph;
use crate::submit::resolve::resolve;
use crate::submit::validate::validate;

fn names(graph: &StreamGraph) -> Vec<String> {
    let resolved = resolve(graph, None).unwrap();
    JobGraph::build(graph, &resolved)
        .vertices
        .into_iter()
        .map(|vertex| vertex.name)
        .collect()
}

#[test]
fn chains_are_named_as_flinks() {
    let line = graph(
        &["src", "a", "b", "snk"],
        &[(0, 1, P::Forward), (1, 2, P::Hash), (2, 3, P::Forward)],
    );
    assert_eq!(names(&line), ["Source: src -> a", "b -> snk"]);
    let fork = graph(
        &["src", "a", "b", "snk"],
        &[(0, 1, P::Forward), (0, 2, P::Forward), (2, 3, P::Forward)],
    );
    assert_eq!(names(&fork), ["Source: src -> (a, b -> snk)"]);
    let union = graph(
        &["src 1", "src 2", "snk"],
        &[(0, 2, P::Forward), (1, 2, P::Forward)],
    );
    assert_eq!(names(&union), ["Source: src 1", "Source: src 2", "snk"]);
}

#[test]
fn each_rule_keeps_operators_apart() {
    let base = || graph(&["src", "a"], &[(0, 1, P::Forward)]);
    let barrier = |change: fn(&mut StreamGraph)| {
        let mut graph = base();
        change(&mut graph);
        let resolved = resolve(&graph, None).unwrap();
        chainable(&graph, &resolved, &graph.in_edges(), 0)
    };
    assert_eq!(barrier(|_| {}), Ok(()));
    assert_eq!(
        barrier(|graph| graph.nodes[0].chaining = ChainingStrategy::Head),
        Ok(())
    );
    assert_eq!(
        barrier(|graph| graph.nodes[0].chaining = ChainingStrategy::Never),
        Err(Barrier::Strategy)
    );
    assert_eq!(
        barrier(|graph| graph.nodes[1].chaining = ChainingStrategy::Never),
        Err(Barrier::Strategy)
    );
    assert_eq!(
        barrier(|graph| graph.nodes[1].chaining = ChainingStrategy::Head),
        Err(Barrier::Strategy)
    );
    assert_eq!(
        barrier(|graph| graph.nodes[1].slot_sharing_group = "x".to_owned()),
        Err(Barrier::SlotSharingGroup)
    );
    assert_eq!(
        barrier(|graph| graph.edges[0].partitioner = P::Rescale),
        Err(Barrier::Partitioner)
    );
    // Forward between unequal parallelism was a default: it becomes rebalance.
    assert_eq!(
        barrier(|graph| graph.nodes[1].parallelism = 3),
        Err(Barrier::Partitioner)
    );
    assert_eq!(
        barrier(
            |graph| graph.edges.push(crate::graph::stream_graph::StreamEdge {
                id: 1,
                ..graph.edges[0]
            })
        ),
        Err(Barrier::SeveralInputs)
    );
}

/// Any acyclic graph: node 0 is a source, every later node reads one or more earlier ones.
fn any_graph() -> impl Strategy<Value = StreamGraph> {
    let node = (0u32..4, 0u8..10, any::<bool>());
    let edge = (any::<u32>(), any::<u32>(), 0u8..4);
    (
        proptest::collection::vec(node, 1..14),
        proptest::collection::vec(edge, 0..8),
    )
        .prop_map(|(nodes, extra)| {
            let names: Vec<&str> = nodes
                .iter()
                .enumerate()
                .map(|(at, _)| if at == 0 { "src" } else { "op" })
                .collect();
            let partitioner =
                |kind: u8| [P::Forward, P::Forward, P::Hash, P::Rebalance][usize::from(kind) % 4];
            let mut edges: Vec<(u32, u32, P)> = (1u32..)
                .zip(&nodes[1..])
                .map(|(at, &(up, kind, _))| (up % at, at, partitioner(kind)))
                .collect();
            let count = u32::try_from(nodes.len()).unwrap();
            for (from, to, kind) in extra {
                let to = to % count;
                if to > 0 {
                    edges.push((from % to, to, partitioner(kind)));
                }
            }
            let mut graph = graph(&names, &edges);
            for (node, &(parallelism, kind, split)) in graph.nodes.iter_mut().zip(&nodes) {
                node.parallelism = if kind > 7 { parallelism } else { 0 };
                node.chaining = if split && kind == 3 {
                    ChainingStrategy::Never
                } else {
                    ChainingStrategy::Always
                };
            }
            graph
        })
}

proptest! {
    #[test]
    fn every_operator_is_in_one_chain_and_vertices_are_in_order(graph in any_graph()) {
        validate(&graph).unwrap();
        let Ok(resolved) = resolve(&graph, None) else { return Ok(()) };
        let job_graph = JobGraph::build(&graph, &resolved);
        let mut seen: Vec<u32> =
            job_graph.vertices.iter().flat_map(|vertex| vertex.operators.iter().copied()).collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..u32::try_from(graph.nodes.len()).unwrap()).collect::<Vec<_>>());
        for edge in &job_graph.edges {
            prop_assert!(edge.producer < edge.consumer, "not in topological order");
            let head = job_graph.vertices[edge.consumer as usize].operators[0];
            prop_assert_eq!(edge.target_operator, head, "an edge ends inside a chain");
        }
        let chained: usize = job_graph.vertices.iter().map(|vertex| vertex.chained_edges.len()).sum();
        prop_assert_eq!(chained + job_graph.edges.len(), graph.edges.len());
        for vertex in &job_graph.vertices {
            for (at, &operator) in vertex.operators.iter().enumerate().skip(1) {
                let edge = vertex.chained_edges.iter().find(|&&edge| graph.edge(edge).target == operator).unwrap();
                let producer = graph.edge(*edge).source;
                prop_assert!(vertex.operators[..at].contains(&producer), "consumer before producer");
                prop_assert_eq!(resolved.parallelism[operator as usize], vertex.parallelism);
            }
        }
    }
}
