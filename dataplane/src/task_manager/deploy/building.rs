//! The operators of a deployment.
//!
//! Owns: [`build`], [`BuiltDeployment`]. Invariant: either every operator of every subtask is built, of the graph that
//! the client built too, or there is an error; what had finished before has none.
//! Left out: where subtasks run and what connects them ([`super::wiring`]).

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::operator::Operator;
use crate::program::{NodeCode, ProgramResolver, Topology};
use crate::runtime::context::PrepareContext;
use crate::runtime::housekeeping::Housekeeping;
use crate::source::SourceReader;

use super::descriptor::{Deployment, Node, SubtaskPlan};

/// The code of one subtask, built.
pub(super) struct Built {
    pub(super) reader: Option<Box<dyn SourceReader>>,
    pub(super) operators: HashMap<u32, Box<dyn Operator>>,
}

/// A deployment whose operators exist.
#[allow(missing_debug_implementations, reason = "holds boxed operators")]
pub struct BuiltDeployment {
    /// What was described.
    pub deployment: Deployment,
    pub(super) topology: Arc<Topology>,
    pub(super) built: Vec<Built>,
}

/// Finds the code and builds every operator. Runs on a housekeeping thread; may block for seconds.
///
/// # Errors
/// The program is unknown or differs from the client's, or a source or sink cannot reach its outside.
pub fn build(
    deployment: Deployment,
    resolver: &dyn ProgramResolver,
    housekeeping: &Housekeeping,
) -> Result<BuiltDeployment> {
    let graph = deployment.graph()?;
    let topology = resolver
        .resolve(graph.program())
        .map_err(Error::deployment)?;
    if topology.hash != graph.hash() || topology.nodes.len() != deployment.nodes.len() {
        return Err(Error::deployment(format!(
            "program `{}` builds another graph here ({:016x}) than at the client ({:016x}): run the same build with the same \
             arguments everywhere",
            graph.program().name(),
            topology.hash,
            graph.hash()
        )));
    }
    let built = deployment
        .subtasks
        .iter()
        .map(|plan| build_subtask(plan, &deployment.nodes, &topology, housekeeping));
    let built = built.collect::<Result<Vec<_>>>()?;
    Ok(BuiltDeployment {
        deployment,
        topology,
        built,
    })
}

fn build_subtask(
    plan: &SubtaskPlan,
    nodes: &[Node],
    topology: &Topology,
    housekeeping: &Housekeeping,
) -> Result<Built> {
    let mut built = Built {
        reader: None,
        operators: HashMap::new(),
    };
    if plan.finished_before {
        return Ok(built);
    }
    for id in &plan.operators {
        let (node, code) = (&nodes[*id as usize], &topology.nodes[*id as usize]);
        let context = PrepareContext {
            operator_name: node.name.clone(),
            subtask_index: plan.attempt.subtask,
            parallelism: plan.parallelism,
            max_parallelism: plan.max_parallelism,
            splits: plan.splits.clone(),
            housekeeping: housekeeping.clone(),
        };
        let named = |error: Error| error.at_operator(&node.name);
        match code {
            NodeCode::Source { factory, .. } => {
                built.reader = Some(factory.prepare(&context).map_err(named)?)
            }
            NodeCode::Operator(factory) => {
                built
                    .operators
                    .insert(*id, factory.prepare(&context).map_err(named)?);
            }
        }
    }
    Ok(built)
}
