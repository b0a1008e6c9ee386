//! Rows that come from one bid alone: q0, q1, q2, q10, q13, q14, q21, q22.

use crate::nexmark::schema::{
    AuctionPrice, Bid, CalculatedBid, ChannelBid, ConvertedBid, DirectoryBid, EnrichedBid, FiledBid,
};

use super::super::json::Object;
use crate::api::csv::CsvRow;

/// q0: the bid, all of it.
pub fn append_q0(bid: Bid<'_>, out: &mut Vec<u8>) {
    Object::open(out)
        .unsigned("auction", bid.auction())
        .unsigned("bidder", bid.bidder())
        .unsigned("price", bid.price())
        .string("channel", bid.channel())
        .string("url", bid.url())
        .signed("dateTime", bid.date_time())
        .string("extra", bid.extra())
        .close();
}

/// q1: the bid with its price as DECIMAL(23, 3), three digits after the point.
pub fn append_q1(bid: ConvertedBid<'_>, out: &mut Vec<u8>) {
    Object::open(out)
        .unsigned("auction", bid.auction())
        .unsigned("bidder", bid.bidder())
        .thousandths("price", bid.price_milli())
        .signed("dateTime", bid.date_time())
        .string("extra", bid.extra())
        .close();
}

/// q2: an auction and a price bid for it.
pub fn append_q2(row: &AuctionPrice, out: &mut Vec<u8>) {
    Object::open(out)
        .unsigned("auction", row.auction())
        .unsigned("price", row.price())
        .close();
}

/// q10: a bid and the day and minute it is filed under.
pub fn append_q10(bid: FiledBid<'_>, out: &mut Vec<u8>) {
    Object::open(out)
        .unsigned("auction", bid.auction())
        .unsigned("bidder", bid.bidder())
        .unsigned("price", bid.price())
        .signed("dateTime", bid.date_time())
        .string("extra", bid.extra())
        .string("dt", bid.dt())
        .string("hm", bid.hm())
        .close();
}

/// q10 in files: the bid as a row of CSV, with its line end; day and minute are in its directory.
pub fn append_q10_csv(bid: FiledBid<'_>, out: &mut Vec<u8>) {
    CsvRow::new(out)
        .number(bid.auction())
        .number(bid.bidder())
        .number(bid.price())
        .number(bid.date_time())
        .text(bid.extra())
        .end();
}

/// q13: a bid with the value that the side input has for its auction.
pub fn append_q13(bid: EnrichedBid<'_>, out: &mut Vec<u8>) {
    Object::open(out)
        .unsigned("auction", bid.auction())
        .unsigned("bidder", bid.bidder())
        .unsigned("price", bid.price())
        .signed("dateTime", bid.date_time())
        .string("value", bid.value())
        .close();
}

/// q14: a bid with its price as DECIMAL(23, 3), its part of the day and its number of `c`.
pub fn append_q14(bid: CalculatedBid<'_>, out: &mut Vec<u8>) {
    Object::open(out)
        .unsigned("auction", bid.auction())
        .unsigned("bidder", bid.bidder())
        .thousandths("price", bid.price_milli())
        .string("bidTimeType", bid.bid_time_type())
        .signed("dateTime", bid.date_time())
        .string("extra", bid.extra())
        .unsigned("c_counts", bid.c_counts())
        .close();
}

/// q21: a bid with the identifier of its channel.
pub fn append_q21(bid: ChannelBid<'_>, out: &mut Vec<u8>) {
    Object::open(out)
        .unsigned("auction", bid.auction())
        .unsigned("bidder", bid.bidder())
        .unsigned("price", bid.price())
        .string("channel", bid.channel())
        .string("channel_id", bid.channel_id())
        .close();
}

/// q22: a bid with the directories of its url.
pub fn append_q22(bid: DirectoryBid<'_>, out: &mut Vec<u8>) {
    Object::open(out)
        .unsigned("auction", bid.auction())
        .unsigned("bidder", bid.bidder())
        .unsigned("price", bid.price())
        .string("channel", bid.channel())
        .string("dir1", bid.dir1())
        .string("dir2", bid.dir2())
        .string("dir3", bid.dir3())
        .close();
}
