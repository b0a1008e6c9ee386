//! Buffers and the elements in them: the unit that moves between subtasks.
//!
//! Owns: [`Buffer`] (a block of a core's pool, or of the heap for one oversized record), the layout of elements, and
//! [`BufferPool`].
//! ```text
//! element  0        4          8            16          24                      24+length, padded to 8
//!          | length | key hash | event time | origin ns | payload ............. |
//!          bit 31 of length set: a control element, its kind in the low byte, no payload
//! ```
//! Invariant: a `Buffer` holds whole elements back to back, 8-byte aligned; a buffer that came over a socket went through
//! [`Buffer::validate`] before anyone reads it. Writer and reader are this file: the layout is known nowhere else.
//! Left out: compact layouts for fixed-size records; they go behind the same functions.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytemuck::{Pod, Zeroable};
use crossbeam_queue::ArrayQueue;

use crate::element::{Control, Element, Watermark};
use crate::limits::{BUFFER_BYTES, ELEMENT_ALIGN, ELEMENT_HEADER_BYTES};
use crate::record::{EventTime, RecordRef};

/// A cache-line aligned block of a pool.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Block([u8; BUFFER_BYTES]);

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct ElementHeader {
    length: u32,
    key_hash: u32,
    timestamp: i64,
    origin_ns: u64,
}

const _: () = assert!(size_of::<ElementHeader>() == ELEMENT_HEADER_BYTES);

const CONTROL: u32 = 1 << 31;
const KIND_WATERMARK: u32 = 1;
const KIND_IDLE: u32 = 2;
const KIND_END_OF_INPUT: u32 = 3;

/// Why bytes from another process are not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// An element reaches beyond the bytes.
    #[error("element at byte {offset} of {bytes} reaches beyond the end")]
    Truncated {
        /// Where the element starts.
        offset: usize,
        /// Length of the batch.
        bytes: usize,
    },
    /// A control element of no known kind.
    #[error("unknown control element {kind} at byte {offset}")]
    UnknownControl {
        /// Its kind.
        kind: u32,
        /// Where it starts.
        offset: usize,
    },
}

enum Storage {
    Pooled {
        block: Option<Box<Block>>,
        pool: Arc<PoolShared>,
    },
    Heap(Vec<u64>),
}

/// A block of bytes with whole elements in it. Going out of scope, it returns to its pool, from any core.
pub struct Buffer {
    storage: Storage,
    bytes: usize,
    records: u32,
    /// Start and kind of the last element, if it is a watermark or idleness: the next one may replace it.
    trailing_watermark: Option<(usize, u32)>,
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
    /// A buffer outside any pool, for `bytes_min` bytes of elements.
    #[must_use]
    pub fn on_heap(bytes_min: usize) -> Self {
        Self::exactly(bytes_min.max(BUFFER_BYTES))
    }

    /// A buffer outside any pool of `bytes`, rounded up to whole elements: for control elements from another process.
    #[must_use]
    pub fn exactly(bytes: usize) -> Self {
        let words = bytes.div_ceil(ELEMENT_ALIGN);
        Self {
            storage: Storage::Heap(vec![0; words]),
            bytes: 0,
            records: 0,
            trailing_watermark: None,
        }
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
        &self.storage()[..self.bytes]
    }

    fn storage(&self) -> &[u8] {
        match &self.storage {
            Storage::Pooled { block, .. } => &block.as_ref().expect("taken in Drop only").0,
            Storage::Heap(words) => bytemuck::cast_slice(words),
        }
    }

    /// The whole storage, to receive into; call [`Buffer::validate`] when it is filled.
    pub fn storage_mut(&mut self) -> &mut [u8] {
        match &mut self.storage {
            Storage::Pooled { block, .. } => &mut block.as_mut().expect("taken in Drop only").0,
            Storage::Heap(words) => bytemuck::cast_slice_mut(words),
        }
    }

    /// Bytes that a record of `payload` bytes takes.
    #[must_use]
    pub const fn record_bytes(payload: usize) -> usize {
        ELEMENT_HEADER_BYTES + payload.next_multiple_of(ELEMENT_ALIGN)
    }

