//! Ends the sleep of a thread in the kernel, whatever it waits for.
//!
//! Owns: [`Interrupt`], a signal whose handler does nothing: the system call that the thread sleeps in ends with EINTR.
//! Invariant: only threads of this process that wait for an io_uring are signalled; the executor there takes EINTR as a
//! reason to look around. `SIGURG` is used because nobody minds it: debuggers pass it on, and by default it is ignored.
//! Left out: when a thread should be woken ([`crate::runtime::watchdog`]).

use std::io;

/// Leave to end sleeps: the handler is in place.
#[derive(Debug)]
pub(super) struct Interrupt(());

extern "C" fn nothing(_signal: libc::c_int) {}

impl Interrupt {
    /// Puts the handler in place, for the process.
    pub(super) fn new() -> io::Result<Self> {
        let handler: extern "C" fn(libc::c_int) = nothing;
        // SAFETY: all of the struct is plain numbers, of which 0 is valid: no flags, so that calls are not restarted, and an
        // empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as libc::sighandler_t;
        // SAFETY: `action` lives through the call, and its handler, which lives as long as the process, touches nothing.
        let set = unsafe { libc::sigaction(libc::SIGURG, &raw const action, std::ptr::null_mut()) };
        if set == 0 {
            Ok(Self(()))
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Ends the sleep of a thread of this process, if it waits for an io_uring; says whether it did.
    ///
    /// One that is about to sleep may sleep all the same: look again.
    pub(super) fn end_sleep(&self, thread_id: i32) -> bool {
        if !waits_for_ring(thread_id) {
            return false;
        }
        let own = rustix::process::getpid().as_raw_nonzero().get();
        // SAFETY: takes numbers. The thread group is our own, so a thread that has ended gives an error and reaches nobody else.
        let sent = unsafe { libc::tgkill(own, thread_id, libc::SIGURG) };
        sent == 0
    }
}

/// The kernel says that this thread of ours is in `io_uring_enter`. Where it says nothing of system calls, it may be.
fn waits_for_ring(thread_id: i32) -> bool {
    let Ok(call) = std::fs::read_to_string(format!("/proc/self/task/{thread_id}/syscall")) else {
        return true;
    };
    let number = call.split_whitespace().next();
    number.and_then(|number| number.parse().ok()) == Some(libc::SYS_io_uring_enter)
}
