//! Which subtasks an edge connects.
//!
//! Owns: the arithmetic from an edge and its two parallelisms to channels, seen from either end.
//! Invariant: `consumers_of` and `producers_of` describe the same set of channels, and no subtask is left without one.
//! Left out: addresses (deploy/).
//!
//! Source: Flink `VertexInputInfoComputationUtils.computeVertexInputInfoForPointwise`.

use std::ops::Range;

use super::stream_graph::Partitioner;

/// Consumers that `producer` of `producers` reaches.
pub(crate) fn consumers_of(
    partitioner: Partitioner,
    producer: u32,
    producers: u32,
    consumers: u32,
) -> Range<u32> {
    if !partitioner.is_pointwise() {
        return 0..consumers;
    }
    if producers >= consumers {
        // The consumer whose range of producers holds this one.
        let consumer =
            ((u64::from(producer) + 1) * u64::from(consumers)).div_ceil(u64::from(producers)) - 1;
        let consumer = u32::try_from(consumer).unwrap_or(consumers - 1);
        consumer..consumer + 1
    } else {
        scaled_up(producer, consumers, producers)..scaled_up(producer + 1, consumers, producers)
    }
}

/// Producers that reach `consumer` of `consumers`.
pub(crate) fn producers_of(
    partitioner: Partitioner,
    consumer: u32,
    producers: u32,
    consumers: u32,
) -> Range<u32> {
    if !partitioner.is_pointwise() {
        return 0..producers;
    }
    if producers >= consumers {
        scaled_down(consumer, producers, consumers)..scaled_down(consumer + 1, producers, consumers)
    } else {
        let producer = scaled_down(consumer, producers, consumers);
        producer..producer + 1
    }
}

/// Number of channels of an edge.
pub(crate) fn channel_count(partitioner: Partitioner, producers: u32, consumers: u32) -> u64 {
    if partitioner.is_pointwise() {
        u64::from(producers.max(consumers))
    } else {
        u64::from(producers) * u64::from(consumers)
    }
}

/// `index * to / from`, rounded down.
fn scaled_down(index: u32, to: u32, from: u32) -> u32 {
    u32::try_from(u64::from(index) * u64::from(to) / u64::from(from)).unwrap_or(to)
}

/// `index * to / from`, rounded up.
fn scaled_up(index: u32, to: u32, from: u32) -> u32 {
    u32::try_from((u64::from(index) * u64::from(to)).div_ceil(u64::from(from))).unwrap_or(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pointwise_edges_are_flinks() {
        let consumers = |producers, consumers| -> Vec<Range<u32>> {
            (0..producers)
                .map(|producer| consumers_of(Partitioner::Rescale, producer, producers, consumers))
                .collect()
        };
        assert_eq!(consumers(2, 2), [0..1, 1..2]);
        assert_eq!(consumers(2, 4), [0..2, 2..4]);
        assert_eq!(consumers(2, 3), [0..2, 2..3]);
        assert_eq!(consumers(4, 2), [0..1, 0..1, 1..2, 1..2]);
        assert_eq!(consumers(3, 2), [0..1, 1..2, 1..2]);
    }

    proptest! {
        #[test]
        fn both_ends_see_the_same_channels_and_nobody_is_left_out(
            producers in 1u32..60, consumers in 1u32..60, pointwise in any::<bool>(),
        ) {
            let partitioner = if pointwise { Partitioner::Rescale } else { Partitioner::Hash };
            let mut forward = Vec::new();
            for producer in 0..producers {
                let range = consumers_of(partitioner, producer, producers, consumers);
                prop_assert!(!range.is_empty() && range.end <= consumers);
                forward.extend(range.map(|consumer| (producer, consumer)));
            }
            let mut backward = Vec::new();
            for consumer in 0..consumers {
                let range = producers_of(partitioner, consumer, producers, consumers);
                prop_assert!(!range.is_empty() && range.end <= producers);
                backward.extend(range.map(|producer| (producer, consumer)));
            }
            prop_assert_eq!(forward.len() as u64, channel_count(partitioner, producers, consumers));
            backward.sort_unstable();
            prop_assert_eq!(forward, backward);
        }
    }
}
