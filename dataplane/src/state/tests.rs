//! Keyed state against std's map, under random operations.

use std::collections::HashMap;

use proptest::prelude::*;
use ringflow_schemas::key_group::{hash_code_u64, key_group, owner, spread};

use super::*;

type State = KeyedState<(u64, u64), KeyBeside<u64>>;

#[derive(Debug, Clone, Copy)]
enum Op {
    Add(u64, u64),
    Remove(u64),
    Get(u64),
}

fn hash(key: u64) -> u32 {
    spread(hash_code_u64(key))
}

fn add(state: &mut State, key: u64, amount: u64) {
    match state
        .entry(hash(key), &key)
        .expect("all key groups are here")
    {
        Entry::Occupied(entry) => entry.1 = entry.1.wrapping_add(amount),
        Entry::Vacant(place) => drop(place.insert((key, amount))),
    }
}

/// Keys of which many share their hash: the halves of the last kind cancel out in Java's hash code.
fn keys() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..40,
        any::<u8>().prop_map(|key| u64::from(key) << 40),
        any::<u8>().prop_map(|key| u64::from(key) << 32 | u64::from(key)),
    ]
}

fn operations() -> impl Strategy<Value = Vec<Op>> {
    let operation = prop_oneof![
        3 => (keys(), any::<u64>()).prop_map(|(key, amount)| Op::Add(key, amount)),
        2 => keys().prop_map(Op::Remove),
        1 => keys().prop_map(Op::Get),
    ];
    prop::collection::vec(operation, 0..800)
}

proptest! {
    #[test]
    fn state_does_what_a_map_does(operations in operations(), max_parallelism in prop_oneof![1u32..4, Just(128)]) {
        let mut state = State::new(0, 1, max_parallelism, KeyBeside::default());
        let mut map = HashMap::new();
        for operation in operations {
            match operation {
                Op::Add(key, amount) => {
                    add(&mut state, key, amount);
                    let value: &mut u64 = map.entry(key).or_default();
                    *value = value.wrapping_add(amount);
                }
                Op::Remove(key) => {
                    let removed = state.remove(hash(key), &key).expect("owned");
                    prop_assert_eq!(removed.map(|entry| entry.1), map.remove(&key));
                }
                Op::Get(key) => {
                    let found = state.get(hash(key), &key).expect("owned");
                    prop_assert_eq!(found.map(|entry| entry.1), map.get(&key).copied());
                }
            }
        }
        prop_assert_eq!((state.len(), state.is_empty()), (map.len(), map.is_empty()));
        for group in state.key_groups() {
            for (stored, (key, value)) in state.key_group(group).expect("owned").iter() {
                prop_assert_eq!(stored, hash(*key));
                prop_assert_eq!(key_group(stored, max_parallelism), group);
                prop_assert_eq!(map.remove(key), Some(*value), "each key once, in its key group");
            }
        }
        prop_assert!(map.is_empty());
    }
}

#[test]
fn subtasks_own_their_key_groups_and_refuse_others() {
    let mut states: Vec<State> = (0..3)
        .map(|subtask| State::new(subtask, 3, 128, KeyBeside::default()))
        .collect();
    for key in 0..1000 {
        let own = owner(key_group(hash(key), 128), 128, 3) as usize;
        for (subtask, state) in states.iter_mut().enumerate() {
            match state.entry(hash(key), &key) {
                Ok(_) => assert_eq!(subtask, own),
                Err(error) => assert!(error.to_string().contains("`key_by`"), "{error}"),
            }
        }
        add(&mut states[own], key, 1);
    }
    assert_eq!(states.iter().map(State::len).sum::<usize>(), 1000);
    assert!(states[1].key_group(states[1].key_groups().end).is_none());
    assert!(
        states[1]
            .key_group(states[1].key_groups().start - 1)
            .is_none()
    );
}

#[test]
fn memory_follows_the_greatest_number_of_entries_not_of_removals() {
    let mut state = State::new(0, 1, 128, KeyBeside::default());
    assert_eq!(state.bytes(), 0, "nothing before the first entry");
    for key in 0..1_000_000 {
        add(&mut state, key, 1);
        if let Some(old) = key.checked_sub(1_000) {
            assert!(state.remove(hash(old), &old).expect("owned").is_some());
        }
    }
    // 1000 entries in 128 key groups: none ever had 48 of them, so none has more than 64 slots.
    assert!(state.bytes() <= 128 * 64 * 24, "{} bytes", state.bytes());
}
