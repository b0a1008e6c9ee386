//! The one place that reads a clock.
//!
//! Owns: [`Clock`]: the wall clock at start, moved on by the monotonic clock.
//! Invariant: never goes back, whatever is done to the wall clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::time::Timestamp;

/// A clock that started with the JobManager.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    started_at: Timestamp,
}

impl Clock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the control plane's clock is read here and nowhere else"
    )]
    pub(crate) fn start() -> Self {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            started: Instant::now(),
            started_at: Timestamp::default().after(since_epoch),
        }
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "the control plane's clock is read here and nowhere else"
    )]
    pub(crate) fn now(&self) -> Timestamp {
        self.started_at
            .after(Instant::now().duration_since(self.started))
    }
}
