//! Waking a sleeping core when one of its sockets becomes ready.
//!
//! Owns: [`Readiness`]: a private io_uring that holds one-shot polls while the core sleeps; its completions ring the
//! core's doorbell by themselves (`register_eventfd`), so the core waits in one place only.
//! Invariant: when the core sleeps, every open socket has a poll for reading in the ring, and one for writing when there
//! is more to write. Polls that did not fire stay armed over the next sleeps.
//! Left out: moving data. The completion side costs nothing while the core is awake.

use std::collections::HashMap;
use std::os::fd::RawFd;

use io_uring::{IoUring, opcode, types};

/// Entries of the submission queue; more polls are submitted in several calls.
const ENTRIES: u32 = 64;

#[derive(Debug, Default, Clone, Copy)]
struct Armed {
    read: bool,
    write: bool,
}

/// The waits of one core.
#[allow(missing_debug_implementations, reason = "a ring has nothing to show")]
pub struct Readiness {
    ring: IoUring,
    armed: HashMap<u64, Armed>,
}

const WRITE: u64 = 1;

/// `IORING_ENTER_GETEVENTS`, io_uring_enter(2).
const GETEVENTS: u32 = 1;

/// What the kernel's io_uring can do, for people: whether a ring can be had, and with deferred task work (kernel 6.1).
///
/// # Errors
/// No ring at all: io_uring is missing, or forbidden to this process.
pub fn features() -> std::io::Result<&'static str> {
    let mut builder = IoUring::<io_uring::squeue::Entry>::builder();
    builder.setup_single_issuer().setup_defer_taskrun();
    match builder.build(2) {
        Ok(_) => Ok("single issuer, deferred task work"),
        Err(_) => IoUring::new(2).map(|_| "plain rings: a kernel of 6.1 or newer interrupts less"),
    }
}

impl Readiness {
    /// A ring whose completions ring `doorbell_fd`.
    ///
    /// # Errors
    /// The kernel has no io_uring, or forbids it.
    pub fn new(doorbell_fd: RawFd) -> std::io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun();
        // Kernels before 6.1 know neither flag: a plain ring does the same with more interrupts.
        let ring = builder.build(ENTRIES).or_else(|_| IoUring::new(ENTRIES))?;
        ring.submitter().register_eventfd(doorbell_fd)?;
        Ok(Self {
            ring,
            armed: HashMap::new(),
        })
    }

    /// Makes the bell ring when `fd` can be read (and written, with `write`). `id` is the connection's, below 2^63.
    ///
    /// # Errors
    /// The ring takes no more: the caller must not sleep.
    pub fn arm(&mut self, id: u64, fd: RawFd, write: bool) -> std::io::Result<()> {
        let armed = self.armed.get(&id).copied().unwrap_or_default();
        if !armed.read {
            self.push(fd, libc::POLLIN, id << 1)?;
            self.armed.entry(id).or_default().read = true;
        }
        if write && !armed.write {
            self.push(fd, libc::POLLOUT, id << 1 | WRITE)?;
            self.armed.entry(id).or_default().write = true;
        }
        Ok(())
    }

    fn push(&mut self, fd: RawFd, events: i16, user_data: u64) -> std::io::Result<()> {
        let poll = opcode::PollAdd::new(types::Fd(fd), u32::from(events.cast_unsigned()))
            .build()
            .user_data(user_data);
        if self.ring.submission().is_full() {
            self.ring.submit()?;
        }
        // SAFETY: a poll has no buffers; the descriptor is held by the kernel while the poll is armed.
        let pushed = unsafe { self.ring.submission().push(&poll) };
        pushed.map_err(|_| std::io::Error::other("the submission queue is full after a submit"))
    }

    /// Hands the new polls to the kernel.
    ///
    /// # Errors
    /// As [`Readiness::arm`].
    pub fn submit(&mut self) -> std::io::Result<()> {
        if !self.ring.submission().is_empty() {
            self.ring.submit()?;
        }
        Ok(())
    }

    /// Forgets the polls that fired; the core is awake and looks at its sockets anyway.
    pub fn reap(&mut self) {
        loop {
            // With deferred task work completions appear only when we ask for them.
            // SAFETY: no argument is passed, so the kernel reads none; with nothing to wait for it only runs pending work.
            let entered = unsafe {
                self.ring
                    .submitter()
                    .enter::<libc::sigset_t>(0, 0, GETEVENTS, None)
            };
            if let Err(error) = entered {
                tracing::debug!("cannot reap readiness: {error}");
            }
            let mut reaped = false;
            for completion in self.ring.completion() {
                reaped = true;
                if let Some(armed) = self.armed.get_mut(&(completion.user_data() >> 1)) {
                    if completion.user_data() & WRITE == 0 {
                        armed.read = false;
                    } else {
                        armed.write = false;
                    }
                }
            }
            // More than the queue holds waits in the kernel, and comes with the next call.
            if !reaped || !self.ring.submission().cq_overflow() {
                return;
            }
        }
    }

    /// The connection is gone.
    pub fn forget(&mut self, id: u64) {
        self.armed.remove(&id);
    }
}
