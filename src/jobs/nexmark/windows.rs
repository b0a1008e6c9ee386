//! Queries over windows.
//!
//! Owns: q5, q7, q11, q12. Invariant: rows are those of the public suite's SQL.

use std::time::Duration;

use crate::nexmark::schema::{BidderWindow, Event, HighestBid, HighestBidArgs, HotAuction};
use crate::prelude::*;

use super::reports::facts;

/// q5: per window, the auctions with most bids.
pub(super) fn hot_items(bids: DataStream<Event<'static>>) -> DataStream<HotAuction> {
    let (size, slide) = (Duration::from_secs(10), Duration::from_secs(2));
    bids.key_by(|event| event.body_as_bid().map_or(0, |bid| bid.auction()))
        .window(SlidingEventTimeWindows::of(size, slide))
        .aggregate(Count)
        .name("bids per auction")
        // A window's counts all carry its last millisecond, so a tumbling window of one slide holds exactly them.
        .key_by(|count| count.window().end())
        .window(TumblingEventTimeWindows::of(slide))
        .aggregate_then(
            MostBids,
            |end: &i64, hottest: Hottest, _window, out: &mut Collector<'_, HotAuction>| {
                for auction in hottest.auctions {
                    out.collect(HotAuction::new(
                        auction,
                        hottest.bids,
                        end - hottest.size_ms,
                        *end,
                    ));
                }
            },
        )
        .name("hot auctions")
}

/// The auctions with the most bids so far, all of them when several have as many.
#[derive(Debug, Clone, Default)]
struct Hottest {
    bids: u64,
    auctions: Vec<u64>,
    size_ms: i64,
}

plain_value!(Hottest {
    bids,
    auctions,
    size_ms
});

#[derive(Debug, Clone, Copy)]
struct MostBids;

impl MostBids {
    fn offer(hottest: &mut Hottest, bids: u64, auctions: &[u64]) {
        if bids > hottest.bids {
            hottest.bids = bids;
            hottest.auctions.clear();
        }
        if bids == hottest.bids {
            hottest.auctions.extend_from_slice(auctions);
        }
    }
}

impl AggregateFunction<WindowResult<u64, u64>> for MostBids {
    type Accumulator = Hottest;
    type Output = Hottest;

    fn create_accumulator(&self) -> Hottest {
        Hottest::default()
    }

    fn add(&self, count: Row<'_, WindowResult<u64, u64>>, hottest: &mut Hottest) {
        hottest.size_ms = count.window().end() - count.window().start();
        Self::offer(hottest, *count.value(), &[*count.key()]);
    }

    fn merge(&self, into: &mut Hottest, other: &Hottest) {
        into.size_ms = into.size_ms.max(other.size_ms);
        Self::offer(into, other.bids, &other.auctions);
    }

    fn result(&self, hottest: Hottest) -> Hottest {
        hottest
    }
}

/// The bids of the highest price so far, all of them when several are as high.
#[derive(Debug, Clone, Default)]
struct Highest {
    price: u64,
    bids: Vec<HighBid>,
}

/// A bid as q7 writes it, without its price: auction, bidder, time, filler.
type HighBid = (u64, u64, i64, String);

plain_value!(Highest { price, bids });

impl Highest {
    fn offer(&mut self, price: u64, bid: impl FnOnce() -> HighBid) {
        if price > self.price || self.bids.is_empty() {
            self.price = price;
            self.bids.clear();
        }
        if price == self.price {
            self.bids.push(bid());
        }
    }

