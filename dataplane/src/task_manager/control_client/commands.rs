//! What the JobManager commands a TaskManager that has registered.
//!
//! Owns: which command goes where, cancelling, stopping. Invariant: every attempt that is to be cancelled is answered:
//! here when it is on no core, else by its core. Left out: deployments ([`super::deployment`]); offering a command
//! again that a core did not take (`Endings`).

use ringflow_schemas::control as wire;
use ringflow_schemas::id::ExecutionAttemptId;
use ringflow_schemas::rpc::{FromJobManager, Message};

use crate::element::StopMode;
use crate::task_manager::deploy::Deployment;

use super::ControlClient;
use super::reports::{Outbound, say_status};
use super::session::Internals;

impl ControlClient {
    /// Does what `message` says. `joined` is the cluster, once there is one: nothing is deployed before.
    pub(super) fn on_command(
        &mut self,
        message: &Message<FromJobManager>,
        joined: Option<&str>,
        internal: &Internals,
        outbound: &Outbound,
    ) {
        let payload = message.get();
        if let (Some(deployment), Some(cluster_id)) = (Deployment::parse(message), joined) {
            self.on_deploy(message, deployment, cluster_id, internal, outbound);
        } else if let Some(cancel) = payload.payload_as_cancel_subtasks() {
            let attempts = cancel.attempts().iter().map(ExecutionAttemptId::from);
            self.on_cancel(attempts.collect(), outbound);
        } else if let Some(limits) = payload.payload_as_align_sources() {
            self.aligned.on_limits(limits, &self.cores);
        } else if let Some(stop) = payload.payload_as_stop_subtasks() {
            let attempts: Vec<_> = stop
                .attempts()
                .iter()
                .map(ExecutionAttemptId::from)
                .collect();
            self.on_stop(&attempts, StopMode::of(stop.drain()));
        }
    }

    /// Cancels what is here, and says of the rest that it is cancelled.
    pub(super) fn on_cancel(&mut self, attempts: Vec<ExecutionAttemptId>, outbound: &Outbound) {
        let mut on_cores = Vec::new();
        for attempt in attempts {
            if self.running.contains(&attempt) {
                on_cores.push(attempt);
            } else {
                self.building.remove(&attempt);
                say_status(outbound, attempt, wire::SubtaskStatus::Canceled);
            }
        }
        self.send_cancel(&on_cores);
    }

    /// Cancels what runs. A core whose mailbox is full is told later, with a next event or heartbeat.
    pub(super) fn send_cancel(&mut self, attempts: &[ExecutionAttemptId]) {
        self.endings.cancel(attempts);
        self.endings.offer(&self.cores, &self.running);
    }

    /// Stops sources that run. The JobManager names one that is on its way to its core once it runs.
    pub(super) fn on_stop(&mut self, attempts: &[ExecutionAttemptId], mode: StopMode) {
        self.endings.stop(attempts, mode);
        self.endings.offer(&self.cores, &self.running);
    }
}
