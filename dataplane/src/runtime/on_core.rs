//! A place for values that live on one core inside operators that travel there.
//!
//! Owns: [`OnCore`]. Operators are built on a housekeeping thread and must be `Send`; what they get in `open` (shared
//! counters, clocks) is not. Invariant: a value is touched and dropped only on the thread that set it, checked at run
//! time. Left out: everything else; use it for handles from `open` only.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// A thread's number, never given twice in a process.
type ThreadNumber = u64;

/// This thread's number. Cost: one load, where `std::thread::current().id()` counts a reference up and down.
#[inline]
fn this_thread() -> ThreadNumber {
    thread_local! {
        /// 0: no number yet.
        static NUMBER: Cell<ThreadNumber> = const { Cell::new(0) };
    }
    NUMBER.with(|number| match number.get() {
        0 => {
            let fresh = next_number();
            number.set(fresh);
            fresh
        }
        known => known,
    })
}

#[cold]
fn next_number() -> ThreadNumber {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Holds a value that belongs to the thread that set it.
pub struct OnCore<T>(Option<(ThreadNumber, T)>);

impl<T> std::fmt::Debug for OnCore<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let owner = self.0.as_ref().map(|(owner, _)| owner);
        f.debug_struct("OnCore")
            .field("owner", &owner)
            .finish_non_exhaustive()
    }
}

// SAFETY: an empty `OnCore` holds nothing. A set one gives its value out only to the thread that set it (`get` checks),
// and drops it only there (`Drop` leaks it elsewhere), so no other thread ever touches the value.
unsafe impl<T> Send for OnCore<T> {}

impl<T> OnCore<T> {
    /// Holds nothing yet.
    #[must_use]
    pub const fn empty() -> Self {
        Self(None)
    }

    /// Puts the value in; from now on it belongs to this thread.
    pub fn set(&mut self, value: T) {
        self.assert_here();
        self.0 = Some((this_thread(), value));
    }

    /// The value.
    ///
    /// # Panics
    /// When nothing was set, or on another thread than the one that set it: a fault of the engine.
    #[inline]
    #[must_use]
    pub fn get(&self) -> &T {
        self.assert_here();
        &self
            .0
            .as_ref()
            .expect("set in `open`, which is the first call")
            .1
    }

    fn assert_here(&self) {
        if let Some((owner, _)) = &self.0 {
            assert_eq!(*owner, this_thread(), "the value belongs to another core");
        }
    }
}

impl<T> Drop for OnCore<T> {
    fn drop(&mut self) {
        if let Some((owner, value)) = self.0.take()
            && owner != this_thread()
        {
            std::mem::forget(value);
        }
    }
}
