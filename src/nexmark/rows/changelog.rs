//! Rows of tables that are kept up to date, each with its kind of change: q4, q9, q15, q16, q17, q18, q19.

use crate::nexmark::RowKind;
use crate::nexmark::schema::{
    AuctionReport, Bid, BidCounts, CategoryPrice, ChannelReport, DayReport, RankedBid, WinningBid,
};

use super::super::json::Object;

/// q4: a category and the average of the highest bids of its auctions, rounded towards zero.
pub fn append_q4(op: RowKind, row: &CategoryPrice, out: &mut Vec<u8>) {
    Object::open(out)
        .string("op", op.short_name())
        .unsigned("category", row.category())
        .unsigned("final", row.average())
        .close();
}

/// q9: an auction and its winning bid.
pub fn append_q9(op: RowKind, row: WinningBid<'_>, out: &mut Vec<u8>) {
    Object::open(out)
        .string("op", op.short_name())
        .unsigned("id", row.id())
        .string("itemName", row.item_name())
        .string("description", row.description())
        .unsigned("initialBid", row.initial_bid())
        .unsigned("reserve", row.reserve())
        .signed("dateTime", row.date_time())
        .signed("expires", row.expires())
        .unsigned("seller", row.seller())
        .unsigned("category", row.category())
        .string("extra", row.extra())
        .unsigned("auction", row.auction())
        .unsigned("bidder", row.bidder())
        .unsigned("price", row.price())
        .signed("bid_dateTime", row.bid_date_time())
        .string("bid_extra", row.bid_extra())
        .close();
}

/// q15: what happened on a day.
pub fn append_q15(op: RowKind, row: DayReport<'_>, out: &mut Vec<u8>) {
    let object = Object::open(out)
        .string("op", op.short_name())
        .string("day", row.day());
    append_counts(object, row.counts()).close();
}

/// q16: what happened on a day in a channel.
pub fn append_q16(op: RowKind, row: ChannelReport<'_>, out: &mut Vec<u8>) {
    let object = Object::open(out)
        .string("op", op.short_name())
        .string("channel", row.channel())
        .string("day", row.day())
        .string("minute", row.minute());
    append_counts(object, row.counts()).close();
}

fn append_counts<'o>(object: Object<'o>, counts: &BidCounts) -> Object<'o> {
    object
        .unsigned("total_bids", counts.total_bids())
        .unsigned("rank1_bids", counts.rank1_bids())
        .unsigned("rank2_bids", counts.rank2_bids())
        .unsigned("rank3_bids", counts.rank3_bids())
        .unsigned("total_bidders", counts.total_bidders())
        .unsigned("rank1_bidders", counts.rank1_bidders())
        .unsigned("rank2_bidders", counts.rank2_bidders())
        .unsigned("rank3_bidders", counts.rank3_bidders())
        .unsigned("total_auctions", counts.total_auctions())
        .unsigned("rank1_auctions", counts.rank1_auctions())
        .unsigned("rank2_auctions", counts.rank2_auctions())
        .unsigned("rank3_auctions", counts.rank3_auctions())
}

/// q17: what was bid on an auction on a day; the average is rounded towards zero.
pub fn append_q17(op: RowKind, row: AuctionReport<'_>, out: &mut Vec<u8>) {
    Object::open(out)
        .string("op", op.short_name())
        .unsigned("auction", row.auction())
        .string("day", row.day())
        .unsigned("total_bids", row.total_bids())
        .unsigned("rank1_bids", row.rank1_bids())
        .unsigned("rank2_bids", row.rank2_bids())
        .unsigned("rank3_bids", row.rank3_bids())
        .unsigned("min_price", row.min_price())
        .unsigned("max_price", row.max_price())
        .unsigned("avg_price", row.avg_price())
        .unsigned("sum_price", row.sum_price())
        .close();
}

/// q18: the last bid of a bidder for an auction.
pub fn append_q18(op: RowKind, bid: Bid<'_>, out: &mut Vec<u8>) {
    Object::open(out)
        .string("op", op.short_name())
        .unsigned("auction", bid.auction())
        .unsigned("bidder", bid.bidder())
        .unsigned("price", bid.price())
        .string("channel", bid.channel())
        .string("url", bid.url())
        .signed("dateTime", bid.date_time())
        .string("extra", bid.extra())
        .close();
}

/// q19: one of the ten highest bids for an auction, with its rank from 1.
pub fn append_q19(op: RowKind, bid: RankedBid<'_>, out: &mut Vec<u8>) {
    Object::open(out)
        .string("op", op.short_name())
        .unsigned("auction", bid.auction())
        .unsigned("bidder", bid.bidder())
        .unsigned("price", bid.price())
        .string("channel", bid.channel())
        .string("url", bid.url())
        .signed("dateTime", bid.date_time())
        .string("extra", bid.extra())
        .unsigned("rank_number", bid.rank_number())
        .close();
}
