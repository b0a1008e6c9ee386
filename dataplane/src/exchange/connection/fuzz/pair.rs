//! Two connections that talk to each other, and a model of what each channel must deliver.
//!
//! Owns: [`Pair`] (both connections, the bytes between them, the model), [`Step`] (what may happen next).
//! Invariant: checked after every step: a sender's credit never exceeds its window, data frames that left and were not read
//! never exceed the credit, a road never holds more than it may, and the consumer's core keeps within its pool's arithmetic.
//! Checked at every read: what comes is what was pushed, in order, whole, once; of control elements that follow each other the
//! last is never hidden.
//! Left out: bytes that no correct peer sends ([`super::hostile`]).

use std::collections::VecDeque;
use std::rc::Rc;

use proptest::prelude::*;

use super::{connection, key};
use crate::batch::{Buffer, BufferPool, InputBuffer};
use crate::element::{Control, Element, StopMode, Watermark};
use crate::exchange::connection::{Connection, Departures, Direction, Notice};
use crate::exchange::remote::{RemoteReceiver, SenderHandle};
use crate::limits::{BUFFER_BYTES, CHANNEL_BUFFERS, CHANNEL_CREDIT};
use crate::record::{EventTime, RecordRef, RowKind};
use ringflow_schemas::network::NetworkLevel;

/// Channels of one conversation.
const CHANNELS_MAX: usize = 6;

/// What a producer fills a buffer with.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Records of these sizes, then perhaps a control element.
    Records(Vec<usize>, Option<Mark>),
    /// Control elements alone: a frame that costs no credit.
    Marks(Vec<Mark>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Watermark,
    Idle,
}

/// What happens next. Channels are meant modulo how many there are.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Open {
        credit: u32,
        road: usize,
    },
    Claim {
        channel: usize,
    },
    Push {
        channel: usize,
        content: Content,
    },
    End {
        channel: usize,
    },
    /// The producing core hands frames to its kernel, which has not yet taken them.
    Fill,
    /// The kernel has taken them.
    Sent,
    /// So many bytes reach the consumer, in one block.
    There {
        bytes: usize,
    },
    /// The consuming core sends what it has to say.
    Answer,
    /// So many bytes reach the producer, in one block.
    Back {
        bytes: usize,
    },
    Read {
        channel: usize,
        buffers: usize,
    },
    LoseConsumer {
        channel: usize,
    },
    LoseProducer {
        channel: usize,
    },
}

pub(super) fn mark() -> impl Strategy<Value = Mark> {
    prop_oneof![3 => Just(Mark::Watermark), 1 => Just(Mark::Idle)]
}

fn content() -> impl Strategy<Value = Content> {
    let small = proptest::collection::vec(0usize..100, 1..30);
    let full = (200usize..4_000).prop_map(|size| vec![size; BUFFER_BYTES / (size + 32)]);
    let mixed = proptest::collection::vec(prop_oneof![0usize..60, 5_000usize..16_000], 1..5);
    let oversized = prop_oneof![32_690usize..32_750, 30_000usize..90_000];
    let oversized = (oversized, 0usize..3).prop_map(|(size, empty)| {
        let mut sizes = vec![0; empty + 1];
        sizes[0] = size;
        sizes
    });
    let records = prop_oneof![5 => small, 3 => full, 2 => mixed, 1 => oversized];
    prop_oneof![
        4 => (records, proptest::option::weighted(0.3, mark()))
            .prop_map(|(sizes, mark)| Content::Records(sizes, mark)),
        1 => proptest::collection::vec(mark(), 1..4).prop_map(Content::Marks),
    ]
}

