//! The road between two subtasks of one core: a queue in its executor.
//!
//! Owns: [`LocalQueue`]. Invariant: at most `capacity` buffers wait. One thread, so no atomics.
//! Left out: everything about other cores.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::batch::Buffer;

/// Buffers on their way between two subtasks of this core; producer and consumer share it.
#[derive(Debug, Clone)]
pub struct LocalQueue {
    buffers: Rc<RefCell<VecDeque<Buffer>>>,
    capacity: usize,
}

impl LocalQueue {
    /// A queue of at most `capacity` buffers.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            buffers: Rc::default(),
            capacity,
        }
    }

    /// Appends a buffer, or gives it back when the queue is full.
    ///
    /// # Errors
    /// The queue is full; the buffer comes back.
    pub fn push(&self, buffer: Buffer) -> Result<(), Buffer> {
        let mut queue = self.buffers.borrow_mut();
        if queue.len() >= self.capacity {
            return Err(buffer);
        }
        queue.push_back(buffer);
        Ok(())
    }

    /// Takes the oldest buffer.
    #[must_use]
    pub fn pop(&self) -> Option<Buffer> {
        self.buffers.borrow_mut().pop_front()
    }

    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffers.borrow().is_empty()
    }

    /// There is room for a buffer.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.buffers.borrow().len() < self.capacity
    }
}
