//! The protocol between two cores of different processes: one TCP connection with many channels in it.
//!
//! Owns: [`Connection`] (one direction of data: the producing core connects, the consuming core answers with credit):
//! bytes in through [`Connection::on_bytes`], frames out through [`Connection::fill`]. It sees no socket, so any bytes in
//! any pieces can be tried on it.
//! Invariant: credit granted minus data received never exceeds what the consumer announced per channel (checked on
//! arrival); frames of a channel keep their order (sequence numbers, checked); a channel without credit does not hold up
//! its neighbours. Elements are read where the kernel put them; one that a block's end cuts in two is joined, alone. Any
//! breach ends this connection with an error, and nothing else.
//! Left out: connecting and shaking hands (control thread), sockets ([`crate::exchange::network`]).

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use crate::batch::layout::{self, element_bytes};
use crate::batch::{Buffer, BufferPool};
use crate::exchange::frame::{CHANNEL_KEY_BYTES, ChannelKey, Frame};
use crate::exchange::remote::{Dirty, RemoteReceiver, RemoteSender, SenderHandle, Shared};
use crate::limits::{
    BUFFER_BYTES, CHANNEL_CREDIT, FRAME_HEADER_BYTES, OPEN_CHANNELS_MAX, SEND_FRAMES,
};
use crate::runtime::core::ConnectionId;

/// Which way data flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// This core produces: it sends elements and receives credit.
    Outgoing,
    /// This core consumes: it receives elements and sends credit.
    Incoming,
}

#[derive(Debug)]
enum Incoming {
    /// Announced; nobody here has claimed it yet, so no credit has been granted.
    Unclaimed,
    /// In use.
    Open {
        receiver: std::rc::Weak<RemoteReceiver>,
        next_sequence: u64,
        credit: u32,
    },
}

/// What the next bytes belong to.
#[derive(Debug)]
enum Arrival {
    Header {
        bytes: [u8; FRAME_HEADER_BYTES],
        filled: usize,
    },
    /// A frame's elements, of which `left` bytes are to come.
    Elements {
        channel: u32,
        free: bool,
        left: usize,
    },
    Key {
        channel: u32,
        bytes: [u8; CHANNEL_KEY_BYTES],
        filled: usize,
    },
}

impl Arrival {
    const NOTHING: Self = Self::Header {
        bytes: [0; FRAME_HEADER_BYTES],
        filled: 0,
    };
}

/// What arrived that the core must look after.
#[derive(Debug, PartialEq, Eq)]
pub enum Notice {
    /// The peer announced a channel: [`Connection::claim`] it when its consumer is here.
    Opened {
        /// Its number on this connection.
        number: u32,
        /// What it is.
        key: ChannelKey,
    },
    /// The producer of a channel has gone; if nobody had claimed it, nobody will.
    Closed {
        /// Its number on this connection.
        number: u32,
    },
}

/// Frames on their way out, in order: control first. Its memory stays where it is until the kernel has taken it.
#[derive(Debug, Default)]
pub struct Departures {
    /// Credit, openings and closings.
    pub(super) control: Vec<u8>,
    /// Frames, each in one piece with its head, and whose they are.
    pub(super) frames: Vec<(Buffer, Rc<RemoteSender>)>,
}

impl Departures {
    /// Nothing leaves.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.control.is_empty() && self.frames.is_empty()
    }

    /// All its bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pieces().map(<[u8]>::len).sum()
    }

    /// What leaves, in order, some of it perhaps empty.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let frames = self.frames.iter().map(|(buffer, _)| buffer.piece());
        std::iter::once(self.control.as_slice()).chain(frames)
    }

    /// All of it is with the kernel: buffers go back to their pool.
    pub fn on_sent(&mut self) {
        self.control.clear();
        for (_, sender) in self.frames.drain(..) {
            sender.on_sent();
        }
    }
}

