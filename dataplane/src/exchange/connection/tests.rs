use super::*;
use crate::batch::InputBuffer;
use crate::element::{Control, Element, StopMode};
use crate::limits::{CHANNEL_BUFFERS, CREDIT_STEPS, IN_PLACE_MAX};
use crate::record::{EventTime, RecordRef, RowKind};
use proptest::prelude::*;
use ringflow_schemas::id::JobId;

fn key(edge: u32) -> ChannelKey {
    ChannelKey {
        job: JobId(1),
        edge,
        producer: (0, 0),
        consumer: (0, 0),
    }
}

fn record(bytes: &[u8]) -> RecordRef<'_> {
    RecordRef {
        bytes,
        timestamp: EventTime::NONE,
        key_hash: 0,
        kind: RowKind::Insert,
        origin_ns: 0,
    }
}

fn full_buffer(value: u8) -> Buffer {
    let mut buffer = Buffer::on_heap(0);
    while buffer.push_record(&record(&[value; 1000]), 0) {}
    buffer
}

fn connection(direction: Direction, peer: &str) -> Connection {
    let dirty = Dirty::default();
    Connection::new(0, direction, peer.to_owned(), BufferPool::new(256), dirty)
}

/// Hands `bytes` over in blocks of `piece` bytes, as the kernel might. Errors end the connection, as in the network.
fn deliver(to: &mut Connection, bytes: &[u8], piece: usize) -> Vec<Notice> {
    let mut notices = Vec::new();
    for chunk in bytes.chunks(piece) {
        let mut block = Buffer::on_heap(0);
        block.storage_mut()[..chunk.len()].copy_from_slice(chunk);
        if to.broken().is_some() {
            break;
        }
        if let Err(why) = to.on_bytes(&Rc::new(block), 0..chunk.len(), &mut notices) {
            to.fail(&why);
        }
    }
    notices
}

/// All that `from` has to say now.
fn take(from: &mut Connection) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let mut departures = Departures::default();
        from.fill(&mut departures);
        if departures.is_empty() {
            return bytes;
        }
        bytes.extend_from_slice(&departures.control);
        for (buffer, _) in &departures.frames {
            bytes.extend_from_slice(buffer.piece());
        }
        departures.on_sent();
    }
}

struct Ends {
    out: Connection,
    into: Connection,
    receivers: Vec<Rc<RemoteReceiver>>,
    credit: u32,
    piece: usize,
}

impl Ends {
    fn new(piece: usize) -> Self {
        Self {
            out: connection(Direction::Outgoing, "core 0 of tm-2"),
            into: connection(Direction::Incoming, "core 0 of tm-1"),
            receivers: Vec::new(),
            credit: CHANNEL_CREDIT,
            piece,
        }
    }

    /// Carries everything over, both ways, until nothing moves.
    fn settle(&mut self) {
        loop {
            let (there, back) = (take(&mut self.out), take(&mut self.into));
            if there.is_empty() && back.is_empty() {
                return;
            }
            for notice in deliver(&mut self.into, &there, self.piece) {
                if let Notice::Opened { number, .. } = notice {
                    let receiver = Rc::new(RemoteReceiver::new(self.credit));
                    self.into.claim(number, &receiver);
                    self.receivers.push(receiver);
                }
            }
            deliver(&mut self.out, &back, self.piece);
        }
    }
}

fn payloads(buffer: &InputBuffer) -> Vec<Vec<u8>> {
    let mut offset = 0;
    let elements = std::iter::from_fn(|| buffer.next_element(&mut offset));
    let records = elements.filter_map(|element| match element {
        Element::Record(record) => Some(record.bytes.to_vec()),
        Element::Control(_) => None,
    });
    records.collect()
}

#[test]
fn a_stopped_channel_stops_at_its_credit_and_its_neighbour_flows_on() {
    let mut ends = Ends::new(BUFFER_BYTES);
    let stopped = ends.out.open(&key(0), CHANNEL_BUFFERS);
    let flowing = ends.out.open(&key(1), CHANNEL_BUFFERS);
    ends.settle();
    let (mut pushed, mut taken) = (0, 0);
    while taken < 300 {
        while stopped.push(full_buffer(1)).is_ok() {
            pushed += 1;
        }
        while flowing.push(full_buffer(2)).is_ok() {}
        ends.settle();
        while let Some(buffer) = ends.receivers[1].pop() {
            assert!(payloads(&buffer).iter().all(|payload| payload[0] == 2));
            taken += 1;
        }
    }
    let bound = CHANNEL_CREDIT as usize + CHANNEL_BUFFERS;
    assert_eq!(pushed, bound, "credit plus the sender's road");
    // It resumes where it stopped, and control elements at its end need no credit.
    let mut end = Buffer::on_heap(0);
    assert!(end.push_control(Control::EndOfInput(StopMode::Drain)));
    let mut end = Some(end);
    let (mut resumed, mut ended) = (0, false);
    while !ended {
        if let Some(buffer) = end.take() {
            end = stopped.push(buffer).err();
        }
        ends.settle();
        while let Some(buffer) = ends.receivers[0].pop() {
            match buffer.next_element(&mut 0) {
                Some(Element::Control(Control::EndOfInput(StopMode::Drain))) => ended = true,
                _ => resumed += payloads(&buffer).len(),
            }
        }
    }
    assert_eq!(
        resumed,
        pushed * payloads(&InputBuffer::Owned(full_buffer(1))).len()
    );
}