fn cut() -> impl Strategy<Value = usize> {
    prop_oneof![1 => 1usize..64, 2 => 64usize..4_096, 3 => 4_096..=BUFFER_BYTES]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let channel = || 0..CHANNELS_MAX;
    prop_oneof![
        6 => (1..=CHANNEL_CREDIT, 1..=CHANNEL_BUFFERS)
            .prop_map(|(credit, road)| Step::Open { credit, road }),
        6 => channel().prop_map(|channel| Step::Claim { channel }),
        40 => (channel(), content()).prop_map(|(channel, content)| Step::Push { channel, content }),
        1 => channel().prop_map(|channel| Step::End { channel }),
        20 => Just(Step::Fill),
        20 => Just(Step::Sent),
        40 => cut().prop_map(|bytes| Step::There { bytes }),
        12 => Just(Step::Answer),
        12 => cut().prop_map(|bytes| Step::Back { bytes }),
        20 => (channel(), 1usize..6).prop_map(|(channel, buffers)| Step::Read { channel, buffers }),
        1 => channel().prop_map(|channel| Step::LoseConsumer { channel }),
        1 => channel().prop_map(|channel| Step::LoseProducer { channel }),
    ]
}

/// An element that the consumer is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Record { number: u32, bytes: usize },
    Watermark(i64),
    Idle,
    End,
}

/// A buffer that its producer still holds.
#[derive(Debug)]
struct Pushed {
    /// Its last record, if it costs credit.
    last_record: Option<u32>,
    items: usize,
}

#[derive(Debug)]
pub(super) struct Channel {
    number: u32,
    credit: u32,
    pub(super) sender: Option<SenderHandle>,
    announced: bool,
    pub(super) receiver: Option<Rc<RemoteReceiver>>,
    consumer_left: bool,
    ended: bool,
    /// What the consumer is due, in order.
    expected: VecDeque<Item>,
    held: VecDeque<Pushed>,
    /// Last records of data frames that left and were not read to their end.
    outstanding: VecDeque<u32>,
    records: u32,
    watermark: i64,
    read_idle: bool,
}

/// Its channel and number, again and again.
fn payload(channel: u32, number: u32, bytes: usize) -> Vec<u8> {
    let word = u64::from(channel) | u64::from(number) << 32;
    let mut payload = word.to_le_bytes().repeat(bytes.div_ceil(8));
    payload.truncate(bytes);
    payload
}

/// Bytes, time, hash and origin of a record, so that every layout of a head is in use.
fn record(bytes: &[u8], number: u32) -> RecordRef<'_> {
    let timestamp = if number.is_multiple_of(3) {
        EventTime::NONE
    } else {
        EventTime(i64::from(number))
    };
    RecordRef {
        bytes,
        timestamp,
        key_hash: number ^ 0x5555,
        kind: RowKind::Insert,
        origin_ns: u64::from(number % 4),
    }
}

impl Channel {
    fn control(&mut self, mark: Mark) -> (Control, Item) {
        let (watermark, item) = match mark {
            Mark::Watermark => {
                self.watermark += 1;
                let time = self.watermark;
                (Watermark::At(EventTime(time)), Item::Watermark(time))
            }
            Mark::Idle => (Watermark::Idle, Item::Idle),
        };
        let origin_ns = u64::from(self.watermark % 2 == 0);
        let control = Control::Watermark {
            watermark,
            origin_ns,
        };
        (control, item)
    }

    /// Fills a buffer and offers it to the road; the model notes it if the road takes it.
    fn push(&mut self, content: &Content, pool: &BufferPool) {
        if self.ended || self.sender.is_none() {
            return;
        }
        let (records, watermark) = (self.records, self.watermark);
        let (sizes, marks) = match content {
            Content::Records(sizes, mark) => (sizes.as_slice(), mark.as_slice()),
            Content::Marks(marks) => (&[][..], marks.as_slice()),
        };
        let first = sizes.first().copied().unwrap_or(0);
        let mut buffer = pool.take_or_heap(Buffer::record_bytes(first));
        let mut items = Vec::new();
        for bytes in sizes {
            let number = self.records;
            let payload = payload(self.number, number, *bytes);
            let record = record(&payload, number);
            if !buffer.push_record(&record, record.key_hash) {
                break;
            }
            let bytes = payload.len();
            items.push(Item::Record { number, bytes });
            self.records += 1;
        }
        for mark in marks {
            let (control, item) = self.control(*mark);
            if buffer.push_control(control) {
                items.push(item);
            }
        }
        let last_record = (buffer.records() > 0).then(|| self.records - 1);
        if !self.offer(buffer, items, last_record) {
            (self.records, self.watermark) = (records, watermark);
        }
    }

