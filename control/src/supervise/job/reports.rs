//! What TaskManagers tell of a job's attempts.
//!
//! Invariant: only the TaskManager that runs an attempt is believed about it.

use ringflow_schemas::id::ExecutionAttemptId;

use super::Job;
use crate::event::{self, ConnectionId, ReportedStatus, SubtaskReport, SubtaskStatusChange};
use crate::graph::execution_graph::Execution;
use crate::metrics::time::TimeShares;
use crate::supervise::effects::Effects;
use crate::supervise::failure::FailureRecord;
use crate::supervise::{SubtaskEvent, SubtaskStatus};
use crate::time::Timestamp;

impl Job {
    /// A TaskManager reported a status of one of its attempts.
    pub(crate) fn on_status_changed(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        change: SubtaskStatusChange,
        effects: &mut Effects,
    ) {
        self.observe_cpu(connection, change.process_cpu_ns);
        let id = change.attempt;
        let event = SubtaskEvent::Reported(change.status);
        if self.attempt_on(connection, id).is_none() {
            effects.log(format!(
                "ignored {:?} of unknown attempt {id}",
                change.status
            ));
            return;
        }
        match self.executions.apply(now, id, event) {
            Ok(applied) => {
                let ended = applied.is_some_and(|applied| applied.to.is_terminal());
                if let Some(report) = change.report.filter(|report| ended && report.attempt == id) {
                    self.on_final_report(connection, report, effects);
                }
                let failed = applied.is_some_and(|applied| applied.to == SubtaskStatus::Failed);
                if let Some(applied) = applied {
                    self.on_applied(now, id, applied, effects);
                }
                if failed {
                    let peer = change
                        .failure
                        .as_ref()
                        .and_then(|failure| failure.task_manager_id.as_ref());
                    if let Some(root) = peer.and_then(|peer| self.lost_idle.remove(peer)) {
                        self.failures.add(root);
                    }
                    let failure = self.subtask_failure(now, id, change.status, change.failure);
                    self.fail(now, failure, effects);
                }
            }
            Err(invalid) => effects.log(format!(
                "ignored a report of {}: {invalid}",
                self.task_name(id)
            )),
        }
        self.settle(now, effects);
    }

    /// A TaskManager reported figures of one of its attempts.
    pub(crate) fn on_report(
        &mut self,
        connection: ConnectionId,
        report: &SubtaskReport,
        effects: &mut Effects,
    ) {
        if self.status.is_terminal() || self.attempt_on(connection, report.attempt).is_none() {
            return;
        }
        if let Some(execution) = self.executions.get_mut(report.attempt) {
            execution.time_shares = TimeShares::between(&execution.counters, &report.counters)
                .or(execution.time_shares);
            execution.counters = report.counters;
            execution.watermark_ms = report.watermark_ms.or(execution.watermark_ms);
        }
        if let Some(latency) = &report.latency
            && let Err(error) = self.latency.merge(latency)
        {
            effects.log(format!(
                "ignored latency of {}: {error}",
                self.task_name(report.attempt)
            ));
        }
    }

    /// The last report of an attempt, once.
    fn on_final_report(
        &mut self,
        connection: ConnectionId,
        report: SubtaskReport,
        effects: &mut Effects,
    ) {
        self.on_report(connection, &report, effects);
        for accumulator in report.accumulators {
            if let Err(error) = self.accumulators.merge(accumulator) {
                effects.log(format!(
                    "ignored an accumulator of {}: {error}",
                    self.task_name(report.attempt)
                ));
            }
        }
    }

    /// A TaskManager told of its CPU time.
    pub(crate) fn observe_cpu(&mut self, connection: ConnectionId, process_cpu_ns: u64) {
        if !self.status.is_terminal() {
            self.cpu.observe(connection, process_cpu_ns);
        }
    }

    fn attempt_on(&self, connection: ConnectionId, id: ExecutionAttemptId) -> Option<&Execution> {
        self.executions
            .get(id)
            .filter(|execution| on_connection(execution, connection))
    }

    fn subtask_failure(
        &self,
        now: Timestamp,
        id: ExecutionAttemptId,
        reported: ReportedStatus,
        failure: Option<event::Failure>,
    ) -> FailureRecord {
        let placement = self
            .executions
            .get(id)
            .and_then(|execution| execution.placement.as_ref());
        let failure = failure.unwrap_or_else(|| event::Failure {
            kind: event::FailureKind::Operator,
            message: match reported {
                ReportedStatus::Canceled => {
                    "subtask was canceled without being asked to".to_owned()
                }
                _ => "subtask failed without giving a reason".to_owned(),
            },
            task_manager_id: None,
        });
        FailureRecord {
            timestamp: now,
            cause: failure.kind.into(),
            message: match failure.task_manager_id {
                Some(peer)
                    if failure.kind == event::FailureKind::PeerLost
                        && !failure.message.contains(&peer) =>
                {
                    format!("{} (TaskManager {peer})", failure.message)
                }
                _ => failure.message,
            },
            task_name: Some(self.task_name(id)),
            endpoint: placement.map(|placement| placement.task_manager.endpoint()),
            task_manager_id: placement.map(|placement| placement.task_manager.id.to_string()),
        }
    }
}

pub(super) fn on_connection(execution: &Execution, connection: ConnectionId) -> bool {
    execution
        .placement
        .as_ref()
        .is_some_and(|placement| placement.slot.connection == connection)
}
