//! The buffers of one core.
//!
//! Owns: [`BufferPool`] and the blocks of memory behind pooled buffers.
//! Invariant: at most `capacity` blocks exist; each is held by one buffer, or is free. Buffers return from any core.
//! Left out: who may hold how many ([`ringflow_schemas`]' network arithmetic), what is in them ([`super`]).

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytemuck::{Pod, Zeroable};
use crossbeam_queue::ArrayQueue;

use super::{Buffer, Storage};
use crate::limits::BUFFER_BYTES;

/// A cache-line aligned piece of memory.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Block([u8; BUFFER_BYTES]);

/// Owns one block. A pointer, not a box: while the kernel receives into a block it is nobody's reference.
pub(super) struct BlockPtr(NonNull<Block>);

// SAFETY: plain memory with one owner.
unsafe impl Send for BlockPtr {}

impl BlockPtr {
    /// Zeroed memory, which the system provides when it is first touched.
    fn new() -> Self {
        Self(NonNull::from(Box::leak(bytemuck::zeroed_box::<Block>())))
    }

    pub(super) fn bytes(&self) -> &[u8; BUFFER_BYTES] {
        // SAFETY: allocated in `new`, freed in `drop`; shared borrow of the one owner.
        unsafe { &self.0.as_ref().0 }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8; BUFFER_BYTES] {
        // SAFETY: as above, with an exclusive borrow.
        unsafe { &mut self.0.as_mut().0 }
    }
}

impl Drop for BlockPtr {
    fn drop(&mut self) {
        // SAFETY: it came out of a box in `new`, and its one owner goes now.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

pub(super) struct PoolShared {
    free: ArrayQueue<BlockPtr>,
    made: AtomicUsize,
}

impl PoolShared {
    pub(super) fn give_back(&self, block: BlockPtr) {
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
        Some(Buffer::empty(Storage::Pooled {
            block: Some(block),
            pool: Arc::clone(&self.shared),
        }))
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

    fn make(&self) -> Option<BlockPtr> {
        let made = &self.shared.made;
        let below = |count: usize| (count < self.capacity()).then_some(count + 1);
        made.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below)
            .ok()?;
        Some(BlockPtr::new())
    }
}
