//! Queries over windows.
//!
//! Owns: q5. Invariant: rows are those of the public suite's SQL.

use std::time::Duration;

use crate::nexmark::schema::{Event, HotAuction};
use crate::prelude::*;

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
