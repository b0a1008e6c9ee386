//! Attempts that shall end, on their way to the cores.
//!
//! Owns: [`Endings`]. Invariant: an attempt that shall end is offered to every core until that core has taken the
//! command or the attempt has ended, so what waits is bounded by the attempts that run here, for each core. Who is
//! cancelled is not stopped any more.
//! Left out: when to offer again, and who hears of the end (the control client).

use std::collections::{BTreeMap, HashSet};

use ringflow_schemas::id::ExecutionAttemptId;

use crate::element::StopMode;
use crate::runtime::core::{CoreCommand, CoreHandle};

/// How an attempt shall end. Of two the greater counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Stop(StopMode),
    Cancel,
}

impl Ending {
    const ALL: [Self; 3] = [
        Self::Cancel,
        Self::Stop(StopMode::Drain),
        Self::Stop(StopMode::NoDrain),
    ];

    fn command(self, attempts: Vec<ExecutionAttemptId>) -> CoreCommand {
        match self {
            Self::Cancel => CoreCommand::Cancel(attempts),
            Self::Stop(mode) => CoreCommand::Stop(attempts, mode),
        }
    }
}

/// What one core has not taken yet.
#[derive(Debug, Default)]
struct Waiting {
    attempts: BTreeMap<ExecutionAttemptId, Ending>,
    /// The log says already that the core does not take it.
    told: bool,
}

impl Waiting {
    /// Offers what waits, one command for each way to end.
    fn offer(&mut self, index: usize, core: &CoreHandle) {
        for ending in Ending::ALL {
            let of_this = self.attempts.iter().filter(|(_, own)| **own == ending);
            let attempts: Vec<ExecutionAttemptId> = of_this.map(|(attempt, _)| *attempt).collect();
            if attempts.is_empty() {
                continue;
            }
            match core.send(ending.command(attempts)) {
                Ok(()) => {
                    self.attempts.retain(|_, own| *own != ending);
                    self.told = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.told, true) {
                        tracing::error!("data core {index} ends nothing yet: {error}");
                    }
                    return;
                }
            }
        }
    }
}

/// Attempts to end, by the cores that do not know yet.
#[derive(Debug)]
pub(super) struct Endings(Vec<Waiting>);

impl Endings {
    /// None, for so many cores.
    pub(super) fn new(cores: usize) -> Self {
        Self((0..cores).map(|_| Waiting::default()).collect())
    }

    /// From now on each core is told to cancel these.
    pub(super) fn cancel(&mut self, attempts: &[ExecutionAttemptId]) {
        self.add(attempts, Ending::Cancel);
    }

    /// From now on each core is told to stop those of these that are sources.
    pub(super) fn stop(&mut self, attempts: &[ExecutionAttemptId], mode: StopMode) {
        self.add(attempts, Ending::Stop(mode));
    }

    fn add(&mut self, attempts: &[ExecutionAttemptId], ending: Ending) {
        for waiting in &mut self.0 {
            for attempt in attempts {
                let own = waiting.attempts.entry(*attempt).or_insert(ending);
                *own = ending.max(*own);
            }
        }
    }

    /// Offers each core what it has not taken, of the attempts that still run.
    pub(super) fn offer(&mut self, cores: &[CoreHandle], running: &HashSet<ExecutionAttemptId>) {
        for (index, (core, waiting)) in cores.iter().zip(&mut self.0).enumerate() {
            waiting
                .attempts
                .retain(|attempt, _| running.contains(attempt));
            waiting.offer(index, core);
        }
    }
}