    /// Appends a record; false when it does not fit.
    #[inline]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "RECORD_BYTES_MAX < 2^31, checked where records enter"
    )]
    pub fn push_record(&mut self, record: &RecordRef<'_>, key_hash: u32) -> bool {
        let start = self.bytes;
        let payload = start + ELEMENT_HEADER_BYTES;
        let end = payload + record.bytes.len();
        let padded = end.next_multiple_of(ELEMENT_ALIGN);
        let Some(space) = self.storage_mut().get_mut(start..padded) else {
            return false;
        };
        let header = ElementHeader {
            length: record.bytes.len() as u32,
            key_hash,
            timestamp: record.timestamp.0,
            origin_ns: record.origin_ns,
        };
        let (head, body) = space.split_at_mut(ELEMENT_HEADER_BYTES);
        head.copy_from_slice(bytemuck::bytes_of(&header));
        body[..record.bytes.len()].copy_from_slice(record.bytes);
        self.bytes = padded;
        self.records += 1;
        self.trailing_watermark = None;
        true
    }

    /// Appends a control element; false when it does not fit. A watermark replaces one that directly precedes it, and
    /// idleness is replaced by whatever follows; but idleness never hides a watermark that was not read yet.
    pub fn push_control(&mut self, control: Control) -> bool {
        let (kind, timestamp, origin_ns) = match control {
            Control::Watermark {
                watermark: Watermark::At(time),
                origin_ns,
            } => (KIND_WATERMARK, time.0, origin_ns),
            Control::Watermark {
                watermark: Watermark::Idle,
                origin_ns,
            } => (KIND_IDLE, 0, origin_ns),
            Control::EndOfInput => (KIND_END_OF_INPUT, 0, 0),
        };
        let replaces = match (self.trailing_watermark, kind) {
            (Some((start, _)), KIND_WATERMARK) | (Some((start, KIND_IDLE)), KIND_IDLE) => {
                Some(start)
            }
            _ => None,
        };
        let start = replaces.unwrap_or(self.bytes);
        let end = start + ELEMENT_HEADER_BYTES;
        let Some(space) = self.storage_mut().get_mut(start..end) else {
            return false;
        };
        let header = ElementHeader {
            length: CONTROL | kind,
            key_hash: 0,
            timestamp,
            origin_ns,
        };
        space.copy_from_slice(bytemuck::bytes_of(&header));
        self.bytes = end;
        self.trailing_watermark = (kind != KIND_END_OF_INPUT).then_some((start, kind));
        true
    }

    /// Declares the first `bytes` of the storage to be elements that came from another process, after checking them.
    ///
    /// Cost: one header read per element.
    ///
    /// # Errors
    /// [`BatchError`]: the peer broke the protocol.
    pub fn validate(&mut self, bytes: usize) -> Result<(), BatchError> {
        let storage = self.storage();
        let truncated = |offset| BatchError::Truncated { offset, bytes };
        let filled = storage.get(..bytes).ok_or(truncated(0))?;
        let (mut offset, mut records) = (0, 0);
        while offset < bytes {
            let header = read_header(filled, offset).ok_or(truncated(offset))?;
            let length = if header.length & CONTROL == 0 {
                records += 1;
                header.length as usize
            } else {
                let kind = header.length & !CONTROL;
                if !(KIND_WATERMARK..=KIND_END_OF_INPUT).contains(&kind) {
                    return Err(BatchError::UnknownControl { kind, offset });
                }
                0
            };
            let next = offset + Self::record_bytes(length);
            if next > bytes {
                return Err(truncated(offset));
            }
            offset = next;
        }
        self.bytes = bytes;
        self.records = records;
        self.trailing_watermark = None;
        Ok(())
    }

    /// The element at `offset`, which it advances; `None` at the end.
    #[inline]
    pub fn next_element(&self, offset: &mut usize) -> Option<Element<'_>> {
        let filled = self.as_slice();
        let header = read_header(filled, *offset)?;
        if header.length & CONTROL == 0 {
            let payload = *offset + ELEMENT_HEADER_BYTES;
            let end = payload + header.length as usize;
            let bytes = &filled[payload..end];
            *offset = end.next_multiple_of(ELEMENT_ALIGN);
            return Some(Element::Record(RecordRef {
                bytes,
                timestamp: EventTime(header.timestamp),
                key_hash: header.key_hash,
                origin_ns: header.origin_ns,
            }));
        }
        *offset += ELEMENT_HEADER_BYTES;
        Some(Element::Control(match header.length & !CONTROL {
            KIND_WATERMARK => Control::Watermark {
                watermark: Watermark::At(EventTime(header.timestamp)),
                origin_ns: header.origin_ns,
            },
            KIND_IDLE => Control::Watermark {
                watermark: Watermark::Idle,
                origin_ns: header.origin_ns,
            },
            _ => Control::EndOfInput,
        }))
    }
}

#[inline]
fn read_header(filled: &[u8], offset: usize) -> Option<ElementHeader> {
    let bytes = filled.get(offset..offset + ELEMENT_HEADER_BYTES)?;
    Some(bytemuck::pod_read_unaligned(bytes))
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Storage::Pooled { block, pool } = &mut self.storage
            && let Some(block) = block.take()
        {
            // The queue has room for every block the pool ever made, so the push cannot fail.
            drop(pool.free.push(block));
        }
    }
}

struct PoolShared {
    free: ArrayQueue<Box<Block>>,
    made: AtomicUsize,
}

/// The buffers of one core: made when first needed, at most `capacity`, returned from any core.
///
/// Cost: one compare-and-swap per buffer taken or returned.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<PoolShared>,
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool")
            .field("capacity", &self.capacity())
            .field("used", &self.used())
            .finish()
    }
}