/// One connection of this core.
#[derive(Debug)]
pub struct Connection {
    direction: Direction,
    peer: String,
    pool: BufferPool,
    shared: Rc<Shared>,
    /// Channels by number. Numbers only grow; one that was given out and is not here is closed, and what is still on the
    /// wire for it is dropped.
    outgoing: HashMap<u32, Rc<RemoteSender>>,
    incoming: HashMap<u32, Incoming>,
    /// Numbers given out so far, by whichever side produces.
    opened: u32,
    /// Control frames that wait to leave.
    control: Vec<u8>,
    arrival: Arrival,
    /// The beginning of an element that a block's end cut in two, or of a frame of control elements.
    cut: Vec<u8>,
}

impl Connection {
    /// A connection that has shaken hands. `peer` names the other core in messages; `dirty` is the core's list of connections
    /// with something to do.
    #[must_use]
    pub fn new(
        id: ConnectionId,
        direction: Direction,
        peer: String,
        pool: BufferPool,
        dirty: Dirty,
    ) -> Self {
        Self {
            direction,
            peer,
            pool,
            shared: Rc::new(Shared::new(id, dirty)),
            outgoing: HashMap::new(),
            incoming: HashMap::new(),
            opened: 0,
            control: Vec::new(),
            arrival: Arrival::NOTHING,
            cut: Vec::new(),
        }
    }

    /// Which way data flows on it.
    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// Nothing waits to leave, be it for the next send or for credit.
    pub(super) fn is_settled(&self) -> bool {
        let mut senders = self.outgoing.values();
        self.control.is_empty()
            && self.shared.closed.borrow().is_empty()
            && senders.all(|sender| sender.queue.borrow().is_empty())
    }

    /// Why the connection ended, if it did.
    #[must_use]
    pub fn broken(&self) -> Option<Rc<str>> {
        self.shared.broken.borrow().clone()
    }

    /// Ends it, for everybody who has a channel in it.
    pub(super) fn fail(&mut self, why: &str) {
        if self.shared.broken.borrow().is_none() {
            let why = format!("data connection with {}: {why}", self.peer);
            tracing::warn!("{why}");
            *self.shared.broken.borrow_mut() = Some(why.into());
        }
    }

    /// Announces a channel to the consuming core; data leaves once it grants credit. The producer holds at most `road` filled
    /// buffers.
    #[must_use]
    pub fn open(&mut self, key: &ChannelKey, road: usize) -> SenderHandle {
        let number = self.opened;
        self.opened = number
            .checked_add(1)
            .expect("fewer than 2^32 channels in a connection's life");
        let sender = Rc::new(RemoteSender::new(number, road, Rc::clone(&self.shared)));
        self.outgoing.insert(number, Rc::clone(&sender));
        self.announce(&Frame::OpenChannel { channel: number });
        self.control.extend_from_slice(&key.encode());
        SenderHandle(sender)
    }

    /// Binds an announced channel to its consumer and grants it credit.
    pub fn claim(&mut self, number: u32, receiver: &Rc<RemoteReceiver>) {
        let Some(channel) = self.incoming.get_mut(&number) else {
            return;
        };
        *receiver.link.borrow_mut() = Some((number, Rc::clone(&self.shared)));
        *channel = Incoming::Open {
            receiver: Rc::downgrade(receiver),
            next_sequence: 0,
            credit: receiver.credit,
        };
        self.announce(&Frame::Credit {
            channel: number,
            count: receiver.credit,
        });
    }

    fn announce(&mut self, frame: &Frame) {
        self.control.extend_from_slice(&frame.encode());
        self.shared.touch();
    }

    // ------------------------------------------------------------------------------------------------ sending