    fn offer(&mut self, buffer: Buffer, items: Vec<Item>, last_record: Option<u32>) -> bool {
        let Some(sender) = &self.sender else {
            return false;
        };
        let room = sender.has_room();
        let taken = sender.push(buffer).is_ok();
        assert_eq!(taken, room, "a road takes a buffer exactly when it says so");
        if taken && !sender.swallowing.get() {
            let items_count = items.len();
            self.expected.extend(items);
            self.held.push_back(Pushed {
                last_record,
                items: items_count,
            });
        }
        taken
    }

    fn end(&mut self) {
        let mut buffer = Buffer::exactly(64);
        assert!(buffer.push_control(Control::EndOfInput(StopMode::Drain)));
        if !self.ended && self.offer(buffer, vec![Item::End], None) {
            self.ended = true;
        }
    }

    /// The kernel gets the oldest buffer held.
    fn on_left(&mut self) {
        let pushed = self.held.pop_front().expect("a frame that was pushed");
        self.outstanding.extend(pushed.last_record);
        let unread = self.outstanding.len();
        assert!(
            self.consumer_left || unread <= self.credit as usize,
            "channel {}: {unread} frames left unread, {} granted",
            self.number,
            self.credit
        );
    }

    fn lose_producer(&mut self) {
        if self.sender.take().is_some() {
            // What it had not handed over is lost; the consumer hears of the end of the channel.
            let lost: usize = self.held.drain(..).map(|pushed| pushed.items).sum();
            self.expected.truncate(self.expected.len() - lost);
        }
    }

    fn read(&mut self, buffers: usize) -> bool {
        let Some(receiver) = self.receiver.clone() else {
            return false;
        };
        let mut moved = false;
        for buffer in std::iter::from_fn(|| receiver.pop()).take(buffers) {
            moved = true;
            self.check(&buffer);
        }
        moved
    }

    fn check(&mut self, buffer: &InputBuffer) {
        let (mut offset, mut records) = (0, 0);
        while let Some(element) = buffer.next_element(&mut offset) {
            match element {
                Element::Record(record) => {
                    records += 1;
                    self.on_record(&record);
                }
                Element::Control(Control::EndOfInput(_)) => self.on_item(Item::End),
                Element::Control(Control::Watermark { watermark, .. }) => match watermark {
                    Watermark::At(EventTime(time)) => self.on_item(Item::Watermark(time)),
                    Watermark::Idle => self.on_item(Item::Idle),
                },
            }
        }
        assert_eq!((offset, records), (buffer.bytes(), buffer.records()));
    }

    fn on_record(&mut self, read: &RecordRef<'_>) {
        let bytes = read.bytes.len();
        // Its number travels as its hash.
        let number = read.key_hash ^ 0x5555;
        self.on_item(Item::Record { number, bytes });
        assert!(read.bytes == payload(self.number, number, bytes));
        let expected = record(read.bytes, number);
        assert_eq!(
            (read.timestamp, read.origin_ns),
            (expected.timestamp, expected.origin_ns)
        );
        if self.outstanding.front() == Some(&number) {
            self.outstanding.pop_front();
        }
    }

    /// Control elements that follow each other directly may have become fewer: a watermark stands for those before it,
    /// idleness for idleness.
    fn on_item(&mut self, read: Item) {
        let hidden = |item: Item| match read {
            Item::Watermark(_) => item != read && matches!(item, Item::Watermark(_) | Item::Idle),
            _ => self.read_idle && item == Item::Idle && read != Item::Idle,
        };
        while self.expected.front().is_some_and(|item| hidden(*item)) {
            self.expected.pop_front();
        }
        let due = self.expected.pop_front();
        assert_eq!(due, Some(read), "channel {}: what is due", self.number);
        self.read_idle = read == Item::Idle;
    }

