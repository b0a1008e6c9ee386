//! `ringflow bench nexmark`: the queries, one after the other, beside the generator alone.
//!
//! Owns: [`run`], what its report looks like. Invariant: engine and floor make the same events; a query's latency is measured
//! at half of the rate that the same cluster has just reached.
//! Left out: which queries there are ([`Query`] says), Kafka, and runs of other engines: Flink's figures are constants.

use std::io::Write;
use std::time::Duration;

use anyhow::ensure;
use clap::ValueEnum;
use ringflow_dataplane::runtime::placement::CpuList;
use serde::Serialize;

use super::Session;
use super::args::{NexmarkBenchArgs, Queries};
use super::cluster::{BenchCluster, ClusterLayout};
use super::cpus::{Cpus, Sides, Stop};
use super::figures::{Figures, Measured, Percentiles, Work};
use super::floor;
use super::job::{self, Finished};
use super::plot::{self, Axis};
use super::report::{plain, time, whole};
use crate::cli::args::OutputFormat;
use crate::cli::progress::grouped;
use crate::jobs::BuiltInJob;
use crate::jobs::nexmark::{NexmarkArgs, Query};
use crate::nexmark::NexmarkConfig;

/// Thousand events per CPU-second of Apache Flink 2.2, of each query that this project has measured there: the same queries
/// over the same kind of events, heap state, two cores of one machine.
const FLINK_THOUSANDS: [(&str, u32); 12] = [
    ("q0", 225),
    ("q1", 208),
    ("q2", 232),
    ("q3", 147),
    ("q5", 73),
    ("q7", 37),
    ("q8", 135),
    ("q9", 27),
    ("q12", 114),
    ("q17", 106),
    ("q18", 57),
    ("q20", 48),
];

/// Measures and reports.
///
/// # Errors
/// Flags that contradict each other, or what the measurement says.
pub fn run(args: &NexmarkBenchArgs) -> crate::Result<()> {
    let slots = args.slots.unwrap_or_else(|| {
        let cores = args.common.cores.as_ref().map_or(2, |cores| cores.0.len());
        u32::try_from(cores)
            .unwrap_or(u32::MAX)
            .max(args.task_managers)
    });
    ensure!(
        args.task_managers <= slots,
        "--task-managers {} with --slots {slots}: each TaskManager has one slot at least; raise --slots",
        args.task_managers
    );
    let session = Session::open(&args.common, Sides::Many(slots as usize))?;
    let bench = NexmarkBench {
        layout: ClusterLayout {
            state: args.state.clone(),
            ..layout(&session, slots, args.task_managers)
        },
        session,
        args,
        slots,
    };
    let mut rows = Vec::new();
    for query in queries(&args.queries) {
        rows.push(bench.measure(query)?);
    }
    if let Some(path) = &args.common.plot {
        draw(path, &rows)?;
    }
    let mut out = std::io::stdout().lock();
    match args.common.output {
        OutputFormat::Json => {
            serde_json::to_writer(&mut out, &rows)?;
            writeln!(out)?;
        }
        OutputFormat::Text => write_text(&mut out, &bench.session.cpus, &bench.settings(), &rows)?,
    }
    Ok(())
}

/// Each of those asked for once, in the order of the queries.
fn queries(asked: &[Queries]) -> Vec<Query> {
    let wanted = |query: &Query| {
        asked
            .iter()
            .any(|asked| *asked == Queries::All || *asked == Queries::One(*query))
    };
    Query::value_variants()
        .iter()
        .copied()
        .filter(wanted)
        .collect()
}

/// TaskManagers that have `slots` between them, on all data CPUs; a CPU may serve several TaskManagers where there are too
/// few.
fn layout(session: &Session<'_>, slots: u32, task_managers: u32) -> ClusterLayout {
    let cpus = &session.cpus.engine;
    let task_managers = task_managers as usize;
    let cores = |index: usize| match cpus.len() < task_managers {
        true => vec![cpus[index % cpus.len()]],
        false => cpus
            .iter()
            .copied()
            .skip(index)
            .step_by(task_managers)
            .collect(),
    };
    let task_managers: Vec<Vec<usize>> = (0..task_managers).map(cores).collect();
    let cores: usize = task_managers.iter().map(Vec::len).sum();
    let cores = u32::try_from(cores).unwrap_or(u32::MAX);
    session.layout(task_managers, slots.div_ceil(cores))
}

