//! What the `sum` job must come to, computed without it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Keys of the first `records` readings, by SplitMix64 as its authors write it down: a state that steps.
fn keys(records: u64, keys: u64, seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    (0..records).map(move |_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u64::try_from((u128::from((z ^ (z >> 31)) >> 32) * u128::from(keys)) >> 32).unwrap()
    })
}

fn value(key: u64) -> u64 {
    key % 1024 + 1
}

/// All outputs of the keyed job, added up.
pub fn keyed(records: u64, key_count: u64, seed: u64) -> Value {
    let mut sums: BTreeMap<u64, u64> = BTreeMap::new();
    let mut sum = 0u64;
    for key in keys(records, key_count, seed) {
        let running = sums.entry(key).or_default();
        *running += value(key);
        sum = sum.wrapping_add(*running);
    }
    json!({ "records": records, "sum": sum })
}

/// The same for the chained job.
pub fn chained(records: u64, key_count: u64, seed: u64) -> Value {
    let values = keys(records, key_count, seed).zip(0u64..);
    let sum: u64 = values.map(|(key, number)| 2 * value(key) + number).sum();
    json!({ "records": records, "sum": sum })
}
