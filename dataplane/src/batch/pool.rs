//! The buffers of one core.
//!
//! Owns: [`BufferPool`] and the blocks of memory behind pooled buffers.
//! Invariant: at most `capacity` blocks exist; each is held by one buffer, or is free. Buffers return from any core.
//! Left out: who may hold how many ([`ringflow_schemas`]' network arithmetic), what is in them ([`super`]).

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;

use super::{Buffer, Owner};
use crate::limits::BUFFER_BYTES;

/// Blocks begin on a cache line.
const ALIGN: usize = 64;

/// Owns a piece of memory, or nothing. A pointer, not a box: while the kernel receives into it, it is nobody's reference.
pub(super) struct Memory {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for Memory {}

impl Memory {
    /// Zeroed memory, which the system provides when it is first touched.
    pub(super) fn zeroed(bytes: usize) -> Self {
        let layout = Self::layout(bytes);
        if bytes == 0 {
            return Self::nothing();
        }
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Self { start, bytes }
    }

    fn nothing() -> Self {
        Self {
            start: NonNull::dangling(),
            bytes: 0,
        }
    }

    /// Gives the memory away.
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::nothing())
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, ALIGN).expect("far below the address space")
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: allocated in `zeroed` with this length, freed in `drop`; shared borrow of the one owner.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    #[inline]
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, with an exclusive borrow.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: allocated in `zeroed` with this layout, and its one owner goes now.
            unsafe { dealloc(self.start.as_ptr(), Self::layout(self.bytes)) };
        }
    }
}

pub(super) struct PoolShared {
    free: ArrayQueue<Memory>,
    made: AtomicUsize,
}

impl PoolShared {
    pub(super) fn give_back(&self, block: Memory) {
        // The queue has room for every block the pool ever made, so the push cannot fail.
        drop(self.free.push(block));
    }
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
        Some(Buffer::empty(block, Owner::Pool(Arc::clone(&self.shared))))
    }

    /// An empty buffer for `bytes_min` bytes of elements: pooled when it fits and one is free, else from the heap.
    ///
    /// The heap is the way out for a record larger than a buffer, and for what must not wait; the arithmetic that is
    /// checked before deployment keeps everything else in the pool.
    #[must_use]
    pub fn take_or_heap(&self, bytes_min: usize) -> Buffer {
        if bytes_min <= Buffer::CAPACITY
            && let Some(buffer) = self.take()
        {
            return buffer;
        }
        Buffer::on_heap(bytes_min)
    }

    fn make(&self) -> Option<Memory> {
        let made = &self.shared.made;
        let below = |count: usize| (count < self.capacity()).then_some(count + 1);
        made.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below)
            .ok()?;
        Some(Memory::zeroed(BUFFER_BYTES))
    }
}
