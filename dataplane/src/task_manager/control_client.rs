//! The control thread: talks to the JobManager, connects cores, deploys, reports.
//!
//! Owns: [`ControlClient`], one tokio current-thread runtime on the housekeeping cores.
//! Invariant: every attempt that the JobManager deployed here gets a last word (Finished, Canceled or Failed) while the
//! connection lives; the first one counts: cancelling an attempt that is not here any more is answered with Canceled once
//! more, which the JobManager ignores. When it is lost, all its subtasks are cancelled before we register again; a process
//! that has lost a core does not. What was built and does not run is dropped on housekeeping threads.
//! Await points: one `select` over the JobManager, the cores, the listeners, finished builds, the heartbeat timer and that of aligned
//! sources.
//! Left out: decisions.

use std::collections::HashSet;
use std::net::{TcpListener as StdListener, TcpStream as StdStream};
use std::sync::Arc;
use std::time::Duration;

use ringflow_schemas::control as wire;
use ringflow_schemas::id::ExecutionAttemptId;
use ringflow_schemas::rpc::{self, FromJobManager, FromTaskManager, Message};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::element::StopMode;
use crate::error::{Error, Result};
use crate::exchange::connection::Direction;
use crate::limits::PEER_SILENCE_MS_MIN;
use crate::runtime::core::{CoreCommand, CoreEvent, CoreHandle, End, SubtaskSnapshot};
use crate::runtime::future_threads::FutureThreads;
use crate::runtime::housekeeping::{Housekeeping, OffCore};
use crate::subtask::spec::SubtaskSpec;
use crate::task_manager::aligned_sources::AlignedSources;
use crate::task_manager::connection_table::ConnectionTable;
use crate::task_manager::connections::Dialed;
use crate::task_manager::deploy::{self, BuiltDeployment, Deployment, Peer};
use crate::task_manager::endings::Endings;
use crate::task_manager::hand_over::{Refused, hand_over};
use crate::task_manager::patience::Patience;
use crate::task_manager::{Registration, TaskManagerConfig, connections, messages};

/// First and longest wait between two tries to reach the JobManager (Flink: 100 ms to 30 s).
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// How long a heartbeat waits for a core's counters; a core busy in user code is reported next time.
const REPORT_WAIT: Duration = Duration::from_millis(200);
/// How long the JobManager may take to answer a registration, and how often we look.
const REGISTRATION_WAIT: Duration = Duration::from_secs(10);
const REGISTRATION_LOOK: Duration = Duration::from_secs(1);
/// How long subtasks may take to end when the JobManager is lost, and how often cores that did not take the command meanwhile
/// are offered it again.
const CANCEL_WAIT: Duration = Duration::from_secs(10);
const CANCEL_AGAIN: Duration = Duration::from_millis(100);

/// What the select loop hears from its own helpers.
enum Internal {
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

/// How a session with the JobManager ended.
enum Session {
    /// Try again.
    Lost(String),
    /// We were told to stop.
    Stopped(String),
    /// The JobManager will not have us, or this process is broken: end it.
    Refused(String),
}

impl Session {
    fn core_lost(core: usize, why: &str) -> Self {
        Self::Refused(format!("data core {core} ended: {why}"))
    }
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

    async fn session(&mut self, stopped: &mut oneshot::Receiver<String>) -> Session {
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
        outbound: mpsc::UnboundedSender<Message<FromTaskManager>>,
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
                        } else if let (Some(deployment), Some(cluster_id)) = (Deployment::parse(&message), &joined) {
                            self.on_deploy(&message, deployment, cluster_id, &internal, &outbound);
                        } else if let Some(cancel) = payload.payload_as_cancel_subtasks() {
                            let attempts = cancel.attempts().iter().map(ExecutionAttemptId::from).collect();
                            self.on_cancel(attempts, &outbound);
                        } else if let Some(limits) = payload.payload_as_align_sources() {
                            self.aligned.on_limits(limits, &self.cores);
                        } else if let Some(stop) = payload.payload_as_stop_subtasks() {
                            let attempts: Vec<_> = stop.attempts().iter().map(ExecutionAttemptId::from).collect();
                            self.on_stop(&attempts, StopMode::of(stop.drain()));
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

    /// One task per core's listener.
    fn accept(
        &self,
        cluster_id: &str,
        internal: &mpsc::UnboundedSender<Internal>,
    ) -> Vec<tokio::task::JoinHandle<()>> {
        let mut tasks = Vec::new();
        let peer_silence_ms = self.peer_silence_ms;
        for (core, (listener, _)) in (0u32..).zip(&self.listeners) {
            let listener = listener.try_clone().and_then(TcpListener::from_std);
            let listener = match listener {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!("data core {core} cannot accept connections: {error}");
                    continue;
                }
            };
            let (id, cluster_id, internal) =
                (self.id.clone(), cluster_id.to_owned(), internal.clone());
            tasks.push(tokio::spawn(async move {
                loop {
                    let (socket, address) = match listener.accept().await {
                        Ok(accepted) => accepted,
                        Err(error) => {
                            tracing::warn!("data core {core} cannot accept: {error}");
                            sleep(Duration::from_millis(100)).await;
                            continue;
                        }
                    };
                    let (id, cluster_id, internal) =
                        (id.clone(), cluster_id.clone(), internal.clone());
                    tokio::spawn(async move {
                        let me = (id.as_str(), core);
                        match connections::answer(socket, &cluster_id, me, peer_silence_ms).await {
                            Ok((socket, from)) => {
                                drop(internal.send(Internal::Accepted { core, socket, from }))
                            }
                            Err(why) => {
                                tracing::warn!("refused a data connection from {address}: {why}")
                            }
                        }
                    });
                }
            }));
        }
        tasks
    }

