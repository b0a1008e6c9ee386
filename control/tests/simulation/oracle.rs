//! What must be true of commands, judged from events and commands alone.

use std::collections::BTreeMap;

use ringflow_control::command::{Command, ToTaskManager};
use ringflow_control::event::{ConnectionId, Event, FromTaskManager, ReportedStatus};
use ringflow_schemas::id::{ExecutionAttemptId, JobId};

/// Attempts that are deployed and not yet known to have ended.
#[derive(Default)]
pub(crate) struct Oracle {
    open: BTreeMap<ExecutionAttemptId, (ConnectionId, u32)>,
}

impl Oracle {
    /// Before the engine sees it.
    pub(crate) fn on_event(&mut self, event: &Event) {
        match event {
            Event::ConnectionClosed { connection, .. } => self.on_closed(*connection),
            Event::TaskManager {
                connection,
                message: FromTaskManager::Goodbye { .. },
            } => self.on_closed(*connection),
            Event::TaskManager {
                connection,
                message: FromTaskManager::SubtaskStatusChanged(change),
            } => {
                let ended = matches!(
                    change.status,
                    ReportedStatus::Finished | ReportedStatus::Canceled | ReportedStatus::Failed
                );
                if ended
                    && self
                        .open
                        .get(&change.attempt)
                        .is_some_and(|(at, _)| at == connection)
                {
                    self.open.remove(&change.attempt);
                }
            }
            _ => {}
        }
    }

    fn on_closed(&mut self, connection: ConnectionId) {
        self.open.retain(|_, (at, _)| *at != connection);
    }

    /// After the engine answered. Connections it closes are gone for everything in the same answer.
    pub(crate) fn on_commands(&mut self, commands: &[Command]) {
        for command in commands {
            if let Command::Close { connection, .. } = command {
                self.on_closed(*connection);
            }
        }
        for command in commands {
            let Command::Send {
                connection,
                message,
            } = command
            else {
                continue;
            };
            match message {
                ToTaskManager::DeploySubtasks(deployment) => {
                    for subtask in &deployment.subtasks {
                        self.on_deployed(
                            deployment.job,
                            subtask.attempt,
                            *connection,
                            subtask.slot,
                        );
                    }
                }
                ToTaskManager::CancelSubtasks(attempts) => {
                    for attempt in attempts {
                        let at = self.open.get(attempt).map(|&(at, _)| at);
                        assert_eq!(at, Some(*connection), "cancelled {attempt} where it is not");
                    }
                }
                _ => {}
            }
        }
    }

    fn on_deployed(
        &mut self,
        job: JobId,
        attempt: ExecutionAttemptId,
        connection: ConnectionId,
        slot: u32,
    ) {
        let at = (connection, slot);
        for (other, &place) in &self.open {
            assert!(
                place != at || other.job == job,
                "slot {at:?} holds {other}, and now {attempt}"
            );
            let same = (other.job, other.vertex, other.subtask)
                == (attempt.job, attempt.vertex, attempt.subtask);
            assert!(!same, "{other} is open, and now {attempt}");
        }
        self.open.insert(attempt, at);
    }
}
