//! What a submitted graph must be before anyone believes it.
//!
//! Owns: every refusal that needs the graph alone. It came from outside: it may be anything.
//! Invariant: behind [`validate`], ids are indexes, the graph is acyclic, sources and only sources have no inputs, and
//! each stated parallelism is within its bounds.
//! Left out: parallelism that must be derived first (submit/resolve.rs).

use std::collections::BTreeSet;

use ringflow_schemas::key_group::MAX_PARALLELISM_LIMIT;
use ringflow_schemas::network::BUFFER_TIMEOUT_NS_MAX;

use super::Rejected;
use crate::graph::StreamGraph;
use crate::graph::stream_graph::{OperatorKind, StreamNode, WatermarkAlignment};
use crate::limits;

/// Reasons reported at once; a hostile graph must not make a long answer.
const REASONS_MAX: usize = 16;

pub(crate) fn validate(graph: &StreamGraph) -> Result<(), Rejected> {
    let mut reasons = Vec::new();
    check_job(graph, &mut reasons);
    check_ids(graph, &mut reasons);
    // What follows indexes by id.
    refuse(&mut reasons)?;
    for node in &graph.nodes {
        check_node(node, &mut reasons);
    }
    check_uids(graph, &mut reasons);
    check_ends(graph, &mut reasons);
    check_acyclic(graph, &mut reasons);
    refuse(&mut reasons)
}

fn refuse(reasons: &mut Vec<String>) -> Result<(), Rejected> {
    if reasons.is_empty() {
        return Ok(());
    }
    reasons.truncate(REASONS_MAX);
    Err(Rejected {
        reasons: std::mem::take(reasons),
    })
}

fn check_job(graph: &StreamGraph, reasons: &mut Vec<String>) {
    check_name("name of the job", &graph.name, reasons);
    check_name("name of the program", &graph.program.name, reasons);
    let arguments = &graph.program.arguments;
    if arguments.len() > limits::ARGUMENTS_MAX
        || arguments
            .iter()
            .any(|argument| argument.len() > limits::ARGUMENT_BYTES_MAX)
    {
        reasons.push(format!(
            "too many or too long program arguments: at most {} of {} bytes each",
            limits::ARGUMENTS_MAX,
            limits::ARGUMENT_BYTES_MAX
        ));
    }
    if graph.nodes.is_empty() {
        reasons.push("job has no operators".to_owned());
    }
    for (what, count, max) in [
        ("operators", graph.nodes.len(), limits::NODES_MAX),
        ("edges", graph.edges.len(), limits::EDGES_MAX),
        (
            "source splits",
            graph.nodes.iter().map(|node| node.splits.len()).sum(),
            limits::SPLITS_MAX,
        ),
    ] {
        if count > max {
            reasons.push(format!(
                "job has {count} {what}, more than the {max} that a job may have"
            ));
        }
    }
    check_parallelism("job", graph.parallelism, graph.max_parallelism, reasons);
    if graph.buffer_timeout_ns > BUFFER_TIMEOUT_NS_MAX {
        reasons.push(format!(
            "buffer timeout of job is {} ns, more than the {BUFFER_TIMEOUT_NS_MAX} ns (1 h) that it may be",
            graph.buffer_timeout_ns
        ));
    }
}

fn check_ids(graph: &StreamGraph, reasons: &mut Vec<String>) {
    for (index, node) in graph.nodes.iter().enumerate() {
        if node.id as usize != index {
            reasons.push(format!(
                "operator `{}` has id {}, expected its position {index}: ids must be unique and in order",
                shorten(&node.name),
                node.id
            ));
        }
    }
    for (index, edge) in graph.edges.iter().enumerate() {
        if edge.id as usize != index {
            reasons.push(format!(
                "edge at position {index} has id {}: ids must be unique and in order",
                edge.id
            ));
        }
        for (end, node) in [("source", edge.source), ("target", edge.target)] {
            if node as usize >= graph.nodes.len() {
                reasons.push(format!(
                    "edge {index} has {end} {node}, but the job has {} operators",
                    graph.nodes.len()
                ));
            }
        }
    }
}

fn check_node(node: &StreamNode, reasons: &mut Vec<String>) {
    check_name("name of an operator", &node.name, reasons);
    check_name("uid of an operator", &node.uid, reasons);
    if node.slot_sharing_group.len() > limits::NAME_BYTES_MAX {
        reasons.push(format!(
            "slot sharing group of operator `{}` is too long",
            shorten(&node.name)
        ));
    }
    let who = format!("operator `{}`", shorten(&node.name));
    check_parallelism(&who, node.parallelism, node.max_parallelism, reasons);
    if node.kind != OperatorKind::Source {
        if !node.splits.is_empty() {
            reasons.push(format!("{who} has splits but is no source"));
        }
        if node.auto_parallelism {
            reasons.push(format!(
                "{who} asks for automatic parallelism, which only sources have"
            ));
        }
    } else if node.auto_parallelism && node.parallelism > 0 {
        reasons.push(format!(
            "{who} asks for automatic parallelism and for {}: set one of them",
            node.parallelism
        ));
    }
    if let Some(alignment) = &node.watermark_alignment {
        check_alignment(&who, node.kind, alignment, reasons);
    }
    let mut seen = BTreeSet::new();
    for split in &node.splits {
        if split.topic.is_empty()
            || split.topic.len() > limits::NAME_BYTES_MAX
            || split.partition < 0
        {
            reasons.push(format!(
                "{who} has an invalid split `{}`/{}",
                shorten(&split.topic),
                split.partition
            ));
        }
        if !seen.insert((split.topic.as_str(), split.partition)) {
            reasons.push(format!(
                "{who} reads split `{}`/{} twice",
                shorten(&split.topic),
                split.partition
            ));
        }
    }
}

