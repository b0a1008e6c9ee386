//! Which channel a record takes.
//!
//! Owns: [`Partitioner`]. Invariant: `Hash` sends a key group to the subtask that owns it by Flink's arithmetic, the same
//! in every producer. Left out: writing the record (result partition).

use std::sync::Arc;

use ringflow_schemas::graph::Partitioner as WirePartitioner;
use ringflow_schemas::key_group::{self, KeyGroupOf};

use crate::batch::Run;
use crate::error::{Error, Result};
use crate::program::EdgeRouting;
use crate::record::RecordRef;

/// Computes the [`key_group::spread`] hash of a record's key; the typed key selector of an edge, erased.
pub trait HashKeys: Send + Sync {
    /// The hash of one record's key.
    fn key_hash(&self, record: &[u8]) -> u32;

    /// The hashes of a run's keys, appended to `hashes`.
    fn key_hashes(&self, run: &Run<'_>, hashes: &mut Vec<u32>);
}

impl<F: Fn(&[u8]) -> u32 + Send + Sync> HashKeys for F {
    #[inline]
    fn key_hash(&self, record: &[u8]) -> u32 {
        self(record)
    }

    fn key_hashes(&self, run: &Run<'_>, hashes: &mut Vec<u32>) {
        hashes.extend(run.records().map(|record| self(record.bytes)));
    }
}

/// The key selector of an edge.
pub type KeyHash = Arc<dyn HashKeys>;

/// Chooses the channel of a record among so many; the partitioner of a user, erased. What it returns is checked.
pub type SelectChannel = Arc<dyn Fn(&RecordRef<'_>, usize) -> usize + Send + Sync>;

/// Chooses channels for records.
#[allow(missing_debug_implementations, reason = "holds a closure")]
pub enum Partitioner {
    /// All to channel 0: forward, global, and every edge with one consumer.
    Single,
    /// Round robin over the channels (rebalance; rescale over the few it is wired to).
    RoundRobin {
        /// Next channel.
        next: usize,
    },
    /// At random, by a small generator of its own.
    Shuffle {
        /// State of the generator, never 0.
        state: u64,
    },
    /// Every channel gets every record.
    Broadcast,
    /// As a function of the user's says.
    Custom(SelectChannel),
    /// By key group.
    Hash {
        /// The edge's key selector.
        key_hash: KeyHash,
        /// Who owns which key group.
        owners: KeyGroupOwners,
    },
}

/// The channels of key groups.
#[derive(Debug, Clone)]
pub struct KeyGroupOwners {
    /// Of a hash, without a division.
    key_group_of: KeyGroupOf,
    /// Channel of each key group.
    channels: Vec<u16>,
}

impl KeyGroupOwners {
    /// The channel of a key hash.
    #[inline(always)]
    fn of(&self, hash: u32) -> usize {
        usize::from(self.channels[self.key_group_of.key_group(hash) as usize])
    }
}

/// Where one record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// One channel, and the key hash to write beside the record.
    One(usize, u32),
    /// All channels.
    All,
    /// None: the user's partitioner named this one.
    Wrong(usize),
}

impl Partitioner {
    /// The partitioner of an edge to `channels` consumers.
    ///
    /// # Errors
    /// A hash edge without a key selector, or more consumers than key groups: the graph is at fault.
    pub fn new(
        kind: WirePartitioner,
        channels: usize,
        max_parallelism: u32,
        routing: EdgeRouting,
        seed: u64,
    ) -> Result<Self> {
        match kind {
            WirePartitioner::Custom => match routing {
                EdgeRouting::Custom(select) => Ok(Self::Custom(select)),
                _ => Err(Error::deployment("a custom edge needs a partitioner")),
            },
            WirePartitioner::Hash => {
                let EdgeRouting::Key(key_hash) = routing else {
                    return Err(Error::deployment("a hash edge needs a key selector"));
                };
                let parallelism = u32::try_from(channels).unwrap_or(u32::MAX);
                if parallelism == 0
                    || parallelism > max_parallelism
                    || max_parallelism > key_group::MAX_PARALLELISM_LIMIT
                {
                    return Err(Error::deployment(format!(
                        "a hash edge to {channels} subtasks with {max_parallelism} key groups"
                    )));
                }
                let owner = |group| {
                    u16::try_from(key_group::owner(group, max_parallelism, parallelism))
                        .expect("at most 32768 subtasks")
                };
                Ok(Self::Hash {
                    key_hash,
                    owners: KeyGroupOwners {
                        key_group_of: KeyGroupOf::new(max_parallelism),
                        channels: (0..max_parallelism).map(owner).collect(),
                    },
                })
            }
            WirePartitioner::Broadcast if channels > 1 => Ok(Self::Broadcast),
            WirePartitioner::Rebalance | WirePartitioner::Rescale if channels > 1 => {
                // Start at different consumers, so that few records from many producers spread.
                Ok(Self::RoundRobin {
                    next: usize::try_from(seed).unwrap_or(0) % channels,
                })
            }
            WirePartitioner::Shuffle if channels > 1 => Ok(Self::Shuffle {
                state: seed.wrapping_mul(2) | 1,
            }),
            _ => Ok(Self::Single),
        }
    }

