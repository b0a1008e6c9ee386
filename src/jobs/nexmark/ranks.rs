//! Queries that keep the last or the best bids of a key, or sums of them.
//!
//! Owns: q17, q18, q19. Invariant: rows are changelogs.

use std::cmp::Reverse;

use crate::nexmark::schema::{
    AuctionReport, AuctionReportArgs, BidFacts, Event, RankedBid, RankedBidArgs,
};
use crate::prelude::*;

use super::calendar::{date_of, day};
use super::reports::{facts, rank_of};

/// What was bid on an auction on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Prices {
    ranks: [u64; 3],
    least: u64,
    greatest: u64,
    sum: u64,
}

plain_value!(Prices {
    ranks,
    least,
    greatest,
    sum
});

#[derive(Debug, Clone, Copy)]
struct PricesOfDay;

impl GroupAggregateFunction<BidFacts> for PricesOfDay {
    type Accumulator = Prices;
    type Output = Prices;

    fn create_accumulator(&self) -> Prices {
        Prices {
            ranks: [0; 3],
            least: u64::MAX,
            greatest: 0,
            sum: 0,
        }
    }

    fn accumulate(&self, bid: Row<'_, BidFacts>, prices: &mut Prices) {
        let price = bid.price();
        prices.ranks[rank_of(price)] += 1;
        prices.least = price.min(prices.least);
        prices.greatest = price.max(prices.greatest);
        prices.sum = prices.sum.saturating_add(price);
    }

    fn result(&self, prices: &Prices) -> Prices {
        *prices
    }
}

/// q17: per auction and day, how many bids there were, and of what prices.
pub(super) fn auction_reports(
    bids: DataStream<Event<'static>>,
) -> DataStream<AuctionReport<'static>> {
    let emit = |(auction, day): &(u64, i64),
                prices: &Prices,
                out: &mut Collector<'_, AuctionReport<'static>>| {
        let total_bids = prices.ranks.iter().sum::<u64>();
        out.collect_table(|builder| {
            let args = AuctionReportArgs {
                auction: *auction,
                day: Some(builder.create_string(&date_of(*day))),
                total_bids,
                rank1_bids: prices.ranks[0],
                rank2_bids: prices.ranks[1],
                rank3_bids: prices.ranks[2],
                min_price: prices.least,
                max_price: prices.greatest,
                avg_price: prices.sum / total_bids.max(1),
                sum_price: prices.sum,
            };
            AuctionReport::create(builder, &args)
        });
    };
    facts(bids)
        .key_by(|bid| (bid.auction(), day(bid.date_time())))
        .group_aggregate(PricesOfDay, emit)
        .name("report of auction and day")
}

/// q18: the last bid of each bidder for each auction.
pub(super) fn last_bids(bids: DataStream<Event<'static>>) -> DataStream<Event<'static>> {
    bids.key_by(|event| {
        let bid = event.body_as_bid();
        bid.map_or((0, 0), |bid| (bid.bidder(), bid.auction()))
    })
    .deduplicate(Deduplicate::keep_last().by_event_time())
    .name("last bids")
}

/// q19: the ten highest bids of each auction.
pub(super) fn top_bids(bids: DataStream<Event<'static>>) -> DataStream<RankedBid<'static>> {
    bids.key_by(|event| event.body_as_bid().map_or(0, |bid| bid.auction()))
        .top_n_with_rank(
            10,
            |event| Reverse(event.body_as_bid().map_or(0, |bid| bid.price())),
            |event, rank, out: &mut Collector<'_, RankedBid<'static>>| {
                let Some(bid) = event.body_as_bid() else {
                    return;
                };
                out.collect_table(|builder| {
                    let args = RankedBidArgs {
                        auction: bid.auction(),
                        bidder: bid.bidder(),
                        price: bid.price(),
                        channel: Some(builder.create_string(bid.channel())),
                        url: Some(builder.create_string(bid.url())),
                        date_time: bid.date_time(),
                        extra: Some(builder.create_string(bid.extra())),
                        rank_number: rank,
                    };
                    RankedBid::create(builder, &args)
                });
            },
        )
        .name("ten highest bids")
}
