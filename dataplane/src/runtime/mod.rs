//! Everything about threads, cores and time.
//!
//! Owns: [`core`] (a data core and its border; its poller is in `poller`), [`doorbell`], [`watchdog`],
//! [`placement`], [`housekeeping`], [`future_threads`], [`clock`], [`wakeup`] (what sleeping costs here), and what operators
//! learn of it ([`context`], [`on_core`]).
//! Invariant: glommio and the clocks are used in this folder only.
//! Left out: what the subtasks do.

pub mod clock;
pub mod context;
pub mod core;
pub mod doorbell;
pub mod future_threads;
pub mod housekeeping;
mod interrupt;
pub mod on_core;
pub mod placement;
mod poller;
pub mod wakeup;
pub mod watchdog;
