//! Result rows of q0, q1, q2 and q5 as text, from the FlatBuffers views that the jobs hold.
//!
//! Invariant: one JSON object per row, members in the order of the query's columns, no line break
//! (the sink's affair). The batch answers of `tests/support/nexmark_batch.rs` write the same text
//! with other code.

use crate::nexmark::schema::{AuctionPrice, Bid, ConvertedBid, HotAuction};

use super::json::Object;

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

/// q5: an auction with the most bids of a window.
pub fn append_q5(row: &HotAuction, out: &mut Vec<u8>) {
    Object::open(out)
        .unsigned("auction", row.auction())
        .unsigned("num", row.bids())
        .signed("windowStart", row.window_start())
        .signed("windowEnd", row.window_end())
        .close();
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use crate::nexmark::schema::{BidArgs, ConvertedBidArgs};
    use flatbuffers::FlatBufferBuilder;

    use super::*;

    fn row(append: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        append(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_whole_bid() {
        let mut builder = FlatBufferBuilder::new();
        let args = BidArgs {
            auction: 1100,
            bidder: 1001,
            price: 4321,
            channel: Some(builder.create_string("Apple \"Pie\"")),
            url: Some(builder.create_string("https://a/b\\c")),
            date_time: 1_436_918_400_123,
            extra: Some(builder.create_string("x\ny")),
        };
        let bid = Bid::create(&mut builder, &args);
        builder.finish_minimal(bid);
        let bid = flatbuffers::root::<Bid<'_>>(builder.finished_data()).unwrap();
        assert_eq!(
            row(|out| append_q0(bid, out)),
            r#"{"auction":1100,"bidder":1001,"price":4321,"channel":"Apple \"Pie\"","url":"https://a/b\\c","dateTime":1436918400123,"extra":"x\ny"}"#
        );
    }

    #[test]
    fn a_converted_bid() {
        let mut builder = FlatBufferBuilder::new();
        let args = ConvertedBidArgs {
            auction: 1100,
            bidder: 1001,
            price_milli: 100_250 * 908,
            date_time: 5,
            extra: Some(builder.create_string("")),
        };
        let bid = ConvertedBid::create(&mut builder, &args);
        builder.finish_minimal(bid);
        let bid = flatbuffers::root::<ConvertedBid<'_>>(builder.finished_data()).unwrap();
        assert_eq!(
            row(|out| append_q1(bid, out)),
            r#"{"auction":1100,"bidder":1001,"price":91027.000,"dateTime":5,"extra":""}"#
        );
    }

    #[test]
    fn the_two_structs() {
        assert_eq!(
            row(|out| append_q2(&AuctionPrice::new(1107, 99), out)),
            r#"{"auction":1107,"price":99}"#
        );
        assert_eq!(
            row(|out| append_q5(&HotAuction::new(1000, 3, -2000, 8000), out)),
            r#"{"auction":1000,"num":3,"windowStart":-2000,"windowEnd":8000}"#
        );
    }
}
