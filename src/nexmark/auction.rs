//! An auction, drawn; and the choice of a person for it, which bids share.
//!
//! Invariant: the seller exists, or is one of the next ten persons.

use super::config::{
    ACTIVE_PERSONS, EVENTS_IN_FLIGHT, FIRST_ID, HOT_OF, ID_LEAD, NexmarkConfig, event_time_ms,
    newest_auction, newest_person,
};
use super::rng::EventRng;
use super::text;

/// Bytes of an auction in the mean: six numbers of eight bytes, texts and filler.
const AVERAGE_BYTES: usize = 500;
/// Three of four auctions come from the hot seller.
const HOT_SELLER_RATIO: u64 = 4;
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;

/// An auction whose texts lie in the scratch.
#[derive(Debug)]
pub(super) struct AuctionDraft<'s> {
    pub(super) id: u64,
    pub(super) item_name: &'s str,
    pub(super) description: &'s str,
    pub(super) initial_bid: u64,
    pub(super) reserve: u64,
    pub(super) date_time: i64,
    pub(super) expires: i64,
    pub(super) seller: u64,
    pub(super) category: u64,
    pub(super) extra: &'s str,
}

/// Buffers for an auction's texts, reused.
#[derive(Debug, Default)]
pub(super) struct AuctionScratch {
    item_name: Vec<u8>,
    description: Vec<u8>,
    extra: Vec<u8>,
}

/// Draws auction `n`.
pub(super) fn draw<'s>(
    config: &NexmarkConfig,
    n: u64,
    scratch: &'s mut AuctionScratch,
) -> AuctionDraft<'s> {
    let rng = &mut EventRng::new(config.seed, n);
    let seller = if rng.is_hot(HOT_SELLER_RATIO) {
        newest_person(n) / HOT_OF * HOT_OF
    } else {
        active_person(n, rng)
    };
    let category = FIRST_CATEGORY + rng.below(CATEGORIES);
    let initial_bid = rng.price();
    let reserve = initial_bid + rng.price();
    let date_time = event_time_ms(config, n);
    let expires = date_time + 1 + duration_ms(config, n, rng);
    scratch.item_name.clear();
    text::words(&mut scratch.item_name, rng, 20);
    scratch.description.clear();
    text::words(&mut scratch.description, rng, 100);
    let size = 6 * 8 + scratch.item_name.len() + scratch.description.len();
    scratch.extra.clear();
    text::filler(&mut scratch.extra, rng, size, AVERAGE_BYTES);
    AuctionDraft {
        id: FIRST_ID + newest_auction(n),
        item_name: text::as_text(&scratch.item_name),
        description: text::as_text(&scratch.description),
        initial_bid,
        reserve,
        date_time,
        expires,
        seller: FIRST_ID + seller,
        category,
        extra: text::as_text(&scratch.extra),
    }
}

/// Up to twice the time in which a hundred further auctions are made, so that about a hundred are
/// open at any moment.
fn duration_ms(config: &NexmarkConfig, n: u64, rng: &mut EventRng) -> i64 {
    let horizon_ms = event_time_ms(config, n + EVENTS_IN_FLIGHT) - event_time_ms(config, n);
    let duration_ms = rng.below((2 * horizon_ms.unsigned_abs()).max(1));
    i64::try_from(duration_ms).expect("it is below twice a difference of two times")
}

/// Rank of one of the newest thousand persons, or of a person about to come.
pub(super) fn active_person(n: u64, rng: &mut EventRng) -> u64 {
    let persons = newest_person(n) + 1;
    let active = persons.min(ACTIVE_PERSONS);
    persons - active + rng.below(active + ID_LEAD)
}
