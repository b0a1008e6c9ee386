//! The data connections that this TaskManager dialled, as the control thread knows them.
//!
//! Owns: [`ConnectionTable`]: which connection a core here has to a core there, and the numbers of all connections.
//! Invariant: a connection is in the table exactly while its core has it, as far as the control thread has heard; there is one
//! for each pair of cores at most. Connections that peers dialled have a number and no entry: their peers name them.
//! Left out: dialling ([`crate::task_manager::connections`]), sockets (the core's [`crate::exchange::network`]).

use std::collections::{HashMap, HashSet};
use std::net::TcpStream as StdStream;

use crate::error::{Error, Result};
use crate::exchange::connection::Direction;
use crate::runtime::core::{ConnectionId, CoreCommand, CoreHandle};
use crate::task_manager::connections::Dialed;
use crate::task_manager::deploy::Peer;

/// A core here, and a core of another TaskManager.
type CorePair = (u32, String, u32);

/// Outgoing connections by the cores that they join.
#[derive(Debug, Default)]
pub(super) struct ConnectionTable {
    outgoing: HashMap<CorePair, ConnectionId>,
    /// Numbers given out so far.
    next: ConnectionId,
}

impl ConnectionTable {
    /// The connection of core `core` to `peer`.
    pub(super) fn find(&self, core: u32, peer: &Peer) -> Option<ConnectionId> {
        let pair = (core, peer.task_manager_id.clone(), peer.core);
        self.outgoing.get(&pair).copied()
    }

    /// Those of `needed` that have to be dialled.
    pub(super) fn missing<'a>(
        &self,
        needed: impl Iterator<Item = (u32, &'a Peer)>,
    ) -> HashSet<(u32, Peer)> {
        needed
            .filter(|(core, peer)| self.find(*core, peer).is_none())
            .map(|(core, peer)| (core, peer.clone()))
            .collect()
    }

    /// Gives cores the connections that were made for a deployment. Where another deployment was faster, its connection serves
    /// both.
    ///
    /// # Errors
    /// As [`ConnectionTable::attach`]; what the core did not take is closed and not kept.
    pub(super) fn take_over(&mut self, cores: &[CoreHandle], dialed: Vec<Dialed>) -> Result<()> {
        for Dialed { core, peer, socket } in dialed {
            if self.find(core, &peer).is_none() {
                let name = format!("core {} of TaskManager {}", peer.core, peer.task_manager_id);
                let id = self.attach(cores, core, socket, Direction::Outgoing, name)?;
                self.outgoing
                    .insert((core, peer.task_manager_id, peer.core), id);
            }
        }
        Ok(())
    }

    /// Gives core `core` a socket that has shaken hands. `peer` names the other core in messages.
    ///
    /// # Errors
    /// There is no such core, it has ended, or its mailbox is full; the socket is closed.
    pub(super) fn attach(
        &mut self,
        cores: &[CoreHandle],
        core: u32,
        socket: StdStream,
        direction: Direction,
        peer: String,
    ) -> Result<ConnectionId> {
        let handle = cores.get(core as usize);
        let handle = handle.ok_or_else(|| Error::deployment(format!("no core {core} here")))?;
        let id = self.next;
        handle.send(CoreCommand::Attach {
            id,
            socket,
            direction,
            peer,
        })?;
        self.next += 1;
        Ok(id)
    }

    /// A core has lost it: the next deployment dials again.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        self.outgoing.retain(|_, connection| *connection != id);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    /// A dialled connection and the socket at its other end.
    fn dialed() -> (Dialed, StdStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let socket = StdStream::connect(address).expect("listening");
        let (there, _) = listener.accept().expect("connected");
        let wait = Some(Duration::from_secs(10));
        there.set_read_timeout(wait).expect("a socket");
        let peer = Peer {
            task_manager_id: "there".to_owned(),
            core: 4,
            address: ("127.0.0.1".to_owned(), address.port()),
        };
        let core = 0;
        (Dialed { core, peer, socket }, there)
    }

    fn is_closed(mut socket: &StdStream) -> bool {
        matches!(std::io::Read::read(&mut socket, &mut [0]), Ok(0))
    }

    #[test]
    fn a_connection_that_its_core_does_not_take_is_not_kept() {
        let (core, arrived) = CoreHandle::for_tests(0);
        let mut table = ConnectionTable::default();
        let (first, there) = dialed();
        let (peer, refused) = (first.peer.clone(), "the mailbox is full");
        let error = table
            .take_over(std::slice::from_ref(&core), vec![first])
            .expect_err(refused);
        assert!(
            error.to_string().contains("commands wait for a core"),
            "{error}"
        );
        let missing = table.missing([(0, &peer)].into_iter());
        assert_eq!(missing.len(), 1, "the next deployment dials");
        assert!(is_closed(&there));
        // Nor is one whose core has ended.
        drop(arrived);
        let (second, there) = dialed();
        let error = table
            .take_over(&[core], vec![second])
            .expect_err("the core has ended");
        assert!(error.to_string().contains("has ended"), "{error}");
        assert!(table.find(0, &peer).is_none() && is_closed(&there));
    }

    #[test]
    fn of_two_connections_to_a_peer_the_first_serves_and_the_second_closes() {
        let (core, arrived) = CoreHandle::for_tests(4);
        let cores = [core];
        let mut table = ConnectionTable::default();
        let ((first, _there), (second, there)) = (dialed(), dialed());
        let peer = first.peer.clone();
        table.take_over(&cores, vec![first]).expect("a place");
        let kept = table.find(0, &peer).expect("it is kept");
        table.take_over(&cores, vec![second]).expect("no work");
        assert_eq!(table.find(0, &peer), Some(kept));
        assert!(table.missing([(0, &peer)].into_iter()).is_empty());
        assert!(is_closed(&there), "nobody would ever close it");
        let attached = arrived.try_iter().filter_map(|command| match *command {
            CoreCommand::Attach { id, .. } => Some(id),
            _ => None,
        });
        assert_eq!(attached.collect::<Vec<_>>(), [kept]);
        // When it is lost, the next one takes its place.
        table.forget(kept);
        let (third, _there) = dialed();
        table.take_over(&cores, vec![third]).expect("a place");
        assert!(table.find(0, &peer).is_some_and(|id| id != kept));
    }
}
