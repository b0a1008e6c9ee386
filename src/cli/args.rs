//! Flags of every subcommand.
//!
//! Owns: what users type. Names follow Flink's CLI where the meaning is the same (`-p`, `-m`), units are in names or help.

use std::net::IpAddr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use ringflow_dataplane::runtime::core::SpinPolicy;
use ringflow_dataplane::runtime::placement::{CpuList, PlacementRequest};
use ringflow_schemas::network;

use crate::api::graph::buffer_timeout_ns;
use crate::cli::memory::StateArgs;
use crate::duration;
use crate::jobs::BuiltInJob;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Text,
    /// One JSON value.
    Json,
}

/// How data cores receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReceiveMode {
    /// One operation for ever, into a ring of pooled buffers, where the kernel has that.
    Auto,
    /// One operation at a time.
    Single,
}

/// Which CPUs do what, and when they sleep.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cores and slots")]
pub struct CoreArgs {
    /// CPUs for data, each pinned to one executor, as 2-15 or 2,4,6 [default: all but the first]
    #[arg(long, global = true, value_name = "CPUS")]
    pub cores: Option<CpuList>,
    /// CPUs for control, librdkafka and everything that may block [default: those not in --cores]
    #[arg(long, global = true, value_name = "CPUS")]
    pub housekeeping_cores: Option<CpuList>,
    /// Slots on each data core
    #[arg(long, global = true, value_name = "N")]
    pub slots_per_core: Option<u32>,
    /// Slots in all, on as many data cores as there are
    #[arg(long, global = true, value_name = "N")]
    pub slots: Option<u32>,
    /// How long an idle core looks for work before it sleeps: always, never, a duration such as 50us, or auto (four times
    /// what waking up takes, which is measured at the start)
    #[arg(long, global = true, default_value = "auto", value_parser = parse_spin)]
    pub spin: SpinPolicy,
    /// Memory for exchange buffers of the whole process, such as 256MiB; at least 1 MiB per data core
    /// [default: 256MiB, or 16MiB per data core where that is more]
    #[arg(long, global = true, value_name = "BYTES", value_parser = parse_bytes)]
    pub network_memory: Option<usize>,
    /// How cores receive: auto takes the best that the kernel has; single is the fallback of kernels before 6.0
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub receive: ReceiveMode,
    /// Send to other hosts without copying; worth it for fast networks and large records only
    #[arg(long, global = true)]
    pub zero_copy_send: bool,
    /// State and memory.
    #[command(flatten)]
    pub state: StateArgs,
}

impl CoreArgs {
    /// As the data plane wants it.
    #[must_use]
    pub fn request(&self) -> PlacementRequest {
        PlacementRequest {
            cores: self.cores.clone(),
            housekeeping_cores: self.housekeeping_cores.clone(),
            slots_per_core: self.slots_per_core,
            slots: self.slots,
        }
    }
}

/// Memory for the exchange buffers of `cores` data cores, in bytes.
///
/// Unless told otherwise, 256 MiB or 16 MiB per core. An all-to-all edge with a subtask on each of n cores takes at least
/// 4 n buffers of every core: 16 MiB, less the receive buffers, are 480, so that jobs with one such edge run on 120
/// cores and with two on 60 before anyone has to think of this flag.
///
/// # Errors
/// What was asked for is too little; says how much is enough.
pub(crate) fn network_memory_bytes(asked: Option<usize>, cores: usize) -> crate::Result<usize> {
    let bytes = asked.unwrap_or_else(|| (256 << 20).max(cores.saturating_mul(16 << 20)));
    let cores = u32::try_from(cores).unwrap_or(u32::MAX);
    network::check_network_memory(bytes as u64, cores).map_err(anyhow::Error::msg)?;
    Ok(bytes)
}

/// `ringflow jobmanager`.
#[derive(Debug, Clone, Args)]
pub struct JobManagerArgs {
    /// Address to listen on; 0.0.0.0 lets other hosts join
    #[arg(long, default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// Port for TaskManagers; 0: any free one
    #[arg(long, default_value_t = 6123)]
    pub rpc_port: u16,
    /// Port for REST clients; 0: any free one
    #[arg(long, default_value_t = 8081)]
    pub rest_port: u16,
    /// Name of the cluster
    #[arg(long, default_value = "ringflow")]
    pub cluster_id: String,
    /// How often TaskManagers send heartbeats, in milliseconds
    #[arg(long, default_value_t = 1_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub heartbeat_interval_ms: u64,
    /// A TaskManager silent for this long is lost, in milliseconds
    #[arg(long, default_value_t = 5_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(50..=600_000))]
    pub heartbeat_timeout_ms: u64,
    /// A job that waits longer for slots fails, in seconds
    #[arg(long, default_value_t = 300, value_name = "S")]
    pub slot_request_timeout_s: u64,
}

