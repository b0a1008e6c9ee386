//! The stream as a whole: shape, ranges, both roads, and that it stays the same.

use std::collections::HashSet;

use crate::nexmark::schema as wire;
use proptest::prelude::*;

use super::*;

fn bids(config: &NexmarkConfig, range: std::ops::Range<u64>) -> impl Iterator<Item = (u64, Bid)> {
    range.filter_map(|n| match generate(config, n) {
        Event::Bid(bid) => Some((n, bid)),
        _ => None,
    })
}

/// The owned form of a FlatBuffer, read through the verifier.
fn read(buffer: &[u8]) -> Event {
    let event = flatbuffers::root::<wire::Event<'_>>(buffer).unwrap();
    if let Some(person) = event.body_as_person() {
        Event::Person(Person {
            id: person.id(),
            name: person.name().to_owned(),
            email_address: person.email_address().to_owned(),
            credit_card: person.credit_card().to_owned(),
            city: person.city().to_owned(),
            state: person.state().to_owned(),
            date_time: person.date_time(),
            extra: person.extra().to_owned(),
        })
    } else if let Some(auction) = event.body_as_auction() {
        Event::Auction(Auction {
            id: auction.id(),
            item_name: auction.item_name().to_owned(),
            description: auction.description().to_owned(),
            initial_bid: auction.initial_bid(),
            reserve: auction.reserve(),
            date_time: auction.date_time(),
            expires: auction.expires(),
            seller: auction.seller(),
            category: auction.category(),
            extra: auction.extra().to_owned(),
        })
    } else {
        let bid = event.body_as_bid().unwrap();
        Event::Bid(Bid {
            auction: bid.auction(),
            bidder: bid.bidder(),
            price: bid.price(),
            channel: bid.channel().to_owned(),
            url: bid.url().to_owned(),
            date_time: bid.date_time(),
            extra: bid.extra().to_owned(),
        })
    }
}

proptest! {
    #[test]
    fn both_roads_agree_on_any_event(
        seed: u64,
        rate in 1_u64..10_000_000,
        first in 0_u64..1_000_000_000_000,
    ) {
        let config = NexmarkConfig { seed, events_per_second: rate, ..NexmarkConfig::default() };
        let mut writer = EventWriter::new(config);
        // A whole cycle, so that every kind comes and the buffer is used again.
        for n in first..first + 50 {
            prop_assert_eq!(read(writer.write(n)), generate(&config, n));
        }
    }

    /// The form of bids against the library: the same bytes, also where the library leaves a field out.
    #[test]
    fn bids_have_the_bytes_of_the_library(
        seed: u64,
        first in 0_u64..1_000_000_000_000,
        at_the_epoch: bool,
    ) {
        let mut config = NexmarkConfig { seed, events_per_second: 1_000, ..NexmarkConfig::default() };
        if at_the_epoch {
            // Some event of those below has the date 0.
            config.base_time_ms = -i64::try_from(first + 25).unwrap();
        }
        let mut writer = EventWriter::new(config);
        for n in (first..first + 50).filter(|n| EventKind::of(*n) == EventKind::Bid) {
            let Event::Bid(bid) = generate(&config, n) else { unreachable!() };
            let mut builder = flatbuffers::FlatBufferBuilder::new();
            generator::write_bid(&mut builder, &bid);
            prop_assert_eq!(writer.write(n), builder.finished_data());
        }
    }

    #[test]
    fn subtasks_share_the_numbers_out(parallelism in 1_u32..20, total in 0_u64..2000) {
        let mut all = Vec::new();
        for subtask in 0..parallelism {
            let own: Vec<u64> = numbers(subtask, parallelism, total).collect();
            prop_assert_eq!(own.len() as u64, numbers(subtask, parallelism, total).count_total());
            all.extend(own);
        }
        all.sort_unstable();
        prop_assert!(all.into_iter().eq(0..total));
    }
}

#[test]
fn numbers_go_on_after_a_seek() {
    let mut first = numbers(1, 3, 100);
    let begun: Vec<u64> = first.by_ref().take(5).collect();
    assert_eq!(begun, [1, 4, 7, 10, 13]);
    let mut second = numbers(1, 3, 100);
    second.seek(first.position());
    assert!(first.eq(second));
    let mut unbounded = numbers(2, 3, u64::MAX);
    unbounded.seek(u64::MAX / 3);
    assert_eq!(unbounded.next(), None);
}

/// FNV-1a over the lines of the first 10 000 events with seed 0. When it changes, the stream has
/// changed, and figures and answers from before it are not comparable any more.
#[test]
fn the_stream_is_the_same_as_ever() {
    let config = NexmarkConfig::default();
    let mut lines = Vec::new();
    for n in 0..10_000 {
        write_ndjson(&config, n, &mut lines).unwrap();
    }
    let hash = lines.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    assert_eq!(hash, 0x9EEA_1153_EA11_AA74, "{hash:#018X}");
}

