//! What went wrong with a job, and which of it was the root.
//!
//! Owns: [`FailureHistory`]: failures of one job, told apart into the root and what came with it.
//! Invariant: at most `limits::FAILURES_MAX` failures, each message cut at `limits::FAILURE_BYTES_MAX`; the root is
//! never dropped. The order is that of timestamps, not of arrival.
//! Left out: recovery. A lost peer is a symptom: it is the root only when nothing else is known.

use crate::event;
use crate::limits;
use crate::time::Timestamp;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureCause {
    Operator,
    Deployment,
    PeerLost,
    TaskManagerLost,
    NoResourceAvailable,
}

impl FailureCause {
    /// What REST calls `exceptionName`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Operator => "OperatorException",
            Self::Deployment => "DeploymentException",
            Self::PeerLost => "RemoteTransportException",
            Self::TaskManagerLost => "TaskManagerLostException",
            Self::NoResourceAvailable => "NoResourceAvailableException",
        }
    }
}

impl From<event::FailureKind> for FailureCause {
    fn from(kind: event::FailureKind) -> Self {
        match kind {
            event::FailureKind::Operator => Self::Operator,
            event::FailureKind::Deployment => Self::Deployment,
            event::FailureKind::PeerLost => Self::PeerLost,
        }
    }
}

/// One failure.
#[derive(Debug, Clone)]
pub(crate) struct FailureRecord {
    pub(crate) timestamp: Timestamp,
    pub(crate) cause: FailureCause,
    pub(crate) message: String,
    /// `name (1/4)`, when a subtask failed.
    pub(crate) task_name: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) task_manager_id: Option<String>,
}

/// All failures of one job.
#[derive(Debug, Default)]
pub(crate) struct FailureHistory {
    failures: Vec<FailureRecord>,
    dropped: usize,
}

impl FailureHistory {
    pub(crate) fn add(&mut self, mut failure: FailureRecord) {
        truncate(&mut failure.message, limits::FAILURE_BYTES_MAX);
        self.failures.push(failure);
        // The root first, the others in order: what does not fit is what came last.
        self.failures.sort_by_key(|failure| failure.timestamp);
        if let Some(root) = self.root_index() {
            let root = self.failures.remove(root);
            self.failures.insert(0, root);
        }
        if self.failures.len() > limits::FAILURES_MAX {
            self.failures.truncate(limits::FAILURES_MAX);
            self.dropped += 1;
        }
    }

    fn root_index(&self) -> Option<usize> {
        let rank =
            |failure: &FailureRecord| (failure.cause == FailureCause::PeerLost, failure.timestamp);
        (0..self.failures.len()).min_by_key(|&index| (rank(&self.failures[index]), index))
    }

    /// The failure that explains the others.
    pub(crate) fn root(&self) -> Option<&FailureRecord> {
        self.failures.first()
    }

    /// The others, by time.
    pub(crate) fn concurrent(&self) -> &[FailureRecord] {
        self.failures.get(1..).unwrap_or_default()
    }

    /// Whether failures were dropped.
    pub(crate) fn truncated(&self) -> bool {
        self.dropped > 0
    }

    /// Whether nothing better than a lost peer is known.
    pub(crate) fn only_peers_lost(&self) -> bool {
        self.root()
            .is_some_and(|root| root.cause == FailureCause::PeerLost)
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.failures.len()
    }
}

/// Cuts `text` at a character's border at or below `bytes_max`.
fn truncate(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(ms: u64, cause: FailureCause) -> FailureRecord {
        FailureRecord {
            timestamp: Timestamp(ms),
            cause,
            message: format!("{cause:?} at {ms}"),
            task_name: None,
            endpoint: None,
            task_manager_id: None,
        }
    }

    #[test]
    fn a_lost_task_manager_is_the_root_of_lost_peers_noticed_before_it() {
        let mut history = FailureHistory::default();
        history.add(failure(10, FailureCause::PeerLost));
        assert!(history.only_peers_lost());
        history.add(failure(12, FailureCause::PeerLost));
        history.add(failure(20, FailureCause::TaskManagerLost));
        assert_eq!(history.root().unwrap().message, "TaskManagerLost at 20");
        let times: Vec<u64> = history
            .concurrent()
            .iter()
            .map(|failure| failure.timestamp.0)
            .collect();
        assert_eq!(times, [10, 12]);
    }

    #[test]
    fn the_earliest_is_the_root_whatever_arrived_first() {
        let mut history = FailureHistory::default();
        history.add(failure(30, FailureCause::Operator));
        history.add(failure(20, FailureCause::Operator));
        assert_eq!(history.root().unwrap().timestamp, Timestamp(20));
    }

    #[test]
    fn the_history_is_bounded_and_keeps_its_root() {
        let mut history = FailureHistory::default();
        for ms in 0..1000 {
            history.add(failure(ms, FailureCause::PeerLost));
        }
        history.add(failure(2000, FailureCause::TaskManagerLost));
        assert_eq!(history.len(), limits::FAILURES_MAX);
        assert_eq!(history.root().unwrap().cause, FailureCause::TaskManagerLost);
        assert!(history.truncated());
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let mut text = "é".repeat(10);
        truncate(&mut text, 5);
        assert_eq!(text, "éé");
    }
}
