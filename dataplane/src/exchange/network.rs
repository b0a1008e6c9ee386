//! A core's connections to cores of other processes, driven by its private io_uring.
//!
//! Owns: [`Network`]: sockets, what the kernel is doing with them, and whose memory it holds meanwhile.
//! ```text
//! sweep:  connections with something to send --fill--> one send each -.
//!         io_uring_enter, only if there is something to submit or the kernel raised its flag
//!         completions: received -> Connection::on_bytes -> channels;  sent -> buffers back to the pool
//! ```
//! Invariant: memory that an operation names is not touched before its completion: a link outlives its operations, even when
//! its connection has failed. At most one send and one receive operation are in flight per link. A sweep without news
//! costs the same with one connection or a thousand.
//! Left out: the protocol ([`crate::exchange::connection`]), how all this ends (`closing`), whose the channels are (the core).

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use io_uring::{opcode, types};

use crate::batch::{Buffer, BufferPool};
use crate::exchange::connection::{Connection, Departures, Direction, Notice};
use crate::exchange::frame::ChannelKey;
use crate::exchange::receive_ring::{GROUP, ReceiveRing};
use crate::exchange::remote::{Dirty, RemoteReceiver, SenderHandle};
use crate::exchange::uring::{Completion, Features, Uring, is_passing};
use crate::limits::{LINGER_NS, RECEIVE_READY, SEND_FRAMES};
use crate::runtime::core::ConnectionId;

/// How a core uses its ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkOptions {
    /// What the kernel can do, or what of it may be used.
    pub features: Features,
    /// Send without copying where the peer is on another host.
    pub zero_copy: bool,
}

const SEND: u64 = 1;

/// What the kernel is to send.
#[derive(Debug)]
struct Outbox {
    departures: Departures,
    /// The kernel has it; nothing here may change.
    busy: bool,
    /// A zero-copy send whose memory the kernel still holds.
    borrowed: bool,
    /// Bytes of the departures that the kernel has taken already.
    sent: usize,
    total: usize,
    slices: Box<[libc::iovec]>,
    message: Box<libc::msghdr>,
}

impl Outbox {
    fn new() -> Self {
        let nothing = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        // SAFETY: all fields of a message header may be zero.
        let message = unsafe { std::mem::zeroed() };
        Self {
            departures: Departures::default(),
            busy: false,
            borrowed: false,
            sent: 0,
            total: 0,
            slices: vec![nothing; SEND_FRAMES + 1].into_boxed_slice(),
            message: Box::new(message),
        }
    }

    /// Points the message at what has not been sent yet.
    fn aim(&mut self) -> *const libc::msghdr {
        let (mut skip, mut used) = (self.sent, 0);
        for piece in self.departures.pieces() {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            let rest = &piece[skipped..];
            if !rest.is_empty() {
                self.slices[used] = libc::iovec {
                    iov_base: rest.as_ptr().cast_mut().cast(),
                    iov_len: rest.len(),
                };
                used += 1;
            }
        }
        self.message.msg_iov = self.slices.as_mut_ptr();
        self.message.msg_iovlen = used;
        &raw const *self.message
    }
}

/// A connection with its socket and what the kernel does for it.
#[derive(Debug)]
struct Link {
    id: ConnectionId,
    socket: TcpStream,
    connection: Connection,
    /// A receive operation is in flight.
    receiving: bool,
    /// What it receives into, where blocks do not come from the ring.
    block: Option<Buffer>,
    outbox: Outbox,
    /// The peer is on another host, and zero-copy sends were asked for.
    zero_copy: bool,
}

impl Link {
    fn is_quiet(&self) -> bool {
        !self.receiving && !self.outbox.busy
    }
}

/// All connections of one core.
#[allow(missing_debug_implementations, reason = "a ring has nothing to show")]
pub struct Network {
    ring: Uring,
    /// `None`: one receive operation at a time, each with a block of its own.
    receive: Option<ReceiveRing>,
    pool: BufferPool,
    zero_copy: bool,
    /// By the number in operations; places of links that are gone serve again.
    links: Vec<Option<Link>>,
    by_id: HashMap<ConnectionId, usize>,
    dirty: Dirty,
    /// The other half of `dirty`, so that neither is allocated anew.
    working: Vec<ConnectionId>,
    completions: Vec<Completion>,
    notices: Vec<Notice>,
    /// What the core has to look after.
    inbox: VecDeque<(ConnectionId, Notice)>,
    /// Connections that have failed since the core last asked.
    lost: Vec<ConnectionId>,
    /// How long peers may take to read what they were sent, once this ends.
    linger_ns: u64,
}

