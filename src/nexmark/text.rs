//! Text of events: letters, words, numbers, filler; appended to a byte buffer that is reused.
//!
//! Invariant: only ASCII is appended, so a buffer filled by this module alone is always text.
//! Left out: `fmt`, whose machinery would cost more than the characters.

use super::rng::EventRng;

/// Eight letters a to z from one random number.
///
/// A byte b becomes letter b * 26 / 256, in four 16-bit lanes for even bytes and four for odd ones:
/// 255 * 26 < 2^16, so no lane spills into the next. Letters are likely to 9/256 or 10/256.
pub(super) fn eight_letters(random: u64) -> [u8; 8] {
    const EVEN: u64 = 0x00FF_00FF_00FF_00FF;
    const ALL_A: u64 = 0x6161_6161_6161_6161;
    let even = (((random & EVEN) * 26) >> 8) & EVEN;
    let odd = (((random >> 8) & EVEN) * 26) & !EVEN;
    ((even | odd) + ALL_A).to_le_bytes()
}

/// Appends exactly `length` random letters.
///
/// Whole eights are appended, then cut: a copy of fixed size is a move, one of any size a call.
pub(super) fn letters(out: &mut Vec<u8>, rng: &mut EventRng, length: usize) {
    let end = out.len() + length;
    out.reserve(length.next_multiple_of(8));
    while out.len() < end {
        out.extend_from_slice(&eight_letters(rng.next()));
    }
    out.truncate(end);
}

/// Appends 3 to `max - 1` characters, one of 13 a space, the others letters; none at the two ends.
/// (So it may be shorter than 3, even empty.)
pub(super) fn words(out: &mut Vec<u8>, rng: &mut EventRng, max: usize) {
    let start = out.len();
    for _ in 0..3 + rng.index(max - 3) {
        // 13 * 26 equally likely outcomes: which of 13, and which letter.
        let outcome = rng.index(13 * 26);
        if outcome >= 26 {
            out.push(LETTERS[outcome % 26]);
        } else if out.len() > start {
            out.push(b' ');
        }
    }
    while out.len() > start && out.ends_with(b" ") {
        out.pop();
    }
}

const LETTERS: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";

/// Appends letters such that `size` and they are `average` bytes in the mean, give or take a fifth
/// of what is missing; none when `size` is too large already.
pub(super) fn filler(out: &mut Vec<u8>, rng: &mut EventRng, size: usize, average: usize) {
    let length = filler_length(rng, size, average);
    letters(out, rng, length);
}

/// How many letters [`filler`] appends.
pub(super) fn filler_length(rng: &mut EventRng, size: usize, average: usize) -> usize {
    let missing = average.saturating_sub(size);
    let spread = (missing * 2 + 5) / 10;
    missing - spread + rng.index((2 * spread).max(1))
}

