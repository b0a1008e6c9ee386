//! Whether the exchange buffers of the chosen cores suffice for a job, and for how much in flight.
//!
//! Owns: what each core of a placement needs ([`channels_by_core`]), the choice of a level ([`fit`]), and the sentence for
//! whoever has to raise a flag ([`Shortage`]).
//! Invariant: a job that fits at the answered level can take all it may ever hold of every pool it uses, whatever the
//! other jobs take of theirs.
//! Left out: the sums per channel (`ringflow_schemas::network`), keeping the books (cluster/network.rs).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ringflow_schemas::id::JobId;
use ringflow_schemas::network::{
    BUFFER_BYTES, CoreChannels, NETWORK_LEVELS, NetworkLevel, RECEIVE_BUFFERS, network_memory_bytes,
};

use crate::cluster::{CoreId, TaskManagers};
use crate::event::ConnectionId;
use crate::graph::job_graph::JobGraph;
use crate::graph::wiring;

/// What became of the search for a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fit {
    /// The largest level at which the job fits beside what is held already.
    At(NetworkLevel),
    /// Not now, but once jobs that are ending have given back what they hold.
    Later(Shortage),
    /// Not beside the jobs that run, not even at the smallest level.
    No(Shortage),
}

/// The core that is shortest of buffers, at the smallest level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shortage {
    task_manager_id: String,
    core: u32,
    required: u64,
    held: u64,
    /// The pool of the core.
    total: u64,
    /// Network memory, in MiB, with which its TaskManager would have enough.
    least_mib: u64,
    /// Short TaskManagers.
    task_managers: usize,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reserve = u64::from(RECEIVE_BUFFERS);
        let available = self.total.saturating_sub(reserve + self.held);
        write!(
            f,
            "insufficient number of network buffers: required {}, but only {available} available on core {} of TaskManager \
             {}; it has {} of {} KiB, {reserve} set aside for receiving and {} taken by other jobs: raise \
             --network-memory to at least {} MiB{}, or lower -p/--parallelism",
            self.required,
            self.core,
            self.task_manager_id,
            self.total,
            BUFFER_BYTES >> 10,
            self.held,
            self.least_mib,
            if self.task_managers > 1 {
                format!(" on each of {} TaskManagers", self.task_managers)
            } else {
                String::new()
            },
        )
    }
}

/// Counts the channels that each core has to find buffers for. `cores`: by vertex, then by subtask.
///
/// Cost: O(channels), a comparison each.
pub(crate) fn channels_by_core(
    job_graph: &JobGraph,
    cores: &[Vec<CoreId>],
) -> BTreeMap<CoreId, CoreChannels> {
    let mut channels: BTreeMap<CoreId, CoreChannels> = BTreeMap::new();
    for edge in &job_graph.edges {
        let (producers, consumers) = (
            &cores[edge.producer as usize],
            &cores[edge.consumer as usize],
        );
        let (producer_count, consumer_count) = (count(producers), count(consumers));
        for (producer, core) in (0u32..).zip(producers) {
            let reached =
                wiring::consumers_of(edge.partitioner, producer, producer_count, consumer_count);
            channels.entry(*core).or_default().subpartitions += reached.len() as u64;
        }
        for (consumer, core) in (0u32..).zip(consumers) {
            let sources =
                wiring::producers_of(edge.partitioner, consumer, producer_count, consumer_count);
            let remote = producers[sources.start as usize..sources.end as usize]
                .iter()
                .filter(|producer| producer.connection != core.connection)
                .count();
            channels.entry(*core).or_default().remote += remote as u64;
        }
    }
    channels
}

/// Buffers that these channels take on each core of one TaskManager; cores of which they take none are left out.
pub(crate) fn buffers_on(
    channels: &BTreeMap<CoreId, CoreChannels>,
    connection: ConnectionId,
    level: NetworkLevel,
) -> BTreeMap<u32, u64> {
    channels
        .iter()
        .filter(|(core, _)| core.connection == connection)
        .map(|(core, channels)| (core.core, channels.buffers(level)))
        .filter(|&(_, buffers)| buffers > 0)
        .collect()
}

/// The largest level at which every core has enough. `is_ending`: what this job holds will soon be back.
pub(crate) fn fit(
    cluster: &TaskManagers,
    channels: &BTreeMap<CoreId, CoreChannels>,
    is_ending: impl Fn(JobId) -> bool,
) -> Fit {
    let fits = |level: NetworkLevel, held: &dyn Fn(CoreId) -> u64| {
        channels.iter().all(|(&core, channels)| {
            let wanted = channels.buffers(level).saturating_add(held(core));
            wanted <= cluster.buffers_for_jobs(core)
        })
    };
    let held = |core| cluster.buffers_held(core, |_| true);
    if let Some(&level) = NETWORK_LEVELS.iter().find(|&&level| fits(level, &held)) {
        return Fit::At(level);
    }
    let Some(shortage) = shortage(cluster, channels) else {
        return Fit::At(NetworkLevel::SMALLEST);
    };
    let lasting = |core| cluster.buffers_held(core, |job| !is_ending(job));
    if fits(NetworkLevel::SMALLEST, &lasting) {
        Fit::Later(shortage)
    } else {
        Fit::No(shortage)
    }
}

/// The worst of the cores that are short at the smallest level.
fn shortage(cluster: &TaskManagers, channels: &BTreeMap<CoreId, CoreChannels>) -> Option<Shortage> {
    let mut worst: Option<Shortage> = None;
    let mut short = BTreeSet::new();
    for (&core, channels) in channels {
        let Some(member) = cluster.get(core.connection) else {
            continue;
        };
        let required = channels.buffers(NetworkLevel::SMALLEST);
        let held = cluster.buffers_held(core, |_| true);
        if required + held <= cluster.buffers_for_jobs(core) {
            continue;
        }
        short.insert(core.connection);
        let cores = u32::try_from(member.address.data_ports.len()).unwrap_or(u32::MAX);
        let least = network_memory_bytes(required + held + u64::from(RECEIVE_BUFFERS), cores);
        let least_mib = least.div_ceil(1 << 20);
        if worst
            .as_ref()
            .is_none_or(|worst| least_mib > worst.least_mib)
        {
            worst = Some(Shortage {
                task_manager_id: member.address.id.to_string(),
                core: core.core,
                required,
                held,
                total: member.network.per_core(),
                least_mib,
                task_managers: 0,
            });
        }
    }
    worst.map(|worst| Shortage {
        task_managers: short.len(),
        ..worst
    })
}

fn count(cores: &[CoreId]) -> u32 {
    u32::try_from(cores.len()).unwrap_or(u32::MAX)
}
