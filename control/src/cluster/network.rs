//! The books of one TaskManager's exchange buffers.
//!
//! Owns: [`NetworkMemory`]: the size of its cores' pools and what each job may take of them.
//! Invariant: what a job holds is given back at once, when the last of its subtasks on the TaskManager is terminal. Not
//! sooner: a buffer of a producer that has ended, or is being cancelled, may lie on the road to, or in the hands of, any
//! other subtask of the job in that process. Not later either: buffers never leave their process.
//! Left out: whether a job fits (schedule/network.rs).

use std::collections::BTreeMap;

use ringflow_schemas::id::JobId;
use ringflow_schemas::network::{RECEIVE_BUFFERS, pool_buffers};

use crate::event::Registration;

/// What one job may take of each core's pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hold {
    /// Its subtasks here that are not terminal.
    pub(crate) open: usize,
    /// Buffers by core; cores of which it takes none are left out.
    pub(crate) by_core: BTreeMap<u32, u64>,
}

/// Pools of one TaskManager and who holds them.
#[derive(Debug)]
pub(crate) struct NetworkMemory {
    per_core: u64,
    holds: BTreeMap<JobId, Hold>,
}

impl NetworkMemory {
    pub(crate) fn new(registration: &Registration) -> Self {
        let cores = u32::try_from(registration.data_ports.len()).unwrap_or(u32::MAX);
        Self {
            per_core: pool_buffers(registration.network_memory_bytes, cores),
            holds: BTreeMap::new(),
        }
    }

    /// Buffers in the pool of each core.
    pub(crate) fn per_core(&self) -> u64 {
        self.per_core
    }

    /// Those that jobs may share.
    pub(crate) fn for_jobs(&self) -> u64 {
        self.per_core.saturating_sub(u64::from(RECEIVE_BUFFERS))
    }

    /// Buffers of `core` held by the jobs that `of` names.
    pub(crate) fn held(&self, core: u32, of: impl Fn(JobId) -> bool) -> u64 {
        self.holds
            .iter()
            .filter(|&(&job, _)| of(job))
            .filter_map(|(_, hold)| hold.by_core.get(&core))
            .sum()
    }

    pub(crate) fn holds(&self) -> &BTreeMap<JobId, Hold> {
        &self.holds
    }

    /// `job` comes with `subtasks` subtasks.
    pub(crate) fn take(&mut self, job: JobId, subtasks: usize, by_core: BTreeMap<u32, u64>) {
        let hold = Hold {
            open: subtasks,
            by_core,
        };
        let before = self.holds.insert(job, hold);
        debug_assert_eq!(before, None, "a job is deployed once");
    }

    /// One subtask of `job` is terminal.
    pub(crate) fn subtask_ended(&mut self, job: JobId) {
        if let Some(hold) = self.holds.get_mut(&job) {
            hold.open = hold.open.saturating_sub(1);
            if hold.open == 0 {
                self.holds.remove(&job);
            }
        }
    }
}
