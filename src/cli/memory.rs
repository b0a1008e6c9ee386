//! Where state is kept, and what memory the process may take.
//!
//! ```text
//!  --memory = network memory + state memory + the rest (64 MiB and 4 MiB for each data core: code, stacks, clients, allocator)
//! ```
//! Owns: [`StateArgs`], [`MemoryPlan`] and its arithmetic. Invariant: a plan's parts are at most the whole; what cannot fit is
//! refused with its numbers.
//! Left out: what the disk backend does with its part (`ringflow_dataplane::state::disk`), and a bound on state in memory, which
//! grows with its keys: there the part is only told.

use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};
use ringflow_dataplane::state::disk::DiskOptions;

use crate::cli::args::{network_memory_bytes, parse_bytes};

const MIB: usize = 1 << 20;

/// What a process takes beside network and state memory: measured 39 MiB in all for `run sum` with 10 keys, one data core and
/// 16 MiB of network memory; the rest is reserve.
const REST_BYTES: usize = 64 * MIB;

/// The same for each data core: its executor, rings, and the allocator's pages.
const REST_BYTES_PER_CORE: usize = 4 * MIB;

/// State memory of the disk backend where nobody said how much memory there is.
const STATE_BYTES: usize = 256 * MIB;

/// Least state memory: a few megabytes for the blocks of the tree, and as much for tables.
const STATE_BYTES_MIN: usize = 32 * MIB;

/// Where operators keep keyed state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum StateBackend {
    /// In memory: fastest, and as large as memory
    #[default]
    Hashmap,
    /// In LSM trees on local disk, with the newest in memory: for state larger than memory
    #[value(alias = "lsm")]
    Disk,
}

/// State and memory of a TaskManager.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "State and memory")]
pub struct StateArgs {
    /// Where keyed state is kept, for all jobs of the TaskManager (Flink's state.backend.type)
    #[arg(long, global = true, value_enum, default_value = "hashmap")]
    pub state_backend: StateBackend,
    /// Directory for state on disk, of this TaskManager alone; what is in it goes when the TaskManager ends [default: one of
    /// its own in the system's directory for temporary files]
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Memory of the whole process, such as 512MiB: network memory, state on disk and 64 MiB + 4 MiB per data core for the
    /// rest; state in memory is not held back by it
    #[arg(long, global = true, value_name = "SIZE", value_parser = parse_bytes)]
    pub memory: Option<usize>,
}

impl StateArgs {
    /// Some flag was given.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.state_backend != StateBackend::default()
            || self.state_dir.is_some()
            || self.memory.is_some()
    }
}

/// What a TaskManager may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlan {
    /// For exchange buffers.
    pub network_bytes: usize,
    /// Where state on disk is, and its memory; `None`: state is in memory.
    pub disk_state: Option<DiskOptions>,
}

impl MemoryPlan {
    /// Divides memory for `cores` data cores; `network` is what was asked for exchange buffers.
    ///
    /// Without that, they get what the flag's default is, but at most a quarter of `--memory`.
    ///
    /// # Errors
    /// The parts do not fit, or flags contradict each other; says what is enough.
    pub fn decide(args: &StateArgs, network: Option<usize>, cores: usize) -> crate::Result<Self> {
        let on_disk = args.state_backend == StateBackend::Disk;
        ensure!(
            on_disk || args.state_dir.is_none(),
            "--state-dir is for state on disk: add --state-backend disk"
        );
        let network_bytes = match (network, args.memory) {
            (None, Some(all)) => network_memory_bytes(
                Some(network_memory_bytes(None, cores)?.min((all / 4).max(MIB * cores))),
                cores,
            )?,
            (asked, _) => network_memory_bytes(asked, cores)?,
        };
        let rest = REST_BYTES + cores.saturating_mul(REST_BYTES_PER_CORE);
        let state_min = if on_disk { STATE_BYTES_MIN } else { 0 };
        let state_bytes = match args.memory {
            None => STATE_BYTES,
            Some(all) => match all.checked_sub(network_bytes.saturating_add(rest)) {
                Some(state) if state >= state_min => state,
                _ => bail!(
                    "--memory {} MiB is too little: {} MiB are for network memory, {} MiB for the process itself with {cores} data \
                     cores, and {} MiB is the least for state; give {} MiB or more, or less --network-memory",
                    all / MIB,
                    network_bytes.div_ceil(MIB),
                    rest / MIB,
                    state_min / MIB,
                    (network_bytes + rest + state_min).div_ceil(MIB),
                ),
            },
        };
        if let Some(all) = args.memory {
            tracing::info!(
                "of {} MiB of memory {} are for the network, {} for state ({}), {} for the rest",
                all / MIB,
                network_bytes / MIB,
                state_bytes / MIB,
                if on_disk {
                    "a bound"
                } else {
                    "no bound: it is in memory"
                },
                rest / MIB
            );
        }
        Ok(Self {
            network_bytes,
            disk_state: on_disk.then(|| DiskOptions {
                directory: args.state_dir.clone(),
                memory_bytes: state_bytes,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(memory_mib: Option<usize>, state_backend: StateBackend) -> StateArgs {
        StateArgs {
            state_backend,
            state_dir: None,
            memory: memory_mib.map(|mib| mib * MIB),
        }
    }

    #[test]
    fn the_parts_of_memory_are_the_whole() {
        for (memory, cores) in [(256, 1), (512, 1), (1024, 8), (65_536, 30)] {
            let plan = MemoryPlan::decide(&args(Some(memory), StateBackend::Disk), None, cores)
                .expect("fits");
            let state = plan.disk_state.expect("on disk").memory_bytes;
            let rest = REST_BYTES + cores * REST_BYTES_PER_CORE;
            assert_eq!(plan.network_bytes + state + rest, memory * MIB);
            assert!(plan.network_bytes <= memory * MIB / 4 && state >= STATE_BYTES_MIN);
        }
        let plan = MemoryPlan::decide(&args(None, StateBackend::Hashmap), None, 2).expect("fits");
        assert_eq!(
            plan,
            MemoryPlan {
                network_bytes: 256 * MIB,
                disk_state: None
            }
        );
    }

    #[test]
    fn what_cannot_fit_is_refused_with_what_is_enough() {
        let error = |memory, backend, network: Option<usize>| {
            let network = network.map(|mib| mib * MIB);
            let refused = MemoryPlan::decide(&args(Some(memory), backend), network, 1);
            refused.expect_err("too little").to_string()
        };
        let text = error(128, StateBackend::Disk, Some(64));
        assert!(
            text.contains("--memory 128 MiB") && text.contains("give 164 MiB"),
            "{text}"
        );
        assert!(
            MemoryPlan::decide(&args(Some(164), StateBackend::Disk), Some(64 * MIB), 1).is_ok()
        );
        let text = error(100, StateBackend::Hashmap, Some(64));
        assert!(text.contains("give 132 MiB"), "{text}");
        let apart = StateArgs {
            state_dir: Some("/x".into()),
            ..StateArgs::default()
        };
        let text = MemoryPlan::decide(&apart, None, 1)
            .expect_err("contradicts")
            .to_string();
        assert!(text.contains("--state-backend disk"), "{text}");
    }
}
