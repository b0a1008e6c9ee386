//! Built subtasks on their way to their cores.
//!
//! Owns: [`hand_over`]. Invariant: each attempt is either on its core or given back, never both: who reports it can say
//! what is true of it. Left out: reporting.

use std::collections::BTreeMap;

use ringflow_schemas::id::ExecutionAttemptId;

use crate::error::Error;
use crate::runtime::core::{CoreCommand, CoreHandle};
use crate::subtask::spec::SubtaskSpec;

/// A deployment of which not everything could be handed over.
#[allow(missing_debug_implementations, reason = "holds boxed operators")]
pub(super) struct Refused {
    /// Why.
    pub(super) error: Error,
    /// Attempts that are on no core.
    pub(super) attempts: Vec<ExecutionAttemptId>,
    /// What was built for them; dropping it may block.
    pub(super) specs: Vec<SubtaskSpec>,
}

/// Hands each core its subtasks, in the order of cores, until one takes none. Returns the attempts that are on cores now.
pub(super) fn hand_over(
    cores: &[CoreHandle],
    specs: Vec<(u32, SubtaskSpec)>,
) -> (Vec<ExecutionAttemptId>, Option<Refused>) {
    let mut by_core: BTreeMap<u32, Vec<SubtaskSpec>> = BTreeMap::new();
    for (core, spec) in specs {
        by_core.entry(core).or_default().push(spec);
    }
    let mut placed = Vec::new();
    while let Some((core, specs)) = by_core.pop_first() {
        let attempts: Vec<ExecutionAttemptId> = specs.iter().map(|spec| spec.attempt).collect();
        if let Err((error, mut specs)) = deploy(cores, core, specs) {
            specs.extend(by_core.into_values().flatten());
            let attempts = specs.iter().map(|spec| spec.attempt).collect();
            let refused = Refused {
                error,
                attempts,
                specs,
            };
            return (placed, Some(refused));
        }
        placed.extend(attempts);
    }
    (placed, None)
}

/// Gives `specs` to core `core`, or gives them back.
fn deploy(
    cores: &[CoreHandle],
    core: u32,
    specs: Vec<SubtaskSpec>,
) -> Result<(), (Error, Vec<SubtaskSpec>)> {
    let Some(handle) = cores.get(core as usize) else {
        return Err((Error::deployment(format!("no core {core} here")), specs));
    };
    let refused = handle.offer(CoreCommand::Deploy(specs));
    refused.map_err(|(error, command)| match *command {
        CoreCommand::Deploy(specs) => (error, specs),
        _ => unreachable!("a core gives back what it was offered"),
    })
}
