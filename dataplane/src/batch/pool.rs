//! The buffers of one core.
//!
//! Owns: [`BufferPool`] and the blocks of memory behind pooled buffers.
//! Invariant: at most `capacity` blocks exist; each is held by one buffer, or is free. Buffers return from any core.
//! Left out: who may hold how many ([`ringflow_schemas`]' network arithmetic), what is in them ([`super`]).

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::UnsafeCell;
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

/// Names the calling thread, as long as it lives.
fn this_thread() -> usize {
    thread_local!(static PLACE: u8 = const { 0 });
    PLACE.with(|place| std::ptr::from_ref(place).addr())
}

pub(super) struct PoolShared {
    /// The thread whose pool it is, once it has said so.
    owner: AtomicUsize,
    /// Blocks that the owner gave back: the last one is the warmest, and taken first. Touched by the owner only.
    warm: UnsafeCell<Vec<Memory>>,
    /// Their number, for others to read. Written by the owner.
    warm_count: AtomicUsize,
    /// Blocks that others gave back.
    returned: ArrayQueue<Memory>,
    made: AtomicUsize,
}

// SAFETY: `warm` is the only part that is not safe to share, and only the thread named in `owner` touches it: threads that
// live at the same time have different names, and the name is written once.
unsafe impl Sync for PoolShared {}

impl PoolShared {
    fn is_mine(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == this_thread()
    }

    pub(super) fn give_back(&self, block: Memory) {
        if self.is_mine() {
            // SAFETY: this thread is the owner, and nothing below calls back here.
            let warm = unsafe { &mut *self.warm.get() };
            warm.push(block);
            self.warm_count.store(warm.len(), Ordering::Relaxed);
        } else {
            // The queue has room for every block the pool ever made, so the push cannot fail.
            drop(self.returned.push(block));
        }
    }

    fn take(&self) -> Option<Memory> {
        if self.is_mine() {
            // SAFETY: as in `give_back`.
            let warm = unsafe { &mut *self.warm.get() };
            if let Some(block) = warm.pop() {
                self.warm_count.store(warm.len(), Ordering::Relaxed);
                return Some(block);
            }
        }
        self.returned.pop()
    }
}

/// The buffers of one core: made when first needed, at most `capacity`, returned from any core.
///
/// Cost: on the owner's thread a push or a pop; elsewhere a compare-and-swap.
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
        Self {
            shared: Arc::new(PoolShared {
                owner: AtomicUsize::new(0),
                warm: UnsafeCell::default(),
                warm_count: AtomicUsize::new(0),
                returned: ArrayQueue::new(capacity.max(1)),
                made: AtomicUsize::new(0),
            }),
        }
    }

    /// Makes the calling thread the pool's owner, for which it is cheapest; false when there is one already.
    pub fn own(&self) -> bool {
        let owner = &self.shared.owner;
        owner
            .compare_exchange(0, this_thread(), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Buffers the pool may have.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.returned.capacity()
    }

    /// Buffers in use.
    #[must_use]
    pub fn used(&self) -> usize {
        let free = self.shared.returned.len() + self.shared.warm_count.load(Ordering::Relaxed);
        let made = self.shared.made.load(Ordering::Relaxed);
        made.saturating_sub(free)
    }

    /// An empty buffer, or `None` when all are in use.
    #[must_use]
    pub fn take(&self) -> Option<Buffer> {
        let block = self.shared.take().or_else(|| self.make())?;
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
