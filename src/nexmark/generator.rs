//! The two roads from an event number to an event: owned values, and FlatBuffers in a reused buffer.
//!
//! Invariant: both come from the same draft, so they agree field by field (`tests.rs` checks it).
//! Left out: which numbers to make and when. The source decides that.

use std::fmt;
use std::io;

use crate::nexmark::schema as wire;
use flatbuffers::FlatBufferBuilder;

use super::auction::{self, AuctionDraft, AuctionScratch};
use super::bid::{self, BidDraft, BidScratch};
use super::config::{EventKind, NexmarkConfig};
use super::event::Event;
use super::person::{self, PersonDraft, PersonScratch};

/// Bytes to begin with; an auction in FlatBuffers takes about 650.
const BUILDER_BYTES: usize = 1024;

/// Makes event `n` as an owned value.
///
/// Cost: several allocations; the road for tests, files and batch answers.
///
/// # Panics
/// When the configuration's rate is 0.
pub fn generate(config: &NexmarkConfig, n: u64) -> Event {
    match EventKind::of(n) {
        EventKind::Person => person::draw(config, n, &mut PersonScratch::default()).into(),
        EventKind::Auction => auction::draw(config, n, &mut AuctionScratch::default()).into(),
        EventKind::Bid => bid::draw(config, n, &mut BidScratch::default()).into(),
    }
}

/// Writes event `n` as one line of JSON, line break included.
///
/// # Errors
/// What `out` answers.
pub fn write_ndjson(config: &NexmarkConfig, n: u64, out: &mut impl io::Write) -> io::Result<()> {
    let mut line = Vec::with_capacity(BUILDER_BYTES);
    generate(config, n).append_json(&mut line);
    line.push(b'\n');
    out.write_all(&line)
}

/// Makes events as finished FlatBuffers, one at a time in the same memory.
///
/// Lives: one per source subtask.
/// Cost: no allocation per event once the buffers have grown.
pub struct EventWriter {
    config: NexmarkConfig,
    builder: FlatBufferBuilder<'static>,
    person: PersonScratch,
    auction: AuctionScratch,
    bid: BidScratch,
}

impl fmt::Debug for EventWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventWriter")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl EventWriter {
    /// A writer of the stream that `config` decides.
    ///
    /// # Panics
    /// When the rate is 0.
    pub fn new(config: NexmarkConfig) -> Self {
        assert!(
            config.events_per_second > 0,
            "a stream of 0 events per second has no event times"
        );
        Self {
            config,
            builder: FlatBufferBuilder::with_capacity(BUILDER_BYTES),
            person: PersonScratch::default(),
            auction: AuctionScratch::default(),
            bid: BidScratch::default(),
        }
    }

    /// The stream's parameters.
    pub fn config(&self) -> &NexmarkConfig {
        &self.config
    }

    /// Event `n` as a finished `crate::nexmark::schema::Event`, valid until the next call.
    pub fn write(&mut self, n: u64) -> &[u8] {
        let builder = &mut self.builder;
        builder.reset();
        let (body_type, body) = match EventKind::of(n) {
            EventKind::Person => {
                let draft = person::draw(&self.config, n, &mut self.person);
                (wire::EventBody::Person, write_person(builder, &draft))
            }
            EventKind::Auction => {
                let draft = auction::draw(&self.config, n, &mut self.auction);
                (wire::EventBody::Auction, write_auction(builder, &draft))
            }
            EventKind::Bid => {
                let draft = bid::draw(&self.config, n, &mut self.bid);
                (wire::EventBody::Bid, write_bid(builder, &draft))
            }
        };
        let body = Some(body);
        let event = wire::Event::create(builder, &wire::EventArgs { body_type, body });
        builder.finish(event, None);
        builder.finished_data()
    }
}

/// A table's place in the builder, its type in the union forgotten.
type Body = flatbuffers::WIPOffset<flatbuffers::UnionWIPOffset>;

fn write_person(builder: &mut FlatBufferBuilder<'static>, draft: &PersonDraft<'_>) -> Body {
    let args = wire::PersonArgs {
        id: draft.id,
        name: Some(builder.create_string(draft.name)),
        email_address: Some(builder.create_string(draft.email_address)),
        credit_card: Some(builder.create_string(draft.credit_card)),
        city: Some(builder.create_string(draft.city)),
        state: Some(builder.create_string(draft.state)),
        date_time: draft.date_time,
        extra: Some(builder.create_string(draft.extra)),
    };
    wire::Person::create(builder, &args).as_union_value()
}

fn write_auction(builder: &mut FlatBufferBuilder<'static>, draft: &AuctionDraft<'_>) -> Body {
    let args = wire::AuctionArgs {
        id: draft.id,
        item_name: Some(builder.create_string(draft.item_name)),
        description: Some(builder.create_string(draft.description)),
        initial_bid: draft.initial_bid,
        reserve: draft.reserve,
        date_time: draft.date_time,
        expires: draft.expires,
        seller: draft.seller,
        category: draft.category,
        extra: Some(builder.create_string(draft.extra)),
    };
    wire::Auction::create(builder, &args).as_union_value()
}

fn write_bid(builder: &mut FlatBufferBuilder<'static>, draft: &BidDraft<'_>) -> Body {
    let args = wire::BidArgs {
        auction: draft.auction,
        bidder: draft.bidder,
        price: draft.price,
        channel: Some(builder.create_string(draft.channel)),
        url: Some(builder.create_string(draft.url)),
        date_time: draft.date_time,
        extra: Some(builder.create_string(draft.extra)),
    };
    wire::Bid::create(builder, &args).as_union_value()
}