    /// Takes what may leave now: all control frames, and up to [`SEND_FRAMES`] data frames, one from each ready channel in
    /// turn. The connection is in the core's list again when there is more.
    pub fn fill(&mut self, departures: &mut Departures) {
        self.shared.unlist();
        self.settle();
        departures.control.append(&mut self.control);
        while departures.frames.len() < SEND_FRAMES {
            let Some(number) = self.shared.ready.borrow_mut().pop_front() else {
                return;
            };
            let Some(sender) = self.outgoing.get(&number) else {
                continue;
            };
            sender.listed.set(false);
            // Without credit the channel leaves the list; the next grant lists it again.
            if let Some((frame, mut buffer)) = sender.next_frame() {
                buffer.put_header(frame.encode());
                departures.frames.push((buffer, Rc::clone(sender)));
                if !sender.queue.borrow().is_empty() {
                    sender.list();
                }
            }
        }
        if !self.shared.ready.borrow().is_empty() {
            self.shared.touch();
        }
    }

    /// Turns what channels left behind into frames: credit that is due, closed channels.
    fn settle(&mut self) {
        let owing = std::mem::take(&mut *self.shared.owing.borrow_mut());
        for &number in &owing {
            if let Some(Incoming::Open {
                receiver, credit, ..
            }) = self.incoming.get_mut(&number)
                && let Some(receiver) = receiver.upgrade()
            {
                let count = receiver.owed.take();
                *credit += count;
                let frame = Frame::Credit {
                    channel: number,
                    count,
                };
                self.control.extend_from_slice(&frame.encode());
            }
        }
        recycle(&self.shared.owing, owing);
        let closed = std::mem::take(&mut *self.shared.closed.borrow_mut());
        for &channel in &closed {
            let known = match self.direction {
                Direction::Outgoing => self.outgoing.remove(&channel).is_some(),
                Direction::Incoming => self.incoming.remove(&channel).is_some(),
            };
            // The other end closed it first: it needs no answer.
            if known {
                let frame = Frame::CloseChannel { channel };
                self.control.extend_from_slice(&frame.encode());
            }
        }
        recycle(&self.shared.closed, closed);
    }

    // ---------------------------------------------------------------------------------------------- receiving

    /// Bytes came in: `range` of a block that the kernel filled.
    ///
    /// # Errors
    /// The peer broke the protocol: end the connection.
    pub fn on_bytes(
        &mut self,
        block: &Rc<Buffer>,
        range: Range<usize>,
        notices: &mut Vec<Notice>,
    ) -> Result<(), String> {
        let Range { start: mut at, end } = range;
        while at < end {
            let rest = &block.storage()[at..end];
            match &mut self.arrival {
                Arrival::Header { bytes, filled } => {
                    let taken = fill(bytes, filled, rest);
                    at += taken;
                    if *filled == FRAME_HEADER_BYTES {
                        let header = *bytes;
                        self.arrival = Arrival::NOTHING;
                        self.on_header(header, notices)?;
                    }
                }
                Arrival::Key {
                    channel,
                    bytes,
                    filled,
                } => {
                    let taken = fill(bytes, filled, rest);
                    at += taken;
                    if *filled == CHANNEL_KEY_BYTES {
                        let (channel, key) = (*channel, ChannelKey::decode(*bytes));
                        self.arrival = Arrival::NOTHING;
                        self.on_open(channel, key, notices)?;
                    }
                }
                Arrival::Elements {
                    channel,
                    free,
                    left,
                } => {
                    let taken = rest.len().min(*left);
                    *left -= taken;
                    let (channel, free, last) = (*channel, *free, *left == 0);
                    if last {
                        self.arrival = Arrival::NOTHING;
                    }
                    let result = if free {
                        self.on_free(channel, &rest[..taken], last)
                    } else {
                        self.on_elements(channel, block, at..at + taken, last)
                    };
                    result.map_err(|error| format!("channel {channel}: {error}"))?;
                    at += taken;
                }
            }
        }
        Ok(())
    }

