//! Ends of channels, for the subtasks that they are given to.
//!
//! Owns: [`Channels`], [`Rings`], [`not_connected`]. Invariant: the two ends of a channel between cores of this process
//! are ends of one ring, whichever of them is asked for first.
//! Left out: connections to other processes, which are there before; opening channels, which the cores do.

use std::collections::HashMap;
use std::sync::Arc;

use ringflow_schemas::network::NetworkLevel;

use crate::batch::Buffer;
use crate::error::{Error, Result};
use crate::exchange::frame::ChannelKey;
use crate::exchange::ring;
use crate::runtime::core::{ConnectionId, CoreHandle};
use crate::runtime::doorbell::Doorbell;
use crate::subtask::spec::{ReceiverSpec, SenderSpec};

use super::descriptor::{Channel, Peer};

/// The connection to `peer` is gone.
pub(in crate::task_manager) fn not_connected(peer: &Peer) -> Error {
    let message = format!("no data connection to TaskManager {}", peer.task_manager_id);
    Error::peer_lost(&peer.task_manager_id, message)
}

type Half<T> = HashMap<ChannelKey, T>;

/// Places of a road; a ring wants a power of two.
fn places(road: u32) -> usize {
    usize::try_from(road.next_power_of_two()).unwrap_or(1)
}

/// Rings of which one end has been given out.
#[derive(Default)]
pub(super) struct Rings {
    producers: Half<ring::Producer<Buffer>>,
    consumers: Half<ring::Consumer<Buffer>>,
}

impl Rings {
    fn producer(&mut self, key: ChannelKey, road: u32) -> ring::Producer<Buffer> {
        self.producers.remove(&key).unwrap_or_else(|| {
            let (producer, consumer) = ring::ring(places(road));
            self.consumers.insert(key, consumer);
            producer
        })
    }

    fn consumer(&mut self, key: ChannelKey, road: u32) -> ring::Consumer<Buffer> {
        self.consumers.remove(&key).unwrap_or_else(|| {
            let (producer, consumer) = ring::ring(places(road));
            self.producers.insert(key, producer);
            consumer
        })
    }
}

/// Makes the ends of channels for subtasks of one core.
pub(super) struct Channels<'a> {
    pub(super) me: &'a str,
    pub(super) core: u32,
    pub(super) cores: &'a [CoreHandle],
    pub(super) rings: &'a mut Rings,
    /// The connection of a core here to a peer.
    pub(super) connection: &'a dyn Fn(u32, &Peer) -> Option<ConnectionId>,
}

impl Channels<'_> {
    /// The end that a subtask here writes to; `road` buffers may wait on its way.
    pub(super) fn sender(&mut self, channel: &Channel, road: u32) -> Result<SenderSpec> {
        let peer = &channel.peer;
        if peer.task_manager_id != self.me {
            let id = (self.connection)(self.core, peer);
            let id = id.ok_or_else(|| not_connected(peer))?;
            return Ok(SenderSpec::Remote(id, channel.key, places(road)));
        }
        if peer.core == self.core {
            return Ok(SenderSpec::Local(channel.key, places(road)));
        }
        Ok(SenderSpec::CrossCore(
            self.rings.producer(channel.key, road),
            self.doorbell(peer.core)?,
        ))
    }

    /// The end that a subtask here reads from. A gate is told its credit only; a road inside the process has as many
    /// places as the level with that credit.
    pub(super) fn receiver(&mut self, channel: &Channel, credit: u32) -> Result<ReceiverSpec> {
        let road = NetworkLevel::road_of(credit);
        let peer = &channel.peer;
        if peer.task_manager_id != self.me {
            return Ok(ReceiverSpec::Remote(channel.key, credit));
        }
        if peer.core == self.core {
            return Ok(ReceiverSpec::Local(channel.key, places(road)));
        }
        Ok(ReceiverSpec::CrossCore(
            self.rings.consumer(channel.key, road),
            self.doorbell(peer.core)?,
        ))
    }

    fn doorbell(&self, core: u32) -> Result<Arc<Doorbell>> {
        let found = self.cores.get(core as usize);
        found
            .map(|core| Arc::clone(core.doorbell()))
            .ok_or_else(|| Error::deployment(format!("no core {core} here")))
    }
}
