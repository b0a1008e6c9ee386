//! The stream graph while a program builds it, and what becomes of it.
//!
//! Owns: [`GraphBuilder`], and [`BuiltGraph`]: the message for the JobManager beside the code for TaskManagers.
//! Invariant: the hash covers what must agree between processes (names, uids, kinds, edges, partitioners) and not what
//! the surroundings decide (parallelism, Kafka's partitions).
//! Left out: chaining (control plane).

use std::sync::Arc;
use std::time::Duration;

use ringflow_dataplane::program::{EdgeCode, NodeCode, Topology};
use ringflow_dataplane::source::alignment::WatermarkAlignment;
use ringflow_schemas::graph as wire;
use ringflow_schemas::network::BUFFER_TIMEOUT_NS_MAX;
use ringflow_schemas::rpc::{Message, SubmittedGraph};

/// A Kafka partition: what a source hands out, for discovery at submit.
pub type Split = (String, i32);
/// Asks what a source is made of. Runs in the client, at submit; may block.
pub type Discover = Arc<dyn Fn() -> crate::Result<Vec<Split>> + Send + Sync>;

/// One operator as the program described it.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) uid: Option<String>,
    pub(crate) kind: wire::OperatorKind,
    pub(crate) parallelism: u32,
    pub(crate) auto_parallelism: bool,
    pub(crate) max_parallelism: u32,
    pub(crate) slot_sharing_group: Option<String>,
    pub(crate) chaining: wire::ChainingStrategy,
    pub(crate) discover: Option<Discover>,
    pub(crate) code: NodeCode,
}

impl Node {
    fn alignment(&self) -> Option<&WatermarkAlignment> {
        match &self.code {
            NodeCode::Source { watermarks, .. } => watermarks.alignment.as_ref(),
            NodeCode::Operator(_) => None,
        }
    }
}

/// How records of one stream get to the next operator.
#[derive(Clone)]
pub(crate) struct Edge {
    pub(crate) source: u32,
    pub(crate) target: u32,
    pub(crate) partitioner: wire::Partitioner,
    pub(crate) code: EdgeCode,
}

/// Where the code of a job is found again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramSource {
    /// A built-in job, or the program's own binary.
    pub kind: wire::ProgramKind,
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// What holds for a whole job, wherever its program does not say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExecutionConfig {
    /// Default parallelism; 0: sources decide by their splits, all else is 1.
    pub parallelism: u32,
    /// How long a partly filled output buffer may wait for more records; zero: until its subtask runs out of input. At most
    /// 1 h.
    pub buffer_timeout: Duration,
}

/// A buffer timeout in nanoseconds.
///
/// # Errors
/// It is longer than a job may have.
pub(crate) fn buffer_timeout_ns(timeout: Duration) -> Result<u64, String> {
    let ns = u64::try_from(timeout.as_nanos()).ok();
    ns.filter(|ns| *ns <= BUFFER_TIMEOUT_NS_MAX)
        .ok_or_else(|| format!("a buffer timeout of {timeout:?} is too long: 3600s is the most"))
}

/// A graph under construction.
#[derive(Default)]
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct GraphBuilder {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

/// A finished graph.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct BuiltGraph {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    hash: u64,
}

impl GraphBuilder {
    pub(crate) fn add_node(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        u32::try_from(self.nodes.len() - 1).expect("a program of fewer than 2^32 operators")
    }

    pub(crate) fn add_edge(&mut self, edge: Edge) {
        self.edges.push(edge);
    }

    pub(crate) fn node_mut(&mut self, id: u32) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// Ends construction.
    ///
    /// # Errors
    /// Nothing was built, or two operators have the same uid.
    pub fn finish(self) -> crate::Result<BuiltGraph> {
        anyhow::ensure!(
            !self.nodes.is_empty(),
            "the program has no operators: start with `env.from_source(..)`"
        );
        let mut uids: Vec<&str> = self
            .nodes
            .iter()
            .filter_map(|node| node.uid.as_deref())
            .collect();
        uids.sort_unstable();
        if let Some(twice) = uids.windows(2).find(|pair| pair[0] == pair[1]) {
            anyhow::bail!(
                "two operators have the uid `{}`: a uid names one operator",
                twice[0]
            );
        }
        let hash = fingerprint(&self.nodes, &self.edges);
        Ok(BuiltGraph {
            nodes: self.nodes,
            edges: self.edges,
            hash,
        })
    }
}