#[test]
fn what_a_stopped_consumer_holds_is_bounded_by_its_credit_however_small_the_pieces() {
    for piece in [100, 1448, BUFFER_BYTES] {
        let mut ends = Ends::new(piece);
        ends.credit = 8;
        let sender = ends.out.open(&key(0), CHANNEL_BUFFERS);
        ends.settle();
        while sender.push(full_buffer(3)).is_ok() {
            ends.settle();
        }
        let used = ends.into.pool.used();
        assert!(
            used <= 8 + 4 + 1,
            "{used} buffers with pieces of {piece} bytes"
        );
        let (in_place, mut records) = (std::cell::Cell::new(0), 0);
        let mut popped = 0;
        while let Some(buffer) = ends.receivers[0].pop() {
            in_place.set(in_place.get() + u32::from(matches!(buffer, InputBuffer::Received(_))));
            records += payloads(&buffer).len();
            popped += 1;
        }
        // Full blocks stay where they are; small pieces are copied together.
        let most = if piece < 2_000 { IN_PLACE_MAX } else { 8 + 2 };
        assert!(in_place.get() <= most, "{} pieces in place", in_place.get());
        assert_eq!(
            records,
            8 * payloads(&InputBuffer::Owned(full_buffer(3))).len()
        );
        assert!(popped <= 2 * 8 + 2 * IN_PLACE_MAX + 1, "{popped} pieces");
    }
}

#[test]
fn credit_comes_back_in_steps() {
    let mut ends = Ends::new(BUFFER_BYTES);
    let sender = ends.out.open(&key(0), CHANNEL_BUFFERS);
    ends.settle();
    assert_eq!(sender.credit.get(), CHANNEL_CREDIT);
    for round in 1..=CHANNEL_CREDIT {
        assert!(sender.push(full_buffer(1)).is_ok());
        ends.settle();
        while ends.receivers[0].pop().is_some() {}
        ends.settle();
        let step = CHANNEL_CREDIT / CREDIT_STEPS;
        assert_eq!(sender.credit.get(), CHANNEL_CREDIT - round % step);
    }
}

#[test]
fn nothing_leaves_before_the_consumer_claims_the_channel() {
    let mut out = connection(Direction::Outgoing, "tm-2");
    let mut into = connection(Direction::Incoming, "tm-1");
    let sender = out.open(&key(0), CHANNEL_BUFFERS);
    // A control element needs no credit, but somebody to take it.
    let mut end = Buffer::on_heap(0);
    assert!(end.push_control(Control::EndOfInput(StopMode::Drain)));
    assert!(sender.push(end).is_ok());
    let opened = deliver(&mut into, &take(&mut out), BUFFER_BYTES);
    assert!(matches!(opened[..], [Notice::Opened { number: 0, .. }]));
    assert!(take(&mut out).is_empty(), "not claimed yet");
    let receiver = Rc::new(RemoteReceiver::new(2));
    into.claim(0, &receiver);
    deliver(&mut out, &take(&mut into), BUFFER_BYTES);
    deliver(&mut into, &take(&mut out), BUFFER_BYTES);
    assert!(!receiver.is_empty());
    assert_eq!((out.broken(), into.broken()), (None, None));
}