    fn on_header(
        &mut self,
        header: [u8; FRAME_HEADER_BYTES],
        notices: &mut Vec<Notice>,
    ) -> Result<(), String> {
        let frame = Frame::decode(header).map_err(|error| error.to_string())?;
        match (frame, self.direction) {
            (
                Frame::Elements {
                    channel,
                    sequence,
                    payload_bytes,
                    free,
                    ..
                },
                Direction::Incoming,
            ) => {
                self.check_frame(channel, sequence, free)?;
                self.arrival = Arrival::Elements {
                    channel,
                    free,
                    left: payload_bytes,
                };
                Ok(())
            }
            (Frame::OpenChannel { channel }, Direction::Incoming) => {
                self.arrival = Arrival::Key {
                    channel,
                    bytes: [0; CHANNEL_KEY_BYTES],
                    filled: 0,
                };
                Ok(())
            }
            (Frame::Credit { channel, count }, Direction::Outgoing) => {
                self.on_credit(channel, count)
            }
            (Frame::CloseChannel { channel }, direction) => {
                self.on_close(channel, direction, notices)
            }
            (frame, direction) => Err(format!("{frame:?} on an {direction:?} connection")),
        }
    }

    /// A frame of elements may come now: it is the next one, and it was paid for.
    fn check_frame(&mut self, channel: u32, sequence: u64, free: bool) -> Result<(), String> {
        self.check_number(channel)
            .map_err(|why| format!("elements: {why}"))?;
        let (next_sequence, credit) = match self.incoming.get_mut(&channel) {
            Some(Incoming::Open {
                next_sequence,
                credit,
                ..
            }) => (next_sequence, credit),
            Some(Incoming::Unclaimed) => {
                return Err(format!(
                    "elements on channel {channel} before it was granted credit"
                ));
            }
            // On the wire while the consumer went away.
            None => return Ok(()),
        };
        if sequence != *next_sequence {
            return Err(format!(
                "channel {channel}: frame {sequence} where {next_sequence} was due"
            ));
        }
        *next_sequence += 1;
        if !free {
            *credit = credit
                .checked_sub(1)
                .ok_or_else(|| format!("channel {channel}: a frame without credit"))?;
        }
        Ok(())
    }

    fn receiver(&self, channel: u32) -> Option<Rc<RemoteReceiver>> {
        match self.incoming.get(&channel) {
            Some(Incoming::Open { receiver, .. }) => receiver.upgrade(),
            _ => None,
        }
    }

    /// A piece of a data frame.
    fn on_elements(
        &mut self,
        channel: u32,
        block: &Rc<Buffer>,
        range: Range<usize>,
        last: bool,
    ) -> Result<(), String> {
        let Some(receiver) = self.receiver(channel) else {
            self.cut.clear();
            return Ok(());
        };
        let bytes = &block.storage()[range.clone()];
        let mut at = 0;
        if !self.cut.is_empty() {
            let (taken, joined) = self.join(bytes)?;
            at = taken;
            if let Some(is_record) = joined {
                let ends = last && at == bytes.len();
                receiver.append_joined(&self.cut, is_record, ends, &self.pool)?;
                self.cut.clear();
            }
        }
        let scanned = layout::scan(&bytes[at..]).map_err(|error| error.to_string())?;
        let whole = at + scanned.bytes;
        if scanned.bytes > 0 {
            let elements = range.start + at..range.start + whole;
            let ends = last && whole == bytes.len();
            receiver.append(block, elements, scanned.records, ends, &self.pool)?;
        }
        self.cut.extend_from_slice(&bytes[whole..]);
        if last && !self.cut.is_empty() {
            return Err(format!(
                "its frame ends {} bytes into an element",
                self.cut.len()
            ));
        }
        Ok(())
    }

    /// Goes on with an element that was cut: how many of `bytes` belong to it, and, if it is whole now, whether it is a record.
    fn join(&mut self, bytes: &[u8]) -> Result<(usize, Option<bool>), String> {
        let mut taken = 0;
        if self.cut.len() < layout::HEAD {
            taken = bytes.len().min(layout::HEAD - self.cut.len());
            self.cut.extend_from_slice(&bytes[..taken]);
        }
        let Some(head) = self.cut.first_chunk() else {
            return Ok((taken, None));
        };
        let (length, is_record) = element_bytes(*head, 0).map_err(|error| error.to_string())?;
        let more = (length - self.cut.len()).min(bytes.len() - taken);
        self.cut.extend_from_slice(&bytes[taken..taken + more]);
        Ok((
            taken + more,
            (self.cut.len() == length).then_some(is_record),
        ))
    }

