//! The command line.
//!
//! Owns: [`main`] and the subcommands. Exit codes: 0 done, 1 failed (message on standard error), 2 wrong usage.
//! Invariant: results go to standard output, everything else to standard error.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::bench::args::BenchArgs;

pub mod application;
pub mod args;
pub mod client;
pub mod execute;
pub mod generate;
pub mod interrupt;
pub mod jobs;
pub mod local;
pub mod memory;
pub mod progress;
pub mod roles;
pub mod topic_writer;

/// A stream processor in the shape of Apache Flink, thread per core, for Linux bare-metal nodes.
#[derive(Debug, Parser)]
#[command(
    name = "ringflow",
    version,
    propagate_version = true,
    max_term_width = 120
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a JobManager: schedules jobs, serves REST
    Jobmanager(args::JobManagerArgs),
    /// Start a TaskManager: runs subtasks on pinned cores
    Taskmanager(args::TaskManagerArgs),
    /// Run a job: in this process, or on a cluster with --jobmanager
    Run(args::RunArgs),
    /// List jobs
    List(args::ListArgs),
    /// Cancel a job
    Cancel(args::CancelArgs),
    /// Stop a running job in good order: its sources end, what they have read is processed, and the job is FINISHED
    ///
    /// Without --drain nothing fires: windows and timers that are open are given up with the state of the job. With it event
    /// time ends, so that all windows and event-time timers fire before the job does.
    ///
    /// No savepoint is taken: ringflow has none yet, so a stopped job cannot be resumed from where it stood.
    Stop(args::StopArgs),
    /// Print the plan of a job without running it
    Info(args::InfoArgs),
    /// Measure ringflow on this machine: latency, throughput, exchange, each beside a bare program's figure
    ///
    /// Each instrument starts a cluster of its own from this binary, on free ports of the loopback interface, and ends it.
    /// It pins to two CPUs, one per side. Beside each figure stand the floor, a bare program that does the same work on the
    /// same CPUs in the same run, and the hiccups: what an arrival at any moment would wait for a CPU on which nothing but a
    /// clock-reading loop runs. Floor and engine alternate over --rounds, and medians of rounds are reported: on a busy
    /// machine trust those and the ratios, and no tail that is shorter than the hiccups'.
    ///
    /// CPU-seconds are those of the TaskManager processes, by the kernel's clock of each process, from the job's submission
    /// until its end was seen; a floor's are those of its two threads.
    Bench(BenchArgs),
    /// Write a benchmark's events to a Kafka topic, a file or standard output
    Generate(args::GenerateArgs),
}

/// Runs the command line of the `ringflow` binary.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    init_logging();
    report(match cli.command {
        Command::Jobmanager(args) => roles::job_manager(&args),
        Command::Taskmanager(args) => roles::task_manager(&args, None),
        Command::Run(args) => jobs::run(&args),
        Command::List(args) => jobs::list(&args),
        Command::Cancel(args) => jobs::cancel(&args),
        Command::Stop(args) => jobs::stop(&args),
        Command::Info(args) => jobs::info(&args),
        Command::Bench(args) => crate::bench::run(&args),
        Command::Generate(args) => generate::generate(&args),
    })
}

/// Wrong usage, or help.
fn refuse(error: &clap::Error) -> ExitCode {
    drop(error.print());
    let action = std::env::args().nth(1).unwrap_or_default();
    let names_a_job = matches!(action.as_str(), "run" | "info");
    if names_a_job && error.kind() == clap::error::ErrorKind::InvalidSubcommand {
        use std::io::Write;
        let jobs = "no such built-in job: there are `nexmark` and `sum`. A job of your own is a program: run its binary";
        drop(writeln!(std::io::stderr(), "\n{jobs}"));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Turns a result into an exit code, with the error on standard error.
pub(crate) fn report(result: crate::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            // A reader that closed the pipe has seen enough: that is no failure.
            let closed = error
                .chain()
                .filter_map(|cause| cause.downcast_ref::<std::io::Error>());
            if closed
                .into_iter()
                .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
            {
                return ExitCode::SUCCESS;
            }
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Logs go to standard error; `RINGFLOW_LOG` sets what is logged (default `warn` for clients, `info` for roles).
pub(crate) fn init_logging() {
    use tracing_subscriber::EnvFilter;
    let is_role = std::env::args()
        .nth(1)
        .is_some_and(|word| word == "jobmanager" || word == "taskmanager");
    let default = if is_role { "info" } else { "warn" };
    let filter =
        EnvFilter::try_from_env("RINGFLOW_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let logging = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init();
    debug_assert!(logging.is_ok(), "logging is set up once");
}