/// One run of the instrument.
struct NexmarkBench<'a> {
    session: Session<'a>,
    args: &'a NexmarkBenchArgs,
    layout: ClusterLayout,
    slots: u32,
}

impl NexmarkBench<'_> {
    fn settings(&self) -> serde_json::Value {
        self.session.settings(serde_json::json!({
            "events": self.args.events,
            "event_rate": self.args.event_rate,
            "latency_seconds": self.args.seconds,
            "warm_up_seconds": self.args.warm_up.as_secs_f64(),
            "slots": self.slots,
            "task_managers": self.args.task_managers,
            "state_backend": self.args.state.state_backend.to_possible_value().map(|name| name.get_name().to_owned()),
            "memory_bytes": self.args.state.memory,
        }))
    }

    fn measure(&self, query: Query) -> crate::Result<Row> {
        let engine = |stop: &Stop<'_>| self.engine(query, stop);
        let config = NexmarkConfig {
            events_per_second: self.args.event_rate,
            ..NexmarkConfig::default()
        };
        let floor = |stop: &Stop<'_>| {
            let work = floor::events::generate(&self.session.cpus, config, self.args.events, stop)?;
            Ok(Figures {
                work: Some(work),
                ..Figures::default()
            })
        };
        let measured = self.session.alternate(&query.to_string(), engine, floor)?;
        Ok(Row::new(query, self.settings(), &measured))
    }

    /// The query as fast as it goes, then paced, on a cluster of its own.
    #[allow(
        clippy::cast_precision_loss,
        reason = "bytes of state are far below 2^52"
    )]
    fn engine(&self, query: Query, stop: &Stop<'_>) -> crate::Result<Figures> {
        let cluster = BenchCluster::start(&self.layout, &self.session.cpus, stop)?;
        let unpaced = NexmarkArgs {
            events: self.args.events,
            event_rate: self.args.event_rate,
            ..NexmarkArgs::of(query)
        };
        let Finished { summary, .. } = self.execute(&cluster, unpaced.clone(), stop)?;
        let mut figures = Figures {
            work: Some(Work::new(
                summary.records,
                summary.seconds,
                summary.cpu_seconds,
            )),
            state_bytes: Some(summary.state_bytes as f64),
            ..Figures::default()
        };
        if self.args.seconds > 0 {
            let rate = half(summary.records_per_second);
            let duration = self.args.warm_up + Duration::from_secs(self.args.seconds.into());
            let paced = NexmarkArgs {
                events: super::throughput::records(rate, duration),
                rate: Some(rate),
                warm_up: self.args.warm_up,
                ..unpaced
            };
            let finished = self.execute(&cluster, paced, stop)?;
            let latency_us = finished.latency_us;
            figures.latency_us =
                (!latency_us.is_empty()).then(|| Percentiles::of(&latency_us, 1.0));
            figures.latency_rate = Some(rate as f64);
        }
        Ok(figures)
    }

    fn execute(
        &self,
        cluster: &BenchCluster,
        job: NexmarkArgs,
        stop: &Stop<'_>,
    ) -> crate::Result<Finished> {
        let events = job.events;
        let finished = job::run_job(cluster, &BuiltInJob::Nexmark(job), self.slots, stop)?;
        let read = finished.summary.records;
        ensure!(
            read == events,
            "the measured job has read {read} of {events} events"
        );
        Ok(finished)
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are positive and far below 2^63"
)]
fn half(rate: f64) -> u64 {
    (rate / 2.0).max(1.0) as u64
}

/// Events, and what they cost.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Side {
    events: u64,
    seconds: f64,
    events_per_second: f64,
    cpu_seconds: f64,
    events_per_cpu_second: f64,
}

impl From<Option<Work>> for Side {
    fn from(work: Option<Work>) -> Self {
        let work = work.unwrap_or_default();
        Self {
            events: work.records,
            seconds: work.seconds,
            events_per_second: work.records_per_second,
            cpu_seconds: work.cpu_seconds,
            events_per_cpu_second: work.records_per_cpu_second,
        }
    }
}