/// FNV-1a over what must agree between processes.
fn fingerprint(nodes: &[Node], edges: &[Edge]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut take = |bytes: &[u8]| {
        for byte in bytes.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    take(crate::VERSION.as_bytes());
    for node in nodes {
        take(node.name.as_bytes());
        take(node.uid.as_deref().unwrap_or_default().as_bytes());
        take(&[node.kind.0, node.chaining.0]);
        if let Some(alignment) = node.alignment() {
            take(alignment.group.as_bytes());
        }
    }
    for edge in edges {
        take(&edge.source.to_le_bytes());
        take(&edge.target.to_le_bytes());
        take(&[edge.partitioner.0, edge.code.input]);
        take(&edge.code.side_output.unwrap_or_default().to_le_bytes());
    }
    hash
}

impl BuiltGraph {
    /// Asks the outside what the sources are made of and writes the message for the JobManager.
    ///
    /// # Errors
    /// The buffer timeout is too long, a source's outside cannot be reached, or it lacks what the job reads.
    pub fn message(
        &self,
        name: &str,
        program: &ProgramSource,
        config: &ExecutionConfig,
    ) -> crate::Result<Message<SubmittedGraph>> {
        let buffer_timeout_ns =
            buffer_timeout_ns(config.buffer_timeout).map_err(anyhow::Error::msg)?;
        let mut splits = Vec::new();
        for node in &self.nodes {
            splits.push(
                node.discover
                    .as_ref()
                    .map_or_else(|| Ok(Vec::new()), |discover| discover())?,
            );
        }
        Ok(Message::build(|builder| {
            let nodes: Vec<_> = self
                .nodes
                .iter()
                .zip(&splits)
                .zip(0u32..)
                .map(|((node, splits), id)| {
                    let uid = node
                        .uid
                        .clone()
                        .unwrap_or_else(|| format!("{id}-{}", node.name));
                    let uid = Some(builder.create_string(&uid));
                    let name = Some(builder.create_string(&node.name));
                    let group = node
                        .slot_sharing_group
                        .as_ref()
                        .map(|group| builder.create_string(group));
                    let splits: Vec<_> = splits
                        .iter()
                        .map(|(topic, partition)| {
                            let topic = Some(builder.create_string(topic));
                            wire::SourceSplit::create(
                                builder,
                                &wire::SourceSplitArgs {
                                    topic,
                                    partition: *partition,
                                },
                            )
                        })
                        .collect();
                    let splits = (!splits.is_empty()).then(|| builder.create_vector(&splits));
                    let watermark_alignment = node.alignment().map(|alignment| {
                        let group = Some(builder.create_string(&alignment.group));
                        let interval = alignment.update_interval.as_millis();
                        let args = wire::WatermarkAlignmentArgs {
                            group,
                            max_drift_ms: alignment.max_drift_ms,
                            update_interval_ms: u32::try_from(interval).unwrap_or(u32::MAX),
                        };
                        wire::WatermarkAlignment::create(builder, &args)
                    });
                    wire::StreamNode::create(
                        builder,
                        &wire::StreamNodeArgs {
                            id,
                            uid,
                            name,
                            kind: node.kind,
                            parallelism: node.parallelism,
                            auto_parallelism: node.auto_parallelism
                                && node.parallelism == 0
                                && config.parallelism == 0,
                            max_parallelism: node.max_parallelism,
                            slot_sharing_group: group,
                            chaining: node.chaining,
                            splits,
                            watermark_alignment,
                        },
                    )
                })
                .collect();
            let nodes = Some(builder.create_vector(&nodes));
            let edges: Vec<_> = self
                .edges
                .iter()
                .zip(0u32..)
                .map(|(edge, id)| {
                    let (source, target, partitioner) =
                        (edge.source, edge.target, edge.partitioner);
                    wire::StreamEdge::create(
                        builder,
                        &wire::StreamEdgeArgs {
                            id,
                            source,
                            target,
                            partitioner,
                        },
                    )
                })
                .collect();
            let edges = Some(builder.create_vector(&edges));
            let arguments: Vec<_> = program
                .arguments
                .iter()
                .map(|argument| builder.create_string(argument))
                .collect();
            let arguments = Some(builder.create_vector(&arguments));
            let program_name = Some(builder.create_string(&program.name));
            let args = wire::ProgramArgs {
                kind: program.kind,
                name: program_name,
                arguments,
            };
            let program = Some(wire::Program::create(builder, &args));
            let name = Some(builder.create_string(name));
            wire::StreamGraph::create(
                builder,
                &wire::StreamGraphArgs {
                    name,
                    program,
                    parallelism: config.parallelism,
                    max_parallelism: 0,
                    nodes,
                    edges,
                    hash: self.hash,
                    buffer_timeout_ns,
                },
            )
        }))
    }

    /// The code, for TaskManagers.
    #[must_use]
    pub fn into_topology(self) -> Topology {
        Topology {
            nodes: self.nodes.into_iter().map(|node| node.code).collect(),
            edges: self.edges.into_iter().map(|edge| edge.code).collect(),
            hash: self.hash,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn the_message_carries_what_holds_for_the_whole_job() {
        let env = StreamExecutionEnvironment::for_plan();
        let numbers = SequenceSource::new(1);
        env.from_source(numbers, WatermarkStrategy::no_watermarks(), "numbers")
            .discard();
        let graph = env.take_graph().unwrap();
        let program = ProgramSource {
            kind: wire::ProgramKind::Application,
            name: "test".to_owned(),
            arguments: Vec::new(),
        };
        let message = |buffer_timeout| {
            let config = ExecutionConfig {
                parallelism: 3,
                buffer_timeout,
            };
            graph.message("test", &program, &config)
        };
        let sent = message(Duration::from_millis(200)).unwrap();
        assert_eq!(
            (sent.get().parallelism(), sent.get().buffer_timeout_ns()),
            (3, 200_000_000)
        );
        let error = message(Duration::MAX).unwrap_err().to_string();
        assert!(error.contains("3600s is the most"), "{error}");
    }

    #[test]
    fn a_program_sets_the_buffer_timeout_of_its_job() {
        let mut env = StreamExecutionEnvironment::create_local_environment();
        env.set_buffer_timeout(Duration::from_secs(7_200));
        let numbers = SequenceSource::new(1);
        env.from_source(numbers, WatermarkStrategy::no_watermarks(), "numbers")
            .discard();
        let error = env.execute("too long").unwrap_err().to_string();
        assert!(error.contains("a buffer timeout of 7200s"), "{error}");
    }
}
