//! The TaskManagers that are registered, their slots and exchange buffers.
//!
//! Owns: [`TaskManagers`], one entry per connection: a TaskManager that comes back is a new one.
//! Invariant: a slot holds subtasks of at most one job, and is free only when the last of them is terminal.
//! Left out: choosing slots and levels of buffering (schedule/).

mod network;
mod registration;
mod task_managers;

pub(crate) use network::{Hold, NetworkMemory};
pub(crate) use registration::check;
pub(crate) use task_managers::{CoreId, SlotId, TaskManager, TaskManagerAddress, TaskManagers};
