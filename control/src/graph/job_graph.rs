//! The chained graph: what will run, and how many of each.
//!
//! Owns: [`JobVertex`], [`JobEdge`], their names and ids as REST shows them.
//! Invariant: vertices stand in topological order; an edge's consumer comes after its producer. Immutable once built.
//! Left out: subtasks and their attempts (execution_graph.rs).

use std::collections::BTreeMap;

use ringflow_schemas::id::VertexId;

use super::StreamGraph;
use super::chaining::{self, Chain};
use super::stream_graph::{OperatorKind, Partitioner, SourceSplit};
use crate::limits;
use crate::submit::resolve::Resolved;

/// One chain of operators, run by `parallelism` subtasks.
#[derive(Debug, Clone)]
pub(crate) struct JobVertex {
    pub(crate) id: VertexId,
    pub(crate) name: String,
    /// Stream graph nodes, head first.
    pub(crate) operators: Vec<u32>,
    /// Stream graph edges between them.
    pub(crate) chained_edges: Vec<u32>,
    pub(crate) parallelism: u32,
    pub(crate) max_parallelism: u32,
    pub(crate) slot_sharing_group: String,
    /// Indexes into [`JobGraph::edges`], in order of stream graph edges.
    pub(crate) inputs: Vec<usize>,
    pub(crate) outputs: Vec<usize>,
    /// Splits of the head, when it is a source.
    pub(crate) splits: Vec<SourceSplit>,
}

/// One edge between vertices.
#[derive(Debug, Clone)]
pub(crate) struct JobEdge {
    /// The stream graph edge.
    pub(crate) edge: u32,
    /// Vertices at its ends.
    pub(crate) producer: u32,
    pub(crate) consumer: u32,
    /// Operators at its ends.
    pub(crate) source_operator: u32,
    pub(crate) target_operator: u32,
    pub(crate) partitioner: Partitioner,
}

/// A job after chaining.
#[derive(Debug, Clone)]
pub(crate) struct JobGraph {
    pub(crate) vertices: Vec<JobVertex>,
    pub(crate) edges: Vec<JobEdge>,
}

impl JobGraph {
    /// Chains a validated graph.
    pub(crate) fn build(graph: &StreamGraph, resolved: &Resolved) -> Self {
        let chains = chaining::chains(graph, resolved);
        let mut vertex_of = vec![0u32; graph.nodes.len()];
        for (vertex, chain) in (0u32..).zip(&chains) {
            for &operator in &chain.operators {
                vertex_of[operator as usize] = vertex;
            }
        }
        let mut vertices: Vec<JobVertex> = chains
            .iter()
            .map(|chain| vertex(graph, resolved, chain))
            .collect();
        let mut edges = Vec::new();
        for edge in &graph.edges {
            let (producer, consumer) = (
                vertex_of[edge.source as usize],
                vertex_of[edge.target as usize],
            );
            if producer == consumer {
                continue;
            }
            vertices[producer as usize].outputs.push(edges.len());
            vertices[consumer as usize].inputs.push(edges.len());
            edges.push(JobEdge {
                edge: edge.id,
                producer,
                consumer,
                source_operator: edge.source,
                target_operator: edge.target,
                partitioner: resolved.partitioner[edge.id as usize],
            });
        }
        Self { vertices, edges }
    }

    /// Slots that each sharing group needs: its greatest parallelism.
    pub(crate) fn slots_by_group(&self) -> BTreeMap<&str, u32> {
        let mut slots = BTreeMap::new();
        for vertex in &self.vertices {
            let most = slots.entry(vertex.slot_sharing_group.as_str()).or_insert(0);
            *most = vertex.parallelism.max(*most);
        }
        slots
    }

    /// Slots that the job needs.
    pub(crate) fn slots_needed(&self) -> usize {
        self.slots_by_group()
            .values()
            .map(|&count| count as usize)
            .sum()
    }

    /// The greatest parallelism of a vertex.
    pub(crate) fn parallelism_max(&self) -> u32 {
        self.vertices
            .iter()
            .map(|vertex| vertex.parallelism)
            .max()
            .unwrap_or(0)
    }
}

fn vertex(graph: &StreamGraph, resolved: &Resolved, chain: &Chain) -> JobVertex {
    let head = graph.node(chain.operators[0]);
    let index = head.id as usize;
    JobVertex {
        id: vertex_id(&head.uid),
        name: chain_name(graph, chain),
        operators: chain.operators.clone(),
        chained_edges: chain.edges.clone(),
        parallelism: resolved.parallelism[index],
        max_parallelism: resolved.max_parallelism[index],
        slot_sharing_group: resolved.slot_sharing_group[index].clone(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        splits: head.splits.clone(),
    }
}

/// `A -> B`, or `A -> (B, C -> D)` where a node has several chained consumers.
fn chain_name(graph: &StreamGraph, chain: &Chain) -> String {
    // Consumers stand behind producers: build names from the back.
    let mut names: BTreeMap<u32, String> = BTreeMap::new();
    for &operator in chain.operators.iter().rev() {
        let children: Vec<String> = chain
            .edges
            .iter()
            .filter(|&&edge| graph.edge(edge).source == operator)
            .filter_map(|&edge| names.remove(&graph.edge(edge).target))
            .collect();
        let own = operator_name(graph, operator);
        let name = match children.as_slice() {
            [] => own,
            [child] => format!("{own} -> {child}"),
            several => format!("{own} -> ({})", several.join(", ")),
        };
        names.insert(operator, shorten(name));
    }
    names.remove(&chain.operators[0]).unwrap_or_default()
}

/// Cuts a name that is too long for anyone to read.
fn shorten(mut name: String) -> String {
    if name.len() > limits::VERTEX_NAME_BYTES_MAX {
        let end = (0..=limits::VERTEX_NAME_BYTES_MAX)
            .rev()
            .find(|&at| name.is_char_boundary(at));
        name.truncate(end.unwrap_or(0));
        name.push_str("...");
    }
    name
}

fn operator_name(graph: &StreamGraph, operator: u32) -> String {
    let node = graph.node(operator);
    if node.kind == OperatorKind::Source && !node.name.starts_with("Source: ") {
        format!("Source: {}", node.name)
    } else {
        node.name.clone()
    }
}

/// FNV-1a over the head's uid, with murmur's finaliser on the halves so that short uids fill all 128 bits.
fn vertex_id(uid: &str) -> VertexId {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = uid.bytes().fold(OFFSET, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    });
    let mut mixed = hash ^ (hash >> 64);
    mixed = mixed.wrapping_mul(0xff51_afd7_ed55_8ccd_c4ce_b9fe_1a85_ec53);
    mixed ^= mixed >> 67;
    VertexId(mixed)
}
