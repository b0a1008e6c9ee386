//! Ctrl-C and SIGTERM while a client waits.
//!
//! Owns: [`Interrupts`]. Invariant: the first one asks for an orderly end, the second ends the process.
//! Left out: the long-running roles, which have their own way to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// Exit code of a process ended by SIGINT, as shells report it.
const EXIT_INTERRUPTED: i32 = 130;

/// Counts what the user sent.
#[derive(Debug)]
pub struct Interrupts(Arc<AtomicU32>);

impl Interrupts {
    /// Listens from now on, from a thread of its own. `None` when no thread or signal handler can be had: then signals
    /// end the process as they always do.
    #[must_use]
    pub fn listen() -> Option<Self> {
        let count = Arc::new(AtomicU32::new(0));
        let shared = Arc::clone(&count);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .ok()?;
        let (mut interrupt, mut terminate) = {
            let _entered = runtime.enter();
            (
                signal(SignalKind::interrupt()).ok()?,
                signal(SignalKind::terminate()).ok()?,
            )
        };
        let listen = async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if shared.fetch_add(1, Ordering::Relaxed) > 0 {
                    #[allow(clippy::exit, reason = "the user has asked twice")]
                    std::process::exit(EXIT_INTERRUPTED);
                }
            }
        };
        let thread = std::thread::Builder::new().name("rf-interrupt".to_owned());
        thread.spawn(move || runtime.block_on(listen)).ok()?;
        Some(Self(count))
    }

    /// The user asked for an end.
    #[must_use]
    pub fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}
