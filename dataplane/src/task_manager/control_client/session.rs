//! A session with the JobManager: from its connection to its loss.
//!
//! Owns: connecting, registering, the select loop with its heartbeats; [`Session`], how it ended; [`Internal`].
//! Invariant: nothing is deployed before the registration is answered; a JobManager that is silent for longer than its
//! heartbeat timeout is lost.
//! Await points: one `select` over the JobManager, the cores, the listeners, finished builds, the heartbeat timer and
//! that of aligned sources.
//! Left out: what commands and events do ([`super::commands`], [`super::core_events`]); trying again ([`super`]).

use std::net::TcpStream as StdStream;
use std::time::Duration;

use ringflow_schemas::id::ExecutionAttemptId;
use ringflow_schemas::rpc::{self, FromJobManager, Message};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::error::Result;
use crate::runtime::core::CoreEvent;
use crate::runtime::housekeeping::OffCore;
use crate::task_manager::connections::Dialed;
use crate::task_manager::deploy::BuiltDeployment;
use crate::task_manager::patience::Patience;
use crate::task_manager::{Registration, connections, messages};

use super::ControlClient;
use super::reports::{Outbound, say};

/// How long the JobManager may take to answer a registration, and how often we look.
const REGISTRATION_WAIT: Duration = Duration::from_secs(10);
const REGISTRATION_LOOK: Duration = Duration::from_secs(1);

/// What the select loop hears from its own helpers.
pub(super) enum Internal {
    /// A peer connected and shook hands.
    Accepted {
        core: u32,
        socket: StdStream,
        from: (String, u32),
    },
    /// A deployment is built and its connections stand, or not.
    Built {
        attempts: Vec<ExecutionAttemptId>,
        result: Result<(OffCore<BuiltDeployment>, Vec<Dialed>)>,
    },
}

/// Where those helpers tell it.
pub(super) type Internals = mpsc::UnboundedSender<Internal>;

/// How a session with the JobManager ended.
pub(super) enum Session {
    /// Try again.
    Lost(String),
    /// We were told to stop.
    Stopped(String),
    /// The JobManager will not have us, or this process is broken: end it.
    Refused(String),
}

impl Session {
    /// A data core is gone: this process is broken.
    pub(super) fn core_lost(core: usize, why: &str) -> Self {
        Self::Refused(format!("data core {core} ended: {why}"))
    }
}

impl ControlClient {
    /// Connects, registers, and serves the JobManager until one of them ends it.
    pub(super) async fn session(&mut self, stopped: &mut oneshot::Receiver<String>) -> Session {
        let address = self.config.job_manager.clone();
        let endpoint = match tonic::transport::Endpoint::from_shared(format!("http://{address}")) {
            // No keep-alive of HTTP/2: how long a JobManager may be silent is for `Patience` to say, with its timeout.
            Ok(endpoint) => endpoint
                .connect_timeout(Duration::from_secs(5))
                .tcp_nodelay(true),
            Err(error) => {
                return Session::Refused(format!(
                    "`{address}` is no address of a JobManager: {error}"
                ));
            }
        };
        let channel = match endpoint.connect().await {
            Ok(channel) => channel,
            Err(error) => return Session::Lost(format!("cannot reach it: {}", root_cause(&error))),
        };
        let (outbound, messages_out) = mpsc::unbounded_channel();
        let ports: Vec<u16> = self.listeners.iter().map(|(_, port)| *port).collect();
        say(
            &outbound,
            messages::register(&self.id, &self.config, &ports),
        );
        let connect = rpc::connect(channel, UnboundedReceiverStream::new(messages_out));
        let inbound = match timeout(REGISTRATION_WAIT, connect).await {
            Ok(Ok(inbound)) => inbound,
            Ok(Err(status)) => {
                return Session::Lost(format!(
                    "it does not answer as a JobManager: {}",
                    status.message()
                ));
            }
            Err(_) => {
                let wait = REGISTRATION_WAIT.as_secs();
                return Session::Lost(format!("no answer within {wait} s"));
            }
        };
        self.serve(inbound, outbound, stopped).await
    }

