//! Stores: names, key groups, and what is refused.

use ringflow_schemas::key_group::{hash_code_u64, key_group, owner, spread};

use std::sync::Arc;

use ringflow_schemas::graph::Partitioner as Wire;

use super::*;
use crate::exchange::partitioner::{KeyHash, Partitioner, Target};
use crate::program::EdgeRouting;
use crate::record::{EventTime, RecordRef, RowKind};
use crate::state::disk::tests::In;
use crate::state::handles::{
    KeyedAccess, ListStateDescriptor, MapStateDescriptor, ReducingStateDescriptor,
    ValueStateDescriptor,
};

fn at(key: &u64) -> At<'_> {
    At {
        key_hash: spread(hash_code_u64(*key)),
        key: bytemuck::bytes_of(key),
        namespace: &[],
    }
}

proptest::proptest! {
    /// The producer's partitioner, the consumer's state and the ranges that a snapshot would be cut by are one arithmetic: a key's
    /// record reaches the one subtask whose state takes it, at any parallelism, and its key group never changes with it.
    #[test]
    fn g13_writer_and_reader_agree_on_key_groups_at_any_parallelism(
        key: u64,
        max_parallelism in 1u32..=512,
        share in 0u32..512,
    ) {
        let parallelism = 1 + share % max_parallelism;
        let hashes: KeyHash = Arc::new(|bytes: &[u8]| {
            spread(hash_code_u64(u64::from_ne_bytes(bytes.try_into().expect("8 bytes"))))
        });
        let routing = EdgeRouting::Key(hashes);
        let channels = parallelism as usize;
        let mut partitioner =
            Partitioner::new(Wire::Hash, channels, max_parallelism, routing, 0).expect("legal");
        let record = RecordRef {
            bytes: bytemuck::bytes_of(&key),
            timestamp: EventTime(0),
            key_hash: 0,
            kind: RowKind::Insert,
            origin_ns: 0,
        };
        let Target::One(chosen, key_hash) = partitioner.select(&record, channels) else {
            panic!("one subtask");
        };
        for subtask in 0..parallelism {
            let mut backend = KeyedStateBackend::new(subtask, parallelism, max_parallelism);
            let state = ValueStateDescriptor::<u64>::new("x").register(&mut backend).expect("fresh");
            let group = key_group(key_hash, max_parallelism);
            let owned = backend.key_groups().contains(&group);
            let at = At { key_hash, ..at(&key) };
            let taken = state.update(&mut KeyedAccess::new(&mut backend, at, 0), &1).is_ok();
            proptest::prop_assert_eq!((taken, owned), (subtask as usize == chosen, taken));
        }
    }
}

#[test]
fn a_name_belongs_to_one_kind_and_type() {
    In::ALL
        .into_iter()
        .for_each(a_name_belongs_to_one_kind_and_type_in);
}

fn a_name_belongs_to_one_kind_and_type_in(on: In) {
    let mut backend = on.open(0, 1, 128);
    let first = ValueStateDescriptor::<u64>::new("sum")
        .register(&mut backend)
        .expect("fresh");
    let again = ValueStateDescriptor::<u64>::new("sum")
        .register(&mut backend)
        .expect("the same");
    let mut access = KeyedAccess::new(&mut backend, at(&1), 0);
    first.update(&mut access, &5).expect("owned");
    assert_eq!(again.value(&mut access).expect("owned"), Some(5));

    let message = |result: Result<()>| result.expect_err("taken").to_string();
    let other_type = ValueStateDescriptor::<i64>::new("sum").register(&mut backend);
    let text = message(other_type.map(drop));
    assert!(
        text.contains("`sum`") && text.contains("u64") && text.contains("i64"),
        "{text}"
    );
    let other_kind = ListStateDescriptor::<u64>::new("sum").register(&mut backend);
    assert!(message(other_kind.map(drop)).contains("List state"));
    let reducing = ReducingStateDescriptor::<u64>::new("sum", u64::max).register(&mut backend);
    assert!(message(reducing.map(drop)).contains("Reducing state"));
    let map = MapStateDescriptor::<u64, u64>::new("sum").register(&mut backend);
    assert!(message(map.map(drop)).contains("Map state"));
    assert_eq!(backend.stores().count(), 1);
}

#[test]
fn a_handle_opens_no_store_of_another_backend() {
    In::ALL
        .into_iter()
        .for_each(a_handle_opens_no_store_of_another_backend_in);
}

fn a_handle_opens_no_store_of_another_backend_in(on: In) {
    let mut backends = [on.open(0, 1, 128), on.open(0, 1, 128)];
    let handles = backends.each_mut().map(|backend| {
        ValueStateDescriptor::<u64>::new("sum")
            .register(backend)
            .expect("fresh")
    });
    for (index, backend) in backends.iter_mut().enumerate() {
        for (of, handle) in handles.iter().enumerate() {
            let mut access = KeyedAccess::new(backend, at(&1), 0);
            let updated = handle.update(&mut access, &1);
            assert_eq!(updated.is_ok(), index == of);
            if let Err(error) = updated {
                assert!(error.to_string().contains("`open`"), "{error}");
            }
        }
    }
}

