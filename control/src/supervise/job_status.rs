//! The life of a job, with Flink's names.
//!
//! ```text
//! INITIALIZING -> CREATED -> RUNNING -> FINISHED
//!                    |          |
//!                    +----------+--> FAILING ----> FAILED
//!                    |          |       |
//!                    +----------+-------+--> CANCELLING -> CANCELED
//! ```
//! Owns: the machine. CREATED lasts until slots are found; RUNNING begins with deployment.
//! Invariant: a terminal status never changes.
//! Left out: RESTARTING, SUSPENDED, RECONCILING: nothing leads there yet.
//!
//! Source: Flink `JobStatus`, `DefaultExecutionGraph`.

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the diagram above explains them together")]
pub enum JobStatus {
    Initializing,
    Created,
    Running,
    Failing,
    Failed,
    Cancelling,
    Canceled,
    Finished,
}

/// What moves a job on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEvent {
    /// Its graph is validated and expanded.
    GraphBuilt,
    /// It got slots, deployment messages are on their way.
    Deployed,
    /// Someone asked to cancel it.
    CancelRequested,
    /// A subtask failed, a TaskManager was lost, or no slots came.
    FailureOccurred,
    /// Every subtask is terminal.
    AllSubtasksTerminal,
}

/// An event that cannot happen in this status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("job is {}: {event:?} cannot happen", .from.name())]
pub struct InvalidJobTransition {
    /// The status.
    pub from: JobStatus,
    /// The event.
    pub event: JobEvent,
}

impl JobStatus {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Initializing,
        Self::Created,
        Self::Running,
        Self::Failing,
        Self::Failed,
        Self::Cancelling,
        Self::Canceled,
        Self::Finished,
    ];

    /// Flink's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Initializing => "INITIALIZING",
            Self::Created => "CREATED",
            Self::Running => "RUNNING",
            Self::Failing => "FAILING",
            Self::Failed => "FAILED",
            Self::Cancelling => "CANCELLING",
            Self::Canceled => "CANCELED",
            Self::Finished => "FINISHED",
        }
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Failed | Self::Canceled | Self::Finished)
    }

    /// The status after `event`; the same one where the event changes nothing.
    ///
    /// # Errors
    /// The event cannot happen here: log it and go on.
    pub fn on(self, event: JobEvent) -> Result<Self, InvalidJobTransition> {
        use JobEvent as E;
        match (self, event) {
            (Self::Initializing, E::GraphBuilt) => Ok(Self::Created),
            (Self::Created, E::Deployed) => Ok(Self::Running),
            (
                Self::Created | Self::Running | Self::Failing | Self::Cancelling,
                E::CancelRequested,
            ) => Ok(Self::Cancelling),
            (Self::Created | Self::Running | Self::Failing, E::FailureOccurred) => {
                Ok(Self::Failing)
            }
            (Self::Cancelling, E::FailureOccurred) => Ok(Self::Cancelling),
            (Self::Running, E::AllSubtasksTerminal) => Ok(Self::Finished),
            (Self::Failing, E::AllSubtasksTerminal) => Ok(Self::Failed),
            (Self::Cancelling, E::AllSubtasksTerminal) => Ok(Self::Canceled),
            (from, event) => Err(InvalidJobTransition { from, event }),
        }
    }
}
