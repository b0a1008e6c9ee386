//! From a deployment message to subtasks on cores.
//!
//! ```text
//!  message -> descriptor: Deployment -> building: BuiltDeployment -> wiring, channels: SubtaskSpec
//!             control thread            housekeeping thread          control thread
//! ```
//! Owns: the three steps, a file each: reading descriptors into inner types ([`Deployment::parse`]), building operators
//! on housekeeping threads ([`build`]), wiring channels inside the process ([`wire`]).
//! Invariant: nothing starts unless every subtask of the deployment could be built; all channels inside the process are
//! wired before the first subtask reaches its core.
//! Left out: connections to other processes (made before, by the control client).

mod building;
mod channels;
mod descriptor;
mod wiring;

pub use building::{BuiltDeployment, build};
pub(super) use channels::not_connected;
pub use descriptor::{Deployment, Peer, SubtaskPlan};
pub use wiring::{Leftover, Unwired, wire};

#[cfg(test)]
mod tests;