fn check_alignment(
    who: &str,
    kind: OperatorKind,
    alignment: &WatermarkAlignment,
    reasons: &mut Vec<String>,
) {
    if kind != OperatorKind::Source {
        reasons.push(format!(
            "{who} asks for watermark alignment, which only sources have"
        ));
    }
    check_name("group of a watermark alignment", &alignment.group, reasons);
    if alignment.max_drift_ms < 0 {
        reasons.push(format!(
            "{who} may drift by {} ms from the other sources of its alignment group: 0 or more is possible",
            alignment.max_drift_ms
        ));
    }
    let (least, most) = limits::ALIGNMENT_INTERVAL_MS;
    if !(least..=most).contains(&alignment.update_interval_ms) {
        reasons.push(format!(
            "{who} wants to be aligned every {} ms: choose {least} to {most}",
            alignment.update_interval_ms
        ));
    }
}

fn check_uids(graph: &StreamGraph, reasons: &mut Vec<String>) {
    let mut seen = std::collections::BTreeMap::new();
    for node in &graph.nodes {
        if let Some(first) = seen.insert(node.uid.as_str(), node.name.as_str()) {
            reasons.push(format!(
                "operators `{}` and `{}` have the same uid `{}`: uids must be unique in a job",
                shorten(first),
                shorten(&node.name),
                shorten(&node.uid)
            ));
        }
    }
}

fn check_ends(graph: &StreamGraph, reasons: &mut Vec<String>) {
    let (in_edges, out_edges) = (graph.in_edges(), graph.out_edges());
    for node in &graph.nodes {
        let index = node.id as usize;
        let name = shorten(&node.name);
        match node.kind {
            OperatorKind::Source if !in_edges[index].is_empty() => {
                reasons.push(format!("source `{name}` has an input"));
            }
            OperatorKind::OneInput | OperatorKind::Sink if in_edges[index].is_empty() => {
                reasons.push(format!(
                    "operator `{name}` has no input: nothing would ever reach it"
                ));
            }
            OperatorKind::TwoInput if in_edges[index].len() < 2 => {
                reasons.push(format!(
                    "operator `{name}` takes two inputs and has {}",
                    in_edges[index].len()
                ));
            }
            OperatorKind::Sink if !out_edges[index].is_empty() => {
                reasons.push(format!("sink `{name}` has an output"));
            }
            _ => {}
        }
    }
}

fn check_acyclic(graph: &StreamGraph, reasons: &mut Vec<String>) {
    let order: BTreeSet<u32> = graph.topological_order().into_iter().collect();
    if let Some(node) = graph.nodes.iter().find(|node| !order.contains(&node.id)) {
        reasons.push(format!(
            "operator `{}` is part of a cycle or behind one: a job must be acyclic",
            shorten(&node.name)
        ));
    }
}

/// Checks what is stated; 0 states nothing.
fn check_parallelism(who: &str, parallelism: u32, max_parallelism: u32, reasons: &mut Vec<String>) {
    if max_parallelism > MAX_PARALLELISM_LIMIT {
        reasons.push(format!(
            "max parallelism of {who} is {max_parallelism}, more than {MAX_PARALLELISM_LIMIT}"
        ));
    }
    if parallelism > MAX_PARALLELISM_LIMIT {
        reasons.push(format!(
            "parallelism of {who} is {parallelism}, more than {MAX_PARALLELISM_LIMIT}"
        ));
    }
    if max_parallelism > 0 && parallelism > max_parallelism {
        reasons.push(format!(
            "parallelism of {who} is {parallelism}, more than its max parallelism {max_parallelism}"
        ));
    }
}

fn check_name(what: &str, name: &str, reasons: &mut Vec<String>) {
    if name.is_empty() {
        reasons.push(format!("{what} is empty"));
    } else if name.len() > limits::NAME_BYTES_MAX {
        reasons.push(format!(
            "{what} has {} bytes, more than {}",
            name.len(),
            limits::NAME_BYTES_MAX
        ));
    }
}

/// The start of a text from outside, fit for a message.
fn shorten(text: &str) -> &str {
    let end = text
        .char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .take(65)
        .last()
        .unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests;
