//! How many subtasks each operator gets.
//!
//! Owns: parallelism (operator, else job, else 1; automatic for sources that ask), max parallelism, slot sharing groups,
//! and the partitioner of an edge whose ends came out unequal.
//! Invariant: 1 <= parallelism <= max parallelism <= 32768 for every node; an edge left Forward has equal ends.
//! Left out: which slots (schedule/), which operators fuse (graph/chaining.rs).
//!
//! Source: Flink `StreamGraphGenerator` (groups, default partitioner), `KeyGroupRangeAssignment` (max parallelism).

use std::collections::{BTreeMap, BTreeSet};

use ringflow_schemas::key_group::{MAX_PARALLELISM_LIMIT, default_max_parallelism};

use super::Rejected;
use crate::graph::StreamGraph;
use crate::graph::stream_graph::{OperatorKind, Partitioner, StreamNode};

/// The slot sharing group of operators that were given none.
const DEFAULT_GROUP: &str = "default";

/// What was decided, by node id and edge id.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) parallelism: Vec<u32>,
    pub(crate) max_parallelism: Vec<u32>,
    pub(crate) slot_sharing_group: Vec<String>,
    pub(crate) partitioner: Vec<Partitioner>,
    pub(crate) warnings: Vec<String>,
    pub(crate) auto: bool,
}

pub(crate) fn resolve(graph: &StreamGraph, slots: Option<u32>) -> Result<Resolved, Rejected> {
    let order = graph.topological_order();
    let slot_sharing_group = slot_sharing_groups(graph, &order);
    let parallelism = parallelism(graph, &order, &slot_sharing_group, slots);
    let max_parallelism = max_parallelism(graph, &parallelism)?;
    let partitioner = partitioners(graph, &parallelism)?;
    let warnings = warnings(graph, &parallelism);
    let auto = graph.nodes.iter().any(is_auto);
    Ok(Resolved {
        parallelism,
        max_parallelism,
        slot_sharing_group,
        partitioner,
        warnings,
        auto,
    })
}

/// Whether the scheduler decides: a source that divides itself (no known splits) takes the default instead.
fn is_auto(node: &StreamNode) -> bool {
    node.kind == OperatorKind::Source && node.auto_parallelism && !node.splits.is_empty()
}

fn slot_sharing_groups(graph: &StreamGraph, order: &[u32]) -> Vec<String> {
    let in_edges = graph.in_edges();
    let mut groups = vec![String::new(); graph.nodes.len()];
    for &id in order {
        let own = &graph.node(id).slot_sharing_group;
        groups[id as usize] = if own.is_empty() {
            let mut inputs = in_edges[id as usize]
                .iter()
                .map(|&edge| &groups[graph.edge(edge).source as usize]);
            match inputs.next() {
                Some(first) if inputs.all(|group| group == first) => first.clone(),
                _ => DEFAULT_GROUP.to_owned(),
            }
        } else {
            own.clone()
        };
    }
    groups
}

fn parallelism(
    graph: &StreamGraph,
    order: &[u32],
    groups: &[String],
    slots: Option<u32>,
) -> Vec<u32> {
    let divisors: BTreeMap<u32, Vec<u32>> = graph
        .nodes
        .iter()
        .filter(|node| is_auto(node))
        .map(|node| {
            (
                node.id,
                divisors(node.splits.len(), parallelism_cap(graph, node)),
            )
        })
        .collect();
    let with_cap = |cap: u32| spread(graph, order, &divisors, cap);
    let Some(slots) = slots else {
        return with_cap(u32::MAX);
    };
    let caps: BTreeSet<u32> = divisors
        .values()
        .flatten()
        .copied()
        .filter(|&cap| cap <= slots)
        .collect();
    caps.into_iter()
        .rev()
        .map(with_cap)
        .find(|parallelism| slots_needed(groups, parallelism) <= u64::from(slots))
        .unwrap_or_else(|| with_cap(1))
}

