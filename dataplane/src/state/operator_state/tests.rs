use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::limits::OPERATOR_STATE_BYTES_MAX;
use crate::operator::process::{Process, ProcessContext, ProcessFunction, RuntimeContext};
use crate::operator::stateless::Collector;
use crate::operator::testing::{Tested, Triple};
use crate::record::{Row, RowKind};
use crate::state::handles::StateTtlConfig;

fn list(name: &str) -> ListStateDescriptor<u64> {
    ListStateDescriptor::new(name)
}

fn map(name: &str) -> MapStateDescriptor<String, u64> {
    MapStateDescriptor::new(name)
}

/// What each of `parallelism` subtasks gets.
fn dealt(snapshots: &[OperatorStateSnapshot], parallelism: u32) -> Vec<OperatorStateSnapshot> {
    let subtasks = 0..parallelism;
    subtasks
        .map(|subtask| redistribute(snapshots, subtask, parallelism).expect("of one operator"))
        .collect()
}

fn items(snapshot: &OperatorStateSnapshot, name: &str) -> Vec<Vec<u8>> {
    snapshot
        .get(name)
        .map_or_else(Vec::new, |state| state.items.clone())
}

fn state(name: &str, redistribution: Redistribution, items: &[u32]) -> NamedState {
    NamedState {
        name: name.to_owned(),
        redistribution,
        type_name: "u32".to_owned(),
        items: items.iter().map(|item| item.to_le_bytes().into()).collect(),
    }
}

fn snapshot(states: Vec<NamedState>) -> OperatorStateSnapshot {
    OperatorStateSnapshot { states }
}

/// Of each old subtask, numbers of items of two split states and a union one; `None`: it had no state.
fn old_subtasks() -> impl Strategy<Value = Vec<Option<[usize; 3]>>> {
    prop::collection::vec(prop::option::weighted(0.9, [0usize..9, 0..4, 0..5]), 1..12)
}

proptest! {
    /// Split: nothing is lost and nothing there twice, and no subtask has two items more than another. Union: all of
    /// it, everywhere. Broadcast: one whole copy. Whatever the numbers of old and new subtasks are.
    #[test]
    fn g14_each_item_goes_where_its_state_says(old in old_subtasks(), parallelism in 1u32..14) {
        let mut next = 0u32;
        let mut numbers = |count: usize| -> Vec<u32> {
            (0..count).map(|_| { next += 1; next }).collect()
        };
        let rules = [7, 8, 9];
        let snapshots: Vec<OperatorStateSnapshot> = old.iter().map(|counts| {
            let states = counts.iter().flat_map(|[offsets, more, all]| [
                state("offsets", Redistribution::Split, &numbers(*offsets)),
                state("rules", Redistribution::Broadcast, &rules),
                state("all", Redistribution::Union, &numbers(*all)),
                state("more", Redistribution::Split, &numbers(*more)),
            ]);
            snapshot(states.collect())
        }).collect();
        let new = dealt(&snapshots, parallelism);

        let before = |name: &str| -> Vec<Vec<u8>> {
            snapshots.iter().flat_map(|snapshot| items(snapshot, name)).collect()
        };
        let mut sizes = vec![0; new.len()];
        for name in ["offsets", "more"] {
            let mut after: Vec<Vec<u8>> =
                new.iter().flat_map(|snapshot| items(snapshot, name)).collect();
            let mut before = before(name);
            after.sort();
            before.sort();
            prop_assert_eq!(after, before, "{}", name);
            let own: Vec<usize> = new.iter().map(|snapshot| items(snapshot, name).len()).collect();
            if snapshots.len() != new.len() {
                let (least, most) = (own.iter().min(), own.iter().max());
                prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1));
            }
            sizes.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
        }
        if snapshots.len() != new.len() {
            // What is over of the second state goes on where the first one's ended.
            let (least, most) = (sizes.iter().min(), sizes.iter().max());
            prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{:?}", sizes);
        } else {
            // Split state does not move without need.
            for (new, old) in new.iter().zip(&snapshots) {
                prop_assert_eq!(items(new, "offsets"), items(old, "offsets"));
            }
        }
        let had_state = old.iter().any(Option::is_some);
        for snapshot in &new {
            prop_assert_eq!(items(snapshot, "all"), before("all"));
            let whole = state("rules", Redistribution::Broadcast, &rules);
            prop_assert_eq!(snapshot.get("rules"), had_state.then_some(&whole));
        }
    }

    #[test]
    fn a_snapshot_survives_its_bytes_and_no_bytes_panic(
        states in prop::collection::btree_map(
            "[a-z]{0,6}",
            (0u8..3, "[a-z:]{0,9}", prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..5)),
            0..5,
        ),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let states: BTreeMap<String, _> = states;
        let kinds = [Redistribution::Split, Redistribution::Union, Redistribution::Broadcast];
        let states = states.into_iter().map(|(name, (kind, type_name, items))| NamedState {
            name,
            redistribution: kinds[usize::from(kind)],
            type_name,
            items,
        });
        let snapshot = snapshot(states.collect());
        let mut bytes = snapshot.encode();
        let back = OperatorStateSnapshot::decode(&bytes);
        prop_assert_eq!(back.as_ref().ok(), Some(&snapshot));
        // Every part of it says that it is one.
        prop_assert!(OperatorStateSnapshot::decode(&bytes[..cut.index(bytes.len())]).is_err());
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        drop(OperatorStateSnapshot::decode(&bytes));
    }
}

