//! The readings that the `sum` job is fed.
//!
//! Owns: [`Readings`], a source that divides itself, and the reading of a number. Invariant: a reading is a function of
//! its number, the seed and the number of keys, so a reader can begin anywhere; subtask i of p makes every p-th, from i on.
//!
//! ```text
//! mixed  = number-th output of SplitMix64(seed)   Steele, Lea, Flood 2014, with Stafford's mix 13
//! key    = (mixed >> 32) * keys >> 32          0..keys, by multiplication
//! value  = (key & 1023) + 1                    of the key alone
//! ```

use std::os::fd::RawFd;

use ringflow_dataplane::error::Result as DataResult;
use ringflow_dataplane::limits::RUN_RECORDS;
use ringflow_dataplane::runtime::clock::Clock;
use ringflow_dataplane::runtime::context::PrepareContext;
use ringflow_dataplane::source::pace::{DueTimes, Pace};
use ringflow_dataplane::source::{SourceFactory, SourceOutput, SourceProgress, SourceReader};

use super::SumArgs;
use crate::jobs::reading::Reading;
use crate::prelude::*;

/// Bytes of a reading.
const SIZE: usize = size_of::<Reading>();

/// The stream of readings of one job.
#[derive(Debug, Clone, Copy)]
pub struct Readings {
    /// `u64::MAX`: without end.
    total: u64,
    keys: u64,
    seed: u64,
    rate: Option<u64>,
    warm_up_ns: u64,
}

