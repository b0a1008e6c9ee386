//! A bid, drawn: the hot path of the generator, 46 of 50 events.
//!
//! Invariant: the auction is one of the last hundred and one, or one of the next ten; hot bidders
//! and hot sellers are different persons (ranks ..01 and ..00). A channel's url is a function of the seed
//! and the channel.

use super::auction::active_person;
use super::config::{
    AUCTIONS_IN_FLIGHT, FIRST_ID, HOT_OF, ID_LEAD, NexmarkConfig, event_time_ms, newest_auction,
    newest_person,
};
use super::rng::EventRng;
use super::text;

/// Bytes of a bid in the mean as Nexmark counts them: four numbers of eight bytes and filler.
/// Channel and url (about 80 bytes) are not counted, or there would be no filler at all.
const AVERAGE_BYTES: usize = 100;
const COUNTED_BYTES: usize = 4 * 8;
/// One of two bids goes to the hot auction.
const HOT_AUCTION_RATIO: u64 = 2;
/// Three of four bids come from the hot bidder.
const HOT_BIDDER_RATIO: u64 = 4;
/// One of two bids comes through one of the four hot channels.
const HOT_CHANNEL_RATIO: u64 = 2;
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
/// The other channels, `channel-0` to `channel-9999`.
const COLD_CHANNELS: u64 = 10_000;
/// Nine of ten of them have an identifier in their url.
const CHANNEL_ID_RATIO: u64 = 10;

/// A bid whose texts lie in the scratch.
#[derive(Debug)]
pub(super) struct BidDraft<'s> {
    pub(super) auction: u64,
    pub(super) bidder: u64,
    pub(super) price: u64,
    pub(super) channel: &'s str,
    pub(super) url: &'s str,
    pub(super) date_time: i64,
    pub(super) extra: &'s str,
}

/// Buffers for a bid's texts, reused.
#[derive(Debug, Default)]
pub(super) struct BidScratch {
    channel: Vec<u8>,
    url: Vec<u8>,
    extra: Vec<u8>,
}

/// Draws bid `n`.
pub(super) fn draw<'s>(
    config: &NexmarkConfig,
    n: u64,
    scratch: &'s mut BidScratch,
) -> BidDraft<'s> {
    let rng = &mut EventRng::new(config.seed, n);
    let auction = draw_auction(n, rng);
    let bidder = draw_bidder(n, rng);
    let price = rng.price();
    let channel = Channel::draw(rng);
    scratch.channel.clear();
    channel.write_name(&mut scratch.channel);
    scratch.url.clear();
    channel.write_url(&mut scratch.url, config.seed);
    scratch.extra.clear();
    text::filler(&mut scratch.extra, rng, COUNTED_BYTES, AVERAGE_BYTES);
    BidDraft {
        auction: FIRST_ID + auction,
        bidder: FIRST_ID + bidder,
        price,
        channel: text::as_text(&scratch.channel),
        url: text::as_text(&scratch.url),
        date_time: event_time_ms(config, n),
        extra: text::as_text(&scratch.extra),
    }
}

/// Rank of the auction: the newest whose id is a multiple of a hundred, or any that is in flight.
fn draw_auction(n: u64, rng: &mut EventRng) -> u64 {
    let newest = newest_auction(n);
    if rng.is_hot(HOT_AUCTION_RATIO) {
        return newest / HOT_OF * HOT_OF;
    }
    let oldest = newest.saturating_sub(AUCTIONS_IN_FLIGHT);
    oldest + rng.below(newest - oldest + 1 + ID_LEAD)
}

/// Rank of the bidder: the second of the newest hundred, or any active person.
fn draw_bidder(n: u64, rng: &mut EventRng) -> u64 {
    if rng.is_hot(HOT_BIDDER_RATIO) {
        newest_person(n) / HOT_OF * HOT_OF + 1
    } else {
        active_person(n, rng)
    }
}

#[derive(Clone, Copy, Debug)]
enum Channel {
    /// Index into `HOT_CHANNELS`.
    Hot(usize),
    /// 0..COLD_CHANNELS.
    Cold(u64),
}

impl Channel {
    fn draw(rng: &mut EventRng) -> Self {
        if rng.is_hot(HOT_CHANNEL_RATIO) {
            Self::Hot(rng.index(HOT_CHANNELS.len()))
        } else {
            Self::Cold(rng.below(COLD_CHANNELS))
        }
    }

    fn write_name(self, out: &mut Vec<u8>) {
        match self {
            Self::Hot(index) => out.extend_from_slice(HOT_CHANNELS[index].as_bytes()),
            Self::Cold(number) => {
                out.extend_from_slice(b"channel-");
                text::decimal(out, number);
            }
        }
    }

    /// Three directories (q22 splits them) and perhaps a channel identifier (q21 extracts it).
    fn write_url(self, out: &mut Vec<u8>, seed: u64) {
        // Keys from the top, where no event number is.
        let rng = &mut match self {
            Self::Hot(index) => EventRng::new(seed, u64::MAX - index as u64),
            Self::Cold(number) => EventRng::new(seed, u64::MAX - 4 - number),
        };
        out.extend_from_slice(b"https://www.nexmark.com/");
        for _ in 0..3 {
            write_directory(out, rng.next());
        }
        out.extend_from_slice(b"item.htm?query=1");
        if let Self::Cold(number) = self
            && rng.is_hot(CHANNEL_ID_RATIO)
        {
            out.extend_from_slice(b"&channel_id=");
            text::decimal(out, channel_id(number));
        }
    }
}

/// Three or four letters and a slash.
fn write_directory(out: &mut Vec<u8>, random: u64) {
    let [a, b, c, d, length, ..] = text::eight_letters(random);
    if length < b'n' {
        out.extend_from_slice(&[a, b, c, b'/']);
    } else {
        out.extend_from_slice(&[a, b, c, d, b'/']);
    }
}

/// Nexmark's identifier of a channel: its number's 32 bits in reverse, as a signed number's amount.
fn channel_id(number: u64) -> u64 {
    let number = u32::try_from(number).expect("channels are 0..10 000");
    number.reverse_bits().cast_signed().unsigned_abs().into()
}
