//! The code of a job as a TaskManager sees it: operators by node of the stream graph.
//!
//! Owns: [`Topology`] and [`ProgramResolver`]. Client and TaskManagers build the same topology from the same program and
//! arguments; its hash, which covers nodes and edges, must be the one that was submitted.
//! Invariant: `nodes[i]` and `edges[i]` are node and edge `i` of the graph.
//! Left out: how the graph is cut into chains and placed (control plane).

use std::sync::Arc;

use ringflow_schemas::graph::Program;

use crate::exchange::partitioner::{KeyHash, SelectChannel};
use crate::operator::OperatorFactory;
use crate::operator::chain::SideOutputId;
use crate::source::watermark::WatermarkPolicy;
use crate::source::{SourceFactory, TimestampAssigner};

/// The code of one node.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub enum NodeCode {
    /// A source with its watermark strategy.
    Source {
        /// Builds readers.
        factory: Arc<dyn SourceFactory>,
        /// How watermarks are made.
        watermarks: WatermarkPolicy,
        /// Reads event times out of records; without it the source's own timestamps count.
        assigner: Option<TimestampAssigner>,
    },
    /// An operator or sink.
    Operator(Arc<dyn OperatorFactory>),
}

/// How records of an edge find their channel, beyond what the graph says.
#[derive(Clone, Default)]
#[allow(missing_debug_implementations, reason = "holds closures")]
pub enum EdgeRouting {
    /// The graph says all.
    #[default]
    Plain,
    /// By the key group of a key.
    Key(KeyHash),
    /// As a function of the user's says.
    Custom(SelectChannel),
}

/// The code of one edge.
#[derive(Clone, Default)]
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct EdgeCode {
    /// How records find their channel.
    pub routing: EdgeRouting,
    /// The side output of its source that it starts at; `None`: the main output.
    pub side_output: Option<SideOutputId>,
    /// Which input of its target it leads to, from 0.
    pub input: u8,
}

/// The code of a job.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct Topology {
    /// Code of each node.
    pub nodes: Vec<NodeCode>,
    /// Code of each edge.
    pub edges: Vec<EdgeCode>,
    /// Fingerprint of nodes and edges.
    pub hash: u64,
}

/// Finds the code of a program.
pub trait ProgramResolver: Send + Sync + 'static {
    /// Builds the topology. Runs on a housekeeping thread.
    ///
    /// # Errors
    /// The program is not known here, or its arguments are wrong: what to do, for the user.
    fn resolve(&self, program: Program<'_>) -> Result<Arc<Topology>, String>;
}
