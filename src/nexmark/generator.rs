//! The two roads from an event number to an event: owned values, and FlatBuffers in a reused buffer.
//!
//! Invariant: both come from the same draft, so they agree field by field (`tests.rs` checks it).
//! Left out: which numbers to make and when. The source decides that.

use std::fmt;
use std::io;

use crate::nexmark::schema as wire;
use flatbuffers::FlatBufferBuilder;

use super::auction::{self, AuctionDraft, AuctionScratch};
use super::bid;
use super::bid_form::BidForm;
use super::config::{EventKind, NexmarkConfig};
use super::event::{Bid, Event};
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
        EventKind::Bid => Event::Bid((&bid::draw(config, n)).into()),
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
/// Bids, 46 of 50 events, are filled into a form that has the library's bytes (`bid_form`); the library itself would
/// cost several times as much as all that is drawn for them.
///
/// Lives: one per source subtask.
/// Cost: no allocation per event once the buffers have grown.
pub struct EventWriter {
    config: NexmarkConfig,
    builder: FlatBufferBuilder<'static>,
    person: PersonScratch,
    auction: AuctionScratch,
    bid: BidForm,
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
            bid: BidForm::new(),
        }
    }

    /// The stream's parameters.
    pub fn config(&self) -> &NexmarkConfig {
        &self.config
    }

    /// Event `n` as a finished `crate::nexmark::schema::Event`, valid until the next call.
    #[inline]
    pub fn write(&mut self, n: u64) -> &[u8] {
        if EventKind::of(n) == EventKind::Bid {
            let draft = bid::draw(&self.config, n);
            if BidForm::fits(&draft) {
                return self.bid.fill(&draft);
            }
        }
        self.build(n)
    }

    /// Event `n` as the library writes it.
    fn build(&mut self, n: u64) -> &[u8] {
        let builder = &mut self.builder;
        builder.reset();
        match EventKind::of(n) {
            EventKind::Person => {
                let draft = person::draw(&self.config, n, &mut self.person);
                let body = write_person(builder, &draft);
                finish(builder, wire::EventBody::Person, body);
            }
            EventKind::Auction => {
                let draft = auction::draw(&self.config, n, &mut self.auction);
                let body = write_auction(builder, &draft);
                finish(builder, wire::EventBody::Auction, body);
            }
            EventKind::Bid => write_bid(builder, &(&bid::draw(&self.config, n)).into()),
        }
        builder.finished_data()
    }
}

fn finish(builder: &mut FlatBufferBuilder<'static>, body_type: wire::EventBody, body: Body) {
    let body = Some(body);
    let event = wire::Event::create(builder, &wire::EventArgs { body_type, body });
    builder.finish(event, None);
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

/// A whole event with a bid.
pub(super) fn write_bid(builder: &mut FlatBufferBuilder<'static>, bid: &Bid) {
    let args = wire::BidArgs {
        auction: bid.auction,
        bidder: bid.bidder,
        price: bid.price,
        channel: Some(builder.create_string(&bid.channel)),
        url: Some(builder.create_string(&bid.url)),
        date_time: bid.date_time,
        extra: Some(builder.create_string(&bid.extra)),
    };
    let body = wire::Bid::create(builder, &args).as_union_value();
    finish(builder, wire::EventBody::Bid, body);
}
