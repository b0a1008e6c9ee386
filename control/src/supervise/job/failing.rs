//! How a job comes to fail: lost TaskManagers, no slots, failed subtasks.
//!
//! Invariant: every way to FAILING goes through [`Job::fail`], which has a cause.

use ringflow_schemas::id::ExecutionAttemptId;

use super::Job;
use super::reports::on_connection;
use crate::cluster::TaskManagerAddress;
use crate::event::ConnectionId;
use crate::limits;
use crate::supervise::effects::Effects;
use crate::supervise::failure::{FailureCause, FailureRecord};
use crate::supervise::{JobEvent, JobStatus, SubtaskEvent, SubtaskStatus};
use crate::time::Timestamp;

impl Job {
    /// A TaskManager is gone.
    pub(crate) fn on_task_manager_lost(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        address: &TaskManagerAddress,
        reason: &str,
        effects: &mut Effects,
    ) {
        let lost: Vec<ExecutionAttemptId> = self
            .executions
            .iter()
            .filter(|execution| !execution.status().is_terminal())
            .filter(|execution| on_connection(execution, connection))
            .map(|execution| execution.id)
            .collect();
        if self.status.is_terminal() || !self.cpu.involves(connection) {
            return;
        }
        let failure = FailureRecord {
            timestamp: now,
            cause: FailureCause::TaskManagerLost,
            message: format!("TaskManager {} lost: {reason}", address.describe()),
            task_name: None,
            endpoint: Some(address.endpoint()),
            task_manager_id: Some(address.id.to_string()),
        };
        // Where nothing of the job was open, or all of it was on its way out, the loss matters only to peers that miss
        // it, be it before this moment or after.
        let mut failed = self.hold_until.is_some();
        for id in lost {
            if let Ok(Some(applied)) = self
                .executions
                .apply(now, id, SubtaskEvent::TaskManagerLost)
            {
                failed |= applied.to == SubtaskStatus::Failed;
                self.on_applied(now, id, applied, effects);
            }
        }
        if failed {
            self.fail(now, failure, effects);
        } else {
            self.lost_idle.insert(address.id.to_string(), failure);
        }
        self.settle(now, effects);
    }

    /// Fails a job for which there are no slots or no buffers.
    pub(crate) fn on_no_resources(
        &mut self,
        now: Timestamp,
        message: String,
        effects: &mut Effects,
    ) {
        let failure = FailureRecord {
            timestamp: now,
            cause: FailureCause::NoResourceAvailable,
            message,
            task_name: None,
            endpoint: None,
            task_manager_id: None,
        };
        self.fail(now, failure, effects);
        self.settle(now, effects);
    }

    pub(super) fn fail(&mut self, now: Timestamp, failure: FailureRecord, effects: &mut Effects) {
        self.failures.add(failure);
        self.modified_at = now;
        if self.status == JobStatus::Cancelling || self.status.is_terminal() {
            return;
        }
        if !self.failures.only_peers_lost() {
            self.hold_until = None;
        } else if self.hold_until.is_none() {
            self.hold_until = Some(now.after(limits::ROOT_CAUSE_HOLD));
        }
        self.advance(now, JobEvent::FailureOccurred, effects);
        self.cancel_subtasks(now, effects);
    }
}
