//! How elements lie in a buffer, and on the wire.
//!
//! Owns: writing and reading elements in plain bytes. The layout is known nowhere else.
//! ```text
//! record   | head 8 | event time 8, if TIMED | origin 8, if STAMPED | payload, padded to 8 |
//! control  | head 8 | event time 8, if TIMED | origin 8, if STAMPED |
//! head, little endian: length of the payload or kind of control element (bits 0..26), row kind (26..28), flags (28..32),
//! key hash (32..64)
//! ```
//! So a record without event time and measurement costs 8 bytes beside its payload, and each buffer says for itself what
//! its records carry: edges need not agree on anything.
//! Invariant: elements follow each other without gaps, each a multiple of 8 bytes; reading any bytes ends in elements or
//! in an error, never in a panic.
//! Left out: who owns the bytes ([`super`]).

use super::run::Run;
use crate::element::{Control, Element, StopMode, Watermark};
use crate::limits::{ELEMENT_ALIGN, ELEMENT_HEADER_BYTES, RECORD_BYTES_MAX};
use crate::record::{EventTime, RecordRef, RowKind};

/// The part of the head that is always there.
pub const HEAD: usize = 8;
const FIELD: usize = 8;

const LENGTH: u32 = (1 << 26) - 1;
/// [`RowKind`] of a record; 0, which is an insertion, in control elements.
const ROW_KIND: u32 = 3 << ROW_KIND_SHIFT;
const ROW_KIND_SHIFT: u32 = 26;
const TIMED: u32 = 1 << 28;
const STAMPED: u32 = 1 << 29;
const UNUSED: u32 = 1 << 30;
const CONTROL: u32 = 1 << 31;

const KIND_WATERMARK: u32 = 1;
const KIND_IDLE: u32 = 2;
const KIND_END_OF_INPUT: u32 = 3;
const KIND_STOPPED: u32 = 4;

const _: () = assert!(HEAD + 2 * FIELD == ELEMENT_HEADER_BYTES && RECORD_BYTES_MAX < 1 << 26);

/// Why bytes from another process are no elements.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// An element reaches beyond the bytes.
    #[error("element at byte {offset} of {bytes} reaches beyond the end")]
    Truncated {
        /// Where the element starts.
        offset: usize,
        /// Length of the batch.
        bytes: usize,
    },
    /// A control element of no known kind.
    #[error("unknown control element {kind} at byte {offset}")]
    UnknownControl {
        /// Its kind.
        kind: u32,
        /// Where it starts.
        offset: usize,
    },
    /// A record longer than any sender may make it, or flags of another version.
    #[error("no element starts at byte {offset}: its head is {head:#010x}")]
    Head {
        /// Length and flags, as they lie there.
        head: u32,
        /// Where it starts.
        offset: usize,
    },
}

/// What kind a control element is, as far as writing cares: watermarks and idleness may replace each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Watermark,
    Idle,
    EndOfInput,
}

#[inline]
fn fields(word: u32) -> usize {
    HEAD + if word & TIMED == 0 { 0 } else { FIELD } + if word & STAMPED == 0 { 0 } else { FIELD }
}

/// Bytes that `record` takes.
#[inline]
pub(super) fn record_bytes(record: &RecordRef<'_>) -> usize {
    let time = if record.timestamp == EventTime::NONE {
        0
    } else {
        FIELD
    };
    let origin = if record.origin_ns == 0 { 0 } else { FIELD };
    HEAD + time + origin + record.bytes.len().next_multiple_of(ELEMENT_ALIGN)
}

#[inline]
fn put(space: &mut [u8], at: &mut usize, value: u64) {
    space[*at..*at + FIELD].copy_from_slice(&value.to_le_bytes());
    *at += FIELD;
}

/// Copies payloads of a few words without a call, as structs are: word by word, because copies of several constant lengths are
/// merged by the compiler into one call.
#[inline(always)]
fn copy(to: &mut [u8], from: &[u8]) {
    match from.len() {
        8 => copy_words::<1>(to, from),
        16 => copy_words::<2>(to, from),
        24 => copy_words::<3>(to, from),
        32 => copy_words::<4>(to, from),
        40 => copy_words::<5>(to, from),
        length => to[..length].copy_from_slice(from),
    }
}

#[inline(always)]
fn copy_words<const N: usize>(to: &mut [u8], from: &[u8]) {
    let (Some(to), Some(from)) = (to.get_mut(..N * FIELD), from.get(..N * FIELD)) else {
        return;
    };
    let (to, _) = to.as_chunks_mut::<FIELD>();
    let (from, _) = from.as_chunks::<FIELD>();
    let words: [u64; N] = std::array::from_fn(|word| u64::from_ne_bytes(from[word]));
    for word in 0..N {
        to[word] = words[word].to_ne_bytes();
    }
}

