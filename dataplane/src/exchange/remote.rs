//! The two ends of a channel between processes, as the producing and the consuming subtask hold them.
//!
//! Owns: [`RemoteSender`] behind its [`SenderHandle`], [`RemoteReceiver`], and what they share with their connection.
//! Invariant: a sender queues at most `CHANNEL_BUFFERS` buffers; nothing of it leaves before the consumer has claimed the
//! channel, and no data frame without credit. A receiver gives credit back in steps, and control elements that wait in it
//! join each other. Letting go of either end closes the channel.
//! Left out: sockets and frames ([`crate::exchange::connection`]).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Deref;
use std::rc::Rc;

use crate::batch::Buffer;
use crate::element::Element;
use crate::exchange::frame::Frame;
use crate::limits::{CHANNEL_BUFFERS, CREDIT_STEP, FREE_BUFFER_BYTES};

/// What channels and their connection share on the core.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Senders that have something queued.
    pub(super) ready: RefCell<VecDeque<u32>>,
    /// Receivers that owe the producer credit.
    pub(super) owing: RefCell<Vec<u32>>,
    /// Channels whose end on this core is gone: the consumer, or the producer with all it sent.
    pub(super) closed: RefCell<Vec<u32>>,
    pub(super) broken: RefCell<Option<Rc<str>>>,
}

/// The producer's end of a remote channel.
#[derive(Debug)]
pub struct RemoteSender {
    pub(super) number: u32,
    pub(super) queue: RefCell<VecDeque<Buffer>>,
    /// Frames that the consumer allows. Written by the connection.
    pub(super) credit: Cell<u32>,
    /// The consumer has claimed the channel (its first grant); before that not even free frames may leave.
    pub(super) claimed: Cell<bool>,
    pub(super) sequence: Cell<u64>,
    /// Listed in `Shared::ready`.
    pub(super) listed: Cell<bool>,
    /// The consumer reads no more: swallow everything.
    pub(super) swallowing: Cell<bool>,
    /// Frames given to the connection and not yet written to the socket.
    pub(super) in_flight: Cell<u32>,
    pub(super) shared: Rc<Shared>,
}

impl RemoteSender {
    /// Queues a buffer, or gives it back when the queue is full.
    ///
    /// # Errors
    /// The queue is full; the buffer comes back.
    pub fn push(&self, buffer: Buffer) -> Result<(), Buffer> {
        if self.swallowing.get() {
            return Ok(());
        }
        if !self.has_room() {
            return Err(buffer);
        }
        self.queue.borrow_mut().push_back(buffer);
        self.list();
        Ok(())
    }

    pub(super) fn list(&self) {
        if !self.listed.replace(true) {
            self.shared.ready.borrow_mut().push_back(self.number);
        }
    }

    /// The queue takes another buffer.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.swallowing.get() || self.queue.borrow().len() < CHANNEL_BUFFERS
    }

    /// Everything is on the wire.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.in_flight.get() == 0 && self.queue.borrow().is_empty()
    }

    /// Why the connection ended, if it did.
    #[must_use]
    pub fn broken(&self) -> Option<Rc<str>> {
        self.shared.broken.borrow().clone()
    }

    /// The next buffer that may leave now, with its frame.
    pub(super) fn next_frame(&self) -> Option<(Frame, Buffer)> {
        if !self.claimed.get() {
            return None;
        }
        let mut queue = self.queue.borrow_mut();
        let free = queue.front()?.records() == 0;
        if !free {
            self.credit.set(self.credit.get().checked_sub(1)?);
        }
        let buffer = queue.pop_front()?;
        let sequence = self.sequence.get();
        self.sequence.set(sequence + 1);
        let backlog = u32::try_from(queue.len()).expect("at most CHANNEL_BUFFERS");
        let payload_bytes = buffer.bytes();
        Some((
            Frame::Elements {
                channel: self.number,
                sequence,
                payload_bytes,
                free,
                backlog,
            },
            buffer,
        ))
    }
}

/// The producer's hold on a remote channel. Letting go closes the channel: behind what it sent, if that is on the wire, at
/// once if the producer was cut short.
#[derive(Debug)]
pub struct SenderHandle(pub(super) Rc<RemoteSender>);

impl Deref for SenderHandle {
    type Target = RemoteSender;
    fn deref(&self) -> &RemoteSender {
        &self.0
    }
}

impl Drop for SenderHandle {
    fn drop(&mut self) {
        self.0.shared.closed.borrow_mut().push(self.0.number);
    }
}

/// The consumer's end of a remote channel.
#[derive(Debug, Default)]
pub struct RemoteReceiver {
    pub(super) queue: RefCell<VecDeque<(Buffer, bool)>>,
    /// Data buffers taken from the queue whose credit has not gone back.
    pub(super) owed: Cell<u32>,
    /// Set when the producer has opened the channel.
    pub(super) link: RefCell<Option<(u32, Rc<Shared>)>>,
}

impl RemoteReceiver {
    /// Takes the oldest buffer; its credit goes back to the producer in steps.
    #[must_use]
    pub fn pop(&self) -> Option<Buffer> {
        let (buffer, free) = self.queue.borrow_mut().pop_front()?;
        if !free {
            self.owed.set(self.owed.get() + 1);
            if self.owed.get() == CREDIT_STEP
                && let Some((number, shared)) = &*self.link.borrow()
            {
                shared.owing.borrow_mut().push(*number);
            }
        }
        Some(buffer)
    }

    /// Appends a buffer that came in. Control elements behind control elements join them, where watermarks replace each
    /// other: what waits without credit stays small however many come.
    pub(super) fn append(&self, buffer: Buffer, free: bool) {
        let mut queue = self.queue.borrow_mut();
        if free && let Some((last, true)) = queue.back_mut() {
            let mut offset = 0;
            let mut joined = 0;
            while let Some(Element::Control(control)) = buffer.next_element(&mut offset) {
                if !last.push_control(control) {
                    break;
                }
                joined = offset;
            }
            if joined == buffer.bytes() {
                return;
            }
            debug_assert!(joined == 0 || offset > joined, "elements join in order");
            let mut rest = Buffer::exactly(buffer.bytes().max(FREE_BUFFER_BYTES));
            let mut offset = joined;
            while let Some(Element::Control(control)) = buffer.next_element(&mut offset) {
                let fits = rest.push_control(control);
                debug_assert!(fits, "the rest is no larger than the whole");
            }
            queue.push_back((rest, true));
            return;
        }
        queue.push_back((buffer, free));
    }

    /// Nothing to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// Why the connection ended, if it did.
    #[must_use]
    pub fn broken(&self) -> Option<Rc<str>> {
        self.link
            .borrow()
            .as_ref()
            .and_then(|(_, shared)| shared.broken.borrow().clone())
    }
}

impl Drop for RemoteReceiver {
    fn drop(&mut self) {
        if let Some((number, shared)) = self.link.borrow_mut().take() {
            shared.closed.borrow_mut().push(number);
        }
    }
}
