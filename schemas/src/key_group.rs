//! Key -> key group -> subtask, by Flink's arithmetic.
//!
//! Owns: the hash of a key, the number of key groups a job gets, and who owns which. It lives beside the messages
//! because it is part of the state format: writer, reader and scheduler must agree on it across versions.
//! Invariant: for any parallelism p <= max parallelism m, the ranges of subtasks 0..p cover 0..m exactly once, and
//! `owner(group)` is the subtask whose range holds it (tested against the figures of Flink 2.2.0).
//! Left out: state itself.
//!
//! Source: Flink `KeyGroupRangeAssignment`, `MathUtils.murmurHash`; `tests/data/key-groups.csv` printed by Flink 2.2.0.

use std::ops::Range;

/// The greatest number of key groups a job may have.
pub const MAX_PARALLELISM_LIMIT: u32 = 1 << 15;
/// The smallest number of key groups a job gets when it asks for none in particular.
pub const MAX_PARALLELISM_DEFAULT_MIN: u32 = 1 << 7;

/// Spreads a key's 32-bit hash code over the positive integers; on keyed edges each record carries it.
///
/// Shape: 0..=`i32::MAX`.
/// Source: MurmurHash3 (x86, 32 bit) of one 4-byte block, made positive as Flink does.
#[must_use]
#[inline]
pub const fn spread(hash_code: i32) -> u32 {
    let mut code = hash_code.cast_unsigned();
    code = code
        .wrapping_mul(0xcc9e_2d51)
        .rotate_left(15)
        .wrapping_mul(0x1b87_3593);
    code = code
        .rotate_left(13)
        .wrapping_mul(5)
        .wrapping_add(0xe654_6b64);
    code ^= 4;
    code ^= code >> 16;
    code = code.wrapping_mul(0x85eb_ca6b);
    code ^= code >> 13;
    code = code.wrapping_mul(0xc2b2_ae35);
    code ^= code >> 16;
    let signed = code.cast_signed();
    if signed >= 0 {
        code
    } else if signed == i32::MIN {
        0
    } else {
        signed.unsigned_abs()
    }
}

/// The key group of a record whose [`spread`] hash is `key_hash`.
///
/// Shape: 0..`max_parallelism`, which must not be 0.
#[must_use]
#[inline]
pub const fn key_group(key_hash: u32, max_parallelism: u32) -> u32 {
    key_hash % max_parallelism
}

/// [`key_group`] for one number of key groups, without a division: two multiplications per record.
///
/// Source: Lemire, Kaser, Kurz, "Faster remainder by direct computation" (2019), exact for all 32-bit operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyGroupOf {
    max_parallelism: u32,
    /// 2^64 / max parallelism, rounded up; 0 stands for 2^64.
    reciprocal: u64,
}

impl KeyGroupOf {
    /// For `max_parallelism` key groups; 0 counts as 1.
    #[must_use]
    pub const fn new(max_parallelism: u32) -> Self {
        let max_parallelism = if max_parallelism == 0 {
            1
        } else {
            max_parallelism
        };
        Self {
            max_parallelism,
            reciprocal: (u64::MAX / max_parallelism as u64).wrapping_add(1),
        }
    }

    /// The key group of a record whose [`spread`] hash is `key_hash`.
    #[must_use]
    #[inline]
    pub const fn key_group(self, key_hash: u32) -> u32 {
        let fraction = self.reciprocal.wrapping_mul(key_hash as u64) as u128;
        #[allow(
            clippy::cast_possible_truncation,
            reason = "a fraction below 1 of a u32 is a u32"
        )]
        let group = ((fraction * self.max_parallelism as u128) >> 64) as u32;
        group
    }
}

/// The subtask that owns `key_group`.
///
/// Shape: `key_group` < `max_parallelism` <= 32768, 1 <= `parallelism` <= `max_parallelism`.
#[must_use]
#[inline]
pub const fn owner(key_group: u32, max_parallelism: u32, parallelism: u32) -> u32 {
    key_group * parallelism / max_parallelism
}

/// The key groups of `subtask`, half open.
///
/// Shape: as in [`owner`].
#[must_use]
pub const fn range(subtask: u32, max_parallelism: u32, parallelism: u32) -> Range<u32> {
    let start = (subtask * max_parallelism).div_ceil(parallelism);
    let end = ((subtask + 1) * max_parallelism - 1) / parallelism + 1;
    start..end
}

