//! The floors: bare programs that do the least that any engine must do, on the same CPUs in the same run.
//!
//! Owns: [`socket`] (messages over loopback TCP), [`keyed_sum`] (the keyed running sum, by hand), [`hand_off`] (a word
//! between two cores). Invariant: nothing of the engine is used here but its records and its clock.
//! Left out: tuning: a floor is a straight program, and what the engine saves by batching or costs by its checks shows
//! against it.

pub mod hand_off;
pub mod keyed_sum;
pub mod socket;
