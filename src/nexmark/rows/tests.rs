//! Every row as the text it becomes.

use flatbuffers::FlatBufferBuilder;

use super::*;
use crate::nexmark::RowKind;
use crate::nexmark::schema::{
    AuctionPrice, AuctionReport, AuctionReportArgs, Bid, BidArgs, BidCounts, BidderWindow,
    CalculatedBid, CalculatedBidArgs, CategoryPrice, ChannelBid, ChannelBidArgs, ChannelReport,
    ChannelReportArgs, ConvertedBid, ConvertedBidArgs, DayReport, DayReportArgs, DirectoryBid,
    DirectoryBidArgs, EnrichedBid, EnrichedBidArgs, ExpandedBid, ExpandedBidArgs, FiledBid,
    FiledBidArgs, HighestBid, HighestBidArgs, HotAuction, LocalItem, LocalItemArgs, NewSeller,
    NewSellerArgs, RankedBid, RankedBidArgs, SellerBid, SellerBidArgs, WinningBid, WinningBidArgs,
};

fn row(append: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    append(&mut out);
    let text = String::from_utf8(out).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap();
    text
}

/// A view of a new table: plain members, then texts.
macro_rules! view {
    ($builder:ident, $table:ident, $args:ident { $($name:ident: $value:expr),*; $($text:ident: $string:expr),* }) => {{
        let args = $args {
            $($name: $value,)*
            $($text: Some($builder.create_string($string)),)*
        };
        let table = $table::create(&mut $builder, &args);
        $builder.finish_minimal(table);
        flatbuffers::root::<$table<'_>>($builder.finished_data()).unwrap()
    }};
}

#[test]
fn q0_writes_a_bid_and_escapes_its_texts() {
    let mut builder = FlatBufferBuilder::new();
    let view = view!(builder, Bid, BidArgs { auction: 1100, bidder: 1001, price: 4321, date_time: 1_436_918_400_123; channel: "Apple \"Pie\"", url: "https://a/b\\c", extra: "x\ny" });
    assert_eq!(
        row(|out| append_q0(view, out)),
        r#"{"auction":1100,"bidder":1001,"price":4321,"channel":"Apple \"Pie\"","url":"https://a/b\\c","dateTime":1436918400123,"extra":"x\ny"}"#
    );
}

#[test]
fn q1_writes_thousandths() {
    let mut builder = FlatBufferBuilder::new();
    let view = view!(builder, ConvertedBid, ConvertedBidArgs { auction: 1100, bidder: 1001, price_milli: 100_250 * 908, date_time: 5; extra: "" });
    assert_eq!(
        row(|out| append_q1(view, out)),
        r#"{"auction":1100,"bidder":1001,"price":91027.000,"dateTime":5,"extra":""}"#
    );
}

#[test]
fn rows_of_numbers_alone() {
    assert_eq!(
        row(|out| append_q2(&AuctionPrice::new(1107, 99), out)),
        r#"{"auction":1107,"price":99}"#
    );
    assert_eq!(
        row(|out| append_q4(RowKind::UpdateBefore, &CategoryPrice::new(10, 77), out)),
        r#"{"op":"-U","category":10,"final":77}"#
    );
    assert_eq!(
        row(|out| append_q5(&HotAuction::new(1000, 3, -2000, 8000), out)),
        r#"{"auction":1000,"num":3,"windowStart":-2000,"windowEnd":8000}"#
    );
    let window = BidderWindow::new(1001, 7, -5, 10_000);
    let text = r#"{"bidder":1001,"bid_count":7,"starttime":-5,"endtime":10000}"#;
    assert_eq!(row(|out| append_q11(&window, out)), text);
    assert_eq!(row(|out| append_q12(&window, out)), text);
}

#[test]
fn q3_writes_a_seller_and_an_auction() {
    let mut builder = FlatBufferBuilder::new();
    let view = view!(builder, LocalItem, LocalItemArgs { id: 1003; name: "Kate Smith", city: "Bend", state: "OR" });
    assert_eq!(
        row(|out| append_q3(view, out)),
        r#"{"name":"Kate Smith","city":"Bend","state":"OR","id":1003}"#
    );
}

#[test]
fn q7_writes_a_highest_bid() {
    let mut builder = FlatBufferBuilder::new();
    let view = view!(builder, HighestBid, HighestBidArgs { auction: 1100, bidder: 1001, price: 4321, date_time: 5; extra: "x" });
    assert_eq!(
        row(|out| append_q7(view, out)),
        r#"{"auction":1100,"bidder":1001,"price":4321,"dateTime":5,"extra":"x"}"#
    );
}

