//! The measured job on a cluster: the built-in job `sum`, or any other.
//!
//! Owns: [`Load`] (what `sum` reads, and how fast), [`run`] and [`run_job`] (a job from submission to its figures).
//! Invariant: every record was read and summed, or the run is an error. CPU time is that of the TaskManager processes alone, by
//! the kernel's clock of each process, from just before the job is submitted until the client has seen its end (at most 100 ms
//! later, in which idle cores sleep unless `--spin` says otherwise).
//! Left out: what other jobs read.

use std::time::Duration;

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

use super::cluster::BenchCluster;
use super::cpus::{Interrupted, Stop};
use super::figures::{Figures, Percentiles, Work};
use crate::api::graph::ExecutionConfig;
use crate::cli::client::Progress;
use crate::cli::execute::{JobRequest, Summary, Target, execute};
use crate::cli::progress::Observer;
use crate::jobs::BuiltInJob;
use crate::jobs::sum::SumArgs;
use crate::jobs::sum::readings::Readings;

/// Watches a job for the bench.
struct Watch<'a> {
    cluster: &'a BenchCluster,
    stop: &'a Stop<'a>,
    to_ns: Option<u64>,
}

impl Observer for Watch<'_> {
    fn progress(&mut self, progress: &Progress) {
        if progress.is_terminal() {
            self.to_ns = self.cluster.task_manager_cpu_ns().ok();
        }
    }

    fn interrupted(&self) -> bool {
        self.stop.is_set()
    }
}

/// One run of the job.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Records in all.
    pub records: u64,
    /// Different keys.
    pub keys: u64,
    /// Records per second by an open loop; `None`: as fast as it goes.
    pub rate: Option<u64>,
    /// Records due this early are not measured.
    pub warm_up: Duration,
    /// Subtasks of source and sum each.
    pub parallelism: u32,
    /// Source and map in one slot, without an exchange and without keys.
    pub chained: bool,
}

impl Load {
    /// `records` as fast as they go, through one source and one sum.
    #[must_use]
    pub fn unpaced(records: u64, keys: u64) -> Self {
        Self {
            records,
            keys,
            rate: None,
            warm_up: Duration::ZERO,
            parallelism: 1,
            chained: false,
        }
    }

    fn job(&self) -> SumArgs {
        SumArgs {
            records: self.records,
            keys: self.keys,
            rate: self.rate,
            warm_up: self.warm_up,
            apart: !self.chained,
            chained: self.chained,
            ..SumArgs::default()
        }
    }

    /// The records, for a floor.
    #[must_use]
    pub fn readings(&self) -> Readings {
        Readings::new(&self.job())
    }
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its figures.
    pub figures: Figures,
    /// All latencies, in microseconds; empty when nothing was measured.
    pub latency_us: Histogram<u64>,
    /// The values of all outputs, added up, wrapping.
    pub sum: u64,
}

/// A job that has finished, and what the TaskManagers spent on it.
#[derive(Debug)]
pub struct Finished {
    /// What it came to.
    pub summary: Summary,
    /// CPU time of the TaskManager processes from just before the job was submitted until the client saw its end.
    pub cpu: Duration,
    /// All latencies, in microseconds; empty when nothing was measured.
    pub latency_us: Histogram<u64>,
}

/// Runs any job on `cluster` to its end.
///
/// # Errors
/// The job or the cluster fails, it was cancelled, or interrupted.
pub fn run_job(
    cluster: &BenchCluster,
    job: &BuiltInJob,
    parallelism: u32,
    stop: &Stop<'_>,
) -> crate::Result<Finished> {
    let config = ExecutionConfig {
        parallelism,
        ..ExecutionConfig::default()
    };
    let message = job
        .graph()?
        .message(&job.job_name(), &job.program(), &config)?;
    let request = JobRequest {
        message,
        application: None,
    };
    let mut watch = Watch {
        cluster,
        stop,
        to_ns: None,
    };
    let from_ns = cluster.task_manager_cpu_ns()?;
    let executed = execute(
        request,
        &Target::Remote(cluster.rest().to_owned()),
        &mut watch,
    );
    let summary = match executed {
        Ok(summary) => summary,
        Err(_) if stop.is_set() => return Err(Interrupted.into()),
        Err(error) => {
            return Err(error.context(format!("the measured job failed{}", cluster.log())));
        }
    };
    ensure!(
        summary.state == "FINISHED",
        "the measured job is {}: somebody ended it",
        summary.state
    );
    let to_ns = watch
        .to_ns
        .with_context(|| format!("a TaskManager ended{}", cluster.log()))?;
    let encoded = cluster.client().latency(&summary.job_id)?;
    let latency_us = match encoded {
        Some(encoded) => Deserializer::new()
            .deserialize(&mut encoded.as_slice())
            .context("the JobManager's latency histogram cannot be read")?,
        None => Histogram::new(3)?,
    };
    Ok(Finished {
        summary,
        cpu: Duration::from_nanos(to_ns.saturating_sub(from_ns)),
        latency_us,
    })
}

/// Runs the job `sum` on `cluster` to its end.
///
/// # Errors
/// The job or the cluster fails, or interrupted.
pub fn run(cluster: &BenchCluster, load: &Load, stop: &Stop<'_>) -> crate::Result<Outcome> {
    let job = BuiltInJob::Sum(load.job());
    let Finished {
        summary,
        cpu,
        latency_us,
    } = run_job(cluster, &job, load.parallelism, stop)?;
    let result = |name: &str| summary.result.as_ref()?.get(name)?.as_u64();
    ensure!(
        summary.records == load.records && result("records") == Some(load.records),
        "the measured job has read {} of {} records and summed {}",
        summary.records,
        load.records,
        result("records").unwrap_or(0)
    );
    let sum = result("sum").context("the measured job has no result `sum`")?;
    let figures = Figures {
        work: Some(Work::new(
            summary.records,
            summary.seconds,
            cpu.as_secs_f64(),
        )),
        latency_us: (!latency_us.is_empty()).then(|| Percentiles::of(&latency_us, 1.0)),
        ..Figures::default()
    };
    Ok(Outcome {
        figures,
        latency_us,
        sum,
    })
}
