//! The floors: bare programs that do the least that any engine must do, on the same CPUs in the same run.
//!
//! Owns: [`socket`] (messages over loopback TCP), [`keyed_sum`] (the keyed running sum, by hand), [`hand_off`] (a word
//! between two cores), [`events`] (Nexmark's generator alone). Invariant: nothing of the engine is used here but its records
//! and its clock.
//! Left out: tuning: a floor is a straight program, and what the engine saves by batching or costs by its checks shows
//! against it.

use ringflow_dataplane::runtime::clock::Clock;
use rustix::time::{ClockId, clock_gettime};

pub mod events;
pub mod hand_off;
pub mod keyed_sum;
pub mod socket;

/// CPU time of the calling thread.
fn thread_cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let whole = std::time::Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
    (whole + std::time::Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0)))
        .as_secs_f64()
}

fn seconds_since(clock: &Clock, start_ns: u64) -> f64 {
    std::time::Duration::from_nanos(clock.now_ns() - start_ns).as_secs_f64()
}
