//! The task that owns the engine, and the handle by which all others reach it.
//!
//! Owns: the queue into the engine, the way out to each TaskManager.
//! Invariant: events are taken in one after the other; commands of an event are carried out before the next one.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;

use ringflow_schemas::id::JobId;
use ringflow_schemas::rpc::{FromJobManager, Message};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tonic::Status;

use super::clock::Clock;
use super::random;
use crate::command::{CancelAnswer, Command, StopAnswer, ToTaskManager};
use crate::engine::Engine;
use crate::event::{ConnectionId, Event, FromTaskManager};
use crate::graph::StreamGraph;
use crate::limits;
use crate::submit::Rejected;
use crate::supervise::StopMode;
use crate::time::Timestamp;
use crate::wire;

/// The engine is gone: the JobManager is shutting down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gone;

/// What a submission comes to: warnings, or why not.
pub(crate) type SubmitAnswer = Result<Vec<String>, Rejected>;

/// The way out to a TaskManager.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) messages: mpsc::Sender<Result<Message<FromJobManager>, Status>>,
    /// Dropped with the connection: tells its reader to stop.
    #[expect(dead_code, reason = "held for its drop")]
    pub(crate) alive: oneshot::Sender<()>,
}

type QueryFn = Box<dyn FnOnce(&Engine, Timestamp) + Send>;

/// What reaches the engine task.
pub(crate) enum Request {
    Connected {
        connection: ConnectionId,
        outbound: Outbound,
    },
    Event(Event),
    Submit {
        graph: StreamGraph,
        reply: oneshot::Sender<(JobId, SubmitAnswer)>,
    },
    Cancel {
        job: JobId,
        reply: oneshot::Sender<CancelAnswer>,
    },
    Stop {
        job: JobId,
        mode: StopMode,
        reply: oneshot::Sender<StopAnswer>,
    },
    Query(QueryFn),
}

/// Reaches the engine from any task; clones share the queue.
#[derive(Debug, Clone)]
pub(crate) struct EngineHandle(mpsc::Sender<Request>);

impl EngineHandle {
    pub(crate) fn new(sender: mpsc::Sender<Request>) -> Self {
        Self(sender)
    }

    async fn send(&self, request: Request) -> Result<(), Gone> {
        self.0.send(request).await.map_err(|_| Gone)
    }

    /// Announces a connection; its messages follow.
    pub(crate) async fn connected(
        &self,
        connection: ConnectionId,
        outbound: Outbound,
    ) -> Result<(), Gone> {
        self.send(Request::Connected {
            connection,
            outbound,
        })
        .await
    }

    pub(crate) async fn said(
        &self,
        connection: ConnectionId,
        message: FromTaskManager,
    ) -> Result<(), Gone> {
        self.send(Request::Event(Event::TaskManager {
            connection,
            message,
        }))
        .await
    }

    pub(crate) async fn closed(
        &self,
        connection: ConnectionId,
        reason: String,
    ) -> Result<(), Gone> {
        self.send(Request::Event(Event::ConnectionClosed {
            connection,
            reason,
        }))
        .await
    }

    pub(crate) async fn submit(&self, graph: StreamGraph) -> Result<(JobId, SubmitAnswer), Gone> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Submit { graph, reply }).await?;
        answer.await.map_err(|_| Gone)
    }

    pub(crate) async fn cancel(&self, job: JobId) -> Result<CancelAnswer, Gone> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Cancel { job, reply }).await?;
        answer.await.map_err(|_| Gone)
    }

    pub(crate) async fn stop(&self, job: JobId, mode: StopMode) -> Result<StopAnswer, Gone> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Stop { job, mode, reply }).await?;
        answer.await.map_err(|_| Gone)
    }

    /// Runs `view` on the engine's state.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        view: impl FnOnce(&Engine, Timestamp) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (reply, answered) = oneshot::channel();
        let query: QueryFn = Box::new(move |engine, now| answer(reply, view(engine, now)));
        self.send(Request::Query(query)).await?;
        answered.await.map_err(|_| Gone)
    }
}

/// Answers, unless who asked is gone: then nobody needs the answer.
fn answer<T>(reply: oneshot::Sender<T>, answer: T) {
    if reply.send(answer).is_err() {
        tracing::trace!("nobody waits for an answer any more");
    }
}

