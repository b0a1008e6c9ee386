//! Application mode: a user's program is run, is a cluster, or is sent to one, by its first argument.
//!
//! Owns: [`run`], called by `execute` in the environment that the command line decides.
//! Left out: arguments of the program itself; it reads them as it likes, before or behind ours.

use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::api::graph::{BuiltGraph, ExecutionConfig, ProgramSource};
use crate::cli::args::{
    CoreArgs, JobManagerArgs, OutputFormat, ReceiveMode, TaskManagerArgs, parse_buffer_timeout,
};
use crate::cli::execute::{JobRequest, Summary, Target, execute};
use crate::cli::local::LocalOptions;
use crate::cli::progress::{Terminal, print_summary};
use crate::cli::roles;

#[derive(Debug, Parser)]
#[command(about = "A ringflow job: runs in this process, or on the cluster at --jobmanager")]
struct Application {
    /// REST endpoint of the cluster to run on; its TaskManagers must be this same program
    #[arg(short = 'm', long = "jobmanager", value_name = "HOST:PORT")]
    job_manager: Option<String>,
    /// Default parallelism of the job
    #[arg(short = 'p', long, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    parallelism: Option<u32>,
    /// Keep a partly filled output buffer back for more records, for so long after its first, such as 10ms; 0: send it as
    /// soon as its subtask has run out of input [default: what the program sets, else 0]
    #[arg(long, value_name = "DURATION", value_parser = parse_buffer_timeout)]
    buffer_timeout: Option<Duration>,
    /// How the summary is written
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    output: OutputFormat,
    #[command(flatten)]
    cores: CoreArgs,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Start a JobManager
    Jobmanager(JobManagerArgs),
    /// Start a TaskManager that can run this program
    Taskmanager(TaskManagerArgs),
}

/// Runs the program as its command line says.
///
/// # Errors
/// Wrong flags, or what the chosen role says.
pub fn run(
    name: &str,
    program: ProgramSource,
    graph: BuiltGraph,
    config: &ExecutionConfig,
) -> crate::Result<Summary> {
    let application = Application::parse();
    crate::cli::init_logging();
    match application.role {
        Some(Role::Jobmanager(args)) => {
            roles::job_manager(&args)?;
            // The program's `main` goes on behind `execute` only when the job ran here.
            #[allow(clippy::exit, reason = "the role has served and ended in good order")]
            std::process::exit(0);
        }
        Some(Role::Taskmanager(args)) => {
            roles::task_manager(&args, Some((program.name, Arc::new(graph.into_topology()))))?;
            // The program's `main` goes on behind `execute` only when the job ran here.
            #[allow(clippy::exit, reason = "the role has served and ended in good order")]
            std::process::exit(0);
        }
        None => {}
    }
    let config = ExecutionConfig {
        parallelism: application.parallelism.unwrap_or(config.parallelism),
        buffer_timeout: application.buffer_timeout.unwrap_or(config.buffer_timeout),
    };
    let message = graph.message(name, &program, &config)?;
    let target = match application.job_manager {
        Some(address) => Target::Remote(address),
        None => Target::Local(LocalOptions {
            placement: application.cores.request(),
            spin: application.cores.spin,
            network_memory_bytes: application.cores.network_memory,
            state: application.cores.state.clone(),
            single_receive: application.cores.receive == ReceiveMode::Single,
            ..LocalOptions::default()
        }),
    };
    let code = Some((program.name, Arc::new(graph.into_topology())));
    let summary = execute(
        JobRequest {
            message,
            application: code,
        },
        &target,
        &mut Terminal::default(),
    )?;
    print_summary(&summary, application.output == OutputFormat::Json)?;
    Ok(summary)
}
