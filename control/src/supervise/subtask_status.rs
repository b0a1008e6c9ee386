//! The life of one attempt at a subtask, with Flink's names.
//!
//! ```text
//! CREATED -> SCHEDULED -> DEPLOYING -> INITIALIZING -> RUNNING -> FINISHED
//!    |           |            |              |            |
//!    |           |            +--------------+------------+--> CANCELING -> CANCELED
//!    +-----------+--> CANCELED                            +--> FAILED (from any but CANCELING)
//! ```
//! Owns: the machine.
//! Invariant: a terminal status never changes. Whatever ends an attempt that is CANCELING, it ends CANCELED: it was
//! asked to go, and it is gone.
//! Left out: RECONCILING.
//!
//! Source: Flink `ExecutionState`, `Execution`.

use crate::event::ReportedStatus;

/// Where an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the diagram above explains them together")]
pub enum SubtaskStatus {
    Created,
    Scheduled,
    Deploying,
    Initializing,
    Running,
    Finished,
    Canceling,
    Canceled,
    Failed,
}

/// What moves an attempt on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubtaskEvent {
    /// It waits for a slot.
    Scheduled,
    /// It got a slot, its deployment is on the way.
    Deployed,
    /// It shall end.
    CancelRequested,
    /// Its TaskManager told of it.
    Reported(ReportedStatus),
    /// Its TaskManager is gone.
    TaskManagerLost,
}

/// An event that cannot happen in this status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("subtask is {}: {event:?} cannot happen", .from.name())]
pub struct InvalidSubtaskTransition {
    /// The status.
    pub from: SubtaskStatus,
    /// The event.
    pub event: SubtaskEvent,
}

impl SubtaskStatus {
    /// All of them, in the order of [`Self::index`].
    pub const ALL: [Self; 9] = [
        Self::Created,
        Self::Scheduled,
        Self::Deploying,
        Self::Initializing,
        Self::Running,
        Self::Finished,
        Self::Canceling,
        Self::Canceled,
        Self::Failed,
    ];

    /// Position in [`Self::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// Flink's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Scheduled => "SCHEDULED",
            Self::Deploying => "DEPLOYING",
            Self::Initializing => "INITIALIZING",
            Self::Running => "RUNNING",
            Self::Finished => "FINISHED",
            Self::Canceling => "CANCELING",
            Self::Canceled => "CANCELED",
            Self::Failed => "FAILED",
        }
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Canceled | Self::Failed)
    }

    /// The status after `event`; the same one where the event changes nothing.
    ///
    /// # Errors
    /// The event cannot happen here: log it and go on.
    pub fn on(self, event: SubtaskEvent) -> Result<Self, InvalidSubtaskTransition> {
        use SubtaskEvent as E;
        match (self, event) {
            (Self::Created, E::Scheduled) => Ok(Self::Scheduled),
            (Self::Scheduled, E::Deployed) => Ok(Self::Deploying),
            (Self::Created | Self::Scheduled, E::CancelRequested) => Ok(Self::Canceled),
            (Self::Deploying | Self::Initializing | Self::Running, E::CancelRequested) => {
                Ok(Self::Canceling)
            }
            (from, E::CancelRequested) => Ok(from),
            (Self::Deploying | Self::Initializing | Self::Running, E::TaskManagerLost) => {
                Ok(Self::Failed)
            }
            (Self::Canceling, E::TaskManagerLost) => Ok(Self::Canceled),
            (from, E::Reported(reported)) => from
                .on_report(reported)
                .ok_or(InvalidSubtaskTransition { from, event }),
            (from, event) => Err(InvalidSubtaskTransition { from, event }),
        }
    }

    fn on_report(self, reported: ReportedStatus) -> Option<Self> {
        use ReportedStatus as R;
        match (self, reported) {
            (Self::Deploying, R::Deploying) => Some(Self::Deploying),
            (Self::Deploying | Self::Initializing, R::Initializing) => Some(Self::Initializing),
            (Self::Deploying | Self::Initializing | Self::Running, R::Running) => {
                Some(Self::Running)
            }
            (Self::Deploying | Self::Initializing | Self::Running, R::Finished) => {
                Some(Self::Finished)
            }
            // Nobody asked for it: an attempt that is gone without having finished has failed.
            (Self::Deploying | Self::Initializing | Self::Running, R::Canceled | R::Failed) => {
                Some(Self::Failed)
            }
            // It goes on until it says how it ended.
            (Self::Deploying | Self::Initializing | Self::Running, R::Canceling) => Some(self),
            (Self::Canceling, R::Finished | R::Canceled | R::Failed) => Some(Self::Canceled),
            // Reports that were on their way when it was cancelled.
            (Self::Canceling, _) => Some(Self::Canceling),
            _ => None,
        }
    }
}
