//! Built-in jobs, and how TaskManagers find the code of any job.
//!
//! Owns: [`BuiltInJob`] (what can be run by name), [`Programs`] (the resolver of a TaskManager).
//! Invariant: a built-in job's arguments, as text, rebuild the same graph in any process.

use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use ringflow_dataplane::program::{ProgramResolver, Topology};
use ringflow_schemas::graph::{Program, ProgramKind};

use crate::api::environment::StreamExecutionEnvironment;
use crate::api::graph::{BuiltGraph, ProgramSource};

pub mod nexmark;
pub mod reading;
pub mod sum;

/// What `ringflow run` can run.
#[derive(Debug, Clone, Subcommand)]
pub enum BuiltInJob {
    /// Queries of the Nexmark benchmark, over generated events or a Kafka topic.
    Nexmark(nexmark::NexmarkArgs),
    /// Running sums by key over made readings: what the benchmarks of exchange and state run.
    Sum(sum::SumArgs),
}

/// Reads a job back from its arguments.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Arguments<T: Args> {
    #[command(flatten)]
    job: T,
}

impl BuiltInJob {
    /// Where its code is found again.
    #[must_use]
    pub fn program(&self) -> ProgramSource {
        let (name, arguments) = match self {
            Self::Nexmark(job) => ("nexmark", job.to_arguments()),
            Self::Sum(job) => ("sum", job.to_arguments()),
        };
        ProgramSource {
            kind: ProgramKind::BuiltIn,
            name: name.to_owned(),
            arguments,
        }
    }

    /// Name of the job in lists.
    #[must_use]
    pub fn job_name(&self) -> String {
        match self {
            Self::Nexmark(job) => format!("nexmark-{}", job.query),
            Self::Sum(job) => job.job_name().to_owned(),
        }
    }

    /// Its graph.
    ///
    /// # Errors
    /// Arguments that contradict each other.
    pub fn graph(&self) -> crate::Result<BuiltGraph> {
        let env = StreamExecutionEnvironment::for_plan();
        match self {
            Self::Nexmark(job) => job.build(&env)?,
            Self::Sum(job) => job.build(&env)?,
        }
        env.take_graph()
    }

    fn parse(name: &str, arguments: &[String]) -> Result<Self, String> {
        fn read<T: Args>(name: &str, arguments: &[String]) -> Result<T, String> {
            Arguments::<T>::try_parse_from(arguments)
                .map(|parsed| parsed.job)
                .map_err(|error| {
                    format!("the arguments of built-in job `{name}` are wrong: {error}")
                })
        }
        match name {
            "nexmark" => read(name, arguments).map(Self::Nexmark),
            "sum" => read(name, arguments).map(Self::Sum),
            other => Err(format!(
                "no built-in job `{other}` here: run the same version of ringflow on all hosts"
            )),
        }
    }
}

/// Finds the code of built-in jobs and of the program that this process is.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct Programs {
    application: Option<(String, Arc<Topology>)>,
}

impl Programs {
    /// Built-in jobs, and `application` by its name.
    #[must_use]
    pub fn new(application: Option<(String, Arc<Topology>)>) -> Self {
        Self { application }
    }
}

impl ProgramResolver for Programs {
    fn resolve(&self, program: Program<'_>) -> Result<Arc<Topology>, String> {
        if program.kind() == ProgramKind::BuiltIn {
            let arguments: Vec<String> = program
                .arguments()
                .into_iter()
                .flatten()
                .map(str::to_owned)
                .collect();
            let job = BuiltInJob::parse(program.name(), &arguments)?;
            let graph = job.graph().map_err(|error| format!("{error:#}"))?;
            return Ok(Arc::new(graph.into_topology()));
        }
        match &self.application {
            Some((name, topology)) if name == program.name() => Ok(Arc::clone(topology)),
            Some((name, _)) => Err(format!(
                "this TaskManager is program `{name}` and cannot run `{}`: start `<program> taskmanager` with that binary",
                program.name()
            )),
            None => Err(format!(
                "this TaskManager only has built-in jobs and cannot run program `{}`: start `<program> taskmanager` with its binary",
                program.name()
            )),
        }
    }
}
