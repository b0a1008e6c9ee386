//! Connecting data cores of different TaskManagers.
//!
//! Owns: the handshake on both sides, and dialling what a deployment needs. It runs on the control thread with a deadline; a
//! socket that has shaken hands goes to its core. Invariant: a core only ever sees sockets whose peer named this cluster, this
//! TaskManager and this core.
//! Left out: authentication (mutual TLS comes here), and everything after the handshake.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, TcpStream as StdStream};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::Error;
use crate::exchange::frame::{Frame, FrameError, Hello};
use crate::limits::{CONNECT_TIMEOUT_S, FRAME_HEADER_BYTES, PEER_SILENCE_MS_MIN};
use crate::task_manager::deploy::Peer;

const DEADLINE: Duration = Duration::from_secs(CONNECT_TIMEOUT_S);

async fn read_hello(socket: &mut TcpStream) -> Result<Hello, String> {
    let mut header = [0; FRAME_HEADER_BYTES];
    socket
        .read_exact(&mut header)
        .await
        .map_err(|error| format!("no handshake: {error}"))?;
    match Frame::decode(header).map_err(|error| error.to_string())? {
        Frame::Hello(bytes) => {
            let mut payload = vec![0; bytes];
            socket
                .read_exact(&mut payload)
                .await
                .map_err(|error| format!("half a handshake: {error}"))?;
            Hello::decode(&payload).map_err(|error: FrameError| error.to_string())
        }
        other => Err(format!("{other:?} before the handshake")),
    }
}

/// How long a peer may stand still in a cluster with this heartbeat timeout.
#[must_use]
pub fn peer_silence_ms(heartbeat_timeout_ms: u32) -> u32 {
    heartbeat_timeout_ms
        .saturating_mul(2)
        .max(PEER_SILENCE_MS_MIN)
}

fn ready(socket: TcpStream, peer_silence_ms: u32) -> Result<StdStream, String> {
    let configure = || -> std::io::Result<()> {
        use rustix::net::sockopt;
        socket.set_nodelay(true)?;
        // A host that vanishes without a word is noticed whether or not there is something to send.
        sockopt::set_socket_keepalive(&socket, true)?;
        sockopt::set_tcp_keepidle(&socket, Duration::from_secs(2))?;
        sockopt::set_tcp_keepintvl(&socket, Duration::from_secs(2))?;
        sockopt::set_tcp_keepcnt(&socket, 3)?;
        sockopt::set_tcp_user_timeout(&socket, peer_silence_ms)?;
        Ok(())
    };
    configure().map_err(|error| error.to_string())?;
    socket.into_std().map_err(|error| error.to_string())
}

/// Answers a connection that came in. Returns the socket and who is at its other end.
///
/// # Errors
/// Silence, another protocol, another cluster, or somebody who meant another TaskManager.
pub async fn answer(
    mut socket: TcpStream,
    cluster_id: &str,
    me: (&str, u32),
    peer_silence_ms: u32,
) -> Result<(StdStream, (String, u32)), String> {
    let hello = timeout(DEADLINE, read_hello(&mut socket))
        .await
        .map_err(|_| "no handshake in time".to_owned())??;
    if hello.cluster_id != cluster_id {
        return Err(format!(
            "peer belongs to cluster `{}`, this is `{cluster_id}`",
            hello.cluster_id
        ));
    }
    if (hello.to.0.as_str(), hello.to.1) != me {
        return Err(format!(
            "peer means core {} of {}, this is core {} of {}",
            hello.to.1, hello.to.0, me.1, me.0
        ));
    }
    let reply = Hello {
        cluster_id: cluster_id.to_owned(),
        from: (me.0.to_owned(), me.1),
        to: hello.from.clone(),
    };
    socket
        .write_all(&reply.encode())
        .await
        .map_err(|error| format!("cannot answer: {error}"))?;
    Ok((ready(socket, peer_silence_ms)?, hello.from))
}

/// Connects core `me` to a core of another TaskManager.
///
/// # Errors
/// It cannot be reached, or somebody else answers.
pub async fn connect(
    address: (&str, u16),
    cluster_id: &str,
    me: (&str, u32),
    peer: (&str, u32),
    peer_silence_ms: u32,
) -> Result<StdStream, String> {
    let name = format!(
        "core {} of TaskManager {} at {}:{}",
        peer.1, peer.0, address.0, address.1
    );
    let dial = async {
        let mut socket = TcpStream::connect(address)
            .await
            .map_err(|error| format!("cannot reach {name}: {error}"))?;
        let from = (me.0.to_owned(), me.1);
        let to = (peer.0.to_owned(), peer.1);
        let hello = Hello {
            cluster_id: cluster_id.to_owned(),
            from,
            to,
        };
        socket
            .write_all(&hello.encode())
            .await
            .map_err(|error| format!("cannot greet {name}: {error}"))?;
        let reply = read_hello(&mut socket)
            .await
            .map_err(|error| format!("{name} did not greet back: {error}"))?;
        if (reply.from.0.as_str(), reply.from.1) != peer {
            return Err(format!(
                "core {} of {} answers at the address of {name}",
                reply.from.1, reply.from.0
            ));
        }
        ready(socket, peer_silence_ms)
    };
    timeout(DEADLINE, dial)
        .await
        .map_err(|_| format!("{name} did not answer within {CONNECT_TIMEOUT_S} s"))?
}

/// A connection that a deployment needed.
#[derive(Debug)]
pub(super) struct Dialed {
    /// The core here that it is for.
    pub(super) core: u32,
    pub(super) peer: Peer,
    pub(super) socket: StdStream,
}

/// Connects to all peers at once, each from the core that needs it. `local` stands in for peers that do not say where they are.
///
/// # Errors
/// The first that cannot be reached.
pub(super) async fn dial_all(
    peers: HashSet<(u32, Peer)>,
    cluster_id: &str,
    id: &str,
    local: IpAddr,
    peer_silence_ms: u32,
) -> crate::error::Result<Vec<Dialed>> {
    let mut dials = tokio::task::JoinSet::new();
    for (core, peer) in peers {
        let (cluster_id, id) = (cluster_id.to_owned(), id.to_owned());
        dials.spawn(async move {
            let host = if peer.address.0.is_empty() {
                local_host(local)
            } else {
                peer.address.0.clone()
            };
            let address = (host.as_str(), peer.address.1);
            let to = (peer.task_manager_id.as_str(), peer.core);
            let me = (id.as_str(), core);
            match connect(address, &cluster_id, me, to, peer_silence_ms).await {
                Ok(socket) => Ok(Dialed { core, peer, socket }),
                Err(why) => Err(Error::peer_lost(&peer.task_manager_id, why)),
            }
        });
    }
    let mut dialed = Vec::new();
    while let Some(done) = dials.join_next().await {
        dialed.push(done.unwrap_or_else(|error| Err(Error::deployment(error.to_string())))?);
    }
    Ok(dialed)
}

fn local_host(bind: IpAddr) -> String {
    if bind.is_unspecified() {
        Ipv4Addr::LOCALHOST.to_string()
    } else {
        bind.to_string()
    }
}