/// Parallelism of every node when automatic sources stay at or below `cap`.
fn spread(
    graph: &StreamGraph,
    order: &[u32],
    divisors: &BTreeMap<u32, Vec<u32>>,
    cap: u32,
) -> Vec<u32> {
    let in_edges = graph.in_edges();
    let mut parallelism = vec![1; graph.nodes.len()];
    // The greatest automatic parallelism among the sources behind a node.
    let mut inherited: Vec<Option<u32>> = vec![None; graph.nodes.len()];
    for &id in order {
        let node = graph.node(id);
        let index = id as usize;
        if let Some(divisors) = divisors.get(&id) {
            let decided = divisors
                .iter()
                .copied()
                .filter(|&divisor| divisor <= cap)
                .max()
                .unwrap_or(1);
            parallelism[index] = decided;
            inherited[index] = Some(decided);
            continue;
        }
        inherited[index] = in_edges[index]
            .iter()
            .filter_map(|&edge| inherited[graph.edge(edge).source as usize])
            .max();
        parallelism[index] = match (node.parallelism, graph.parallelism, inherited[index]) {
            (0, 0, Some(inherited)) => inherited.min(parallelism_cap(graph, node)),
            (0, 0, None) => 1,
            (0, default, _) => default,
            (own, _, _) => own,
        };
    }
    parallelism
}

/// The greatest parallelism that `node`'s number of key groups allows.
fn parallelism_cap(graph: &StreamGraph, node: &StreamNode) -> u32 {
    stated_max_parallelism(graph, node).unwrap_or(MAX_PARALLELISM_LIMIT)
}

fn stated_max_parallelism(graph: &StreamGraph, node: &StreamNode) -> Option<u32> {
    [node.max_parallelism, graph.max_parallelism]
        .into_iter()
        .find(|&max| max > 0)
}

/// Numbers up to `cap` that divide `count`, ascending.
fn divisors(count: usize, cap: u32) -> Vec<u32> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    (1..=count.min(cap))
        .filter(|&divisor| count.is_multiple_of(divisor))
        .collect()
}

/// One slot holds one subtask of every vertex of a group: each group needs its greatest parallelism.
fn slots_needed(groups: &[String], parallelism: &[u32]) -> u64 {
    let mut most: BTreeMap<&str, u32> = BTreeMap::new();
    for (group, &parallelism) in groups.iter().zip(parallelism) {
        let most = most.entry(group).or_default();
        *most = (*most).max(parallelism);
    }
    most.values().map(|&count| u64::from(count)).sum()
}

fn max_parallelism(graph: &StreamGraph, parallelism: &[u32]) -> Result<Vec<u32>, Rejected> {
    graph
        .nodes
        .iter()
        .zip(parallelism)
        .map(|(node, &parallelism)| {
            let max = stated_max_parallelism(graph, node).unwrap_or_else(|| default_max_parallelism(parallelism));
            if parallelism > max {
                return Err(Rejected::because(format!(
                    "parallelism of operator `{}` is {parallelism}, more than its max parallelism {max}",
                    node.name
                )));
            }
            Ok(max)
        })
        .collect()
}

fn partitioners(graph: &StreamGraph, parallelism: &[u32]) -> Result<Vec<Partitioner>, Rejected> {
    let mut partitioners = Vec::with_capacity(graph.edges.len());
    for edge in &graph.edges {
        let (source, target) = (graph.node(edge.source), graph.node(edge.target));
        let ends = (
            parallelism[source.id as usize],
            parallelism[target.id as usize],
        );
        let unequal_forward = edge.partitioner == Partitioner::Forward && ends.0 != ends.1;
        if unequal_forward && source.parallelism > 0 && target.parallelism > 0 {
            return Err(Rejected::because(format!(
                "forward edge from `{}` (parallelism {}) to `{}` (parallelism {}): forward needs equal \
                 parallelism; make them equal or use rebalance or rescale",
                source.name, ends.0, target.name, ends.1
            )));
        }
        partitioners.push(if unequal_forward {
            Partitioner::Rebalance
        } else {
            edge.partitioner
        });
    }
    Ok(partitioners)
}

fn warnings(graph: &StreamGraph, parallelism: &[u32]) -> Vec<String> {
    let sources = graph.nodes.iter().filter(|node| !node.splits.is_empty());
    sources
        .filter_map(|node| {
            let decided = parallelism[node.id as usize];
            let splits = node.splits.len();
            let name = &node.name;
            if is_auto(node) {
                ((decided as usize) < splits).then(|| {
                    format!(
                        "source `{name}` runs with parallelism {decided} for its {splits} splits: the most that \
                         divides them evenly and fits the slots"
                    )
                })
            } else {
                (decided as usize > splits).then(|| {
                    format!(
                        "source `{name}` has parallelism {decided} but only {splits} splits: {} of its subtasks \
                         get none and stay idle; use parallelism {splits}",
                        decided as usize - splits
                    )
                })
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
