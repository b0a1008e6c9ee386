//! A real conversation, damaged, and told to either end.
//!
//! Owns: [`Attack`]. Invariant: a victim goes on, or is broken with the name of its peer in the message; what it delivered
//! parses to the end; its memory keeps within the arithmetic of credit; another connection of its core flows on.
//! Left out: what is delivered (a damaged payload is another payload; TCP's checksum is the only one).

use std::collections::HashMap;
use std::rc::Rc;

use proptest::prelude::*;

use super::pair::{self, Mark, Pair, Step};
use super::{connection, key};
use crate::batch::{Buffer, BufferPool};
use crate::element::{Control, StopMode, Watermark};
use crate::exchange::connection::{Connection, Departures, Direction, Notice};
use crate::exchange::frame::Frame;
use crate::exchange::remote::{Dirty, RemoteReceiver, SenderHandle};
use crate::limits::{
    BUFFER_BYTES, CHANNEL_CREDIT, ELEMENT_HEADER_BYTES, FRAME_HEADER_BYTES,
    FRAME_PAYLOAD_BYTES_MAX, FREE_BUFFER_BYTES,
};
use crate::record::{EventTime, RecordRef, RowKind};
use ringflow_schemas::network::NetworkLevel;

/// A frame that nobody said.
#[derive(Debug, Clone)]
enum Forged {
    /// Records of one size, up to so many bytes of payload.
    Data {
        bytes: usize,
        record: usize,
    },
    /// Control elements; the ends of input last.
    Free {
        marks: Vec<Mark>,
        ends: usize,
    },
    Credit {
        count: u32,
    },
    Open,
    Close,
    Hello {
        bytes: usize,
    },
}

/// Damage. Frames are meant modulo how many there are.
#[derive(Debug, Clone)]
enum Damage {
    Truncate {
        frame: usize,
        keep: usize,
    },
    Drop {
        frame: usize,
    },
    Duplicate {
        frame: usize,
        to: usize,
    },
    Swap {
        one: usize,
        other: usize,
    },
    Flip {
        frame: usize,
        bit: usize,
    },
    /// Another number in the header.
    Word {
        frame: usize,
        index: usize,
        value: u32,
    },
    Splice {
        frame: usize,
        at: usize,
        bytes: Vec<u8>,
    },
    Forge {
        at: usize,
        times: usize,
        channel: u32,
        frame: Forged,
    },
}

/// What a conversation is, what becomes of it, and how its victim behaves meanwhile.
#[derive(Debug, Clone)]
pub(super) struct Attack {
    steps: Vec<Step>,
    damages: Vec<Damage>,
    /// Sequence numbers are right again after the damage, so that it gets further in.
    renumber: bool,
    direction: Direction,
    cuts: Vec<usize>,
    credits: Vec<u32>,
    /// What the victim's core does after each block, bit by bit.
    habits: Vec<u8>,
}

