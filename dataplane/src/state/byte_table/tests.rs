//! The table of bytes against std's map, under random operations.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    Put(u8, u8, usize),
    /// Says what it does with an old value: keeps it, takes it out, or doubles it.
    Update(u8, u8, u8),
    Remove(u8, u8),
    RemoveEntry(u8, u8),
    Flip(u8, u8),
}

/// Few keys, of several lengths, many of which share a hash.
fn key(number: u8) -> (u32, Vec<u8>) {
    let length = usize::from(number % 5) * 4;
    let mut key = vec![number; length];
    key.push(number);
    (u32::from(number % 7) * 128 + 5, key)
}

fn namespace(number: u8) -> Vec<u8> {
    vec![number; usize::from(number % 4) * 8]
}

fn value(length: usize, number: u8) -> Vec<u8> {
    vec![number ^ 0x5a; length]
}

fn operations() -> impl Strategy<Value = Vec<Op>> {
    let lengths = prop_oneof![6 => 0usize..40, 2 => 40usize..3_000, 1 => 16_000usize..60_000];
    let place = (0u8..60, 0u8..4);
    let operation = prop_oneof![
        4 => (place.clone(), lengths).prop_map(|((key, namespace), length)| Op::Put(key, namespace, length)),
        3 => (place.clone(), 0u8..3).prop_map(|((key, namespace), what)| Op::Update(key, namespace, what)),
        2 => place.clone().prop_map(|(key, namespace)| Op::Remove(key, namespace)),
        1 => place.clone().prop_map(|(key, namespace)| Op::RemoveEntry(key, namespace)),
        1 => place.prop_map(|(key, namespace)| Op::Flip(key, namespace)),
    ];
    prop::collection::vec(operation, 0..400)
}

proptest! {
    #[test]
    fn the_table_does_what_a_map_does(operations in operations()) {
        let mut table = ByteTable::default();
        let mut map: HashMap<(Vec<u8>, Vec<u8>), Vec<u8>> = HashMap::new();
        let mut fresh = Vec::new();
        for operation in operations {
            let (key_number, namespace_number) = match operation {
                Op::Put(k, n, _) | Op::Update(k, n, _) | Op::Remove(k, n) | Op::RemoveEntry(k, n) | Op::Flip(k, n) => (k, n),
            };
            let (key_hash, key) = key(key_number);
            let namespace = namespace(namespace_number);
            let hash = hash_in_namespace(key_hash, &namespace);
            let place = (key.clone(), namespace.clone());
            match operation {
                Op::Put(number, _, length) => {
                    let value = value(length, number);
                    table.put(hash, &key, &namespace, &value).expect("fits");
                    map.insert(place, value);
                }
                Op::Update(_, _, what) => {
                    let known = map.get(&place).cloned();
                    table.update(hash, &key, &namespace, &mut fresh, |old, fresh| {
                        assert_eq!(old, known.as_deref());
                        assert!(fresh.is_empty());
                        fresh.extend_from_slice(old.unwrap_or(b"new"));
                        fresh.extend_from_slice(old.unwrap_or_default());
                        fresh.truncate(100_000);
                        [Change::Keep, Change::Remove, Change::Put][usize::from(what)]
                    }).expect("fits");
                    match (what, known) {
                        (1, _) => drop(map.remove(&place)),
                        (2, Some(mut old)) => {
                            old.extend_from_within(..);
                            old.truncate(100_000);
                            map.insert(place, old);
                        }
                        (2, None) => drop(map.insert(place, b"new".to_vec())),
                        _ => {}
                    }
                }
                Op::Remove(..) => {
                    prop_assert_eq!(table.remove(hash, &key, &namespace), map.remove(&place).is_some());
                }
                Op::RemoveEntry(..) => {
                    let found = table.find(hash, &key, &namespace);
                    prop_assert_eq!(found.is_some(), map.remove(&place).is_some());
                    if let Some(entry) = found {
                        prop_assert!(table.remove_entry(hash, entry));
                        prop_assert!(!table.remove_entry(hash, entry));
                    }
                }
                Op::Flip(..) => {
                    if let Some(value) = table.get_mut(hash, &key, &namespace) {
                        value.iter_mut().for_each(|byte| *byte = !*byte);
                    }
                    if let Some(value) = map.get_mut(&place) {
                        value.iter_mut().for_each(|byte| *byte = !*byte);
                    }
                }
            }
            prop_assert_eq!(table.len(), map.len());
            prop_assert_eq!(table.get(hash, &key, &namespace), map.get(&(key, namespace)).map(Vec::as_slice));
        }
        for (hash, entry) in table.iter() {
            let (key, namespace) = table.address(entry);
            prop_assert_eq!(hash_in_namespace(hash, namespace) % 128, 5, "the key's hash can be had back");
            let value = map.remove(&(key.to_vec(), namespace.to_vec()));
            prop_assert_eq!(value.as_deref(), Some(table.value(entry)));
        }
        prop_assert!(map.is_empty());
    }
}

