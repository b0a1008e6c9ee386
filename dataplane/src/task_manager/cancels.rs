//! Cancels on their way to the cores.
//!
//! Owns: [`Cancels`]. Invariant: an attempt that shall end is offered to every core until that core has taken the command or
//! the attempt has ended, so what waits is bounded by the attempts that run here, for each core.
//! Left out: when to offer again, and who hears of the end (the control client).

use std::collections::{BTreeSet, HashSet};

use ringflow_schemas::id::ExecutionAttemptId;

use crate::runtime::core::{CoreCommand, CoreHandle};

/// What one core has not taken yet.
#[derive(Debug, Default)]
struct Waiting {
    attempts: BTreeSet<ExecutionAttemptId>,
    /// The log says already that the core does not take it.
    told: bool,
}

/// Attempts to cancel, by the cores that do not know yet.
#[derive(Debug)]
pub(super) struct Cancels(Vec<Waiting>);

impl Cancels {
    /// None, for so many cores.
    pub(super) fn new(cores: usize) -> Self {
        Self((0..cores).map(|_| Waiting::default()).collect())
    }

    /// From now on each core is offered these.
    pub(super) fn add(&mut self, attempts: &[ExecutionAttemptId]) {
        for waiting in &mut self.0 {
            waiting.attempts.extend(attempts);
        }
    }

    /// Offers each core what it has not taken, of the attempts that still run.
    pub(super) fn offer(&mut self, cores: &[CoreHandle], running: &HashSet<ExecutionAttemptId>) {
        for (index, (core, waiting)) in cores.iter().zip(&mut self.0).enumerate() {
            if waiting.attempts.is_empty() {
                continue;
            }
            waiting.attempts.retain(|attempt| running.contains(attempt));
            let attempts: Vec<ExecutionAttemptId> = waiting.attempts.iter().copied().collect();
            if attempts.is_empty() {
                continue;
            }
            match core.send(CoreCommand::Cancel(attempts)) {
                Ok(()) => *waiting = Waiting::default(),
                Err(error) => {
                    if !std::mem::replace(&mut waiting.told, true) {
                        tracing::error!("data core {index} cannot cancel yet: {error}");
                    }
                }
            }
        }
    }
}
