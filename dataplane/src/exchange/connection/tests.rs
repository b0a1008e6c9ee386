#![allow(
    clippy::disallowed_methods,
    reason = "tests wait for sockets with a deadline"
)]

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::*;
use crate::element::{Control, Element};
use crate::limits::CHANNEL_BUFFERS;
use crate::record::{EventTime, RecordRef};
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

fn full_buffer(value: u8) -> Buffer {
    let mut buffer = Buffer::on_heap(0);
    let bytes = [value; 1000];
    let record = RecordRef {
        bytes: &bytes,
        timestamp: EventTime(0),
        key_hash: 0,
        origin_ns: 0,
    };
    while buffer.push_record(&record, 0) {}
    buffer
}

struct Ends {
    out: Connection,
    into: Connection,
    receivers: Vec<Rc<RemoteReceiver>>,
}

impl Ends {
    fn new() -> Self {
        let (a, b) = pair();
        let pool = BufferPool::new(256);
        Self {
            out: Connection::new(
                a,
                Direction::Outgoing,
                "core 0 of tm-2".into(),
                pool.clone(),
            ),
            into: Connection::new(b, Direction::Incoming, "core 0 of tm-1".into(), pool),
            receivers: Vec::new(),
        }
    }

    /// Sweeps both ends until `done`.
    fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !done(self) {
            assert!(Instant::now() < deadline, "nothing moved for 10 s");
            let _ = self.out.sweep();
            for notice in self.into.sweep().notices {
                let Notice::Opened { number, .. } = notice else {
                    continue;
                };
                let receiver = Rc::new(RemoteReceiver::default());
                self.into.claim(number, &receiver);
                self.receivers.push(receiver);
            }
        }
    }
}

#[test]
fn a_stopped_channel_stops_at_its_credit_and_its_neighbour_flows_on() {
    let mut ends = Ends::new();
    let (stopped, flowing) = (ends.out.open(&key(0)), ends.out.open(&key(1)));
    ends.until(|ends| ends.receivers.len() == 2);
    let (mut pushed, mut taken) = (0u32, 0u32);
    ends.until(|ends| {
        while stopped.push(full_buffer(1)).is_ok() {
            pushed += 1;
        }
        while flowing.push(full_buffer(2)).is_ok() {}
        while let Some(buffer) = ends.receivers[1].pop() {
            assert_eq!(buffer.as_slice()[crate::limits::ELEMENT_HEADER_BYTES], 2);
            taken += 1;
        }
        taken > 300
    });
    let bound = CHANNEL_CREDIT + u32::try_from(CHANNEL_BUFFERS).expect("small");
    assert_eq!(pushed, bound, "credit plus the sender's queue");
    assert_eq!(
        ends.receivers[0].queue.borrow().len(),
        CHANNEL_CREDIT as usize
    );
    // It resumes where it stopped, and control elements at its end need no credit.
    let mut end = Buffer::on_heap(0);
    assert!(end.push_control(Control::EndOfInput));
    let mut end = Some(end);
    let (mut resumed, mut ended) = (0u32, false);
    ends.until(|ends| {
        if let Some(buffer) = end.take() {
            end = stopped.push(buffer).err();
        }
        while let Some(buffer) = ends.receivers[0].pop() {
            let mut offset = 0;
            match buffer.next_element(&mut offset) {
                Some(Element::Control(Control::EndOfInput)) => ended = true,
                _ => resumed += 1,
            }
        }
        ended
    });
    assert_eq!(resumed, pushed);
}

#[test]
fn nothing_leaves_before_the_consumer_claims_the_channel() {
    let (a, b) = pair();
    let pool = BufferPool::new(16);
    let mut out = Connection::new(a, Direction::Outgoing, "tm-2".into(), pool.clone());
    let mut into = Connection::new(b, Direction::Incoming, "tm-1".into(), pool);
    let sender = out.open(&key(0));
    // A control element needs no credit, but somebody to take it.
    let mut end = Buffer::on_heap(0);
    assert!(end.push_control(Control::EndOfInput));
    assert!(sender.push(end).is_ok());
    let receiver = Rc::new(RemoteReceiver::default());
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut number = None;
    let mut sweeps_unclaimed = 0;
    while receiver.is_empty() {
        assert!(Instant::now() < deadline);
        drop(out.sweep());
        for notice in into.sweep().notices {
            let Notice::Opened { number: opened, .. } = notice else {
                continue;
            };
            number = Some(opened);
        }
        assert_eq!((out.broken(), into.broken()), (None, None));
        if let Some(number) = number {
            sweeps_unclaimed += 1;
            if sweeps_unclaimed == 100 {
                into.claim(number, &receiver);
            }
        }
    }
    assert!(sweeps_unclaimed >= 100);
}

#[test]
fn a_consumer_that_leaves_lets_its_producer_go() {
    let mut ends = Ends::new();
    let sender = ends.out.open(&key(0));
    ends.until(|ends| ends.receivers.len() == 1);
    ends.receivers.clear();
    let mut pushed = 0;
    ends.until(|_| {
        pushed += u32::from(sender.push(full_buffer(1)).is_ok());
        pushed > 100 && sender.is_drained()
    });
    assert!(ends.out.broken().is_none() && ends.into.broken().is_none());
}

