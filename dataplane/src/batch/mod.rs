//! Buffers and the elements in them: the unit that moves between subtasks.
//!
//! Owns: [`Buffer`] (a block of a core's pool, or of the heap for one oversized record), [`Received`] (elements where the
//! kernel put them) and [`InputBuffer`] (what a subtask reads, whichever way it came); [`layout`] is how elements lie in
//! them, [`run`] several of them at once, [`pool`] where blocks come from.
//! ```text
//! Buffer, written here  | room for a frame's head: 32 | elements .......... | free |
//! Buffer, received into | bytes of a connection's stream ......................... |   Received: a range of it
//! ```
//! Invariant: a `Buffer` that was written holds whole elements back to back, 8-byte aligned, and leaves as one piece with
//! its frame's head; bytes that came over a socket went through [`layout::scan`] before anyone reads them.
//! Left out: sockets and frames ([`crate::exchange`]).

use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use crate::element::{Control, Element};
use crate::limits::{BUFFER_BYTES, ELEMENT_ALIGN, ELEMENT_HEADER_BYTES, FRAME_HEADER_BYTES};
use crate::record::RecordRef;

pub mod layout;
pub mod pool;
pub mod run;

pub use layout::BatchError;
pub use pool::BufferPool;
pub use run::Run;

use layout::Kind;
use pool::{Memory, PoolShared};

/// Whose the memory is.
enum Owner {
    Pool(Arc<PoolShared>),
    Heap,
}

/// A watermark, idleness, or one and then the other, with nothing behind.
#[derive(Debug, Clone, Copy)]
struct Trailing {
    start: usize,
    /// Start and kind of the last element.
    last: (usize, Kind),
}

/// A block of bytes with whole elements in it. Going out of scope, it returns to its pool, from any core.
pub struct Buffer {
    memory: Memory,
    /// Bytes of elements that the memory takes.
    capacity: usize,
    owner: Owner,
    bytes: usize,
    records: u32,
    /// The watermark and idleness at the end: the next ones may replace them.
    trailing: Option<Trailing>,
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("bytes", &self.bytes)
            .field("records", &self.records)
            .finish()
    }
}

impl Buffer {
    /// Bytes of elements that a pooled buffer takes.
    pub const CAPACITY: usize = BUFFER_BYTES - FRAME_HEADER_BYTES;

    fn empty(memory: Memory, owner: Owner) -> Self {
        Self {
            capacity: memory.bytes().len() - FRAME_HEADER_BYTES,
            memory,
            owner,
            bytes: 0,
            records: 0,
            trailing: None,
        }
    }

    /// A buffer outside any pool, for `bytes_min` bytes of elements.
    #[must_use]
    pub fn on_heap(bytes_min: usize) -> Self {
        Self::exactly(bytes_min.max(Self::CAPACITY))
    }

    /// A buffer outside any pool of `bytes`, rounded up to whole elements: for a few elements that need no block.
    #[must_use]
    pub fn exactly(bytes: usize) -> Self {
        let bytes = FRAME_HEADER_BYTES + bytes.next_multiple_of(ELEMENT_ALIGN);
        Self::empty(Memory::zeroed(bytes), Owner::Heap)
    }

