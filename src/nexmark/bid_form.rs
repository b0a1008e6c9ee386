//! A bid as a finished FlatBuffer, filled into a form.
//!
//! Owns: [`BidForm`]. Invariant: the bytes are those that the FlatBuffers library writes for the same bid (a property test
//! compares them); what never changes is taken from a bid that the library wrote.
//! Left out: bids with a field that has its default, 0, and that the library therefore leaves out: only a `date_time` can.
//!
//! ```text
//!  0  root, vtable and table of Event, vtable of Bid        always the same, but for the length of Bid's table (32)
//! 48  table of Bid: to its vtable | to channel (52) | to url (56) | to extra (60)
//! 64                auction | bidder (72) | price (80) | date_time (88)
//! 96  0 or 4 bytes, so that all ends at a multiple of 8; they count as the table's
//!     extra, url, channel: each its length (u32), its bytes, 1 to 4 zeros up to a multiple of 4
//! ```

use flatbuffers::FlatBufferBuilder;

use super::bid::{BidDraft, CHANNEL_BYTES, EXTRA_BYTES, URL_BYTES};
use super::event::Bid;
use super::generator::write_bid;

const TABLE_LENGTH: usize = 32;
const TABLE: usize = 48;
const TO_CHANNEL: usize = 52;
const TO_URL: usize = 56;
const TO_EXTRA: usize = 60;
const AUCTION: usize = 64;
const BIDDER: usize = 72;
const PRICE: usize = 80;
const DATE_TIME: usize = 88;
const HEAD_BYTES: usize = 96;
/// Length, bytes, zeros of the longest texts, and the padding.
const FORM_BYTES: usize =
    HEAD_BYTES + 4 + (EXTRA_BYTES + 8) + (URL_BYTES + 8) + (CHANNEL_BYTES + 8);

/// The form, which the last bid still fills.
#[derive(Debug)]
pub(super) struct BidForm {
    bytes: [u8; FORM_BYTES],
}

impl BidForm {
    /// An empty form.
    pub(super) fn new() -> Self {
        let sample = Bid {
            auction: 1,
            bidder: 1,
            price: 1,
            channel: String::new(),
            url: String::new(),
            date_time: 1,
            extra: String::new(),
        };
        let mut builder = FlatBufferBuilder::new();
        write_bid(&mut builder, &sample);
        let mut bytes = [0; FORM_BYTES];
        bytes[..HEAD_BYTES].copy_from_slice(&builder.finished_data()[..HEAD_BYTES]);
        Self { bytes }
    }

    /// The library would write all fields.
    #[inline]
    pub(super) fn fits(draft: &BidDraft) -> bool {
        draft.auction != 0 && draft.bidder != 0 && draft.price != 0 && draft.date_time != 0
    }

    /// The bid as an event, valid until the next one.
    #[inline]
    pub(super) fn fill(&mut self, draft: &BidDraft) -> &[u8] {
        debug_assert!(Self::fits(draft));
        let extra_bytes = bytes_of(draft.extra.length());
        let url_bytes = bytes_of(draft.url.length());
        let channel_bytes = bytes_of(draft.channel.length());
        let padding = (extra_bytes + url_bytes + channel_bytes) % 8;
        let extra = HEAD_BYTES + padding;
        let url = extra + extra_bytes;
        let channel = url + url_bytes;
        let end = channel + channel_bytes;
        self.put(TABLE_LENGTH, u16_of(HEAD_BYTES - TABLE + padding));
        self.put(TO_CHANNEL, u32_of(channel - TO_CHANNEL));
        self.put(TO_URL, u32_of(url - TO_URL));
        self.put(TO_EXTRA, u32_of(extra - TO_EXTRA));
        self.put(AUCTION, draft.auction.to_le_bytes());
        self.put(BIDDER, draft.bidder.to_le_bytes());
        self.put(PRICE, draft.price.to_le_bytes());
        self.put(DATE_TIME, draft.date_time.to_le_bytes());
        // From left to right: each overwrites what the one before has written beyond its end.
        self.put(HEAD_BYTES, [0; 4]);
        self.put_text(extra, draft.extra.length(), |out| draft.extra.write(out));
        self.put_text(url, draft.url.length(), |out| draft.url.write(out));
        self.put_text(channel, draft.channel.length(), |out| {
            draft.channel.write(out);
        });
        &self.bytes[..end]
    }

    #[inline]
    fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        self.bytes[at..][..N].copy_from_slice(&bytes);
    }

    #[inline]
    fn put_text<const N: usize>(
        &mut self,
        at: usize,
        length: usize,
        write: impl FnOnce(&mut [u8; N]),
    ) {
        self.put(at, u32_of(length));
        write(
            self.bytes[at + 4..]
                .first_chunk_mut()
                .expect("the form has room for the longest texts"),
        );
        self.put(at + 4 + length, [0; 4]);
    }
}

/// Bytes of a string of so many: length, text, and zeros, one at least.
#[inline]
fn bytes_of(length: usize) -> usize {
    4 + (length + 1).next_multiple_of(4)
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "at most FORM_BYTES")]
fn u32_of(value: usize) -> [u8; 4] {
    (value as u32).to_le_bytes()
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "at most FORM_BYTES")]
fn u16_of(value: usize) -> [u8; 2] {
    (value as u16).to_le_bytes()
}