/// Flink's arithmetic, by hand: 5 items on 3 subtasks are 2, 2 and 1, in order; what is over of the next name begins
/// behind.
#[test]
fn g14_split_state_is_cut_in_order_and_what_is_over_goes_round() {
    let old = snapshot(vec![
        state("a", Redistribution::Split, &[1, 2, 3, 4, 5]),
        state("b", Redistribution::Split, &[10, 11, 12, 13]),
    ]);
    let numbers = |snapshot: &OperatorStateSnapshot, name: &str| -> Vec<u32> {
        let read = |item: Vec<u8>| u32::from_le_bytes(item.try_into().expect("4 bytes"));
        items(snapshot, name).into_iter().map(read).collect()
    };
    let new = dealt(&[old], 3);
    let a: Vec<Vec<u32>> = new.iter().map(|new| numbers(new, "a")).collect();
    let b: Vec<Vec<u32>> = new.iter().map(|new| numbers(new, "b")).collect();
    assert_eq!(a, [vec![1, 2], vec![3, 4], vec![5]]);
    assert_eq!(b, [vec![12], vec![13], vec![10, 11]]);
}

#[test]
fn g14_broadcast_copies_are_taken_round_and_round() {
    let old = [1, 2].map(|copy| snapshot(vec![state("r", Redistribution::Broadcast, &[copy])]));
    let copies: Vec<Vec<u8>> = dealt(&old, 5)
        .iter()
        .map(|new| items(new, "r").concat())
        .collect();
    let first_bytes: Vec<u8> = copies.iter().map(|copy| copy[0]).collect();
    assert_eq!(first_bytes, [1, 2, 1, 2, 1]);
}

/// Keeps the numbers it has seen in a list, and of a union list those that are its own.
#[derive(Clone, Default)]
struct Keeps {
    seen: OperatorListState<u64>,
    shared: OperatorListState<u64>,
}

impl ProcessFunction<Triple, Triple> for Keeps {
    fn open(&mut self, context: &mut RuntimeContext<'_>) -> Result<()> {
        let refused = context.get_state(&crate::state::handles::ValueStateDescriptor::<u64>::new(
            "v",
        ));
        let error = refused.expect_err("there are no keys").to_string();
        assert!(error.contains("key_by"), "{error}");
        let store = context.operator_state();
        self.seen = store.get_list_state(&list("seen"))?;
        self.shared = store.get_union_list_state(&list("shared"))?;
        Ok(())
    }

    /// Gives out how much there is in both.
    fn process_element(
        &mut self,
        row: Row<'_, Triple>,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Triple>,
    ) -> Result<()> {
        let lists = context.operator_state();
        self.seen.add(lists, &row.key())?;
        self.shared.add(lists, &row.key())?;
        let count = |count: usize| i64::try_from(count).expect("small");
        let (seen, shared) = (self.seen.len(lists)?, self.shared.len(lists)?);
        out.collect(Triple::new(row.key(), count(seen), count(shared)));
        Ok(())
    }
}

