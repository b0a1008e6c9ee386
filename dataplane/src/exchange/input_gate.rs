//! A subtask's input: all channels of all its edges.
//!
//! Owns: [`InputGate`]: takes buffers from the channels in turn, so that none starves, and one watermark out of theirs.
//! Invariant: the buffers of one channel come in order; the gate ends when every channel has.
//! Left out: blocking single channels (barriers will need it).

use std::collections::VecDeque;

use crate::batch::InputBuffer;
use crate::element::{Control, StopMode, Watermark};
use crate::error::{Error, Result};
use crate::exchange::channel::ChannelReceiver;
use crate::exchange::valve::WatermarkValve;
use crate::record::EventTime;

#[derive(Debug)]
struct InputChannel {
    road: ChannelReceiver,
    /// The TaskManager at the other end, for messages.
    peer: String,
    /// Which input of the subtask's first operator its records are for.
    input: u8,
    ended: bool,
}

/// All input channels of one subtask.
#[derive(Debug)]
pub struct InputGate {
    channels: Vec<InputChannel>,
    valve: WatermarkValve,
    next: usize,
    open: usize,
    /// How the channels that have ended did.
    mode: StopMode,
}

impl InputGate {
    /// A gate over `roads`, each with the name of its peer TaskManager and the input it leads to.
    #[must_use]
    pub fn new(roads: Vec<(ChannelReceiver, String, u8)>) -> Self {
        let channels: Vec<InputChannel> = roads
            .into_iter()
            .map(|(road, peer, input)| InputChannel {
                road,
                peer,
                input,
                ended: false,
            })
            .collect();
        Self {
            valve: WatermarkValve::new(channels.len()),
            next: 0,
            open: channels.len(),
            mode: StopMode::Drain,
            channels,
        }
    }

    /// The next buffer and the channel it came over.
    #[must_use]
    pub fn next_buffer(&mut self) -> Option<(usize, InputBuffer)> {
        let count = self.channels.len();
        for step in 0..count {
            let index = (self.next + step) % count;
            if let Some(buffer) = self.channels[index].road.receive() {
                self.next = (index + 1) % count;
                return Some((index, buffer));
            }
        }
        None
    }

    /// Which input of the subtask's first operator the records of `channel` are for.
    #[inline]
    #[must_use]
    pub fn input_of(&self, channel: usize) -> u8 {
        self.channels[channel].input
    }

    /// Nothing to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.channels.iter().all(|channel| channel.road.is_empty())
    }

    /// Bytes of elements that were copied on arrival, in all.
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        self.channels
            .iter()
            .map(|channel| channel.road.copied_bytes())
            .sum()
    }

    /// Queues what a control element of `channel` means for the subtask; how its input ended, when every channel has: a single
    /// channel that was cut off cuts off the input.
    ///
    /// # Errors
    /// An element behind the end of its channel: the peer broke the protocol.
    pub fn on_control(
        &mut self,
        channel: usize,
        control: Control,
        signals: &mut VecDeque<Control>,
    ) -> Result<Option<StopMode>> {
        let state = &mut self.channels[channel];
        if state.ended {
            let why = format!("{control:?} behind the end of input channel {channel}");
            return Err(Error::peer_lost(&state.peer, why));
        }
        match control {
            Control::Watermark {
                watermark,
                origin_ns,
            } => {
                let updates = self.valve.on_watermark(channel, watermark);
                let at = updates.at.map(Watermark::At);
                let idle = updates.idle.then_some(Watermark::Idle);
                signals.extend([at, idle].into_iter().flatten().map(|watermark| {
                    Control::Watermark {
                        watermark,
                        origin_ns,
                    }
                }));
                Ok(None)
            }
            Control::EndOfInput(mode) => {
                state.ended = true;
                self.open -= 1;
                self.mode = self.mode.and(mode);
                Ok((self.open == 0).then_some(self.mode))
            }
        }
    }

    /// The watermark of the subtask's input.
    #[must_use]
    pub fn watermark(&self) -> Option<EventTime> {
        self.valve.current()
    }

    /// Fails when a channel's road has ended before the channel has; `reading` is one of which a buffer is being read.
    ///
    /// # Errors
    /// [`Error::peer_lost`] naming the TaskManager.
    pub fn check(&self, reading: Option<usize>) -> Result<()> {
        for (index, channel) in self.channels.iter().enumerate() {
            if !channel.ended
                && reading != Some(index)
                && channel.road.is_empty()
                && let Some(why) = channel.road.broken()
            {
                return Err(Error::peer_lost(&channel.peer, why.as_ref()));
            }
        }
        Ok(())
    }
}
