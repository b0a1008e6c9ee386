//! A librdkafka queue that says when it has something, without being asked.
//!
//! Owns: [`ReadyQueue`]. librdkafka calls back when a queue goes from empty to not empty; the callback raises a flag and
//! rings the core's doorbell. So looking at an empty queue is one load: asking librdkafka costs 120 ns and takes the
//! lock that its broker thread needs to hand over the next fetch, on every sweep of a spinning core.
//! Invariant: whenever the queue holds something, the flag is up or the reader is about to raise it: librdkafka calls
//! back under the queue's lock at each step from empty, and the reader lowers the flag before it takes, and raises it
//! again when it may have left something.
//! Left out: what is in the queue.

use std::ffi::c_void;
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rdkafka::bindings as ffi;

use crate::runtime::doorbell::Bell;

/// Shared between the reader and librdkafka's threads.
#[derive(Debug)]
struct Signal {
    /// Raised by librdkafka's threads and by the reader, lowered by the reader.
    raised: AtomicBool,
    /// Set once by the reader.
    bell: OnceLock<Bell>,
}

/// A queue with a flag. Read by one thread at a time.
pub struct ReadyQueue {
    handle: NonNull<ffi::rd_kafka_queue_t>,
    signal: Arc<Signal>,
}

// SAFETY: queue handles and the signal may be used from any thread.
unsafe impl Send for ReadyQueue {}

impl ReadyQueue {
    /// Takes over a queue handle. Nothing else may enable events on this queue.
    ///
    /// # Safety
    /// `handle` is a live queue, whose reference becomes ours; its client outlives this.
    pub(crate) unsafe fn new(handle: NonNull<ffi::rd_kafka_queue_t>) -> Self {
        // Up at first: what came before the callback was set gave no sign.
        let signal = Arc::new(Signal {
            raised: AtomicBool::new(true),
            bell: OnceLock::new(),
        });
        let opaque = Arc::as_ptr(&signal).cast_mut().cast();
        // SAFETY: the queue is alive; the signal lives until after the callback is unset, in `drop`.
        unsafe { ffi::rd_kafka_queue_cb_event_enable(handle.as_ptr(), Some(on_not_empty), opaque) };
        Self { handle, signal }
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::rd_kafka_queue_t {
        self.handle.as_ptr()
    }

    /// From now on, rings the bell too. Look once more after this.
    pub fn ring(&self, bell: Bell) {
        // A second call keeps the first bell: a reader is opened once.
        drop(self.signal.bell.set(bell));
    }

    /// Whether there may be something to take. Lowers the flag: take until empty, or call [`ReadyQueue::raise`].
    #[inline]
    pub fn lower(&self) -> bool {
        self.signal.raised.load(Ordering::Relaxed)
            && self.signal.raised.swap(false, Ordering::AcqRel)
    }

    /// Something may be left.
    #[inline]
    pub fn raise(&self) {
        self.signal.raised.store(true, Ordering::Release);
    }
}

impl Drop for ReadyQueue {
    fn drop(&mut self) {
        // SAFETY: the queue is alive. Callbacks run under its lock, which this takes too: none runs after it.
        unsafe { ffi::rd_kafka_queue_cb_event_enable(self.as_ptr(), None, ptr::null_mut()) };
        // SAFETY: the reference is ours, given back once.
        unsafe { ffi::rd_kafka_queue_destroy(self.as_ptr()) };
    }
}

impl fmt::Debug for ReadyQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyQueue")
            .field("signal", &self.signal)
            .finish_non_exhaustive()
    }
}

/// Called by librdkafka's threads, with the queue's lock held: must not call librdkafka.
unsafe extern "C" fn on_not_empty(_client: *mut ffi::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: the opaque is a queue's signal, alive as long as its callback is set; shared references only.
    let Some(signal) = (unsafe { opaque.cast::<Signal>().as_ref() }) else {
        return;
    };
    // One that was up already has rung and was not looked at since.
    if !signal.raised.swap(true, Ordering::AcqRel)
        && let Some(bell) = signal.bell.get()
    {
        bell.ring();
    }
}
