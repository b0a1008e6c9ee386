//! How a core's connections end with it.
//!
//! Owns: the drop of [`Network`].
//! ```text
//! outgoing, sound:  send what is queued -> end our half -> read on until the peer ends its own -> close
//! all others:       cut at once
//! ```
//! A socket that is closed with bytes of the peer unread, or that gets some afterwards, is reset, and its peer loses what it
//! has not read yet. Credit is always on its way while data is, so only the peer's end of its half says that it has all.
//! Invariant: nobody is waited for longer than `LINGER_NS`, then whatever is left is cut; no memory goes back that the kernel
//! still holds.
//! Left out: who may still have something queued (the core drops its subtasks first: what is not finished is cut short).

use std::net::Shutdown;

use crate::exchange::connection::Direction;
use crate::exchange::network::Network;
use crate::limits::SHUTDOWN_WAITS;
use crate::runtime::clock::Clock;
use crate::runtime::core::ConnectionId;

const WHY: &str = "this TaskManager ends";

impl Network {
    /// Cuts all connections, or those of one direction.
    fn cut(&mut self, direction: Option<Direction>) {
        let links = self.links.iter().flatten();
        let of = |at: Direction| direction.is_none_or(|direction| direction == at);
        let ids: Vec<ConnectionId> = links
            .filter(|link| of(link.connection.direction()))
            .map(|link| link.id)
            .collect();
        for id in ids {
            self.fail(id, WHY);
        }
    }

    /// Sends what is queued and waits until every peer has read it.
    fn linger(&mut self) {
        let clock = Clock::system();
        let deadline_ns = clock.now_ns().saturating_add(self.linger_ns);
        loop {
            self.fill_outboxes();
            self.end_halves();
            if self.by_id.is_empty() || clock.now_ns() >= deadline_ns {
                return;
            }
            self.wait();
        }
    }

    /// Ends our half of connections on which everything has been sent. What still comes in on them is read and dropped.
    fn end_halves(&mut self) {
        for link in self.links.iter_mut().flatten() {
            let sound = link.connection.broken().is_none();
            if sound && !link.outbox.busy && link.connection.is_settled() {
                link.connection.fail(WHY);
                if let Err(error) = link.socket.shutdown(Shutdown::Write) {
                    tracing::debug!("ending our half of a data connection: {error}");
                }
            }
        }
    }

    fn wait(&mut self) {
        if let Err(error) = self.ring.wait() {
            tracing::debug!("waiting for sockets to end: {error}");
        }
        self.reap();
    }
}

impl Drop for Network {
    /// Lets peers read what they were sent, and waits until the kernel has let go of all memory.
    fn drop(&mut self) {
        self.cut(Some(Direction::Incoming));
        self.linger();
        self.cut(None);
        for _ in 0..SHUTDOWN_WAITS {
            if self.links.iter().all(Option::is_none) {
                return;
            }
            self.wait();
        }
        // Never seen: the kernel still holds memory of ours, so it must stay for ever.
        tracing::error!("sockets of a data core do not end");
        std::mem::forget(std::mem::take(&mut self.links));
        std::mem::forget(self.receive.take());
    }
}
