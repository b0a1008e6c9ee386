//! Where a program runs: locally, on a cluster, or as a cluster.
//!
//! Owns: [`StreamExecutionEnvironment`]. `get_execution_environment` looks at the command line, so that one binary can be
//! run (`hot`), be a cluster (`hot jobmanager`, `hot taskmanager`), or be sent to it (`hot --jobmanager host:8081`).
//! Invariant: the graph is built the same way whatever becomes of it.
//! Left out: shared objects submitted to a running cluster.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringflow_dataplane::program::NodeCode;
use ringflow_schemas::graph::{ChainingStrategy, OperatorKind, ProgramKind};

use crate::api::data_stream::{DataStream, Source};
use crate::api::graph::{ExecutionConfig, GraphBuilder, Node, ProgramSource};
use crate::api::watermark::WatermarkStrategy;
use crate::cli;
use crate::cli::execute::{JobRequest, Summary, Target};
use crate::cli::local::LocalOptions;

/// Builds and executes one job.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct StreamExecutionEnvironment {
    graph: Rc<RefCell<GraphBuilder>>,
    refusal: Rc<RefCell<Option<String>>>,
    config: ExecutionConfig,
    mode: Mode,
}

#[derive(Debug, Clone)]
enum Mode {
    /// As the command line says.
    CommandLine,
    Target(Target),
    /// Only the graph is wanted.
    Plan,
}

impl StreamExecutionEnvironment {
    fn new(mode: Mode) -> Self {
        Self {
            graph: Rc::default(),
            refusal: Rc::default(),
            config: ExecutionConfig::default(),
            mode,
        }
    }

    /// The environment that the command line asks for; local when it asks for none.
    #[must_use]
    pub fn get_execution_environment() -> Self {
        Self::new(Mode::CommandLine)
    }

    /// Runs a JobManager and a TaskManager in this process.
    #[must_use]
    pub fn create_local_environment() -> Self {
        Self::new(Mode::Target(Target::Local(LocalOptions::default())))
    }

    /// Submits to the JobManager whose REST endpoint is at `host:port`. Its TaskManagers must run this same binary
    /// (`<program> taskmanager --jobmanager host:6123`).
    #[must_use]
    pub fn create_remote_environment(host: &str, port: u16) -> Self {
        Self::new(Mode::Target(Target::Remote(format!("{host}:{port}"))))
    }

    /// Only builds the graph.
    pub(crate) fn for_plan() -> Self {
        Self::new(Mode::Plan)
    }

    /// The job's default parallelism; 0: sources decide by their splits, all else is 1.
    pub fn set_parallelism(&mut self, parallelism: u32) {
        self.config.parallelism = parallelism;
    }

    /// How long a partly filled output buffer may wait for more records after the first; at most 1 h, which `execute` checks.
    /// Zero, the default: it leaves when its subtask has run out of input. `--buffer-timeout` on the command line goes first.
    ///
    /// Differs from Flink, where zero flushes after each record and the default is 100 ms.
    pub fn set_buffer_timeout(&mut self, timeout: Duration) {
        self.config.buffer_timeout = timeout;
    }

    /// Starts a stream at a source.
    pub fn from_source<S: Source>(
        &self,
        source: S,
        watermarks: WatermarkStrategy<S::Record>,
        name: &str,
    ) -> DataStream<S::Record> {
        let discover = source.discover();
        let node = self.with_graph(|graph| {
            graph.add_node(Node {
                name: name.to_owned(),
                uid: None,
                kind: OperatorKind::Source,
                parallelism: 0,
                auto_parallelism: discover.is_some(),
                max_parallelism: 0,
                slot_sharing_group: None,
                chaining: ChainingStrategy::Always,
                discover,
                code: NodeCode::Source {
                    factory: source.factory(),
                    watermarks: watermarks.policy,
                    assigner: watermarks.assigner.clone(),
                },
            })
        });
        DataStream::from_node(self.clone(), node)
    }

    /// Executes the job and waits for its end. As a TaskManager or JobManager: serves until told to stop.
    ///
    /// # Errors
    /// The program, its surroundings or the job failed; the message says what to do.
    pub fn execute(&self, name: &str) -> crate::Result<Summary> {
        if let Some(why) = self.refusal.borrow_mut().take() {
            anyhow::bail!(why);
        }
        let graph = std::mem::take(&mut *self.graph.borrow_mut()).finish()?;
        let program = ProgramSource {
            kind: ProgramKind::Application,
            name: name.to_owned(),
            arguments: Vec::new(),
        };
        match &self.mode {
            Mode::CommandLine => cli::application::run(name, program, graph, &self.config),
            Mode::Target(target) => {
                let message = graph.message(name, &program, &self.config)?;
                let application = Some((program.name, Arc::new(graph.into_topology())));
                cli::execute::execute(
                    JobRequest {
                        message,
                        application,
                    },
                    target,
                    &mut cli::progress::Silent,
                )
            }
            Mode::Plan => anyhow::bail!("this environment only builds a graph"),
        }
    }

    /// Takes the finished graph out.
    pub(crate) fn take_graph(&self) -> crate::Result<crate::api::graph::BuiltGraph> {
        if let Some(why) = self.refusal.borrow_mut().take() {
            anyhow::bail!(why);
        }
        std::mem::take(&mut *self.graph.borrow_mut()).finish()
    }

    pub(crate) fn with_graph<T>(&self, change: impl FnOnce(&mut GraphBuilder) -> T) -> T {
        change(&mut self.graph.borrow_mut())
    }

    /// The same job is built in both.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.graph, &other.graph)
    }

    /// Remembers the first thing that is wrong with the program, for `execute` to say.
    pub(crate) fn refuse(&self, why: String) {
        self.refusal.borrow_mut().get_or_insert(why);
    }
}
