//! Queries that look at one bid at a time.
//!
//! Owns: q1, q2, q10, q14, q21, q22. Invariant: rows are those of the public suite's SQL; days and hours are UTC.
//! Left out: q10's files ([`super::files`]): its rows go to any sink, with the partition they belong to.

use crate::nexmark::schema::{
    AuctionPrice, CalculatedBid, CalculatedBidArgs, ChannelBid, ChannelBidArgs, ConvertedBid,
    ConvertedBidArgs, DirectoryBid, DirectoryBidArgs, Event, FiledBid, FiledBidArgs,
};
use crate::prelude::*;

use super::calendar::{date, hour, minute};

/// q1: prices in another currency.
pub(super) fn convert_currency(
    bids: DataStream<Event<'static>>,
) -> DataStream<ConvertedBid<'static>> {
    let convert = |event: Row<'_, Event<'static>>,
                   out: &mut Collector<'_, ConvertedBid<'static>>| {
        let Some(bid) = event.body_as_bid() else {
            return;
        };
        out.collect_table(|builder| {
            let extra = Some(builder.create_string(bid.extra()));
            ConvertedBid::create(
                builder,
                &ConvertedBidArgs {
                    auction: bid.auction(),
                    bidder: bid.bidder(),
                    price_milli: bid.price().saturating_mul(908),
                    date_time: bid.date_time(),
                    extra,
                },
            )
        });
    };
    bids.flat_map(convert).name("currency")
}

/// q2: some auctions.
pub(super) fn select_auctions(bids: DataStream<Event<'static>>) -> DataStream<AuctionPrice> {
    bids.filter(|event| {
        event
            .body_as_bid()
            .is_some_and(|bid| bid.auction() % 123 == 0)
    })
    .name("selection")
    .map(|event| {
        event
            .body_as_bid()
            .map(|bid| AuctionPrice::new(bid.auction(), bid.price()))
            .unwrap_or_default()
    })
    .name("auction and price")
}

/// q10: bids and the partition (day and minute) that they are filed under.
pub(super) fn file_by_minute(bids: DataStream<Event<'static>>) -> DataStream<FiledBid<'static>> {
    let file = |event: Row<'_, Event<'static>>, out: &mut Collector<'_, FiledBid<'static>>| {
        let Some(bid) = event.body_as_bid() else {
            return;
        };
        out.collect_table(|builder| {
            let args = FiledBidArgs {
                auction: bid.auction(),
                bidder: bid.bidder(),
                price: bid.price(),
                date_time: bid.date_time(),
                extra: Some(builder.create_string(bid.extra())),
                dt: Some(builder.create_string(&date(bid.date_time()))),
                hm: Some(builder.create_string(&minute(bid.date_time()))),
            };
            FiledBid::create(builder, &args)
        });
    };
    bids.flat_map(file).name("partition by minute")
}

/// q14: bids of a price range, with the part of the day and the number of `c` in their filler.
pub(super) fn calculate(bids: DataStream<Event<'static>>) -> DataStream<CalculatedBid<'static>> {
    let calculate = |event: Row<'_, Event<'static>>,
                     out: &mut Collector<'_, CalculatedBid<'static>>| {
        let Some(bid) = event.body_as_bid() else {
            return;
        };
        let price_milli = bid.price().saturating_mul(908);
        if !(1_000_000_001..50_000_000_000).contains(&price_milli) {
            return;
        }
        let part = match hour(bid.date_time()) {
            8..=18 => "dayTime",
            0..=6 | 20.. => "nightTime",
            _ => "otherTime",
        };
        out.collect_table(|builder| {
            let args = CalculatedBidArgs {
                auction: bid.auction(),
                bidder: bid.bidder(),
                price_milli,
                bid_time_type: Some(builder.create_string(part)),
                date_time: bid.date_time(),
                extra: Some(builder.create_string(bid.extra())),
                c_counts: bid.extra().bytes().filter(|byte| *byte == b'c').count() as u64,
            };
            CalculatedBid::create(builder, &args)
        });
    };
    bids.flat_map(calculate).name("calculation")
}

/// The identifier of a bid's channel: that of a known channel, or the parameter `channel_id` of its url.
fn channel_id<'a>(channel: &str, url: &'a str) -> Option<&'a str> {
    const KNOWN: [(&str, &str); 4] = [
        ("apple", "0"),
        ("google", "1"),
        ("facebook", "2"),
        ("baidu", "3"),
    ];
    if let Some((_, id)) = KNOWN
        .iter()
        .find(|(known, _)| channel.eq_ignore_ascii_case(known))
    {
        return Some(id);
    }
    // The regular expression `(&|^)channel_id=([^&]*)`, second group.
    url.split('&')
        .find_map(|part| part.strip_prefix("channel_id="))
}

/// q21: bids and their channel's identifier; those without one are left out.
pub(super) fn channel_ids(bids: DataStream<Event<'static>>) -> DataStream<ChannelBid<'static>> {
    let identify = |event: Row<'_, Event<'static>>,
                    out: &mut Collector<'_, ChannelBid<'static>>| {
        let Some(bid) = event.body_as_bid() else {
            return;
        };
        let Some(id) = channel_id(bid.channel(), bid.url()) else {
            return;
        };
        out.collect_table(|builder| {
            let args = ChannelBidArgs {
                auction: bid.auction(),
                bidder: bid.bidder(),
                price: bid.price(),
                channel: Some(builder.create_string(bid.channel())),
                channel_id: Some(builder.create_string(id)),
            };
            ChannelBid::create(builder, &args)
        });
    };
    bids.flat_map(identify).name("channel id")
}

/// q22: bids and the three directories of their url.
pub(super) fn directories(bids: DataStream<Event<'static>>) -> DataStream<DirectoryBid<'static>> {
    let split = |event: Row<'_, Event<'static>>, out: &mut Collector<'_, DirectoryBid<'static>>| {
        let Some(bid) = event.body_as_bid() else {
            return;
        };
        // `https:`, nothing, and the host come first.
        let mut parts = bid.url().split('/').skip(3);
        let mut part = || parts.next().unwrap_or_default();
        let (dir1, dir2, dir3) = (part(), part(), part());
        out.collect_table(|builder| {
            let args = DirectoryBidArgs {
                auction: bid.auction(),
                bidder: bid.bidder(),
                price: bid.price(),
                channel: Some(builder.create_string(bid.channel())),
                dir1: Some(builder.create_string(dir1)),
                dir2: Some(builder.create_string(dir2)),
                dir3: Some(builder.create_string(dir3)),
            };
            DirectoryBid::create(builder, &args)
        });
    };
    bids.flat_map(split).name("directories")
}

#[cfg(test)]
mod tests {
    use super::channel_id;

    #[test]
    fn a_channel_is_known_by_name_or_by_its_url() {
        for (channel, url, id) in [
            ("Apple", "https://x/item.htm?query=1", Some("0")),
            (
                "Baidu",
                "https://x/item.htm?query=1&channel_id=7",
                Some("3"),
            ),
            (
                "channel-5",
                "https://x/item.htm?query=1&channel_id=77",
                Some("77"),
            ),
            ("channel-5", "channel_id=8&query=1", Some("8")),
            (
                "channel-5",
                "https://x/item.htm?query=1&channel_id=",
                Some(""),
            ),
            ("channel-5", "https://x/item.htm?my_channel_id=4", None),
            ("channel-5", "https://x/item.htm?query=1", None),
        ] {
            assert_eq!(channel_id(channel, url), id, "{channel} {url}");
        }
    }
}