impl Network {
    /// No connections yet. Call on the core's own thread.
    ///
    /// # Errors
    /// The kernel has no io_uring, or forbids it.
    pub fn new(
        options: NetworkOptions,
        doorbell_fd: RawFd,
        pool: BufferPool,
    ) -> std::io::Result<Self> {
        let ring = Uring::new(options.features, doorbell_fd)?;
        let receive = if options.features.multishot {
            Some(ReceiveRing::new(&ring)?)
        } else {
            None
        };
        Ok(Self {
            ring,
            receive,
            pool,
            zero_copy: options.zero_copy && options.features.zero_copy,
            links: Vec::new(),
            by_id: HashMap::new(),
            dirty: Rc::new(RefCell::default()),
            working: Vec::new(),
            completions: Vec::new(),
            notices: Vec::new(),
            inbox: VecDeque::new(),
            lost: Vec::new(),
            linger_ns: LINGER_NS,
        })
    }

    /// Takes over a socket that has shaken hands. `peer` names the other core in messages.
    pub fn attach(
        &mut self,
        id: ConnectionId,
        socket: TcpStream,
        direction: Direction,
        peer: String,
    ) {
        self.fill_ring();
        let remote = socket.peer_addr();
        let zero_copy = self.zero_copy && remote.is_ok_and(|peer| !peer.ip().is_loopback());
        let (pool, dirty) = (self.pool.clone(), Rc::clone(&self.dirty));
        let link = Link {
            id,
            socket,
            connection: Connection::new(id, direction, peer, pool, dirty),
            receiving: false,
            block: None,
            outbox: Outbox::new(),
            zero_copy,
        };
        let free = self.links.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.links.push(None);
            self.links.len() - 1
        });
        self.links[index] = Some(link);
        self.by_id.insert(id, index);
        self.arm(index);
    }

    /// Gives the ring its blocks, with the first connection.
    fn fill_ring(&mut self) {
        let Some(receive) = &mut self.receive else {
            return;
        };
        if self.links.is_empty() {
            for id in 0..RECEIVE_READY {
                receive.provide(id, self.pool.take_or_heap(0));
            }
            receive.publish();
        }
    }

    fn link(&mut self, id: ConnectionId) -> Option<&mut Link> {
        let index = *self.by_id.get(&id)?;
        self.links[index].as_mut()
    }

    /// Opens a channel on a connection; `None` when it is gone.
    #[must_use]
    pub fn open(
        &mut self,
        id: ConnectionId,
        key: &ChannelKey,
        road: usize,
    ) -> Option<SenderHandle> {
        Some(self.link(id)?.connection.open(key, road))
    }

    /// Binds an announced channel to its consumer; false when the connection is gone.
    pub fn claim(&mut self, id: ConnectionId, number: u32, receiver: &Rc<RemoteReceiver>) -> bool {
        let link = self.link(id);
        link.map(|link| link.connection.claim(number, receiver))
            .is_some()
    }

    /// What came in that the core has to look after, since it last asked.
    pub fn take_notice(&mut self) -> Option<(ConnectionId, Notice)> {
        self.inbox.pop_front()
    }

    /// A connection that has failed since the core last asked.
    pub fn take_lost(&mut self) -> Option<ConnectionId> {
        self.lost.pop()
    }

    // -------------------------------------------------------------------------------------------------- sweep

    /// Moves what can be moved without waiting; true when something did.
    pub fn sweep(&mut self) -> bool {
        let mut moved = !self.dirty.borrow().is_empty();
        if moved {
            self.fill_outboxes();
        }
        if self.ring.wants_enter() {
            self.enter();
        }
        if self.ring.has_completions() {
            moved = true;
            self.reap();
        }
        moved || !self.lost.is_empty()
    }

    fn enter(&mut self) {
        if let Err(error) = self.ring.enter()
            && !is_passing(&error)
        {
            if !self.by_id.is_empty() {
                tracing::error!("a data core's io_uring refuses to work: {error}");
            }
            let ids: Vec<ConnectionId> = self.by_id.keys().copied().collect();
            for id in ids {
                self.fail(id, &format!("io_uring: {error}"));
            }
        }
    }

    fn fill_outboxes(&mut self) {
        let mut working = std::mem::take(&mut self.working);
        std::mem::swap(&mut working, &mut *self.dirty.borrow_mut());
        for id in working.drain(..) {
            if let Some(&index) = self.by_id.get(&id) {
                self.try_send(index);
            }
        }
        self.working = working;
    }

    /// Starts a send if there is something to send and none is in flight; the end of one tries again.
    fn try_send(&mut self, index: usize) {
        let Some(link) = &mut self.links[index] else {
            return;
        };
        if link.outbox.busy || link.connection.broken().is_some() {
            return;
        }
        let outbox = &mut link.outbox;
        link.connection.fill(&mut outbox.departures);
        if outbox.departures.is_empty() {
            return;
        }
        outbox.sent = 0;
        outbox.total = outbox.departures.bytes();
        self.submit_send(index);
    }

    fn submit_send(&mut self, index: usize) {
        let Some(link) = &mut self.links[index] else {
            return;
        };
        let fd = types::Fd(link.socket.as_raw_fd());
        let message = link.outbox.aim();
        #[allow(clippy::cast_sign_loss, reason = "flags are bits")]
        let flags = (libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32;
        let entry = if link.zero_copy {
            opcode::SendMsgZc::new(fd, message).flags(flags).build()
        } else {
            opcode::SendMsg::new(fd, message).flags(flags).build()
        };
        let entry = entry.user_data((index as u64) << 1 | SEND);
        (link.outbox.busy, link.outbox.borrowed) = (true, link.zero_copy);
        // SAFETY: message, slices and departures stay in the outbox, untouched while it is busy, and the link stays until
        // the completion.
        let pushed = unsafe { self.ring.push(&entry) };
        if let Err(error) = pushed {
            let id = link.id;
            link.outbox.busy = false;
            self.fail(id, &format!("cannot send: {error}"));
        }
    }

    /// Starts receiving.
    fn arm(&mut self, index: usize) {
        let Some(link) = &mut self.links[index] else {
            return;
        };
        let fd = types::Fd(link.socket.as_raw_fd());
        let entry = if self.receive.is_some() {
            opcode::RecvMulti::new(fd, GROUP).build()
        } else {
            let pool = &self.pool;
            let block = link.block.get_or_insert_with(|| pool.take_or_heap(0));
            let storage = block.storage_mut();
            let length = u32::try_from(storage.len()).unwrap_or(0);
            opcode::Recv::new(fd, storage.as_mut_ptr(), length).build()
        };
        let entry = entry.user_data((index as u64) << 1);
        link.receiving = true;
        // SAFETY: the block stays in the link, or in the ring of blocks, until the completion.
        let pushed = unsafe { self.ring.push(&entry) };
        if let Err(error) = pushed {
            let id = link.id;
            link.receiving = false;
            self.fail(id, &format!("cannot receive: {error}"));
        }
    }

    fn reap(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.reap(&mut completions);
        for completion in completions.drain(..) {
            let index = usize::try_from(completion.user_data >> 1).unwrap_or(usize::MAX);
            if completion.user_data & SEND == 0 {
                self.on_receive(index, completion);
            } else {
                self.on_send(index, completion);
            }
            self.bury(index);
        }
        self.completions = completions;
        if let Some(receive) = &mut self.receive {
            receive.publish();
        }
    }

    /// Lets go of a link that has failed, once the kernel has.
    fn bury(&mut self, index: usize) {
        let gone = self.links.get(index).and_then(Option::as_ref);
        if gone.is_some_and(|link| link.is_quiet() && !self.by_id.contains_key(&link.id)) {
            self.links[index] = None;
        }
    }

    fn on_send(&mut self, index: usize, completion: Completion) {
        let Some(link) = self.links.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let outbox = &mut link.outbox;
        if completion.released() {
            outbox.borrowed = false;
        } else if let Ok(sent) = usize::try_from(completion.result) {
            outbox.sent += sent;
            outbox.borrowed = completion.more();
        } else if link.zero_copy && lacks_zero_copy(-completion.result) {
            let error = std::io::Error::from_raw_os_error(-completion.result);
            tracing::warn!(
                "a zero-copy send fails: {error}; this connection copies from now on (lockable memory: `ulimit -l`)"
            );
            link.zero_copy = false;
            outbox.borrowed = completion.more();
        } else if completion.result != -libc::EAGAIN && completion.result != -libc::EINTR {
            outbox.busy = completion.more();
            let error = std::io::Error::from_raw_os_error(-completion.result);
            let id = link.id;
            return self.fail(id, &format!("cannot send: {error}"));
        } else {
            outbox.borrowed = completion.more();
        }
        if outbox.borrowed {
            return;
        }
        outbox.busy = false;
        if outbox.sent < outbox.total {
            if link.connection.broken().is_none() {
                self.submit_send(index);
            }
            return;
        }
        outbox.departures.on_sent();
        self.try_send(index);
    }

    fn on_receive(&mut self, index: usize, completion: Completion) {
        let block = match &mut self.receive {
            Some(receive) => completion
                .block()
                .and_then(|id| Some((id, receive.take(id)?))),
            None => {
                let link = self.links.get_mut(index).and_then(Option::as_mut);
                link.and_then(|link| Some((0, link.block.take()?)))
            }
        };
        let result = self.on_block(index, completion.result, block);
        let Some(link) = self.links.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        link.receiving = completion.more();
        let (id, armed) = (link.id, link.receiving);
        match result {
            Err(why) => self.fail(id, &why),
            Ok(()) if !armed && self.by_id.contains_key(&id) => self.arm(index),
            Ok(()) => {}
        }
    }

    /// Passes received bytes to the connection and sees that the kernel has another block instead.
    fn on_block(
        &mut self,
        index: usize,
        result: i32,
        block: Option<(u16, Buffer)>,
    ) -> Result<(), String> {
        let Some((place, buffer)) = block else {
            return match -result {
                // All blocks were full: they are free again, or others are there instead.
                libc::ENOBUFS | libc::EAGAIN | libc::EINTR => Ok(()),
                0 => Err("closed by the peer".to_owned()),
                error => Err(cannot_receive(error)),
            };
        };
        let buffer = Rc::new(buffer);
        let outcome = match usize::try_from(result) {
            Ok(0) => Err("closed by the peer".to_owned()),
            Ok(bytes) => self.on_bytes(index, &buffer, bytes),
            Err(_) if -result == libc::EAGAIN || -result == libc::EINTR => Ok(()),
            Err(_) => Err(cannot_receive(-result)),
        };
        // A block that nobody reads serves again at once, while it is warm.
        let next = Rc::try_unwrap(buffer).unwrap_or_else(|_| self.pool.take_or_heap(0));
        match &mut self.receive {
            Some(receive) => receive.provide(place, next),
            None => {
                if let Some(link) = self.links.get_mut(index).and_then(Option::as_mut) {
                    link.block = Some(next);
                }
            }
        }
        outcome
    }

    fn on_bytes(&mut self, index: usize, block: &Rc<Buffer>, bytes: usize) -> Result<(), String> {
        let Some(link) = self.links.get_mut(index).and_then(Option::as_mut) else {
            return Ok(());
        };
        if link.connection.broken().is_some() {
            return Ok(());
        }
        let result = link.connection.on_bytes(block, 0..bytes, &mut self.notices);
        let id = link.id;
        self.inbox
            .extend(self.notices.drain(..).map(|notice| (id, notice)));
        result
    }

    fn fail(&mut self, id: ConnectionId, why: &str) {
        let Some(index) = self.by_id.remove(&id) else {
            return;
        };
        if let Some(link) = &mut self.links[index] {
            link.connection.fail(why);
            // Operations in flight end with this; the peer knows at once.
            drop(link.socket.shutdown(Shutdown::Both));
            self.lost.push(id);
        }
        self.bury(index);
    }

    // -------------------------------------------------------------------------------------------------- sleep

    /// From now on news ring the core's doorbell; false when there is something to do already.
    pub fn on_asleep(&mut self) -> bool {
        self.ring.on_asleep();
        let work = self.ring.wants_enter() || self.ring.has_completions();
        !(work || !self.dirty.borrow().is_empty() || !self.lost.is_empty())
    }

    /// The core looks for news itself.
    pub fn on_awake(&mut self) {
        self.ring.on_awake();
    }
}

/// The send would have worked with a copy: too little lockable memory, or a socket that knows no other way.
fn lacks_zero_copy(error: i32) -> bool {
    matches!(error, libc::ENOMEM | libc::ENOBUFS | libc::EOPNOTSUPP)
}

fn cannot_receive(error: i32) -> String {
    format!(
        "cannot receive: {}",
        std::io::Error::from_raw_os_error(error)
    )
}

mod closing;
#[cfg(test)]
mod tests;
