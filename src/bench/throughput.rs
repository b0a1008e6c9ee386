//! `ringflow bench throughput`: the keyed running sum, as fast as it goes.
//!
//! Owns: [`run`], the search for the highest sustainable rate. Invariant: engine and floor sum the same number of the same
//! records on the same CPUs.
//! Left out: other jobs.

use std::cell::Cell;
use std::time::Duration;

use anyhow::ensure;

use super::args::ThroughputArgs;
use super::cluster::{BenchCluster, ClusterLayout};
use super::cpus::{Sides, Stop};
use super::figures::{Figures, Measured, Round};
use super::floor::keyed_sum::{in_one_loop, over_socket};
use super::job::{self, Load, Outcome};
use super::plot::{self, Axis};
use super::report::{Probe, Report, Row, Sustainable};
use super::{Session, say};

/// Seconds that a round should take when `--records` does not say.
const ROUND_SECONDS: f64 = 5.0;
/// Rates tried in the search: each halves the span, so the answer is known to 1/256 of the span.
const PROBES: u32 = 8;

/// Measures and reports.
///
/// # Errors
/// What the measurement says.
pub fn run(args: &ThroughputArgs) -> crate::Result<()> {
    let sides = if args.chained { Sides::One } else { Sides::Two };
    let session = Session::open(&args.common, sides)?;
    if session.cpus.distinct() < 2 && !args.chained {
        say(
            "warning: both sides share one CPU and take turns on it: records per second are those of half a machine",
        );
    }
    let layout = if args.chained {
        session.layout(vec![vec![session.cpus.data[0]]], 1)
    } else {
        session.two_task_managers(1)
    };
    let load = Load {
        chained: args.chained,
        ..Load::unpaced(0, args.keys)
    };
    let records = match args.records {
        Some(records) => records,
        None => calibrate(&session, &layout, load, ROUND_SECONDS)?,
    };
    let load = Load { records, ..load };
    // Engine and floor must come to the same: whoever left work out would be found here.
    let agreed = Cell::new(None);
    let agree = |sum: u64| {
        let first = agreed.get().unwrap_or(sum);
        agreed.set(Some(first));
        ensure!(
            first == sum,
            "engine and floor disagree: the outputs add up to {first} and to {sum}"
        );
        Ok(())
    };
    let engine = |stop: &Stop<'_>| {
        let outcome = run_once(&session, &layout, &load, stop)?;
        agree(outcome.sum)?;
        Ok(outcome.figures)
    };
    let floor = |stop: &Stop<'_>| {
        let floor = if args.chained {
            in_one_loop
        } else {
            over_socket
        };
        let (work, sum) = floor(&session.cpus, load, stop)?;
        agree(sum)?;
        Ok(Figures {
            work: Some(work),
            ..Figures::default()
        })
    };
    let measured = session.alternate("throughput", engine, floor)?;
    let sustainable = match args.sustainable {
        true => Some(search(&session, args, &layout, &measured)?),
        false => None,
    };
    let settings = serde_json::json!({
        "records": records,
        "keys": args.keys,
        "chained": args.chained,
    });
    let row = Row {
        sustainable,
        ..Row::only(measured)
    };
    let settings = session.settings(settings);
    let report = Report::new("throughput", &session.cpus, settings, vec![row]);
    if let Some(path) = &args.common.plot {
        draw(path, &report)?;
    }
    session.print(&report)
}

/// The job once, on a cluster of its own. Its latency is left out: without a rate nothing is ever due.
pub(super) fn run_once(
    session: &Session<'_>,
    layout: &ClusterLayout,
    load: &Load,
    stop: &Stop<'_>,
) -> crate::Result<Outcome> {
    let cluster = BenchCluster::start(layout, &session.cpus, stop)?;
    let mut outcome = job::run(&cluster, load, stop)?;
    outcome.figures.latency_us = load.rate.and(outcome.figures.latency_us);
    Ok(outcome)
}

