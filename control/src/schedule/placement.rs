//! Picking free slots evenly.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::cluster::{SlotId, TaskManager, TaskManagers};
use crate::event::ConnectionId;

/// A TaskManager while slots are being picked.
struct Candidate<'a> {
    connection: ConnectionId,
    id: &'a str,
    used: usize,
    total: usize,
    /// Used slots by core.
    used_by_core: BTreeMap<u32, usize>,
    /// Free slots: core, number.
    free: Vec<(u32, u32)>,
}

impl<'a> Candidate<'a> {
    fn new(connection: ConnectionId, member: &'a TaskManager) -> Self {
        let mut candidate = Self {
            connection,
            id: &member.address.id,
            used: 0,
            total: member.slots.len(),
            used_by_core: BTreeMap::new(),
            free: Vec::new(),
        };
        for slot in &member.slots {
            if slot.is_free() {
                candidate.free.push((slot.core, slot.slot));
            } else {
                candidate.used += 1;
                *candidate.used_by_core.entry(slot.core).or_default() += 1;
            }
        }
        candidate
    }

    /// Less utilised first, then by name: registration order must not matter.
    fn compare(&self, other: &Self) -> Ordering {
        let (own, others) = (self.used * other.total, other.used * self.total);
        own.cmp(&others).then_with(|| self.id.cmp(other.id))
    }

    fn take(&mut self) -> Option<SlotId> {
        let used = |core: u32| self.used_by_core.get(&core).copied().unwrap_or(0);
        let best = (0..self.free.len()).min_by_key(|&at| {
            let (core, slot) = self.free[at];
            (used(core), core, slot)
        })?;
        let (core, slot) = self.free.swap_remove(best);
        *self.used_by_core.entry(core).or_default() += 1;
        self.used += 1;
        Some(SlotId {
            connection: self.connection,
            slot,
        })
    }
}

/// Picks free slots for each sharing group, `counts` of them, spread evenly; `None` when there are not as many.
///
/// A group's slots are ordered by TaskManager, so that neighbouring subtasks share one where they can.
/// Cost: O(slots x TaskManagers).
pub(crate) fn place(cluster: &TaskManagers, counts: &[u32]) -> Option<Vec<Vec<SlotId>>> {
    let mut candidates: Vec<Candidate<'_>> = cluster
        .iter()
        .map(|(connection, member)| Candidate::new(connection, member))
        .collect();
    counts
        .iter()
        .map(|&count| place_group(&mut candidates, count))
        .collect()
}

fn place_group(candidates: &mut [Candidate<'_>], count: u32) -> Option<Vec<SlotId>> {
    let mut picked = Vec::new();
    for _ in 0..count {
        let best = candidates
            .iter_mut()
            .filter(|candidate| !candidate.free.is_empty())
            .min_by(|a, b| a.compare(b))?;
        let slot = best.take()?;
        picked.push((best.id, slot));
    }
    // Slots of one TaskManager stay in the order in which they were picked: different cores first.
    picked.sort_by(|a, b| a.0.cmp(b.0));
    Some(picked.into_iter().map(|(_, slot)| slot).collect())
}

#[cfg(test)]
mod tests;
