//! Queries that keep a report up to date: per day, per channel and day, per auction and day.
//!
//! Owns: q15, q16. Invariant: rows are a changelog: the first of a key is an insertion, each later bid replaces its report.
//! Left out: mini-batches: every bid updates its report at once.

use ringflow_dataplane::error::Result as DataResult;

use crate::nexmark::schema::{
    BidCounts, BidFacts, ChannelReport, ChannelReportArgs, DayReport, DayReportArgs, Event,
};
use crate::prelude::*;

use super::calendar::{clock, date_of, day, minute_of_day};

/// Which of the three price ranges a price is in, from 0.
pub(super) const fn rank_of(price: u64) -> usize {
    match price {
        0..10_000 => 0,
        10_000..1_000_000 => 1,
        _ => 2,
    }
}

/// What is looked at of bids.
pub(super) fn facts(bids: DataStream<Event<'static>>) -> DataStream<BidFacts> {
    bids.map(|event| {
        let bid = event.body_as_bid();
        let facts =
            bid.map(|bid| BidFacts::new(bid.auction(), bid.bidder(), bid.price(), bid.date_time()));
        facts.unwrap_or_default()
    })
    .name("facts")
}

/// Counts in all, and by price range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ranked {
    total: u64,
    ranks: [u64; 3],
}

/// Counts of bids, distinct bidders and distinct auctions, and the last minute of the day with a bid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    bids: Ranked,
    bidders: Ranked,
    auctions: Ranked,
    minute: i64,
}

plain_value!(Ranked { total, ranks });
plain_value!(Counts {
    bids,
    bidders,
    auctions,
    minute
});

impl Ranked {
    /// Somebody is seen with a bid of range `rank`; `mask` is where they were seen before: a bit for each range.
    fn see(&mut self, mask: &mut u8, rank: usize) {
        self.total += u64::from(*mask == 0);
        self.ranks[rank] += u64::from(*mask & 1 << rank == 0);
        *mask |= 1 << rank;
    }
}

impl Counts {
    fn row(&self) -> BidCounts {
        let Self {
            bids,
            bidders,
            auctions,
            ..
        } = self;
        BidCounts::new(
            bids.total,
            bids.ranks[0],
            bids.ranks[1],
            bids.ranks[2],
            bidders.total,
            bidders.ranks[0],
            bidders.ranks[1],
            bidders.ranks[2],
            auctions.total,
            auctions.ranks[0],
            auctions.ranks[1],
            auctions.ranks[2],
        )
    }
}

/// The state of a report: counts, and who was seen in which price ranges.
#[derive(Debug, Clone, Default)]
struct Report {
    counts: ValueState<Counts>,
    bidders: MapState<u64, u8>,
    auctions: MapState<u64, u8>,
}

impl Report {
    fn open(&mut self, context: &mut RuntimeContext<'_>) -> DataResult<()> {
        self.counts = context.get_state(&ValueStateDescriptor::new("counts"))?;
        self.bidders = context.get_map_state(&MapStateDescriptor::new("bidders"))?;
        self.auctions = context.get_map_state(&MapStateDescriptor::new("auctions"))?;
        Ok(())
    }

    /// Takes one bid in; the counts before it, if there are any, and after it.
    fn take<K>(
        &mut self,
        bid: BidFacts,
        context: &mut KeyedContext<'_, K>,
    ) -> DataResult<(Option<Counts>, Counts)> {
        let rank = rank_of(bid.price());
        let before = self.counts.value(context.state())?;
        let mut after = before.unwrap_or_default();
        after.bids.total += 1;
        after.bids.ranks[rank] += 1;
        after.minute = after.minute.max(minute_of_day(bid.date_time()));
        let seen = |counts: &mut Ranked,
                    state: MapState<u64, u8>,
                    id,
                    context: &mut KeyedContext<'_, K>| {
            state.modify(context.state(), &id, |mask| {
                let mut mask = mask.unwrap_or(0);
                counts.see(&mut mask, rank);
                Some(mask)
            })
        };
        seen(&mut after.bidders, self.bidders, bid.bidder(), context)?;
        seen(&mut after.auctions, self.auctions, bid.auction(), context)?;
        self.counts.update(context.state(), &after)?;
        Ok((before, after))
    }
}