impl Readings {
    /// As the job wants them.
    #[must_use]
    pub fn new(job: &SumArgs) -> Self {
        Self {
            total: if job.records == 0 {
                u64::MAX
            } else {
                job.records
            },
            keys: job.keys,
            seed: job.seed,
            rate: job.rate,
            warm_up_ns: u64::try_from(job.warm_up.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// The reading of a number.
    #[inline]
    #[must_use]
    pub fn reading(&self, number: u64) -> Reading {
        let steps = number.wrapping_add(1);
        let mut mixed = self
            .seed
            .wrapping_add(steps.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // 2^32 keys at most: the product fits.
        let key = ((mixed >> 32) * self.keys) >> 32;
        Reading::new(key, (key & 1023) + 1, number)
    }
}

impl SourceFactory for Readings {
    fn prepare(&self, context: &PrepareContext) -> DataResult<Box<dyn SourceReader>> {
        let (next, step) = (
            u64::from(context.subtask_index),
            u64::from(context.parallelism),
        );
        Ok(Box::new(Reader {
            readings: *self,
            next,
            step,
            made: vec![0; RUN_RECORDS * SIZE],
            measured_from_ns: 0,
            due: DueTimes::new(&Pace::new(self.rate, 0), next, step),
            start_ns: 0,
        }))
    }

    fn divides_itself(&self) -> bool {
        true
    }
}

struct Reader {
    readings: Readings,
    next: u64,
    step: u64,
    /// Readings on their way out.
    made: Vec<u8>,
    /// Set on the core: the schedule starts when the reader does.
    due: DueTimes,
    start_ns: u64,
    measured_from_ns: u64,
}

impl Reader {
    /// Makes the next `count` readings, fewer at the end; says how many.
    fn make(&mut self, count: usize) -> usize {
        let left = self.readings.total - self.next;
        let left = usize::try_from(left.div_ceil(self.step)).unwrap_or(usize::MAX);
        let count = count.min(left);
        // All in locals, and the end known beforehand: one reading does not wait for the one before.
        let (readings, step, mut number) = (self.readings, self.step, self.next);
        for place in self.made.chunks_exact_mut(SIZE).take(count) {
            place.copy_from_slice(readings.reading(number).as_bytes());
            number = number.wrapping_add(step);
        }
        let made = step.saturating_mul(count as u64);
        self.next = self.next.saturating_add(made);
        count
    }

    /// Emits what there is room for; the first of a poll stands for all, since none was due at a time of its own.
    fn poll_unpaced(
        &mut self,
        records_max: usize,
        output: &mut SourceOutput<'_>,
    ) -> DataResult<SourceProgress> {
        let measured = output.now_ns() >= self.measured_from_ns;
        let mut origin_ns = if measured { output.wall_ns() } else { 0 };
        let mut emitted = 0;
        while emitted < records_max {
            if self.next >= self.readings.total {
                return Ok(SourceProgress::Finished);
            }
            if output.is_blocked() {
                break;
            }
            // The measured one goes alone: what passes together has one origin.
            let count = if origin_ns == 0 { RUN_RECORDS } else { 1 };
            let made = self.make(count.min(records_max - emitted));
            emitted += made;
            let bytes = &self.made[..made * SIZE];
            output.emit_run(0, bytes, SIZE, EventTime::NONE, origin_ns)?;
            origin_ns = 0;
        }
        Ok(SourceProgress::More)
    }

    /// Emits all that is due, each stamped with when it was.
    fn poll_paced(
        &mut self,
        records_max: usize,
        output: &mut SourceOutput<'_>,
    ) -> DataResult<SourceProgress> {
        let (now_ns, wall_ns) = (output.now_ns(), output.wall_ns());
        for _ in 0..records_max {
            if self.next >= self.readings.total {
                return Ok(SourceProgress::Finished);
            }
            let due_ns = self.due.due_ns();
            if due_ns > now_ns {
                return Ok(SourceProgress::Idle {
                    until_ns: Some(due_ns),
                });
            }
            if output.is_blocked() {
                break;
            }
            let origin_ns = if due_ns < self.measured_from_ns {
                0
            } else {
                wall_ns.saturating_sub(now_ns - due_ns)
            };
            let reading = self.readings.reading(self.next);
            output.emit(0, reading.as_bytes(), EventTime::NONE, origin_ns)?;
            self.next = self.next.saturating_add(self.step);
            self.due.advance();
        }
        Ok(SourceProgress::More)
    }
}

impl SourceReader for Reader {
    fn open(&mut self, _doorbell_fd: RawFd) -> DataResult<()> {
        self.start_ns = Clock::system().now_ns();
        let pace = Pace::new(self.readings.rate, self.start_ns);
        self.due = DueTimes::new(&pace, self.next, self.step);
        self.measured_from_ns = self.start_ns.saturating_add(self.readings.warm_up_ns);
        Ok(())
    }

    fn poll(
        &mut self,
        records_max: usize,
        output: &mut SourceOutput<'_>,
    ) -> DataResult<SourceProgress> {
        if self.readings.rate.is_some() {
            self.poll_paced(records_max, output)
        } else {
            self.poll_unpaced(records_max, output)
        }
    }

    /// Readings that are due and not made yet: how far a paced source is behind.
    fn pending_records(&self) -> Option<u64> {
        let rate = self.readings.rate?;
        let since_ns = Clock::system().now_ns().saturating_sub(self.start_ns);
        let due = u128::from(since_ns) * u128::from(rate) / 1_000_000_000;
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        let behind = due.min(self.readings.total).saturating_sub(self.next);
        Some(behind / self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spread_evenly_and_depend_on_the_seed() {
        let readings = |seed| {
            Readings::new(&SumArgs {
                keys: 1_000,
                seed,
                ..SumArgs::default()
            })
        };
        let mut counts = vec![0u32; 1_000];
        for number in 0..1_000_000 {
            let reading = readings(0).reading(number);
            assert_eq!(
                (reading.number(), reading.value()),
                (number, (reading.key() & 1023) + 1)
            );
            counts[usize::try_from(reading.key()).unwrap()] += 1;
        }
        // 1000 each, with a standard deviation of 32: six of them.
        assert!(counts.iter().all(|count| (800..1_200).contains(count)));
        let keys = |seed| (0..100).map(move |number| readings(seed).reading(number).key());
        assert!(keys(0).ne(keys(1)));
    }

    #[test]
    fn the_greatest_number_of_keys_fits() {
        let readings = Readings::new(&SumArgs {
            keys: 1 << 32,
            ..SumArgs::default()
        });
        assert!((0..100_000).any(|number| readings.reading(number).key() > 1 << 31));
    }
}
