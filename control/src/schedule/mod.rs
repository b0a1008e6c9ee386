//! Which slots a job gets.
//!
//! Owns: the choice, as pure functions. `placement` picks slots, `sharing` says which subtask sits in which of them,
//! `network` whether the buffers there suffice.
//!
//! The problem: given TaskManagers m with slots S_m of which U_m are used, choose n free slots so that the greatest
//! utilisation |used_m| / |S_m| becomes as small as it can; inside a TaskManager prefer cores with fewest used slots.
//! Greedy choice of the least utilised TaskManager, slot by slot, is optimal here, because each step raises one
//! utilisation by a fixed 1 / |S_m|.
//!
//! Invariant: the same view gives the same choice.
//! Left out: where inputs are, earlier placements, choosing slots by the buffers that are left.

mod network;
mod placement;
mod sharing;

pub(crate) use network::{Fit, buffers_on, channels_by_core, fit};
pub(crate) use placement::place;
pub(crate) use sharing::seats;
