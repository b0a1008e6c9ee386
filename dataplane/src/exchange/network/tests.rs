#![allow(
    clippy::disallowed_methods,
    reason = "tests wait for sockets with a deadline"
)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::*;
use crate::element::Element;
use crate::limits::{CHANNEL_BUFFERS, CHANNEL_CREDIT};
use crate::record::{EventTime, RecordRef};
use crate::runtime::doorbell::Doorbell;
use ringflow_schemas::id::JobId;

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let client = TcpStream::connect(address).expect("listening");
    let (server, _) = listener.accept().expect("connected");
    for socket in [&client, &server] {
        socket.set_nonblocking(true).expect("a socket");
        socket.set_nodelay(true).expect("a socket");
    }
    (client, server)
}

fn key(edge: u32) -> ChannelKey {
    ChannelKey {
        job: JobId(1),
        edge,
        producer: (0, 0),
        consumer: (0, 0),
    }
}

fn buffer(number: u64, records: u64) -> Buffer {
    let mut buffer = Buffer::on_heap(0);
    for record in 0..records {
        let bytes = [number.to_le_bytes(), record.to_le_bytes()].concat();
        let record = RecordRef {
            bytes: &bytes,
            timestamp: EventTime::NONE,
            key_hash: 0,
            origin_ns: 0,
        };
        assert!(buffer.push_record(&record, 0));
    }
    buffer
}

/// What the kernel has, and what older ones have.
fn modes() -> Vec<NetworkOptions> {
    let all = Features::probe().expect("io_uring");
    let old = Features {
        deferred: false,
        multishot: false,
        zero_copy: false,
    };
    let middle = Features {
        deferred: false,
        ..all
    };
    let options = |features| NetworkOptions {
        features,
        zero_copy: false,
    };
    [all, middle, old].map(options).to_vec()
}

fn network(options: NetworkOptions) -> (Network, Doorbell) {
    let bell = Doorbell::new().expect("an eventfd");
    let network = Network::new(options, bell.as_raw_fd(), BufferPool::new(256));
    (network.expect("io_uring"), bell)
}

/// Sweeps until `done`.
fn until(networks: &mut [&mut Network], mut done: impl FnMut(&mut [&mut Network]) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done(networks) {
        assert!(Instant::now() < deadline, "nothing came for 20 s");
        for network in networks.iter_mut() {
            network.sweep();
        }
    }
}

#[test]
fn buffers_cross_a_socket_in_order_with_every_kind_of_kernel() {
    for options in modes() {
        let ((mut out, _bell), (mut into, _other)) = (network(options), network(options));
        let (a, b) = pair();
        out.attach(1, a, Direction::Outgoing, "there".into());
        into.attach(2, b, Direction::Incoming, "here".into());
        let sender = out.open(1, &key(0), CHANNEL_BUFFERS).expect("attached");
        let receiver = Rc::new(RemoteReceiver::new(CHANNEL_CREDIT));
        let (mut pushed, mut read) = (0u64, 0u64);
        let records = 1000;
        until(&mut [&mut out, &mut into], |networks| {
            if let Some((2, Notice::Opened { number, .. })) = networks[1].take_notice() {
                assert!(networks[1].claim(2, number, &receiver));
            }
            while pushed < 500 && sender.has_room() {
                assert!(sender.push(buffer(pushed, records)).is_ok());
                pushed += 1;
            }
            while let Some(buffer) = receiver.pop() {
                let mut offset = 0;
                while let Some(Element::Record(record)) = buffer.next_element(&mut offset) {
                    let expected = [read / records, read % records].map(u64::to_le_bytes);
                    assert_eq!(record.bytes, expected.concat());
                    read += 1;
                }
            }
            read == 500 * records
        });
        assert_eq!((out.take_lost(), into.take_lost()), (None, None));
    }
}

#[test]
fn a_sleeping_core_is_rung_by_what_arrives_and_an_awake_one_is_not() {
    let rung = |bell: &Doorbell| {
        // SAFETY: the eventfd is open as long as the bell.
        let eventfd = unsafe { std::os::fd::BorrowedFd::borrow_raw(bell.as_raw_fd()) };
        let mut polled = [rustix::event::PollFd::new(
            &eventfd,
            rustix::event::PollFlags::IN,
        )];
        let timeout = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut polled, Some(&timeout)).expect("an eventfd") == 1
    };
    for options in modes() {
        let (mut into, bell) = network(options);
        let (mut peer, socket) = pair();
        into.attach(7, socket, Direction::Incoming, "here".into());
        until(&mut [&mut into], |networks| !networks[0].sweep());
        let open = [
            &crate::exchange::frame::Frame::OpenChannel { channel: 0 }.encode()[..],
            &key(0).encode(),
        ]
        .concat();
        peer.write_all(&open[..10]).expect("connected");
        until(&mut [&mut into], |networks| networks[0].sweep());
        until(&mut [&mut into], |networks| !networks[0].sweep());
        assert!(!rung(&bell), "awake");
        assert!(into.on_asleep(), "nothing to do");
        peer.write_all(&open[10..]).expect("connected");
        let deadline = Instant::now() + Duration::from_secs(10);
        while !rung(&bell) {
            assert!(Instant::now() < deadline, "nobody rang");
            std::thread::yield_now();
        }
        into.on_awake();
        until(&mut [&mut into], |networks| {
            networks[0].take_notice().is_some()
        });
    }
}

