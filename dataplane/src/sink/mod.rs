//! Where records end: sinks are operators without an output.
//!
//! Owns: [`discard`], [`mod@print`], [`kafka`], [`mod@file`]. Invariant: a sink counts what it handed to the outside (`sink_records`) and,
//! for records whose source stamped them, how long they took (`latency_us`).
//! Left out: two-phase commits, which come with checkpoints.

pub mod discard;
pub mod file;
pub mod kafka;
pub mod print;
