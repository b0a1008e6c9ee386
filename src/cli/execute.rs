//! Executing a job and waiting for its end.
//!
//! Owns: [`execute`], [`Target`], [`Summary`]. Invariant: the job's end is reported as it was: a failed job is an error
//! with its root cause, a cancelled one says so.
//! Left out: how progress looks ([`crate::cli::progress`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use ringflow_dataplane::program::Topology;
use ringflow_dataplane::runtime::clock::Clock;
use ringflow_schemas::rpc::{Message, SubmittedGraph};
use serde::Serialize;

use crate::cli::client::{Accumulator, Latency, Progress, RestClient, Unreachable};
use crate::cli::local::{LocalCluster, LocalOptions};
use crate::cli::progress::Observer;

/// Where a job runs.
#[derive(Debug, Clone)]
pub enum Target {
    /// In this process.
    Local(LocalOptions),
    /// On the cluster whose REST endpoint is here.
    Remote(String),
}

/// A job to execute.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct JobRequest {
    /// What is submitted.
    pub message: Message<SubmittedGraph>,
    /// Its code, when it is this program's own.
    pub application: Option<(String, Arc<Topology>)>,
}

/// What a job came to. Its JSON is one object.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Id of the job.
    pub job_id: String,
    /// FINISHED or CANCELED.
    pub state: String,
    /// Records read from sources.
    pub records: u64,
    /// Records handed to sinks.
    pub records_out: u64,
    /// From all subtasks running to the end, in seconds.
    pub seconds: f64,
    /// Records read per second of that time.
    pub records_per_second: f64,
    /// CPU time of the TaskManager processes meanwhile (in the local environment also client and JobManager).
    pub cpu_seconds: f64,
    /// Records read per second of CPU time.
    pub records_per_cpu_second: f64,
    /// Records behind the watermark that no window took.
    pub late_records_dropped: u64,
    /// Payloads that were no valid record.
    pub bad_records: u64,
    /// Memory of the job's state, in bytes: the most that each subtask was found to hold, added up. It is looked at with each
    /// report (every second or so), before the end of input fires what is left, and at the end.
    pub state_bytes: u64,
    /// From when a record was due at its source until it reached a sink.
    pub latency_us: Option<Latency>,
    /// The job's result, where it has one.
    pub result: Option<serde_json::Value>,
}

/// How often the client asks how the job stands.
const POLL: Duration = Duration::from_millis(100);

/// How long a client waits for a JobManager that has stopped answering.
const PATIENCE_NS: u64 = 30_000_000_000;

/// Executes a job and waits for its end.
///
/// # Errors
/// The job was refused or failed; the message has the root cause.
pub fn execute(
    request: JobRequest,
    target: &Target,
    observer: &mut dyn Observer,
) -> crate::Result<Summary> {
    match target {
        Target::Local(options) => {
            let mut options = options.clone();
            options.slots_min = slots_needed(&request.message, &options);
            let cluster = LocalCluster::start(&options, request.application)?;
            run_on(
                &RestClient::new(&cluster.rest_address().to_string()),
                &request.message,
                observer,
                OnInterrupt::Cancel,
            )
        }
        Target::Remote(address) => run_on(
            &RestClient::new(address),
            &request.message,
            observer,
            OnInterrupt::Leave,
        ),
    }
}

/// Slots that a job needs where nobody said how many there are: for each slot sharing group its greatest parallelism; a
/// source that decides for itself gets a slot per split, up to one per CPU.
fn slots_needed(message: &Message<SubmittedGraph>, options: &LocalOptions) -> u32 {
    let graph = message.get();
    let cpus = std::thread::available_parallelism()
        .map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1));
    let mut groups: BTreeMap<&str, u32> = BTreeMap::new();
    let mut group_of: Vec<&str> = Vec::new();
    // A node stands behind its inputs, whose group it takes when it has none of its own and they agree.
    for node in graph.nodes() {
        let mut inputs = graph
            .edges()
            .iter()
            .filter(|edge| edge.target() == node.id())
            .filter_map(|edge| group_of.get(edge.source() as usize).copied());
        let inherited = inputs
            .next()
            .filter(|first| inputs.all(|other| other == *first));
        let group = node.slot_sharing_group().or(inherited).unwrap_or("default");
        group_of.push(group);
        let splits = node
            .splits()
            .map_or(0, |splits| u32::try_from(splits.len()).unwrap_or(u32::MAX));
        let auto = if node.auto_parallelism() {
            splits.min(cpus)
        } else {
            0
        };
        let own = match node.parallelism() {
            0 => graph.parallelism(),
            own => own,
        };
        let most = groups.entry(group).or_insert(1);
        *most = (*most).max(own).max(auto);
    }
    groups
        .values()
        .fold(0u32, |sum, most| sum.saturating_add(*most))
        .max(options.slots_min)
        .clamp(1, 1024)
}