#[test]
fn q8_writes_a_new_seller() {
    let mut builder = FlatBufferBuilder::new();
    let view =
        view!(builder, NewSeller, NewSellerArgs { id: 1001, starttime: 20000; name: "Kate" });
    assert_eq!(
        row(|out| append_q8(view, out)),
        r#"{"id":1001,"name":"Kate","starttime":20000}"#
    );
}

#[test]
fn q9_writes_an_auction_and_its_bid() {
    let mut builder = FlatBufferBuilder::new();
    let view = view!(builder, WinningBid, WinningBidArgs { id: 1, initial_bid: 2, reserve: 3, date_time: 4, expires: 5, seller: 6, category: 7, auction: 8, bidder: 9, price: 10, bid_date_time: 11; item_name: "a", description: "b", extra: "c", bid_extra: "d" });
    assert_eq!(
        row(|out| append_q9(RowKind::Insert, view, out)),
        r#"{"op":"+I","id":1,"itemName":"a","description":"b","initialBid":2,"reserve":3,"dateTime":4,"expires":5,"seller":6,"category":7,"extra":"c","auction":8,"bidder":9,"price":10,"bid_dateTime":11,"bid_extra":"d"}"#
    );
}

#[test]
fn q10_writes_csv() {
    let mut builder = FlatBufferBuilder::new();
    let view = view!(builder, FiledBid, FiledBidArgs { auction: 1100, bidder: 1001, price: 4321, date_time: 5; extra: "x,\"y\"", dt: "2015-07-15", hm: "00:01" });
    let mut out = Vec::new();
    append_q10_csv(view, &mut out);
    assert_eq!(out, b"1100,1001,4321,5,\"x,\"\"y\"\"\"\n");
}

#[test]
fn q10_writes_day_and_minute() {
    let mut builder = FlatBufferBuilder::new();
    let view = view!(builder, FiledBid, FiledBidArgs { auction: 1100, bidder: 1001, price: 4321, date_time: 5; extra: "x", dt: "2015-07-15", hm: "00:01" });
    assert_eq!(
        row(|out| append_q10(view, out)),
        r#"{"auction":1100,"bidder":1001,"price":4321,"dateTime":5,"extra":"x","dt":"2015-07-15","hm":"00:01"}"#
    );
}

#[test]
fn q13_writes_the_side_input() {
    let mut builder = FlatBufferBuilder::new();
    let view = view!(builder, EnrichedBid, EnrichedBidArgs { auction: 1100, bidder: 1001, price: 4321, date_time: 5; value: "1100" });
    assert_eq!(
        row(|out| append_q13(view, out)),
        r#"{"auction":1100,"bidder":1001,"price":4321,"dateTime":5,"value":"1100"}"#
    );
}

#[test]
fn q14_writes_price_part_of_day_and_count() {
    let mut builder = FlatBufferBuilder::new();
    let view = view!(builder, CalculatedBid, CalculatedBidArgs { auction: 1100, bidder: 1001, price_milli: 1_101_322 * 908, date_time: 5, c_counts: 2; bid_time_type: "dayTime", extra: "cc" });
    assert_eq!(
        row(|out| append_q14(view, out)),
        r#"{"auction":1100,"bidder":1001,"price":1000000.376,"bidTimeType":"dayTime","dateTime":5,"extra":"cc","c_counts":2}"#
    );
}