/// Emits the change from one report to the next.
fn replace<O: Record>(
    (before, after): (Option<Counts>, Counts),
    out: &mut Collector<'_, O>,
    write: impl Fn(&Counts, &mut Collector<'_, O>),
) {
    match before {
        None => out.set_row_kind(RowKind::Insert),
        Some(before) => {
            out.set_row_kind(RowKind::UpdateBefore);
            write(&before, out);
            out.set_row_kind(RowKind::UpdateAfter);
        }
    }
    write(&after, out);
}

/// q15.
#[derive(Debug, Clone, Default)]
struct Daily(Report);

impl KeyedProcessFunction<i64, BidFacts, DayReport<'static>> for Daily {
    fn open(&mut self, context: &mut RuntimeContext<'_>) -> DataResult<()> {
        self.0.open(context)
    }

    fn process_element(
        &mut self,
        bid: Row<'_, BidFacts>,
        context: &mut KeyedContext<'_, i64>,
        out: &mut Collector<'_, DayReport<'static>>,
    ) -> DataResult<()> {
        let change = self.0.take(*bid, context)?;
        let day = date_of(*context.current_key());
        replace(change, out, |counts, out| {
            out.collect_table(|builder| {
                let args = DayReportArgs {
                    day: Some(builder.create_string(&day)),
                    counts: Some(&counts.row()),
                };
                DayReport::create(builder, &args)
            });
        });
        Ok(())
    }
}

/// q15: what happened on each day.
pub(super) fn daily_report(bids: DataStream<Event<'static>>) -> DataStream<DayReport<'static>> {
    facts(bids)
        .key_by(|bid| day(bid.date_time()))
        .process(Daily::default())
        .name("report of the day")
}

/// q16.
#[derive(Debug, Clone, Default)]
struct ByChannel(Report);

type ChannelAndDay = (String, i64);

impl KeyedProcessFunction<ChannelAndDay, Event<'static>, ChannelReport<'static>> for ByChannel {
    fn open(&mut self, context: &mut RuntimeContext<'_>) -> DataResult<()> {
        self.0.open(context)
    }

    fn process_element(
        &mut self,
        event: Row<'_, Event<'static>>,
        context: &mut KeyedContext<'_, ChannelAndDay>,
        out: &mut Collector<'_, ChannelReport<'static>>,
    ) -> DataResult<()> {
        let Some(bid) = event.body_as_bid() else {
            return Ok(());
        };
        let bid = BidFacts::new(bid.auction(), bid.bidder(), bid.price(), bid.date_time());
        let change = self.0.take(bid, context)?;
        let (channel, day) = context.current_key();
        let day = date_of(*day);
        replace(change, out, |counts, out| {
            let minute = clock(counts.minute);
            out.collect_table(|builder| {
                let args = ChannelReportArgs {
                    channel: Some(builder.create_string(channel)),
                    day: Some(builder.create_string(&day)),
                    minute: Some(builder.create_string(&minute)),
                    counts: Some(&counts.row()),
                };
                ChannelReport::create(builder, &args)
            });
        });
        Ok(())
    }
}

/// q16: what happened on each day in each channel.
pub(super) fn channel_report(
    bids: DataStream<Event<'static>>,
) -> DataStream<ChannelReport<'static>> {
    bids.key_by(|event| {
        event.body_as_bid().map_or_else(
            || (String::new(), 0),
            |bid| (bid.channel().to_owned(), day(bid.date_time())),
        )
    })
    .process(ByChannel::default())
    .name("report of channel and day")
}