    /// Bytes of elements in it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records in it.
    #[must_use]
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The elements as they travel.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.storage()[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + self.bytes]
    }

    /// Puts a frame's `header` before the elements.
    pub fn put_header(&mut self, header: [u8; FRAME_HEADER_BYTES]) {
        self.storage_mut()[..FRAME_HEADER_BYTES].copy_from_slice(&header);
    }

    /// Header and elements, one piece of memory, ready for a socket.
    #[must_use]
    pub fn piece(&self) -> &[u8] {
        &self.storage()[..FRAME_HEADER_BYTES + self.bytes]
    }

    /// The whole storage.
    pub(crate) fn storage(&self) -> &[u8] {
        self.memory.bytes()
    }

    /// The whole storage, to write elements or to receive into; it does not move while the buffer does.
    pub fn storage_mut(&mut self) -> &mut [u8] {
        self.memory.bytes_mut()
    }

    /// Most bytes that a record of `payload` bytes takes.
    #[must_use]
    pub const fn record_bytes(payload: usize) -> usize {
        ELEMENT_HEADER_BYTES + payload.next_multiple_of(ELEMENT_ALIGN)
    }

    /// Room for `bytes` more of elements.
    #[inline]
    fn space(&mut self, at: usize, bytes: usize) -> Option<&mut [u8]> {
        let start = FRAME_HEADER_BYTES + at;
        self.storage_mut().get_mut(start..start + bytes)
    }

    /// Appends a record; false when it does not fit.
    #[inline(always)]
    pub fn push_record(&mut self, record: &RecordRef<'_>, key_hash: u32) -> bool {
        let bytes = layout::record_bytes(record);
        let at = self.bytes;
        if at + bytes > self.capacity {
            return false;
        }
        let Some(space) = self.space(at, bytes) else {
            return false;
        };
        layout::write_record(space, record, key_hash);
        self.bytes = at + bytes;
        self.records += 1;
        self.trailing = None;
        true
    }

    /// Appends a control element; false when it does not fit. A watermark replaces the one before it, with idleness that came
    /// between, and idleness replaces idleness; but idleness never hides a watermark that was not read yet. So however many
    /// follow each other, two are left.
    pub fn push_control(&mut self, control: Control) -> bool {
        let (encoded, length, kind) = layout::encode_control(control);
        let start = match (self.trailing, kind) {
            (Some(trailing), Kind::Watermark) => trailing.start,
            (Some(trailing), Kind::Idle) if trailing.last.1 == Kind::Idle => trailing.last.0,
            _ => self.bytes,
        };
        let Some(space) = self.space(start, length) else {
            return false;
        };
        space.copy_from_slice(&encoded[..length]);
        self.bytes = start + length;
        self.trailing = (kind != Kind::EndOfInput).then(|| Trailing {
            start: self.trailing.map_or(start, |trailing| trailing.start),
            last: (start, kind),
        });
        true
    }

    /// Bytes of elements that still fit.
    #[must_use]
    pub fn room(&self) -> usize {
        self.capacity - self.bytes
    }

    /// Appends whole elements that went through [`layout::scan`]; false when they do not fit.
    pub fn append(&mut self, elements: &[u8], records: u32) -> bool {
        let at = self.bytes;
        let Some(space) = self.space(at, elements.len()) else {
            return false;
        };
        space.copy_from_slice(elements);
        self.bytes = at + elements.len();
        self.records += records;
        self.trailing = None;
        true
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Owner::Pool(pool) = &self.owner {
            pool.give_back(self.memory.take());
        }
    }
}

/// Whole elements in a block that the kernel filled. Lives on the core that received it.
#[derive(Debug, Clone)]
pub struct Received {
    block: Rc<Buffer>,
    range: Range<usize>,
    records: u32,
}

impl Received {
    /// The elements in `range` of `block`, which went through [`layout::scan`].
    #[must_use]
    pub fn new(block: Rc<Buffer>, range: Range<usize>, records: u32) -> Self {
        debug_assert!(range.end <= block.storage().len(), "inside the block");
        Self {
            block,
            range,
            records,
        }
    }

    /// Where they are.
    pub(crate) fn block(&self) -> &Rc<Buffer> {
        &self.block
    }
}

/// What a subtask reads its input from.
#[derive(Debug)]
pub enum InputBuffer {
    /// Handed over whole.
    Owned(Buffer),
    /// Read where the kernel put it.
    Received(Received),
}

impl InputBuffer {
    /// The elements.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(buffer) => buffer.as_slice(),
            Self::Received(received) => &received.block.storage()[received.range.clone()],
        }
    }

    /// Bytes of elements in it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Owned(buffer) => buffer.bytes(),
            Self::Received(received) => received.range.len(),
        }
    }

    /// Records in it.
    #[must_use]
    pub fn records(&self) -> u32 {
        match self {
            Self::Owned(buffer) => buffer.records(),
            Self::Received(received) => received.records,
        }
    }

    /// The element at `offset`, which it advances; `None` at the end.
    #[inline]
    pub fn next_element(&self, offset: &mut usize) -> Option<Element<'_>> {
        layout::next_element(self.as_slice(), offset)
    }
}

#[cfg(test)]
mod tests;