    /// Where `record` goes, among `channels` channels.
    #[inline]
    pub fn select(&mut self, record: &RecordRef<'_>, channels: usize) -> Target {
        match self {
            Self::Single => Target::One(0, record.key_hash),
            Self::RoundRobin { next } => {
                let channel = *next;
                *next = if channel + 1 == channels {
                    0
                } else {
                    channel + 1
                };
                Target::One(channel, record.key_hash)
            }
            Self::Shuffle { state } => {
                // xorshift64: Marsaglia 2003.
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                let channel = usize::try_from(*state >> 33).unwrap_or(0) % channels;
                Target::One(channel, record.key_hash)
            }
            Self::Broadcast => Target::All,
            Self::Custom(select) => match select(record, channels) {
                channel if channel < channels => Target::One(channel, record.key_hash),
                wrong => Target::Wrong(wrong),
            },
            Self::Hash { key_hash, owners } => {
                let hash = key_hash.key_hash(record.bytes);
                if channels == 1 {
                    return Target::One(0, hash);
                }
                Target::One(owners.of(hash), hash)
            }
        }
    }

    /// The hashes of a run's keys into `hashes`, where records go by key; false where they do not.
    pub fn hash_run(&self, run: &Run<'_>, hashes: &mut Vec<u32>) -> bool {
        let Self::Hash { key_hash, .. } = self else {
            return false;
        };
        hashes.clear();
        key_hash.key_hashes(run, hashes);
        true
    }

    /// The channel of a key hash, where records go by key.
    #[inline]
    #[must_use]
    pub fn owner(&self, hash: u32) -> usize {
        match self {
            Self::Hash { owners, .. } => owners.of(hash),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{EventTime, RowKind};

    fn record(bytes: &[u8]) -> RecordRef<'_> {
        RecordRef {
            bytes,
            timestamp: EventTime(0),
            key_hash: 0,
            kind: RowKind::Insert,
            origin_ns: 0,
        }
    }

    #[test]
    fn hash_sends_a_key_to_the_owner_of_its_key_group() -> Result<()> {
        let key_hash: KeyHash = Arc::new(|bytes: &[u8]| key_group::spread(i32::from(bytes[0])));
        let mut hash =
            Partitioner::new(WirePartitioner::Hash, 3, 128, EdgeRouting::Key(key_hash), 0)?;
        for key in 0..=255u8 {
            let spread = key_group::spread(i32::from(key));
            let owner = key_group::owner(key_group::key_group(spread, 128), 128, 3);
            assert_eq!(
                hash.select(&record(&[key]), 3),
                Target::One(owner as usize, spread)
            );
        }
        Ok(())
    }

    #[test]
    fn round_robin_visits_every_channel_in_turn() -> Result<()> {
        let mut rebalance =
            Partitioner::new(WirePartitioner::Rebalance, 3, 0, EdgeRouting::Plain, 5)?;
        let seen: Vec<Target> = (0..4).map(|_| rebalance.select(&record(b""), 3)).collect();
        assert_eq!(seen, [2, 0, 1, 2].map(|channel| Target::One(channel, 0)));
        Ok(())
    }

    #[test]
    fn a_hash_edge_needs_keys_and_enough_key_groups() {
        assert!(Partitioner::new(WirePartitioner::Hash, 3, 128, EdgeRouting::Plain, 0).is_err());
        let key_hash: KeyHash = Arc::new(|_: &[u8]| 0);
        assert!(
            Partitioner::new(
                WirePartitioner::Hash,
                129,
                128,
                EdgeRouting::Key(key_hash),
                0
            )
            .is_err()
        );
    }
}