fn forged() -> impl Strategy<Value = Forged> {
    let bytes = prop_oneof![4 => 8usize..40_000, 1 => 40_000usize..=FRAME_PAYLOAD_BYTES_MAX];
    let record = prop_oneof![3 => 0usize..100, 1 => 100usize..40_000, 1 => Just(FRAME_PAYLOAD_BYTES_MAX - 40)];
    prop_oneof![
        4 => (bytes, record).prop_map(|(bytes, record)| Forged::Data { bytes, record }),
        4 => (proptest::collection::vec(pair::mark(), 0..100), prop_oneof![0usize..3, 100usize..1_000])
            .prop_map(|(marks, ends)| Forged::Free { marks, ends }),
        2 => prop_oneof![0u32..20, any::<u32>()].prop_map(|count| Forged::Credit { count }),
        1 => Just(Forged::Open),
        1 => Just(Forged::Close),
        1 => (1usize..64).prop_map(|bytes| Forged::Hello { bytes }),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    let frame = || any::<u16>().prop_map(usize::from);
    let value = prop_oneof![0u32..300, any::<u32>()];
    let noise = proptest::collection::vec(any::<u8>(), 1..64);
    let times = prop_oneof![2 => Just(1usize), 1 => 1usize..20];
    prop_oneof![
        1 => (frame(), frame()).prop_map(|(frame, keep)| Damage::Truncate { frame, keep }),
        1 => frame().prop_map(|frame| Damage::Drop { frame }),
        1 => (frame(), frame()).prop_map(|(frame, to)| Damage::Duplicate { frame, to }),
        1 => (frame(), frame()).prop_map(|(one, other)| Damage::Swap { one, other }),
        1 => (frame(), frame()).prop_map(|(frame, bit)| Damage::Flip { frame, bit }),
        1 => (frame(), 0usize..8, value).prop_map(|(frame, index, value)| Damage::Word { frame, index, value }),
        1 => (frame(), frame(), noise).prop_map(|(frame, at, bytes)| Damage::Splice { frame, at, bytes }),
        12 => (frame(), times, prop_oneof![3 => Just(0u32), 1 => 1u32..6], forged())
            .prop_map(|(at, times, channel, frame)| Damage::Forge { at, times, channel, frame }),
    ]
}

pub(super) fn attack() -> impl Strategy<Value = Attack> {
    let steps = proptest::collection::vec(pair::step(), 1..120);
    let cut = prop_oneof![1 => 1usize..64, 1 => 64usize..4_096, 6 => 4_096..=BUFFER_BYTES];
    let direction = prop_oneof![3 => Just(Direction::Incoming), 1 => Just(Direction::Outgoing)];
    let habits = prop_oneof![
        2 => proptest::collection::vec(any::<u8>(), 1..30),
        // Claims and answers, but never reads.
        1 => Just(vec![0b101]),
    ];
    (
        steps,
        proptest::collection::vec(damage(), 0..5),
        proptest::bool::weighted(0.7),
        direction,
        proptest::collection::vec(cut, 1..20),
        proptest::collection::vec(1..=CHANNEL_CREDIT, 1..6),
        habits,
    )
        .prop_map(
            |(steps, damages, renumber, direction, cuts, credits, habits)| Attack {
                steps,
                damages,
                renumber,
                direction,
                cuts,
                credits,
                habits,
            },
        )
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

fn control(mark: Mark) -> Control {
    let watermark = match mark {
        Mark::Watermark => Watermark::At(EventTime(1)),
        Mark::Idle => Watermark::Idle,
    };
    Control::Watermark {
        watermark,
        origin_ns: 0,
    }
}

impl Forged {
    fn bytes(&self, channel: u32) -> Vec<u8> {
        let elements = |buffer: Buffer, free| {
            let payload_bytes = buffer.bytes().max(8);
            let frame = Frame::Elements {
                channel,
                sequence: 0,
                payload_bytes,
                free,
                backlog: 0,
            };
            [&frame.encode(), buffer.as_slice()].concat()
        };
        match self {
            Self::Data {
                bytes,
                record: size,
            } => {
                let payload = vec![7; *size];
                let mut buffer = Buffer::exactly((*bytes).min(FRAME_PAYLOAD_BYTES_MAX));
                while buffer.push_record(&record(&payload), 0) {}
                elements(buffer, false)
            }
            Self::Free { marks, ends } => {
                let mut buffer = Buffer::exactly(ELEMENT_HEADER_BYTES * (marks.len() + ends) + 8);
                let ends = std::iter::repeat_n(Control::EndOfInput(StopMode::Drain), *ends);
                for control in marks.iter().map(|mark| control(*mark)).chain(ends) {
                    // Each by itself: a hostile peer need not let them replace each other.
                    let mut one = Buffer::exactly(ELEMENT_HEADER_BYTES);
                    let fits = one.push_control(control) && buffer.append(one.as_slice(), 0);
                    assert!(fits, "the buffer was made for them");
                }
                elements(buffer, true)
            }
            Self::Credit { count } => {
                let count = *count;
                Frame::Credit { channel, count }.encode().to_vec()
            }
            Self::Open => {
                let frame = Frame::OpenChannel { channel }.encode();
                [&frame[..], &key(9).encode()].concat()
            }
            Self::Close => Frame::CloseChannel { channel }.encode().to_vec(),
            Self::Hello { bytes } => {
                let frame = Frame::Hello(*bytes).encode();
                [&frame[..], &vec![0; *bytes]].concat()
            }
        }
    }
}

impl Damage {
    fn apply(&self, frames: &mut Vec<Vec<u8>>) {
        if frames.is_empty() {
            return;
        }
        let count = frames.len();
        match self {
            Self::Truncate { frame, keep } => {
                let frame = &mut frames[frame % count];
                let keep = keep % (frame.len() + 1);
                frame.truncate(keep);
            }
            Self::Drop { frame } => drop(frames.remove(frame % count)),
            Self::Duplicate { frame, to } => {
                let copy = frames[frame % count].clone();
                frames.insert(to % count, copy);
            }
            Self::Swap { one, other } => frames.swap(one % count, other % count),
            Self::Flip { frame, bit } => {
                let frame = &mut frames[frame % count];
                if !frame.is_empty() {
                    let at = (bit / 8) % frame.len();
                    frame[at] ^= 1 << (bit % 8);
                }
            }
            Self::Word {
                frame,
                index,
                value,
            } => {
                if let Some(word) = frames[frame % count].get_mut(4 * index..4 * index + 4) {
                    word.copy_from_slice(&value.to_le_bytes());
                }
            }
            Self::Splice { frame, at, bytes } => {
                let frame = &mut frames[frame % count];
                let at = at % (frame.len() + 1);
                frame.splice(at..at, bytes.iter().copied());
            }
            Self::Forge {
                at,
                times,
                channel,
                frame,
            } => {
                let forged = frame.bytes(*channel);
                let at = at % count;
                frames.splice(at..at, std::iter::repeat_n(forged, *times));
            }
        }
    }
}

/// What was said, frame by frame.
fn split(said: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut frames) = (said, Vec::new());
    while let Some(header) = rest.first_chunk::<FRAME_HEADER_BYTES>() {
        let frame = Frame::decode(*header).expect("said by a correct peer");
        let (one, others) = rest.split_at(FRAME_HEADER_BYTES + frame.payload_bytes());
        frames.push(one.to_vec());
        rest = others;
    }
    assert!(rest.is_empty(), "whole frames");
    frames
}

fn renumber(frames: &mut [Vec<u8>]) {
    let mut next: HashMap<u32, u64> = HashMap::new();
    for frame in frames {
        let Some(header) = frame.first_chunk_mut::<FRAME_HEADER_BYTES>() else {
            continue;
        };
        if let Ok(Frame::Elements {
            channel,
            payload_bytes,
            free,
            backlog,
            ..
        }) = Frame::decode(*header)
        {
            let due = next.entry(channel).or_default();
            let sequence = *due;
            *due += 1;
            *header = Frame::Elements {
                channel,
                sequence,
                payload_bytes,
                free,
                backlog,
            }
            .encode();
        }
    }
}

const PEER: &str = "core 3 of tm-9";

/// Tells a victim `bytes`; how many it took.
fn tell(victim: &mut Connection, bytes: &[u8], notices: &mut Vec<Notice>) -> usize {
    let taken = bytes.len().min(BUFFER_BYTES);
    let mut block = victim.pool.take_or_heap(0);
    block.storage_mut()[..taken].copy_from_slice(&bytes[..taken]);
    if let Err(why) = victim.on_bytes(&Rc::new(block), 0..taken, notices) {
        victim.fail(&why);
    }
    taken
}

fn answer(victim: &mut Connection) {
    let mut departures = Departures::default();
    victim.fill(&mut departures);
    departures.on_sent();
}

impl Attack {
    pub(super) fn run(&self) {
        let mut pair = Pair::new();
        for step in &self.steps {
            pair.apply(step);
        }
        let opened = pair.channels.len();
        pair.finish(&[]);
        let said = match self.direction {
            Direction::Incoming => &pair.there.said,
            Direction::Outgoing => &pair.back.said,
        };
        let mut frames = split(said);
        for damage in &self.damages {
            damage.apply(&mut frames);
        }
        if self.renumber {
            renumber(&mut frames);
        }
        let (pool, dirty) = (BufferPool::new(1024), Dirty::default());
        let new = |id, peer: &str| {
            let (pool, dirty) = (pool.clone(), Rc::clone(&dirty));
            Connection::new(id, self.direction, peer.to_owned(), pool, dirty)
        };
        let (mut victim, mut neighbour) = (new(1, PEER), new(2, "core 0 of tm-2"));
        match self.direction {
            Direction::Incoming => self.against_a_consumer(&mut victim, &frames),
            Direction::Outgoing => self.against_a_producer(&mut victim, &frames, opened),
        }
        if let Some(why) = victim.broken() {
            assert!(why.contains(PEER), "{why}");
        }
        flows(&mut neighbour);
        drop((victim, neighbour));
        assert_eq!(pool.used(), 0, "buffers are lost");
    }

    /// The pieces that the bytes arrive in, each with what the victim's core does afterwards. One ends behind each opening, so
    /// that a channel is claimed in time more often than not.
    fn pieces(&self, frames: &[Vec<u8>]) -> Vec<(usize, u8)> {
        let mut turns = self.cuts.iter().cycle().zip(self.habits.iter().cycle());
        let (mut pieces, mut rest) = (Vec::new(), 0);
        for (index, frame) in frames.iter().enumerate() {
            rest += frame.len();
            let header = frame.first_chunk().copied().map(Frame::decode);
            let stops = matches!(header, Some(Ok(Frame::OpenChannel { .. })));
            let least = if stops || index + 1 == frames.len() {
                1
            } else {
                BUFFER_BYTES
            };
            while rest >= least {
                let Some((cut, habit)) = turns.next() else {
                    return pieces;
                };
                let piece = rest.min(*cut);
                rest -= piece;
                pieces.push((piece, *habit));
            }
        }
        pieces
    }

    fn against_a_consumer(&self, victim: &mut Connection, frames: &[Vec<u8>]) {
        let told = frames.concat();
        let mut bytes = told.as_slice();
        let mut consumers: Vec<(u32, Rc<RemoteReceiver>)> = Vec::new();
        let mut unclaimed = Vec::new();
        for (piece, habit) in self.pieces(frames) {
            let mut notices = Vec::new();
            let taken = tell(victim, &bytes[..piece], &mut notices);
            bytes = &bytes[taken..];
            for notice in notices {
                match notice {
                    Notice::Opened { number, .. } => unclaimed.push(number),
                    Notice::Closed { number } => unclaimed.retain(|one| *one != number),
                }
            }
            bounded(victim, &consumers);
            if victim.broken().is_some() {
                break;
            }
            if habit & 0b1001 != 0 {
                for number in unclaimed.drain(..) {
                    let credit = self.credits[number as usize % self.credits.len()];
                    let receiver = Rc::new(RemoteReceiver::new(credit));
                    victim.claim(number, &receiver);
                    consumers.push((number, receiver));
                }
            }
            for (_, receiver) in &consumers {
                let buffers = if habit & 2 != 0 {
                    usize::from(habit >> 4)
                } else {
                    0
                };
                read(receiver, buffers);
            }
            if habit & 4 != 0 {
                answer(victim);
            }
            if habit == 0xff {
                consumers.pop();
            }
        }
        for (_, receiver) in &consumers {
            read(receiver, usize::MAX);
            assert_eq!(receiver.broken(), victim.broken());
        }
    }

    fn against_a_producer(&self, victim: &mut Connection, frames: &[Vec<u8>], opened: usize) {
        let told = frames.concat();
        let mut bytes = told.as_slice();
        let open = |index: usize| {
            let road = 1 + self.credits[index % self.credits.len()] as usize % 8;
            victim.open(&key(0), road)
        };
        let mut senders: Vec<SenderHandle> = (0..opened).map(open).collect();
        for (piece, habit) in self.pieces(frames) {
            let taken = tell(victim, &bytes[..piece], &mut Vec::new());
            bytes = &bytes[taken..];
            for sender in &senders {
                let (credit, window) = (sender.credit.get(), sender.window.get());
                assert!(credit <= window && window <= CHANNEL_CREDIT);
                let held = sender.queue.borrow().len() + sender.in_flight.get();
                assert!(held <= sender.road);
                assert_eq!(sender.broken(), victim.broken());
                if habit & 2 != 0 {
                    let mut buffer = victim.pool.take_or_heap(0);
                    assert!(buffer.push_record(&record(b"12345678"), 0));
                    assert_eq!(sender.has_room(), sender.push(buffer).is_ok());
                }
            }
            if victim.broken().is_some() {
                break;
            }
            if habit & 4 != 0 {
                answer(victim);
            }
            if habit == 0xff {
                senders.pop();
            }
        }
    }
}

/// Reads up to so many buffers, each to its end.
fn read(receiver: &RemoteReceiver, buffers: usize) {
    for buffer in std::iter::from_fn(|| receiver.pop()).take(buffers) {
        let (mut offset, mut records) = (0, 0);
        while let Some(element) = buffer.next_element(&mut offset) {
            records += u32::from(matches!(element, crate::element::Element::Record(_)));
        }
        assert_eq!((offset, records), (buffer.bytes(), buffer.records()));
    }
}

/// The arithmetic of `ringflow_schemas::network`, whatever the peer says.
fn bounded(victim: &Connection, consumers: &[(u32, Rc<RemoteReceiver>)]) {
    let mut pooled = 0;
    for (number, receiver) in consumers {
        let credit = receiver.credit;
        pooled += NetworkLevel { road: 1, credit }.remote_channel_buffers() as usize;
        let (data, free) = receiver.held_bytes();
        let frames = credit as usize;
        assert!(
            data <= frames * (FRAME_PAYLOAD_BYTES_MAX + BUFFER_BYTES),
            "channel {number}: {data} bytes of data wait for {credit} credit"
        );
        assert!(
            free <= (frames + 1) * (FREE_BUFFER_BYTES + FRAME_HEADER_BYTES),
            "channel {number}: {free} bytes of control elements wait beside {credit} credit"
        );
    }
    let used = victim.pool.used();
    assert!(
        used <= pooled,
        "{used} buffers held, {pooled} reckoned with"
    );
    assert!(victim.cut.len() <= FRAME_PAYLOAD_BYTES_MAX);
    assert!(victim.incoming.len() + victim.control.len() / 24 <= 1 << 17);
}

/// A record crosses a connection of the same core.
fn flows(neighbour: &mut Connection) {
    let other = match neighbour.direction {
        Direction::Incoming => Direction::Outgoing,
        Direction::Outgoing => Direction::Incoming,
    };
    let mut peer = connection(other, "core 0 of tm-1");
    let (out, into) = match neighbour.direction {
        Direction::Outgoing => (neighbour, &mut peer),
        Direction::Incoming => (&mut peer, neighbour),
    };
    let receiver = Rc::new(RemoteReceiver::new(1));
    let sender = out.open(&key(0), 1);
    let mut buffer = Buffer::exactly(64);
    assert!(buffer.push_record(&record(b"12345678"), 0));
    assert!(sender.push(buffer).is_ok());
    for _ in 0..2 {
        for notice in pass(out, into) {
            if let Notice::Opened { number, .. } = notice {
                into.claim(number, &receiver);
            }
        }
        pass(into, out);
    }
    let read = receiver.pop().expect("a neighbour flows on");
    assert_eq!(read.records(), 1);
    assert_eq!((out.broken(), into.broken()), (None, None));
}

fn pass(from: &mut Connection, to: &mut Connection) -> Vec<Notice> {
    let mut departures = Departures::default();
    from.fill(&mut departures);
    let bytes = departures.pieces().collect::<Vec<_>>().concat();
    departures.on_sent();
    let mut notices = Vec::new();
    tell(to, &bytes, &mut notices);
    notices
}
