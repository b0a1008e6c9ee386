//! Time, as a value: the one place of the data plane that reads the system's clocks.
//!
//! Owns: [`Clock`], [`ManualTime`] (what tests set by hand). Invariant: `now_ns` never goes back; `wall_ns` advances at the
//! monotonic clock's pace from the wall time at the clock's creation, so latencies inside one process are immune to clock
//! steps.
//! Left out: timers (the poller sleeps until a deadline).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of a millisecond.
pub const NS_PER_MS: u64 = 1_000_000;

/// Reads time in nanoseconds. All clocks of a process share one offset between monotonic and wall time.
///
/// Cost: about 30 ns a reading on a virtual machine; read it per batch, not per record.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall_minus_monotonic_ns: i128,
    /// Monotonic time, where a test sets it.
    manual: Option<ManualTime>,
}

/// Time that stands still until it is set. Its wall time is its monotonic time: it begins with the epoch.
///
/// Its 8 bytes are never given back, so that clocks can be copied: for tests.
#[derive(Debug, Clone, Copy)]
pub struct ManualTime(&'static AtomicU64);

impl Default for ManualTime {
    fn default() -> Self {
        Self(Box::leak(Box::default()))
    }
}

impl ManualTime {
    /// Makes it `ms` milliseconds since the epoch, for all clocks that show it.
    pub fn set_ms(self, ms: u64) {
        self.0
            .store(ms.saturating_mul(1_000_000), Ordering::Relaxed);
    }
}

fn read(clock: ClockId) -> i128 {
    let time = clock_gettime(clock);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

impl Clock {
    /// The process's clock.
    #[must_use]
    pub fn system() -> Self {
        static OFFSET: OnceLock<i128> = OnceLock::new();
        let offset = OFFSET.get_or_init(|| read(ClockId::Realtime) - read(ClockId::Monotonic));
        Self {
            wall_minus_monotonic_ns: *offset,
            manual: None,
        }
    }

    /// A clock that shows `time`.
    #[must_use]
    pub const fn manual(time: ManualTime) -> Self {
        Self {
            wall_minus_monotonic_ns: 0,
            manual: Some(time),
        }
    }

    /// Monotonic time.
    #[inline]
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        if let Some(time) = self.manual {
            return time.0.load(Ordering::Relaxed);
        }
        u64::try_from(read(ClockId::Monotonic)).expect("the monotonic clock counts up from boot")
    }

    /// Nanoseconds since the epoch.
    #[inline]
    #[must_use]
    pub fn wall_ns(&self) -> u64 {
        self.wall_of(self.now_ns())
    }

    /// Milliseconds since the epoch: processing time.
    #[inline]
    #[must_use]
    pub fn wall_ms(&self) -> i64 {
        i64::try_from(self.wall_ns() / 1_000_000).unwrap_or(i64::MAX)
    }

    /// The wall time at a monotonic time.
    #[inline]
    #[must_use]
    pub fn wall_of(&self, now_ns: u64) -> u64 {
        u64::try_from(i128::from(now_ns) + self.wall_minus_monotonic_ns).unwrap_or(0)
    }
}

/// CPU time that this process has used since it started, in nanoseconds.
#[must_use]
pub fn process_cpu_ns() -> u64 {
    u64::try_from(read(ClockId::ProcessCPUTime)).unwrap_or(0)
}
