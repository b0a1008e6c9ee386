//! Keys: which consumer, which pane, which entry.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use ringflow_dataplane::exchange::partitioner::{KeyHash, Partitioner};
use ringflow_dataplane::operator::chain::Output;
use ringflow_dataplane::operator::stateless::Collector;
use ringflow_dataplane::operator::window::assigner::SlidingWindows;
use ringflow_dataplane::operator::window::{Count, PaneOperator, TimeWindow, WindowResult};
use ringflow_dataplane::operator::{Operator, Progress};
use ringflow_dataplane::program::EdgeRouting;
use ringflow_dataplane::record::{EventTime, RecordRef, Row, RowKind};
use ringflow_dataplane::state::backend::{At, KeyedStateBackend};
use ringflow_dataplane::state::handles::{KeyedAccess, ValueStateDescriptor};
use ringflow_dataplane::state::table::Entry;
use ringflow_dataplane::state::{KeyBeside, KeyedState};
use ringflow_schemas::graph::Partitioner as Kind;
use ringflow_schemas::key_group;

/// Steps through keys in an order that no prefetcher knows: 48271 is prime to the counts used here.
pub(super) struct Keys {
    pub(super) next: u64,
    pub(super) count: u64,
}

impl Keys {
    pub(super) fn take(&mut self) -> u64 {
        self.next = (self.next + 48_271) % self.count;
        self.next
    }
}

pub(super) fn hash(key: u64) -> u32 {
    key_group::spread(key_group::hash_code_u64(key))
}

fn record(bytes: &[u8], time: i64) -> RecordRef<'_> {
    RecordRef {
        bytes,
        timestamp: EventTime(time),
        key_hash: 0,
        kind: RowKind::Insert,
        origin_ns: 0,
    }
}

fn first_word(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |word| u64::from_le_bytes(*word))
}

pub(super) fn partitioner(c: &mut Criterion) {
    let mut group = c.benchmark_group("partitioner");
    group.throughput(Throughput::Elements(1));
    let key_hash: KeyHash = Arc::new(|bytes: &[u8]| hash(first_word(bytes)));
    for (name, kind, channels) in [
        ("hash_to_1", Kind::Hash, 1),
        ("hash_to_8", Kind::Hash, 8),
        ("rebalance_to_8", Kind::Rebalance, 8),
    ] {
        let made = Partitioner::new(
            kind,
            channels,
            128,
            EdgeRouting::Key(Arc::clone(&key_hash)),
            0,
        );
        let mut partitioner = made.expect("a legal edge");
        let mut keys = Keys {
            next: 0,
            count: 1_000,
        };
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let bytes = keys.take().to_le_bytes();
                partitioner.select(&record(black_box(&bytes), 0), channels)
            });
        });
    }
    let mut keys = Keys {
        next: 0,
        count: 1_000,
    };
    group.bench_function("floor_hash_alone", |bencher| {
        bencher.iter(|| hash(black_box(keys.take())));
    });
    group.finish();
}

pub(super) fn window_pane(c: &mut Criterion) {
    let mut group = c.benchmark_group("window_pane");
    group.throughput(Throughput::Elements(1));
    let windows = SlidingWindows::new(Duration::from_secs(10), Duration::from_secs(2), 0);
    let mut operator = PaneOperator::<WindowResult<u64, u64>, u64, _, _, _, _>::new(
        windows.expect("legal windows"),
        |row: Row<'_, WindowResult<u64, u64>>| *row.key(),
        Count,
        |key: &u64, count: u64, window, out: &mut Collector<'_, WindowResult<u64, u64>>| {
            out.collect_window_result(key, &count, window);
        },
    );
    let (mut output, mut keys) = (
        Output::End,
        Keys {
            next: 0,
            count: 1_000,
        },
    );
    let mut bytes = Vec::new();
    group.bench_function("on_record_1000_keys", |bencher| {
        bencher.iter(|| {
            bytes.clear();
            let key = keys.take();
            WindowResult::encode(&key, &1u64, TimeWindow::new(0, 1), &mut bytes);
            let record = RecordRef {
                key_hash: hash(key),
                ..record(black_box(&bytes), 1_000)
            };
            operator.on_record(&record, &mut output).is_ok()
        });
    });
    let (mut counts, mut keys) = (
        HashMap::new(),
        Keys {
            next: 0,
            count: 1_000,
        },
    );
    group.bench_function("floor_hash_map_1000_keys", |bencher| {
        bencher.iter(|| *counts.entry(black_box(keys.take())).or_insert(0u64) += 1);
    });
    group.finish();
}

/// One record in each slide, and what firing costs then, by how many windows overlap: 1000 keys in each pane.
pub(super) fn window_firing(c: &mut Criterion) {
    const KEYS: u64 = 1_000;
    let mut group = c.benchmark_group("window_firing");
    group.throughput(Throughput::Elements(KEYS));
    for overlap in [1u64, 5, 100] {
        let (size, slide) = (
            Duration::from_millis(10 * overlap),
            Duration::from_millis(10),
        );
        let windows = SlidingWindows::new(size, slide, 0).expect("legal windows");
        let mut operator = PaneOperator::<WindowResult<u64, u64>, u64, _, _, _, _>::new(
            windows,
            |row: Row<'_, WindowResult<u64, u64>>| *row.key(),
            Count,
            |key: &u64, count: u64, window, out: &mut Collector<'_, WindowResult<u64, u64>>| {
                out.collect_window_result(key, &count, window);
            },
        );
        let (mut output, mut bytes, mut time) = (Output::End, Vec::new(), 0i64);
        group.bench_function(
            format!("slide_of_1000_keys_size_{overlap}_slides"),
            |bencher| {
                bencher.iter(|| {
                    for key in 0..KEYS {
                        bytes.clear();
                        WindowResult::encode(&key, &1u64, TimeWindow::new(0, 1), &mut bytes);
                        let record = RecordRef {
                            key_hash: hash(key),
                            ..record(&bytes, time)
                        };
                        assert!(operator.on_record(&record, &mut output).is_ok());
                    }
                    time += 10;
                    let mut progress = operator.on_watermark(EventTime(time - 1), 0, &mut output);
                    while matches!(progress, Ok(Progress::Yielded)) {
                        progress = operator.resume(&mut output);
                    }
                    assert!(matches!(progress, Ok(Progress::Done)));
                });
            },
        );
    }
    group.finish();
}

