//! The two ends of a channel between processes, as the producing and the consuming subtask hold them.
//!
//! Owns: [`RemoteSender`] behind its [`SenderHandle`], [`RemoteReceiver`], and what they share with their connection.
//! Invariant: a sender holds at most `road` buffers, queued or in the kernel's hands; nothing of it leaves before the
//! consumer has claimed the channel, and no data frame without credit. A receiver keeps at most `IN_PLACE_MAX` blocks where
//! the kernel put them; what comes behind is copied together, so that the credit it gave bounds its memory. Credit goes
//! back in steps, and control elements that wait join each other. Letting go of either end closes the channel.
//! Left out: sockets and frames ([`crate::exchange::connection`]).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::{Deref, Range};
use std::rc::Rc;

use crate::batch::layout::{self, Scanned};
use crate::batch::{Buffer, BufferPool, InputBuffer, Received};
use crate::element::{Control, Element};
use crate::exchange::frame::Frame;
use crate::limits::{CREDIT_STEPS, ELEMENT_HEADER_BYTES, FREE_BUFFER_BYTES, IN_PLACE_MAX};
use crate::runtime::core::ConnectionId;

/// Connections of a core that have something to do. Shared by the core's connections.
pub type Dirty = Rc<RefCell<Vec<ConnectionId>>>;

/// What channels and their connection share on the core.
#[derive(Debug)]
pub(super) struct Shared {
    id: ConnectionId,
    dirty: Dirty,
    /// In `dirty`.
    listed: Cell<bool>,
    /// Senders that have something queued.
    pub(super) ready: RefCell<VecDeque<u32>>,
    /// Receivers that owe the producer credit.
    pub(super) owing: RefCell<Vec<u32>>,
    /// Channels whose end on this core is gone: the consumer, or the producer with all it sent.
    pub(super) closed: RefCell<Vec<u32>>,
    pub(super) broken: RefCell<Option<Rc<str>>>,
}

impl Shared {
    pub(super) fn new(id: ConnectionId, dirty: Dirty) -> Self {
        Self {
            id,
            dirty,
            listed: Cell::new(false),
            ready: RefCell::default(),
            owing: RefCell::default(),
            closed: RefCell::default(),
            broken: RefCell::default(),
        }
    }

    /// The connection has something to do: the core looks after it in its next sweep.
    pub(super) fn touch(&self) {
        if !self.listed.replace(true) {
            self.dirty.borrow_mut().push(self.id);
        }
    }

    /// The core looks after it now.
    pub(super) fn unlist(&self) {
        self.listed.set(false);
    }
}

/// The producer's end of a remote channel.
#[derive(Debug)]
pub struct RemoteSender {
    pub(super) number: u32,
    /// Buffers that may be queued or in the kernel's hands.
    pub(super) road: usize,
    pub(super) queue: RefCell<VecDeque<Buffer>>,
    /// Frames that the consumer allows. Written by the connection.
    pub(super) credit: Cell<u32>,
    /// The consumer's first grant: what it may have at most. 0: it has not claimed the channel, and not even free frames may
    /// leave.
    pub(super) window: Cell<u32>,
    pub(super) sequence: Cell<u64>,
    /// Listed in `Shared::ready`.
    pub(super) listed: Cell<bool>,
    /// The consumer reads no more: swallow everything.
    pub(super) swallowing: Cell<bool>,
    /// Frames given to the kernel and not yet taken by it.
    pub(super) in_flight: Cell<usize>,
    pub(super) shared: Rc<Shared>,
}

impl RemoteSender {
    pub(super) fn new(number: u32, road: usize, shared: Rc<Shared>) -> Self {
        Self {
            number,
            road,
            queue: RefCell::default(),
            credit: Cell::new(0),
            window: Cell::new(0),
            sequence: Cell::new(0),
            listed: Cell::new(false),
            swallowing: Cell::new(false),
            in_flight: Cell::new(0),
            shared,
        }
    }

