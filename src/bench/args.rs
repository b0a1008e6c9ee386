//! Flags of `ringflow bench`.
//!
//! Owns: what users type, and its checks. Units are in the values (`10s`, `100ms`) or in the help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use ringflow_dataplane::runtime::core::SpinPolicy;
use ringflow_dataplane::runtime::placement::CpuList;

use crate::cli::args::{OutputFormat, ReceiveMode, parse_bytes, parse_spin};
use crate::cli::memory::StateArgs;
use crate::duration;
use crate::jobs::nexmark::Query;

/// `ringflow bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub bench: Bench,
}

/// The instruments.
#[derive(Debug, Clone, Subcommand)]
pub enum Bench {
    /// Measure the roads between subtasks: same core, another core, another process
    ///
    /// For each road: the time of one hand-off, and records per second, payload and CPU time of a keyed job whose source
    /// and sum sit at its two ends. Same core and cross core hand-offs pass a pool buffer with one record through the
    /// engine's own channels while both sides spin, and are half a round trip; over TCP it is the source-to-sink latency
    /// of a job of 1000 records per second, with the histogram's resolution of 1 us. The floors: one word through two
    /// atomics (on the same core: a store and a load), and for TCP half a round trip of 64 bytes on a raw socket.
    Exchange(ExchangeArgs),
    /// Measure latency under an open loop, through two TaskManager processes
    ///
    /// A keyed job reads records that are due at a fixed rate, whatever happened before: a record that could not leave in
    /// time is late, and its lateness counts. Latency goes from when a record was due to when it reached the sink. The
    /// floor sends one 64-byte message per record at the same rate over a raw TCP socket between two threads that spin on
    /// the same two CPUs.
    Latency(LatencyArgs),
    /// Measure queries of the Nexmark benchmark: events per second and per CPU-second, latency, size of state
    ///
    /// In each round a query runs twice on a cluster of TaskManager processes that make the events themselves: as fast as it
    /// goes, for throughput and state; then paced at half of the rate just found, for latency from when an event was due
    /// until what became of it reached the sink (of a query that updates its results, each change counts). CPU time is that
    /// of all threads of the TaskManager processes; it and the seconds count from when all subtasks run. The floor is the
    /// generator alone: the same events made in one loop on one CPU.
    ///
    /// Beside each query stands what Apache Flink 2.2 did in the ringflow project's own measurements on two cores of one
    /// machine, in events per CPU-second: an order of magnitude, since your machine is another.
    Nexmark(NexmarkBenchArgs),
    /// Measure records per second and per CPU-second
    ///
    /// A keyed running sum over records of three u64 (24 bytes), as fast as it goes, through two TaskManager processes of
    /// one slot each. The floor is a bare program that does the same work: the same records from the same generator, 32
    /// KiB writes on a blocking loopback socket, one hash table, on the same two CPUs.
    Throughput(ThroughputArgs),
}

/// Flags of every instrument.
#[derive(Debug, Clone, Args)]
pub struct CommonArgs {
    /// Rounds: each measures hiccups, floor and engine one after the other; medians over rounds are reported
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// How results are written; JSON has every round, under the names of the summary of `ringflow run`
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    pub output: OutputFormat,
    /// Also draw the figures into this SVG file
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// CPUs for data, one per side [default: the last two that this process may use]
    #[arg(long, value_name = "CPUS", help_heading = "Cores")]
    pub cores: Option<CpuList>,
    /// CPUs for the JobManager, the client and everything that may block [default: those without data]
    #[arg(long, value_name = "CPUS", help_heading = "Cores")]
    pub housekeeping_cores: Option<CpuList>,
    /// How long an idle core looks for work before it sleeps: always, never, a duration such as 50us, or auto (twice what
    /// waking up takes, which is measured at the start)
    #[arg(long, default_value = "auto", value_parser = parse_spin, help_heading = "Cores")]
    pub spin: SpinPolicy,
    /// Memory for exchange buffers of each TaskManager, such as 256MiB [default: as of `ringflow taskmanager`]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, help_heading = "Cores")]
    pub network_memory: Option<usize>,
    /// How the TaskManagers receive, as of `ringflow taskmanager`
    #[arg(long, value_enum, default_value = "auto", help_heading = "Cores")]
    pub receive: ReceiveMode,
    /// TaskManagers send to other hosts without copying; over the loopback interface, which copies anyway, it changes nothing
    #[arg(long, help_heading = "Cores")]
    pub zero_copy_send: bool,
}

/// `ringflow bench exchange`.
#[derive(Debug, Clone, Args)]
pub struct ExchangeArgs {
    /// Flags of every instrument.
    #[command(flatten)]
    pub common: CommonArgs,
    /// How long hand-offs are measured in each round, on each road
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Records of each job [default: enough for 2 s]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub records: Option<u64>,
    /// Different keys
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    pub keys: u64,
}