#[test]
fn a_consumer_that_leaves_lets_its_producer_go() {
    let mut ends = Ends::new(BUFFER_BYTES);
    let sender = ends.out.open(&key(0), CHANNEL_BUFFERS);
    ends.settle();
    ends.receivers.clear();
    for _ in 0..100 {
        ends.settle();
        assert!(sender.push(full_buffer(1)).is_ok());
    }
    assert!(sender.is_drained());
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
        assert!(buffer.push_control(Control::EndOfInput(StopMode::Drain)));
        buffer.as_slice().to_vec()
    };
    let one_record = {
        let mut buffer = Buffer::on_heap(0);
        assert!(buffer.push_record(&record(b"12345678"), 0));
        buffer.as_slice().to_vec()
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("magic", vec![0xff; 64]),
        ("out of turn", open(7)),
        (
            "never opened",
            [&data(0, 8, true).encode()[..], &end].concat(),
        ),
        (
            "where 0 was due",
            [&open(0)[..], &data(3, 8, true).encode(), &end].concat(),
        ),
        (
            "no element starts",
            [&open(0)[..], &data(0, 24, true).encode(), &[0xff; 24]].concat(),
        ),
        (
            "records in a control frame",
            [&open(0)[..], &data(0, 16, true).encode(), &one_record].concat(),
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
        (
            "bytes into an element",
            [&open(0)[..], &data(0, 8, false).encode(), &one_record[..8]].concat(),
        ),
        (
            "the middle of an element",
            [&open(0)[..], &data(0, 8, true).encode(), &one_record[..8]].concat(),
        ),
    ];
    for (expected, bytes) in cases {
        for piece in [1, 7, BUFFER_BYTES] {
            let mut into = connection(Direction::Incoming, "core 3 of tm-9");
            let mut claimed = Vec::new();
            let opening = FRAME_HEADER_BYTES + CHANNEL_KEY_BYTES;
            let (first, rest) = bytes.split_at(opening.min(bytes.len()));
            for part in [first, rest] {
                for notice in deliver(&mut into, part, piece) {
                    if let Notice::Opened { number, .. } = notice {
                        let receiver = Rc::new(RemoteReceiver::new(2));
                        into.claim(number, &receiver);
                        claimed.push(receiver);
                    }
                }
            }
            let why = into
                .broken()
                .unwrap_or_else(|| panic!("{expected}: it lives on"));
            assert!(
                why.contains(expected) && why.contains("core 3 of tm-9"),
                "{expected}: {why}"
            );
        }
    }
}

#[test]
fn more_data_than_credit_ends_the_connection() {
    let mut into = connection(Direction::Incoming, "tm-9");
    let open = [
        &Frame::OpenChannel { channel: 0 }.encode()[..],
        &key(0).encode(),
    ]
    .concat();
    deliver(&mut into, &open, BUFFER_BYTES);
    let receiver = Rc::new(RemoteReceiver::new(3));
    into.claim(0, &receiver);
    let mut buffer = Buffer::on_heap(0);
    assert!(buffer.push_record(&record(b"12345678"), 0));
    for sequence in 0..=3 {
        assert!(into.broken().is_none(), "frame {sequence} was paid for");
        buffer.put_header(
            Frame::Elements {
                channel: 0,
                sequence,
                payload_bytes: buffer.bytes(),
                free: false,
                backlog: 0,
            }
            .encode(),
        );
        deliver(&mut into, buffer.piece(), BUFFER_BYTES);
    }
    assert!(
        into.broken()
            .expect("one too many")
            .contains("without credit")
    );
}

#[test]
fn more_credit_than_its_window_ends_the_connection() {
    let mut out = connection(Direction::Outgoing, "tm-2");
    let sender = out.open(&key(0), CHANNEL_BUFFERS);
    let grant = |count| Frame::Credit { channel: 0, count }.encode();
    deliver(&mut out, &grant(4), BUFFER_BYTES);
    assert!(out.broken().is_none());
    deliver(&mut out, &grant(1), BUFFER_BYTES);
    assert!(out.broken().expect("5 of 4").contains("exceeds its 4"));
    assert!(sender.broken().is_some());
}

#[test]
fn channels_come_and_go_without_leaving_anything_behind() {
    let mut ends = Ends::new(BUFFER_BYTES);
    for round in 0..300 {
        let sender = ends.out.open(&key(round), CHANNEL_BUFFERS);
        let unclaimed = ends.out.open(&key(round), CHANNEL_BUFFERS);
        ends.settle();
        assert!(sender.push(full_buffer(1)).is_ok());
        ends.settle();
        assert!(ends.receivers[0].pop().is_some());
        if round % 2 == 0 {
            ends.receivers.clear();
            drop((sender, unclaimed));
        } else {
            drop((sender, unclaimed));
            ends.receivers.clear();
        }
        ends.settle();
        assert!(ends.out.outgoing.is_empty() && ends.into.incoming.is_empty());
        assert_eq!((ends.out.broken(), ends.into.broken()), (None, None));
        assert_eq!(ends.into.pool.used(), 0);
    }
}

#[test]
fn a_frame_takes_one_block_however_reads_and_pieces_take_turns() {
    // Found by fuzzing: read in the middle of a frame, its pieces alternated between places and a block each.
    let schedules = (2..80).flat_map(|start| (1..8).map(move |every| (start, every)));
    for (start, every) in schedules {
        let mut ends = Ends::new(BUFFER_BYTES);
        ends.credit = 4;
        let sender = ends.out.open(&key(0), CHANNEL_BUFFERS);
        ends.settle();
        while sender.push(full_buffer(3)).is_ok() {}
        let mut notices = Vec::new();
        for (number, chunk) in take(&mut ends.out).chunks(1_448).enumerate() {
            let mut block = ends.into.pool.take_or_heap(0);
            block.storage_mut()[..chunk.len()].copy_from_slice(chunk);
            let result = ends
                .into
                .on_bytes(&Rc::new(block), 0..chunk.len(), &mut notices);
            assert_eq!(result, Ok(()));
            if number > start && number % every == 0 {
                drop(ends.receivers[0].pop());
            }
            let used = ends.into.pool.used();
            assert!(used <= 4 + 4 + 1, "{used} buffers held");
        }
    }
}