    /// Queues a buffer, or gives it back when the road is full.
    ///
    /// # Errors
    /// The road is full; the buffer comes back.
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
        self.shared.touch();
    }

    /// The road takes another buffer.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.swallowing.get() || self.queue.borrow().len() + self.in_flight.get() < self.road
    }

    /// The consumer has claimed the channel.
    #[cfg(test)]
    pub(super) fn window_is_open(&self) -> bool {
        self.window.get() > 0
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
        if self.window.get() == 0 {
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
        self.in_flight.set(self.in_flight.get() + 1);
        let backlog = u32::try_from(queue.len()).unwrap_or(u32::MAX);
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

    /// The kernel has taken one of its frames.
    pub(super) fn on_sent(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
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
        // What has not left by now never will: the channel closes before anything else of it is sent.
        self.0.swallowing.set(true);
        self.0.queue.borrow_mut().clear();
        self.0.shared.closed.borrow_mut().push(self.0.number);
        self.0.shared.touch();
    }
}

/// Something that waits for the consumer.
#[derive(Debug)]
struct Waiting {
    buffer: InputBuffer,
    /// Data frames that end in it: their credit goes back with it.
    frames: u32,
    /// Control elements of frames that cost no credit.
    free: bool,
    /// It is the first here that pins its block.
    pins: bool,
}

impl Waiting {
    fn block(&self) -> Option<&Rc<Buffer>> {
        match &self.buffer {
            InputBuffer::Received(received) => Some(received.block()),
            InputBuffer::Owned(_) => None,
        }
    }
}

/// The consumer's end of a remote channel.
#[derive(Debug)]
pub struct RemoteReceiver {
    /// Frames that the producer may have sent and the consumer not read.
    pub(super) credit: u32,
    queue: RefCell<VecDeque<Waiting>>,
    /// Blocks in the queue that are where the kernel put them.
    in_place: Cell<u32>,
    /// Bytes of elements that were copied on arrival, in all.
    copied: Cell<u64>,
    /// The frame that is coming in has begun a block of its own to be copied to, which waits at the end of the queue.
    began: Cell<bool>,
    /// The end of input came in a frame that cost no credit.
    ended: Cell<bool>,
    /// Data frames taken from the queue whose credit has not gone back.
    pub(super) owed: Cell<u32>,
    /// Set when the producer has opened the channel.
    pub(super) link: RefCell<Option<(u32, Rc<Shared>)>>,
}

impl RemoteReceiver {
    /// An end that will grant `credit` frames.
    #[must_use]
    pub fn new(credit: u32) -> Self {
        Self {
            credit,
            queue: RefCell::default(),
            in_place: Cell::new(0),
            copied: Cell::new(0),
            began: Cell::new(false),
            ended: Cell::new(false),
            owed: Cell::new(0),
            link: RefCell::default(),
        }
    }

    /// Takes the oldest buffer; its credit goes back to the producer in steps.
    #[must_use]
    pub fn pop(&self) -> Option<InputBuffer> {
        let mut queue = self.queue.borrow_mut();
        let waiting = queue.pop_front()?;
        if queue.is_empty() {
            self.began.set(false);
        }
        if waiting.pins {
            match queue.front_mut() {
                // The next piece is in the same block, which stays pinned.
                Some(next) if same_block(next.block(), waiting.block()) => next.pins = true,
                _ => self.in_place.set(self.in_place.get() - 1),
            }
        }
        if waiting.frames > 0 {
            let step = (self.credit / CREDIT_STEPS).max(1);
            let before = self.owed.get();
            self.owed.set(before + waiting.frames);
            if before < step
                && before + waiting.frames >= step
                && let Some((number, shared)) = &*self.link.borrow()
            {
                shared.owing.borrow_mut().push(*number);
                shared.touch();
            }
        }
        Some(waiting.buffer)
    }

    /// Appends whole elements of a data frame, at `range` of the block that the kernel filled. `ends`: the frame ends here.
    ///
    /// # Errors
    /// As [`RemoteReceiver::append_copy`].
    pub(super) fn append(
        &self,
        block: &Rc<Buffer>,
        range: Range<usize>,
        records: u32,
        ends: bool,
        pool: &BufferPool,
    ) -> Result<(), String> {
        let mut queue = self.queue.borrow_mut();
        let pinned = same_block(queue.back().and_then(Waiting::block), Some(block));
        // A frame that has begun a block stays in it: so it takes one at most, however its pieces and the reads take turns.
        if self.began.get() || !(pinned || self.in_place.get() < self.credit.min(IN_PLACE_MAX)) {
            drop(queue);
            return self.append_copy(&block.storage()[range], records, ends, pool);
        }
        if !pinned {
            self.in_place.set(self.in_place.get() + 1);
        }
        let received = Received::new(Rc::clone(block), range, records);
        queue.push_back(Waiting {
            buffer: InputBuffer::Received(received),
            frames: u32::from(ends),
            free: false,
            pins: !pinned,
        });
        Ok(())
    }

    /// Appends a copy of whole elements, densely: behind what was copied before, as long as the buffer has room.
    ///
    /// # Errors
    /// The frame is larger than a buffer and more than one record, which no producer sends.
    pub(super) fn append_copy(
        &self,
        mut elements: &[u8],
        mut records: u32,
        ends: bool,
        pool: &BufferPool,
    ) -> Result<(), String> {
        self.copied.set(self.copied.get() + elements.len() as u64);
        let mut queue = self.queue.borrow_mut();
        while !elements.is_empty() {
            if let Some(Waiting {
                buffer: InputBuffer::Owned(last),
                free: false,
                ..
            }) = queue.back_mut()
            {
                let fits = if elements.len() <= last.room() {
                    Scanned::all(elements.len(), records)
                } else {
                    layout::fitting(elements, last.room())
                };
                if fits.bytes > 0 && last.append(&elements[..fits.bytes], fits.records) {
                    elements = &elements[fits.bytes..];
                    records -= fits.records;
                    continue;
                }
            }
            let fresh = self.begin(layout::first_bytes(elements), pool)?;
            queue.push_back(Waiting {
                buffer: InputBuffer::Owned(fresh),
                frames: 0,
                free: false,
                pins: false,
            });
        }
        debug_assert_eq!(records, 0, "all records were appended");
        self.on_appended(&mut queue, ends);
        Ok(())
    }

    /// A buffer to copy to, for an element of `bytes`. One that was written to memory of its own gets such memory again; all
    /// else of a frame fits one block.
    fn begin(&self, bytes: usize, pool: &BufferPool) -> Result<Buffer, String> {
        // Its producer reckoned with the largest head, which left room for so much behind it.
        if bytes + ELEMENT_HEADER_BYTES - layout::HEAD > Buffer::CAPACITY {
            return Ok(Buffer::exactly(bytes));
        }
        if self.began.replace(true) {
            return Err("its frame is larger than a buffer, and not for one record".to_owned());
        }
        Ok(pool.take_or_heap(bytes))
    }

    /// The last element in the queue is of a data frame, which may end with it.
    fn on_appended(&self, queue: &mut VecDeque<Waiting>, ends: bool) {
        if ends {
            self.began.set(false);
            if let Some(last) = queue.back_mut() {
                last.frames += 1;
            }
        }
    }

    /// Appends one element that two blocks had parts of.
    ///
    /// # Errors
    /// As [`RemoteReceiver::append_copy`].
    pub(super) fn append_joined(
        &self,
        element: &[u8],
        is_record: bool,
        ends: bool,
        pool: &BufferPool,
    ) -> Result<(), String> {
        let records = u32::from(is_record);
        self.copied.set(self.copied.get() + element.len() as u64);
        let mut queue = self.queue.borrow_mut();
        let joined = match queue.back_mut() {
            Some(Waiting {
                buffer: InputBuffer::Owned(last),
                free: false,
                ..
            }) => last.append(element, records),
            _ => false,
        };
        if !joined {
            // One that is read soon needs no block; where many wait, they share blocks.
            let soon = queue.len() < IN_PLACE_MAX as usize && !self.began.get();
            let mut buffer = if soon {
                Buffer::exactly(element.len())
            } else {
                self.begin(element.len(), pool)?
            };
            let fits = buffer.append(element, records);
            debug_assert!(fits, "the buffer was made for this element");
            queue.push_back(Waiting {
                buffer: InputBuffer::Owned(buffer),
                frames: 0,
                free: false,
                pins: false,
            });
        }
        self.on_appended(&mut queue, ends);
        Ok(())
    }

    /// Appends control elements of a frame that cost no credit. Behind other such elements they join them, where watermarks
    /// replace each other: what waits without credit stays small however many come.
    ///
    /// # Errors
    /// Something follows the end of input, which no producer sends.
    pub(super) fn append_free(&self, elements: &[u8]) -> Result<(), String> {
        let mut queue = self.queue.borrow_mut();
        let mut offset = 0;
        while let Some(Element::Control(control)) = layout::next_element(elements, &mut offset) {
            if self
                .ended
                .replace(matches!(control, Control::EndOfInput(_)))
            {
                return Err(format!("{control:?} behind the end of its input"));
            }
            if let Some(Waiting {
                buffer: InputBuffer::Owned(last),
                free: true,
                ..
            }) = queue.back_mut()
                && last.push_control(control)
            {
                continue;
            }
            let mut fresh = Buffer::exactly(FREE_BUFFER_BYTES);
            let fits = fresh.push_control(control);
            debug_assert!(fits, "a fresh buffer has room");
            queue.push_back(Waiting {
                buffer: InputBuffer::Owned(fresh),
                frames: 0,
                free: true,
                pins: false,
            });
        }
        Ok(())
    }

    /// Bytes of elements that were copied on arrival, in all: those cut in two, and those that found their consumer behind.
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        self.copied.get()
    }

    /// Nothing to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// Bytes of memory that wait: data, and control elements of frames that cost no credit.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> (usize, usize) {
        let (mut data, mut free) = (0, 0);
        for waiting in self.queue.borrow().iter() {
            let bytes = match &waiting.buffer {
                InputBuffer::Owned(buffer) => buffer.storage().len(),
                InputBuffer::Received(_) => waiting.buffer.bytes(),
            };
            *(if waiting.free { &mut free } else { &mut data }) += bytes;
        }
        (data, free)
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

fn same_block(one: Option<&Rc<Buffer>>, other: Option<&Rc<Buffer>>) -> bool {
    one.is_some_and(|one| other.is_some_and(|other| Rc::ptr_eq(one, other)))
}

impl Drop for RemoteReceiver {
    fn drop(&mut self) {
        if let Some((number, shared)) = self.link.borrow_mut().take() {
            shared.closed.borrow_mut().push(number);
            shared.touch();
        }
    }
}