/// The same over the bytes of the first 200 000 events as FlatBuffers.
#[test]
fn the_buffers_are_the_same_as_ever() {
    let mut writer = EventWriter::new(NexmarkConfig::default());
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for n in 0..200_000 {
        for &byte in writer.write(n) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }
    assert_eq!(hash, 0x3D52_B41C_8698_F825, "{hash:#018X}");
}

#[test]
fn any_event_can_be_made_alone_and_in_any_order() {
    let config = NexmarkConfig::default();
    let mut writer = EventWriter::new(config);
    let forwards: Vec<Vec<u8>> = (0..500).map(|n| writer.write(n).to_vec()).collect();
    for n in (0..500).rev() {
        let expected = &forwards[usize::try_from(n).unwrap()];
        assert_eq!(writer.write(n), expected);
        assert_eq!(EventWriter::new(config).write(n), expected);
    }
}

#[test]
fn the_seed_changes_what_is_random_and_nothing_else() {
    let one = NexmarkConfig::default();
    let two = NexmarkConfig { seed: 1, ..one };
    let mut equal_prices = 0;
    for ((_, a), (_, b)) in bids(&one, 0..10_000).zip(bids(&two, 0..10_000)) {
        assert_eq!(a.date_time, b.date_time);
        assert_ne!(a.extra, b.extra);
        equal_prices += u32::from(a.price == b.price);
    }
    assert!(equal_prices < 30, "{equal_prices}");
}

#[test]
fn one_person_three_auctions_forty_six_bids() {
    let config = NexmarkConfig::default();
    let (mut person_id, mut auction_id) = (1000, 1000);
    for n in 0..5000 {
        match (n % 50, generate(&config, n)) {
            (0, Event::Person(person)) => {
                assert_eq!(person.id, person_id);
                person_id += 1;
            }
            (1..=3, Event::Auction(auction)) => {
                assert_eq!(auction.id, auction_id);
                auction_id += 1;
            }
            (4..=49, Event::Bid(_)) => {}
            (_, other) => panic!("event {n} is {other:?}"),
        }
    }
}

#[test]
fn event_time_follows_the_rate() {
    let config = NexmarkConfig {
        events_per_second: 3,
        base_time_ms: 100,
        ..NexmarkConfig::default()
    };
    let times: Vec<i64> = (0..5).map(|n| event_time_ms(&config, n)).collect();
    assert_eq!(times, [100, 433, 766, 1100, 1433]);
    assert!((0..500).all(|n| generate(&config, n).date_time() == event_time_ms(&config, n)));
}

/// Auctions made when event `n` happens, from the positions alone.
fn auctions_made(n: u64) -> u64 {
    n / 50 * 3 + (n % 50).min(3)
}

#[test]
fn bids_go_to_the_hot_auction_or_to_one_in_flight() {
    let (mut hot, mut all) = (0_u32, 0_u32);
    for (n, bid) in bids(&NexmarkConfig::default(), 0..100_000) {
        let newest = 999 + auctions_made(n);
        let hot_auction = newest / 100 * 100;
        let in_flight = (newest - 100).max(1000)..=newest + 10;
        assert!(
            in_flight.contains(&bid.auction),
            "event {n}: {}",
            bid.auction
        );
        hot += u32::from(bid.auction == hot_auction);
        all += 1;
    }
    assert_eq!(all, 92_000);
    // A half, and one of 111 of the others by chance.
    let share = f64::from(hot) / f64::from(all);
    assert!((0.495..0.515).contains(&share), "{share}");
}

#[test]
fn bidders_and_sellers_are_hot_to_three_quarters_and_known() {
    let config = NexmarkConfig::default();
    let (mut hot_bidders, mut bidders, mut hot_sellers, mut sellers) = (0_u32, 0_u32, 0_u32, 0_u32);
    for n in 0..200_000_u64 {
        let newest = 1000 + n / 50;
        let active = (newest - 999).max(1000)..=newest + 10;
        match generate(&config, n) {
            Event::Bid(bid) => {
                assert!(active.contains(&bid.bidder), "event {n}: {}", bid.bidder);
                hot_bidders += u32::from(bid.bidder == newest / 100 * 100 + 1);
                bidders += 1;
            }
            Event::Auction(auction) => {
                assert!(active.contains(&auction.seller));
                assert!((10..15).contains(&auction.category));
                assert!(auction.expires > auction.date_time);
                assert!(auction.expires <= auction.date_time + 2 * 167);
                assert!(auction.reserve >= auction.initial_bid + 100);
                hot_sellers += u32::from(auction.seller == newest / 100 * 100);
                sellers += 1;
            }
            Event::Person(_) => {}
        }
    }
    for share in [
        f64::from(hot_bidders) / f64::from(bidders),
        f64::from(hot_sellers) / f64::from(sellers),
    ] {
        assert!((0.735..0.77).contains(&share), "{share}");
    }
}

