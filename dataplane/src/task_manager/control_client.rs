//! The control thread: talks to the JobManager, connects cores, deploys, reports.
//!
//! ```text
//!  session     connect, register; select over all that may come -> the files below
//!  commands    deploy, cancel, stop, align sources                 <- JobManager
//!  deployment  build, dial, wire, place                            <- commands, finished builds
//!  accepting   connections of peers                                <- listeners
//!  core_events running, ended, connection lost                     <- cores
//!  reports     status, heartbeat                                   -> JobManager
//! ```
//! Owns: [`ControlClient`], one tokio current-thread runtime on the housekeeping cores; here its state, and session
//! after session until it is stopped.
//! Invariant: every attempt that the JobManager deployed here gets a last word (Finished, Canceled or Failed) while the
//! connection lives; the first one counts: cancelling an attempt that is not here any more is answered with Canceled
//! once more, which the JobManager ignores. When it is lost, all its subtasks are cancelled before we register again; a
//! process that has lost a core does not. What was built and does not run is dropped on housekeeping threads.
//! Left out: decisions.

mod accepting;
mod commands;
mod core_events;
mod deployment;
mod reports;
mod session;

use std::collections::HashSet;
use std::net::TcpListener as StdListener;
use std::time::Duration;

use ringflow_schemas::id::ExecutionAttemptId;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;

use crate::limits::PEER_SILENCE_MS_MIN;
use crate::runtime::core::{CoreEvent, CoreHandle};
use crate::runtime::future_threads::FutureThreads;
use crate::task_manager::aligned_sources::AlignedSources;
use crate::task_manager::connection_table::ConnectionTable;
use crate::task_manager::endings::Endings;
use crate::task_manager::{Registration, TaskManagerConfig};

use session::Session;

/// First and longest wait between two tries to reach the JobManager (Flink: 100 ms to 30 s).
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// The control thread's state.
#[allow(missing_debug_implementations, reason = "lives on its own thread")]
pub struct ControlClient {
    id: String,
    config: TaskManagerConfig,
    cores: Vec<CoreHandle>,
    listeners: Vec<(StdListener, u16)>,
    core_events: mpsc::UnboundedReceiver<CoreEvent>,
    registered: watch::Sender<Registration>,
    connections: ConnectionTable,
    /// Attempts being built; one that is cancelled meanwhile leaves, and is answered at once.
    building: HashSet<ExecutionAttemptId>,
    /// Attempts on cores.
    running: HashSet<ExecutionAttemptId>,
    /// Sources among them that wait for others.
    aligned: AlignedSources,
    /// Those of them that shall end, until their cores know.
    endings: Endings,
    /// The session got as far as a registration.
    was_registered: bool,
    /// How long data connections may stand still in the cluster joined last.
    peer_silence_ms: u32,
    /// Where futures of users run, over all sessions.
    futures: FutureThreads,
}

impl ControlClient {
    /// The state before the thread starts.
    #[must_use]
    pub fn new(
        id: String,
        config: TaskManagerConfig,
        cores: Vec<CoreHandle>,
        listeners: Vec<(StdListener, u16)>,
        core_events: mpsc::UnboundedReceiver<CoreEvent>,
        registered: watch::Sender<Registration>,
    ) -> Self {
        Self {
            id,
            config,
            endings: Endings::new(cores.len()),
            cores,
            listeners,
            core_events,
            registered,
            connections: ConnectionTable::default(),
            building: HashSet::new(),
            running: HashSet::new(),
            aligned: AlignedSources::default(),
            was_registered: false,
            peer_silence_ms: PEER_SILENCE_MS_MIN,
            futures: FutureThreads::default(),
        }
    }

    /// Runs until stopped. Blocks the calling thread.
    pub fn run(mut self, mut stopped: oneshot::Receiver<String>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                self.publish(Registration::Ended(format!(
                    "no runtime for the control thread: {error}"
                )));
                return;
            }
        };
        runtime.block_on(async {
            let mut wait = RETRY_FIRST;
            loop {
                let mut end = self.session(&mut stopped).await;
                if let Session::Lost(reason) = &end {
                    if std::mem::take(&mut self.was_registered) {
                        wait = RETRY_FIRST;
                        tracing::warn!(
                            "lost the JobManager at {}: {reason}",
                            self.config.job_manager
                        );
                    }
                    if let Err(refused) = self.cancel_all().await {
                        end = refused;
                    }
                }
                match end {
                    Session::Stopped(reason) => {
                        self.publish(Registration::Ended(reason));
                        return;
                    }
                    Session::Refused(reason) => {
                        tracing::error!("this TaskManager ends: {reason}");
                        self.publish(Registration::Ended(reason));
                        return;
                    }
                    Session::Lost(reason) => self.publish(Registration::Connecting(Some(reason))),
                }
                tokio::select! {
                    () = sleep(wait) => {}
                    reason = &mut stopped => {
                        self.publish(Registration::Ended(reason.unwrap_or_default()));
                        return;
                    }
                }
                wait = (wait * 2).min(RETRY_LONGEST);
            }
        });
        // Kafka clients may be on their way out on the pool; do not wait for brokers that are gone.
        runtime.shutdown_timeout(Duration::from_secs(2));
    }

    fn publish(&self, registration: Registration) {
        drop(self.registered.send_replace(registration));
    }
}

#[cfg(test)]
mod tests;
