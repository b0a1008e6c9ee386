//! What decides the stream: seed, rate and base time, and the arithmetic of kinds, times and ids.
//!
//! Invariant: everything here is integer arithmetic on the event number; nothing is random.
//! Left out: proportions and hot ratios as options. They are Nexmark's published ones, so that
//! figures can be compared.
//!
//! ```text
//! n mod 50:   0        1  2  3         4 .. 49
//!             person   three auctions  46 bids        (one cycle)
//! ```

/// Events of one cycle: 1 person, 3 auctions, 46 bids.
const CYCLE: u64 = 50;
/// Persons of one cycle.
pub(super) const PERSONS: u64 = 1;
/// Auctions of one cycle.
pub(super) const AUCTIONS: u64 = 3;
/// Identifiers of persons and of auctions count from here.
pub(super) const FIRST_ID: u64 = 1000;
/// The next identifiers, not made yet, may be referred to already: as if events had changed places.
pub(super) const ID_LEAD: u64 = 10;
/// Bids that miss the hot auction go to one of the last hundred, the newest, or a lead.
pub(super) const AUCTIONS_IN_FLIGHT: u64 = 100;
/// Bidders and sellers come from this many of the newest persons.
pub(super) const ACTIVE_PERSONS: u64 = 1000;
/// One auction, bidder and seller of a hundred is the hot one.
pub(super) const HOT_OF: u64 = 100;

/// Parameters of the stream. Equal parameters give equal events, on every machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NexmarkConfig {
    /// Varies everything random; ids, kinds and times do not depend on it.
    pub seed: u64,
    /// Events per second of event time, at least 1. How fast they are made is the caller's affair.
    pub events_per_second: u64,
    /// Event time of event 0, in milliseconds since the epoch.
    pub base_time_ms: i64,
}

impl Default for NexmarkConfig {
    /// Seed 0, 10 000 events per second from 2015-07-15T00:00:00Z, a whole number of windows.
    fn default() -> Self {
        Self {
            seed: 0,
            events_per_second: 10_000,
            base_time_ms: 1_436_918_400_000,
        }
    }
}

/// Event time of event `n` in milliseconds since the epoch: base + n / rate, rounded down.
///
/// Shape: `n` up to 1.8e16 (58 years at ten million events per second).
///
/// # Panics
/// When the rate is 0 or the time does not fit an `i64`.
pub fn event_time_ms(config: &NexmarkConfig, n: u64) -> i64 {
    let elapsed_ms = n * 1000 / config.events_per_second;
    config.base_time_ms + i64::try_from(elapsed_ms).expect("event numbers end below 1.8e16")
}

/// The three kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A new person: a possible bidder and seller.
    Person,
    /// A new auction.
    Auction,
    /// A bid.
    Bid,
}

impl EventKind {
    /// The kind of event `n`.
    pub fn of(n: u64) -> Self {
        match n % CYCLE {
            0 => Self::Person,
            1..=3 => Self::Auction,
            _ => Self::Bid,
        }
    }
}

/// Rank (from 0) of the newest person when event `n` happens; event `n` itself counts.
pub(super) fn newest_person(n: u64) -> u64 {
    n / CYCLE * PERSONS
}

/// Rank (from 0) of the newest auction when event `n` happens; event `n` itself counts.
/// Asked only for auctions and bids: before event 1 there is none.
pub(super) fn newest_auction(n: u64) -> u64 {
    debug_assert!(EventKind::of(n) != EventKind::Person);
    n / CYCLE * AUCTIONS + (n % CYCLE - PERSONS).min(AUCTIONS - 1)
}

/// Events in which as many auctions are made as are in flight: 1 666.
pub(super) const EVENTS_IN_FLIGHT: u64 = AUCTIONS_IN_FLIGHT * CYCLE / AUCTIONS;
