//! What writers tell the committer about partitions.
//!
//! Owns: [`Committable`], its bytes, and [`is_complete`]. A writer says that it has a partition open before any of its
//! rows is written, and that its files are finished before it passes on the watermark that completes the partition.
//! Invariant: decoding never panics, whatever the bytes.
//!
//! ```text
//!   open: 1 byte, 0 or 1 | subtask: u32, LE | completed by: i64, LE | bucket, UTF-8
//! ```

use crate::error::{Error, Result};
use crate::operator::chain::{Output, SideOutputId};
use crate::record::{EventTime, RecordRef, RowKind};

/// The side output of a writer that its committer reads. A writer has no other one.
pub const COMMITTABLES: SideOutputId = u64::from_be_bytes(*b"\xffcommits");

const HEAD_BYTES: usize = 13;

/// What a writer has of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Committable<'a> {
    /// It has unfinished rows of it.
    pub(super) open: bool,
    pub(super) subtask_index: u32,
    /// Time that the watermark must pass.
    pub(super) time: EventTime,
    pub(super) bucket: &'a str,
}

/// Event time has passed `time`.
pub(super) fn is_complete(time: EventTime, watermark: EventTime) -> bool {
    watermark > time || watermark == EventTime::MAX
}

impl<'a> Committable<'a> {
    /// Sends it to the committer; `bytes` is where it is put together.
    pub(super) fn send(&self, bytes: &mut Vec<u8>, output: &mut Output) -> Result<()> {
        bytes.clear();
        bytes.push(u8::from(self.open));
        bytes.extend_from_slice(&self.subtask_index.to_le_bytes());
        bytes.extend_from_slice(&self.time.0.to_le_bytes());
        bytes.extend_from_slice(self.bucket.as_bytes());
        let record = RecordRef {
            bytes,
            timestamp: EventTime::NONE,
            key_hash: 0,
            kind: RowKind::Insert,
            origin_ns: 0,
        };
        output.collect_side(COMMITTABLES, &record)
    }

    /// Reads one.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        let read = || {
            let (head, bucket) = bytes.split_first_chunk::<HEAD_BYTES>()?;
            let (open, numbers) = head.split_first()?;
            let (subtask_index, time) = numbers.split_first_chunk::<4>()?;
            Some(Self {
                open: *open != 0,
                subtask_index: u32::from_le_bytes(*subtask_index),
                time: EventTime(i64::from_le_bytes(time.try_into().ok()?)),
                bucket: std::str::from_utf8(bucket).ok()?,
            })
        };
        read().ok_or_else(|| {
            Error::operator("a record that is no committable came to a committer of files")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::chain::Captured;

    #[test]
    fn what_was_sent_is_read() {
        let committable = Committable {
            open: true,
            subtask_index: 7,
            time: EventTime(-5),
            bucket: "dt=2026-01-01/ü",
        };
        let sides = vec![(COMMITTABLES, Output::Capture(Vec::new()))];
        let mut output = Output::Sides(Box::new(Output::End), sides);
        committable.send(&mut Vec::new(), &mut output).unwrap();
        let Output::Sides(_, sides) = &output else {
            panic!("it was one");
        };
        let Output::Capture(captured) = &sides[0].1 else {
            panic!("it was one");
        };
        let [Captured::Record(bytes, _)] = &captured[..] else {
            panic!("{captured:?}");
        };
        assert_eq!(Committable::read(bytes).unwrap(), committable);
        for length in 0..HEAD_BYTES {
            assert!(Committable::read(&bytes[..length]).is_err());
        }
        assert!(Committable::read(&[0xff; 20]).is_err());
    }

    #[test]
    fn the_end_of_time_completes_everything() {
        let times = [EventTime(5), EventTime(i64::MAX)];
        assert!(!is_complete(times[0], EventTime(5)) && is_complete(times[0], EventTime(6)));
        assert!(times.iter().all(|time| is_complete(*time, EventTime::MAX)));
    }
}