/// A process function's state, from two subtasks to three, through bytes.
#[test]
fn g14_a_function_finds_its_part_of_the_state_when_it_opens_again() {
    let write = |keys: &[u64]| {
        let mut tested = Tested::new(Process::new(Keeps::default()));
        for key in keys {
            let row = Triple::new(*key, 0, 0);
            tested.push(0, row, 0, RowKind::Insert).expect("kept");
        }
        assert_eq!(tested.changes().len(), keys.len());
        tested
    };
    let snapshots: Vec<OperatorStateSnapshot> = [&[1, 2, 3, 4][..], &[5][..]]
        .iter()
        .map(|keys| {
            let mut tested = write(keys);
            let store = tested.operator_state();
            assert_eq!(store.bytes(), 2 * 8 * keys.len());
            let bytes = store.snapshot().expect("memory").encode();
            OperatorStateSnapshot::decode(&bytes).expect("written by us")
        })
        .collect();
    let mut found = Vec::new();
    for subtask in 0..3 {
        let mut process = Process::<Triple, Triple, _>::new(Keeps::default());
        let store = crate::operator::Operator::operator_state(&mut process).expect("has state");
        store.restore(&snapshots, subtask, 3).expect("fits");
        let mut tested = Tested::new(process);
        let row = Triple::new(100, 0, 0);
        tested.push(0, row, 0, RowKind::Insert).expect("kept");
        let [(_, counts, _)] = tested.changes()[..] else {
            panic!("one row");
        };
        assert_eq!(counts.b(), 6, "all five of the union list, and the new one");
        let lists = tested.operator_state().snapshot().expect("memory");
        let own = items(&lists, "seen");
        assert_eq!(counts.a(), i64::try_from(own.len()).expect("small"));
        let number = |item: &Vec<u8>| u64::from_le_bytes(item[..].try_into().expect("8 bytes"));
        found.push(own.iter().map(number).collect::<Vec<_>>());
    }
    assert_eq!(found, [vec![1, 2, 100], vec![3, 4, 100], vec![5, 100]]);
}

/// A store with a list, a union list and a broadcast map.
fn store() -> OperatorStateStore {
    let mut store = OperatorStateStore::with_broadcast();
    let own = store.get_list_state(&list("own")).expect("new");
    let all = store.get_union_list_state(&list("all")).expect("new");
    own.update(store.lists(), [1, 2, 3]).expect("room");
    all.add(store.lists(), &4).expect("room");
    let rules = store.get_broadcast_state(&map("rules")).expect("new");
    let mut access = store.broadcast().expect("has some");
    for (rule, value) in [("a", 1), ("bb", 2), ("a", 3)] {
        rules
            .put(&mut access, &rule.to_owned(), &value)
            .expect("room");
    }
    store
}

#[test]
fn g14_broadcast_state_comes_back_whole_also_where_there_was_no_subtask() {
    let snapshots = [
        store().snapshot().expect("memory"),
        OperatorStateSnapshot::default(),
    ];
    for subtask in 0..4 {
        let mut restored = OperatorStateStore::with_broadcast();
        restored.restore(&snapshots, subtask, 4).expect("fits");
        // Before anybody asks for it, it is there: in the next snapshot too.
        let kept = restored.snapshot().expect("memory");
        assert_eq!(kept.get("rules").map(|rules| rules.items.len()), Some(2));
        let rules = restored.get_broadcast_state(&map("rules")).expect("same");
        let mut access = restored.broadcast().expect("has some");
        let mut entries = Vec::new();
        rules
            .for_each(access.view(), |rule, value| {
                entries.push((rule, value));
                Ok(())
            })
            .expect("memory");
        assert_eq!(entries, [("a".to_owned(), 3), ("bb".to_owned(), 2)]);
        rules.remove(&mut access, &"a".to_owned()).expect("memory");
        let after = restored.snapshot().expect("memory");
        assert_eq!(after.get("rules").map(|rules| rules.items.len()), Some(1));
        assert!(restored.bytes() > 0);
    }
}

#[test]
fn a_state_is_asked_for_as_what_it_is() {
    let refused = |asked: &mut dyn FnMut(&mut OperatorStateStore) -> Result<()>, expected: &str| {
        // Registered here, and restored.
        let mut restored = OperatorStateStore::with_broadcast();
        let snapshots = [store().snapshot().expect("memory")];
        restored.restore(&snapshots, 0, 1).expect("fits");
        for mut store in [store(), restored] {
            let error = asked(&mut store).expect_err("another state").to_string();
            assert!(error.contains(expected), "{error}");
        }
    };
    let none = |result: Result<OperatorListState<u64>>| result.map(drop);
    refused(
        &mut |store| none(store.get_union_list_state(&list("own"))),
        "list state of `u64` and is asked for as union list state of `u64`",
    );
    refused(
        &mut |store| none(store.get_list_state(&list("rules"))),
        "`rules` is broadcast state and cannot be list state",
    );
    refused(
        &mut |store| {
            store
                .get_list_state(&ListStateDescriptor::<i64>::new("own"))
                .map(drop)
        },
        "of `u64` and is asked for as list state of `i64`",
    );
    refused(
        &mut |store| store.get_broadcast_state(&map("all")).map(drop),
        "`all` is union list state and cannot be broadcast state",
    );
    refused(
        &mut |store| {
            let other = MapStateDescriptor::<String, String>::new("rules");
            store.get_broadcast_state(&other).map(drop)
        },
        "rules",
    );
    let expiring =
        list("own").enable_time_to_live(StateTtlConfig::of(std::time::Duration::from_secs(1)));
    refused(
        &mut |store| none(store.get_list_state(&expiring)),
        "cannot have a time to live",
    );
}