    /// A piece of a frame of control elements.
    fn on_free(&mut self, channel: u32, bytes: &[u8], last: bool) -> Result<(), String> {
        self.cut.extend_from_slice(bytes);
        if !last {
            return Ok(());
        }
        let elements = std::mem::take(&mut self.cut);
        let scanned = layout::scan(&elements).map_err(|error| error.to_string())?;
        if scanned.bytes < elements.len() {
            return Err("its frame ends in the middle of an element".to_owned());
        }
        if scanned.records > 0 {
            return Err("records in a control frame".to_owned());
        }
        if let Some(receiver) = self.receiver(channel) {
            receiver.append_free(&elements)?;
        }
        recycle_cut(&mut self.cut, elements);
        Ok(())
    }

    fn on_open(
        &mut self,
        channel: u32,
        key: ChannelKey,
        notices: &mut Vec<Notice>,
    ) -> Result<(), String> {
        if channel != self.opened || self.incoming.len() >= OPEN_CHANNELS_MAX {
            return Err(format!(
                "channel {channel} opened out of turn: {} were opened, {} are open",
                self.opened,
                self.incoming.len()
            ));
        }
        self.opened += 1;
        self.incoming.insert(channel, Incoming::Unclaimed);
        notices.push(Notice::Opened {
            number: channel,
            key,
        });
        Ok(())
    }

    /// The other end is gone.
    fn on_close(
        &mut self,
        channel: u32,
        direction: Direction,
        notices: &mut Vec<Notice>,
    ) -> Result<(), String> {
        self.check_number(channel)?;
        match direction {
            Direction::Outgoing => {
                if let Some(sender) = self.outgoing.remove(&channel) {
                    sender.swallowing.set(true);
                    sender.queue.borrow_mut().clear();
                }
            }
            Direction::Incoming => {
                if self.incoming.remove(&channel).is_some() {
                    notices.push(Notice::Closed { number: channel });
                }
            }
        }
        Ok(())
    }

    fn check_number(&self, channel: u32) -> Result<(), String> {
        if channel < self.opened {
            Ok(())
        } else {
            Err(format!("channel {channel} was never opened"))
        }
    }

    fn on_credit(&mut self, channel: u32, count: u32) -> Result<(), String> {
        self.check_number(channel)?;
        let Some(sender) = self.outgoing.get(&channel) else {
            return Ok(());
        };
        // The first grant says how much there may be at most.
        if sender.window.get() == 0 {
            sender.window.set(count.min(CHANNEL_CREDIT));
        }
        let window = sender.window.get();
        let credit = sender.credit.get().checked_add(count);
        let credit = credit.filter(|credit| *credit <= window).ok_or_else(|| {
            format!("{count} more credit for channel {channel} exceeds its {window}")
        })?;
        sender.credit.set(credit);
        if !sender.queue.borrow().is_empty() {
            sender.list();
        }
        Ok(())
    }
}

/// Copies what is missing; says how much that was.
fn fill(to: &mut [u8], filled: &mut usize, from: &[u8]) -> usize {
    let taken = from.len().min(to.len() - *filled);
    to[*filled..*filled + taken].copy_from_slice(&from[..taken]);
    *filled += taken;
    taken
}

/// Puts an emptied list back, so that its memory serves again.
fn recycle(place: &std::cell::RefCell<Vec<u32>>, mut list: Vec<u32>) {
    list.clear();
    let mut place = place.borrow_mut();
    if place.is_empty() {
        *place = list;
    }
}

fn recycle_cut(place: &mut Vec<u8>, mut bytes: Vec<u8>) {
    bytes.clear();
    bytes.shrink_to(BUFFER_BYTES);
    *place = bytes;
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