/// Owns the engine.
#[derive(Debug)]
pub(crate) struct EngineTask {
    engine: Engine,
    clock: Clock,
    requests: mpsc::Receiver<Request>,
    connections: HashMap<ConnectionId, Outbound>,
    /// Answers that commands of the current event will give.
    submitter: Option<oneshot::Sender<(JobId, SubmitAnswer)>>,
    canceller: Option<oneshot::Sender<CancelAnswer>>,
    stopper: Option<oneshot::Sender<StopAnswer>>,
    submissions: u64,
}

impl EngineTask {
    pub(crate) fn new(engine: Engine, clock: Clock, requests: mpsc::Receiver<Request>) -> Self {
        Self {
            engine,
            clock,
            requests,
            connections: HashMap::new(),
            submitter: None,
            canceller: None,
            stopper: None,
            submissions: 0,
        }
    }

    /// Runs until `stop`, or until nobody is left who could ask.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut tick = tokio::time::interval(limits::TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = tick.tick() => self.on_event(Event::Tick),
                request = self.requests.recv() => match request {
                    Some(request) => self.on_request(request),
                    None => return,
                },
            }
        }
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Connected {
                connection,
                outbound,
            } => {
                self.connections.insert(connection, outbound);
            }
            Request::Event(event) => self.on_event(event),
            Request::Submit { graph, reply } => {
                self.submissions += 1;
                let job = random::job_id(self.clock.now(), self.submissions);
                self.submitter = Some(reply);
                self.on_event(Event::SubmitJob {
                    job,
                    graph: Arc::new(graph),
                });
            }
            Request::Cancel { job, reply } => {
                self.canceller = Some(reply);
                self.on_event(Event::CancelJob { job });
            }
            Request::Stop { job, mode, reply } => {
                self.stopper = Some(reply);
                self.on_event(Event::StopJob { job, mode });
            }
            Request::Query(query) => query(&self.engine, self.clock.now()),
        }
    }

    fn on_event(&mut self, event: Event) {
        let now = self.clock.now();
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            if let Event::ConnectionClosed { connection, .. } = &event {
                self.connections.remove(connection);
            }
            for command in self.engine.on_event(now, event) {
                // What could not be sent is a closed connection, and that is the next event.
                events.extend(self.carry_out(command));
            }
        }
    }

    fn carry_out(&mut self, command: Command) -> Option<Event> {
        match command {
            Command::Send {
                connection,
                message,
            } => return self.send(connection, &message),
            Command::Close { connection, reason } => {
                if self.connections.remove(&connection).is_some() {
                    tracing::info!(connection = connection.0, reason, "closed a connection");
                }
            }
            Command::SubmissionAnswered { job, answer } => {
                if let Some(reply) = self.submitter.take() {
                    self::answer(reply, (job, answer));
                }
            }
            Command::CancelAnswered { answer, .. } => {
                if let Some(reply) = self.canceller.take() {
                    self::answer(reply, answer);
                }
            }
            Command::StopAnswered { answer, .. } => {
                if let Some(reply) = self.stopper.take() {
                    self::answer(reply, answer);
                }
            }
            Command::JobStatusChanged {
                job,
                name,
                from,
                to,
                reason,
            } => {
                let reason = reason
                    .map(|reason| format!(": {reason}"))
                    .unwrap_or_default();
                tracing::info!(
                    "Job {name} ({job}) switched from state {} to {}{reason}",
                    from.name(),
                    to.name()
                );
            }
            Command::SubtaskStatusChanged {
                attempt,
                task_name,
                from,
                to,
            } => {
                tracing::debug!(
                    "{task_name} ({attempt}) switched from {} to {}",
                    from.name(),
                    to.name()
                );
            }
            Command::Log { message } => tracing::info!("{message}"),
        }
        None
    }

    fn send(&mut self, connection: ConnectionId, message: &ToTaskManager) -> Option<Event> {
        let outbound = self.connections.get(&connection)?;
        let reason = match outbound
            .messages
            .try_send(Ok(wire::encode_to_task_manager(message)))
        {
            Ok(()) => return None,
            Err(TrySendError::Full(_)) => {
                format!(
                    "it does not read: {} messages wait for it",
                    limits::OUTBOUND_QUEUE_MAX
                )
            }
            Err(TrySendError::Closed(_)) => "connection closed".to_owned(),
        };
        Some(Event::ConnectionClosed { connection, reason })
    }
}
