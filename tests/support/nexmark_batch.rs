//! What Nexmark's q0, q1, q2 and q5 must answer, worked out the plain way over all events at once.
//!
//! Owns: the expected rows as lines of text, and their digest for outputs too large to keep.
//! Invariant: nothing here comes from the engine or from the code that renders its rows; only the
//! generator's plain events are shared. Rows are a multiset: order means nothing.
//! Left out: watermarks and lateness. Every event counts, and windows still open at the end of the
//! stream are answered like the others, as the end of input closes them.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each suite includes this file as a module of its own and uses a part of it"
)]

use std::collections::{BTreeMap, HashMap};

use ringflow::nexmark::{Bid, Event, NexmarkConfig, generate};

/// q5's windows: HOP of 10 s every 2 s, aligned to the epoch.
const WINDOW_MS: i64 = 10_000;
const HOP_MS: i64 = 2_000;

/// A query that this file can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// The bids.
    Q0,
    /// The bids, price * 0.908.
    Q1,
    /// Auction and price of bids for every 123rd auction.
    Q2,
    /// Per window the auctions with the most bids.
    Q5,
}

/// Events 0..`count`.
pub fn first_events(config: NexmarkConfig, count: u64) -> impl Iterator<Item = Event> {
    (0..count).map(move |n| generate(&config, n))
}

/// The rows of `query` over `events`, one line each without line break, in no particular order.
pub fn lines(query: Query, events: impl IntoIterator<Item = Event>) -> Vec<String> {
    let mut lines = Vec::new();
    each_line(query, events, |line| lines.push(line.to_owned()));
    lines
}

/// The digest of the rows of `query` over `events`.
pub fn digest(query: Query, events: impl IntoIterator<Item = Event>) -> Digest {
    let mut digest = Digest::default();
    each_line(query, events, |line| digest.add(line));
    digest
}

/// Calls `emit` with each row of `query` over `events`.
///
/// Memory: none for q0, q1 and q2; for q5 a count per window and auction bid for in it.
pub fn each_line(
    query: Query,
    events: impl IntoIterator<Item = Event>,
    mut emit: impl FnMut(&str),
) {
    let bids = events.into_iter().filter_map(|event| match event {
        Event::Bid(bid) => Some(bid),
        Event::Person(_) | Event::Auction(_) => None,
    });
    match query {
        Query::Q0 => bids.for_each(|bid| emit(&q0_line(&bid))),
        Query::Q1 => bids.for_each(|bid| emit(&q1_line(&bid))),
        Query::Q2 => bids
            .filter(|bid| bid.auction % 123 == 0)
            .for_each(|bid| emit(&q2_line(&bid))),
        Query::Q5 => q5(bids, emit),
    }
}

/// A multiset of lines in sixteen bytes, to compare outputs of any size in any order.
///
/// `sum` adds, modulo 2^64, one hash per line: FNV-1a 64 over the line's bytes (without line break;
/// offset basis 0xCBF29CE484222325, prime 0x100000001B3), then splitmix64's finaliser on it:
/// z ^= z >> 30; z *= 0xBF58476D1CE4E5B9; z ^= z >> 27; z *= 0x94D049BB133111EB; z ^= z >> 31.
/// The finaliser is there because sums of bare FNV values of similar lines are not far apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// How many lines.
    pub rows: u64,
    /// Wrapping sum of the lines' hashes.
    pub sum: u64,
}

impl Digest {
    /// Adds one line.
    pub fn add(&mut self, line: &str) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(line_hash(line));
    }

    /// Adds what another digest holds, as if its lines had been added here.
    pub fn merge(&mut self, other: Digest) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// The digest of `lines`, none of them with a line break.
    pub fn of<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) -> Self {
        let mut digest = Self::default();
        for line in lines {
            digest.add(line.as_ref());
        }
        digest
    }
}