/// Writes a record at the start of `space`, which has [`record_bytes`] bytes.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "RECORD_BYTES_MAX < 2^26, checked where records enter"
)]
pub(super) fn write_record(space: &mut [u8], record: &RecordRef<'_>, key_hash: u32) {
    let mut word = record.bytes.len() as u32 | u32::from(record.kind as u8) << ROW_KIND_SHIFT;
    let mut at = HEAD;
    if record.timestamp != EventTime::NONE {
        word |= TIMED;
        put(space, &mut at, record.timestamp.0.cast_unsigned());
    }
    if record.origin_ns != 0 {
        word |= STAMPED;
        put(space, &mut at, record.origin_ns);
    }
    let head = u64::from(word) | u64::from(key_hash) << 32;
    space[..HEAD].copy_from_slice(&head.to_le_bytes());
    let payload = &mut space[at..];
    if !record.bytes.len().is_multiple_of(ELEMENT_ALIGN)
        && let Some(last) = payload.last_chunk_mut::<ELEMENT_ALIGN>()
    {
        // What was in this memory before stays here.
        *last = [0; ELEMENT_ALIGN];
    }
    copy(payload, record.bytes);
}

/// A control element as bytes: the array and how much of it.
pub(super) fn encode_control(control: Control) -> ([u8; ELEMENT_HEADER_BYTES], usize, Kind) {
    let (word, kind, time, origin_ns) = match control {
        Control::Watermark {
            watermark: Watermark::At(time),
            origin_ns,
        } => (KIND_WATERMARK, Kind::Watermark, Some(time), origin_ns),
        Control::Watermark {
            watermark: Watermark::Idle,
            origin_ns,
        } => (KIND_IDLE, Kind::Idle, None, origin_ns),
        Control::EndOfInput(StopMode::Drain) => (KIND_END_OF_INPUT, Kind::EndOfInput, None, 0),
        Control::EndOfInput(StopMode::NoDrain) => (KIND_STOPPED, Kind::EndOfInput, None, 0),
    };
    let mut bytes = [0; ELEMENT_HEADER_BYTES];
    let mut word = word | CONTROL;
    let mut at = HEAD;
    if let Some(time) = time {
        word |= TIMED;
        put(&mut bytes, &mut at, time.0.cast_unsigned());
    }
    if origin_ns != 0 {
        word |= STAMPED;
        put(&mut bytes, &mut at, origin_ns);
    }
    bytes[..HEAD].copy_from_slice(&u64::from(word).to_le_bytes());
    (bytes, at, kind)
}

#[inline]
fn take<'a>(body: &mut &'a [u8]) -> Option<&'a [u8; FIELD]> {
    let (field, rest) = body.split_first_chunk()?;
    *body = rest;
    Some(field)
}

/// The element at `offset`, which it advances; `None` at the end, or where no whole element is.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the halves of a word are meant"
)]
pub fn next_element<'a>(filled: &'a [u8], offset: &mut usize) -> Option<Element<'a>> {
    let mut body = filled.get(*offset..)?;
    let head = u64::from_le_bytes(*take(&mut body)?);
    let (word, key_hash) = (head as u32, (head >> 32) as u32);
    let mut timestamp = EventTime::NONE;
    let mut origin_ns = 0;
    if word & TIMED != 0 {
        timestamp = EventTime(i64::from_le_bytes(*take(&mut body)?));
    }
    if word & STAMPED != 0 {
        origin_ns = u64::from_le_bytes(*take(&mut body)?);
    }
    if word & CONTROL == 0 {
        let length = (word & LENGTH) as usize;
        let padded = body.get(..length.next_multiple_of(ELEMENT_ALIGN))?;
        let bytes = &padded[..length];
        *offset = filled.len() - body.len() + padded.len();
        return Some(Element::Record(RecordRef {
            bytes,
            timestamp,
            key_hash,
            kind: RowKind::of((word >> ROW_KIND_SHIFT) as u8),
            origin_ns,
        }));
    }
    *offset = filled.len() - body.len();
    let watermark = match word & LENGTH {
        KIND_WATERMARK => Watermark::At(timestamp),
        KIND_IDLE => Watermark::Idle,
        KIND_STOPPED => return Some(Element::Control(Control::EndOfInput(StopMode::NoDrain))),
        _ => return Some(Element::Control(Control::EndOfInput(StopMode::Drain))),
    };
    Some(Element::Control(Control::Watermark {
        watermark,
        origin_ns,
    }))
}

