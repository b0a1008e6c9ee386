//! What it costs this machine to wake a sleeping core.
//!
//! Owns: [`median_ns`]. Invariant: the figure is measured on a real core, through its executor: a bare thread wakes in half
//! the time.
//! Left out: what the figure decides (`--spin auto`, [`crate::task_manager`]).

use std::time::Duration;

use crate::limits::{WAKE_UP_PATIENCE_NS, WAKE_UP_SAMPLES};
use crate::runtime::clock::Clock;
use crate::runtime::doorbell::Doorbell;

/// Median time from ringing the bell of an idle core, on the calling thread, until the core sweeps, in nanoseconds; `None` when
/// it did not go to sleep and wake up in time.
///
/// Cost: about 10 ms.
#[must_use]
pub fn median_ns(bell: &Doorbell) -> Option<u64> {
    let clock = Clock::system();
    let deadline_ns = clock.now_ns() + WAKE_UP_PATIENCE_NS;
    let until = |condition: &dyn Fn() -> bool| {
        while !condition() {
            if clock.now_ns() > deadline_ns {
                return None;
            }
            std::thread::yield_now();
        }
        Some(clock.now_ns())
    };
    let mut samples = Vec::with_capacity(WAKE_UP_SAMPLES);
    for _ in 0..WAKE_UP_SAMPLES {
        until(&|| bell.is_asleep())?;
        // Long enough for its CPU to be asleep too.
        std::thread::park_timeout(Duration::from_micros(200));
        let sweeps = bell.sweeps();
        let rung_ns = clock.now_ns();
        bell.ring();
        let swept_ns = until(&|| bell.sweeps() != sweeps)?;
        samples.push(swept_ns.saturating_sub(rung_ns));
    }
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied()
}
