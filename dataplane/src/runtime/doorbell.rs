//! How a sleeping core is woken.
//!
//! Owns: [`Doorbell`]: one eventfd per core and the flag that says whether the core sleeps.
//! Whoever has something for a core publishes it first, then calls [`Doorbell::ring`]; the core publishes "asleep", looks
//! once more, and only then waits. Both sides put a sequentially consistent fence between their store and their load, so
//! one of them sees the other.
//! [`Bell`] is the same eventfd for threads that are not the engine's own.
//! Invariant: no work that was published before `ring` waits for a core that sleeps.
//! Left out: who reads the eventfd (the core's bell task, [`crate::runtime::core`]).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};

use crate::error::{Error, Result};

/// One core's bell. Shared with every thread that may have work for the core.
#[derive(Debug)]
pub struct Doorbell {
    eventfd: OwnedFd,
    /// Written by the core; cleared by whoever rings.
    asleep: AtomicBool,
    /// Sweeps of the core's poller. Written by the core, read by the watchdog.
    sweeps: AtomicU64,
}

impl Doorbell {
    /// A new bell.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn new() -> std::io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Self {
            eventfd,
            asleep: AtomicBool::new(false),
            sweeps: AtomicU64::new(0),
        })
    }

    /// Wakes the core if it sleeps. Call after publishing the work.
    ///
    /// Cost: a fence and a load while the core is awake; one `write` when it sleeps.
    #[inline]
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            self.strike();
        }
    }

    /// Writes to the eventfd whether or not the core says that it sleeps.
    pub fn strike(&self) {
        // The counter can only be full after 2^64 - 1 strikes, and a bell that is already ringing need not ring more.
        let written = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
        debug_assert!(written.is_ok(), "an eventfd takes 8 bytes");
    }

    /// The core is about to sleep: it must look at its inputs once more after this.
    pub fn publish_asleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The core is awake.
    pub fn publish_awake(&self) {
        self.asleep.store(false, Ordering::Release);
    }

    /// The core has published that it sleeps.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Acquire)
    }

    /// Counts one sweep of the core's poller.
    #[inline]
    pub fn count_sweep(&self) {
        // Only the core writes, so a plain add is enough.
        self.sweeps.store(
            self.sweeps.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }

    /// Sweeps so far.
    #[must_use]
    pub fn sweeps(&self) -> u64 {
        self.sweeps.load(Ordering::Relaxed)
    }

    /// The eventfd, for libraries that ring by themselves; open as long as the bell.
    #[must_use]
    pub fn as_raw_fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }
}

/// The core's eventfd, held open by a descriptor of our own: who rings outlives the core by the time it takes to
/// dispose of them, and must not write to a number that means something else by then.
#[derive(Debug, Clone)]
pub struct Bell(Arc<OwnedFd>);

impl Bell {
    /// A bell that writes to the eventfd `doorbell_fd`.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn new(doorbell_fd: RawFd) -> Result<Self> {
        // SAFETY: the core keeps its doorbell open while it opens readers and operators, which is now.
        let doorbell = unsafe { BorrowedFd::borrow_raw(doorbell_fd) };
        let own = doorbell.try_clone_to_owned();
        own.map(|own| Self(Arc::new(own))).map_err(|error| {
            Error::deployment(format!(
                "cannot duplicate the doorbell of this core: {error}"
            ))
        })
    }

    /// Wakes the core, whether or not it sleeps.
    pub fn ring(&self) {
        // An eventfd takes 8 bytes in native order; its counter fills up only after 2^64 - 1 rings.
        let rung = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
        debug_assert!(rung.is_ok(), "an eventfd takes 8 bytes");
    }
}
