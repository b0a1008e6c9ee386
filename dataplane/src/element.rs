//! All that an edge carries: records and, in order with them, control elements.
//!
//! Owns: [`Watermark`], [`Control`], [`Element`]. Invariant: on one channel watermarks `At` only grow, and nothing follows
//! [`Control::EndOfInput`]. Left out: their layout in a buffer ([`crate::batch`]).

pub use ringflow_schemas::stop_mode::StopMode;

use crate::record::{EventTime, RecordRef};

/// How far event time has come on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watermark {
    /// No record with this or an earlier time will come, except late ones.
    At(EventTime),
    /// Nothing comes for now: do not wait for this channel.
    Idle,
}

/// What travels in order with records and is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Progress of event time; `origin_ns` of the newest record it speaks of (0: none).
    Watermark {
        /// The watermark.
        watermark: Watermark,
        /// As in [`RecordRef::origin_ns`].
        origin_ns: u64,
    },
    /// The producer has finished: with its stream complete, behind a watermark [`EventTime::MAX`], or cut off.
    EndOfInput(StopMode),
}

/// One element of a buffer.
#[derive(Debug, Clone, Copy)]
pub enum Element<'a> {
    /// A record.
    Record(RecordRef<'a>),
    /// A control element.
    Control(Control),
}
