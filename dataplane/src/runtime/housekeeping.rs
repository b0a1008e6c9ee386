//! Threads for what blocks: creating Kafka clients, connecting, flushing, dropping consumers.
//!
//! Owns: [`Housekeeping`], a handle to the TaskManager's blocking pool and to its threads for futures, and [`OffCore`], where
//! values go that must be dropped there. Its threads are started by the control thread, whose CPU mask they inherit: the
//! housekeeping cores. So does every thread that a library starts from there.
//! Invariant: nothing handed over here runs on a data core.
//! Left out: the pool itself is tokio's.

use std::ops::{Deref, DerefMut};

use tokio::runtime::Handle;

use crate::runtime::future_threads::FutureThreads;

/// Runs blocking work beside the data cores. Clones share the pool.
#[derive(Debug, Clone)]
pub struct Housekeeping {
    blocking: Handle,
    futures: FutureThreads,
}

impl Housekeeping {
    /// A handle to the blocking pool of `runtime`, with threads of its own for futures.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self::with_futures(runtime, FutureThreads::default())
    }

    /// A handle to the blocking pool of `runtime`; users' futures run on `futures`.
    #[must_use]
    pub fn with_futures(runtime: Handle, futures: FutureThreads) -> Self {
        Self {
            blocking: runtime,
            futures,
        }
    }

    /// Where users' futures run.
    #[must_use]
    pub fn futures(&self) -> &FutureThreads {
        &self.futures
    }

    /// Runs `work` on a housekeeping thread and does not wait for it.
    pub fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        drop(self.blocking.spawn_blocking(work));
    }

    /// Drops `value` on a housekeeping thread: for values whose `Drop` blocks, such as Kafka consumers.
    pub fn dispose<T: Send + 'static>(&self, value: T) {
        self.spawn(move || drop(value));
    }
}

/// Holds a value whose drop blocks, and drops it on a housekeeping thread.
#[derive(Debug)]
pub struct OffCore<T: Send + 'static> {
    value: Option<T>,
    housekeeping: Housekeeping,
}

impl<T: Send + 'static> OffCore<T> {
    /// Takes the value in.
    #[must_use]
    pub fn new(value: T, housekeeping: Housekeeping) -> Self {
        Self {
            value: Some(value),
            housekeeping,
        }
    }

    /// Gives the value out: who has it drops it.
    #[must_use]
    pub fn into_inner(mut self) -> T {
        self.value.take().expect("only the end takes it out")
    }
}

impl<T: Send + 'static> Deref for OffCore<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        self.value.as_ref().expect("only the end takes it out")
    }
}

impl<T: Send + 'static> DerefMut for OffCore<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("only the end takes it out")
    }
}

impl<T: Send + 'static> Drop for OffCore<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.housekeeping.dispose(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::thread::{ThreadId, current};
    use std::time::Duration;

    use super::*;

    struct Dropped(Sender<ThreadId>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.send(current().id()).expect("the test waits");
        }
    }

    #[test]
    fn a_value_is_dropped_on_another_thread_unless_it_was_taken() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let housekeeping = Housekeeping::new(runtime.handle().clone());
        let (sender, dropped) = channel();
        drop(OffCore::new(Dropped(sender.clone()), housekeeping.clone()));
        let thread = dropped.recv_timeout(Duration::from_secs(10));
        assert_ne!(thread.expect("dropped"), current().id());
        drop(OffCore::new(Dropped(sender), housekeeping).into_inner());
        assert_eq!(dropped.recv(), Ok(current().id()));
    }
}
