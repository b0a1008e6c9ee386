//! Which operators fuse into one subtask, and in what order they then stand.
//!
//! Owns: the rule per edge, and the chains that follow from it.
//! Invariant: every node is in exactly one chain; inside a chain each node but the head has exactly one in-edge, from a
//! node before it in the chain.
//! Left out: multi-input chained sources, async operators: ringflow has none.
//!
//! Source: Flink `StreamingJobGraphGenerator.isChainable`.

use super::StreamGraph;
use super::stream_graph::{ChainingStrategy, Partitioner};
use crate::submit::resolve::Resolved;

/// Operators of one vertex, head first, producers before consumers, and the edges between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) operators: Vec<u32>,
    pub(crate) edges: Vec<u32>,
}

/// Why an edge does not chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Barrier {
    SeveralInputs,
    SlotSharingGroup,
    Strategy,
    Partitioner,
    Parallelism,
}

/// Whether the two ends of `edge` may fuse.
pub(crate) fn chainable(
    graph: &StreamGraph,
    resolved: &Resolved,
    in_edges: &[Vec<u32>],
    edge: u32,
) -> Result<(), Barrier> {
    let edge = graph.edge(edge);
    let (up, down) = (edge.source as usize, edge.target as usize);
    let strategies = (
        graph.node(edge.source).chaining,
        graph.node(edge.target).chaining,
    );
    if in_edges[down].len() != 1 {
        return Err(Barrier::SeveralInputs);
    }
    if resolved.slot_sharing_group[up] != resolved.slot_sharing_group[down] {
        return Err(Barrier::SlotSharingGroup);
    }
    if strategies.0 == ChainingStrategy::Never || strategies.1 != ChainingStrategy::Always {
        return Err(Barrier::Strategy);
    }
    if resolved.partitioner[edge.id as usize] != Partitioner::Forward {
        return Err(Barrier::Partitioner);
    }
    if resolved.parallelism[up] != resolved.parallelism[down] {
        return Err(Barrier::Parallelism);
    }
    Ok(())
}

/// The chains of a validated graph, in topological order of their heads, which is one of the chains too: an edge
/// between chains starts behind its chain's head and ends at a head.
pub(crate) fn chains(graph: &StreamGraph, resolved: &Resolved) -> Vec<Chain> {
    let (in_edges, out_edges) = (graph.in_edges(), graph.out_edges());
    let fuses: Vec<bool> = graph
        .edges
        .iter()
        .map(|edge| chainable(graph, resolved, &in_edges, edge.id).is_ok())
        .collect();
    graph
        .topological_order()
        .into_iter()
        .filter(|&node| {
            !in_edges[node as usize]
                .iter()
                .any(|&edge| fuses[edge as usize])
        })
        .map(|head| chain_from(graph, &out_edges, &fuses, head))
        .collect()
}

fn chain_from(graph: &StreamGraph, out_edges: &[Vec<u32>], fuses: &[bool], head: u32) -> Chain {
    let mut chain = Chain {
        operators: Vec::new(),
        edges: Vec::new(),
    };
    // Edges to follow, the next one last: depth first, in order of edge ids.
    let mut pending = Vec::new();
    let mut next = Some(head);
    while let Some(node) = next {
        chain.operators.push(node);
        pending.extend(
            out_edges[node as usize]
                .iter()
                .rev()
                .filter(|&&edge| fuses[edge as usize]),
        );
        next = pending.pop().map(|edge| {
            chain.edges.push(edge);
            graph.edge(edge).target
        });
    }
    chain
}

#[cfg(test)]
mod tests;
