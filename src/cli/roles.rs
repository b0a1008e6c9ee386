//! `jobmanager` and `taskmanager`: the long-running roles.
//!
//! Owns: starting them, saying where they listen (one line on standard output when ready), and ending them on SIGTERM or
//! SIGINT. Left out: what they do.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use ringflow_control::{JobManager, JobManagerConfig};
use ringflow_dataplane::program::Topology;
use ringflow_dataplane::runtime::placement::{
    CpuList, Placement, Verification, allowed_cpus, claim, confine_to_housekeeping,
};
use ringflow_dataplane::task_manager::{Registration, TaskManager, TaskManagerConfig};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::args::{JobManagerArgs, ReceiveMode, TaskManagerArgs};
use crate::cli::memory::MemoryPlan;
use crate::jobs::Programs;

async fn stop_signal() -> std::io::Result<&'static str> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// Runs a JobManager until it is told to stop.
///
/// # Errors
/// A port is taken, or a part of it fails.
pub fn job_manager(args: &JobManagerArgs) -> crate::Result<()> {
    ensure!(
        args.heartbeat_timeout_ms > args.heartbeat_interval_ms,
        "--heartbeat-timeout-ms {} must be greater than --heartbeat-interval-ms {}",
        args.heartbeat_timeout_ms,
        args.heartbeat_interval_ms
    );
    let config = JobManagerConfig {
        rpc_bind: SocketAddr::new(args.bind, args.rpc_port),
        rest_bind: SocketAddr::new(args.bind, args.rest_port),
        cluster_id: args.cluster_id.clone(),
        heartbeat_interval: Duration::from_millis(args.heartbeat_interval_ms),
        heartbeat_timeout: Duration::from_millis(args.heartbeat_timeout_ms),
        slot_request_timeout: Duration::from_secs(args.slot_request_timeout_s),
        version: crate::VERSION.to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut job_manager = JobManager::start(config).await?;
        writeln!(
            std::io::stdout(),
            "JobManager ready: rpc {} rest {}",
            job_manager.rpc_address(),
            job_manager.rest_address()
        )?;
        tokio::select! {
            error = job_manager.failed() => bail!(error),
            why = stop_signal() => tracing::info!("stopping on {}", why?),
        }
        job_manager.shutdown().await;
        Ok(())
    })
}

/// Runs a TaskManager until it is told to stop.
///
/// # Errors
/// A CPU, port or kernel feature is missing, flags contradict each other, or the JobManager refuses it.
pub fn task_manager(
    args: &TaskManagerArgs,
    application: Option<(String, Arc<Topology>)>,
) -> crate::Result<()> {
    let allowed = allowed_cpus().context("cannot tell which CPUs this process may use")?;
    let placement =
        Placement::decide(&args.cores.request(), &allowed).map_err(anyhow::Error::msg)?;
    for warning in &placement.warnings {
        tracing::warn!("{warning}");
    }
    let cores = placement.data.len();
    let memory = MemoryPlan::decide(&args.cores.state, args.cores.network_memory, cores)?;
    ensure!(
        args.data_ports.is_empty() || args.data_ports.len() == cores,
        "--data-ports names {} ports for {cores} data cores: each core listens on its own",
        args.data_ports.len()
    );
    let (_claims, taken) = claim(&placement);
    if !taken.is_empty() {
        let clash = format!(
            "CPUs {} are data cores of another TaskManager on this host: give each its own with --cores",
            CpuList(taken)
        );
        ensure!(!args.strict, "--strict: {clash}");
        tracing::warn!("{clash}");
    }
    confine_to_housekeeping(&placement).context("cannot move to the housekeeping cores")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut task_manager = TaskManager::start(TaskManagerConfig {
        id: args.id.clone(),
        job_manager: args.job_manager.trim_start_matches("http://").to_owned(),
        data_bind: args.data_bind,
        data_host: args.data_host.clone(),
        data_ports: args.data_ports.clone(),
        placement,
        spin: args.cores.spin,
        network_memory_bytes: memory.network_bytes,
        disk_state: memory.disk_state,
        single_receive: args.cores.receive == ReceiveMode::Single,
        zero_copy_send: args.cores.zero_copy_send,
        strict: args.strict,
        resolver: Arc::new(Programs::new(application)),
        version: crate::VERSION.to_owned(),
        preempt_timer: None,
    })?;
    print_verification(task_manager.verification())?;
    let ports = task_manager
        .data_ports()
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",");
    writeln!(
        std::io::stdout(),
        "TaskManager ready: id {} data {}:{ports}",
        task_manager.id(),
        args.data_bind
    )?;
    let mut registration = task_manager.registration();
    let reason = runtime.block_on(async {
        let watch = async {
            let mut told = None;
            loop {
                let state = registration.borrow_and_update().clone();
                match state {
                    Registration::Ended(why) => return why,
                    Registration::Connecting(Some(why)) if told.as_ref() != Some(&why) => {
                        tracing::warn!(
                            "not registered at the JobManager at {}: {why}; trying again",
                            args.job_manager
                        );
                        told = Some(why);
                    }
                    _ => {}
                }
                if registration.changed().await.is_err() {
                    return "the control thread ended".to_owned();
                }
            }
        };
        tokio::select! {
            why = watch => Err(why),
            why = stop_signal() => Ok(why),
        }
    });
    match reason {
        Err(why) => bail!(
            "this TaskManager ends: {why} (JobManager at {})",
            args.job_manager
        ),
        Ok(why) => {
            let why = why?;
            tracing::info!("stopping on {why}");
            task_manager.stop(why);
            Ok(())
        }
    }
}

fn print_verification(verification: &Verification) -> crate::Result<()> {
    let mut out = std::io::stdout().lock();
    let width = verification
        .table
        .iter()
        .map(|(what, _)| what.len())
        .max()
        .unwrap_or(0);
    for (what, how) in &verification.table {
        writeln!(out, "  {what:<width$}  {how}")?;
    }
    for broken in &verification.broken {
        tracing::warn!("{broken}");
    }
    Ok(())
}
