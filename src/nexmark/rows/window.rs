//! Rows of windows: q5, q7, q8, q11, q12.

use crate::nexmark::schema::{BidderWindow, HighestBid, HotAuction, NewSeller};

use super::super::json::Object;

/// q5: an auction with the most bids of a window.
pub fn append_q5(row: &HotAuction, out: &mut Vec<u8>) {
    Object::open(out)
        .unsigned("auction", row.auction())
        .unsigned("num", row.bids())
        .signed("windowStart", row.window_start())
        .signed("windowEnd", row.window_end())
        .close();
}

/// q7: a bid that is the highest of its window.
pub fn append_q7(bid: HighestBid<'_>, out: &mut Vec<u8>) {
    Object::open(out)
        .unsigned("auction", bid.auction())
        .unsigned("bidder", bid.bidder())
        .unsigned("price", bid.price())
        .signed("dateTime", bid.date_time())
        .string("extra", bid.extra())
        .close();
}

/// q8: a person who came and opened an auction within the window that begins at `starttime`.
pub fn append_q8(row: NewSeller<'_>, out: &mut Vec<u8>) {
    Object::open(out)
        .unsigned("id", row.id())
        .string("name", row.name())
        .signed("starttime", row.starttime())
        .close();
}

/// q11: a session of a bidder; it ends one gap after its last bid.
pub fn append_q11(row: &BidderWindow, out: &mut Vec<u8>) {
    Object::open(out)
        .unsigned("bidder", row.bidder())
        .unsigned("bid_count", row.bid_count())
        .signed("starttime", row.starttime())
        .signed("endtime", row.endtime())
        .close();
}

/// q12: the bids of a bidder in a window of processing time.
pub fn append_q12(row: &BidderWindow, out: &mut Vec<u8>) {
    Object::open(out)
        .unsigned("bidder", row.bidder())
        .unsigned("bid_count", row.bid_count())
        .signed("starttime", row.starttime())
        .signed("endtime", row.endtime())
        .close();
}
