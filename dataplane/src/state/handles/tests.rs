//! Typed state against std's collections, under random operations.

use std::collections::HashMap;

use super::*;

fn at(key: &u64) -> At<'_> {
    let bytes = bytemuck::bytes_of(key);
    At {
        key_hash: ringflow_schemas::key_group::spread(ringflow_schemas::key_group::hash_code_u64(
            *key,
        )),
        key: bytes,
        namespace: &[],
    }
}

#[test]
fn a_value_is_counted_up_per_key() {
    let mut backend = KeyedStateBackend::new(0, 1, 128);
    let count = ValueStateDescriptor::<u64>::new("count")
        .register(&mut backend)
        .expect("fresh");
    let mut expected = HashMap::new();
    for step in 0..100_000u64 {
        let key = step * 48_271 % 1_009;
        let mut access = KeyedAccess::new(&mut backend, at(&key), 0);
        count
            .modify(&mut access, |count| Some(count.unwrap_or(0) + step))
            .expect("owned");
        *expected.entry(key).or_insert(0) += step;
    }
    for (key, sum) in expected {
        let mut access = KeyedAccess::new(&mut backend, at(&key), 0);
        assert_eq!(count.value(&mut access).expect("owned"), Some(sum));
    }
}
