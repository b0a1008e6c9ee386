//! Frames, credit, and sweeps over connections on which nothing happens.

use std::hint::black_box;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;

use criterion::{Criterion, Throughput};
use ringflow_dataplane::batch::{Buffer, BufferPool};
use ringflow_dataplane::exchange::connection::{Connection, Departures, Direction, Notice};
use ringflow_dataplane::exchange::frame::{ChannelKey, Frame};
use ringflow_dataplane::exchange::network::{Network, NetworkOptions};
use ringflow_dataplane::exchange::remote::{Dirty, RemoteReceiver};
use ringflow_dataplane::exchange::uring::Features;
use ringflow_dataplane::limits::{
    BUFFER_BYTES, CHANNEL_BUFFERS, CHANNEL_CREDIT, FRAME_HEADER_BYTES,
};
use ringflow_dataplane::runtime::doorbell::Doorbell;
use ringflow_schemas::id::JobId;

use crate::memory::full_buffer;

pub(super) fn frame(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    let frame = Frame::Elements {
        channel: 3,
        sequence: 9,
        payload_bytes: 4096,
        free: false,
        backlog: 2,
    };
    let bytes = frame.encode();
    group.bench_function("encode", |bencher| {
        bencher.iter(|| black_box(&frame).encode())
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| Frame::decode(black_box(bytes)))
    });
    group.bench_function("floor_copy_32_bytes", |bencher| {
        let mut to = [0; FRAME_HEADER_BYTES];
        bencher.iter(|| black_box(&mut to).copy_from_slice(black_box(&bytes)));
    });
    group.finish();
}

fn connection(direction: Direction) -> Connection {
    Connection::new(
        0,
        direction,
        "the other core".to_owned(),
        BufferPool::new(256),
        Dirty::default(),
    )
}

/// Two connections without a network between them.
struct Wire {
    pool: BufferPool,
    departures: Departures,
    notices: Vec<Notice>,
}

impl Wire {
    /// Carries over what `from` has to say now, in blocks, as a kernel would.
    fn carry(&mut self, from: &mut Connection, to: &mut Connection) {
        from.fill(&mut self.departures);
        let pieces = self
            .departures
            .pieces()
            .flat_map(|piece| piece.chunks(BUFFER_BYTES));
        for piece in pieces.filter(|piece| !piece.is_empty()) {
            let mut block = self.pool.take_or_heap(0);
            block.storage_mut()[..piece.len()].copy_from_slice(piece);
            let result = to.on_bytes(&Rc::new(block), 0..piece.len(), &mut self.notices);
            result.expect("what a correct peer says");
        }
        self.departures.on_sent();
    }
}

pub(super) fn credit(c: &mut Criterion) {
    let mut group = c.benchmark_group("credit");
    let (mut out, mut into) = (
        connection(Direction::Outgoing),
        connection(Direction::Incoming),
    );
    let mut wire = Wire {
        pool: BufferPool::new(64),
        departures: Departures::default(),
        notices: Vec::new(),
    };
    let key = ChannelKey {
        job: JobId(1),
        edge: 0,
        producer: (0, 0),
        consumer: (0, 0),
    };
    let sender = out.open(&key, CHANNEL_BUFFERS);
    wire.carry(&mut out, &mut into);
    let receiver = Rc::new(RemoteReceiver::new(CHANNEL_CREDIT));
    for notice in wire.notices.drain(..) {
        if let Notice::Opened { number, .. } = notice {
            into.claim(number, &receiver);
        }
    }
    wire.carry(&mut into, &mut out);
    let content = full_buffer();
    group.throughput(Throughput::Bytes(content.bytes() as u64));
    let pool = BufferPool::new(64);
    // Credit goes back with every fourth buffer.
    group.bench_function("round_trip_of_a_full_buffer", |bencher| {
        bencher.iter(|| {
            let mut buffer = pool.take_or_heap(0);
            let fits = buffer.append(content.as_slice(), content.records());
            let pushed = sender.push(buffer).is_ok();
            wire.carry(&mut out, &mut into);
            let read = std::iter::from_fn(|| receiver.pop()).count();
            wire.carry(&mut into, &mut out);
            assert!(fits && pushed && read > 0, "the channel flows");
        });
    });
    let (mut one, mut other) = (Buffer::on_heap(0), Buffer::on_heap(0));
    group.bench_function("floor_two_copies_of_its_bytes", |bencher| {
        let from = content.as_slice();
        bencher.iter(|| {
            one.storage_mut()[..from.len()].copy_from_slice(black_box(from));
            let back = black_box(&mut other).storage_mut();
            back[..from.len()].copy_from_slice(&one.storage_mut()[..from.len()]);
        });
    });
    group.finish();
}

fn pair() -> std::io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    Ok((client, listener.accept()?.0))
}

pub(super) fn idle_sweep(c: &mut Criterion) {
    let mut group = c.benchmark_group("idle_sweep");
    for count in [2, 64] {
        let features = Features::probe().expect("this kernel has io_uring");
        let options = NetworkOptions {
            features,
            zero_copy: false,
        };
        let bell = Doorbell::new().expect("an eventfd");
        let network = Network::new(options, bell.as_raw_fd(), BufferPool::new(256));
        let mut network = network.expect("this kernel has io_uring");
        let mut peers = Vec::new();
        for id in 0..count {
            let (here, there) = pair().expect("a connection on loopback");
            network.attach(id, here, Direction::Incoming, "nobody".to_owned());
            peers.push(there);
        }
        while network.sweep() {}
        group.bench_function(format!("{count}_connections"), |bencher| {
            bencher.iter(|| network.sweep());
        });
    }
    let flag = std::sync::atomic::AtomicU32::new(0);
    group.bench_function("floor_one_load", |bencher| {
        bencher.iter(|| black_box(&flag).load(std::sync::atomic::Ordering::Acquire));
    });
    group.finish();
}
