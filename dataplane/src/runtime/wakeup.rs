//! What it costs this machine to wake a sleeping thread.
//!
//! Owns: [`median_ns`]. Invariant: the figure is measured between the CPUs that will be used, on a thread that really sleeps.
//! Left out: what the figure decides (`--spin auto`, [`crate::task_manager`]).

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::limits::WAKE_UP_SAMPLES;
use crate::runtime::clock::Clock;
use crate::runtime::doorbell::Doorbell;

/// Median time from ringing a doorbell, on the calling thread, until a thread that sleeps on `cpu` runs, in nanoseconds.
///
/// Cost: about 10 ms.
///
/// # Errors
/// No thread or eventfd can be had.
pub fn median_ns(cpu: usize) -> std::io::Result<u64> {
    let bell = Arc::new(Doorbell::new()?);
    let woken_at_ns = Arc::new(AtomicU64::new(0));
    let (sleeper_bell, sleeper_time) = (Arc::clone(&bell), Arc::clone(&woken_at_ns));
    let sleeper = std::thread::Builder::new()
        .name("rf-wakeup".to_owned())
        .spawn(move || {
            let mut cpus = CpuSet::new();
            cpus.set(cpu);
            sched_setaffinity(None, &cpus)?;
            let clock = Clock::system();
            for _ in 0..WAKE_UP_SAMPLES {
                // SAFETY: the bell's eventfd is open as long as the bell, which this thread holds.
                let eventfd = unsafe { BorrowedFd::borrow_raw(sleeper_bell.as_raw_fd()) };
                rustix::io::read(eventfd, &mut [0; 8])?;
                sleeper_time.store(clock.now_ns(), Ordering::Release);
            }
            Ok::<(), std::io::Error>(())
        })?;
    let clock = Clock::system();
    let mut samples = Vec::with_capacity(WAKE_UP_SAMPLES);
    for _ in 0..WAKE_UP_SAMPLES {
        // Long enough for the thread to be asleep, and its CPU with it.
        std::thread::park_timeout(Duration::from_micros(200));
        let struck_ns = clock.now_ns();
        bell.strike();
        let woken_ns = loop {
            match woken_at_ns.swap(0, Ordering::Acquire) {
                0 if sleeper.is_finished() => break None,
                0 => std::thread::yield_now(),
                woken_ns => break Some(woken_ns),
            }
        };
        let Some(woken_ns) = woken_ns else { break };
        samples.push(woken_ns.saturating_sub(struck_ns));
    }
    sleeper
        .join()
        .map_err(|_| std::io::Error::other("the sleeping thread panicked"))??;
    samples.sort_unstable();
    samples
        .get(samples.len() / 2)
        .copied()
        .ok_or_else(|| std::io::Error::other("no wake-up was seen"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::placement::allowed_cpus;

    #[test]
    fn waking_up_takes_time() {
        let cpu = *allowed_cpus().expect("known").last().expect("one at least");
        let median = median_ns(cpu).expect("threads and eventfds can be had");
        assert!((100..100_000_000).contains(&median), "{median} ns");
    }
}