fn line_hash(line: &str) -> u64 {
    let mut z = 0xCBF2_9CE4_8422_2325_u64;
    for byte in line.bytes() {
        z = (z ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    }
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn q0_line(bid: &Bid) -> String {
    format!(
        r#"{{"auction":{},"bidder":{},"price":{},"channel":{},"url":{},"dateTime":{},"extra":{}}}"#,
        bid.auction,
        bid.bidder,
        bid.price,
        quoted(&bid.channel),
        quoted(&bid.url),
        bid.date_time,
        quoted(&bid.extra)
    )
}

fn q1_line(bid: &Bid) -> String {
    let thousandths = bid.price * 908;
    format!(
        r#"{{"auction":{},"bidder":{},"price":{}.{:03},"dateTime":{},"extra":{}}}"#,
        bid.auction,
        bid.bidder,
        thousandths / 1000,
        thousandths % 1000,
        bid.date_time,
        quoted(&bid.extra)
    )
}

fn q2_line(bid: &Bid) -> String {
    format!(r#"{{"auction":{},"price":{}}}"#, bid.auction, bid.price)
}

fn q5(bids: impl Iterator<Item = Bid>, mut emit: impl FnMut(&str)) {
    let mut windows: BTreeMap<i64, HashMap<u64, u64>> = BTreeMap::new();
    for bid in bids {
        let newest_start = bid.date_time - bid.date_time.rem_euclid(HOP_MS);
        for back in 0..WINDOW_MS / HOP_MS {
            let counts = windows.entry(newest_start - back * HOP_MS).or_default();
            *counts.entry(bid.auction).or_default() += 1;
        }
    }
    for (start, counts) in windows {
        let most = counts.values().copied().max().unwrap_or_default();
        for (auction, _) in counts.iter().filter(|(_, count)| **count == most) {
            let end = start + WINDOW_MS;
            emit(&format!(
                r#"{{"auction":{auction},"num":{most},"windowStart":{start},"windowEnd":{end}}}"#
            ));
        }
    }
}

/// A JSON string, escaped by serde_json.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bid(auction: u64, price: u64, date_time: i64) -> Event {
        Event::Bid(Bid {
            auction,
            bidder: 1001,
            price,
            channel: "Apple \"A\"".to_owned(),
            url: "https://a/b".to_owned(),
            date_time,
            extra: "x\\y".to_owned(),
        })
    }

    fn sorted(query: Query, events: Vec<Event>) -> Vec<String> {
        let mut lines = lines(query, events);
        lines.sort();
        lines
    }

    #[test]
    fn q0_and_q1_answer_every_bid() {
        assert_eq!(
            sorted(Query::Q0, vec![bid(1100, 1234, 77)]),
            [
                r#"{"auction":1100,"bidder":1001,"price":1234,"channel":"Apple \"A\"","url":"https://a/b","dateTime":77,"extra":"x\\y"}"#
            ]
        );
        // 1234 * 0.908 = 1120.472, 1 * 0.908 = 0.908, 1000 * 0.908 = 908.000
        let prices: Vec<String> = [1234, 1, 1000]
            .map(|price| lines(Query::Q1, [bid(1100, price, 77)]).remove(0))
            .into();
        assert_eq!(
            prices,
            ["1120.472", "0.908", "908.000"].map(|price| format!(
                r#"{{"auction":1100,"bidder":1001,"price":{price},"dateTime":77,"extra":"x\\y"}}"#
            ))
        );
    }

    #[test]
    fn q2_keeps_multiples_of_123_and_repeated_rows() {
        let events = vec![
            bid(1106, 5, 0),
            bid(1107, 6, 0),
            bid(1230, 7, 0),
            bid(1107, 6, 9),
        ];
        assert_eq!(
            sorted(Query::Q2, events),
            [
                r#"{"auction":1107,"price":6}"#,
                r#"{"auction":1107,"price":6}"#,
                r#"{"auction":1230,"price":7}"#
            ]
        );
    }

    #[test]
    fn q5_answers_ties_and_every_window_with_a_bid() {
        // Windows begin at every even second. The bid at 1 999 is in those from -8 000 to 0, the
        // one at 2 000 in those from -6 000 to 2 000, the one at 12 000 in those from 4 000.
        let events = vec![bid(1, 5, 1_999), bid(2, 5, 2_000), bid(2, 5, 12_000)];
        let row = |auction, num, start| {
            format!(
                r#"{{"auction":{auction},"num":{num},"windowStart":{start},"windowEnd":{}}}"#,
                start + 10_000
            )
        };
        let mut expected = vec![
            row(1, 1, -8_000),
            row(1, 1, -6_000),
            row(2, 1, -6_000),
            row(1, 1, -4_000),
            row(2, 1, -4_000),
            row(1, 1, -2_000),
            row(2, 1, -2_000),
            row(1, 1, 0),
            row(2, 1, 0),
            row(2, 1, 2_000),
            row(2, 1, 4_000),
            row(2, 1, 6_000),
            row(2, 1, 8_000),
            row(2, 1, 10_000),
            row(2, 1, 12_000),
        ];
        expected.sort();
        assert_eq!(sorted(Query::Q5, events), expected);
    }

    #[test]
    fn q5_counts_per_auction() {
        let events = vec![bid(1, 5, 0), bid(2, 5, 1), bid(1, 5, 2), bid(3, 5, 3)];
        let rows = sorted(Query::Q5, events);
        assert_eq!(rows.len(), 5);
        assert!(
            rows.iter()
                .all(|row| row.starts_with(r#"{"auction":1,"num":2,"#))
        );
    }

    #[test]
    fn a_digest_does_not_see_order_but_counts_repeats() {
        let forwards = Digest::of(["a", "b", "b"]);
        assert_eq!(forwards, Digest::of(["b", "a", "b"]));
        assert_ne!(forwards, Digest::of(["a", "b"]));
        assert_ne!(forwards, Digest::of(["a", "a", "b"]));
        let mut merged = Digest::of(["b"]);
        merged.merge(Digest::of(["a", "b"]));
        assert_eq!(forwards, merged);
        // Worked out with another program from the description above.
        assert_eq!(Digest::of([""]).sum, 0xF52A_15E9_A9B5_E89B);
        assert_eq!(Digest::of(["ringflow"]).sum, 0xD097_B64D_EDBA_B634);
    }

    #[test]
    fn both_roads_agree_on_the_real_stream() {
        let config = NexmarkConfig::default();
        for query in [Query::Q0, Query::Q1, Query::Q2, Query::Q5] {
            let lines = lines(query, first_events(config, 20_000));
            assert!(!lines.is_empty());
            assert_eq!(
                Digest::of(&lines),
                digest(query, first_events(config, 20_000))
            );
        }
    }
}
