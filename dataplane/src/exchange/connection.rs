//! One TCP connection between two cores of different processes, with many channels in it.
//!
//! Owns: [`Connection`] (one direction of data: the producing core connects, the consuming core answers with credit). The
//! poller calls [`Connection::sweep`]; nothing waits.
//! Invariant: credit granted minus data received never exceeds `CHANNEL_CREDIT` per channel (checked on arrival); frames
//! of a channel keep their order (sequence numbers, checked); a channel without credit does not hold up its neighbours. Any
//! breach ends this connection with an error that names the peer, and nothing else.
//! Left out: connecting and shaking hands (control thread), waiting for readiness ([`crate::runtime::readiness`]). These
//! sockets are read and written by plain non-blocking calls; an io_uring exchange goes behind the same two ends.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io::{IoSlice, IoSliceMut};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, recvmsg, sendmsg,
};

use crate::batch::{Buffer, BufferPool};
use crate::exchange::frame::{ChannelKey, Frame};
use crate::exchange::remote::{RemoteReceiver, RemoteSender, SenderHandle, Shared};
use crate::limits::{
    CHANNEL_CREDIT, FRAME_HEADER_BYTES, FREE_BUFFER_BYTES, OPEN_CHANNELS_MAX, RECEIVE_TURN_BYTES,
    SEND_FRAMES,
};

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

/// A frame on its way out.
#[derive(Debug)]
struct Departure {
    head: Vec<u8>,
    buffer: Option<(Buffer, Rc<RemoteSender>)>,
    sent: usize,
}

impl Departure {
    fn bytes(&self) -> usize {
        self.head.len() + self.buffer.as_ref().map_or(0, |(buffer, _)| buffer.bytes())
    }
}

/// Where the payload of an arriving frame goes.
#[derive(Debug)]
enum Arrival {
    /// Waiting for a header.
    Header,
    Elements {
        frame: Frame,
        buffer: Buffer,
        filled: usize,
    },
    Key {
        channel: u32,
        bytes: Vec<u8>,
        filled: usize,
    },
}

/// What a sweep found that the core must look after.
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

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// Bytes moved in either direction, or the connection ended.
    pub progress: bool,
    /// For the core.
    pub notices: Vec<Notice>,
}

/// One TCP connection of this core.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
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
    departures: VecDeque<Departure>,
    header: [u8; FRAME_HEADER_BYTES],
    header_filled: usize,
    arrival: Arrival,
}

impl Connection {
    /// A connection over a socket that has shaken hands. `peer` names the other core in messages.
    #[must_use]
    pub fn new(socket: TcpStream, direction: Direction, peer: String, pool: BufferPool) -> Self {
        Self {
            socket,
            direction,
            peer,
            pool,
            shared: Rc::default(),
            outgoing: HashMap::new(),
            incoming: HashMap::new(),
            opened: 0,
            departures: VecDeque::new(),
            header: [0; FRAME_HEADER_BYTES],
            header_filled: 0,
            arrival: Arrival::Header,
        }
    }