#[test]
fn an_entry_stays_where_it_is_while_it_fits() {
    let mut table = ByteTable::default();
    let put = |table: &mut ByteTable, length: usize| {
        let changed = table.put(9, b"key", b"", &vec![1; length]);
        let Ok(Changed::Put { before, now }) = changed else {
            panic!("{changed:?}");
        };
        (before, now)
    };
    let (before, first) = put(&mut table, 40);
    assert_eq!(before, None);
    assert_eq!(put(&mut table, 33), (Some(first), first));
    assert_eq!(put(&mut table, 40), (Some(first), first));
    let (before, second) = put(&mut table, 400);
    assert!(
        before == Some(first) && second != first,
        "it has outgrown its block"
    );
    let (before, third) = put(&mut table, 8);
    assert!(
        before == Some(second) && third != second,
        "the block is far too large"
    );
    assert_eq!(
        third,
        first_free_of(&mut table, 8),
        "freed blocks are used again"
    );
}

/// Where a new entry of this length comes to lie.
fn first_free_of(table: &mut ByteTable, length: usize) -> Ref {
    let old = table.find(9, b"key", b"").expect("there");
    assert!(table.remove(9, b"key", b""));
    let changed = table.put(9, b"key", b"", &vec![1; length]);
    assert_eq!(
        changed,
        Ok(Changed::Put {
            before: None,
            now: old
        })
    );
    old
}

#[test]
fn what_is_too_long_is_refused_and_changes_nothing() {
    let mut table = ByteTable::default();
    let long_key = vec![0; KEY_BYTES_MAX + 1];
    let put = table.put(1, &long_key, b"", b"x");
    assert_eq!(put, Err(EntryError::KeyTooLong(KEY_BYTES_MAX + 1)));
    let long_namespace = vec![0; NAMESPACE_BYTES_MAX + 1];
    let put = table.put(1, b"", &long_namespace, b"x");
    assert_eq!(
        put,
        Err(EntryError::NamespaceTooLong(NAMESPACE_BYTES_MAX + 1))
    );
    assert_eq!(table.len(), 0);
    assert!(
        table
            .put(1, &long_key[1..], &long_namespace[1..], b"x")
            .is_ok()
    );
    assert_eq!(
        table.get(1, &long_key[1..], &long_namespace[1..]),
        Some(&b"x"[..])
    );
    assert_eq!(table.get(1, &long_key, &long_namespace[1..]), None);
}

#[test]
fn an_emptied_table_gives_its_memory_back() {
    let mut table = ByteTable::default();
    for key in 0..10_000u32 {
        table
            .put(key * 128, &key.to_le_bytes(), b"", &[7; 100])
            .expect("fits");
    }
    let full = table.bytes();
    assert!(full > 10_000 * 112, "{full} bytes");
    for key in 0..10_000u32 {
        assert!(table.remove(key * 128, &key.to_le_bytes(), b""));
    }
    // Slots stay: the next busy time needs them again.
    assert!(
        table.bytes() < 16_384 * 8 + 1_000,
        "{} bytes",
        table.bytes()
    );
}