/// `ringflow bench latency`.
#[derive(Debug, Clone, Args)]
pub struct LatencyArgs {
    /// Flags of every instrument.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Records per second
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub rate: u64,
    /// How long is measured in each round
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,
    /// How long records flow before they are measured
    #[arg(long, default_value = "2s", value_parser = parse_duration_or_zero)]
    pub warm_up: Duration,
    /// Different keys
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    pub keys: u64,
    /// Write the percentile distribution of all rounds in microseconds, as HdrHistogram's plotting tools read it
    #[arg(long, value_name = "FILE.hgrm", conflicts_with = "sweep")]
    pub hdr: Option<PathBuf>,
    /// Repeat the measurement for each value: only slots-per-core=N,N,.. for now. The job fills all slots: N sources and
    /// N sums share the two data cores, and the rate stays that of the whole job
    #[arg(long, value_name = "SETTING=N,N,..")]
    pub sweep: Option<Sweep>,
}

/// Which queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queries {
    /// All there are.
    All,
    /// One.
    One(Query),
}

impl std::str::FromStr for Queries {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("all") {
            return Ok(Self::All);
        }
        Query::from_str(text, true).map(Self::One).map_err(|_| {
            let names: Vec<String> = Query::value_variants()
                .iter()
                .map(ToString::to_string)
                .collect();
            format!("no such query; there are {}, and `all`", names.join(", "))
        })
    }
}

/// `ringflow bench nexmark`.
#[derive(Debug, Clone, Args)]
pub struct NexmarkBenchArgs {
    /// Queries to measure, such as q0 q5, or all
    #[arg(value_name = "QUERY", default_value = "all")]
    pub queries: Vec<Queries>,
    /// Flags of every instrument.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Events of each run for throughput
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub events: u64,
    /// Events per second of event time
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub event_rate: u64,
    /// Seconds of each run for latency; 0 measures none
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(..=3600))]
    pub seconds: u32,
    /// How long events flow in it before they are measured
    #[arg(long, default_value = "1s", value_parser = parse_duration_or_zero)]
    pub warm_up: Duration,
    /// Slots that the queries use, spread over the TaskManagers and their data CPUs [default: one per CPU of --cores, or 2]
    #[arg(short = 'p', long = "slots", visible_alias = "parallelism", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub slots: Option<u32>,
    /// TaskManager processes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub task_managers: u32,
    /// Where their state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `ringflow bench throughput`.
#[derive(Debug, Clone, Args)]
pub struct ThroughputArgs {
    /// Flags of every instrument.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Records of each round [default: enough for 5 s]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub records: Option<u64>,
    /// Different keys
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    pub keys: u64,
    /// Instead: source, map and sink chained in one slot, against a loop written by hand over the same records, on one CPU:
    /// records per second are those of one core
    #[arg(long)]
    pub chained: bool,
    /// Also search for the highest rate at which p99 latency stays under --latency-limit
    #[arg(long, conflicts_with = "chained")]
    pub sustainable: bool,
    /// What p99 latency must stay under to call a rate sustainable
    #[arg(long, default_value = "100ms", value_parser = parse_duration, requires = "sustainable")]
    pub latency_limit: Duration,
    /// How long each rate of the search is tried, after a warm-up of half as long
    #[arg(long, default_value = "4s", value_parser = parse_duration, requires = "sustainable")]
    pub duration: Duration,
}

/// Values of one setting to measure at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// Slots on each data core.
    pub slots_per_core: Vec<u32>,
}

impl std::str::FromStr for Sweep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let how = "write it as slots-per-core=1,2,4, with values from 1 to 64";
        let Some(("slots-per-core", values)) = text.split_once('=') else {
            return Err(format!("only slots-per-core can be swept: {how}"));
        };
        let value = |text: &str| {
            text.trim()
                .parse()
                .ok()
                .filter(|value| (1..=64).contains(value))
        };
        let slots_per_core: Option<Vec<u32>> = values.split(',').map(value).collect();
        slots_per_core
            .map(|slots_per_core| Self { slots_per_core })
            .ok_or_else(|| how.to_owned())
    }
}

/// A duration of at most an hour.
fn parse_duration_or_zero(text: &str) -> Result<Duration, String> {
    let duration = duration::parse(text)?;
    let short_enough = duration <= Duration::from_secs(3600);
    short_enough
        .then_some(duration)
        .ok_or_else(|| "an hour (3600s) is the most".to_owned())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    parse_duration_or_zero(text).and_then(|duration| {
        let long_enough = duration >= Duration::from_millis(1);
        long_enough
            .then_some(duration)
            .ok_or_else(|| "1ms is the least".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sweeps_parse() {
        assert_eq!(parse_duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration_or_zero("0s"), Ok(Duration::ZERO));
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "0s",
            "10us",
            "2h",
            "99999999999999999999s",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(
            "slots-per-core=1,2".parse(),
            Ok(Sweep {
                slots_per_core: vec![1, 2]
            })
        );
        for bad in [
            "",
            "slots-per-core",
            "slots-per-core=",
            "slots-per-core=0",
            "slots-per-core=1,x",
            "keys=3",
        ] {
            assert!(bad.parse::<Sweep>().is_err(), "{bad}");
        }
    }
}
