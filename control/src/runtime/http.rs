//! The HTTP server under REST: bounded connections, bounded patience.
//!
//! Owns: accepting clients. Invariant: at most `REST_CONNECTIONS_MAX` clients are connected; one that is slow with its
//! headers or its body, or that leaves its answer unread, is cut off, so no client can hold memory for long.
//! Left out: TLS, authentication.

use std::sync::Arc;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::limits;

/// Serves until `stop`; then answers on their way are cut.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(limits::REST_CONNECTIONS_MAX));
    let mut clients = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        // A place first, so that further clients wait in the kernel's queue.
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = &mut stop => return,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => return,
        };
        while clients.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let router = router.clone();
                clients.spawn(async move {
                    answer(stream, router).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a REST client");
                tokio::time::sleep(limits::ACCEPT_RETRY).await;
            }
        }
    }
}

/// One request, one answer, or a few on a connection that is kept alive.
async fn answer(stream: TcpStream, router: Router) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::REST_HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(limits::REST_CONNECTION_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a REST connection ended"),
        Err(_) => tracing::debug!("a REST connection was cut for its age"),
    }
}
