//! The arithmetic of exchange buffers, by which a job is refused before it is deployed rather than starved while it runs.
//!
//! Each data core of a TaskManager has one pool of buffers. What a job can ever hold of a pool is a sum over its channels:
//! ```text
//! subpartition (one consumer of one producing subtask), from the pool of the producing core, whatever the road
//!     road filled on the road + 1 open + 1 waiting for room + 1 in the consumer's hands            = road + 3
//! channel from another process, from the pool of the consuming core
//!     credit announced frames + up to 16 blocks pinned in place, before data is copied together, + 1 in the consumer's hands
//!                                                                                = credit + min(credit, 16) + 1
//! ```
//! Owns: sizes, [`NetworkLevel`], and the sums. The control plane decides with them, the data plane keeps within them.
//! Invariant: a buffer never leaves its process, so what a job holds on a TaskManager is free again once the last of the
//! job's subtasks there has ended.
//! Left out: records larger than a buffer, which travel in memory of their own (the data plane's limits).

/// Size of a pooled buffer: Flink's segment size; the measured plateau of socket throughput is 16–64 KiB.
pub const BUFFER_BYTES: usize = 32 << 10;

/// Buffers of each core that are always set aside for its receive ring: 32 x 32 KiB = 1 MiB.
pub const RECEIVE_BUFFERS: u32 = 32;

/// Blocks of one channel that may stay pinned where they arrived, partly filled, before arriving data is copied together. At 4
/// a consumer that lagged behind had three quarters of its bytes copied.
pub const PINNED_BLOCKS_MAX: u32 = 16;

/// Buffers of a subpartition beside those on the road: 1 open, 1 waiting for room, 1 in the consumer's hands.
const SUBPARTITION_EXTRA: u32 = 3;

/// Longest that a job may keep a partly filled buffer back: 1 h in nanoseconds. Beyond any use, and a timer that can be set.
pub const BUFFER_TIMEOUT_NS_MAX: u64 = 3_600 * 1_000_000_000;

/// How much a job's channels may have in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkLevel {
    /// Filled buffers on the road of one subpartition; 1..=[`ROAD_BUFFERS_MAX`], a power of two.
    pub road: u32,
    /// Frames that a consumer grants a channel from another process; 1..=[`CREDIT_MAX`].
    pub credit: u32,
}

/// The levels a job may run at, the most generous first: each halves the one before.
pub const NETWORK_LEVELS: [NetworkLevel; 4] = [
    NetworkLevel {
        road: 8,
        credit: 16,
    },
    NetworkLevel { road: 4, credit: 8 },
    NetworkLevel { road: 2, credit: 4 },
    NetworkLevel { road: 1, credit: 2 },
];

/// Most filled buffers on one road.
pub const ROAD_BUFFERS_MAX: u32 = NETWORK_LEVELS[0].road;

/// Most credit of one channel.
pub const CREDIT_MAX: u32 = NETWORK_LEVELS[0].credit;

impl NetworkLevel {
    /// The least that works: the level of a job that would fit at no other.
    pub const SMALLEST: Self = NETWORK_LEVELS[NETWORK_LEVELS.len() - 1];

    /// The road of the level with this credit.
    #[must_use]
    pub const fn road_of(credit: u32) -> u32 {
        let mut index = 0;
        while index < NETWORK_LEVELS.len() {
            if NETWORK_LEVELS[index].credit <= credit {
                return NETWORK_LEVELS[index].road;
            }
            index += 1;
        }
        Self::SMALLEST.road
    }

    /// Buffers that one subpartition may hold of the producing core's pool.
    #[must_use]
    pub const fn subpartition_buffers(self) -> u32 {
        self.road + SUBPARTITION_EXTRA
    }

    /// Buffers that one channel from another process may hold of the consuming core's pool.
    #[must_use]
    pub const fn remote_channel_buffers(self) -> u32 {
        let pinned = if self.credit < PINNED_BLOCKS_MAX {
            self.credit
        } else {
            PINNED_BLOCKS_MAX
        };
        self.credit + pinned + 1
    }
}

/// Channels whose buffers come from one core's pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CoreChannels {
    /// Subpartitions of producing subtasks on the core.
    pub subpartitions: u64,
    /// Channels from other processes to consuming subtasks on the core.
    pub remote: u64,
}