#[test]
fn a_peer_that_goes_or_talks_nonsense_loses_its_connection_alone() {
    for options in modes() {
        let (mut into, _bell) = network(options);
        let (mut nonsense, a) = pair();
        let (gone, b) = pair();
        let (mut good, c) = pair();
        into.attach(1, a, Direction::Incoming, "core 1 of tm-a".into());
        into.attach(2, b, Direction::Incoming, "core 1 of tm-b".into());
        into.attach(3, c, Direction::Incoming, "core 1 of tm-c".into());
        nonsense.write_all(&[0xee; 100]).expect("connected");
        drop(gone);
        let mut lost = Vec::new();
        until(&mut [&mut into], |networks| {
            lost.extend(networks[0].take_lost());
            lost.len() == 2
        });
        lost.sort_unstable();
        assert_eq!(lost, [1, 2]);
        // The peer sees the end at once.
        let deadline = Instant::now() + Duration::from_secs(10);
        let ended = loop {
            match nonsense.read(&mut [0; 8]) {
                Ok(0) => break true,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => break true,
                Ok(_) => break false,
            }
            assert!(Instant::now() < deadline, "the socket stays open");
        };
        assert!(ended);
        let open = [
            &crate::exchange::frame::Frame::OpenChannel { channel: 0 }.encode()[..],
            &key(0).encode(),
        ]
        .concat();
        good.write_all(&open).expect("connected");
        until(&mut [&mut into], |networks| {
            matches!(networks[0].take_notice(), Some((3, Notice::Opened { .. })))
        });
        assert!(
            into.links.iter().flatten().count() == 1,
            "the others are gone"
        );
    }
}

#[test]
fn a_network_that_ends_in_mid_flow_leaves_no_buffer_behind() {
    for options in modes() {
        let bell = Doorbell::new().expect("an eventfd");
        let pool = BufferPool::new(64);
        let mut out = Network::new(options, bell.as_raw_fd(), pool.clone()).expect("io_uring");
        let (a, peer) = pair();
        out.attach(1, a, Direction::Outgoing, "there".into());
        let sender = out.open(1, &key(0), CHANNEL_BUFFERS).expect("attached");
        // The peer grants credit and never reads.
        let grant = crate::exchange::frame::Frame::Credit {
            channel: 0,
            count: CHANNEL_CREDIT,
        };
        (&peer).write_all(&grant.encode()).expect("connected");
        until(&mut [&mut out], |_| {
            if let Some(mut buffer) = pool.take() {
                buffer.push_control(crate::element::Control::EndOfInput);
                drop(sender.push(buffer));
            }
            sender.window_is_open()
        });
        out.sweep();
        drop(sender);
        drop(out);
        assert_eq!(pool.used(), 0);
    }
}

/// The bound is the promise: no system call, and nothing per connection.
#[test]
fn an_idle_sweep_costs_the_same_with_64_connections_as_with_2() {
    let options = modes()[0];
    let mut peers = Vec::new();
    let mut connected = |count: u64| {
        let (mut network, bell) = network(options);
        for id in 0..count {
            let (peer, socket) = pair();
            peers.push(peer);
            network.attach(id, socket, Direction::Incoming, "there".into());
        }
        until(&mut [&mut network], |networks| !networks[0].sweep());
        (network, bell)
    };
    let (mut few, _bell) = connected(2);
    let (mut many, _other) = connected(64);
    let time = |network: &mut Network| {
        let start = Instant::now();
        for _ in 0..20_000 {
            assert!(!std::hint::black_box(&mut *network).sweep());
        }
        start.elapsed().as_secs_f64() / 20_000.0 * 1e9
    };
    // The best of many alternating rounds: what others do to this machine only adds.
    let (mut best_few, mut best_many) = (f64::MAX, f64::MAX);
    for _ in 0..50 {
        best_few = best_few.min(time(&mut few));
        best_many = best_many.min(time(&mut many));
    }
    eprintln!("an idle sweep: {best_few:.1} ns with 2 connections, {best_many:.1} ns with 64");
    assert!(best_many < 1.2 * best_few);
}