    fn is_finished(&self) -> bool {
        let unread = |item: &Item| !(self.read_idle && *item == Item::Idle);
        self.consumer_left || (self.held.is_empty() && !self.expected.iter().any(unread))
    }

    /// Buffers of the consuming core that it may hold.
    fn arithmetic(&self) -> usize {
        let level = NetworkLevel {
            road: 1,
            credit: self.credit,
        };
        let held = self
            .receiver
            .as_ref()
            .map(|_| level.remote_channel_buffers());
        held.unwrap_or(0) as usize
    }
}

/// Bytes under way in one direction.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// All that was ever said.
    pub(super) said: Vec<u8>,
    /// How much of it has arrived.
    arrived: usize,
}

impl Wire {
    fn is_empty(&self) -> bool {
        self.arrived == self.said.len()
    }

    fn say(&mut self, departures: &Departures) {
        for piece in departures.pieces() {
            self.said.extend_from_slice(piece);
        }
    }
}

/// A producing and a consuming core and what is between them.
#[derive(Debug)]
pub(super) struct Pair {
    out: Connection,
    into: Connection,
    pub(super) channels: Vec<Channel>,
    pub(super) there: Wire,
    pub(super) back: Wire,
    /// With the producing core's kernel.
    departures: Departures,
}

impl Pair {
    pub(super) fn new() -> Self {
        Self {
            out: connection(Direction::Outgoing, "core 0 of tm-2"),
            into: connection(Direction::Incoming, "core 0 of tm-1"),
            channels: Vec::new(),
            there: Wire::default(),
            back: Wire::default(),
            departures: Departures::default(),
        }
    }

    pub(super) fn apply(&mut self, step: &Step) {
        match step {
            Step::Open { credit, road } => self.open(*credit, *road),
            Step::Fill => self.fill(),
            Step::Sent => self.departures.on_sent(),
            Step::There { bytes } => self.carry_there(*bytes),
            Step::Answer => self.answer(),
            Step::Back { bytes } => self.carry_back(*bytes),
            Step::Claim { channel }
            | Step::Push { channel, .. }
            | Step::End { channel }
            | Step::Read { channel, .. }
            | Step::LoseConsumer { channel }
            | Step::LoseProducer { channel } => {
                if !self.channels.is_empty() {
                    let channel = channel % self.channels.len();
                    self.apply_to(channel, step);
                }
            }
        }
        self.check();
    }

    fn apply_to(&mut self, index: usize, step: &Step) {
        let channel = &mut self.channels[index];
        match step {
            Step::Claim { .. } => drop(self.claim(index)),
            Step::Push { content, .. } => channel.push(content, &self.out.pool),
            Step::End { .. } => channel.end(),
            Step::Read { buffers, .. } => drop(channel.read(*buffers)),
            Step::LoseConsumer { .. } => {
                channel.consumer_left |= channel.receiver.take().is_some();
            }
            Step::LoseProducer { .. } => channel.lose_producer(),
            _ => {}
        }
    }

    fn open(&mut self, credit: u32, road: usize) {
        if self.channels.len() == CHANNELS_MAX {
            return;
        }
        let sender = self.out.open(&key(0), road);
        self.channels.push(Channel {
            number: sender.number,
            credit,
            sender: Some(sender),
            announced: false,
            receiver: None,
            consumer_left: false,
            ended: false,
            expected: VecDeque::new(),
            held: VecDeque::new(),
            outstanding: VecDeque::new(),
            records: 0,
            watermark: 0,
            read_idle: false,
        });
    }

    fn claim(&mut self, index: usize) -> bool {
        let channel = &mut self.channels[index];
        if !channel.announced || channel.receiver.is_some() || channel.consumer_left {
            return false;
        }
        let receiver = Rc::new(RemoteReceiver::new(channel.credit));
        self.into.claim(channel.number, &receiver);
        channel.receiver = Some(receiver);
        true
    }

    fn fill(&mut self) {
        if !self.departures.is_empty() {
            return;
        }
        self.out.fill(&mut self.departures);
        for (_, sender) in &self.departures.frames {
            self.channels[sender.number as usize].on_left();
        }
        self.there.say(&self.departures);
    }

