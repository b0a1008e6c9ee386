//! Blocks that wait for the kernel to receive into them.
//!
//! Owns: [`ReceiveRing`], a ring of provided buffers shared by all sockets of a core: a receive takes the next block when
//! data is there, so a thousand silent connections need no memory.
//! Invariant: a block is in the ring or ours, never both: [`ReceiveRing::take`] is only called with an id that the kernel
//! has just handed back, and the place is free until [`ReceiveRing::provide`] fills it again.
//! Left out: which connection received what ([`crate::exchange::network`]).

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::batch::Buffer;
use crate::exchange::uring::Uring;
use crate::limits::{BUFFER_BYTES, RECEIVE_BUFFERS};

/// The only group of blocks of a core's ring.
pub const GROUP: u16 = 0;

/// What the kernel wants rings of blocks to be aligned to.
const PAGE: usize = 4096;

/// A core's blocks to receive into.
#[allow(missing_debug_implementations, reason = "memory has nothing to show")]
pub struct ReceiveRing {
    entries: NonNull<BufRingEntry>,
    /// By id; empty places are ours.
    blocks: Vec<Option<Buffer>>,
    tail: u16,
}

fn layout() -> Layout {
    Layout::array::<BufRingEntry>(usize::from(RECEIVE_BUFFERS))
        .and_then(|layout| layout.align_to(PAGE))
        .expect("a few KiB, aligned to a page")
}

impl ReceiveRing {
    /// A ring without blocks, known to the kernel.
    ///
    /// # Errors
    /// The kernel has no rings of provided buffers (5.19).
    pub fn new(uring: &Uring) -> std::io::Result<Self> {
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc_zeroed(layout()) };
        let Some(entries) = NonNull::new(memory.cast::<BufRingEntry>()) else {
            handle_alloc_error(layout());
        };
        let ring = Self {
            entries,
            blocks: (0..RECEIVE_BUFFERS).map(|_| None).collect(),
            tail: 0,
        };
        let submitter = uring.raw().submitter();
        let address = entries.as_ptr() as u64;
        // SAFETY: the memory is as large as the entries are many, and outlives the registration: `Drop` is only reached after
        // the io_uring is gone or idle (`Network` sees to the order).
        unsafe { submitter.register_buf_ring_with_flags(address, RECEIVE_BUFFERS, GROUP, 0)? };
        Ok(ring)
    }

    /// Gives the kernel `block` under `id`, whose place is empty; it sees it with the next [`ReceiveRing::publish`].
    pub fn provide(&mut self, id: u16, mut block: Buffer) {
        let storage = block.storage_mut();
        debug_assert_eq!(storage.len(), BUFFER_BYTES, "blocks are of one size");
        let (address, length) = (
            storage.as_mut_ptr() as u64,
            u32::try_from(storage.len()).unwrap_or(0),
        );
        let place = usize::from(self.tail & (RECEIVE_BUFFERS - 1));
        // SAFETY: `place` is below the number of entries.
        let entry = unsafe { self.entries.add(place) };
        // SAFETY: the kernel reads entries before the published tail only, and at most so many are out as there are ids, so this
        // one is not being read; nobody else here has it.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(address);
        entry.set_len(length);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        debug_assert!(self.blocks[usize::from(id)].is_none(), "the place is free");
        self.blocks[usize::from(id)] = Some(block);
    }

    /// Lets the kernel see what was provided.
    pub fn publish(&mut self) {
        // SAFETY: the first entry is initialised memory; its last field is the ring's tail.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: aligned, valid as long as `self`, and written here only; the kernel reads it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Takes the block that the kernel has filled; `None` for an id that it cannot have.
    pub fn take(&mut self, id: u16) -> Option<Buffer> {
        self.blocks.get_mut(usize::from(id))?.take()
    }
}

impl Drop for ReceiveRing {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.entries.as_ptr().cast(), layout()) };
    }
}