    async fn serve(
        &mut self,
        mut inbound: tonic::Streaming<Message<FromJobManager>>,
        outbound: Outbound,
        stopped: &mut oneshot::Receiver<String>,
    ) -> Session {
        let (internal, mut internals) = mpsc::unbounded_channel();
        let mut joined: Option<String> = None;
        let mut patience = Patience::new(Instant::now(), REGISTRATION_LOOK, REGISTRATION_WAIT);
        let mut beat = interval(REGISTRATION_LOOK);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut accepting = Vec::new();
        let end = loop {
            let report_at = self.aligned.report_at(Instant::now());
            tokio::select! {
                message = inbound.next() => match message {
                    None => break Session::Lost("it closed the connection".to_owned()),
                    Some(Err(status)) => break Session::Lost(status.message().to_owned()),
                    Some(Ok(message)) => {
                        patience.on_heard(Instant::now());
                        let payload = message.get();
                        if let Some(registered) = payload.payload_as_registered() {
                            let cluster_id = registered.cluster_id().to_owned();
                            let silence = Duration::from_millis(u64::from(registered.heartbeat_timeout_ms()).max(100));
                            let period = Duration::from_millis(u64::from(registered.heartbeat_interval_ms()).max(10));
                            patience = Patience::new(Instant::now(), period, silence);
                            beat = interval(period);
                            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
                            self.peer_silence_ms = connections::peer_silence_ms(registered.heartbeat_timeout_ms());
                            accepting = self.accept(&cluster_id, &internal);
                            self.publish(Registration::Registered { cluster_id: cluster_id.clone() });
                            tracing::info!("TaskManager {} registered at {}", self.id, self.config.job_manager);
                            self.was_registered = true;
                            joined = Some(cluster_id);
                        } else if let Some(refused) = payload.payload_as_registration_refused() {
                            break Session::Refused(format!("the JobManager refuses it: {}", refused.reason()));
                        } else {
                            self.on_command(&message, joined.as_deref(), &internal, &outbound);
                        }
                    }
                },
                Some(event) = self.core_events.recv() => match event {
                    CoreEvent::CoreLost { core, why } => break Session::core_lost(core, &why),
                    event => self.on_core_event(event, &outbound),
                },
                Some(event) = internals.recv() => self.on_internal(event, &outbound),
                _ = beat.tick() => {
                    if let Some(silent) = patience.look(Instant::now()) {
                        break Session::Lost(format!("silent for {} ms", silent.as_millis()));
                    }
                    self.endings.offer(&self.cores, &self.running);
                    if joined.is_some() {
                        say(&outbound, messages::heartbeat(&self.reports().await, self.buffers()));
                    }
                },
                () = sleep_until(report_at.unwrap_or_else(Instant::now)), if report_at.is_some() => {
                    say(&outbound, self.aligned.report(Instant::now()));
                },
                reason = &mut *stopped => {
                    let reason = reason.unwrap_or_else(|_| "shutdown".to_owned());
                    say(&outbound, messages::goodbye(&reason));
                    drop(outbound);
                    // The JobManager closes its side when it has read the goodbye.
                    drop(timeout(Duration::from_secs(1), async { while let Some(Ok(_)) = inbound.next().await {} }).await);
                    break Session::Stopped(reason);
                },
            }
        };
        for task in accepting {
            tokio::task::JoinHandle::abort(&task);
        }
        end
    }

    /// One of our own helpers has come to an end.
    pub(super) fn on_internal(&mut self, event: Internal, outbound: &Outbound) {
        match event {
            Internal::Accepted { core, socket, from } => self.on_accepted(core, socket, from),
            Internal::Built { attempts, result } => self.on_built(&attempts, result, outbound),
        }
    }
}

/// The innermost reason: transports wrap theirs several times.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
