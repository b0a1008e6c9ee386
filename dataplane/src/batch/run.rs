//! Records of one size behind each other: what operators can take in one call.
//!
//! Owns: [`Run`]. A call per record and operator costs more than many operators do; a run costs one call, and its records
//! are read in a loop that the compiler sees whole.
//! Invariant: all records of a run have the same length and origin, and either one event time in common or each its own;
//! there is at least one. A run has at most `limits::RUN_RECORDS` records, so what it makes is bounded.
//! Left out: which operators gain from it ([`crate::operator::Operator::takes_runs`]).

use crate::record::{EventTime, RecordRef, RowKind};

use super::layout::HEAD;

/// Records of one size.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// So many strides.
    bytes: &'a [u8],
    /// From one record to the next.
    stride: usize,
    /// Where in a stride the payload begins; what is before it is an element's head.
    payload: usize,
    /// Length of a payload.
    size: usize,
    /// Of all records; unless each has its own behind its head.
    timestamp: EventTime,
    timed: bool,
    origin_ns: u64,
}

impl<'a> Run<'a> {
    /// Payloads of `size` bytes without anything between them: `bytes` is a multiple of that.
    #[must_use]
    pub fn of_payloads(bytes: &'a [u8], size: usize, timestamp: EventTime, origin_ns: u64) -> Self {
        debug_assert!(
            size > 0 && bytes.len().is_multiple_of(size),
            "whole records"
        );
        Self {
            bytes,
            stride: size,
            payload: 0,
            size,
            timestamp,
            timed: false,
            origin_ns,
        }
    }

    /// Elements of `stride` bytes, whose payloads of `size` bytes begin at `payload`; with their event times behind their
    /// heads, if `timed`.
    pub(super) fn of_elements(
        bytes: &'a [u8],
        stride: usize,
        payload: usize,
        size: usize,
        timed: bool,
    ) -> Self {
        Self {
            bytes,
            stride,
            payload,
            size,
            timestamp: EventTime::NONE,
            timed,
            origin_ns: 0,
        }
    }

    /// Number of records.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() / self.stride.max(1)
    }

    /// Never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Length of each record.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// From one record to the next, in the bytes it was read from.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The event time and origin of all records; `None` where each has a time of its own.
    #[must_use]
    pub fn in_common(&self) -> Option<(EventTime, u64)> {
        (!self.timed).then_some((self.timestamp, self.origin_ns))
    }

    /// Records `from..to` of it.
    #[must_use]
    pub fn part(&self, from: usize, to: usize) -> Self {
        Self {
            bytes: &self.bytes[from * self.stride..to * self.stride],
            ..*self
        }
    }

    /// The records.
    #[inline]
    pub fn records(&self) -> impl Iterator<Item = RecordRef<'a>> {
        let run = *self;
        run.bytes.chunks_exact(run.stride).map(move |element| {
            let word = |at: usize| element.get(at..)?.first_chunk::<4>().copied();
            let key_hash = match run.payload {
                0 => 0,
                _ => word(4).map_or(0, u32::from_le_bytes),
            };
            let timestamp = if run.timed {
                let time = element.get(HEAD..).and_then(<[u8]>::first_chunk);
                EventTime(time.map_or(0, |time| i64::from_le_bytes(*time)))
            } else {
                run.timestamp
            };
            RecordRef {
                bytes: &element[run.payload..run.payload + run.size],
                timestamp,
                key_hash,
                kind: RowKind::Insert,
                origin_ns: run.origin_ns,
            }
        })
    }

    /// The key hash of each record that came over a keyed edge.
    #[inline]
    pub fn key_hashes(&self) -> impl Iterator<Item = u32> {
        self.records().map(|record| record.key_hash)
    }
}
