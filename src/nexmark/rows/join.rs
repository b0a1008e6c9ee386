//! Rows of joins, which are never taken back: q3, q20, q23.

use crate::nexmark::schema::{ExpandedBid, LocalItem, SellerBid};

use super::super::json::Object;

/// q3: a seller and the auction they opened.
pub fn append_q3(row: LocalItem<'_>, out: &mut Vec<u8>) {
    Object::open(out)
        .string("name", row.name())
        .string("city", row.city())
        .string("state", row.state())
        .unsigned("id", row.id())
        .close();
}

/// q20: a bid and its auction.
pub fn append_q20(row: ExpandedBid<'_>, out: &mut Vec<u8>) {
    Object::open(out)
        .unsigned("auction", row.auction())
        .unsigned("bidder", row.bidder())
        .unsigned("price", row.price())
        .string("channel", row.channel())
        .string("url", row.url())
        .signed("bid_dateTime", row.bid_date_time())
        .string("bid_extra", row.bid_extra())
        .string("itemName", row.item_name())
        .string("description", row.description())
        .unsigned("initialBid", row.initial_bid())
        .unsigned("reserve", row.reserve())
        .signed("auction_dateTime", row.auction_date_time())
        .signed("expires", row.expires())
        .unsigned("seller", row.seller())
        .unsigned("category", row.category())
        .string("auction_extra", row.auction_extra())
        .close();
}

/// q23: a bid, its bidder, and an auction that the bidder opened.
pub fn append_q23(row: SellerBid<'_>, out: &mut Vec<u8>) {
    Object::open(out)
        .unsigned("bidder", row.bidder())
        .unsigned("price", row.price())
        .string("channel", row.channel())
        .string("url", row.url())
        .string("bid_extra", row.bid_extra())
        .unsigned("person_id", row.person_id())
        .string("name", row.name())
        .string("emailAddress", row.email_address())
        .string("creditCard", row.credit_card())
        .string("city", row.city())
        .string("state", row.state())
        .string("person_extra", row.person_extra())
        .string("itemName", row.item_name())
        .string("description", row.description())
        .unsigned("initialBid", row.initial_bid())
        .unsigned("reserve", row.reserve())
        .signed("auction_dateTime", row.auction_date_time())
        .signed("expires", row.expires())
        .unsigned("seller", row.seller())
        .unsigned("category", row.category())
        .string("auction_extra", row.auction_extra())
        .close();
}
