//! Threads for what blocks: creating Kafka clients, connecting, flushing, dropping consumers.
//!
//! Owns: [`Housekeeping`], a handle to the TaskManager's blocking pool. Its threads are started by the control thread,
//! whose CPU mask they inherit: the housekeeping cores. So does every thread that a library starts from there.
//! Invariant: nothing handed over here runs on a data core.
//! Left out: the pool itself is tokio's.

use tokio::runtime::Handle;

/// Runs blocking work beside the data cores. Clones share the pool.
#[derive(Debug, Clone)]
pub struct Housekeeping(Handle);

impl Housekeeping {
    /// A handle to the blocking pool of `runtime`.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self(runtime)
    }

    /// Runs `work` on a housekeeping thread and does not wait for it.
    pub fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        drop(self.0.spawn_blocking(work));
    }

    /// Drops `value` on a housekeeping thread: for values whose `Drop` blocks, such as Kafka consumers.
    pub fn dispose<T: Send + 'static>(&self, value: T) {
        self.spawn(move || drop(value));
    }
}