    /// Buffers in use and in all, over the pools of all cores.
    fn buffers(&self) -> (u64, u64) {
        let pools = self.cores.iter().map(CoreHandle::pool);
        pools.fold((0, 0), |(used, total), pool| {
            (used + pool.used() as u64, total + pool.capacity() as u64)
        })
    }

    async fn reports(&self) -> Vec<SubtaskSnapshot> {
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

    // -------------------------------------------------------------------------------------------- deployment

    fn on_deploy(
        &mut self,
        message: &Message<FromJobManager>,
        deployment: Result<Deployment>,
        cluster_id: &str,
        internal: &mpsc::UnboundedSender<Internal>,
        outbound: &mpsc::UnboundedSender<Message<FromTaskManager>>,
    ) {
        let deployment = match deployment {
            Ok(deployment) => deployment,
            Err(error) => {
                return say_failed(outbound, &Deployment::attempts(message), &error);
            }
        };
        let attempts: Vec<ExecutionAttemptId> = deployment
            .subtasks
            .iter()
            .map(|subtask| subtask.attempt)
            .collect();
        for attempt in &attempts {
            self.building.insert(*attempt);
            say(
                outbound,
                messages::status_changed(*attempt, wire::SubtaskStatus::Initializing, None, None),
            );
        }
        let needed = deployment.remote_outputs(&self.id, &self.config.placement.slots);
        let peers = self.connections.missing(needed);
        let (resolver, id, cluster_id) = (
            Arc::clone(&self.config.resolver),
            self.id.clone(),
            cluster_id.to_owned(),
        );
        let (local_bind, peer_silence_ms) = (self.config.data_bind, self.peer_silence_ms);
        let (internal, futures) = (internal.clone(), self.futures.clone());
        tokio::spawn(async move {
            let handle = tokio::runtime::Handle::current();
            let housekeeping = Housekeeping::with_futures(handle, futures);
            let built = tokio::task::spawn_blocking(move || {
                let build = || {
                    let built = deploy::build(deployment, resolver.as_ref(), &housekeeping)?;
                    // Whatever becomes of it, it is not dropped on the control thread unawares.
                    Ok(OffCore::new(built, housekeeping.clone()))
                };
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(build)).unwrap_or_else(|_| {
                    Err(Error::operator("building the job's operators panicked"))
                })
            });
            let built = built
                .await
                .unwrap_or_else(|error| Err(Error::deployment(error.to_string())));
            let result = match built {
                Ok(built) => {
                    connections::dial_all(peers, &cluster_id, &id, local_bind, peer_silence_ms)
                        .await
                        .map(|dialed| (built, dialed))
                }
                Err(error) => Err(error),
            };
            drop(internal.send(Internal::Built { attempts, result }));
        });
    }

    fn on_internal(
        &mut self,
        event: Internal,
        outbound: &mpsc::UnboundedSender<Message<FromTaskManager>>,
    ) {
        match event {
            Internal::Accepted { core, socket, from } => {
                let peer = format!("core {} of TaskManager {}", from.1, from.0);
                let direction = Direction::Incoming;
                let attached = self
                    .connections
                    .attach(&self.cores, core, socket, direction, peer);
                if let Err(error) = attached {
                    // The peer sees the socket close and tries again.
                    tracing::error!("data core {core} takes no connection: {error}");
                }
            }
            Internal::Built { attempts, result } => {
                // A job is cancelled as a whole: what was built for it goes, and nothing of it ever ran here.
                let waiting: Vec<ExecutionAttemptId> = attempts
                    .iter()
                    .copied()
                    .filter(|attempt| self.building.remove(attempt))
                    .collect();
                if waiting.len() < attempts.len() {
                    for attempt in waiting {
                        say(
                            outbound,
                            messages::status_changed(
                                attempt,
                                wire::SubtaskStatus::Canceled,
                                None,
                                None,
                            ),
                        );
                    }
                    return;
                }
                match result.and_then(|(built, dialed)| self.wire(built, dialed)) {
                    Ok(specs) => self.place(specs, outbound),
                    Err(error) => say_failed(outbound, &attempts, &error),
                }
            }
        }
    }

