//! Events as plain owned values, and their JSON: for files, for other systems, for batch answers.
//!
//! Invariant: the JSON has every field, named in Nexmark's camelCase, in the order of the fields
//! here, after `event_type`.
//! Left out: reading JSON; the engine's own road is FlatBuffers.

use super::auction::AuctionDraft;
use super::bid::BidDraft;
use super::json::Object;
use super::person::PersonDraft;
use super::text;

/// A person who may sell and bid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Counts from 1000.
    pub id: u64,
    /// First and last name.
    pub name: String,
    /// `user@host.com`.
    pub email_address: String,
    /// Four groups of four digits.
    pub credit_card: String,
    /// A city, as `Los Angeles`.
    pub city: String,
    /// A state, as `OR`; drawn apart from the city.
    pub state: String,
    /// Event time, milliseconds since the epoch.
    pub date_time: i64,
    /// Filler up to the size of a person.
    pub extra: String,
}

/// An item on sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auction {
    /// Counts from 1000.
    pub id: u64,
    /// A few words.
    pub item_name: String,
    /// Up to 99 characters.
    pub description: String,
    /// The first price, in cents.
    pub initial_bid: u64,
    /// The price under which the seller keeps the item, in cents.
    pub reserve: u64,
    /// Event time, milliseconds since the epoch.
    pub date_time: i64,
    /// When bidding ends, milliseconds since the epoch; after `date_time`.
    pub expires: i64,
    /// The seller's person id.
    pub seller: u64,
    /// 10 ..= 14.
    pub category: u64,
    /// Filler up to the size of an auction.
    pub extra: String,
}

/// A bid for an auction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bid {
    /// The auction's id.
    pub auction: u64,
    /// The bidder's person id.
    pub bidder: u64,
    /// Cents, 100 ..= 100 000 000.
    pub price: u64,
    /// Where the bid came from: `Google`, `channel-42`.
    pub channel: String,
    /// The channel's page.
    pub url: String,
    /// Event time, milliseconds since the epoch.
    pub date_time: i64,
    /// Filler up to the size of a bid.
    pub extra: String,
}

/// One event of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new person.
    Person(Person),
    /// A new auction.
    Auction(Auction),
    /// A bid.
    Bid(Bid),
}

impl Event {
    /// Event time, milliseconds since the epoch.
    pub fn date_time(&self) -> i64 {
        match self {
            Self::Person(person) => person.date_time,
            Self::Auction(auction) => auction.date_time,
            Self::Bid(bid) => bid.date_time,
        }
    }

    /// Appends the event as one JSON object, without a line break.
    pub fn append_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Person(person) => person.append_json(out),
            Self::Auction(auction) => auction.append_json(out),
            Self::Bid(bid) => bid.append_json(out),
        }
    }
}

impl Person {
    fn append_json(&self, out: &mut Vec<u8>) {
        Object::open(out)
            .string("event_type", "person")
            .unsigned("id", self.id)
            .string("name", &self.name)
            .string("emailAddress", &self.email_address)
            .string("creditCard", &self.credit_card)
            .string("city", &self.city)
            .string("state", &self.state)
            .signed("dateTime", self.date_time)
            .string("extra", &self.extra)
            .close();
    }
}

impl Auction {
    fn append_json(&self, out: &mut Vec<u8>) {
        Object::open(out)
            .string("event_type", "auction")
            .unsigned("id", self.id)
            .string("itemName", &self.item_name)
            .string("description", &self.description)
            .unsigned("initialBid", self.initial_bid)
            .unsigned("reserve", self.reserve)
            .signed("dateTime", self.date_time)
            .signed("expires", self.expires)
            .unsigned("seller", self.seller)
            .unsigned("category", self.category)
            .string("extra", &self.extra)
            .close();
    }
}

impl Bid {
    fn append_json(&self, out: &mut Vec<u8>) {
        Object::open(out)
            .string("event_type", "bid")
            .unsigned("auction", self.auction)
            .unsigned("bidder", self.bidder)
            .unsigned("price", self.price)
            .string("channel", &self.channel)
            .string("url", &self.url)
            .signed("dateTime", self.date_time)
            .string("extra", &self.extra)
            .close();
    }
}

impl From<PersonDraft<'_>> for Event {
    fn from(draft: PersonDraft<'_>) -> Self {
        Self::Person(Person {
            id: draft.id,
            name: draft.name.to_owned(),
            email_address: draft.email_address.to_owned(),
            credit_card: draft.credit_card.to_owned(),
            city: draft.city.to_owned(),
            state: draft.state.to_owned(),
            date_time: draft.date_time,
            extra: draft.extra.to_owned(),
        })
    }
}

impl From<AuctionDraft<'_>> for Event {
    fn from(draft: AuctionDraft<'_>) -> Self {
        Self::Auction(Auction {
            id: draft.id,
            item_name: draft.item_name.to_owned(),
            description: draft.description.to_owned(),
            initial_bid: draft.initial_bid,
            reserve: draft.reserve,
            date_time: draft.date_time,
            expires: draft.expires,
            seller: draft.seller,
            category: draft.category,
            extra: draft.extra.to_owned(),
        })
    }
}

impl From<&BidDraft> for Bid {
    fn from(draft: &BidDraft) -> Self {
        Self {
            auction: draft.auction,
            bidder: draft.bidder,
            price: draft.price,
            channel: text::owned(draft.channel.length(), |out| draft.channel.write(out)),
            url: text::owned(draft.url.length(), |out| draft.url.write(out)),
            date_time: draft.date_time,
            extra: text::owned(draft.extra.length(), |out| draft.extra.write(out)),
        }
    }
}
