//! Connections of TaskManagers.
//!
//! Owns: the gRPC service; per connection one task that reads, and one queue that writes.
//! Invariant: nothing of a connection reaches the engine before its registration; its end always does after.
//! Left out: what messages mean.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringflow_schemas::rpc::{self, FromJobManager, JobManagerService, Message};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::engine_task::{EngineHandle, Gone, Outbound};
use crate::event::{ConnectionId, FromTaskManager};
use crate::limits;
use crate::wire;

type Inbound = Streaming<Message<rpc::FromTaskManager>>;

/// Accepts connections of TaskManagers.
#[derive(Debug)]
pub(crate) struct Service {
    engine: EngineHandle,
    next_connection: AtomicU64,
    permits: Arc<Semaphore>,
}

impl Service {
    pub(crate) fn new(engine: EngineHandle) -> Self {
        Self {
            engine,
            next_connection: AtomicU64::new(1),
            permits: Arc::new(Semaphore::new(limits::CONNECTIONS_MAX)),
        }
    }
}

impl JobManagerService for Service {
    type Outbound = ReceiverStream<Result<Message<FromJobManager>, Status>>;

    async fn connect(&self, inbound: Request<Inbound>) -> Result<Response<Self::Outbound>, Status> {
        let permit = Arc::clone(&self.permits)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("too many connections"))?;
        let connection = ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed));
        let (messages, outbound) = mpsc::channel(limits::OUTBOUND_QUEUE_MAX);
        let reader = Reader {
            connection,
            engine: self.engine.clone(),
            inbound: inbound.into_inner(),
        };
        tokio::spawn(reader.run(messages, permit));
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

/// Reads one connection to its end.
struct Reader {
    connection: ConnectionId,
    engine: EngineHandle,
    inbound: Inbound,
}

impl Reader {
    /// Lives as long as the connection. `Gone` means that the JobManager shuts down: nobody needs to be told.
    async fn run(
        mut self,
        messages: mpsc::Sender<Result<Message<FromJobManager>, Status>>,
        _permit: OwnedSemaphorePermit,
    ) {
        match tokio::time::timeout(limits::REGISTRATION_TIMEOUT, self.next()).await {
            Ok(Ok(registration @ FromTaskManager::Register(_))) => {
                if self.serve(messages, registration).await.is_err() {
                    tracing::debug!(
                        connection = self.connection.0,
                        "connection ends with the JobManager"
                    );
                }
            }
            Ok(Ok(_)) => refuse(&messages, "the first message must be a registration"),
            Ok(Err(reason)) => refuse(&messages, &reason),
            Err(_) => refuse(&messages, "no registration in time"),
        }
    }

    async fn serve(
        &mut self,
        messages: mpsc::Sender<Result<Message<FromJobManager>, Status>>,
        registration: FromTaskManager,
    ) -> Result<(), Gone> {
        let (alive, mut ended) = oneshot::channel();
        self.engine
            .connected(self.connection, Outbound { messages, alive })
            .await?;
        self.engine.said(self.connection, registration).await?;
        loop {
            tokio::select! {
                // The engine closed it.
                _ = &mut ended => return Ok(()),
                message = self.next() => match message {
                    Ok(message) => self.engine.said(self.connection, message).await?,
                    Err(reason) => return self.engine.closed(self.connection, reason).await,
                },
            }
        }
    }

    /// The next message, or why there is none.
    async fn next(&mut self) -> Result<FromTaskManager, String> {
        match self.inbound.message().await {
            Ok(Some(message)) => wire::decode_from_task_manager(&message).map_err(|error| {
                format!("connection closed: it sent what cannot be read: {error}")
            }),
            Ok(None) => Err("connection closed".to_owned()),
            Err(status) if status.code() == tonic::Code::InvalidArgument => Err(format!(
                "connection closed: it sent what cannot be read: {}",
                status.message()
            )),
            Err(_) => Err("connection closed".to_owned()),
        }
    }
}

/// Ends a connection that never registered; `messages` is dropped with the caller.
fn refuse(messages: &mpsc::Sender<Result<Message<FromJobManager>, Status>>, reason: &str) {
    tracing::info!(reason, "refused a connection");
    if messages
        .try_send(Err(Status::failed_precondition(reason)))
        .is_err()
    {
        tracing::debug!("the refused connection is gone already");
    }
}