#[test]
fn hostile_bytes_end_the_connection_with_the_peers_name_and_nothing_else() {
    let data = |sequence, payload_bytes, free| Frame::Elements {
        channel: 0,
        sequence,
        payload_bytes,
        free,
        backlog: 0,
    };
    let open = |channel| {
        [
            &Frame::OpenChannel { channel }.encode()[..],
            &key(0).encode(),
        ]
        .concat()
    };
    let end = {
        let mut buffer = Buffer::on_heap(0);
        assert!(buffer.push_control(Control::EndOfInput));
        buffer.as_slice().to_vec()
    };
    let record = {
        let mut buffer = Buffer::on_heap(0);
        let bytes = RecordRef {
            bytes: b"12345678",
            timestamp: EventTime(0),
            key_hash: 0,
            origin_ns: 0,
        };
        assert!(buffer.push_record(&bytes, 0));
        buffer.as_slice().to_vec()
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("magic", vec![0xff; 64]),
        ("out of turn", open(7)),
        (
            "never opened",
            [&data(0, 24, true).encode()[..], &end].concat(),
        ),
        (
            "where 0 was due",
            [&open(0)[..], &data(3, 24, true).encode(), &end].concat(),
        ),
        (
            "unknown control",
            [&open(0)[..], &data(0, 24, true).encode(), &[0xff; 24]].concat(),
        ),
        (
            "records in a control frame",
            [&open(0)[..], &data(0, 32, true).encode(), &record].concat(),
        ),
        (
            "Credit",
            Frame::Credit {
                channel: 0,
                count: 1,
            }
            .encode()
            .to_vec(),
        ),
        ("closed by the peer", Vec::new()),
    ];
    for (expected, bytes) in cases {
        let (mut hostile, socket) = pair();
        let mut into = Connection::new(
            socket,
            Direction::Incoming,
            "core 3 of tm-9".into(),
            BufferPool::new(4),
        );
        let mut written = 0;
        let mut claimed = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(10);
        while into.broken().is_none() {
            assert!(
                Instant::now() < deadline,
                "{expected}: the connection lives on"
            );
            for notice in into.sweep().notices {
                let Notice::Opened { number, .. } = notice else {
                    continue;
                };
                let receiver = Rc::new(RemoteReceiver::default());
                into.claim(number, &receiver);
                claimed.push(receiver);
            }
            // Byte by byte at first, so that every boundary is seen; elements only once the channel was claimed.
            if written < bytes.len() {
                let next = if written < 40 {
                    written + 1
                } else {
                    bytes.len().min(written + 7)
                };
                written += hostile.write(&bytes[written..next]).unwrap_or(0);
            } else if bytes.is_empty() {
                drop(hostile.shutdown(std::net::Shutdown::Both));
            }
        }
        let why = into.broken().expect("just seen").to_string();
        assert!(
            why.contains(expected) && why.contains("core 3 of tm-9"),
            "{expected}: {why}"
        );
    }
}

#[test]
fn more_data_than_credit_ends_the_connection() {
    let (mut hostile, socket) = pair();
    let mut into = Connection::new(
        socket,
        Direction::Incoming,
        "tm-9".into(),
        BufferPool::new(64),
    );
    let mut bytes = Frame::OpenChannel { channel: 0 }.encode().to_vec();
    bytes.extend_from_slice(&key(0).encode());
    let mut buffer = Buffer::on_heap(0);
    let record = RecordRef {
        bytes: b"12345678",
        timestamp: EventTime(0),
        key_hash: 0,
        origin_ns: 0,
    };
    assert!(buffer.push_record(&record, 0));
    hostile.write_all(&bytes).expect("connected");
    let receiver = Rc::new(RemoteReceiver::default());
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut sent = 0;
    while into.broken().is_none() {
        assert!(Instant::now() < deadline);
        for notice in into.sweep().notices {
            let Notice::Opened { number, .. } = notice else {
                continue;
            };
            into.claim(number, &receiver);
        }
        if receiver.link.borrow().is_some() && sent <= CHANNEL_CREDIT {
            let frame = Frame::Elements {
                channel: 0,
                sequence: u64::from(sent),
                payload_bytes: 32,
                free: false,
                backlog: 0,
            };
            hostile.write_all(&frame.encode()).expect("connected");
            hostile.write_all(buffer.as_slice()).expect("connected");
            sent += 1;
        }
    }
    assert!(into.broken().expect("just seen").contains("without credit"));
    assert_eq!(receiver.queue.borrow().len(), CHANNEL_CREDIT as usize);
}

#[test]
fn channels_come_and_go_without_leaving_anything_behind() {
    let mut ends = Ends::new();
    for round in 0..300 {
        let sender = ends.out.open(&key(round));
        let unclaimed = ends.out.open(&key(round));
        let consumer_first = round % 2 == 0;
        ends.until(|ends| ends.receivers.len() == 2);
        assert!(sender.push(full_buffer(1)).is_ok());
        ends.until(|ends| ends.receivers[0].pop().is_some());
        if consumer_first {
            ends.receivers.clear();
            drop((sender, unclaimed));
        } else {
            drop((sender, unclaimed));
            ends.receivers.clear();
        }
        ends.until(|ends| ends.out.outgoing.is_empty() && ends.into.incoming.is_empty());
        assert_eq!((ends.out.broken(), ends.into.broken()), (None, None));
    }
}