impl CoreChannels {
    /// Buffers that these channels may hold at `level`.
    #[must_use]
    pub const fn buffers(self, level: NetworkLevel) -> u64 {
        let subpartitions = self
            .subpartitions
            .saturating_mul(level.subpartition_buffers() as u64);
        let remote = self
            .remote
            .saturating_mul(level.remote_channel_buffers() as u64);
        subpartitions.saturating_add(remote)
    }
}

/// Buffers in the pool of each of `cores` data cores that share `network_memory_bytes`, rounded down.
#[must_use]
pub const fn pool_buffers(network_memory_bytes: u64, cores: u32) -> u64 {
    let cores = if cores == 0 { 1 } else { cores };
    network_memory_bytes / BUFFER_BYTES as u64 / cores as u64
}

/// Network memory, in bytes, that gives each of `cores` data cores a pool of `buffers`.
#[must_use]
pub const fn network_memory_bytes(buffers: u64, cores: u32) -> u64 {
    buffers
        .saturating_mul(BUFFER_BYTES as u64)
        .saturating_mul(cores as u64)
}

/// Checks that each of `cores` data cores gets at least its receive buffers: 1 MiB per core.
///
/// # Errors
/// What is missing and which flag to raise, for the person who started the process.
pub fn check_network_memory(bytes: u64, cores: u32) -> Result<(), String> {
    if pool_buffers(bytes, cores) >= u64::from(RECEIVE_BUFFERS) {
        return Ok(());
    }
    let least_mib = network_memory_bytes(u64::from(RECEIVE_BUFFERS), cores) >> 20;
    Err(format!(
        "{bytes} bytes of network memory are too few for {cores} data cores: each needs {} MiB to receive at all; raise \
         --network-memory to at least {least_mib} MiB, and beyond that by what jobs need",
        network_memory_bytes(u64::from(RECEIVE_BUFFERS), 1) >> 20,
    ))
}

const _: () = assert!((RECEIVE_BUFFERS as usize * BUFFER_BYTES).is_multiple_of(1 << 20));
const _: () = assert!(
    RECEIVE_BUFFERS.is_power_of_two(),
    "the kernel's buffer rings are"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_are_those_of_the_table_above() {
        let per_channel: Vec<(u32, u32)> = NETWORK_LEVELS
            .iter()
            .map(|level| (level.subpartition_buffers(), level.remote_channel_buffers()))
            .collect();
        assert_eq!(per_channel, [(11, 33), (7, 17), (5, 9), (4, 5)]);
        for level in NETWORK_LEVELS {
            assert_eq!(NetworkLevel::road_of(level.credit), level.road);
        }
        let channels = CoreChannels {
            subpartitions: 16,
            remote: 2,
        };
        assert_eq!(channels.buffers(NETWORK_LEVELS[0]), 16 * 11 + 2 * 33);
        assert_eq!(channels.buffers(NetworkLevel::SMALLEST), 16 * 4 + 2 * 5);
    }

    #[test]
    fn levels_fall_and_their_roads_are_ring_sizes() {
        for pair in NETWORK_LEVELS.windows(2) {
            assert!(pair[0].road > pair[1].road && pair[0].credit > pair[1].credit);
        }
        assert!(
            NETWORK_LEVELS
                .iter()
                .all(|level| level.road.is_power_of_two() && level.credit >= 1)
        );
    }

    #[test]
    fn pools_share_the_memory_and_the_memory_makes_the_pools() {
        assert_eq!(pool_buffers(256 << 20, 1), 8192);
        assert_eq!(pool_buffers((256 << 20) - 1, 3), 2730);
        for cores in [1, 2, 3, 7, 64] {
            for buffers in [1, 32, 33, 1000] {
                assert_eq!(
                    pool_buffers(network_memory_bytes(buffers, cores), cores),
                    buffers
                );
            }
        }
    }

    #[test]
    fn too_little_memory_is_refused_with_the_least_that_will_do() {
        assert_eq!(check_network_memory(1 << 20, 1), Ok(()));
        assert_eq!(check_network_memory(3 << 20, 3), Ok(()));
        assert_eq!(
            check_network_memory(1 << 20, 2).unwrap_err(),
            "1048576 bytes of network memory are too few for 2 data cores: each needs 1 MiB to receive at all; raise \
             --network-memory to at least 2 MiB, and beyond that by what jobs need"
        );
    }
}
