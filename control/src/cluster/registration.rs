//! What a registration must be before it is believed.
//!
//! Owns: the refusals. Invariant: behind [`check`], slot numbers are unique, every slot's core has a data port and every
//! core the buffers to receive.

use std::collections::BTreeSet;

use ringflow_schemas::network::check_network_memory;

use crate::event::Registration;
use crate::limits;

/// Checks a registration by itself.
///
/// # Errors
/// Why it is refused, for the person who started that TaskManager.
pub(crate) fn check(registration: &Registration, version: &str) -> Result<(), String> {
    let id = &registration.task_manager_id;
    if id.is_empty() || id.len() > limits::NAME_BYTES_MAX {
        return Err(format!(
            "TaskManager id must have 1 to {} bytes",
            limits::NAME_BYTES_MAX
        ));
    }
    if registration.data_host.is_empty() || registration.data_host.len() > limits::NAME_BYTES_MAX {
        return Err(format!(
            "TaskManager {id} gave no data host where others could reach it"
        ));
    }
    if registration.version != version {
        return Err(format!(
            "TaskManager {id} runs ringflow {}, this JobManager runs {version}: use the same version",
            registration.version
        ));
    }
    let cores = registration.data_ports.len();
    if cores == 0 || cores > limits::CORES_PER_TASK_MANAGER_MAX {
        return Err(format!(
            "TaskManager {id} has {cores} data cores, expected 1 to {}",
            limits::CORES_PER_TASK_MANAGER_MAX
        ));
    }
    let core_count = u32::try_from(cores).unwrap_or(u32::MAX);
    check_network_memory(registration.network_memory_bytes, core_count)
        .map_err(|reason| format!("TaskManager {id}: {reason}"))?;
    let slots = registration.slots.len();
    if slots == 0 || slots > limits::SLOTS_PER_TASK_MANAGER_MAX {
        return Err(format!(
            "TaskManager {id} has {slots} slots, expected 1 to {}",
            limits::SLOTS_PER_TASK_MANAGER_MAX
        ));
    }
    let mut seen = BTreeSet::new();
    for slot in &registration.slots {
        if !seen.insert(slot.slot) {
            return Err(format!("TaskManager {id} offers slot {} twice", slot.slot));
        }
        if slot.core as usize >= cores {
            return Err(format!(
                "slot {} of TaskManager {id} is on core {}, but it has {cores} data cores",
                slot.slot, slot.core
            ));
        }
    }
    Ok(())
}
