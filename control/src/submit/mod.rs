//! Accepting a submission: refuse early, with a reason that names the operator.
//!
//! Owns: the way from a [`StreamGraph`] nobody has looked at to a [`Plan`]: validated, every parallelism decided.
//! Invariant: a `Plan` needs no re-check; its subtasks and channels are within `limits`.
//! Left out: slots (schedule/), persistence.

pub(crate) mod resolve;
pub(crate) mod splits;
pub(crate) mod validate;

use crate::graph::StreamGraph;
use crate::graph::job_graph::JobGraph;
use crate::graph::wiring;
use crate::limits;

/// Why a submission was refused, for the person who submitted it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .reasons.join("; "))]
pub struct Rejected {
    /// At least one reason.
    pub reasons: Vec<String>,
}

impl Rejected {
    pub(crate) fn because(reason: impl Into<String>) -> Self {
        Self {
            reasons: vec![reason.into()],
        }
    }
}

/// A job that can be scheduled.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) job_graph: JobGraph,
    pub(crate) warnings: Vec<String>,
    /// Some source leaves its parallelism to the scheduler: other slots may mean another plan.
    pub(crate) auto: bool,
}

/// Validates `graph` and decides all parallelism, given `slots` to spread over (`None`: unknown yet, take what is best).
pub(crate) fn plan(graph: &StreamGraph, slots: Option<u32>) -> Result<Plan, Rejected> {
    validate::validate(graph)?;
    let resolved = resolve::resolve(graph, slots)?;
    let job_graph = JobGraph::build(graph, &resolved);
    check_size(&job_graph)?;
    let mut warnings = resolved.warnings;
    warnings.truncate(limits::WARNINGS_MAX);
    Ok(Plan {
        job_graph,
        warnings,
        auto: resolved.auto,
    })
}

fn check_size(job_graph: &JobGraph) -> Result<(), Rejected> {
    let subtasks: usize = job_graph
        .vertices
        .iter()
        .map(|vertex| vertex.parallelism as usize)
        .sum();
    if subtasks > limits::SUBTASKS_MAX {
        return Err(Rejected::because(format!(
            "job has {subtasks} subtasks, more than the {} that a job may have: lower -p/--parallelism",
            limits::SUBTASKS_MAX
        )));
    }
    let instances: usize = job_graph
        .vertices
        .iter()
        .map(|vertex| {
            vertex.parallelism as usize * (vertex.operators.len() + vertex.chained_edges.len())
        })
        .sum();
    if instances > limits::OPERATOR_INSTANCES_MAX {
        return Err(Rejected::because(format!(
            "job has {instances} parallel instances of operators and chained edges, more than the {} that a job may \
             have: lower -p/--parallelism",
            limits::OPERATOR_INSTANCES_MAX
        )));
    }
    let mut channels = 0;
    for edge in &job_graph.edges {
        let producers = job_graph.vertices[edge.producer as usize].parallelism;
        let consumers = job_graph.vertices[edge.consumer as usize].parallelism;
        channels += wiring::channel_count(edge.partitioner, producers, consumers);
    }
    if channels > limits::CHANNELS_MAX {
        return Err(Rejected::because(format!(
            "job has {channels} channels between subtasks, more than the {} that a job may have: \
             lower -p/--parallelism",
            limits::CHANNELS_MAX
        )));
    }
    Ok(())
}
