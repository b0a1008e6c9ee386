//! Who is registered, when they were last heard, and which of their slots and buffers are taken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ringflow_schemas::id::JobId;

use super::NetworkMemory;
use crate::event::{ConnectionId, Registration};
use crate::time::Timestamp;

/// One slot of one incarnation of a TaskManager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotId {
    pub(crate) connection: ConnectionId,
    pub(crate) slot: u32,
}

/// One data core of one incarnation of a TaskManager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CoreId {
    pub(crate) connection: ConnectionId,
    pub(crate) core: u32,
}

/// What others need to reach or name a TaskManager; outlives its registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaskManagerAddress {
    pub(crate) id: Arc<str>,
    pub(crate) host: Arc<str>,
    pub(crate) data_ports: Vec<u16>,
    pub(crate) pid: u32,
}

impl TaskManagerAddress {
    /// `host:port` of its first data core, which REST calls its endpoint.
    pub(crate) fn endpoint(&self) -> String {
        format!(
            "{}:{}",
            self.host,
            self.data_ports.first().copied().unwrap_or(0)
        )
    }

    /// `tm-2 (127.0.0.1:40123, pid 4711)`.
    pub(crate) fn describe(&self) -> String {
        format!("{} ({}, pid {})", self.id, self.endpoint(), self.pid)
    }
}

/// A slot and who is in it.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) slot: u32,
    pub(crate) core: u32,
    occupant: Option<Occupant>,
}

#[derive(Debug, Clone, Copy)]
struct Occupant {
    job: JobId,
    /// Subtasks in it that are not terminal.
    subtasks: usize,
}

impl Slot {
    pub(crate) fn is_free(&self) -> bool {
        self.occupant.is_none()
    }

    /// The job whose subtasks are in it.
    pub(crate) fn job(&self) -> Option<JobId> {
        self.occupant.map(|occupant| occupant.job)
    }

    /// Its subtasks that are not terminal.
    pub(crate) fn subtasks(&self) -> usize {
        self.occupant.map_or(0, |occupant| occupant.subtasks)
    }
}

/// One registered TaskManager.
#[derive(Debug)]
pub(crate) struct TaskManager {
    pub(crate) address: Arc<TaskManagerAddress>,
    pub(crate) registration: Registration,
    pub(crate) slots: Vec<Slot>,
    pub(crate) heard_at: Timestamp,
    pub(crate) process_cpu_ns: Option<u64>,
    pub(crate) free_memory_bytes: u64,
    pub(crate) network: NetworkMemory,
    /// Buffers in use and in all, as it last told.
    pub(crate) buffers: Option<(u64, u64)>,
}

impl TaskManager {
    pub(crate) fn free_slots(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_free()).count()
    }
}

/// All registered TaskManagers.
#[derive(Debug, Default)]
pub(crate) struct TaskManagers {
    members: BTreeMap<ConnectionId, TaskManager>,
    /// Counts changes of the set of free slots.
    version: u64,
    changed_at: Timestamp,
}

impl TaskManagers {
    /// Adds a checked registration.
    pub(crate) fn add(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        registration: Registration,
    ) {
        let address = Arc::new(TaskManagerAddress {
            id: registration.task_manager_id.as_str().into(),
            host: registration.data_host.as_str().into(),
            data_ports: registration.data_ports.clone(),
            pid: registration.pid,
        });
        let mut slots: Vec<Slot> = registration
            .slots
            .iter()
            .map(|slot| Slot {
                slot: slot.slot,
                core: slot.core,
                occupant: None,
            })
            .collect();
        slots.sort_by_key(|slot| slot.slot);
        let free_memory_bytes = registration.free_memory_bytes;
        let network = NetworkMemory::new(&registration);
        self.members.insert(
            connection,
            TaskManager {
                address,
                registration,
                slots,
                heard_at: now,
                process_cpu_ns: None,
                free_memory_bytes,
                network,
                buffers: None,
            },
        );
        self.changed(now);
    }

    /// Removes one and its slots.
    pub(crate) fn remove(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
    ) -> Option<TaskManager> {
        let removed = self.members.remove(&connection);
        if removed.is_some() {
            self.changed(now);
        }
        removed
    }