/// The number of key groups for a vertex that asked for none: 1.5 x parallelism rounded up to a power of two,
/// within 128..=32768.
#[must_use]
pub fn default_max_parallelism(parallelism: u32) -> u32 {
    parallelism
        .saturating_add(parallelism / 2)
        .min(MAX_PARALLELISM_LIMIT)
        .next_power_of_two()
        .clamp(MAX_PARALLELISM_DEFAULT_MIN, MAX_PARALLELISM_LIMIT)
}

/// Java's hash code of a 64-bit integer, so that integer keys land in the key groups that Flink gives them.
#[must_use]
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "folding the halves is the definition"
)]
pub const fn hash_code_u64(key: u64) -> i32 {
    ((key ^ (key >> 32)) as u32).cast_signed()
}

/// Java's hash code of a string, over UTF-16 code units.
#[must_use]
pub fn hash_code_str(key: &str) -> i32 {
    key.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn agrees_with_every_line_that_flink_2_2_0_printed() {
        let mut lines = 0;
        for line in include_str!("../tests/data/key-groups.csv").lines() {
            let Some((kind, rest)) = line.split_once(',') else {
                continue;
            };
            if line.starts_with('#') {
                continue;
            }
            let numbers: Vec<i64> = rest
                .split(',')
                .map(|field| field.parse().expect(line))
                .collect();
            let at = |index: usize| u32::try_from(numbers[index]).expect(line);
            match kind {
                "range" => assert_eq!(range(at(2), at(0), at(1)), at(3)..at(4) + 1, "{line}"),
                "group" => {
                    let code = i32::try_from(numbers[0]).expect(line);
                    assert_eq!(key_group(spread(code), at(1)), at(2), "{line}");
                }
                "subtask" => assert_eq!(owner(at(2), at(0), at(1)), at(3), "{line}"),
                "default" => assert_eq!(default_max_parallelism(at(0)), at(1), "{line}"),
                other => panic!("unknown kind {other}"),
            }
            lines += 1;
        }
        assert_eq!(lines, 108);
    }

    #[test]
    fn hash_codes_are_javas() {
        assert_eq!(hash_code_u64(u64::MAX), 0);
        assert_eq!(hash_code_u64(1 << 32), 1);
        assert_eq!(hash_code_str("hello"), 99_162_322);
    }

    #[test]
    fn key_groups_without_a_division_are_the_remainder_at_every_max_parallelism() {
        for max in 1..=MAX_PARALLELISM_LIMIT {
            let of = KeyGroupOf::new(max);
            // Around every place where the rounding of the reciprocal could show: multiples of max at both ends.
            let last = u32::MAX / max * max;
            let near = [0, max, 2 * max, i32::MAX.unsigned_abs(), last, u32::MAX];
            for hash in near
                .iter()
                .flat_map(|at| [at.wrapping_sub(1), *at, at.wrapping_add(1)])
            {
                assert_eq!(of.key_group(hash), key_group(hash, max), "{hash} % {max}");
            }
        }
    }

    proptest! {
        #[test]
        fn key_groups_without_a_division_are_the_remainder(hash: u32, max in 1u32..=MAX_PARALLELISM_LIMIT) {
            prop_assert_eq!(KeyGroupOf::new(max).key_group(hash), key_group(hash, max));
        }

        #[test]
        fn ranges_cover_every_key_group_exactly_once(max in 1u32..=MAX_PARALLELISM_LIMIT, share in 0.0f64..=1.0) {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a fraction of a small number")]
            let parallelism = ((f64::from(max) * share) as u32).clamp(1, max);
            let mut next = 0;
            for subtask in 0..parallelism {
                let groups = range(subtask, max, parallelism);
                prop_assert_eq!(groups.start, next);
                prop_assert!(!groups.is_empty());
                prop_assert_eq!(owner(groups.start, max, parallelism), subtask);
                prop_assert_eq!(owner(groups.end - 1, max, parallelism), subtask);
                next = groups.end;
            }
            prop_assert_eq!(next, max);
        }
    }
}