#[test]
fn key_groups_of_other_subtasks_are_refused_everywhere() {
    In::ALL
        .into_iter()
        .for_each(key_groups_of_other_subtasks_are_refused_everywhere_in);
}

fn key_groups_of_other_subtasks_are_refused_everywhere_in(on: In) {
    let mut backend = on.open(1, 3, 128);
    let value = ValueStateDescriptor::<u64>::new("value")
        .register(&mut backend)
        .expect("fresh");
    let list = ListStateDescriptor::<u64>::new("list")
        .register(&mut backend)
        .expect("fresh");
    let map = MapStateDescriptor::<u64, u64>::new("map")
        .register(&mut backend)
        .expect("fresh");
    for key in 0..300 {
        let own = owner(key_group(at(&key).key_hash, 128), 128, 3) == 1;
        backend.prefetch_slots(&[at(&key).key_hash]);
        backend.prefetch_entries(&[at(&key).key_hash]);
        let mut access = KeyedAccess::new(&mut backend, at(&key), 0);
        assert_eq!(value.update(&mut access, &1).is_ok(), own);
        assert_eq!(value.value(&mut access).is_ok(), own);
        assert_eq!(list.add(&mut access, &1).is_ok(), own);
        assert_eq!(map.put(&mut access, &1, &1).is_ok(), own);
        assert_eq!(map.clear(&mut access).is_ok(), own);
        if let Err(error) = value.clear(&mut access) {
            assert!(error.to_string().contains("`key_by`"), "{error}");
        }
    }
    let (id, _) = backend.stores().next().expect("three stores");
    let outside = backend.key_groups().end;
    assert!(backend.for_each_entry(id, outside, |_| {}).is_err());
}

#[test]
fn entries_are_found_by_key_group() {
    In::ALL
        .into_iter()
        .for_each(entries_are_found_by_key_group_in);
}

fn entries_are_found_by_key_group_in(on: In) {
    let mut backend = on.open(0, 2, 16);
    let value = ValueStateDescriptor::<u64>::new("value")
        .register(&mut backend)
        .expect("fresh");
    let list = ListStateDescriptor::<u64>::new("list")
        .register(&mut backend)
        .expect("fresh");
    let map = MapStateDescriptor::<u64, u64>::new("map")
        .register(&mut backend)
        .expect("fresh");
    let mut keys = 0;
    for key in (0..200u64).filter(|key| key_group(at(key).key_hash, 16) < 8) {
        keys += 1;
        let window = [7u8; 16];
        let mut access = KeyedAccess::new(&mut backend, at(&key), 0);
        let mut access = access.in_namespace(&window);
        value.update(&mut access, &key).expect("owned");
        for number in 0..3 {
            list.add(&mut access, &(key + number)).expect("owned");
            map.put(&mut access, &number, &(key * number))
                .expect("owned");
        }
    }
    assert_eq!(backend.entries().expect("readable"), keys * 7);
    let mut seen = Vec::new();
    for (id, store) in backend.stores() {
        for group in backend.key_groups() {
            let visit = |entry: StoredEntry<'_>| {
                let key = u64::from_ne_bytes(entry.at.key.try_into().expect("a u64"));
                assert_eq!(entry.at.key_hash, at(&key).key_hash);
                assert_eq!(key_group(entry.at.key_hash, 16), group);
                assert_eq!(entry.at.namespace, [7; 16]);
                seen.push((
                    store.kind(),
                    key,
                    entry.map_key.to_vec(),
                    entry.value.to_vec(),
                ));
            };
            backend.for_each_entry(id, group, visit).expect("owned");
        }
    }
    assert_eq!(seen.len(), keys * 7);
    for (kind, key, map_key, value) in seen {
        let value = u64::from_le_bytes(value.try_into().expect("a u64"));
        match kind {
            StateKind::Value => assert_eq!((map_key.len(), value), (0, key)),
            StateKind::List => assert!(map_key.is_empty() && (key..key + 3).contains(&value)),
            _ => {
                let number = u64::from_le_bytes(map_key.try_into().expect("a u64"));
                assert_eq!(value, key * number);
            }
        }
    }
}

#[test]
fn nearly_empty_key_groups_cost_little() {
    let mut backend = KeyedStateBackend::new(0, 1, 128);
    let value = ValueStateDescriptor::<u64>::new("value")
        .register(&mut backend)
        .expect("fresh");
    assert!(
        backend.bytes() < 32 << 10,
        "{} bytes before the first entry",
        backend.bytes()
    );
    for key in 0..1_000 {
        let mut access = KeyedAccess::new(&mut backend, at(&key), 0);
        value.update(&mut access, &key).expect("owned");
    }
    assert!(
        backend.bytes() < 256 << 10,
        "{} bytes for 1000 entries",
        backend.bytes()
    );
}