/// Appends `value` in decimal.
pub(super) fn decimal(out: &mut Vec<u8>, mut value: u64) {
    const DIGITS_MAX: usize = 20;
    let mut digits = [b'0'; DIGITS_MAX];
    let mut first = DIGITS_MAX;
    loop {
        first -= 1;
        digits[first] = b'0' + digit(value);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

/// Appends `value` in decimal, with a minus sign when it is negative.
pub(super) fn signed_decimal(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    decimal(out, value.unsigned_abs());
}

/// Appends the last `count` decimal digits of `value`, with leading zeros.
pub(super) fn digits(out: &mut Vec<u8>, value: u64, count: u32) {
    for place in (0..count).rev() {
        out.push(b'0' + digit(value / 10_u64.pow(place)));
    }
}

/// The last decimal digit of `value`.
fn digit(value: u64) -> u8 {
    (value % 10) as u8
}

/// Fills `out` with random letters, of which the first are those that [`letters`] would append.
///
/// For a text whose length is not known to the compiler: a few draws too many cost less than a branch that nobody can predict.
#[inline]
pub(super) fn fill_with_letters<const N: usize>(out: &mut [u8; N], rng: &mut EventRng) {
    let (eights, _) = out.as_chunks_mut::<8>();
    for eight in eights {
        *eight = eight_letters(rng.next());
    }
}

/// Writes a short text in place, in pieces whose size the compiler knows: then a copy is a move or two and no call.
///
/// What a piece has beyond its length is overwritten by the next one. Text that does not fit panics.
#[derive(Debug)]
pub(super) struct Pen<'a, const N: usize> {
    out: &'a mut [u8; N],
    length: usize,
}

impl<'a, const N: usize> Pen<'a, N> {
    #[inline]
    pub(super) fn new(out: &'a mut [u8; N]) -> Self {
        Self { out, length: 0 }
    }

    /// Writes the first `length` bytes of `piece`, for all of which there is room.
    #[inline]
    pub(super) fn put<const M: usize>(&mut self, piece: [u8; M], length: usize) {
        debug_assert!(length <= M);
        self.out[self.length..][..M].copy_from_slice(&piece);
        self.length += length;
    }

    /// Writes `value` in decimal.
    #[inline]
    pub(super) fn put_decimal(&mut self, mut value: u64) {
        let length = decimal_length(value);
        for place in self.out[self.length..][..length].iter_mut().rev() {
            *place = b'0' + digit(value);
            value /= 10;
        }
        self.length += length;
    }
}

/// How many decimal digits `value` has.
#[inline]
pub(super) fn decimal_length(value: u64) -> usize {
    value.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// The text of `length` bytes that `write` writes, owned.
pub(super) fn owned<const N: usize>(length: usize, write: impl FnOnce(&mut [u8; N])) -> String {
    let mut bytes = [0; N];
    write(&mut bytes);
    as_text(&bytes[..length]).to_owned()
}

/// What this module wrote, as text.
pub(super) fn as_text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("only ASCII is appended")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        as_text(&out).to_owned()
    }

    #[test]
    fn letters_have_the_length_asked_for_and_all_occur() {
        let mut rng = EventRng::new(3, 3);
        for length in 0..40 {
            let text = written(|out| letters(out, &mut rng, length));
            assert_eq!(text.len(), length);
        }
        let many = written(|out| letters(out, &mut rng, 10_000));
        for letter in 'a'..='z' {
            let count = many.matches(letter).count();
            assert!((290..=470).contains(&count), "{letter}: {count}");
        }
        assert!(many.bytes().all(|byte| byte.is_ascii_lowercase()));
    }

    #[test]
    fn words_neither_begin_nor_end_with_a_space() {
        let mut rng = EventRng::new(4, 4);
        let mut spaces = 0;
        for _ in 0..2000 {
            let text = written(|out| words(out, &mut rng, 20));
            assert!(text.len() < 20 && text.trim() == text, "{text:?}");
            spaces += text.matches(' ').count();
        }
        assert!(spaces > 1000, "{spaces}");
    }

    #[test]
    fn numbers_read_as_the_library_writes_them() {
        for value in [0, 1, 9, 10, 12_345, u64::MAX] {
            assert_eq!(written(|out| decimal(out, value)), value.to_string());
        }
        for value in [0, -1, 7, i64::MIN, i64::MAX] {
            assert_eq!(written(|out| signed_decimal(out, value)), value.to_string());
        }
        assert_eq!(written(|out| digits(out, 7, 4)), "0007");
        assert_eq!(written(|out| digits(out, 12_345, 3)), "345");
    }

    #[test]
    fn a_pen_writes_pieces_and_numbers_one_behind_the_other() {
        for value in [0, 9, 10, 99, 100, 9_999, 1_234_567_890, u64::MAX] {
            let text = owned::<32>(3 + decimal_length(value), |out| {
                let mut pen = Pen::new(out);
                pen.put(*b"abcdef", 3);
                pen.put_decimal(value);
            });
            assert_eq!(text, format!("abc{value}"));
        }
        let letters_in_place = |length| {
            owned::<16>(length, |out| {
                fill_with_letters(out, &mut EventRng::new(6, 6))
            })
        };
        for length in 0..=16 {
            let mut rng = EventRng::new(6, 6);
            assert_eq!(
                letters_in_place(length),
                written(|out| letters(out, &mut rng, length))
            );
        }
    }

    #[test]
    fn filler_fills_up_to_the_average_within_a_fifth() {
        let mut rng = EventRng::new(5, 5);
        for _ in 0..1000 {
            let length = written(|out| filler(out, &mut rng, 32, 100)).len();
            assert!((54..82).contains(&length), "{length}");
        }
        assert_eq!(written(|out| filler(out, &mut rng, 100, 100)), "");
        assert_eq!(written(|out| filler(out, &mut rng, 300, 100)), "");
    }
}
