//! Records in buffers, buffers in pools and rings.

use std::hint::black_box;
use std::rc::Rc;

use criterion::{Criterion, Throughput};
use ringflow_dataplane::batch::{Buffer, BufferPool, InputBuffer};
use ringflow_dataplane::element::Element;
use ringflow_dataplane::exchange::channel::ChannelSender;
use ringflow_dataplane::exchange::local::LocalQueue;
use ringflow_dataplane::exchange::partitioner::Partitioner;
use ringflow_dataplane::exchange::result_partition::ResultPartition;
use ringflow_dataplane::exchange::ring::ring as make_ring;
use ringflow_dataplane::limits::CHANNEL_BUFFERS;
use ringflow_dataplane::metrics::SubtaskMetrics;
use ringflow_dataplane::record::{EventTime, RecordRef, RowKind};

/// A struct of three words.
const PAYLOAD: [u8; 24] = [7; 24];

fn record(bytes: &[u8]) -> RecordRef<'_> {
    RecordRef {
        bytes,
        timestamp: EventTime::NONE,
        key_hash: 1,
        kind: RowKind::Insert,
        origin_ns: 0,
    }
}

pub(super) fn full_buffer() -> Buffer {
    let mut buffer = Buffer::on_heap(0);
    while buffer.push_record(&record(&PAYLOAD), 1) {}
    buffer
}

pub(super) fn result_partition(c: &mut Criterion) {
    let mut group = c.benchmark_group("result_partition");
    group.throughput(Throughput::Elements(1));
    let queue = LocalQueue::new(CHANNEL_BUFFERS);
    let roads = vec![(ChannelSender::Local(queue.clone()), "here".to_owned())];
    let metrics = Rc::new(SubtaskMetrics::default());
    let pool = BufferPool::new(64);
    let mut partition = ResultPartition::new(Partitioner::Single, roads, None, pool, metrics);
    group.bench_function("push_24_bytes", |bencher| {
        bencher.iter(|| {
            let pushed = partition.push(&record(black_box(&PAYLOAD)));
            if !queue.is_empty() {
                drop(queue.pop());
            }
            pushed.is_ok()
        });
    });
    // As many bytes as a record takes in a buffer: head and payload.
    let mut bytes: Vec<u8> = Vec::with_capacity(Buffer::CAPACITY);
    group.bench_function("floor_vec_extend_32_bytes", |bencher| {
        bencher.iter(|| {
            if bytes.len() + 32 > bytes.capacity() {
                bytes.clear();
            }
            bytes.extend_from_slice(black_box(&[7; 32]));
        });
    });
    group.finish();
}

pub(super) fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    let buffer = InputBuffer::Owned(full_buffer());
    group.throughput(Throughput::Elements(u64::from(buffer.records())));
    group.bench_function("walk_a_full_buffer", |bencher| {
        bencher.iter(|| {
            let (mut offset, mut sum) = (0, 0u64);
            while let Some(element) = buffer.next_element(&mut offset) {
                if let Element::Record(record) = element {
                    sum += u64::from(record.bytes[0]) + u64::from(record.key_hash);
                }
            }
            sum
        });
    });
    group.bench_function("floor_sum_by_32_bytes", |bencher| {
        let words = buffer.as_slice();
        bencher.iter(|| {
            let heads = black_box(words).chunks_exact(32);
            heads
                .map(|head| u64::from(head[8]) + u64::from(head[4]))
                .sum::<u64>()
        });
    });
    group.finish();
}

pub(super) fn buffer_pool(c: &mut Criterion) {
    let mut group = c.benchmark_group("buffer_pool");
    let pool = BufferPool::new(64);
    group.bench_function("take_and_drop_here", |bencher| {
        bencher.iter(|| drop(pool.take()))
    });
    group.bench_function("floor_box_and_drop_here", |bencher| {
        bencher.iter(|| drop(black_box(Vec::<u8>::with_capacity(32 << 10))));
    });
    group.finish();
}

/// Hands `count` values to another thread and waits until it has seen them all.
fn across(count: u64) {
    let (mut producer, mut consumer) = make_ring::<u64>(CHANNEL_BUFFERS);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut seen = 0;
            while seen < count {
                match consumer.pop() {
                    Some(value) => seen = black_box(value) + 1,
                    None => std::thread::yield_now(),
                }
            }
        });
        for value in 0..count {
            while producer.push(value).is_err() {
                std::thread::yield_now();
            }
        }
    });
}

pub(super) fn ring(c: &mut Criterion) {
    const VALUES: u64 = 20_000;
    let mut group = c.benchmark_group("ring");
    let (mut producer, mut consumer) = make_ring::<u64>(CHANNEL_BUFFERS);
    group.throughput(Throughput::Elements(1));
    group.bench_function("push_and_pop_here", |bencher| {
        bencher.iter(|| {
            let pushed = producer.push(black_box(1));
            (pushed, consumer.pop())
        });
    });
    let mut queue = std::collections::VecDeque::with_capacity(CHANNEL_BUFFERS);
    group.bench_function("floor_vec_deque_here", |bencher| {
        bencher.iter(|| {
            queue.push_back(black_box(1u64));
            queue.pop_front()
        });
    });
    group.throughput(Throughput::Elements(VALUES));
    group.bench_function("to_another_core", |bencher| bencher.iter(|| across(VALUES)));
    group.bench_function("floor_start_and_join_a_thread", |bencher| {
        bencher.iter(|| across(1))
    });
    group.finish();
}