    fn wire(
        &mut self,
        built: OffCore<BuiltDeployment>,
        dialed: Vec<Dialed>,
    ) -> Result<Vec<(u32, SubtaskSpec)>> {
        self.connections.take_over(&self.cores, dialed)?;
        let find = |core: u32, peer: &Peer| self.connections.find(core, peer);
        let slots = &self.config.placement.slots;
        // A connection may have been lost meanwhile: what was built is whole yet, and goes to housekeeping.
        let mut outputs = built.deployment.remote_outputs(&self.id, slots);
        if let Some((_, peer)) = outputs.find(|(core, peer)| find(*core, peer).is_none()) {
            return Err(deploy::not_connected(peer));
        }
        drop(outputs);
        let wired = deploy::wire(built.into_inner(), &self.id, slots, &self.cores, find);
        wired.map_err(|unwired| {
            Housekeeping::new(tokio::runtime::Handle::current()).dispose(unwired.leftover);
            unwired.error
        })
    }

    /// Puts subtasks on their cores. When a core takes none, what is on no core has failed; what is on others runs, and
    /// is cancelled: its core has the last word.
    fn place(
        &mut self,
        specs: Vec<(u32, SubtaskSpec)>,
        outbound: &mpsc::UnboundedSender<Message<FromTaskManager>>,
    ) {
        self.aligned.add(&specs);
        let (placed, refused) = hand_over(&self.cores, specs);
        self.running.extend(&placed);
        let Some(Refused {
            error,
            attempts,
            specs,
        }) = refused
        else {
            return;
        };
        Housekeeping::new(tokio::runtime::Handle::current()).dispose(specs);
        for attempt in &attempts {
            self.aligned.remove(*attempt);
        }
        say_failed(outbound, &attempts, &error);
        self.send_cancel(&placed);
    }

    fn on_cancel(
        &mut self,
        attempts: Vec<ExecutionAttemptId>,
        outbound: &mpsc::UnboundedSender<Message<FromTaskManager>>,
    ) {
        let mut on_cores = Vec::new();
        for attempt in attempts {
            if self.running.contains(&attempt) {
                on_cores.push(attempt);
            } else {
                self.building.remove(&attempt);
                say(
                    outbound,
                    messages::status_changed(attempt, wire::SubtaskStatus::Canceled, None, None),
                );
            }
        }
        self.send_cancel(&on_cores);
    }

    /// Cancels what runs. A core whose mailbox is full is told later, with a next event or heartbeat.
    fn send_cancel(&mut self, attempts: &[ExecutionAttemptId]) {
        self.endings.cancel(attempts);
        self.endings.offer(&self.cores, &self.running);
    }

    /// Stops sources that run. The JobManager names one that is on its way to its core once it runs.
    fn on_stop(&mut self, attempts: &[ExecutionAttemptId], mode: StopMode) {
        self.endings.stop(attempts, mode);
        self.endings.offer(&self.cores, &self.running);
    }

    fn on_core_event(
        &mut self,
        event: CoreEvent,
        outbound: &mpsc::UnboundedSender<Message<FromTaskManager>>,
    ) {
        match event {
            CoreEvent::Running(attempt) => {
                say(
                    outbound,
                    messages::status_changed(attempt, wire::SubtaskStatus::Running, None, None),
                );
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
    async fn cancel_all(&mut self) -> Result<(), Session> {
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

fn say(
    outbound: &mpsc::UnboundedSender<Message<FromTaskManager>>,
    message: Message<FromTaskManager>,
) {
    // The receiving half ends with the session, whose end is noticed where it is read.
    drop(outbound.send(message));
}

fn say_failed(
    outbound: &mpsc::UnboundedSender<Message<FromTaskManager>>,
    attempts: &[ExecutionAttemptId],
    error: &Error,
) {
    for attempt in attempts {
        let failed = wire::SubtaskStatus::Failed;
        say(
            outbound,
            messages::status_changed(*attempt, failed, Some(error), None),
        );
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

#[cfg(test)]
mod tests;
