//! Threads for users' futures: async I/O.
//!
//! Owns: [`FutureThreads`], a tokio runtime of a TaskManager that starts with the first operator that needs one. The
//! control thread's own runtime is not for this: a future that blocks would keep it from its heartbeats.
//! Invariant: it is started from a housekeeping thread, whose CPU mask its threads inherit; nothing of it runs on a
//! data core.
//! Left out: what runs there ([`crate::operator::async_wait`]).

use std::future::Future;
use std::sync::{Arc, OnceLock};

use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::{Error, Result};

/// One thread for each CPU that the starting thread may use. Clones share them; they end with the last clone, whose
/// futures are dropped then.
#[derive(Debug, Clone, Default)]
pub struct FutureThreads(Arc<OnceLock<Result<Running, String>>>);

#[derive(Debug)]
struct Running(Option<Runtime>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waits for nobody: the last clone may be dropped anywhere.
            runtime.shutdown_background();
        }
    }
}

impl FutureThreads {
    /// Starts the threads unless they run. Call on a housekeeping thread.
    ///
    /// # Errors
    /// The process can have no more threads.
    pub fn start(&self) -> Result<()> {
        let start = || {
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            let runtime = Builder::new_multi_thread()
                .worker_threads(cpus)
                .thread_name("ringflow-async")
                .enable_all()
                .build();
            match runtime {
                Ok(runtime) => Ok(Running(Some(runtime))),
                Err(error) => Err(error.to_string()),
            }
        };
        match self.0.get_or_init(start) {
            Ok(_) => Ok(()),
            Err(why) => Err(Error::deployment(format!(
                "the threads for async functions cannot start: {why}; may this process have more threads?"
            ))),
        }
    }

    /// Runs `future` there, until it is done or the threads end. Never blocks.
    ///
    /// # Panics
    /// The threads were not started: a fault of the engine.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        drop(self.handle().spawn(future));
    }

    fn handle(&self) -> &Handle {
        let running = self.0.get().and_then(|started| started.as_ref().ok());
        let runtime = running.and_then(|running| running.0.as_ref());
        runtime
            .expect("started when the operator was prepared")
            .handle()
    }
}
