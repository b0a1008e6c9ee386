//! What the JobManager is told.
//!
//! Owns: [`say`] and its likes; asking the cores for what a heartbeat carries. Invariant: cores that do not answer
//! hold a heartbeat up for [`REPORT_WAIT`] at most. Left out: when to report; the messages' layout ([`messages`]).

use std::time::Duration;

use ringflow_schemas::control as wire;
use ringflow_schemas::id::ExecutionAttemptId;
use ringflow_schemas::rpc::{FromTaskManager, Message};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::error::Error;
use crate::runtime::core::{CoreCommand, CoreHandle, SubtaskSnapshot};
use crate::task_manager::messages;

use super::ControlClient;

/// How long a heartbeat waits for a core's counters; a core busy in user code is reported next time.
const REPORT_WAIT: Duration = Duration::from_millis(200);

/// The way to the JobManager, for one session.
pub(super) type Outbound = mpsc::UnboundedSender<Message<FromTaskManager>>;

impl ControlClient {
    /// Buffers in use and in all, over the pools of all cores.
    pub(super) fn buffers(&self) -> (u64, u64) {
        let pools = self.cores.iter().map(CoreHandle::pool);
        pools.fold((0, 0), |(used, total), pool| {
            (used + pool.used() as u64, total + pool.capacity() as u64)
        })
    }

    /// How the subtasks do whose cores answer in time.
    pub(super) async fn reports(&self) -> Vec<SubtaskSnapshot> {
        let mut waiting = Vec::new();
        for core in &self.cores {
            let (reply, answer) = oneshot::channel();
            if core.send(CoreCommand::Report(reply)).is_ok() {
                waiting.push(answer);
            }
        }
        let deadline = Instant::now() + REPORT_WAIT;
        let mut snapshots = Vec::new();
        for answer in waiting {
            if let Ok(Ok(more)) = tokio::time::timeout_at(deadline, answer).await {
                snapshots.extend(more);
            }
        }
        snapshots
    }
}

/// Sends a message off.
pub(super) fn say(outbound: &Outbound, message: Message<FromTaskManager>) {
    // The receiving half ends with the session, whose end is noticed where it is read.
    drop(outbound.send(message));
}

/// Attempts that are on no core have failed.
pub(super) fn say_failed(outbound: &Outbound, attempts: &[ExecutionAttemptId], error: &Error) {
    for attempt in attempts {
        let failed = wire::SubtaskStatus::Failed;
        say(
            outbound,
            messages::status_changed(*attempt, failed, Some(error), None),
        );
    }
}

/// An attempt has got to a status, of which there is nothing more to say.
pub(super) fn say_status(
    outbound: &Outbound,
    attempt: ExecutionAttemptId,
    status: wire::SubtaskStatus,
) {
    say(
        outbound,
        messages::status_changed(attempt, status, None, None),
    );
}
