//! The order in which events are emitted: by number, or shuffled within blocks of event time.
//!
//! Owns: [`EmissionOrder`], a permutation of the event numbers of a stream, known by position.
//! Invariant: events keep their event times, and none is emitted after one that is more than the bound younger. With
//! watermarks that allow as much, no event is late. Positions are split over subtasks as numbers are ([`super::numbers()`]):
//! any subtask finds the event of any of its positions alone.
//! Left out: lateness beyond a block, and gaps. Every event comes, and exactly once.
//!
//! ```text
//! positions   0 1 2 3 | 4 5 6 7 | 8 9        blocks of at most `shuffle_ms` of event time, the last one cut off
//! events      2 0 3 1 | 4 7 5 6 | 9 8        a permutation of each block, from (seed, block)
//! ```

use std::fmt;

use super::config::NexmarkConfig;
use super::rng::EventRng;

/// Events of a block at most, so that its numbers stay below [`super::event_time_ms`]'s bound.
const BLOCK_EVENTS_MAX: u64 = 1 << 32;

/// Keys of the blocks' random numbers: nobody else draws with `seed` and this.
const SEED_OF_ORDER: u64 = 0x5348_5546_464C_4521;

/// A permutation of the numbers of a stream's events.
///
/// Cost: a comparison when events are in order; a division and a few random draws an event when they are shuffled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmissionOrder {
    seed: u64,
    /// Events of a block; 1 keeps the order.
    block_events: u64,
    total: u64,
}

/// A block of the shuffle would hold too many events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShuffleTooLong {
    block_events: u128,
}

impl fmt::Display for ShuffleTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the events to be shuffled with one another are {}, and at most {BLOCK_EVENTS_MAX} can be; shuffle fewer \
             milliseconds, or give events a lower rate of event time",
            self.block_events
        )
    }
}

impl std::error::Error for ShuffleTooLong {}

impl EmissionOrder {
    /// The order of events 0..`total` of the stream of `config`, in which an event may come up to `shuffle_ms`
    /// milliseconds of event time late; 0 keeps events in order.
    ///
    /// An unbounded stream is one with `total` = `u64::MAX`.
    ///
    /// # Errors
    /// More than 2^32 events fall into `shuffle_ms`.
    pub fn new(
        config: &NexmarkConfig,
        shuffle_ms: u64,
        total: u64,
    ) -> Result<Self, ShuffleTooLong> {
        // Times of numbers k apart differ by k * 1000 / rate, rounded up at most: that is `shuffle_ms` or less.
        let apart = u128::from(shuffle_ms) * u128::from(config.events_per_second) / 1000;
        let block_events = match u64::try_from(apart + 1) {
            _ if shuffle_ms == 0 => 1,
            Ok(events) if events <= BLOCK_EVENTS_MAX => events,
            _ => {
                return Err(ShuffleTooLong {
                    block_events: apart + 1,
                });
            }
        };
        Ok(Self {
            seed: config.seed ^ SEED_OF_ORDER,
            block_events,
            total,
        })
    }

    /// The number of the event at `position` of 0..`total`.
    #[inline]
    #[must_use]
    pub fn number_at(&self, position: u64) -> u64 {
        if self.block_events == 1 {
            return position;
        }
        self.shuffled(position)
    }

    fn shuffled(&self, position: u64) -> u64 {
        let block = position / self.block_events;
        let first = block * self.block_events;
        let events = self.block_events.min(self.total.saturating_sub(first));
        first
            + permuted(
                position - first,
                events,
                &mut EventRng::new(self.seed, block),
            )
    }
}

