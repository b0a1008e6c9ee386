//! A core's private io_uring.
//!
//! Owns: [`Uring`] (submission, completion, the bell for a sleeping core) and [`Features`] (what the kernel can do).
//! Invariant: one thread uses a ring, the one that made it. While the core is awake its completions make no noise: with
//! deferred task work the kernel only raises a flag in shared memory, so looking for news costs a load, however many
//! sockets there are. While the core sleeps, news ring its doorbell.
//! Left out: what the operations mean ([`crate::exchange::network`]).

use std::os::fd::RawFd;
use std::sync::atomic::{Ordering, fence};

use io_uring::{IoUring, Probe, cqueue, opcode, squeue, types};

use crate::limits::{RING_COMPLETIONS, RING_ENTRIES};

/// `IORING_ENTER_GETEVENTS`, io_uring_enter(2).
const GETEVENTS: u32 = 1;

/// What the kernel's io_uring can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Completions are worked off when the core asks, and announced by a flag (kernel 6.1).
    pub deferred: bool,
    /// One operation receives for ever, into blocks of a ring (kernel 6.0).
    pub multishot: bool,
    /// Sends may borrow memory until the network card is done with it (kernel 6.1).
    pub zero_copy: bool,
}

impl Features {
    /// Asks the kernel.
    ///
    /// # Errors
    /// No ring at all: io_uring is missing, or forbidden to this process.
    pub fn probe() -> std::io::Result<Self> {
        let plain = IoUring::new(2)?;
        let mut probe = Probe::new();
        plain.submitter().register_probe(&mut probe)?;
        Ok(Self {
            deferred: deferred(2).is_ok(),
            // Multishot receive has no mark of its own; zero-copy send came with the same kernel.
            multishot: probe.is_supported(opcode::SendZc::CODE),
            zero_copy: probe.is_supported(opcode::SendMsgZc::CODE),
        })
    }

    /// For people.
    #[must_use]
    pub fn describe(&self) -> &'static str {
        match (self.multishot, self.deferred) {
            (true, true) => "multishot receive into pooled buffers, deferred task work",
            (true, false) => {
                "multishot receive into pooled buffers; a kernel of 6.1 or newer interrupts less"
            }
            // Kernels with deferred task work have multishot receive too: somebody chose to do without.
            (false, true) => "one receive operation at a time as asked for, deferred task work",
            (false, false) => {
                "one receive operation at a time; a kernel of 6.1 or newer needs fewer system calls"
            }
        }
    }
}

fn deferred(entries: u32) -> std::io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_cqsize(RING_COMPLETIONS);
    builder.build(entries)
}

/// The kernel is busy or was interrupted: trying again helps.
#[must_use]
pub fn is_passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, ResourceBusy, WouldBlock};
    matches!(error.kind(), Interrupted | WouldBlock | ResourceBusy)
}

/// A finished operation.
#[derive(Debug, Clone, Copy)]
pub struct Completion {
    /// As submitted.
    pub user_data: u64,
    /// Bytes, or an error number below 0.
    pub result: i32,
    /// `IORING_CQE_F_*`.
    pub flags: u32,
}

impl Completion {
    /// More completions of this operation will come.
    #[must_use]
    pub fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The block that was received into.
    #[must_use]
    pub fn block(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    /// The kernel does not use the memory of a zero-copy send any more.
    #[must_use]
    pub fn released(&self) -> bool {
        cqueue::notif(self.flags)
    }
}

/// One core's ring.
#[allow(missing_debug_implementations, reason = "a ring has nothing to show")]
pub struct Uring {
    ring: IoUring,
}

impl Uring {
    /// A ring whose completions ring `doorbell_fd` while the core sleeps.
    ///
    /// # Errors
    /// The kernel has no io_uring, or forbids it.
    pub fn new(features: Features, doorbell_fd: RawFd) -> std::io::Result<Self> {
        let ring = if features.deferred {
            deferred(RING_ENTRIES)?
        } else {
            IoUring::builder()
                .setup_cqsize(RING_COMPLETIONS)
                .build(RING_ENTRIES)?
        };
        ring.submitter().register_eventfd(doorbell_fd)?;
        let mut ring = Self { ring };
        ring.on_awake();
        Ok(ring)
    }

    /// The ring itself, to register memory with.
    pub(super) fn raw(&self) -> &IoUring {
        &self.ring
    }

    /// Queues an operation.
    ///
    /// # Safety
    /// Memory that `entry` names stays valid and untouched until the operation completes.
    ///
    /// # Errors
    /// The kernel takes no operations.
    pub unsafe fn push(&mut self, entry: &squeue::Entry) -> std::io::Result<()> {
        if self.ring.submission().is_full()
            && let Err(error) = self.enter()
            && !is_passing(&error)
        {
            return Err(error);
        }
        // SAFETY: the caller's.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.map_err(|_| std::io::Error::other("the submission queue is full after a submit"))
    }

    /// There is something to submit, or the kernel has news.
    #[inline]
    #[must_use]
    pub fn wants_enter(&mut self) -> bool {
        let submission = self.ring.submission();
        submission.taskrun() || !submission.is_empty() || submission.cq_overflow()
    }

    /// Completions wait.
    #[inline]
    #[must_use]
    pub fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Submits what is queued and lets the kernel work off what it has for us.
    ///
    /// # Errors
    /// The kernel refuses; trying again later may help where it says `WouldBlock` or `Interrupted`.
    pub fn enter(&mut self) -> std::io::Result<()> {
        let queued = u32::try_from(self.ring.submission().len()).unwrap_or(u32::MAX);
        let submitter = self.ring.submitter();
        // SAFETY: no argument is passed, so the kernel reads none.
        let entered = unsafe { submitter.enter::<libc::sigset_t>(queued, 0, GETEVENTS, None) };
        entered.map(drop)
    }

    /// Waits for a completion, 10 ms at most.
    ///
    /// # Errors
    /// None came.
    pub fn wait(&mut self) -> std::io::Result<()> {
        let patience = types::Timespec::new().nsec(10_000_000);
        let arguments = types::SubmitArgs::new().timespec(&patience);
        let waited = self.ring.submitter().submit_with_args(1, &arguments);
        waited.map(drop)
    }

    /// Takes what has completed.
    pub fn reap(&mut self, into: &mut Vec<Completion>) {
        into.extend(self.ring.completion().map(|entry| Completion {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
    }

    /// From now on news ring the doorbell. Look for news once more after this.
    pub fn on_asleep(&mut self) {
        self.ring.completion().enable_eventfd();
        fence(Ordering::SeqCst);
    }

    /// From now on news are silent.
    pub fn on_awake(&mut self) {
        self.ring.completion().disable_eventfd();
    }
}
