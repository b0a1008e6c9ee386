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
    /// What was built for those that were not even tried; dropping it may block.
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
        let mut attempts: Vec<ExecutionAttemptId> = specs.iter().map(|spec| spec.attempt).collect();
        let sent = match cores.get(core as usize) {
            Some(handle) => handle.send(CoreCommand::Deploy(specs)),
            None => Err(Error::deployment(format!("no core {core} here"))),
        };
        if let Err(error) = sent {
            let specs: Vec<SubtaskSpec> = by_core.into_values().flatten().collect();
            attempts.extend(specs.iter().map(|spec| spec.attempt));
            let refused = Refused {
                error,
                attempts,
                specs,
            };
            return (placed, Some(refused));
        }
        placed.append(&mut attempts);
    }
    (placed, None)
}