    fn collect(self, out: &mut Collector<'_, HighestBid<'static>>) {
        for (auction, bidder, date_time, extra) in self.bids {
            out.collect_table(|builder| {
                let args = HighestBidArgs {
                    auction,
                    bidder,
                    price: self.price,
                    date_time,
                    extra: Some(builder.create_string(&extra)),
                };
                HighestBid::create(builder, &args)
            });
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct MaxPrice;

impl MaxPrice {
    fn merge_into(into: &mut Highest, other: &Highest) {
        for bid in &other.bids {
            into.offer(other.price, || bid.clone());
        }
    }
}

impl AggregateFunction<Event<'static>> for MaxPrice {
    type Accumulator = Highest;
    type Output = Highest;

    fn create_accumulator(&self) -> Highest {
        Highest::default()
    }

    fn add(&self, event: Row<'_, Event<'static>>, highest: &mut Highest) {
        if let Some(bid) = event.body_as_bid() {
            highest.offer(bid.price(), || {
                (
                    bid.auction(),
                    bid.bidder(),
                    bid.date_time(),
                    bid.extra().to_owned(),
                )
            });
        }
    }

    fn merge(&self, into: &mut Highest, other: &Highest) {
        Self::merge_into(into, other);
    }

    fn result(&self, highest: Highest) -> Highest {
        highest
    }
}

impl AggregateFunction<HighestBid<'static>> for MaxPrice {
    type Accumulator = Highest;
    type Output = Highest;

    fn create_accumulator(&self) -> Highest {
        Highest::default()
    }

    fn add(&self, bid: Row<'_, HighestBid<'static>>, highest: &mut Highest) {
        highest.offer(bid.price(), || {
            (
                bid.auction(),
                bid.bidder(),
                bid.date_time(),
                bid.extra().to_owned(),
            )
        });
    }

    fn merge(&self, into: &mut Highest, other: &Highest) {
        Self::merge_into(into, other);
    }

    fn result(&self, highest: Highest) -> Highest {
        highest
    }
}

/// q7: the highest bids of each ten seconds. First among the bids of each few auctions, wherever those are counted, then among
/// what comes of that.
pub(super) fn highest_bids(bids: DataStream<Event<'static>>) -> DataStream<HighestBid<'static>> {
    let size = Duration::from_secs(10);
    bids.key_by(|event| event.body_as_bid().map_or(0, |bid| bid.auction() % 64))
        .window(TumblingEventTimeWindows::of(size))
        .aggregate_then(
            MaxPrice,
            |_key: &u64,
             highest: Highest,
             _window,
             out: &mut Collector<'_, HighestBid<'static>>| {
                highest.collect(out);
            },
        )
        .name("highest bids of some auctions")
        .key_by(|bid| bid.date_time().div_euclid(10_000))
        .window(TumblingEventTimeWindows::of(size))
        .aggregate_then(
            MaxPrice,
            |_key: &i64,
             highest: Highest,
             _window,
             out: &mut Collector<'_, HighestBid<'static>>| {
                highest.collect(out);
            },
        )
        .name("highest bids")
}

/// A row of q11 and q12.
fn bidder_window(
    bidder: &u64,
    count: u64,
    window: TimeWindow,
    out: &mut Collector<'_, BidderWindow>,
) {
    out.collect(BidderWindow::new(
        *bidder,
        count,
        window.start(),
        window.end(),
    ));
}

/// q11: how many bids a bidder made in each session, which ends with ten seconds without a bid.
pub(super) fn bids_per_session(bids: DataStream<Event<'static>>) -> DataStream<BidderWindow> {
    facts(bids)
        .key_by(|bid| bid.bidder())
        .window(EventTimeSessionWindows::with_gap(Duration::from_secs(10)))
        .aggregate_then(Count, bidder_window)
        .name("bids per session")
}

/// q12: how many bids a bidder made in each ten seconds of the wall clock.
pub(super) fn bids_per_processing_time(
    bids: DataStream<Event<'static>>,
) -> DataStream<BidderWindow> {
    facts(bids)
        .key_by(|bid| bid.bidder())
        .window(TumblingProcessingTimeWindows::of(Duration::from_secs(10)))
        .aggregate_then(Count, bidder_window)
        .name("bids per ten seconds")
}
