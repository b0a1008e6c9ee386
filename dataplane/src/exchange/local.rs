//! The road between two subtasks of one core: a queue in its executor.
//!
//! Owns: [`LocalQueue`]. Invariant: at most `CHANNEL_BUFFERS` buffers wait. One thread, so no atomics.
//! Left out: everything about other cores.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::batch::Buffer;
use crate::limits::CHANNEL_BUFFERS;

/// Buffers on their way between two subtasks of this core; producer and consumer share it.
#[derive(Debug, Clone, Default)]
pub struct LocalQueue(Rc<RefCell<VecDeque<Buffer>>>);

impl LocalQueue {
    /// Appends a buffer, or gives it back when the queue is full.
    ///
    /// # Errors
    /// The queue is full; the buffer comes back.
    pub fn push(&self, buffer: Buffer) -> Result<(), Buffer> {
        let mut queue = self.0.borrow_mut();
        if queue.len() >= CHANNEL_BUFFERS {
            return Err(buffer);
        }
        queue.push_back(buffer);
        Ok(())
    }

    /// Takes the oldest buffer.
    #[must_use]
    pub fn pop(&self) -> Option<Buffer> {
        self.0.borrow_mut().pop_front()
    }

    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// There is room for a buffer.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.0.borrow().len() < CHANNEL_BUFFERS
    }
}