fn counts() -> BidCounts {
    BidCounts::new(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
}

#[test]
fn q15_writes_the_counts_of_a_day() {
    let mut builder = FlatBufferBuilder::new();
    let view =
        view!(builder, DayReport, DayReportArgs { counts: Some(&counts()); day: "2015-07-15" });
    assert_eq!(
        row(|out| append_q15(RowKind::UpdateAfter, view, out)),
        r#"{"op":"+U","day":"2015-07-15","total_bids":1,"rank1_bids":2,"rank2_bids":3,"rank3_bids":4,"total_bidders":5,"rank1_bidders":6,"rank2_bidders":7,"rank3_bidders":8,"total_auctions":9,"rank1_auctions":10,"rank2_auctions":11,"rank3_auctions":12}"#
    );
}

#[test]
fn q16_writes_the_counts_of_a_channel() {
    let mut builder = FlatBufferBuilder::new();
    let view = view!(builder, ChannelReport, ChannelReportArgs { counts: Some(&counts()); channel: "Apple", day: "2015-07-15", minute: "23:59" });
    assert_eq!(
        row(|out| append_q16(RowKind::Delete, view, out)),
        r#"{"op":"-D","channel":"Apple","day":"2015-07-15","minute":"23:59","total_bids":1,"rank1_bids":2,"rank2_bids":3,"rank3_bids":4,"total_bidders":5,"rank1_bidders":6,"rank2_bidders":7,"rank3_bidders":8,"total_auctions":9,"rank1_auctions":10,"rank2_auctions":11,"rank3_auctions":12}"#
    );
}

#[test]
fn q17_writes_counts_and_prices() {
    let mut builder = FlatBufferBuilder::new();
    let view = view!(builder, AuctionReport, AuctionReportArgs { auction: 1, total_bids: 2, rank1_bids: 3, rank2_bids: 4, rank3_bids: 5, min_price: 6, max_price: 7, avg_price: 8, sum_price: 9; day: "2015-07-15" });
    assert_eq!(
        row(|out| append_q17(RowKind::UpdateBefore, view, out)),
        r#"{"op":"-U","auction":1,"day":"2015-07-15","total_bids":2,"rank1_bids":3,"rank2_bids":4,"rank3_bids":5,"min_price":6,"max_price":7,"avg_price":8,"sum_price":9}"#
    );
}

#[test]
fn q18_writes_a_bid_with_its_kind() {
    let mut builder = FlatBufferBuilder::new();
    let view = view!(builder, Bid, BidArgs { auction: 1100, bidder: 1001, price: 4321, date_time: 5; channel: "c", url: "u", extra: "x" });
    assert_eq!(
        row(|out| append_q18(RowKind::Insert, view, out)),
        r#"{"op":"+I","auction":1100,"bidder":1001,"price":4321,"channel":"c","url":"u","dateTime":5,"extra":"x"}"#
    );
}

#[test]
fn q19_writes_a_bid_and_its_rank() {
    let mut builder = FlatBufferBuilder::new();
    let view = view!(builder, RankedBid, RankedBidArgs { auction: 1100, bidder: 1001, price: 4321, date_time: 5, rank_number: 10; channel: "c", url: "u", extra: "x" });
    assert_eq!(
        row(|out| append_q19(RowKind::Delete, view, out)),
        r#"{"op":"-D","auction":1100,"bidder":1001,"price":4321,"channel":"c","url":"u","dateTime":5,"extra":"x","rank_number":10}"#
    );
}

#[test]
fn q20_writes_a_bid_and_its_auction() {
    let mut builder = FlatBufferBuilder::new();
    let view = view!(builder, ExpandedBid, ExpandedBidArgs { auction: 1100, bidder: 1001, price: 4321, bid_date_time: 1, initial_bid: 2, reserve: 3, auction_date_time: 4, expires: 5, seller: 6, category: 10; channel: "a", url: "b", bid_extra: "c", item_name: "d", description: "e", auction_extra: "f" });
    assert_eq!(
        row(|out| append_q20(view, out)),
        r#"{"auction":1100,"bidder":1001,"price":4321,"channel":"a","url":"b","bid_dateTime":1,"bid_extra":"c","itemName":"d","description":"e","initialBid":2,"reserve":3,"auction_dateTime":4,"expires":5,"seller":6,"category":10,"auction_extra":"f"}"#
    );
}

#[test]
fn q21_writes_the_channel_id_as_text() {
    let mut builder = FlatBufferBuilder::new();
    let view = view!(builder, ChannelBid, ChannelBidArgs { auction: 1100, bidder: 1001, price: 4321; channel: "Apple", channel_id: "0" });
    assert_eq!(
        row(|out| append_q21(view, out)),
        r#"{"auction":1100,"bidder":1001,"price":4321,"channel":"Apple","channel_id":"0"}"#
    );
}

#[test]
fn q22_writes_directories() {
    let mut builder = FlatBufferBuilder::new();
    let view = view!(builder, DirectoryBid, DirectoryBidArgs { auction: 1100, bidder: 1001, price: 4321; channel: "Apple", dir1: "a", dir2: "b", dir3: "c" });
    assert_eq!(
        row(|out| append_q22(view, out)),
        r#"{"auction":1100,"bidder":1001,"price":4321,"channel":"Apple","dir1":"a","dir2":"b","dir3":"c"}"#
    );
}

#[test]
fn q23_writes_bid_person_and_auction() {
    let mut builder = FlatBufferBuilder::new();
    let view = view!(builder, SellerBid, SellerBidArgs { bidder: 1, price: 9, person_id: 1, initial_bid: 2, reserve: 3, auction_date_time: 4, expires: 5, seller: 6, category: 7; channel: "a", url: "b", bid_extra: "c", name: "d", email_address: "e", credit_card: "f", city: "g", state: "h", person_extra: "i", item_name: "j", description: "k", auction_extra: "l" });
    assert_eq!(
        row(|out| append_q23(view, out)),
        r#"{"bidder":1,"price":9,"channel":"a","url":"b","bid_extra":"c","person_id":1,"name":"d","emailAddress":"e","creditCard":"f","city":"g","state":"h","person_extra":"i","itemName":"j","description":"k","initialBid":2,"reserve":3,"auction_dateTime":4,"expires":5,"seller":6,"category":7,"auction_extra":"l"}"#
    );
}