impl BufferPool {
    /// A pool of at most `capacity` buffers; takes no memory yet.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let free = ArrayQueue::new(capacity.max(1));
        Self {
            shared: Arc::new(PoolShared {
                free,
                made: AtomicUsize::new(0),
            }),
        }
    }

    /// Buffers the pool may have.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.free.capacity()
    }

    /// Buffers in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.shared
            .made
            .load(Ordering::Relaxed)
            .saturating_sub(self.shared.free.len())
    }

    /// An empty buffer, or `None` when all are in use.
    #[must_use]
    pub fn take(&self) -> Option<Buffer> {
        let block = self.shared.free.pop().or_else(|| self.make())?;
        let storage = Storage::Pooled {
            block: Some(block),
            pool: Arc::clone(&self.shared),
        };
        Some(Buffer {
            storage,
            bytes: 0,
            records: 0,
            trailing_watermark: None,
        })
    }

    /// An empty buffer for `bytes_min` bytes of elements: pooled when it fits and one is free, else from the heap.
    ///
    /// The heap is the way out for a record larger than a buffer, and for what must not wait (control elements, the
    /// rest of one record's output); deployment reserves enough that it stays rare.
    #[must_use]
    pub fn take_or_heap(&self, bytes_min: usize) -> Buffer {
        if bytes_min <= BUFFER_BYTES
            && let Some(buffer) = self.take()
        {
            return buffer;
        }
        Buffer::on_heap(bytes_min)
    }

    fn make(&self) -> Option<Box<Block>> {
        let made = &self.shared.made;
        let below = |count: usize| (count < self.capacity()).then_some(count + 1);
        made.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below)
            .ok()?;
        Some(bytemuck::zeroed_box())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(bytes: &[u8], time: i64) -> RecordRef<'_> {
        RecordRef {
            bytes,
            timestamp: EventTime(time),
            key_hash: 0,
            origin_ns: 9,
        }
    }

    #[test]
    fn elements_come_back_in_order_and_watermarks_coalesce() {
        let mut buffer = BufferPool::new(1).take().expect("one free");
        let at = |time| Control::Watermark {
            watermark: Watermark::At(EventTime(time)),
            origin_ns: 1,
        };
        assert!(buffer.push_record(&record(b"abc", 5), 77));
        let idle = Control::Watermark {
            watermark: Watermark::Idle,
            origin_ns: 0,
        };
        assert!(
            buffer.push_control(at(4)) && buffer.push_control(at(5)) && buffer.push_control(idle)
        );
        assert!(buffer.push_control(idle) && buffer.push_control(at(6)));
        assert!(buffer.push_control(Control::EndOfInput));
        let bytes = buffer.bytes();
        assert!(buffer.validate(bytes).is_ok());
        let mut offset = 0;
        let Some(Element::Record(first)) = buffer.next_element(&mut offset) else {
            panic!("a record first")
        };
        assert_eq!(
            (
                first.bytes,
                first.timestamp,
                first.key_hash,
                first.origin_ns
            ),
            (&b"abc"[..], EventTime(5), 77, 9)
        );
        for expected in [at(5), at(6)] {
            assert!(
                matches!(buffer.next_element(&mut offset), Some(Element::Control(c)) if c == expected)
            );
        }
        assert!(matches!(
            buffer.next_element(&mut offset),
            Some(Element::Control(Control::EndOfInput))
        ));
        assert!(buffer.next_element(&mut offset).is_none());
    }

    #[test]
    fn a_pool_hands_out_its_capacity_and_takes_buffers_back() {
        let pool = BufferPool::new(2);
        let (a, b) = (pool.take(), pool.take());
        assert!(a.is_some() && b.is_some() && pool.take().is_none());
        drop(a);
        assert_eq!(pool.used(), 1);
        assert!(pool.take().is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_validate_or_are_refused_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut buffer = Buffer::on_heap(bytes.len());
            buffer.storage_mut()[..bytes.len()].copy_from_slice(&bytes);
            if buffer.validate(bytes.len()).is_ok() {
                let mut offset = 0;
                while buffer.next_element(&mut offset).is_some() {}
                prop_assert_eq!(offset, bytes.len());
            }
        }

        #[test]
        fn what_was_pushed_is_what_is_read(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..50)) {
            let mut buffer = Buffer::on_heap(BUFFER_BYTES);
            for payload in &payloads {
                prop_assert!(buffer.push_record(&record(payload, 1), 3));
            }
            let bytes = buffer.bytes();
            prop_assert!(buffer.validate(bytes).is_ok());
            let mut offset = 0;
            for payload in &payloads {
                let Some(Element::Record(read)) = buffer.next_element(&mut offset) else { panic!("a record") };
                prop_assert_eq!(read.bytes, &payload[..]);
            }
            prop_assert!(buffer.next_element(&mut offset).is_none());
        }
    }
}
