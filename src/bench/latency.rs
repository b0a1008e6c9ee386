//! `ringflow bench latency`: an open loop through two TaskManager processes.
//!
//! Owns: [`run`]. Invariant: engine and floor see the same rate, warm-up and number of measured records; both count from
//! when a record was due.
//! Left out: closed loops.

use std::fs::File;
use std::io::BufWriter;
use std::time::Duration;

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;

use super::Session;
use super::args::LatencyArgs;
use super::cluster::BenchCluster;
use super::cpus::{Sides, Stop};
use super::figures::{Figures, Measured, Percentiles};
use super::floor::socket::{self, OpenLoop};
use super::job::{self, Load};
use super::plot::{self, Axis};
use super::report::{Report, Row};
use super::result_file::ResultFile;

/// How long round trips are measured beside the paced floor.
const ROUND_TRIPS_NS: u64 = 500_000_000;

/// Measures and reports.
///
/// # Errors
/// There is one CPU only, or what the measurement says.
pub fn run(args: &LatencyArgs) -> crate::Result<()> {
    let load = open_loop(args)?;
    let session = Session::open(&args.common, Sides::Two)?;
    session.cpus.need_two("bench latency")?;
    let _hdr = args.hdr.as_deref().map(ResultFile::promise).transpose()?;
    let (mut rows, mut all) = (Vec::new(), Histogram::new(3)?);
    match &args.sweep {
        None => rows.push(Row::only(measure(&session, args, load, 1, &mut all)?)),
        Some(sweep) => {
            for slots in &sweep.slots_per_core {
                let measured = measure(&session, args, load, *slots, &mut all)?;
                rows.push(Row::of("slots_per_core", (*slots).into(), measured));
            }
        }
    }
    if let Some(path) = &args.hdr {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        super::hgrm::write(&all, 1.0, BufWriter::new(file))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let settings = serde_json::json!({
        "rate": args.rate,
        "duration_seconds": args.duration.as_secs_f64(),
        "warm_up_seconds": args.warm_up.as_secs_f64(),
        "keys": args.keys,
    });
    let settings = session.settings(settings);
    let report = Report::new("latency", &session.cpus, settings, rows);
    if let Some(path) = &args.common.plot {
        draw(path, &report)?;
    }
    session.print(&report)
}

/// Records due before the end of `duration`, at the rate; the first one is due at its start.
fn records_in(rate: u64, duration: Duration) -> crate::Result<u64> {
    let records = (u128::from(rate) * duration.as_nanos()).div_ceil(1_000_000_000);
    u64::try_from(records).context("too many records")
}

fn open_loop(args: &LatencyArgs) -> crate::Result<OpenLoop> {
    let warm_up = records_in(args.rate, args.warm_up)?;
    let total = records_in(args.rate, args.warm_up + args.duration)?;
    ensure!(
        total > warm_up,
        "no record is due within --duration {:?} at --rate {}: raise either",
        args.duration,
        args.rate
    );
    Ok(OpenLoop {
        rate: args.rate,
        warm_up,
        measured: total - warm_up,
    })
}

fn measure(
    session: &Session<'_>,
    args: &LatencyArgs,
    load: OpenLoop,
    slots_per_core: u32,
    all: &mut Histogram<u64>,
) -> crate::Result<Measured> {
    let layout = session.two_task_managers(slots_per_core);
    let engine_load = Load {
        rate: Some(args.rate),
        warm_up: args.warm_up,
        parallelism: slots_per_core,
        ..Load::unpaced(load.warm_up + load.measured, args.keys)
    };
    let engine = |stop: &Stop<'_>| {
        let cluster = BenchCluster::start(&layout, &session.cpus, stop)?;
        let outcome = job::run(&cluster, &engine_load, stop)?;
        all.add(&outcome.latency_us)?;
        Ok(outcome.figures)
    };
    let floor = |stop: &Stop<'_>| {
        let one_way = socket::one_way(&session.cpus, load, stop)?;
        let round_trips = socket::half_round_trip(&session.cpus, ROUND_TRIPS_NS, stop)?;
        Ok(Figures {
            latency_us: Some(Percentiles::of(&one_way, 1_000.0)),
            half_round_trip_us: Some(Percentiles::of(&round_trips, 1_000.0)),
            ..Figures::default()
        })
    };
    let what = match slots_per_core {
        1 => "latency".to_owned(),
        slots => format!("latency, {slots} slots per core"),
    };
    session.alternate(&what, engine, floor)
}

fn draw(path: &std::path::Path, report: &Report) -> crate::Result<()> {
    let mut lines = Vec::new();
    for row in report.all_rows() {
        let of = row
            .of
            .values()
            .map(|slots| format!(", {slots} slots per core"))
            .collect::<String>();
        let measured = &row.measured;
        let sides = [
            ("ringflow", measured.engine.latency_us),
            ("floor", measured.floor.latency_us),
            ("hiccups", Some(measured.hiccup_us)),
        ];
        for (name, times) in sides {
            if let Some(times) = times {
                lines.push((format!("{name}{of}"), plot::quantiles(&times)));
            }
        }
    }
    let x = Axis {
        name: "one record in .. is slower",
        logarithmic: true,
    };
    let y = Axis {
        name: "latency, us",
        logarithmic: true,
    };
    plot::lines(
        path,
        "Latency of an open loop, medians over rounds",
        x,
        y,
        &lines,
    )
}
