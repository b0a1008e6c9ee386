//! Nexmark's generator alone: what any query over made events must cost.
//!
//! Owns: [`generate`]. Invariant: the events are those of the engine's source, made by the same writer; each is given away, so
//! that no compiler leaves the work out.
//! Left out: event times and order, the sharing out over subtasks, and any query.

use std::hint::black_box;

use ringflow_dataplane::runtime::clock::Clock;

use super::{seconds_since, thread_cpu_seconds};
use crate::bench::cpus::{Cpus, Stop, on_cpu};
use crate::bench::figures::Work;
use crate::nexmark::{EventWriter, NexmarkConfig};

/// How often interrupts are looked for.
const LOOK_EVENTS: u64 = 65_536;

/// Makes events 0..`events` in one loop on the first data CPU.
///
/// # Errors
/// No thread, or interrupted.
pub fn generate(
    cpus: &Cpus,
    config: NexmarkConfig,
    events: u64,
    stop: &Stop<'_>,
) -> crate::Result<Work> {
    let work = || {
        let mut writer = EventWriter::new(config);
        let clock = Clock::system();
        let (start_ns, start_cpu) = (clock.now_ns(), thread_cpu_seconds());
        for number in 0..events {
            if number % LOOK_EVENTS == 0 {
                stop.check()?;
            }
            black_box(writer.write(number));
        }
        let seconds = seconds_since(&clock, start_ns);
        Ok(Work::new(events, seconds, thread_cpu_seconds() - start_cpu))
    };
    on_cpu(cpus.data[0], stop, work)
}
