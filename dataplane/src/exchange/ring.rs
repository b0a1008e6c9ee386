//! A bounded queue from one core to another: single producer, single consumer, no lock.
//!
//! Owns: [`ring`], [`Producer`], [`Consumer`]. The value itself is handed over; for a buffer that is its handle, so the
//! bytes stay where they are.
//! ```text
//! slots   [ .. read .. | filled: head..tail | free .. ]      head, tail only grow; slot = position % capacity
//! ```
//! Invariant: the consumer alone writes `head`, the producer alone `tail`; `tail - head <= capacity`; slots in
//! `head..tail` are initialised and nothing else is.
//! Left out: waking a sleeping peer ([`crate::runtime::doorbell`]).
//!
//! Source: the single-producer single-consumer ring with cached indexes, as in Rigtorp's and Aeron's queues.

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[repr(align(128))]
struct OwnLine<T>(T);

struct Shared<T> {
    /// Next position to read. Written by the consumer.
    head: OwnLine<AtomicUsize>,
    /// Next position to write. Written by the producer.
    tail: OwnLine<AtomicUsize>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: slots are handed from producer to consumer by the Release store of `tail` and back by that of `head`, so no
// slot is touched by both at once; `T: Send` lets its values cross.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above; the ring owns its values.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let (head, tail) = (*self.head.0.get_mut(), *self.tail.0.get_mut());
        let mask = self.slots.len() - 1;
        for position in head..tail {
            // SAFETY: `&mut self`: both ends are gone. Slots in head..tail are initialised, and dropped once.
            unsafe { self.slots[position & mask].get_mut().assume_init_drop() };
        }
    }
}

/// The writing end. Not `Clone`: there is one.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    tail: usize,
    head_seen: usize,
}

/// The reading end. Not `Clone`: there is one.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    head: usize,
    tail_seen: usize,
}

/// A ring of `capacity` places.
///
/// # Panics
/// When `capacity` is no power of two.
#[must_use]
pub fn ring<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    assert!(
        capacity.is_power_of_two(),
        "positions are masked: {capacity} is no power of two"
    );
    let slots = (0..capacity)
        .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
        .collect();
    let shared = Arc::new(Shared {
        head: OwnLine(AtomicUsize::new(0)),
        tail: OwnLine(AtomicUsize::new(0)),
        slots,
    });
    let producer = Producer {
        shared: Arc::clone(&shared),
        tail: 0,
        head_seen: 0,
    };
    (
        producer,
        Consumer {
            shared,
            head: 0,
            tail_seen: 0,
        },
    )
}

impl<T: Send> Producer<T> {
    /// Appends a value, or gives it back when the ring is full.
    ///
    /// # Errors
    /// The ring is full; not a failure, the value comes back.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), T> {
        let capacity = self.shared.slots.len();
        if self.tail - self.head_seen == capacity {
            self.head_seen = self.shared.head.0.load(Ordering::Acquire);
            if self.tail - self.head_seen == capacity {
                return Err(value);
            }
        }
        let slot = self.shared.slots[self.tail & (capacity - 1)].get();
        // SAFETY: the slot is outside head..tail (checked above), so the consumer does not touch it until the store below
        // publishes it, and it holds no value that this write would leak.
        unsafe { (*slot).write(value) };
        self.tail += 1;
        self.shared.tail.0.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Values that wait to be read.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.tail - self.shared.head.0.load(Ordering::Acquire)
    }

    /// There is room for a value.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.queued() < self.shared.slots.len()
    }
}

impl<T: Send> Consumer<T> {
    /// Takes the oldest value.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.tail_seen {
            self.tail_seen = self.shared.tail.0.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        let slot = self.shared.slots[self.head & (self.shared.slots.len() - 1)].get();
        // SAFETY: the slot is in head..tail (the Acquire load saw its Release), so it is initialised and the producer does
        // not touch it until the store below gives it back; it is read once.
        let slot = unsafe { &*slot };
        // SAFETY: as above: initialised, and read once because `head` moves on.
        let value = unsafe { slot.assume_init_read() };
        self.head += 1;
        self.shared.head.0.store(self.head, Ordering::Release);
        Some(value)
    }

    /// Nothing to read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head == self.tail_seen && self.head == self.shared.tail.0.load(Ordering::Acquire)
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("tail", &self.tail)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_its_capacity_and_drops_what_was_not_read() {
        let value = Arc::new(());
        let (mut producer, mut consumer) = ring(2);
        assert!(
            producer.push(Arc::clone(&value)).is_ok() && producer.push(Arc::clone(&value)).is_ok()
        );
        assert!(producer.push(Arc::clone(&value)).is_err());
        drop(consumer.pop());
        assert_eq!(Arc::strong_count(&value), 2);
        drop((producer, consumer));
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    #[allow(
        clippy::disallowed_methods,
        reason = "a second thread is what is tested"
    )]
    fn keeps_order_between_threads() {
        let (mut producer, mut consumer) = ring(8);
        let sum = std::thread::spawn(move || {
            let mut next = 0u64;
            while next < 100_000 {
                match consumer.pop() {
                    Some(value) => {
                        assert_eq!(value, next);
                        next += 1;
                    }
                    None => std::thread::yield_now(),
                }
            }
        });
        for mut value in 0..100_000u64 {
            while let Err(back) = producer.push(value) {
                value = back;
                std::thread::yield_now();
            }
        }
        sum.join().expect("the reader saw every value in order");
    }
}