#[test]
fn what_cannot_be_restored_is_refused_with_a_reason() {
    let one = |state: NamedState| [snapshot(vec![state])];
    let mut plain = OperatorStateStore::new();
    let rules = one(state("rules", Redistribution::Broadcast, &[]));
    let error = plain.restore(&rules, 0, 1).expect_err("no broadcast input");
    assert!(error.to_string().contains("broadcast input"), "{error}");

    let error = store().restore(&[], 0, 1).expect_err("in use").to_string();
    assert!(error.contains("before the operator opens"), "{error}");

    let contradicting = [
        snapshot(vec![state("a", Redistribution::Split, &[1])]),
        snapshot(vec![state("a", Redistribution::Union, &[2])]),
    ];
    let error = redistribute(&contradicting, 0, 1).expect_err("two kinds");
    let error = error.to_string();
    assert!(
        error.contains("list state of `u32` in the snapshot of subtask 0, and union list state"),
        "{error}"
    );

    // The right type by name, and bytes that are none.
    let mut damaged = state("a", Redistribution::Split, &[1]);
    damaged.type_name = std::any::type_name::<u64>().to_owned();
    let mut store = OperatorStateStore::new();
    store.restore(&one(damaged), 0, 1).expect("bytes are bytes");
    let error = store.get_list_state(&list("a")).expect_err("4 bytes");
    assert!(error.to_string().contains("cannot be read"), "{error}");

    for (bytes, expected) in [
        (&b"rfo"[..], "does not begin as one"),
        (b"rfos\x02\x00", "version 2"),
        (b"rfos\x01\x00", "end 4 bytes before"),
        (b"rfos\x01\x00\0\0\0\0!", "1 bytes follow"),
    ] {
        let error = OperatorStateSnapshot::decode(bytes).expect_err("damaged");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let twice = snapshot(vec![
        state("a", Redistribution::Split, &[]),
        state("a", Redistribution::Split, &[]),
    ]);
    let error = OperatorStateSnapshot::decode(&twice.encode()).expect_err("twice");
    assert!(error.to_string().contains("`a` twice"), "{error}");
}

#[test]
fn handles_open_the_lists_of_their_own_operator_only_and_lists_are_bounded() {
    let (mut first, mut second) = (store(), store());
    let own = first.get_list_state(&list("own")).expect("registered");
    assert_eq!(own.get(first.lists()).expect("its own"), [1, 2, 3]);
    let error = own.get(second.lists()).expect_err("another's").to_string();
    assert!(error.contains("did not register"), "{error}");
    let unregistered = OperatorListState::<u64>::default();
    assert!(unregistered.add(first.lists(), &1).is_err());

    let blobs = first
        .get_list_state(&ListStateDescriptor::<Vec<u8>>::new("blobs"))
        .expect("new");
    let quarter = vec![7; OPERATOR_STATE_BYTES_MAX / 4];
    for _ in 0..3 {
        blobs.add(first.lists(), &quarter).expect("room");
    }
    let before = first.bytes();
    let error = blobs.add(first.lists(), &quarter).expect_err("full");
    assert!(error.to_string().contains("`blobs`"), "{error}");
    assert_eq!(first.bytes(), before);
    let too_many = std::iter::repeat_n(quarter.clone(), 4);
    assert!(blobs.update(first.lists(), too_many).is_err());
    assert_eq!(blobs.len(first.lists()).expect("still there"), 3);
    blobs.clear(first.lists()).expect("smaller");
    assert!(blobs.is_empty(first.lists()).expect("readable"));
    blobs.add(first.lists(), &quarter).expect("room again");
    assert_eq!(own.get(first.lists()).expect("untouched"), [1, 2, 3]);
}