/// What an interrupt (Ctrl-C) does to the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnInterrupt {
    /// It ends with its process, so it is cancelled and summed up.
    Cancel,
    /// It belongs to a cluster and goes on.
    Leave,
}

fn run_on(
    client: &RestClient,
    message: &Message<SubmittedGraph>,
    observer: &mut dyn Observer,
    on_interrupt: OnInterrupt,
) -> crate::Result<Summary> {
    let submitted = client.submit(message.bytes())?;
    let job = &submitted.jobid;
    for warning in &submitted.warnings {
        observer.warn(warning);
    }
    observer.submitted(job);
    let clock = Clock::system();
    let mut answered_ns = clock.now_ns();
    let mut canceling = false;
    loop {
        if observer.interrupted() && !canceling {
            observer.ended();
            if on_interrupt == OnInterrupt::Leave {
                bail!("interrupted; job {job} goes on, `ringflow cancel` ends it");
            }
            client.cancel(job)?;
            canceling = true;
        }
        match client.progress(job) {
            Ok(progress) => {
                answered_ns = clock.now_ns();
                observer.progress(&progress);
                if progress.is_terminal() {
                    observer.ended();
                    return summarize(progress);
                }
            }
            // A JobManager that is busy or on its way back may answer again.
            Err(error)
                if error.is::<Unreachable>()
                    && clock.now_ns().saturating_sub(answered_ns) < PATIENCE_NS => {}
            Err(error) => return Err(error.context(format!("lost sight of job {job}"))),
        }
        std::thread::park_timeout(POLL);
    }
}

/// Waits for the end of a job of a cluster; how it stood then. Interrupting the process leaves the job alone.
///
/// # Errors
/// The JobManager does not know the job, or was out of reach for too long.
pub fn wait_for_end(client: &RestClient, job: &str) -> crate::Result<Progress> {
    let clock = Clock::system();
    let mut answered_ns = clock.now_ns();
    loop {
        match client.progress(job) {
            Ok(progress) if progress.is_terminal() => return Ok(progress),
            Ok(_) => answered_ns = clock.now_ns(),
            // As in `run_on`.
            Err(error)
                if error.is::<Unreachable>()
                    && clock.now_ns().saturating_sub(answered_ns) < PATIENCE_NS => {}
            Err(error) => return Err(error.context(format!("lost sight of job {job}"))),
        }
        std::thread::park_timeout(POLL);
    }
}

fn summarize(progress: Progress) -> crate::Result<Summary> {
    if progress.state == "FAILED" {
        let cause = progress
            .failure
            .unwrap_or_else(|| "no cause was reported".to_owned());
        bail!("job {} failed: {cause}", progress.jid);
    }
    let from = if progress.running_time > 0 {
        progress.running_time
    } else {
        progress.start_time
    };
    #[allow(
        clippy::cast_precision_loss,
        reason = "times and counts far below 2^52"
    )]
    let (seconds, records) = (
        (progress.end_time - from).max(1) as f64 / 1e3,
        progress.records_in as f64,
    );
    let result = match progress.accumulators.as_slice() {
        [] => None,
        [one] => Some(value_of(one)),
        many => Some(
            many.iter()
                .map(|one| (one.name.clone(), value_of(one)))
                .collect(),
        ),
    };
    Ok(Summary {
        job_id: progress.jid,
        state: progress.state,
        records: progress.records_in,
        records_out: progress.records_out,
        seconds,
        records_per_second: records / seconds,
        cpu_seconds: progress.cpu_seconds,
        records_per_cpu_second: if progress.cpu_seconds > 0.0 {
            records / progress.cpu_seconds
        } else {
            0.0
        },
        late_records_dropped: progress.late_records_dropped,
        bad_records: progress.bad_records,
        state_bytes: progress.state_bytes_max,
        latency_us: progress.latency_us,
        result,
    })
}

/// Rows, or a number.
fn value_of(accumulator: &Accumulator) -> serde_json::Value {
    if accumulator.kind == "TopRows" {
        let rows = accumulator.rows.iter();
        rows.map(|row| parse_row(&row.text)).collect()
    } else {
        accumulator.value.into()
    }
}

fn parse_row(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::String(text.to_owned()))
}