    /// Which way data flows.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// The socket, to wait for.
    #[must_use]
    pub fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// There is more to write than the socket took.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        !self.departures.is_empty()
    }

    /// Why the connection ended, if it did.
    #[must_use]
    pub fn broken(&self) -> Option<Rc<str>> {
        self.shared.broken.borrow().clone()
    }

    /// Announces a channel to the consuming core; data leaves once it grants credit.
    #[must_use]
    pub fn open(&mut self, key: &ChannelKey) -> SenderHandle {
        let number = self.opened;
        self.opened = number
            .checked_add(1)
            .expect("fewer than 2^32 channels in a connection's life");
        let sender = Rc::new(RemoteSender {
            number,
            queue: RefCell::default(),
            credit: Cell::new(0),
            claimed: Cell::new(false),
            sequence: Cell::new(0),
            listed: Cell::new(false),
            swallowing: Cell::new(false),
            in_flight: Cell::new(0),
            shared: Rc::clone(&self.shared),
        });
        self.outgoing.insert(number, Rc::clone(&sender));
        let mut head = Frame::OpenChannel { channel: number }.encode().to_vec();
        head.extend_from_slice(&key.encode());
        self.departures.push_back(Departure {
            head,
            buffer: None,
            sent: 0,
        });
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
            credit: CHANNEL_CREDIT,
        };
        self.grant(number, CHANNEL_CREDIT);
    }

    fn grant(&mut self, channel: u32, count: u32) {
        let head = Frame::Credit { channel, count }.encode().to_vec();
        self.departures.push_back(Departure {
            head,
            buffer: None,
            sent: 0,
        });
    }

    /// Moves what can be moved without waiting.
    pub fn sweep(&mut self) -> Swept {
        let mut swept = Swept::default();
        if self.shared.broken.borrow().is_some() {
            return swept;
        }
        let result = self.receive(&mut swept).and_then(|()| {
            self.settle();
            self.send(&mut swept)
        });
        if let Err(why) = result {
            let why = format!("data connection with {}: {why}", self.peer);
            tracing::warn!("{why}");
            *self.shared.broken.borrow_mut() = Some(why.into());
            // A wait for readiness holds the socket open; shutting it down lets the peer know at once.
            drop(self.socket.shutdown(std::net::Shutdown::Both));
            swept.progress = true;
        }
        swept
    }

    /// Turns what channels left behind into frames: credit that is due, closed channels.
    fn settle(&mut self) {
        let owing = std::mem::take(&mut *self.shared.owing.borrow_mut());
        for number in owing {
            if let Some(Incoming::Open {
                receiver, credit, ..
            }) = self.incoming.get_mut(&number)
                && let Some(receiver) = receiver.upgrade()
            {
                let owed = receiver.owed.take();
                *credit += owed;
                self.grant(number, owed);
            }
        }
        let closed = std::mem::take(&mut *self.shared.closed.borrow_mut());
        for channel in closed {
            let known = match self.direction {
                Direction::Outgoing => self.outgoing.remove(&channel).is_some(),
                Direction::Incoming => self.incoming.remove(&channel).is_some(),
            };
            // The other end closed it first: it needs no answer.
            if known {
                let head = Frame::CloseChannel { channel }.encode().to_vec();
                self.departures.push_back(Departure {
                    head,
                    buffer: None,
                    sent: 0,
                });
            }
        }
    }

    // ------------------------------------------------------------------------------------------------ sending

    fn send(&mut self, swept: &mut Swept) -> Result<(), String> {
        loop {
            self.fill_departures();
            if self.departures.is_empty() {
                return Ok(());
            }
            let mut slices = Vec::with_capacity(2 * SEND_FRAMES);
            for departure in self.departures.iter().take(SEND_FRAMES) {
                let skip_head = departure.sent.min(departure.head.len());
                slices.push(IoSlice::new(&departure.head[skip_head..]));
                if let Some((buffer, _)) = &departure.buffer {
                    slices.push(IoSlice::new(
                        &buffer.as_slice()[departure.sent - skip_head..],
                    ));
                }
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let sent = match sendmsg(
                &self.socket,
                &slices,
                &mut SendAncillaryBuffer::default(),
                flags,
            ) {
                Ok(sent) => sent,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(error) => return Err(format!("cannot send: {error}")),
            };
            swept.progress = true;
            self.on_sent(sent);
        }
    }

    fn on_sent(&mut self, mut sent: usize) {
        while let Some(departure) = self.departures.front_mut() {
            let left = departure.bytes() - departure.sent;
            if sent < left {
                departure.sent += sent;
                return;
            }
            sent -= left;
            let done = self
                .departures
                .pop_front()
                .expect("the front was just looked at");
            if let Some((_, sender)) = done.buffer {
                sender.in_flight.set(sender.in_flight.get() - 1);
            }
        }
    }

    /// Takes one frame from each ready channel in turn until there are enough for one call.
    fn fill_departures(&mut self) {
        while self.departures.len() < SEND_FRAMES {
            let Some(number) = self.shared.ready.borrow_mut().pop_front() else {
                return;
            };
            let Some(sender) = self.outgoing.get(&number).map(Rc::clone) else {
                continue;
            };
            sender.listed.set(false);
            // Without credit the channel leaves the list; the next grant lists it again.
            if let Some((frame, buffer)) = sender.next_frame() {
                if !sender.queue.borrow().is_empty() {
                    sender.list();
                }
                sender.in_flight.set(sender.in_flight.get() + 1);
                let head = frame.encode().to_vec();
                self.departures.push_back(Departure {
                    head,
                    buffer: Some((buffer, sender)),
                    sent: 0,
                });
            }
        }
    }

    // ---------------------------------------------------------------------------------------------- receiving

    fn receive(&mut self, swept: &mut Swept) -> Result<(), String> {
        let mut budget = RECEIVE_TURN_BYTES;
        while budget > 0 {
            let Some(received) = self.receive_once()? else {
                return Ok(());
            };
            swept.progress = true;
            budget = budget.saturating_sub(received);
            self.on_received(received, swept)?;
        }
        Ok(())
    }

    /// Reads the rest of the current payload and, behind it, the next header, in one call.
    fn receive_once(&mut self) -> Result<Option<usize>, String> {
        let mut nothing = [];
        let payload: &mut [u8] = match &mut self.arrival {
            Arrival::Header => &mut nothing,
            Arrival::Elements {
                frame,
                buffer,
                filled,
            } => &mut buffer.storage_mut()[*filled..frame.payload_bytes()],
            Arrival::Key { bytes, filled, .. } => &mut bytes[*filled..],
        };
        let header = &mut self.header[self.header_filled..];
        let mut slices = [IoSliceMut::new(payload), IoSliceMut::new(header)];
        let mut ancillary = RecvAncillaryBuffer::default();
        match recvmsg(
            &self.socket,
            &mut slices,
            &mut ancillary,
            RecvFlags::DONTWAIT,
        ) {
            Ok(message) if message.bytes == 0 => Err("closed by the peer".to_owned()),
            Ok(message) => Ok(Some(message.bytes)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(format!("cannot receive: {error}")),
        }
    }

    fn on_received(&mut self, received: usize, swept: &mut Swept) -> Result<(), String> {
        let (filled, wanted) = match &mut self.arrival {
            Arrival::Header => (received, 0),
            Arrival::Elements { frame, filled, .. } => {
                *filled += received;
                (*filled, frame.payload_bytes())
            }
            Arrival::Key { bytes, filled, .. } => {
                *filled += received;
                (*filled, bytes.len())
            }
        };
        if filled < wanted {
            return Ok(());
        }
        self.header_filled += filled - wanted;
        match std::mem::replace(&mut self.arrival, Arrival::Header) {
            Arrival::Header => {}
            Arrival::Elements { frame, buffer, .. } => self.on_elements(frame, buffer)?,
            Arrival::Key { channel, bytes, .. } => self.on_open(channel, &bytes, swept)?,
        }
        if self.header_filled == FRAME_HEADER_BYTES {
            self.header_filled = 0;
            self.on_header(swept)?;
        }
        Ok(())
    }

    fn on_header(&mut self, swept: &mut Swept) -> Result<(), String> {
        let frame = Frame::decode(self.header).map_err(|error| error.to_string())?;
        match (frame, self.direction) {
            (
                Frame::Elements {
                    payload_bytes,
                    free,
                    ..
                },
                Direction::Incoming,
            ) => {
                // Free frames are not counted by credit, so they take nothing from the pool.
                let buffer = if free {
                    Buffer::exactly(payload_bytes.max(FREE_BUFFER_BYTES))
                } else {
                    self.pool.take_or_heap(payload_bytes)
                };
                self.arrival = Arrival::Elements {
                    frame,
                    buffer,
                    filled: 0,
                };
                Ok(())
            }
            (Frame::OpenChannel { channel }, Direction::Incoming) => {
                let bytes = vec![0; frame.payload_bytes()];
                self.arrival = Arrival::Key {
                    channel,
                    bytes,
                    filled: 0,
                };
                Ok(())
            }
            (Frame::Credit { channel, count }, Direction::Outgoing) => {
                self.on_credit(channel, count)
            }
            (Frame::CloseChannel { channel }, direction) => {
                self.on_close(channel, direction, swept)
            }
            (frame, direction) => Err(format!("{frame:?} on an {direction:?} connection")),
        }
    }

    /// The other end is gone.
    fn on_close(
        &mut self,
        channel: u32,
        direction: Direction,
        swept: &mut Swept,
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
                    swept.notices.push(Notice::Closed { number: channel });
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
        let credit = sender
            .credit
            .get()
            .checked_add(count)
            .filter(|credit| *credit <= CHANNEL_CREDIT);
        let credit = credit.ok_or_else(|| {
            format!("{count} more credit for channel {channel} exceeds {CHANNEL_CREDIT}")
        })?;
        sender.credit.set(credit);
        sender.claimed.set(true);
        if !sender.queue.borrow().is_empty() {
            sender.list();
        }
        Ok(())
    }

    fn on_open(&mut self, channel: u32, bytes: &[u8], swept: &mut Swept) -> Result<(), String> {
        if channel != self.opened || self.incoming.len() >= OPEN_CHANNELS_MAX {
            return Err(format!(
                "channel {channel} opened out of turn: {} were opened, {} are open",
                self.opened,
                self.incoming.len()
            ));
        }
        let key = ChannelKey::decode(
            bytes
                .try_into()
                .map_err(|_| "a channel key of another length".to_owned())?,
        );
        self.opened += 1;
        self.incoming.insert(channel, Incoming::Unclaimed);
        swept.notices.push(Notice::Opened {
            number: channel,
            key,
        });
        Ok(())
    }

    fn on_elements(&mut self, frame: Frame, mut buffer: Buffer) -> Result<(), String> {
        let Frame::Elements {
            channel,
            sequence,
            payload_bytes,
            free,
            ..
        } = frame
        else {
            return Ok(());
        };
        self.check_number(channel)
            .map_err(|why| format!("elements: {why}"))?;
        let (receiver, next_sequence, credit) = match self.incoming.get_mut(&channel) {
            Some(Incoming::Open {
                receiver,
                next_sequence,
                credit,
            }) => (receiver, next_sequence, credit),
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
        buffer
            .validate(payload_bytes)
            .map_err(|error| format!("channel {channel}: {error}"))?;
        if free && buffer.records() > 0 {
            return Err(format!("channel {channel}: records in a control frame"));
        }
        if let Some(receiver) = receiver.upgrade() {
            receiver.append(buffer, free);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
