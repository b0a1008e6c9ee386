//! The TaskManagers that are registered, and their slots.
//!
//! Owns: [`TaskManagers`], one entry per connection: a TaskManager that comes back is a new one.
//! Invariant: a slot holds subtasks of at most one job, and is free only when the last of them is terminal.
//! Left out: choosing slots (schedule/).

mod registration;
mod task_managers;

pub(crate) use registration::check;
pub(crate) use task_managers::{SlotId, TaskManager, TaskManagerAddress, TaskManagers};
