//! A word from one core to another and back, through two atomics on cache lines of their own.
//!
//! Owns: [`cross_core`], [`same_core`]. Invariant: both sides spin; half a round trip is the time of one hand-off.
//! Left out: queues, buffers, waking.

use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;
use ringflow_dataplane::runtime::clock::Clock;

use crate::bench::cpus::{Cpus, Stop, on_cpu, on_two_cpus};
use crate::bench::figures::nanoseconds;

/// 128 bytes: adjacent lines are fetched in pairs.
#[derive(Default)]
#[repr(align(128))]
struct OwnLine(AtomicU64);

/// Asks the other side to end.
const END: u64 = u64::MAX;

/// Between the two data CPUs, for `duration_ns`; nanoseconds.
///
/// # Errors
/// No thread, or interrupted.
pub fn cross_core(cpus: &Cpus, duration_ns: u64, stop: &Stop<'_>) -> crate::Result<Histogram<u64>> {
    let (there, back) = (OwnLine::default(), OwnLine::default());
    let wait = |line: &OwnLine, other_than: u64| -> crate::Result<u64> {
        loop {
            let word = line.0.load(Ordering::Acquire);
            if word != other_than {
                return Ok(word);
            }
            stop.check()?;
            std::hint::spin_loop();
        }
    };
    let ping = || {
        let clock = Clock::system();
        let mut times = nanoseconds();
        let start_ns = clock.now_ns();
        let (mut last_ns, mut word) = (start_ns, 0);
        while last_ns - start_ns < duration_ns {
            there.0.store(word + 1, Ordering::Release);
            word = wait(&back, word)?;
            let now_ns = clock.now_ns();
            times.saturating_record(((now_ns - last_ns) / 2).max(1));
            last_ns = now_ns;
        }
        there.0.store(END, Ordering::Release);
        Ok(times)
    };
    let pong = || {
        let mut word = 0;
        loop {
            word = wait(&there, word)?;
            if word == END {
                return Ok(());
            }
            back.0.store(word, Ordering::Release);
        }
    };
    on_two_cpus(cpus.data, stop, ping, pong).map(|(times, ())| times)
}

/// Hand-offs that one reading of the clock is spread over where a single one takes less than reading it.
pub const BATCH: u64 = 64;

/// On one CPU in one thread: a store and a load; nanoseconds, averaged over [`BATCH`].
///
/// # Errors
/// No thread, or interrupted.
pub fn same_core(cpus: &Cpus, duration_ns: u64, stop: &Stop<'_>) -> crate::Result<Histogram<u64>> {
    let work = || {
        let clock = Clock::system();
        let line = OwnLine::default();
        let mut times = nanoseconds();
        let start_ns = clock.now_ns();
        let mut last_ns = start_ns;
        while last_ns - start_ns < duration_ns {
            stop.check()?;
            for word in 0..BATCH {
                std::hint::black_box(&line).0.store(word, Ordering::Release);
                std::hint::black_box(std::hint::black_box(&line).0.load(Ordering::Acquire));
            }
            let now_ns = clock.now_ns();
            times.saturating_record(((now_ns - last_ns) / BATCH).max(1));
            last_ns = now_ns;
        }
        Ok(times)
    };
    on_cpu(cpus.data[0], stop, work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cpus::Sides;

    #[test]
    fn words_come_back() {
        let cpus = Cpus::decide(None, None, Sides::Two).unwrap();
        let stop = Stop::new(None);
        let times = same_core(&cpus, 1_000_000, &stop).unwrap();
        assert!(!times.is_empty());
        if cpus.distinct() == 2 {
            let times = cross_core(&cpus, 1_000_000, &stop).unwrap();
            assert!(!times.is_empty());
        }
    }
}