/// `ringflow taskmanager`.
#[derive(Debug, Clone, Args)]
pub struct TaskManagerArgs {
    /// The JobManager's RPC endpoint
    #[arg(
        short = 'm',
        long = "jobmanager",
        default_value = "127.0.0.1:6123",
        value_name = "HOST:PORT"
    )]
    pub job_manager: String,
    /// Name of this TaskManager, unique in the cluster [default: made of host and process id]
    #[arg(long)]
    pub id: Option<String>,
    /// Address that data cores listen on; each core has a port of its own
    #[arg(long, default_value = "127.0.0.1")]
    pub data_bind: IpAddr,
    /// Host name or address at which other TaskManagers reach the data cores [default: --data-bind]
    #[arg(long)]
    pub data_host: Option<String>,
    /// Ports of the data cores, in order [default: any free ones]
    #[arg(long, value_delimiter = ',')]
    pub data_ports: Vec<u16>,
    /// Refuse to start when a promise about placement does not hold
    #[arg(long)]
    pub strict: bool,
    /// Cores and slots.
    #[command(flatten)]
    pub cores: CoreArgs,
}

/// Which JobManager a client talks to.
#[derive(Debug, Clone, Args)]
pub struct ClientArgs {
    /// The JobManager's REST endpoint
    #[arg(
        short = 'm',
        long = "jobmanager",
        default_value = "127.0.0.1:8081",
        value_name = "HOST:PORT"
    )]
    pub job_manager: String,
}

/// `ringflow run`.
#[derive(Debug, Clone, Args)]
#[command(
    subcommand_value_name = "JOB",
    subcommand_help_heading = "Built-in jobs"
)]
pub struct RunArgs {
    /// REST endpoint of the cluster to run on; without it, JobManager and TaskManager run in this process
    #[arg(
        short = 'm',
        long = "jobmanager",
        value_name = "HOST:PORT",
        global = true
    )]
    pub job_manager: Option<String>,
    /// Default parallelism of the job [default: 1; with Kafka, as many as divide the partitions evenly]
    #[arg(short = 'p', long, value_parser = clap::value_parser!(u32).range(1..=32_768), global = true)]
    pub parallelism: Option<u32>,
    /// Keep a partly filled output buffer back for more records, for so long after its first, such as 10ms: fewer, fuller
    /// buffers for latency; 0: send it as soon as its subtask has run out of input
    #[arg(long, default_value = "0", value_name = "DURATION", value_parser = parse_buffer_timeout, global = true)]
    pub buffer_timeout: Duration,
    /// How the summary is written
    #[arg(short = 'o', long, value_enum, default_value = "text", global = true)]
    pub output: OutputFormat,
    /// Print the JobID and do not wait for the end (needs --jobmanager)
    #[arg(short = 'd', long, global = true)]
    pub detached: bool,
    /// Cores of the local environment.
    #[command(flatten)]
    pub cores: CoreArgs,
    /// The job.
    #[command(subcommand)]
    pub job: BuiltInJob,
}

/// `ringflow list`.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// Cluster.
    #[command(flatten)]
    pub client: ClientArgs,
    /// Only jobs that run
    #[arg(short = 'r', long, conflicts_with = "all")]
    pub running: bool,
    /// Also jobs that have ended (the default)
    #[arg(short = 'a', long)]
    pub all: bool,
    /// How the list is written
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    pub output: OutputFormat,
}

/// `ringflow cancel`.
#[derive(Debug, Clone, Args)]
pub struct CancelArgs {
    /// Cluster.
    #[command(flatten)]
    pub client: ClientArgs,
    /// The job's id
    pub job_id: String,
}

/// `ringflow stop`.
#[derive(Debug, Clone, Args)]
pub struct StopArgs {
    /// Cluster.
    #[command(flatten)]
    pub client: ClientArgs,
    /// End event time too, so that all windows and event-time timers fire
    #[arg(short = 'd', long)]
    pub drain: bool,
    /// Do not wait for the end of the job
    #[arg(long)]
    pub detached: bool,
    /// The job's id
    pub job_id: String,
}

/// `ringflow info`.
#[derive(Debug, Clone, Args)]
#[command(
    subcommand_value_name = "JOB",
    subcommand_help_heading = "Built-in jobs"
)]
pub struct InfoArgs {
    /// Default parallelism of the job
    #[arg(short = 'p', long, value_parser = clap::value_parser!(u32).range(1..=32_768), global = true)]
    pub parallelism: Option<u32>,
    /// Slots that a source may count on when it decides its own parallelism
    #[arg(long, global = true)]
    pub slots: Option<u32>,
    /// The job.
    #[command(subcommand)]
    pub job: BuiltInJob,
}

