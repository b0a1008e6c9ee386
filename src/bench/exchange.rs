//! `ringflow bench exchange`: the three roads between two subtasks.
//!
//! Owns: [`run`]. Invariant: on each road the same job runs, with source and sum at its two ends.
//! Left out: other hosts: what the network between them adds is the network's.

use std::time::Duration;

use super::args::ExchangeArgs;
use super::cluster::{BenchCluster, ClusterLayout};
use super::cpus::{Sides, Stop};
use super::engine_channel;
use super::figures::{Figures, Measured, Percentiles};
use super::floor::{hand_off, socket};
use super::job::{self, Load};
use super::plot::{self, Axis};
use super::report::{Report, Row};
use super::throughput::{calibrate, run_once};
use super::{Session, say};

/// Seconds that a job should take when `--records` does not say.
const JOB_SECONDS: f64 = 2.0;
/// Records per second of the job whose latency is TCP's hand-off: far apart, so that none waits for another.
const LONE_RATE: u64 = 1_000;
/// Bytes of a record's payload.
const RECORD_BYTES: u32 = 24;
const _: () = assert!(size_of::<crate::jobs::reading::Reading>() == RECORD_BYTES as usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Road {
    SameCore,
    CrossCore,
    Tcp,
}

impl Road {
    fn name(self) -> &'static str {
        match self {
            Self::SameCore => "same_core",
            Self::CrossCore => "cross_core",
            Self::Tcp => "tcp",
        }
    }

    fn layout(self, session: &Session<'_>) -> ClusterLayout {
        let [first, second] = session.cpus.data;
        match self {
            Self::SameCore => session.layout(vec![vec![first]], 2),
            Self::CrossCore => session.layout(vec![vec![first, second]], 1),
            Self::Tcp => session.two_task_managers(1),
        }
    }
}

/// Measures and reports.
///
/// # Errors
/// What the measurement says.
pub fn run(args: &ExchangeArgs) -> crate::Result<()> {
    let session = Session::open(&args.common, Sides::Two)?;
    let mut roads = vec![Road::SameCore];
    if session.cpus.distinct() == 2 {
        roads.extend([Road::CrossCore, Road::Tcp]);
    } else {
        say("warning: there is one data CPU only: cross core and TCP are left out, they need two");
    }
    let mut rows = Vec::new();
    for road in roads {
        let measured = measure(&session, args, road)?;
        rows.push(Row::of("road", road.name().into(), measured));
    }
    let settings = serde_json::json!({
        "duration_seconds": args.duration.as_secs_f64(),
        "keys": args.keys,
        "record_bytes": RECORD_BYTES,
    });
    let settings = session.settings(settings);
    let report = Report::new("exchange", &session.cpus, settings, rows);
    if let Some(path) = &args.common.plot {
        draw(path, &report)?;
    }
    session.print(&report)
}

fn measure(session: &Session<'_>, args: &ExchangeArgs, road: Road) -> crate::Result<Measured> {
    let layout = road.layout(session);
    let unpaced = Load::unpaced(0, args.keys);
    let records = match args.records {
        Some(records) => records,
        None => calibrate(session, &layout, unpaced, JOB_SECONDS)?,
    };
    let load = Load { records, ..unpaced };
    let duration_ns = u64::try_from(args.duration.as_nanos()).unwrap_or(u64::MAX);
    let engine = |stop: &Stop<'_>| {
        let job = run_once(session, &layout, &load, stop)?.figures;
        let hand_off = match road {
            Road::SameCore => Percentiles::of(
                &engine_channel::same_core(&session.cpus, duration_ns, stop)?,
                1.0,
            ),
            Road::CrossCore => Percentiles::of(
                &engine_channel::cross_core(&session.cpus, duration_ns, stop)?,
                1.0,
            ),
            Road::Tcp => lone_records(session, args, &layout, stop)?,
        };
        Ok(Figures {
            gib_per_second: job
                .work
                .map(|work| work.records_per_second * f64::from(RECORD_BYTES) / f64::from(1 << 30)),
            hand_off_ns: Some(hand_off),
            ..job
        })
    };
    let floor = |stop: &Stop<'_>| {
        let times = match road {
            Road::SameCore => hand_off::same_core(&session.cpus, duration_ns, stop)?,
            Road::CrossCore => hand_off::cross_core(&session.cpus, duration_ns, stop)?,
            Road::Tcp => socket::half_round_trip(&session.cpus, duration_ns, stop)?,
        };
        Ok(Figures {
            hand_off_ns: Some(Percentiles::of(&times, 1.0)),
            ..Figures::default()
        })
    };
    session.alternate(road.name(), engine, floor)
}

/// Hand-off over TCP: source-to-sink latency of records far apart.
fn lone_records(
    session: &Session<'_>,
    args: &ExchangeArgs,
    layout: &ClusterLayout,
    stop: &Stop<'_>,
) -> crate::Result<Percentiles> {
    let warm_up = Duration::from_millis(500);
    let due = (args.duration + warm_up).as_nanos() * u128::from(LONE_RATE) / 1_000_000_000;
    let load = Load {
        rate: Some(LONE_RATE),
        warm_up,
        ..Load::unpaced(u64::try_from(due).unwrap_or(u64::MAX), args.keys)
    };
    let cluster = BenchCluster::start(layout, &session.cpus, stop)?;
    let outcome = job::run(&cluster, &load, stop)?;
    Ok(Percentiles::of(&outcome.latency_us, 1e-3))
}

fn draw(path: &std::path::Path, report: &Report) -> crate::Result<()> {
    let mut lines = Vec::new();
    for row in report.all_rows() {
        let road = row
            .of
            .values()
            .filter_map(|road| road.as_str())
            .collect::<String>()
            .replace('_', " ");
        for (name, side) in [
            ("ringflow", row.measured.engine),
            ("floor", row.measured.floor),
        ] {
            if let Some(times) = side.hand_off_ns {
                lines.push((format!("{road}, {name}"), plot::quantiles(&times)));
            }
        }
    }
    let x = Axis {
        name: "one hand-off in .. is slower",
        logarithmic: true,
    };
    let y = Axis {
        name: "hand-off, ns",
        logarithmic: true,
    };
    plot::lines(
        path,
        "Hand-off between subtasks, medians over rounds",
        x,
        y,
        &lines,
    )
}
