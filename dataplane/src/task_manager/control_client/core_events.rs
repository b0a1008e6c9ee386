//! What the cores say: in a session, and after its loss.
//!
//! Owns: the last word of attempts on cores; ending them when nobody hears it any more. Invariant: what has ended is
//! forgotten here before it is reported; a session begins with nothing on the cores, as far as they end in time.
//! Left out: a lost core in a session, which ends it ([`super::session`]).

use std::time::Duration;

use ringflow_schemas::control as wire;
use ringflow_schemas::id::ExecutionAttemptId;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::runtime::core::{CoreEvent, End};
use crate::task_manager::aligned_sources::AlignedSources;
use crate::task_manager::messages;

use super::ControlClient;
use super::reports::{Outbound, say, say_status};
use super::session::Session;

/// How long subtasks may take to end when the JobManager is lost, and how often cores that did not take the command
/// meanwhile are offered it again.
pub(super) const CANCEL_WAIT: Duration = Duration::from_secs(10);
pub(super) const CANCEL_AGAIN: Duration = Duration::from_millis(100);

impl ControlClient {
    /// A core says something; the JobManager hears of it where it wants to.
    pub(super) fn on_core_event(&mut self, event: CoreEvent, outbound: &Outbound) {
        match event {
            CoreEvent::Running(attempt) => {
                say_status(outbound, attempt, wire::SubtaskStatus::Running);
            }
            CoreEvent::Ended { how, last } => {
                self.running.remove(&last.attempt);
                self.aligned.remove(last.attempt);
                let (status, failure) = match &how {
                    End::Finished => (wire::SubtaskStatus::Finished, None),
                    End::Canceled => (wire::SubtaskStatus::Canceled, None),
                    End::Failed(error) => (wire::SubtaskStatus::Failed, Some(error)),
                };
                if let Some(error) = failure {
                    tracing::error!("subtask {} failed: {error}", last.attempt);
                }
                say(
                    outbound,
                    messages::status_changed(last.attempt, status, failure, Some(&last)),
                );
            }
            CoreEvent::ConnectionLost { id, .. } => self.connections.forget(id),
            // Handled where the session can end.
            CoreEvent::CoreLost { .. } => {}
        }
        self.endings.offer(&self.cores, &self.running);
    }

    /// The JobManager is gone: its jobs end here, and what cores still say about them has nobody to hear it.
    ///
    /// # Errors
    /// A core is lost: this process must not register again.
    pub(super) async fn cancel_all(&mut self) -> Result<(), Session> {
        self.building.clear();
        let attempts: Vec<ExecutionAttemptId> = self.running.iter().copied().collect();
        self.send_cancel(&attempts);
        let deadline = Instant::now() + CANCEL_WAIT;
        let mut again = interval(CANCEL_AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = if self.running.is_empty() {
                // What was said before is heard even so.
                self.core_events.try_recv().ok()
            } else {
                tokio::select! {
                    event = self.core_events.recv() => event,
                    _ = again.tick() => {
                        self.endings.offer(&self.cores, &self.running);
                        continue;
                    }
                    () = sleep_until(deadline) => None,
                }
            };
            match event {
                Some(CoreEvent::CoreLost { core, why }) => {
                    return Err(Session::core_lost(core, &why));
                }
                Some(CoreEvent::Ended { last, .. }) => {
                    self.running.remove(&last.attempt);
                    self.aligned.remove(last.attempt);
                }
                Some(CoreEvent::ConnectionLost { id, .. }) => self.connections.forget(id),
                Some(CoreEvent::Running(_)) => {}
                None => break,
            }
        }
        if !self.running.is_empty() {
            tracing::error!("{} subtasks do not end", self.running.len());
            self.running.clear();
        }
        self.aligned = AlignedSources::default();
        Ok(())
    }
}