/// The figures of one round, or medians of all.
#[derive(Debug, Clone, Serialize)]
struct QueryFigures {
    #[serde(flatten)]
    engine: Side,
    /// `null`: not measured, or nothing came out after the warm-up.
    latency_us: Option<Percentiles>,
    /// Rate of the run in which latency was measured.
    latency_events_per_second: Option<f64>,
    state_bytes: u64,
    /// The generator alone.
    floor: Side,
    hiccup_us: Percentiles,
}

impl QueryFigures {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of bytes"
    )]
    fn new(engine: &Figures, floor: &Figures, hiccup_us: Percentiles) -> Self {
        Self {
            engine: engine.work.into(),
            latency_us: engine.latency_us,
            latency_events_per_second: engine.latency_rate,
            state_bytes: engine.state_bytes.unwrap_or_default() as u64,
            floor: floor.work.into(),
            hiccup_us,
        }
    }
}

/// Engine divided by another.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Ratio {
    events_per_cpu_second: f64,
}

/// What Flink did.
#[derive(Debug, Clone, Copy, Serialize)]
struct Flink {
    version: &'static str,
    events_per_cpu_second: f64,
    /// ringflow divided by that.
    ratio: f64,
}

/// One query.
#[derive(Debug, Clone, Serialize)]
struct Row {
    query: String,
    version: &'static str,
    settings: serde_json::Value,
    #[serde(flatten)]
    median: QueryFigures,
    ratio_to_floor: Ratio,
    /// `null`: not known for this query.
    flink: Option<Flink>,
    rounds: Vec<QueryFigures>,
}

impl Row {
    fn new(query: Query, settings: serde_json::Value, measured: &Measured) -> Self {
        let rounds = measured.rounds.iter();
        let rounds =
            rounds.map(|round| QueryFigures::new(&round.engine, &round.floor, round.hiccup_us));
        let median = QueryFigures::new(&measured.engine, &measured.floor, measured.hiccup_us);
        let query = query.to_string();
        let flink = FLINK_THOUSANDS.iter().find(|(name, _)| *name == query);
        let flink = flink.map(|(_, thousands)| {
            let events_per_cpu_second = f64::from(*thousands) * 1e3;
            Flink {
                version: "2.2",
                events_per_cpu_second,
                ratio: median.engine.events_per_cpu_second / events_per_cpu_second,
            }
        });
        Self {
            query,
            version: crate::VERSION,
            settings,
            ratio_to_floor: Ratio {
                events_per_cpu_second: measured
                    .ratio_to_floor
                    .records_per_cpu_second
                    .unwrap_or_default(),
            },
            flink,
            rounds: rounds.collect(),
            median,
        }
    }
}

fn write_text(
    out: &mut impl Write,
    cpus: &Cpus,
    settings: &serde_json::Value,
    rows: &[Row],
) -> std::io::Result<()> {
    write!(
        out,
        "bench nexmark: data CPUs {}",
        CpuList(cpus.engine.clone())
    )?;
    if let serde_json::Value::Object(settings) = settings {
        for (name, value) in settings {
            write!(out, ", {} {}", name.replace('_', " "), plain(value))?;
        }
    }
    writeln!(out)?;
    writeln!(
        out,
        "medians over rounds; floor: the generator alone; latency at half of the rate; Flink 2.2 as this project measured it on \
         two cores\n"
    )?;
    writeln!(
        out,
        "{:5} {:>12} {:>12} {:>12} {:>8} {:>12} {:>8} {:>9} {:>9} {:>9} {:>10}",
        "query",
        "events/s",
        "per CPU-s",
        "floor",
        "/ floor",
        "Flink",
        "/ Flink",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "state kB"
    )?;
    for row in rows {
        let figures = &row.median;
        let flink = row.flink.map_or_else(
            || ["-".to_owned(), "-".to_owned()],
            |flink| {
                [
                    whole(flink.events_per_cpu_second),
                    format!("{:.1}", flink.ratio),
                ]
            },
        );
        let latency = |quantile: fn(&Percentiles) -> f64, samples: u64| {
            // A quantile that fewer samples than its own rarity stand behind is only the maximum in disguise.
            let known = figures.latency_us.filter(|times| times.count >= samples);
            known.map_or_else(|| "-".to_owned(), |times| time(quantile(&times)))
        };
        writeln!(
            out,
            "{:5} {:>12} {:>12} {:>12} {:>8.3} {:>12} {:>8} {:>9} {:>9} {:>9} {:>10}",
            row.query,
            whole(figures.engine.events_per_second),
            whole(figures.engine.events_per_cpu_second),
            whole(figures.floor.events_per_cpu_second),
            row.ratio_to_floor.events_per_cpu_second,
            flink[0],
            flink[1],
            latency(|times| times.p50, 1),
            latency(|times| times.p99, 100),
            latency(|times| times.p99_9, 1_000),
            grouped(figures.state_bytes / 1_000),
        )?;
    }
    Ok(())
}