pub(super) fn state_table(c: &mut Criterion) {
    const COUNT: u64 = 100_000;
    let mut group = c.benchmark_group("state_table");
    group.throughput(Throughput::Elements(1));
    let mut state = KeyedState::new(0, 1, 128, KeyBeside::<u64>::default());
    let mut keys = Keys {
        next: 0,
        count: COUNT,
    };
    let mut add = |key: u64| match state.entry(hash(key), &key) {
        Ok(Entry::Occupied(entry)) => entry.1 += 1,
        Ok(Entry::Vacant(place)) => place.insert((key, 0u64)).1 = 1,
        Err(error) => panic!("all key groups are here: {error}"),
    };
    (0..COUNT).for_each(&mut add);
    group.bench_function("update_100000_keys", |bencher| {
        bencher.iter(|| add(black_box(keys.take())));
    });
    let mut map: HashMap<u64, u64> = (0..COUNT).map(|key| (key, 0)).collect();
    let mut keys = Keys {
        next: 0,
        count: COUNT,
    };
    group.bench_function("floor_hash_map_100000_keys", |bencher| {
        bencher.iter(|| *map.entry(black_box(keys.take())).or_default() += 1);
    });
    group.finish();
}

/// Value state as bytes, beside the typed table that it is judged by. Keys are announced as an operator's run announces them.
pub(super) fn value_state(c: &mut Criterion) {
    const COUNT: u64 = 100_000;
    const RUN: usize = 64;
    const SLOTS_AHEAD: usize = 16;
    const ENTRIES_AHEAD: usize = 8;
    let mut group = c.benchmark_group("value_state");
    group.throughput(Throughput::Elements(RUN as u64));
    let take_run = |keys: &mut Keys| {
        let run: [u64; RUN] = std::array::from_fn(|_| black_box(keys.take()));
        (run, run.map(hash))
    };

    let mut backend = KeyedStateBackend::new(0, 1, 128);
    let descriptor = ValueStateDescriptor::<u64>::new("sum");
    let sum = descriptor.register(&mut backend).expect("the first state");
    let add = |backend: &mut KeyedStateBackend, key: u64, key_hash: u32| {
        let at = At {
            key_hash,
            key: &key.to_le_bytes(),
            namespace: &[],
        };
        let mut access = KeyedAccess::new(backend, at, 0);
        sum.modify(&mut access, |sum| Some(sum.unwrap_or(0) + 1))
            .expect("all key groups are here");
    };
    (0..COUNT).for_each(|key| add(&mut backend, key, hash(key)));
    let mut keys = Keys {
        next: 0,
        count: COUNT,
    };
    group.bench_function("modify_100000_keys", |bencher| {
        bencher.iter(|| {
            let (run, hashes) = take_run(&mut keys);
            for (key, key_hash) in run.into_iter().zip(hashes) {
                add(&mut backend, key, key_hash);
            }
        });
    });
    group.bench_function("modify_100000_keys_announced", |bencher| {
        bencher.iter(|| {
            let (run, hashes) = take_run(&mut keys);
            backend.prefetch_slots(&hashes[..SLOTS_AHEAD]);
            backend.prefetch_entries(&hashes[..ENTRIES_AHEAD]);
            for (index, (key, key_hash)) in run.into_iter().zip(hashes).enumerate() {
                if let Some(ahead) = hashes.get(index + SLOTS_AHEAD) {
                    backend.prefetch_slots(&[*ahead]);
                }
                if let Some(ahead) = hashes.get(index + ENTRIES_AHEAD) {
                    backend.prefetch_entries(&[*ahead]);
                }
                add(&mut backend, key, key_hash);
            }
        });
    });

    let mut table = KeyedState::new(0, 1, 128, KeyBeside::<u64>::default());
    let add = |table: &mut KeyedState<(u64, u64), _>, key: u64, key_hash: u32| match table
        .entry(key_hash, &key)
    {
        Ok(Entry::Occupied(entry)) => entry.1 += 1,
        Ok(Entry::Vacant(place)) => place.insert((key, 0u64)).1 = 1,
        Err(error) => panic!("all key groups are here: {error}"),
    };
    (0..COUNT).for_each(|key| add(&mut table, key, hash(key)));
    group.bench_function("floor_table_100000_keys", |bencher| {
        bencher.iter(|| {
            let (run, hashes) = take_run(&mut keys);
            for (key, key_hash) in run.into_iter().zip(hashes) {
                add(&mut table, key, key_hash);
            }
        });
    });
    group.bench_function("floor_table_100000_keys_announced", |bencher| {
        bencher.iter(|| {
            let (run, hashes) = take_run(&mut keys);
            table.prefetch(&hashes[..SLOTS_AHEAD]);
            for (index, (key, key_hash)) in run.into_iter().zip(hashes).enumerate() {
                if let Some(ahead) = hashes.get(index + SLOTS_AHEAD) {
                    table.prefetch(&[*ahead]);
                }
                add(&mut table, key, key_hash);
            }
        });
    });
    group.finish();
}