    fn answer(&mut self) {
        let mut departures = Departures::default();
        self.into.fill(&mut departures);
        self.back.say(&departures);
    }

    fn carry_there(&mut self, bytes: usize) {
        for notice in carry(&mut self.into, &mut self.there, bytes) {
            match notice {
                Notice::Opened { number, .. } => self.channels[number as usize].announced = true,
                // Nobody will claim it any more.
                Notice::Closed { number } => self.channels[number as usize].announced = false,
            }
        }
    }

    fn carry_back(&mut self, bytes: usize) {
        let notices = carry(&mut self.out, &mut self.back, bytes);
        assert!(notices.is_empty(), "a producer opens, nobody else");
    }

    fn check(&self) {
        assert_eq!((self.out.broken(), self.into.broken()), (None, None));
        for channel in &self.channels {
            let Some(sender) = &channel.sender else {
                continue;
            };
            let (credit, window) = (sender.credit.get(), sender.window.get());
            assert!(credit <= window && (window == 0 || window == channel.credit));
            let held = sender.queue.borrow().len() + sender.in_flight.get();
            assert!(
                held <= sender.road,
                "{held} buffers on a road of {}",
                sender.road
            );
        }
        let bound: usize = self.channels.iter().map(Channel::arithmetic).sum();
        let used = self.into.pool.used();
        assert!(used <= bound, "{used} buffers held, {bound} reckoned with");
    }

    /// Carries everything over and lets all consumers but the `stalled` read, until nothing moves.
    fn settle(&mut self, stalled: &[bool]) {
        let is_stalled = |index: usize| stalled.get(index).copied().unwrap_or(false);
        loop {
            self.departures.on_sent();
            self.fill();
            self.answer();
            let mut moved = !(self.there.is_empty() && self.back.is_empty());
            while !(self.there.is_empty() && self.back.is_empty()) {
                self.carry_there(BUFFER_BYTES);
                self.carry_back(BUFFER_BYTES);
            }
            for index in 0..self.channels.len() {
                moved |= self.claim(index);
                moved |= !is_stalled(index) && self.channels[index].read(usize::MAX);
            }
            self.check();
            if !moved {
                return;
            }
        }
    }

    /// Ends the conversation: first those flow out whose consumers read, whatever the others do; then all.
    pub(super) fn finish(&mut self, stalled: &[bool]) {
        self.settle(stalled);
        for (index, channel) in self.channels.iter().enumerate() {
            let stalled = stalled.get(index).copied().unwrap_or(false);
            assert!(
                stalled || channel.is_finished(),
                "channel {} is held up: {:?} due",
                channel.number,
                channel.expected
            );
        }
        self.settle(&[]);
        for channel in &self.channels {
            assert!(channel.is_finished(), "{:?} due", channel.expected);
            if let (Some(sender), Some(receiver)) = (&channel.sender, &channel.receiver) {
                let credit = sender.credit.get() + receiver.owed.get();
                assert_eq!(credit, channel.credit, "credit got lost or was made");
                assert!(sender.is_drained());
            }
        }
        self.channels.clear();
        self.settle(&[]);
        assert!(self.out.outgoing.is_empty() && self.into.incoming.is_empty());
        assert_eq!((self.out.pool.used(), self.into.pool.used()), (0, 0));
    }
}

fn carry(to: &mut Connection, wire: &mut Wire, bytes: usize) -> Vec<Notice> {
    let rest = &wire.said[wire.arrived..];
    let bytes = bytes.min(rest.len()).min(BUFFER_BYTES);
    let mut block = to.pool.take_or_heap(0);
    block.storage_mut()[..bytes].copy_from_slice(&rest[..bytes]);
    wire.arrived += bytes;
    let mut notices = Vec::new();
    let result = to.on_bytes(&Rc::new(block), 0..bytes, &mut notices);
    assert_eq!(result, Ok(()), "what a correct peer says");
    notices
}