/// `ringflow generate`.
#[derive(Debug, Clone, Args)]
pub struct GenerateArgs {
    /// What to generate.
    #[command(subcommand)]
    pub what: Generate,
}

/// Benchmarks with events of their own.
#[derive(Debug, Clone, Subcommand)]
pub enum Generate {
    /// The auction site's persons, auctions and bids
    Nexmark(GenerateNexmarkArgs),
}

/// `ringflow generate nexmark`.
#[derive(Debug, Clone, Args)]
pub struct GenerateNexmarkArgs {
    /// Number of events
    #[arg(long, default_value_t = 1_000_000)]
    pub events: u64,
    /// Events per second of event time
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub event_rate: u64,
    /// Seed: the same seed makes the same events
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Write events out of order: one may come up to so many milliseconds of event time late; 0 keeps the order
    #[arg(long, default_value_t = 0)]
    pub shuffle_ms: u64,
    /// File for one JSON object per line with all fields; `-` is standard output (the default without --topic)
    #[arg(long, conflicts_with = "topic", value_name = "FILE")]
    pub file: Option<String>,
    /// Kafka topic for events as FlatBuffers; event n goes to partition n modulo their number
    #[arg(long, requires = "bootstrap_servers")]
    pub topic: Option<String>,
    /// Kafka brokers
    #[arg(long, value_name = "HOST:PORT,..", requires = "topic")]
    pub bootstrap_servers: Option<String>,
    /// Create the topic with this many partitions if it is missing
    #[arg(long, value_name = "PARTITIONS", requires = "topic", value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub create_topic: Option<i32>,
    /// Events per second of wall time; without it, as fast as possible
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
}

pub(crate) fn parse_spin(text: &str) -> Result<SpinPolicy, String> {
    match text {
        "always" => return Ok(SpinPolicy::Always),
        "never" => return Ok(SpinPolicy::For(0)),
        "auto" => return Ok(SpinPolicy::Auto),
        _ => {}
    }
    let spin = duration::parse(text)
        .ok()
        .and_then(|spin| u64::try_from(spin.as_nanos()).ok());
    spin.map(SpinPolicy::For)
        .ok_or_else(|| "write always, never, auto, or a duration such as 50us".to_owned())
}

pub(crate) fn parse_buffer_timeout(text: &str) -> Result<Duration, String> {
    let timeout = match text {
        "0" => Duration::ZERO,
        _ => duration::parse(text).map_err(|_| "write 0 or a duration such as 10ms".to_owned())?,
    };
    buffer_timeout_ns(timeout).map(|_| timeout)
}

pub(crate) fn parse_bytes(text: &str) -> Result<usize, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let unit: u64 = match text[split..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => 0,
    };
    let bytes = text[..split]
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(unit))
        .filter(|_| unit > 0);
    let bytes = bytes
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or("write a size such as 256MiB")?;
    if bytes < 1 << 20 {
        Err("1 MiB is the least".to_owned())
    } else {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_parse() {
        assert_eq!(parse_spin("50us"), Ok(SpinPolicy::For(50_000)));
        assert_eq!(parse_spin("never"), Ok(SpinPolicy::For(0)));
        assert_eq!(parse_bytes("64MiB"), Ok(64 << 20));
        assert_eq!(network_memory_bytes(None, 4).unwrap(), 256 << 20);
        assert_eq!(network_memory_bytes(None, 64).unwrap(), 1 << 30);
        assert_eq!(network_memory_bytes(Some(4 << 20), 4).unwrap(), 4 << 20);
        assert!(network_memory_bytes(Some(3 << 20), 4).is_err());
        assert!(
            ["", "50", "us", "-1us", "99999999999999999999s"]
                .iter()
                .all(|bad| parse_spin(bad).is_err())
        );
        let timeout = parse_buffer_timeout;
        assert_eq!(timeout("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(
            (timeout("0"), timeout("0s")),
            (Ok(Duration::ZERO), Ok(Duration::ZERO))
        );
        assert_eq!(timeout("3600s"), Ok(Duration::from_secs(3_600)));
        for (bad, why) in [
            ("", "write 0 or a duration such as 10ms"),
            ("100", "write 0 or a duration such as 10ms"),
            ("-1ms", "write 0 or a duration such as 10ms"),
            ("3601s", "too long: 3600s is the most"),
        ] {
            assert!(timeout(bad).unwrap_err().contains(why), "{bad}");
        }
        assert!(
            ["", "MiB", "1", "5 parsecs", "99999999999GiB"]
                .iter()
                .all(|bad| parse_bytes(bad).is_err())
        );
    }
}
