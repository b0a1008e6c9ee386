//! Connecting data cores of different TaskManagers.
//!
//! Owns: the handshake on both sides. It runs on the control thread with a deadline; a socket that has shaken hands goes
//! to its core. Invariant: a core only ever sees sockets whose peer named this cluster, this TaskManager and this core.
//! Left out: authentication (mutual TLS comes here), and everything after the handshake.

use std::net::TcpStream as StdStream;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::exchange::frame::{Frame, FrameError, Hello};
use crate::limits::{CONNECT_TIMEOUT_S, FRAME_HEADER_BYTES, PEER_SILENCE_MS_MIN};

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
