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
use super::text::{self, Pen};

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
/// Filled up to eight bytes, and the length.
const HOT_CHANNELS: [([u8; 8], usize); 4] = [
    (*b"Google\0\0", 6),
    (*b"Facebook", 8),
    (*b"Baidu\0\0\0", 5),
    (*b"Apple\0\0\0", 5),
];
/// The other channels, `channel-0` to `channel-9999`.
const COLD_CHANNELS: u64 = 10_000;
/// Nine of ten of them have an identifier in their url.
const CHANNEL_ID_RATIO: u64 = 10;

/// Room for the longest texts: `channel-9999`; a url with three directories of four letters and a channel identifier of ten
/// digits (77 bytes); filler of 68 bytes and a fifth, written in whole eights.
pub(super) const CHANNEL_BYTES: usize = 16;
pub(super) const URL_BYTES: usize = 80;
pub(super) const EXTRA_BYTES: usize = 88;

/// A bid, drawn, but for its texts: their lengths are known, and each can be written where it belongs.
#[derive(Debug)]
pub(super) struct BidDraft {
    pub(super) auction: u64,
    pub(super) bidder: u64,
    pub(super) price: u64,
    pub(super) channel: Channel,
    pub(super) url: Url,
    pub(super) date_time: i64,
    pub(super) extra: Extra,
}

/// Draws bid `n`.
#[inline]
pub(super) fn draw(config: &NexmarkConfig, n: u64) -> BidDraft {
    let mut rng = EventRng::new(config.seed, n);
    let auction = draw_auction(n, &mut rng);
    let bidder = draw_bidder(n, &mut rng);
    let price = rng.price();
    let channel = Channel::draw(&mut rng);
    let length = text::filler_length(&mut rng, COUNTED_BYTES, AVERAGE_BYTES);
    BidDraft {
        auction: FIRST_ID + auction,
        bidder: FIRST_ID + bidder,
        price,
        channel,
        url: Url::draw(channel, config.seed),
        date_time: event_time_ms(config, n),
        extra: Extra { length, rng },
    }
}

/// The filler.
#[derive(Clone, Debug)]
pub(super) struct Extra {
    length: usize,
    /// Nothing else is drawn behind it.
    rng: EventRng,
}

impl Extra {
    #[inline]
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Writes it; what follows in `out` is anything.
    #[inline]
    pub(super) fn write(&self, out: &mut [u8; EXTRA_BYTES]) {
        text::fill_with_letters(out, &mut self.rng.clone());
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
pub(super) enum Channel {
    /// Index into `HOT_CHANNELS`.
    Hot(usize),
    /// 0..COLD_CHANNELS.
    Cold(u64),
}

impl Channel {
    #[inline]
    fn draw(rng: &mut EventRng) -> Self {
        if rng.is_hot(HOT_CHANNEL_RATIO) {
            Self::Hot(rng.index(HOT_CHANNELS.len()))
        } else {
            Self::Cold(rng.below(COLD_CHANNELS))
        }
    }

    #[inline]
    pub(super) fn length(self) -> usize {
        match self {
            Self::Hot(index) => HOT_CHANNELS[index].1,
            Self::Cold(number) => 8 + text::decimal_length(number),
        }
    }

    /// Writes its name; what follows in `out` is anything.
    #[inline]
    pub(super) fn write(self, out: &mut [u8; CHANNEL_BYTES]) {
        let mut pen = Pen::new(out);
        match self {
            Self::Hot(index) => {
                let (padded, length) = HOT_CHANNELS[index];
                pen.put(padded, length);
            }
            Self::Cold(number) => {
                pen.put(*b"channel-", 8);
                pen.put_decimal(number);
            }
        }
    }
}

/// A channel's page: three directories (q22 splits them) and perhaps a channel identifier (q21 extracts it).
#[derive(Clone, Copy, Debug)]
pub(super) struct Url {
    /// Three or four letters and a slash each.
    directories: [([u8; 5], usize); 3],
    channel_id: Option<u64>,
}

impl Url {
    const HOST: [u8; 24] = *b"https://www.nexmark.com/";
    const PAGE: [u8; 16] = *b"item.htm?query=1";
    const CHANNEL_ID: [u8; 12] = *b"&channel_id=";

    #[inline]
    fn draw(channel: Channel, seed: u64) -> Self {
        // Keys from the top, where no event number is.
        let rng = &mut match channel {
            Channel::Hot(index) => EventRng::new(seed, u64::MAX - index as u64),
            Channel::Cold(number) => EventRng::new(seed, u64::MAX - 4 - number),
        };
        let directories = [(); 3].map(|()| directory(rng.next()));
        let channel_id = match channel {
            Channel::Cold(number) if rng.is_hot(CHANNEL_ID_RATIO) => Some(channel_id(number)),
            _ => None,
        };
        Self {
            directories,
            channel_id,
        }
    }

    #[inline]
    pub(super) fn length(&self) -> usize {
        let [first, second, third] = self.directories;
        let directories = first.1 + second.1 + third.1;
        let channel_id = self
            .channel_id
            .map_or(0, |id| Self::CHANNEL_ID.len() + text::decimal_length(id));
        Self::HOST.len() + directories + Self::PAGE.len() + channel_id
    }

    /// Writes it; what follows in `out` is anything.
    #[inline]
    pub(super) fn write(&self, out: &mut [u8; URL_BYTES]) {
        let mut pen = Pen::new(out);
        pen.put(Self::HOST, Self::HOST.len());
        for (letters, length) in self.directories {
            pen.put(letters, length);
        }
        pen.put(Self::PAGE, Self::PAGE.len());
        if let Some(id) = self.channel_id {
            pen.put(Self::CHANNEL_ID, Self::CHANNEL_ID.len());
            pen.put_decimal(id);
        }
    }
}

/// Three or four letters and a slash, and how many bytes these are.
#[inline]
fn directory(random: u64) -> ([u8; 5], usize) {
    let [a, b, c, d, length, ..] = text::eight_letters(random);
    if length < b'n' {
        ([a, b, c, b'/', 0], 4)
    } else {
        ([a, b, c, d, b'/'], 5)
    }
}

/// Nexmark's identifier of a channel: its number's 32 bits in reverse, as a signed number's amount.
fn channel_id(number: u64) -> u64 {
    let number = u32::try_from(number).expect("channels are 0..10 000");
    number.reverse_bits().cast_signed().unsigned_abs().into()
}
