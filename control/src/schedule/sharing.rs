//! Which slot of a sharing group a subtask sits in.
//!
//! Owns: the rule. Invariant: the subtasks of one vertex sit in different slots; those of vertices with as many subtasks
//! as the group has slots sit with their neighbours of the same index.
//!
//! Source: Flink `LocalInputPreferredSlotSharingStrategy`, for pointwise edges.

use std::collections::BTreeMap;

use crate::cluster::SlotId;
use crate::graph::job_graph::JobGraph;

/// The slot of every subtask, by vertex, then by subtask; `slots`: those that each sharing group got.
pub(crate) fn seats(
    job_graph: &JobGraph,
    slots: &BTreeMap<String, Vec<SlotId>>,
) -> Vec<Vec<SlotId>> {
    job_graph
        .vertices
        .iter()
        .map(|vertex| {
            let group = slots
                .get(&vertex.slot_sharing_group)
                .map_or(&[][..], Vec::as_slice);
            (0..vertex.parallelism)
                .map(|subtask| group[slot_of(subtask, vertex.parallelism, group.len())])
                .collect()
        })
        .collect()
}

/// The slot, 0..`slots`, of subtask `subtask` of a vertex with `parallelism` subtasks.
///
/// A smaller vertex is spread over the group's slots; where it reads a pointwise edge, it sits with a producer.
fn slot_of(subtask: u32, parallelism: u32, slots: usize) -> usize {
    debug_assert!(subtask < parallelism && parallelism as usize <= slots);
    subtask as usize * slots / parallelism.max(1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn subtasks_of_a_vertex_sit_in_different_slots(slots in 1usize..100, share in 1u32..100) {
            let parallelism = share.min(u32::try_from(slots).unwrap());
            let taken: std::collections::BTreeSet<usize> =
                (0..parallelism).map(|subtask| slot_of(subtask, parallelism, slots)).collect();
            prop_assert_eq!(taken.len(), parallelism as usize);
            prop_assert!(taken.iter().all(|&slot| slot < slots));
        }
    }
}
