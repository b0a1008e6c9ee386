//! The JobManager process: the only part of the control plane that does I/O.
//!
//! ```text
//! TaskManagers == gRPC ==> rpc --+
//! clients ====== HTTP ==> rest --+--> one bounded queue --> engine task (owns the Engine) --> replies, connections
//! clock ================> tick --+
//! ```
//! Owns: sockets, the clock, randomness, tasks.
//! Invariant: exactly one task touches the [`crate::engine::Engine`]; it never awaits anything but its queue, so a slow
//! TaskManager or client cannot hold it up.
//! Left out: TLS, durable storage.

mod clock;
mod engine_task;
mod http;
mod random;
mod rpc;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ringflow_schemas::rpc::JobManagerServer;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;

pub(crate) use engine_task::EngineHandle;

use crate::engine::{Engine, EngineConfig};
use crate::error::{Error, ErrorKind};
use crate::limits;
use crate::rest;
use clock::Clock;
use engine_task::EngineTask;
use rpc::Service;

/// How a JobManager starts.
#[derive(Debug, Clone)]
pub struct JobManagerConfig {
    /// Where TaskManagers connect; port 0 takes a free one.
    pub rpc_bind: SocketAddr,
    /// Where HTTP is served; port 0 takes a free one.
    pub rest_bind: SocketAddr,
    /// Name of the cluster.
    pub cluster_id: String,
    /// TaskManagers send heartbeats this often.
    pub heartbeat_interval: Duration,
    /// A TaskManager silent for longer is lost.
    pub heartbeat_timeout: Duration,
    /// A job that waits longer for slots fails.
    pub slot_request_timeout: Duration,
    /// Version of this binary; TaskManagers must have the same.
    pub version: String,
}

impl Default for JobManagerConfig {
    /// Loopback, Flink's ports, heartbeats every second with 5 s of patience, 5 min for slots.
    fn default() -> Self {
        Self {
            rpc_bind: SocketAddr::from(([127, 0, 0, 1], 6123)),
            rest_bind: SocketAddr::from(([127, 0, 0, 1], 8081)),
            cluster_id: "ringflow".to_owned(),
            heartbeat_interval: Duration::from_secs(1),
            heartbeat_timeout: Duration::from_secs(5),
            slot_request_timeout: Duration::from_secs(300),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Starts JobManagers.
#[derive(Debug, Clone, Copy)]
pub struct JobManager;

/// A JobManager at work. Dropping it ends it abruptly; see [`Self::shutdown`].
#[derive(Debug)]
pub struct RunningJobManager {
    rpc_address: SocketAddr,
    rest_address: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<(), Error>>,
}

impl JobManager {
    /// Binds both ports and starts serving, inside the current tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`]: a port cannot be bound; the message says which and what to do.
    pub async fn start(config: JobManagerConfig) -> Result<RunningJobManager, Error> {
        let rpc = listen(config.rpc_bind, "RPC", "--rpc-port").await?;
        let rest = listen(config.rest_bind, "REST", "--rest-port").await?;
        let (rpc_address, rest_address) = (local_address(&rpc)?, local_address(&rest)?);
        let clock = Clock::start();
        let engine = Engine::new(EngineConfig {
            cluster_id: config.cluster_id,
            leader_epoch: clock.now().0,
            heartbeat_interval: config.heartbeat_interval,
            heartbeat_timeout: config.heartbeat_timeout,
            slot_request_timeout: config.slot_request_timeout,
            version: config.version,
        });
        let (sender, receiver) = mpsc::channel(limits::ENGINE_QUEUE_MAX);
        let handle = EngineHandle::new(sender);
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let engine_task = EngineTask::new(engine, clock, receiver);
        let engine_stop = stopping(stopped.clone());
        tasks.spawn(async move {
            engine_task.run(engine_stop).await;
            Ok(())
        });
        tasks.spawn(serve_rpc(
            rpc,
            Service::new(handle.clone()),
            config.heartbeat_timeout,
            stopping(stopped.clone()),
        ));
        tasks.spawn(serve_rest(rest, handle, stopping(stopped)));
        tracing::info!(%rpc_address, %rest_address, "JobManager started");
        Ok(RunningJobManager {
            rpc_address,
            rest_address,
            stop,
            tasks,
        })
    }
}

impl RunningJobManager {
    /// Where TaskManagers connect.
    #[must_use]
    pub fn rpc_address(&self) -> SocketAddr {
        self.rpc_address
    }

    /// Where HTTP is served.
    #[must_use]
    pub fn rest_address(&self) -> SocketAddr {
        self.rest_address
    }

    /// Waits for an end that should never come: a part of the JobManager ended by itself.
    ///
    /// Cancel safety: may be dropped and called again.
    pub async fn failed(&mut self) -> Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => {
                Error::new(ErrorKind::Fatal, "a task of the JobManager ended abruptly")
                    .caused_by(error)
            }
            Some(Ok(Ok(()))) | None => {
                Error::new(ErrorKind::Fatal, "a task of the JobManager ended")
            }
        }
    }

    /// Closes listeners and connections. Jobs are not cancelled: TaskManagers see their JobManager go.
    ///
    /// Awaits: at most `limits::SHUTDOWN_GRACE` for answers on their way.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limits::SHUTDOWN_GRACE, drained)
            .await
            .is_err()
        {
            tracing::info!("some connections did not end in time and were cut");
        }
        self.tasks.shutdown().await;
    }
}

async fn listen(address: SocketAddr, what: &str, flag: &str) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "address already in use; another JobManager may be running: stop it or choose another {flag}"
            ),
            io::ErrorKind::PermissionDenied => format!("permission denied; choose another {flag}"),
            _ => error.to_string(),
        };
        Error::new(ErrorKind::Configuration, format!("cannot listen on {address} ({what}): {why}")).caused_by(error)
    })
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(|error| {
        Error::new(ErrorKind::Fatal, "cannot tell the address of a listener").caused_by(error)
    })
}

/// Completes when the JobManager shall stop, or nobody is left who could say so.
async fn stopping(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|&stop| stop).await.is_err() {
        tracing::debug!("JobManager dropped without a shutdown");
    }
}

/// A connection that has died without a word is noticed by HTTP/2, but never before the engine has judged by heartbeats
/// whether its TaskManager is lost.
async fn serve_rpc(
    listener: TcpListener,
    service: Service,
    heartbeat_timeout: Duration,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10).max(heartbeat_timeout)))
        .add_service(JobManagerServer::new(service))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stop)
        .await
        .map_err(|error| Error::new(ErrorKind::Fatal, "the RPC server ended").caused_by(error))
}

async fn serve_rest(
    listener: TcpListener,
    handle: EngineHandle,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    http::serve(listener, rest::router(handle), stop).await;
    Ok(())
}
