//! What the exchange between processes promises, seen from outside: processes that stand still (`pauses.rs`), system
//! calls and idle cost (`cost.rs`), ways of receiving and sending (`modes.rs`).

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests wait for conditions with a deadline"
)]

mod cost;
mod modes;
mod pauses;
mod proc;
#[path = "../support/mod.rs"]
mod support;

/// How often a wait that the test measures over looks.
const LOOK: std::time::Duration = std::time::Duration::from_millis(50);

/// Lets time pass that the test is about, and calls `look` meanwhile.
fn pass(time: std::time::Duration, mut look: impl FnMut()) {
    let start = std::time::Instant::now();
    while start.elapsed() < time {
        look();
        std::thread::park_timeout(LOOK);
    }
}