/// What follows in a buffer: some records of one kind, or a control element.
#[derive(Debug, Clone, Copy)]
pub enum Piece<'a> {
    /// Insertions of the same length and flags.
    Run(Run<'a>),
    /// A record with an origin of its own, or one that is no insertion.
    Record(RecordRef<'a>),
    /// A control element.
    Control(Control),
}

/// What follows at `offset`, which it advances: a run of `most` records at most; `None` at the end, or where no whole
/// element is.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the lower half of the word is meant"
)]
pub fn next_piece<'a>(filled: &'a [u8], offset: &mut usize, most: usize) -> Option<Piece<'a>> {
    let rest = filled.get(*offset..)?;
    let word = u64::from_le_bytes(*rest.first_chunk()?) as u32;
    if word & (CONTROL | STAMPED | ROW_KIND) != 0 {
        return Some(match next_element(filled, offset)? {
            Element::Record(record) => Piece::Record(record),
            Element::Control(control) => Piece::Control(control),
        });
    }
    let (payload, size) = (fields(word), (word & LENGTH) as usize);
    let stride = payload + size.next_multiple_of(ELEMENT_ALIGN);
    let same = rest
        .chunks_exact(stride)
        .take(most)
        .take_while(|element| element.first_chunk() == Some(&word.to_le_bytes()));
    let bytes = rest.get(..same.count() * stride)?;
    if bytes.is_empty() {
        return None;
    }
    *offset += bytes.len();
    let timed = word & TIMED != 0;
    Some(Piece::Run(Run::of_elements(
        bytes, stride, payload, size, timed,
    )))
}

/// Bytes of the element that starts with `head`, and whether it is a record.
///
/// # Errors
/// [`BatchError`]: the peer broke the protocol. `offset` is for its message.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the lower half of the word is meant"
)]
pub fn element_bytes(head: [u8; 8], offset: usize) -> Result<(usize, bool), BatchError> {
    let word = u64::from_le_bytes(head) as u32;
    let bytes = fields(word);
    if word & (CONTROL | UNUSED) == 0 {
        let length = (word & LENGTH) as usize;
        if length > RECORD_BYTES_MAX {
            return Err(BatchError::Head { head: word, offset });
        }
        return Ok((bytes + length.next_multiple_of(ELEMENT_ALIGN), true));
    }
    if word & (UNUSED | ROW_KIND) != 0 {
        return Err(BatchError::Head { head: word, offset });
    }
    let kind = word & LENGTH;
    if (KIND_WATERMARK..=KIND_STOPPED).contains(&kind) {
        Ok((bytes, false))
    } else {
        Err(BatchError::UnknownControl { kind, offset })
    }
}

/// The whole elements at the start of some bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Their length; what follows is the beginning of an element.
    pub bytes: usize,
    /// Records among them.
    pub records: u32,
    /// Control elements among them.
    pub controls: u32,
}

impl Scanned {
    /// Nothing but whole elements, of which `records` are records.
    pub(crate) fn all(bytes: usize, records: u32) -> Self {
        Self {
            bytes,
            records,
            controls: 0,
        }
    }
}

/// Finds out how much of `bytes` is whole elements.
///
/// Cost: one head read per element.
///
/// # Errors
/// [`BatchError`]: the peer broke the protocol.
pub fn scan(bytes: &[u8]) -> Result<Scanned, BatchError> {
    let mut scanned = Scanned::default();
    // Most elements have the length and flags of the one before.
    let (mut last, mut last_length) = ([0; 4], 0);
    while let Some(head) = bytes[scanned.bytes..].first_chunk::<HEAD>() {
        let word = [head[0], head[1], head[2], head[3]];
        if word == last && last_length > 0 {
            let next = scanned.bytes + last_length;
            if next > bytes.len() {
                break;
            }
            scanned.bytes = next;
            scanned.records += 1;
            continue;
        }
        let (length, is_record) = element_bytes(*head, scanned.bytes)?;
        if is_record {
            (last, last_length) = (word, length);
        }
        let next = scanned.bytes + length;
        if next > bytes.len() {
            break;
        }
        scanned.bytes = next;
        scanned.records += u32::from(is_record);
        scanned.controls += u32::from(!is_record);
    }
    Ok(scanned)
}

/// As many whole elements at the start of `elements`, which went through [`scan`], as `room` bytes take.
pub(crate) fn fitting(elements: &[u8], room: usize) -> Scanned {
    let within = &elements[..elements.len().min(room)];
    scan(within).unwrap_or_default()
}

/// Length of the first of `elements`, which went through [`scan`].
pub(crate) fn first_bytes(elements: &[u8]) -> usize {
    let head = elements.first_chunk().copied().unwrap_or_default();
    element_bytes(head, 0).map_or(0, |(bytes, _)| bytes)
}
