//! Data connections that other TaskManagers make to the cores here.
//!
//! Owns: one task per core's listener, while a session lasts. Invariant: a connection reaches its core only after the
//! peer proved to be of the same cluster. Left out: the handshake ([`connections`]), connections that this process
//! makes (with the deployment that needs them).

use std::net::TcpStream as StdStream;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::exchange::connection::Direction;
use crate::task_manager::connections;

use super::ControlClient;
use super::session::{Internal, Internals};

impl ControlClient {
    /// One task per core's listener.
    pub(super) fn accept(
        &self,
        cluster_id: &str,
        internal: &Internals,
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

    /// A peer's core, by the id of its TaskManager and its number, has shaken hands.
    pub(super) fn on_accepted(&mut self, core: u32, socket: StdStream, from: (String, u32)) {
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
}
