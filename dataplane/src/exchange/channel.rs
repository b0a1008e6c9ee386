//! The two ends of one channel, whichever road it takes.
//!
//! Owns: [`ChannelSender`], [`ChannelReceiver`]. Invariant: order is kept, nothing is lost while both ends live, and a
//! sender whose road is full gets its buffer back.
//! Left out: how many buffers may wait (each road's own bound).

use std::rc::Rc;
use std::sync::Arc;

use crate::batch::{Buffer, InputBuffer};
use crate::exchange::local::LocalQueue;
use crate::exchange::remote::{RemoteReceiver, SenderHandle};
use crate::exchange::ring::{Consumer, Producer};
use crate::runtime::doorbell::Doorbell;

/// The producer's end.
#[derive(Debug)]
pub enum ChannelSender {
    /// To a subtask of this core.
    Local(LocalQueue),
    /// To another core of this process, whose bell is rung.
    CrossCore(Producer<Buffer>, Arc<Doorbell>),
    /// To another process.
    Remote(SenderHandle),
}

/// The consumer's end.
#[derive(Debug)]
pub enum ChannelReceiver {
    /// From a subtask of this core.
    Local(LocalQueue),
    /// From another core of this process, whose bell is rung when there is room again.
    CrossCore(Consumer<Buffer>, Arc<Doorbell>),
    /// From another process.
    Remote(Rc<RemoteReceiver>),
}

impl ChannelSender {
    /// Sends a filled buffer, or gives it back when the road is full.
    ///
    /// # Errors
    /// The road is full; the buffer comes back.
    pub fn send(&mut self, buffer: Buffer) -> Result<(), Buffer> {
        match self {
            Self::Local(queue) => queue.push(buffer),
            Self::CrossCore(producer, doorbell) => {
                producer.push(buffer)?;
                doorbell.ring();
                Ok(())
            }
            Self::Remote(sender) => sender.push(buffer),
        }
    }

    /// The road takes another buffer.
    #[must_use]
    pub fn has_room(&self) -> bool {
        match self {
            Self::Local(queue) => queue.has_room(),
            Self::CrossCore(producer, _) => producer.has_room(),
            Self::Remote(sender) => sender.has_room(),
        }
    }

    /// Nothing waits on the road: the consumer has taken all there was.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        match self {
            Self::Local(queue) => queue.is_empty(),
            Self::CrossCore(producer, _) => producer.queued() == 0,
            Self::Remote(sender) => sender.is_drained(),
        }
    }

    /// All that was sent is in the consumer's hands or on the wire: the producer may end.
    #[must_use]
    pub fn is_handed_over(&self) -> bool {
        match self {
            Self::Local(_) | Self::CrossCore(..) => true,
            Self::Remote(sender) => sender.is_drained(),
        }
    }

    /// Why the road ended, if it did.
    #[must_use]
    pub fn broken(&self) -> Option<Rc<str>> {
        match self {
            Self::Remote(sender) => sender.broken(),
            Self::Local(_) | Self::CrossCore(..) => None,
        }
    }
}

impl ChannelReceiver {
    /// Takes the oldest buffer.
    #[must_use]
    pub fn receive(&mut self) -> Option<InputBuffer> {
        match self {
            Self::Local(queue) => queue.pop().map(InputBuffer::Owned),
            Self::CrossCore(consumer, doorbell) => {
                let buffer = consumer.pop()?;
                doorbell.ring();
                Some(InputBuffer::Owned(buffer))
            }
            Self::Remote(receiver) => receiver.pop(),
        }
    }

    /// Bytes of elements that were copied on arrival, in all.
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        match self {
            Self::Local(_) | Self::CrossCore(..) => 0,
            Self::Remote(receiver) => receiver.copied_bytes(),
        }
    }

    /// Nothing to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Local(queue) => queue.is_empty(),
            Self::CrossCore(consumer, _) => consumer.is_empty(),
            Self::Remote(receiver) => receiver.is_empty(),
        }
    }

    /// Why the road ended, if it did.
    #[must_use]
    pub fn broken(&self) -> Option<Rc<str>> {
        match self {
            Self::Remote(receiver) => receiver.broken(),
            Self::Local(_) | Self::CrossCore(..) => None,
        }
    }
}
