//! Rescues cores that sleep although they have work.
//!
//! Owns: [`Watchdog`]. glommio 0.9.0 can park an executor whose task is runnable (a completion that lands between its poll
//! and its first preemption check reads as "nothing to run"). The watchdog strikes the doorbell of each core whose sweeps
//! stand still for a period although the core has not published that it sleeps; the executor wakes up and goes on.
//! Invariant: such a core stands still for about one period at most. A strike at a core that is merely busy is harmless.
//! Left out: cores that hang in user code; nobody can take the core from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::limits::WATCHDOG_PERIOD_MS;
use crate::runtime::clock::Clock;
use crate::runtime::doorbell::Doorbell;

/// Periods with all cores asleep after which the watchdog looks less often.
const CALM_PERIODS: u32 = 100;
/// How often it looks then; a core that wakes up and parks at once waits this long for its rescue.
const CALM_PERIOD: Duration = Duration::from_millis(50);

/// What the watchdog has seen.
#[derive(Debug, Default)]
pub struct WatchdogCounters {
    /// Strikes at cores that stood still. Written by the watchdog.
    pub strikes: AtomicU64,
    /// Strikes at cores whose thread slept in the kernel, although the core had not published so.
    pub parked_with_work: AtomicU64,
    /// Longest standstill that ended by a strike at a sleeping thread, in nanoseconds.
    pub longest_gap_ns: AtomicU64,
}

/// A core to look after.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Its bell.
    pub doorbell: Arc<Doorbell>,
    /// Its thread, as in /proc.
    pub thread_id: i32,
}

/// The watching thread; ends when dropped.
#[derive(Debug)]
pub struct Watchdog {
    counters: Arc<WatchdogCounters>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    sweeps: u64,
    moved_ns: u64,
    struck_parked: bool,
}

impl Watchdog {
    /// Watches `cores` from a thread of its own, which inherits the caller's CPU mask (call it from the control thread).
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(cores: Vec<Watched>) -> std::io::Result<Self> {
        let counters = Arc::new(WatchdogCounters::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopping) = (Arc::clone(&counters), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("rf-watchdog".to_owned())
            .spawn(move || {
                let clock = Clock::system();
                let mut seen: Vec<Seen> = cores.iter().map(|_| Seen::default()).collect();
                let mut calm = 0;
                while !stopping.load(Ordering::Acquire) {
                    let period = if calm < CALM_PERIODS {
                        Duration::from_millis(WATCHDOG_PERIOD_MS)
                    } else {
                        CALM_PERIOD
                    };
                    std::thread::park_timeout(period);
                    let mut asleep = true;
                    for (core, seen) in cores.iter().zip(&mut seen) {
                        asleep &= look(core, seen, clock.now_ns(), &shared);
                    }
                    calm = if asleep { calm + 1 } else { 0 };
                }
            })?;
        Ok(Self {
            counters,
            stop,
            thread: Some(thread),
        })
    }

    /// What it has seen so far.
    #[must_use]
    pub fn counters(&self) -> &Arc<WatchdogCounters> {
        &self.counters
    }
}

/// Looks at one core; true when it sleeps as it should.
fn look(core: &Watched, seen: &mut Seen, now_ns: u64, counters: &WatchdogCounters) -> bool {
    let sweeps = core.doorbell.sweeps();
    if sweeps != seen.sweeps {
        if std::mem::take(&mut seen.struck_parked) {
            counters
                .longest_gap_ns
                .fetch_max(now_ns.saturating_sub(seen.moved_ns), Ordering::Relaxed);
        }
        seen.sweeps = sweeps;
        seen.moved_ns = now_ns;
        return core.doorbell.is_asleep();
    }
    if core.doorbell.is_asleep() {
        seen.moved_ns = now_ns;
        return true;
    }
    if now_ns.saturating_sub(seen.moved_ns) >= WATCHDOG_PERIOD_MS * 1_000_000 {
        let sleeping = thread_sleeps(core.thread_id);
        // Published in the meantime: it sleeps as it should.
        if core.doorbell.is_asleep() {
            return true;
        }
        core.doorbell.strike();
        counters.strikes.fetch_add(1, Ordering::Relaxed);
        if sleeping && !std::mem::replace(&mut seen.struck_parked, true) {
            counters.parked_with_work.fetch_add(1, Ordering::Relaxed);
        }
    }
    false
}

/// The kernel says that this thread of ours sleeps.
fn thread_sleeps(thread_id: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/self/task/{thread_id}/stat")) else {
        return false;
    };
    // The state follows the name in parentheses, which may hold anything.
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| rest.trim_start().starts_with('S'))
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            drop(thread.join());
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        tracing::info!(
            "watchdog: {} strikes, {} at cores that were parked with work, longest such standstill {} us",
            count(&self.counters.strikes),
            count(&self.counters.parked_with_work),
            count(&self.counters.longest_gap_ns) / 1_000
        );
    }
}
