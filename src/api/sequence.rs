//! A bounded source of numbers, for trying things out.
//!
//! Owns: [`SequenceSource`] of [`Number`]. Invariant: subtask i of p gives every p-th number, from i on.

use std::os::fd::RawFd;
use std::sync::Arc;

use ringflow_dataplane::error::Result as DataResult;
use ringflow_dataplane::record::{EventTime, StructRecord};
use ringflow_dataplane::runtime::clock::Clock;
use ringflow_dataplane::runtime::context::PrepareContext;
use ringflow_dataplane::source::pace::Pace;
use ringflow_dataplane::source::{SourceFactory, SourceOutput, SourceProgress, SourceReader};

use crate::api::data_stream::Source;

/// One number: 8 bytes, little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Number(pub [u8; 8]);

impl Number {
    /// A record of `value`.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value.to_le_bytes())
    }

    /// The number.
    #[must_use]
    pub const fn value(&self) -> u64 {
        u64::from_le_bytes(self.0)
    }
}

impl Default for Number {
    fn default() -> Self {
        Self::new(0)
    }
}

crate::struct_record!(Number);

/// The numbers `0..count`; the event time of number n is n milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct SequenceSource {
    count: u64,
    rate: Option<u64>,
}

impl SequenceSource {
    /// The numbers `0..count`.
    #[must_use]
    pub const fn new(count: u64) -> Self {
        Self { count, rate: None }
    }

    /// So many numbers per second of wall time, from all subtasks together; at least 1.
    #[must_use]
    pub const fn rate(mut self, per_second: u64) -> Self {
        self.rate = Some(if per_second == 0 { 1 } else { per_second });
        self
    }
}

impl Source for SequenceSource {
    type Record = Number;
    fn factory(&self) -> Arc<dyn SourceFactory> {
        Arc::new(*self)
    }
}

impl SourceFactory for SequenceSource {
    fn prepare(&self, context: &PrepareContext) -> DataResult<Box<dyn SourceReader>> {
        let (next, step) = (
            u64::from(context.subtask_index),
            u64::from(context.parallelism),
        );
        Ok(Box::new(Sequence {
            next,
            step,
            end: self.count,
            rate: self.rate,
            pace: None,
        }))
    }

    fn divides_itself(&self) -> bool {
        true
    }
}

struct Sequence {
    next: u64,
    step: u64,
    end: u64,
    rate: Option<u64>,
    /// Set on the core: the schedule starts when the reader does.
    pace: Option<Pace>,
}

impl SourceReader for Sequence {
    fn open(&mut self, _doorbell_fd: RawFd) -> DataResult<()> {
        self.pace = Some(Pace::new(self.rate, Clock::system().now_ns()));
        Ok(())
    }

    fn poll(
        &mut self,
        records_max: usize,
        output: &mut SourceOutput<'_>,
    ) -> DataResult<SourceProgress> {
        let (now_ns, wall_ns) = (output.now_ns(), output.wall_ns());
        let pace = self.pace.unwrap_or_else(|| Pace::new(None, now_ns));
        for emitted in 0..records_max {
            if self.next >= self.end {
                return Ok(SourceProgress::Finished);
            }
            if output.is_blocked() {
                break;
            }
            let due_ns = pace.due_ns(self.next);
            let origin_ns = if pace.is_unlimited() {
                // There is no schedule to be late for: one sample per poll shows the wait inside the job.
                if emitted == 0 { wall_ns } else { 0 }
            } else if due_ns > now_ns {
                return Ok(SourceProgress::Idle {
                    until_ns: Some(due_ns),
                });
            } else {
                wall_ns - (now_ns - due_ns)
            };
            let number = Number::new(self.next);
            let time = EventTime(i64::try_from(self.next).unwrap_or(i64::MAX));
            output.emit(0, number.as_bytes(), time, origin_ns)?;
            self.next = self.next.saturating_add(self.step);
        }
        Ok(SourceProgress::More)
    }
}