/// Records that take about `seconds`, from trial runs of growing length.
///
/// # Errors
/// A run fails.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an estimate, positive and far below 2^52"
)]
pub(super) fn calibrate(
    session: &Session<'_>,
    layout: &ClusterLayout,
    load: Load,
    seconds: f64,
) -> crate::Result<u64> {
    let mut records = 1_000_000;
    loop {
        let trial = Load { records, ..load };
        let stop = session.stop();
        let work = run_once(session, layout, &trial, &stop)?
            .figures
            .work
            .unwrap_or_default();
        let wanted = (work.records_per_second * seconds) as u64;
        if work.seconds >= 0.4 || records >= wanted {
            let rounded = wanted.next_multiple_of(1_000);
            say(&format!("a round of {seconds} s has {rounded} records"));
            return Ok(rounded);
        }
        // A trial of 0.6 s, but not by a leap: very short ones mostly measure their start.
        records = (work.records_per_second * 0.6) as u64;
        records = records.clamp(trial.records * 2, trial.records * 16);
    }
}

/// Bisects between nothing and the unpaced rate for the highest rate whose p99 latency stays under the limit.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "rates are positive and far below 2^52"
)]
fn search(
    session: &Session<'_>,
    args: &ThroughputArgs,
    layout: &ClusterLayout,
    unpaced: &Measured,
) -> crate::Result<Sustainable> {
    let limit_us = args.latency_limit.as_secs_f64() * 1e6;
    let warm_up = args.duration / 2;
    let top = unpaced
        .engine
        .work
        .map_or(0.0, |work| work.records_per_second);
    let (mut sustained, mut too_fast) = (0.0, top * 1.1);
    let mut found = Sustainable {
        rate: 0,
        p99_us: None,
        latency_limit_us: limit_us,
        probes: Vec::new(),
    };
    for number in 1..=PROBES {
        let rate = f64::midpoint(sustained, too_fast) as u64;
        if rate == 0 {
            break;
        }
        let load = Load {
            rate: Some(rate),
            warm_up,
            ..Load::unpaced(records(rate, args.duration + warm_up), args.keys)
        };
        let latency = run_once(session, layout, &load, &session.stop())?
            .figures
            .latency_us;
        let p99_us = latency.map_or(f64::INFINITY, |latency| latency.p99);
        let probe = Probe {
            rate,
            p99_us,
            sustained: p99_us < limit_us,
        };
        if probe.sustained {
            sustained = rate as f64;
            (found.rate, found.p99_us) = (rate, Some(p99_us));
        } else {
            too_fast = rate as f64;
        }
        say(&format!(
            "rate {number} of {PROBES}: {rate} records/s, p99 {p99_us:.0} us"
        ));
        found.probes.push(probe);
    }
    Ok(found)
}

/// Records due within `duration`, one at least.
pub(super) fn records(rate: u64, duration: Duration) -> u64 {
    let records = u128::from(rate) * duration.as_nanos() / 1_000_000_000;
    u64::try_from(records).unwrap_or(u64::MAX).max(1)
}

#[allow(clippy::cast_precision_loss, reason = "the number of a round")]
fn draw(path: &std::path::Path, report: &Report) -> crate::Result<()> {
    let mut lines = Vec::new();
    for row in report.all_rows() {
        let mut line = |name: &str, side: fn(&Round) -> Figures| {
            let works = row
                .measured
                .rounds
                .iter()
                .map(|round| side(round).work.unwrap_or_default());
            let points = works
                .enumerate()
                .map(|(index, work)| (index as f64 + 1.0, work.records_per_second));
            lines.push((name.to_owned(), points.collect()));
        };
        line("ringflow", |round| round.engine);
        line("floor", |round| round.floor);
    }
    let x = Axis {
        name: "round",
        logarithmic: false,
    };
    let y = Axis {
        name: "records per second",
        logarithmic: false,
    };
    plot::lines(path, "Keyed running sum", x, y, &lines)
}
