//! The measured job on a cluster: the built-in job `sum`.
//!
//! Owns: [`Records`] (what it reads), [`Load`], [`run`] (a job from submission to its figures).
//! Invariant: CPU time is that of the TaskManager processes alone, by the kernel's clock of each process, from just before the job
//! is submitted until the client has seen its end (at most 100 ms later, in which idle cores sleep unless `--spin` says
//! otherwise).
//! Left out: other jobs.

use std::time::Duration;

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

use super::cluster::BenchCluster;
use super::cpus::{Interrupted, Stop};
use super::figures::{Figures, Percentiles, Work};
use crate::cli::client::Progress;
use crate::cli::execute::{JobRequest, Target, execute};
use crate::cli::progress::Observer;
use crate::jobs::BuiltInJob;

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

/// What the job reads: record `number` has a key below `keys`.
#[derive(Debug, Clone, Copy)]
pub struct Records {
    /// Different keys.
    pub keys: u64,
}

impl Records {
    /// Record `number`: key, value, number.
    #[inline]
    #[must_use]
    pub fn record(&self, number: u64) -> [u64; 3] {
        [number % self.keys, number, number]
    }
}

/// One run of the job.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Records in all.
    pub records: u64,
    /// What they are.
    pub of: Records,
    /// Records per second by an open loop; `None`: as fast as it goes.
    pub rate: Option<u64>,
    /// Records due this early are not measured.
    pub warm_up: Duration,
    /// Subtasks of source and sum each.
    pub parallelism: u32,
    /// Source and sum in one slot, without an exchange.
    pub chained: bool,
}

impl Load {
    /// `records` as fast as they go, through one source and one sum.
    #[must_use]
    pub fn unpaced(records: u64, of: Records) -> Self {
        Self {
            records,
            of,
            rate: None,
            warm_up: Duration::ZERO,
            parallelism: 1,
            chained: false,
        }
    }

    fn job(&self) -> crate::Result<BuiltInJob> {
        use clap::Parser;
        #[derive(Parser)]
        #[command(no_binary_name = true)]
        struct Arguments {
            #[command(flatten)]
            job: crate::jobs::nexmark::NexmarkArgs,
        }
        let mut words = vec![
            "q0".to_owned(),
            "--events".to_owned(),
            self.records.to_string(),
        ];
        if let Some(rate) = self.rate {
            words.extend(["--rate".to_owned(), rate.to_string()]);
        }
        Ok(BuiltInJob::Nexmark(Arguments::try_parse_from(words)?.job))
    }
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its figures.
    pub figures: Figures,
    /// All latencies, in microseconds; empty when nothing was measured.
    pub latency_us: Histogram<u64>,
}

/// Runs the job on `cluster` to its end.
///
/// # Errors
/// The job or the cluster fails, or interrupted.
pub fn run(cluster: &BenchCluster, load: &Load, stop: &Stop<'_>) -> crate::Result<Outcome> {
    let job = load.job()?;
    let message = job
        .graph()?
        .message(&job.job_name(), &job.program(), load.parallelism)?;
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
        summary.state == "FINISHED" && summary.records == load.records,
        "the measured job is {} after {} of {} records",
        summary.state,
        summary.records,
        load.records
    );
    let to_ns = watch
        .to_ns
        .with_context(|| format!("a TaskManager ended{}", cluster.log()))?;
    let cpu = Duration::from_nanos(to_ns.saturating_sub(from_ns));
    let encoded = cluster.client().latency(&summary.job_id)?;
    let latency_us = match encoded {
        Some(encoded) => Deserializer::new()
            .deserialize(&mut encoded.as_slice())
            .context("the JobManager's latency histogram cannot be read")?,
        None => Histogram::new(3)?,
    };
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
    })
}