    pub(crate) fn get(&self, connection: ConnectionId) -> Option<&TaskManager> {
        self.members.get(&connection)
    }

    pub(crate) fn get_mut(&mut self, connection: ConnectionId) -> Option<&mut TaskManager> {
        self.members.get_mut(&connection)
    }

    /// The one of this name.
    pub(crate) fn find(&self, id: &str) -> Option<(ConnectionId, &TaskManager)> {
        self.iter().find(|(_, member)| &*member.address.id == id)
    }

    /// In order of connections.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnectionId, &TaskManager)> {
        self.members
            .iter()
            .map(|(&connection, member)| (connection, member))
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn slots_total(&self) -> usize {
        self.members.values().map(|member| member.slots.len()).sum()
    }

    pub(crate) fn slots_free(&self) -> usize {
        self.members.values().map(TaskManager::free_slots).sum()
    }

    /// The core that runs `slot`.
    pub(crate) fn core_of(&self, slot: SlotId) -> Option<CoreId> {
        let member = self.get(slot.connection)?;
        let at = member
            .slots
            .binary_search_by_key(&slot.slot, |slot| slot.slot)
            .ok()?;
        Some(CoreId {
            connection: slot.connection,
            core: member.slots.get(at)?.core,
        })
    }

    /// Buffers of `core` that jobs may share.
    pub(crate) fn buffers_for_jobs(&self, core: CoreId) -> u64 {
        self.get(core.connection)
            .map_or(0, |member| member.network.for_jobs())
    }

    /// Buffers of `core` held by the jobs that `of` names.
    pub(crate) fn buffers_held(&self, core: CoreId, of: impl Fn(JobId) -> bool) -> u64 {
        self.get(core.connection)
            .map_or(0, |member| member.network.held(core.core, of))
    }

    /// Moves the moments from which deadlines run, when nobody looked at them for `gap`.
    pub(crate) fn stood_still(&mut self, now: Timestamp, gap: Duration) {
        for member in self.members.values_mut() {
            member.heard_at = member.heard_at.after(gap).min(now);
        }
        self.changed_at = self.changed_at.after(gap).min(now);
    }

    /// Counts changes of the set of free slots: a scheduler that failed at this version need not try again.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// When the set of free slots last changed.
    pub(crate) fn changed_at(&self) -> Timestamp {
        self.changed_at
    }

    fn changed(&mut self, now: Timestamp) {
        self.version += 1;
        self.changed_at = now;
    }

    /// Takes a free slot for `subtasks` subtasks of `job`. Whether it was free.
    pub(crate) fn occupy(
        &mut self,
        now: Timestamp,
        slot: SlotId,
        job: JobId,
        subtasks: usize,
    ) -> bool {
        let taken = match self.slot_mut(slot) {
            Some(slot) if slot.is_free() && subtasks > 0 => {
                slot.occupant = Some(Occupant { job, subtasks });
                true
            }
            _ => false,
        };
        if taken {
            self.changed(now);
        }
        taken
    }

    /// One subtask of `job` in `slot` is terminal. Slots and buffers of a lost TaskManager are gone already.
    ///
    /// The subtask that gives back the job's buffers is the last of its slot too, so `version` counts both.
    pub(crate) fn release(&mut self, now: Timestamp, slot: SlotId, job: JobId) {
        if let Some(member) = self.members.get_mut(&slot.connection) {
            member.network.subtask_ended(job);
        }
        let Some(slot) = self.slot_mut(slot) else {
            return;
        };
        let Some(occupant) = slot
            .occupant
            .as_mut()
            .filter(|occupant| occupant.job == job)
        else {
            return;
        };
        occupant.subtasks = occupant.subtasks.saturating_sub(1);
        if occupant.subtasks == 0 {
            slot.occupant = None;
            self.changed(now);
        }
    }

    fn slot_mut(&mut self, id: SlotId) -> Option<&mut Slot> {
        let slots = &mut self.members.get_mut(&id.connection)?.slots;
        let at = slots
            .binary_search_by_key(&id.slot, |slot| slot.slot)
            .ok()?;
        slots.get_mut(at)
    }
}
