//! What a client submits: operators and edges, as the program wrote them.
//!
//! Owns: the inner form of `schemas/fbs/job_graph.fbs`. Chaining, parallelism and slots are decided later, elsewhere.
//! Invariant: none yet; `submit::validate` is the border behind which ids are indexes, and the graph is acyclic.
//! Left out: serialisation (wire/).

/// Where a TaskManager finds the code of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Shipped with ringflow, or the binary itself.
    pub kind: ProgramKind,
    /// Name that rebuilds it.
    pub name: String,
    /// Arguments that rebuild it.
    pub arguments: Vec<String>,
}

/// How a program's code is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramKind {
    /// A job that ships with ringflow.
    BuiltIn,
    /// The TaskManager runs the same binary.
    Application,
}

/// What an operator is to the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorKind {
    /// Reads from outside; has no inputs.
    Source,
    /// Has inputs of one type.
    OneInput,
    /// Writes to the outside; has no outputs.
    Sink,
    /// Has two inputs of types of their own.
    TwoInput,
}

/// Whether an operator may share a subtask with its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainingStrategy {
    /// With both sides.
    Always,
    /// With neither.
    Never,
    /// With what follows only.
    Head,
}

/// How records of an edge find their subtask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitioner {
    /// To the subtask of the same index.
    Forward,
    /// Round robin over all.
    Rebalance,
    /// Round robin over the neighbours.
    Rescale,
    /// At random.
    Shuffle,
    /// To all.
    Broadcast,
    /// To the first.
    Global,
    /// By key group.
    Hash,
    /// As a function of the program's says.
    Custom,
}

impl Partitioner {
    /// Whether only neighbouring subtasks are connected; all others connect everyone with everyone.
    #[must_use]
    pub fn is_pointwise(self) -> bool {
        matches!(self, Self::Forward | Self::Rescale)
    }

    /// Flink's name of it (`ship_strategy` in a plan).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "FORWARD",
            Self::Rebalance => "REBALANCE",
            Self::Rescale => "RESCALE",
            Self::Shuffle => "SHUFFLE",
            Self::Broadcast => "BROADCAST",
            Self::Global => "GLOBAL",
            Self::Hash => "HASH",
            Self::Custom => "CUSTOM",
        }
    }
}

/// One unit of source assignment: a Kafka partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceSplit {
    /// The topic.
    pub topic: String,
    /// The partition in it.
    pub partition: i32,
}

/// How a source's watermark is held near those of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatermarkAlignment {
    /// Sources of the same name are held together.
    pub group: String,
    /// How far it may be ahead of the slowest of them, in milliseconds of event time.
    pub max_drift_ms: i64,
    /// How often they are compared, in milliseconds.
    pub update_interval_ms: u32,
}

/// One operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamNode {
    /// Index in [`StreamGraph::nodes`].
    pub id: u32,
    /// Identity over versions of the program.
    pub uid: String,
    /// What people call it.
    pub name: String,
    /// Its place in the graph.
    pub kind: OperatorKind,
    /// 0: the job's default.
    pub parallelism: u32,
    /// A source that wants as many subtasks as divide its splits evenly.
    pub auto_parallelism: bool,
    /// Number of key groups; 0: derived from the parallelism.
    pub max_parallelism: u32,
    /// Empty: that of its inputs when they agree, else `default`.
    pub slot_sharing_group: String,
    /// Whether it chains.
    pub chaining: ChainingStrategy,
    /// Known splits of a source.
    pub splits: Vec<SourceSplit>,
    /// Of a source that is aligned with others.
    pub watermark_alignment: Option<WatermarkAlignment>,
}

/// One edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamEdge {
    /// Index in [`StreamGraph::edges`].
    pub id: u32,
    /// Node that writes it.
    pub source: u32,
    /// Node that reads it.
    pub target: u32,
    /// How its records find their subtask.
    pub partitioner: Partitioner,
}

/// A job as its program describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamGraph {
    /// The job's name.
    pub name: String,
    /// Where its code is.
    pub program: Program,
    /// Default parallelism; 0: none given.
    pub parallelism: u32,
    /// Default number of key groups; 0: none given.
    pub max_parallelism: u32,
    /// The operators.
    pub nodes: Vec<StreamNode>,
    /// The edges.
    pub edges: Vec<StreamEdge>,
    /// Fingerprint of nodes and edges, passed on to TaskManagers as it came.
    pub hash: u64,
    /// How long a partly filled output buffer may wait for more, in nanoseconds; 0: until its subtask runs out of input.
    pub buffer_timeout_ns: u64,
}

impl StreamGraph {
    /// Node `id` of a validated graph.
    pub(crate) fn node(&self, id: u32) -> &StreamNode {
        &self.nodes[id as usize]
    }

    /// Edge `id` of a validated graph.
    pub(crate) fn edge(&self, id: u32) -> &StreamEdge {
        &self.edges[id as usize]
    }

    /// Edges that end at `node`, in order of their ids.
    pub(crate) fn in_edges(&self) -> Vec<Vec<u32>> {
        self.edges_by(|edge| edge.target)
    }

    /// Edges that start at `node`, in order of their ids.
    pub(crate) fn out_edges(&self) -> Vec<Vec<u32>> {
        self.edges_by(|edge| edge.source)
    }

    fn edges_by(&self, end: impl Fn(&StreamEdge) -> u32) -> Vec<Vec<u32>> {
        let mut edges = vec![Vec::new(); self.nodes.len()];
        for edge in &self.edges {
            edges[end(edge) as usize].push(edge.id);
        }
        edges
    }

    /// Node ids, producers before consumers, the smallest id first where there is a choice.
    ///
    /// Shape: fewer than all nodes when the graph has a cycle. Edges must end at nodes that exist.
    pub(crate) fn topological_order(&self) -> Vec<u32> {
        let out_edges = self.out_edges();
        let mut waiting: Vec<usize> = self.in_edges().iter().map(Vec::len).collect();
        let mut ready: std::collections::BTreeSet<u32> = self
            .nodes
            .iter()
            .filter(|node| waiting[node.id as usize] == 0)
            .map(|node| node.id)
            .collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(node) = ready.pop_first() {
            order.push(node);
            for &edge in &out_edges[node as usize] {
                let target = self.edge(edge).target;
                waiting[target as usize] -= 1;
                if waiting[target as usize] == 0 {
                    ready.insert(target);
                }
            }
        }
        order
    }
}
