//! What the machine itself takes away: how long a CPU is gone from a thread that only reads the clock.
//!
//! Owns: [`measure`]. Invariant: nothing of ours runs meanwhile; each data CPU has one spinning thread.
//! Left out: why a CPU was gone (interrupts, other processes, the hypervisor).

use hdrhistogram::Histogram;
use ringflow_dataplane::runtime::clock::Clock;

use super::cpus::{Cpus, Stop, on_cpu, on_two_cpus};
use super::figures::{Percentiles, nanoseconds};

/// One arrival is imagined each microsecond: what it would have waited is what counts.
const ARRIVALS_NS: u64 = 1_000;

/// Spins on the data CPUs for `duration_ns`.
///
/// # Errors
/// No thread, or interrupted.
pub fn measure(cpus: &Cpus, duration_ns: u64, stop: &Stop<'_>) -> crate::Result<Percentiles> {
    let spin = || spin(duration_ns, stop);
    let gaps = if cpus.distinct() == 1 {
        on_cpu(cpus.data[0], stop, spin)?
    } else {
        let (mut first, second) = on_two_cpus(cpus.data, stop, spin, spin)?;
        first.add(&second)?;
        first
    };
    Ok(Percentiles::of(&waits(&gaps), 1_000.0))
}

fn spin(duration_ns: u64, stop: &Stop<'_>) -> crate::Result<Histogram<u64>> {
    let clock = Clock::system();
    let mut gaps = nanoseconds();
    let start_ns = clock.now_ns();
    let mut last_ns = start_ns;
    while last_ns - start_ns < duration_ns {
        let now_ns = clock.now_ns();
        gaps.saturating_record(now_ns - last_ns);
        if now_ns - last_ns > ARRIVALS_NS {
            stop.check()?;
        }
        last_ns = now_ns;
    }
    Ok(gaps)
}

/// What an arrival at any moment waits for the CPU, from the gaps between clock readings: a gap of g ns is met by
/// g / 1000 of the arrivals, which wait between 0 and g.
fn waits(gaps: &Histogram<u64>) -> Histogram<u64> {
    let mut waits = nanoseconds();
    // Gaps shorter than the time between arrivals are met by a share of one each.
    let mut short_ns = 0;
    for step in gaps.iter_recorded() {
        let (gap_ns, count) = (step.value_iterated_to(), step.count_at_value());
        if gap_ns < ARRIVALS_NS {
            short_ns += gap_ns * count;
            waits.saturating_record_n(gap_ns.max(1), short_ns / ARRIVALS_NS);
            short_ns %= ARRIVALS_NS;
            continue;
        }
        let mut left_ns = gap_ns;
        while left_ns >= ARRIVALS_NS {
            waits.saturating_record_n(left_ns, count);
            left_ns -= ARRIVALS_NS;
        }
    }
    waits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_gap_is_met_by_as_many_arrivals_as_it_is_long() {
        let mut gaps = nanoseconds();
        gaps.record_n(50, 19_980_000).unwrap();
        gaps.record(1_000_000).unwrap();
        let waits = waits(&gaps);
        // 999 ms of 50 ns readings and one gap of 1 ms: a thousandth of all arrivals meets the gap.
        assert!(
            (999_990..=1_000_010).contains(&waits.len()),
            "{}",
            waits.len()
        );
        assert_eq!(waits.value_at_quantile(0.99), 50);
        assert!(waits.value_at_quantile(0.9995) > 400_000);
        assert!(waits.max() >= 1_000_000);
    }
}
