//! Rescues cores that sleep although they have work.
//!
//! Owns: [`Watchdog`]. glommio 0.9.0 can park an executor whose task is runnable (a completion that lands between its poll
//! and its first preemption check reads as "nothing to run"). The watchdog strikes the doorbell of each core whose sweeps
//! stand still for a period although the core has not published that it sleeps; the executor wakes up and goes on. Should
//! it take that ring and park once more before it runs anybody, nobody listens to the doorbell any longer: a core that still
//! stands after a strike has its sleep ended by a signal (`runtime::interrupt`), as often as it takes.
//! Invariant: such a core stands still for about one period at most: 1 ms, where the fault has been seen of late or cores have
//! just woken up, 10 ms in mid-flow, 50 ms after a long sleep. A strike at a core that is merely busy is harmless.
//! Left out: cores that hang in user code; nobody can take the core from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::limits::WATCHDOG_PERIOD_MS;
use crate::runtime::clock::Clock;
use crate::runtime::doorbell::Doorbell;
use crate::runtime::interrupt::Interrupt;

/// Looks in a row that saw the same, after which the watchdog looks less often: it shares its CPUs with others.
const CALM_LOOKS: u32 = 100;
/// How often it looks while all cores sleep; one that wakes up and parks at once waits this long for its rescue.
const ASLEEP_PERIOD: Duration = Duration::from_millis(50);
/// How often it looks while all cores sweep on or sleep; one that parks in mid-flow waits this long.
const MOVING_PERIOD: Duration = Duration::from_millis(10);

/// What the watchdog has seen.
#[derive(Debug, Default)]
pub struct WatchdogCounters {
    /// Strikes at cores that stood still. Written by the watchdog.
    pub strikes: AtomicU64,
    /// Strikes at cores whose thread slept in the kernel, although the core had not published so.
    pub parked_with_work: AtomicU64,
    /// Sleeps ended by a signal, because a strike had not. Written by the watchdog.
    pub interrupts: AtomicU64,
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
    /// No thread can be started, or no signal handler set.
    pub fn start(cores: Vec<Watched>) -> std::io::Result<Self> {
        let interrupt = Interrupt::new()?;
        let counters = Arc::new(WatchdogCounters::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopping) = (Arc::clone(&counters), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("rf-watchdog".to_owned())
            .spawn(move || {
                let clock = Clock::system();
                let mut seen: Vec<Seen> = cores.iter().map(|_| Seen::default()).collect();
                let (mut asleep, mut moving) = (0, 0);
                while !stopping.load(Ordering::Acquire) {
                    let period = if asleep > CALM_LOOKS {
                        ASLEEP_PERIOD
                    } else if moving > CALM_LOOKS {
                        MOVING_PERIOD
                    } else {
                        Duration::from_millis(WATCHDOG_PERIOD_MS)
                    };
                    std::thread::park_timeout(period);
                    let mut all = Look::Asleep;
                    for (core, seen) in cores.iter().zip(&mut seen) {
                        all = all.max(look(core, seen, clock.now_ns(), &interrupt, &shared));
                    }
                    asleep = if all == Look::Asleep { asleep + 1 } else { 0 };
                    moving = if all < Look::StoodStill {
                        moving + 1
                    } else {
                        0
                    };
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

/// What a look at a core saw, the calmest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Look {
    /// It sleeps as it should.
    Asleep,
    /// It has swept since the last look.
    Moving,
    /// It has not.
    StoodStill,
}

/// Looks at one core.
fn look(
    core: &Watched,
    seen: &mut Seen,
    now_ns: u64,
    interrupt: &Interrupt,
    counters: &WatchdogCounters,
) -> Look {
    let sweeps = core.doorbell.sweeps();
    if sweeps != seen.sweeps {
        if std::mem::take(&mut seen.struck_parked) {
            counters
                .longest_gap_ns
                .fetch_max(now_ns.saturating_sub(seen.moved_ns), Ordering::Relaxed);
        }
        seen.sweeps = sweeps;
        seen.moved_ns = now_ns;
        return if core.doorbell.is_asleep() {
            Look::Asleep
        } else {
            Look::Moving
        };
    }
    if core.doorbell.is_asleep() {
        seen.moved_ns = now_ns;
        return Look::Asleep;
    }
    if now_ns.saturating_sub(seen.moved_ns) >= WATCHDOG_PERIOD_MS * 1_000_000 {
        let sleeping = thread_sleeps(core.thread_id);
        // Published in the meantime: it sleeps as it should.
        if core.doorbell.is_asleep() {
            return Look::Asleep;
        }
        core.doorbell.strike();
        counters.strikes.fetch_add(1, Ordering::Relaxed);
        if !sleeping {
            return Look::StoodStill;
        }
        if !std::mem::replace(&mut seen.struck_parked, true) {
            counters.parked_with_work.fetch_add(1, Ordering::Relaxed);
        } else if interrupt.end_sleep(core.thread_id) {
            counters.interrupts.fetch_add(1, Ordering::Relaxed);
        }
    }
    Look::StoodStill
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
            "watchdog: {} strikes, {} at cores that were parked with work, {} sleeps ended by a signal, longest such standstill \
             {} us",
            count(&self.counters.strikes),
            count(&self.counters.parked_with_work),
            count(&self.counters.interrupts),
            count(&self.counters.longest_gap_ns) / 1_000
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// What is left when an executor takes a strike and parks once more before it runs anybody: a ring in which nothing is armed.
    #[test]
    fn a_core_that_listens_to_nothing_has_its_sleep_ended() {
        let doorbell = Arc::new(Doorbell::new().expect("an eventfd"));
        let (tell, thread_id) = channel();
        let sleep = move || {
            let ring = io_uring::IoUring::new(2).expect("io_uring");
            let own = rustix::thread::gettid().as_raw_nonzero().get();
            tell.send(own).expect("the test waits for it");
            ring.submitter().submit_and_wait(1)
        };
        let core = std::thread::Builder::new().name("parked".to_owned());
        let core = core.spawn(sleep).expect("a thread");
        let thread_id = thread_id.recv().expect("the thread says who it is");
        let watched = Watched {
            doorbell,
            thread_id,
        };
        let watchdog = Watchdog::start(vec![watched]).expect("a thread");
        let ended = core.join().expect("no panic");
        let error = ended.expect_err("nothing completes in an empty ring");
        assert_eq!(error.kind(), std::io::ErrorKind::Interrupted);
        let counters = watchdog.counters();
        assert_eq!(counters.parked_with_work.load(Ordering::Relaxed), 1);
        assert!(counters.interrupts.load(Ordering::Relaxed) >= 1);
    }
}