fn draw(path: &std::path::Path, rows: &[Row]) -> crate::Result<()> {
    let line = |name: &str, value: fn(&Row) -> f64| {
        let points = rows.iter().filter_map(|row| {
            let number: u32 = row.query.strip_prefix('q')?.parse().ok()?;
            Some((f64::from(number), value(row)))
        });
        (name.to_owned(), points.collect::<Vec<_>>())
    };
    let lines = [
        line("ringflow", |row| row.median.engine.events_per_cpu_second),
        line("floor", |row| row.median.floor.events_per_cpu_second),
    ];
    let x = Axis {
        name: "query",
        logarithmic: false,
    };
    let y = Axis {
        name: "events per CPU-second",
        logarithmic: false,
    };
    plot::lines(path, "Nexmark", x, y, &lines)
}

#[cfg(test)]
mod tests {
    use super::super::figures::Round;
    use super::*;

    fn measured(records_per_second: u64) -> Measured {
        let side = |records: u64| Figures {
            work: Some(Work::new(records, 1.0, 2.0)),
            state_bytes: Some(12_345.0),
            latency_us: Some(Percentiles {
                p50: 7.0,
                count: 500,
                ..Percentiles::default()
            }),
            ..Figures::default()
        };
        Measured::from(vec![Round {
            engine: side(records_per_second),
            floor: side(4 * records_per_second),
            hiccup_us: Percentiles::default(),
        }])
    }

    #[test]
    fn queries_are_those_of_the_enum_each_once() {
        let all = queries(&[Queries::One(Query::Q5), Queries::All]);
        assert_eq!(all, Query::value_variants());
        let some = queries(&["q5", "q0", "Q5"].map(|text| text.parse().unwrap()));
        assert_eq!(some, [Query::Q0, Query::Q5]);
        let error = "q99".parse::<Queries>().unwrap_err();
        assert!(
            error.contains("q0, q1") && error.contains("`all`"),
            "{error}"
        );
    }

    #[test]
    fn a_line_has_a_query_s_figures_and_flink_s_where_known() {
        let rows = [Query::Q0, Query::Q21]
            .map(|query| Row::new(query, serde_json::json!({}), &measured(900_000)));
        let cpus = Cpus::decide(None, None, Sides::Many(2)).unwrap();
        let mut text = Vec::new();
        write_text(&mut text, &cpus, &serde_json::json!({}), &rows).unwrap();
        let text = String::from_utf8(text).unwrap();
        let line = |query: &str| {
            let line = text.lines().find(|line| line.starts_with(query)).unwrap();
            line.split("  ")
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .collect::<Vec<_>>()
        };
        let expected = [
            "q0",
            "900 000",
            "450 000",
            "1 800 000",
            "0.250",
            "225 000",
            "2.0",
            "7.00",
            "0.00",
            "-",
            "12",
        ];
        assert_eq!(line("q0 "), expected);
        assert_eq!(line("q21 ")[5..7], ["-", "-"]);
        let json = serde_json::to_value(&rows).unwrap();
        assert_eq!(json[0]["events_per_cpu_second"], 450_000.0);
        assert_eq!(json[0]["floor"]["events_per_second"], 3_600_000.0);
        assert_eq!(json[0]["flink"]["ratio"], 2.0);
        assert_eq!(json[1]["flink"], serde_json::Value::Null);
    }
}
