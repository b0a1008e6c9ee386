//! `run`, `list`, `cancel`, `stop`, `info`.
//!
//! Owns: what clients do with jobs. Left out: the work itself ([`crate::cli::execute`]).

use std::io::Write;

use anyhow::{Context, bail, ensure};

use crate::api::graph::ExecutionConfig;
use crate::cli::args::{
    CancelArgs, InfoArgs, ListArgs, OutputFormat, ReceiveMode, RunArgs, StopArgs,
};
use crate::cli::client::RestClient;
use crate::cli::execute::{JobRequest, Target, execute, wait_for_end};
use crate::cli::local::LocalOptions;
use crate::cli::progress::{Terminal, print_summary};

/// Runs a built-in job.
///
/// # Errors
/// The job is refused or fails.
pub fn run(args: &RunArgs) -> crate::Result<()> {
    let graph = args.job.graph()?;
    let config = ExecutionConfig {
        parallelism: args.parallelism.unwrap_or(0),
        buffer_timeout: args.buffer_timeout,
    };
    let message = graph.message(&args.job.job_name(), &args.job.program(), &config)?;
    if args.detached {
        let address = args
            .job_manager
            .as_deref()
            .context("--detached needs --jobmanager: a local job ends with its process")?;
        let submitted = RestClient::new(address).submit(message.bytes())?;
        let mut out = std::io::stdout().lock();
        for warning in &submitted.warnings {
            writeln!(std::io::stderr(), "warning: {warning}")?;
        }
        match args.output {
            OutputFormat::Text => {
                writeln!(out, "Job has been submitted with JobID {}", submitted.jobid)?
            }
            OutputFormat::Json => {
                writeln!(out, "{}", serde_json::json!({ "job_id": submitted.jobid }))?
            }
        }
        return Ok(());
    }
    let target = match &args.job_manager {
        Some(address) => {
            let cores = &args.cores;
            ensure!(
                cores.cores.is_none()
                    && cores.slots.is_none()
                    && cores.slots_per_core.is_none()
                    && cores.housekeeping_cores.is_none()
                    && !cores.state.is_given(),
                "--cores, --housekeeping-cores, --slots, --slots-per-core, --state-backend, --state-dir and --memory are for the \
                 local environment: with --jobmanager, give them to `ringflow taskmanager`"
            );
            Target::Remote(address.clone())
        }
        None => Target::Local(LocalOptions {
            placement: args.cores.request(),
            spin: args.cores.spin,
            network_memory_bytes: args.cores.network_memory,
            state: args.cores.state.clone(),
            single_receive: args.cores.receive == ReceiveMode::Single,
            ..LocalOptions::default()
        }),
    };
    let summary = execute(
        JobRequest {
            message,
            application: None,
        },
        &target,
        &mut Terminal::default(),
    )?;
    print_summary(&summary, args.output == OutputFormat::Json)
}

/// Lists jobs.
///
/// # Errors
/// The JobManager is unreachable.
pub fn list(args: &ListArgs) -> crate::Result<()> {
    let client = RestClient::new(&args.client.job_manager);
    let mut jobs = client.jobs()?;
    jobs.retain(|job| !args.running || matches!(job.state.as_str(), "RUNNING" | "RESTARTING"));
    jobs.sort_by_key(|job| job.start_time);
    let mut lines = Vec::new();
    for job in jobs {
        let cause = if job.state == "FAILED" {
            // A job may have left the JobManager's memory since it was listed.
            let history = client.exceptions(&job.jid).unwrap_or_default();
            history.into_iter().next().map(|root| root.stacktrace)
        } else {
            None
        };
        lines.push((job, cause));
    }
    let mut out = std::io::stdout().lock();
    if args.output == OutputFormat::Json {
        let jobs: Vec<_> = lines
            .iter()
            .map(|(job, cause)| {
                serde_json::json!({
                    "jid": job.jid, "name": job.name, "state": job.state, "start-time": job.start_time,
                    "duration": job.duration, "failure": cause,
                })
            })
            .collect();
        writeln!(out, "{}", serde_json::Value::Array(jobs))?;
        return Ok(());
    }
    if lines.is_empty() {
        writeln!(out, "No jobs.")?;
    }
    for (job, cause) in lines {
        writeln!(
            out,
            "{} : {} ({}) {:.1} s",
            job.jid,
            job.name,
            job.state,
            job_seconds(job.duration)
        )?;
        if let Some(cause) = cause {
            writeln!(out, "    {}", cause.lines().next().unwrap_or_default())?;
        }
    }
    Ok(())
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a duration in milliseconds, shown with one digit"
)]
fn job_seconds(duration_ms: i64) -> f64 {
    duration_ms as f64 / 1e3
}

/// Cancels a job.
///
/// # Errors
/// The JobManager is unreachable, or the job is unknown or has ended.
pub fn cancel(args: &CancelArgs) -> crate::Result<()> {
    RestClient::new(&args.client.job_manager).cancel(&args.job_id)?;
    writeln!(std::io::stdout(), "Cancelled job {}.", args.job_id)?;
    Ok(())
}

/// Stops a job in good order.
///
/// # Errors
/// The JobManager is unreachable, the job is unknown or does not run, or it does not come to a good end.
pub fn stop(args: &StopArgs) -> crate::Result<()> {
    let client = RestClient::new(&args.client.job_manager);
    for warning in client.stop(&args.job_id, args.drain)? {
        writeln!(std::io::stderr(), "warning: {warning}")?;
    }
    if args.detached {
        writeln!(std::io::stdout(), "Stopping job {}.", args.job_id)?;
        return Ok(());
    }
    let ended = wait_for_end(&client, &args.job_id)?;
    if ended.state != "FINISHED" {
        let cause = ended
            .failure
            .map_or_else(String::new, |cause| format!(": {cause}"));
        bail!(
            "job {} is {} instead of FINISHED{cause}",
            ended.jid,
            ended.state
        );
    }
    writeln!(std::io::stdout(), "Stopped job {}.", args.job_id)?;
    Ok(())
}

/// Prints a job's plan.
///
/// # Errors
/// The job would be refused.
pub fn info(args: &InfoArgs) -> crate::Result<()> {
    let graph = args.job.graph()?;
    let config = ExecutionConfig {
        parallelism: args.parallelism.unwrap_or(0),
        ..ExecutionConfig::default()
    };
    let message = graph.message(&args.job.job_name(), &args.job.program(), &config)?;
    let graph = ringflow_control::decode_stream_graph(&message).map_err(anyhow::Error::msg)?;
    let plan = ringflow_control::plan_json(&graph, args.slots)?;
    writeln!(std::io::stdout(), "{plan:#}")?;
    Ok(())
}