/// A consumer with one open channel, and what it says to `frames` of that channel.
fn told(frames: &[(Buffer, bool)]) -> Option<Rc<str>> {
    let mut into = connection(Direction::Incoming, "core 3 of tm-9");
    let opening = Frame::OpenChannel { channel: 0 }.encode();
    deliver(
        &mut into,
        &[&opening[..], &key(0).encode()].concat(),
        BUFFER_BYTES,
    );
    let receiver = Rc::new(RemoteReceiver::new(CHANNEL_CREDIT));
    into.claim(0, &receiver);
    for (sequence, (buffer, free)) in frames.iter().enumerate() {
        let frame = Frame::Elements {
            channel: 0,
            sequence: sequence as u64,
            payload_bytes: buffer.bytes(),
            free: *free,
            backlog: 0,
        };
        deliver(
            &mut into,
            &[&frame.encode()[..], buffer.as_slice()].concat(),
            BUFFER_BYTES,
        );
    }
    into.broken()
}

#[test]
fn a_frame_of_many_records_larger_than_a_buffer_ends_the_connection() {
    let mut large = Buffer::on_heap(20 * BUFFER_BYTES);
    while large.push_record(&record(&[1; 1000]), 0) {}
    let why = told(&[(large, false)]).expect("it would take 20 buffers for one credit");
    assert!(why.contains("larger than a buffer"), "{why}");
    let mut alone = Buffer::on_heap(3 * BUFFER_BYTES);
    assert!(alone.push_record(&record(&vec![1; 3 * BUFFER_BYTES - 64]), 0));
    assert!(alone.push_control(Control::EndOfInput(StopMode::Drain)));
    assert_eq!(told(&[(alone, false)]), None);
}

#[test]
fn control_elements_behind_the_end_of_input_end_the_connection() {
    let end = || {
        let mut buffer = Buffer::exactly(64);
        assert!(buffer.push_control(Control::EndOfInput(StopMode::Drain)));
        (buffer, true)
    };
    assert_eq!(told(&[end()]), None);
    let why = told(&[end(), end()]).expect("without credit, and without an end");
    assert!(why.contains("behind the end of its input"), "{why}");
}

proptest! {
    /// Records of any sizes, cut anywhere, arrive whole and in order, whenever the consumer reads.
    #[test]
    fn records_survive_any_cuts(
        sizes in proptest::collection::vec(prop_oneof![0usize..200, 30_000usize..70_000], 1..60),
        piece in prop_oneof![1usize..40, 1_000usize..40_000],
        credit in 1u32..=CHANNEL_CREDIT,
        reads in proptest::collection::vec(any::<bool>(), 1..20),
    ) {
        let mut ends = Ends::new(piece.min(BUFFER_BYTES));
        ends.credit = credit;
        let sender = ends.out.open(&key(0), CHANNEL_BUFFERS);
        ends.settle();
        let pattern = |number: usize, size: usize| vec![u8::try_from(number % 251).unwrap_or(0); size];
        let mut buffers = Vec::new();
        for (number, size) in sizes.iter().enumerate() {
            let payload = pattern(number, *size);
            let fits = buffers.last_mut().is_some_and(|last: &mut Buffer| last.push_record(&record(&payload), 7));
            if !fits {
                let mut fresh = Buffer::on_heap(Buffer::record_bytes(payload.len()));
                prop_assert!(fresh.push_record(&record(&payload), 7));
                buffers.push(fresh);
            }
        }
        let mut waiting: std::collections::VecDeque<Buffer> = buffers.into();
        let mut read = Vec::new();
        for turn in 0.. {
            while let Some(buffer) = waiting.pop_front() {
                if let Err(back) = sender.push(buffer) {
                    waiting.push_front(back);
                    break;
                }
            }
            ends.settle();
            if reads[turn % reads.len()] || turn > 50 {
                while let Some(buffer) = ends.receivers[0].pop() {
                    read.extend(payloads(&buffer));
                }
            }
            if read.len() == sizes.len() {
                break;
            }
            prop_assert!(turn < 1_000, "{} of {} records came", read.len(), sizes.len());
            prop_assert_eq!((ends.out.broken(), ends.into.broken()), (None, None));
        }
        for (number, size) in sizes.iter().enumerate() {
            prop_assert_eq!(&read[number], &pattern(number, *size));
        }
    }
}