#[test]
fn prices_are_spread_over_six_decades() {
    let mut decades = [0_u32; 6];
    let mut all = 0_u32;
    for (_, bid) in bids(&NexmarkConfig::default(), 0..100_000) {
        assert!((100..=100_000_000).contains(&bid.price), "{}", bid.price);
        decades[usize::try_from(bid.price.ilog10()).unwrap().min(7) - 2] += 1;
        all += 1;
    }
    for count in decades {
        let share = f64::from(count) / f64::from(all);
        assert!((0.16..0.174).contains(&share), "{decades:?}");
    }
}

#[test]
fn channels_and_urls_are_as_in_nexmark() {
    let hot_names = HashSet::from(["Google", "Facebook", "Baidu", "Apple"]);
    let (mut hot, mut all, mut with_id) = (0_u32, 0_u32, 0_u32);
    let mut urls = std::collections::HashMap::new();
    for (_, bid) in bids(&NexmarkConfig::default(), 0..100_000) {
        let path = bid.url.strip_prefix("https://www.nexmark.com/").unwrap();
        let parts: Vec<&str> = path.split('/').collect();
        assert_eq!(parts.len(), 4);
        assert!(parts[3].starts_with("item.htm?query=1"), "{}", bid.url);
        if hot_names.contains(bid.channel.as_str()) {
            hot += 1;
            assert!(!bid.url.contains("channel_id"));
        } else {
            let number: u32 = bid
                .channel
                .strip_prefix("channel-")
                .unwrap()
                .parse()
                .unwrap();
            assert!(number < 10_000);
            if let Some((_, id)) = bid.url.split_once("&channel_id=") {
                let reversed = number.reverse_bits();
                assert!([reversed, reversed.wrapping_neg()].contains(&id.parse().unwrap()));
                with_id += 1;
            }
        }
        all += 1;
        let url = urls
            .entry(bid.channel.clone())
            .or_insert_with(|| bid.url.clone());
        assert_eq!(*url, bid.url, "{} has two urls", bid.channel);
    }
    let share = f64::from(hot) / f64::from(all);
    assert!((0.49..0.51).contains(&share), "{share}");
    let share = f64::from(with_id) / f64::from(all - hot);
    assert!((0.88..0.92).contains(&share), "{share}");
    assert!(urls.len() > 9_800, "{}", urls.len());
}

#[test]
fn sizes_are_two_hundred_five_hundred_one_hundred() {
    let config = NexmarkConfig::default();
    let (mut bytes, mut counts) = ([0_usize; 3], [0_usize; 3]);
    for n in 0..100_000 {
        let (kind, size) = match generate(&config, n) {
            Event::Person(p) => {
                let texts = p.name.len() + p.email_address.len() + p.credit_card.len();
                (0, 8 + texts + p.city.len() + p.state.len() + p.extra.len())
            }
            Event::Auction(a) => (
                1,
                48 + a.item_name.len() + a.description.len() + a.extra.len(),
            ),
            Event::Bid(b) => (2, 32 + b.extra.len()),
        };
        bytes[kind] += size;
        counts[kind] += 1;
    }
    for (kind, average) in [200, 500, 100].into_iter().enumerate() {
        let mean = bytes[kind] as f64 / counts[kind] as f64;
        assert!((mean - f64::from(average)).abs() < 1.5, "{kind}: {mean}");
    }
}

#[test]
fn json_lines_have_every_field_in_order() {
    let config = NexmarkConfig::default();
    let fields = |n| {
        let mut line = Vec::new();
        write_ndjson(&config, n, &mut line).unwrap();
        assert_eq!(line.pop(), Some(b'\n'));
        let line = String::from_utf8(line).unwrap();
        serde_json::from_str::<serde_json::Value>(&line).unwrap();
        // No text of the generator holds a quote: names are what stands between `"` and `":`.
        let names: Vec<String> = line
            .split("\":")
            .filter_map(|part| part.rsplit_once('"'))
            .map(|(_, name)| name.to_owned())
            .collect();
        names[..names.len() - 1].join(" ")
    };
    assert_eq!(
        fields(50),
        "event_type id name emailAddress creditCard city state dateTime extra"
    );
    assert_eq!(
        fields(51),
        "event_type id itemName description initialBid reserve dateTime expires seller category extra"
    );
    assert_eq!(
        fields(54),
        "event_type auction bidder price channel url dateTime extra"
    );
}

#[test]
fn json_and_values_say_the_same() {
    let config = NexmarkConfig::default();
    for n in 0..500 {
        let event = generate(&config, n);
        let mut line = Vec::new();
        event.append_json(&mut line);
        let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(json["dateTime"], event.date_time());
        match event {
            Event::Person(person) => {
                assert_eq!(json["event_type"], "person");
                assert_eq!(json["creditCard"], person.credit_card);
                assert_eq!(json["emailAddress"], person.email_address);
            }
            Event::Auction(auction) => {
                assert_eq!(json["event_type"], "auction");
                assert_eq!(json["initialBid"], auction.initial_bid);
                assert_eq!(json["expires"], auction.expires);
            }
            Event::Bid(bid) => {
                assert_eq!(json["event_type"], "bid");
                assert_eq!(json["url"], bid.url);
                assert_eq!(json["extra"], bid.extra);
            }
        }
    }
}
