use proptest::prelude::*;
use ringflow_schemas::id::JobId;

use super::*;
use crate::event::{Registration, SlotDescription};
use crate::time::Timestamp;

fn cluster(sizes: &[u32], slots_per_core: u32) -> TaskManagers {
    let mut cluster = TaskManagers::default();
    for (number, &size) in (1u64..).zip(sizes) {
        let registration = Registration {
            task_manager_id: format!("tm-{number:03}"),
            data_host: "h".to_owned(),
            data_ports: vec![1; size as usize],
            slots: (0..size)
                .map(|slot| SlotDescription {
                    slot,
                    core: slot / slots_per_core,
                })
                .collect(),
            core_cpus: Vec::new(),
            version: String::new(),
            pid: 0,
            cpu_cores: 0,
            physical_memory_bytes: 0,
            free_memory_bytes: 0,
            network_memory_bytes: 256 << 20,
        };
        cluster.add(Timestamp(0), ConnectionId(number), registration);
    }
    cluster
}

fn by_task_manager(slots: &[SlotId], count: usize) -> Vec<usize> {
    let mut counts = vec![0; count];
    for slot in slots {
        counts[usize::try_from(slot.connection.0).unwrap() - 1] += 1;
    }
    counts
}

#[test]
fn four_task_managers_with_two_slots_get_one_subtask_each() {
    let slots = place(&cluster(&[2; 4], 1), &[4]).unwrap().remove(0);
    assert_eq!(by_task_manager(&slots, 4), [1, 1, 1, 1]);
}

#[test]
fn cores_with_fewest_used_slots_come_first() {
    // Four slots on two cores: 0 and 1 on core 0, 2 and 3 on core 1.
    let mut cluster = cluster(&[4], 2);
    let slots = |found: Vec<Vec<SlotId>>| found[0].iter().map(|slot| slot.slot).collect::<Vec<_>>();
    assert_eq!(slots(place(&cluster, &[4]).unwrap()), [0, 2, 1, 3]);
    assert!(cluster.occupy(
        Timestamp(0),
        SlotId {
            connection: ConnectionId(1),
            slot: 0
        },
        JobId(1),
        1
    ));
    assert_eq!(slots(place(&cluster, &[2]).unwrap()), [2, 1]);
}

#[test]
fn groups_share_what_is_free_and_too_many_get_nothing() {
    let groups = place(&cluster(&[2, 2], 1), &[2, 2]).unwrap();
    assert_eq!(by_task_manager(&groups[0], 2), [1, 1]);
    assert_eq!(by_task_manager(&groups[1], 2), [1, 1]);
    assert_eq!(place(&cluster(&[2, 2], 1), &[3, 2]), None);
}

proptest! {
    #[test]
    fn slots_are_distinct_free_and_spread_evenly(
        sizes in proptest::collection::vec(1u32..9, 1..8), used in proptest::collection::vec(any::<bool>(), 64), count in 0u32..40,
    ) {
        let mut cluster = cluster(&sizes, 2);
        let all: Vec<SlotId> = cluster
            .iter()
            .flat_map(|(connection, member)| member.slots.iter().map(move |slot| SlotId { connection, slot: slot.slot }))
            .collect();
        for (&slot, _) in all.iter().zip(&used).filter(|(_, used)| **used) {
            cluster.occupy(Timestamp(0), slot, JobId(1), 1);
        }
        let free = cluster.slots_free();
        let Some(groups) = place(&cluster, &[count]) else {
            prop_assert!((count as usize) > free);
            return Ok(());
        };
        let distinct: std::collections::BTreeSet<SlotId> = groups[0].iter().copied().collect();
        prop_assert_eq!(distinct.len(), count as usize);
        for &slot in &distinct {
            prop_assert!(cluster.occupy(Timestamp(0), slot, JobId(2), 1), "took a slot that was not free");
        }
        // Nobody could have given a slot to someone less utilised.
        for (giver, from) in cluster.iter() {
            let given = distinct.iter().filter(|slot| slot.connection == giver).count();
            if given == 0 {
                continue;
            }
            let used = |member: &TaskManager| member.slots.len() - member.free_slots();
            for (_, to) in cluster.iter().filter(|(_, to)| to.free_slots() > 0) {
                let before = (used(from) - 1) * to.slots.len();
                prop_assert!(before <= used(to) * from.slots.len(), "{} gave too much", from.address.id);
            }
        }
    }
}