/// Where a permutation of 0..`count`, drawn from `keys`, takes `index`.
///
/// Three rounds of add, multiply by an odd number, and fold the upper half into the lower are a bijection of the numbers of
/// as many bits as `count - 1` has. What falls outside of 0..`count` goes round again, which keeps it a bijection; fewer
/// than half of the numbers do.
fn permuted(index: u64, count: u64, keys: &mut EventRng) -> u64 {
    if count < 2 {
        return index;
    }
    let bits = 64 - (count - 1).leading_zeros();
    let mask = u64::MAX >> (64 - bits);
    let keys = [keys.next(), keys.next(), keys.next()];
    let mut index = index;
    loop {
        for key in keys {
            index = index.wrapping_add(key >> 32).wrapping_mul(key | 1) & mask;
            index ^= index >> bits.div_ceil(2);
        }
        if index < count {
            return index;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nexmark::{event_time_ms, numbers};

    fn config(seed: u64, events_per_second: u64) -> NexmarkConfig {
        NexmarkConfig {
            seed,
            events_per_second,
            ..NexmarkConfig::default()
        }
    }

    fn emitted(config: &NexmarkConfig, shuffle_ms: u64, total: u64) -> Vec<u64> {
        let order = EmissionOrder::new(config, shuffle_ms, total).unwrap();
        (0..total)
            .map(|position| order.number_at(position))
            .collect()
    }

    /// By how many milliseconds an event comes after a younger one, at most.
    fn latest_ms(config: &NexmarkConfig, emitted: &[u64]) -> i64 {
        let mut newest = i64::MIN;
        emitted.iter().fold(0, |latest, number| {
            let time = event_time_ms(config, *number);
            newest = newest.max(time);
            latest.max(newest - time)
        })
    }

    proptest! {
        #[test]
        fn every_event_comes_once_and_none_too_late(
            seed: u64,
            rate in prop_oneof![1_u64..50, 50_u64..20_000, Just(10_000_000)],
            shuffle_ms in 0_u64..3000,
            total in 0_u64..5000,
        ) {
            let config = config(seed, rate);
            let emitted = emitted(&config, shuffle_ms, total);
            prop_assert!(latest_ms(&config, &emitted) <= i64::try_from(shuffle_ms).unwrap());
            let mut sorted = emitted;
            sorted.sort_unstable();
            prop_assert!(sorted.into_iter().eq(0..total));
        }

        #[test]
        fn every_size_of_block_is_permuted(key: u64, count in 1_u64..600) {
            let mut images: Vec<u64> = (0..count)
                .map(|index| permuted(index, count, &mut EventRng::new(1, key)))
                .collect();
            images.sort_unstable();
            prop_assert!(images.into_iter().eq(0..count));
        }
    }

    #[test]
    fn shuffled_events_are_really_out_of_order() {
        let config = config(7, 10_000);
        let emitted = emitted(&config, 1000, 100_000);
        let descents = emitted.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!((45_000..55_000).contains(&descents), "{descents}");
        let latest_ms = latest_ms(&config, &emitted);
        assert!((990..=1000).contains(&latest_ms), "{latest_ms}");
        // Neighbours are no longer neighbours, and a block of one thousandth is not moved as one piece.
        let mut steps: Vec<i64> = emitted
            .windows(2)
            .map(|pair| pair[1].cast_signed() - pair[0].cast_signed())
            .collect();
        steps.sort_unstable();
        steps.dedup();
        assert!(steps.len() > 10_000, "{}", steps.len());
    }

    #[test]
    fn seeds_and_blocks_differ() {
        let one = emitted(&config(1, 10_000), 100, 3003);
        assert_ne!(one, emitted(&config(2, 10_000), 100, 3003));
        assert_eq!(one, emitted(&config(1, 10_000), 100, 3003));
        let blocks: Vec<Vec<u64>> = one
            .chunks(1001)
            .map(|block| block.iter().map(|number| number % 1001).collect())
            .collect();
        assert_ne!(blocks[0], blocks[1]);
        assert_ne!(blocks[1], blocks[2]);
    }

    #[test]
    fn without_a_shuffle_events_are_in_order() {
        let config = config(1, 10_000);
        assert!(emitted(&config, 0, 5000).into_iter().eq(0..5000));
        // No two events fall into one millisecond, or all of them do: there is nothing to do, or all to do.
        let slow = self::config(1, 10);
        assert!(emitted(&slow, 99, 5000).into_iter().eq(0..5000));
        assert!(!emitted(&slow, 100, 5000).into_iter().eq(0..5000));
    }

    #[test]
    fn subtasks_share_a_shuffled_stream_out() {
        let config = config(3, 10_000);
        let order = EmissionOrder::new(&config, 700, 20_001).unwrap();
        let mut all: Vec<u64> = (0..3)
            .flat_map(|subtask| numbers(subtask, 3, 20_001))
            .map(|position| order.number_at(position))
            .collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..20_001));
    }

    #[test]
    fn unbounded_streams_are_shuffled_and_impossible_ones_refused() {
        let order = EmissionOrder::new(&config(1, 10_000), 1000, u64::MAX).unwrap();
        let far = 1_000_000_000_000;
        let number = order.number_at(far);
        assert_eq!(number / 10_001, far / 10_001);
        let error = EmissionOrder::new(&config(1, u64::MAX), u64::MAX, 10).unwrap_err();
        assert!(error.to_string().contains("at most 4294967296"), "{error}");
    }
}
