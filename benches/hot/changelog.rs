//! Operators that keep tables up to date, with their state: what a record costs.

use std::collections::HashMap;
use std::hint::black_box;
use std::rc::Rc;

use criterion::{Criterion, Throughput};
use ringflow_dataplane::metrics::SubtaskMetrics;
use ringflow_dataplane::operator::Operator;
use ringflow_dataplane::operator::chain::{Output, test_context};
use ringflow_dataplane::operator::changelog::ChangelogOptions;
use ringflow_dataplane::operator::group_aggregate::{GroupAggregate, GroupAggregateFunction};
use ringflow_dataplane::operator::join::{Join, JoinType};
use ringflow_dataplane::operator::stateless::Collector;
use ringflow_dataplane::operator::window::{TimeWindow, WindowResult};
use ringflow_dataplane::record::{EventTime, RecordRef, Row, RowKind};

use crate::keyed::{Keys, hash};

const COUNT: u64 = 100_000;
/// Records of one iteration, announced before the ones ahead of them are worked on, as a subtask does.
const BATCH: usize = 16;

/// A key and a value: 32 bytes as it travels.
type Pair = WindowResult<u64, u64>;

#[derive(Clone)]
struct Sum;

impl GroupAggregateFunction<Pair> for Sum {
    type Accumulator = u64;
    type Output = u64;
    fn create_accumulator(&self) -> u64 {
        0
    }
    fn accumulate(&self, pair: Row<'_, Pair>, sum: &mut u64) {
        *sum = sum.wrapping_add(*pair.value());
    }
    fn result(&self, sum: &u64) -> u64 {
        *sum
    }
}

/// The keys of a batch; announces those of the next one.
struct Feed {
    keys: Keys,
    next: [u64; BATCH],
    bytes: Vec<u8>,
}

impl Feed {
    fn new() -> Self {
        Self {
            keys: Keys {
                next: 0,
                count: COUNT,
            },
            next: [0; BATCH],
            bytes: Vec::new(),
        }
    }

    fn batch(&mut self, operator: &mut impl Operator) -> [u64; BATCH] {
        let fresh = std::array::from_fn(|_| self.keys.take());
        operator.on_keys_ahead(&fresh.map(hash));
        std::mem::replace(&mut self.next, fresh)
    }

    fn record(&mut self, key: u64, value: u64, kind: RowKind) -> RecordRef<'_> {
        self.bytes.clear();
        WindowResult::encode(&key, &value, TimeWindow::new(0, 1), &mut self.bytes);
        RecordRef {
            bytes: &self.bytes,
            timestamp: EventTime(1),
            key_hash: hash(key),
            kind,
            origin_ns: 0,
        }
    }
}

pub(super) fn group_aggregate(c: &mut Criterion) {
    let mut group = c.benchmark_group("group_aggregate");
    group.throughput(Throughput::Elements(BATCH as u64));
    let mut operator = GroupAggregate::new(
        |pair: Row<'_, Pair>| *pair.key(),
        Sum,
        |key: &u64, sum: &u64, out: &mut Collector<'_, Pair>| {
            out.collect_window_result(key, sum, TimeWindow::new(0, 1));
        },
        ChangelogOptions::new(),
    );
    let context = test_context(Rc::new(SubtaskMetrics::default()));
    operator.open(&context).expect("opens");
    let (mut feed, mut output) = (Feed::new(), Output::End);
    for key in 0..COUNT {
        let record = feed.record(key, 1, RowKind::Insert);
        operator
            .on_record(&record, &mut output)
            .expect("aggregates");
    }
    group.bench_function("update_100000_keys", |bencher| {
        bencher.iter(|| {
            let keys: [u64; BATCH] = std::array::from_fn(|_| feed.keys.take());
            for key in keys {
                let record = feed.record(black_box(key), 1, RowKind::Insert);
                operator
                    .on_record(&record, &mut output)
                    .expect("aggregates");
            }
        });
    });
    group.bench_function("update_100000_keys_announced", |bencher| {
        bencher.iter(|| {
            for key in feed.batch(&mut operator) {
                let record = feed.record(black_box(key), 1, RowKind::Insert);
                operator
                    .on_record(&record, &mut output)
                    .expect("aggregates");
            }
        });
    });
    let mut map: HashMap<u64, u64> = (0..COUNT).map(|key| (key, 0)).collect();
    let mut keys = Feed::new().keys;
    group.bench_function("floor_hash_map_100000_keys", |bencher| {
        bencher.iter(|| {
            for _ in 0..BATCH {
                *map.entry(black_box(keys.take())).or_default() += 1;
            }
        });
    });
    group.finish();
}

/// Each key has one left row; right rows come and go, so that state does not grow: half of the records add a row to state and give a
/// result, half take it out and retract it.
pub(super) fn join(c: &mut Criterion) {
    let mut group = c.benchmark_group("join");
    group.throughput(Throughput::Elements(2 * BATCH as u64));
    let mut operator = Join::new(
        JoinType::Inner,
        |left: Row<'_, Pair>| *left.key(),
        |right: Row<'_, Pair>| *right.key(),
        |left: Option<Row<'_, Pair>>,
         right: Option<Row<'_, Pair>>,
         out: &mut Collector<'_, Pair>| {
            if let (Some(left), Some(right)) = (left, right) {
                let sum = left.value().wrapping_add(*right.value());
                out.collect_window_result(left.key(), &sum, TimeWindow::new(0, 1));
            }
        },
        None,
    );
    let context = test_context(Rc::new(SubtaskMetrics::default()));
    operator.open(&context).expect("opens");
    let (mut feed, mut output) = (Feed::new(), Output::End);
    for key in 0..COUNT {
        let record = feed.record(key, 1, RowKind::Insert);
        operator
            .on_record_of(0, &record, &mut output)
            .expect("joins");
    }
    group.bench_function("come_and_go_100000_keys_announced", |bencher| {
        bencher.iter(|| {
            let keys = feed.batch(&mut operator);
            for kind in [RowKind::Insert, RowKind::Delete] {
                for key in keys {
                    let record = feed.record(black_box(key), 1, kind);
                    operator
                        .on_record_of(1, &record, &mut output)
                        .expect("joins");
                }
            }
        });
    });
    let left: HashMap<u64, [u64; 4]> = (0..COUNT).map(|key| (key, [key; 4])).collect();
    let mut right: HashMap<u64, [u64; 4]> = HashMap::new();
    let mut keys = Feed::new().keys;
    group.bench_function("floor_two_hash_maps_100000_keys", |bencher| {
        bencher.iter(|| {
            let keys: [u64; BATCH] = std::array::from_fn(|_| keys.take());
            for key in keys {
                black_box(left.get(&black_box(key)));
                right.insert(key, [key; 4]);
            }
            for key in keys {
                black_box(left.get(&black_box(key)));
                right.remove(&key);
            }
        });
    });
    group.finish();
}
