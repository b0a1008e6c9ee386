//! What must be true of commands, judged from events and commands alone.

use std::collections::{BTreeMap, BTreeSet};

use ringflow_control::command::{Command, Deployment, ToTaskManager};
use ringflow_control::event::{ConnectionId, Event, FromTaskManager, ReportedStatus};
use ringflow_schemas::id::{ExecutionAttemptId, JobId};
use ringflow_schemas::network::{self, NETWORK_LEVELS, NetworkLevel};

use crate::task_manager::core_of;

/// Attempts that are deployed and not yet known to have ended.
#[derive(Default)]
pub(crate) struct Oracle {
    open: BTreeMap<ExecutionAttemptId, (ConnectionId, u32)>,
    /// Deployed ones that read from outside, and those of them that were told to stop.
    sources: BTreeSet<ExecutionAttemptId>,
    stopped: BTreeSet<ExecutionAttemptId>,
    /// Of each core of a TaskManager: its pool.
    pools: BTreeMap<ConnectionId, u64>,
    /// What a job may take of a core's pool, by its deployment there.
    taken: BTreeMap<(ConnectionId, JobId), BTreeMap<u32, u64>>,
    levels: BTreeMap<NetworkLevel, usize>,
}

impl Oracle {
    /// Before the engine sees it.
    pub(crate) fn on_event(&mut self, event: &Event) {
        match event {
            Event::ConnectionClosed { connection, .. } => self.on_closed(*connection),
            Event::TaskManager {
                connection,
                message: FromTaskManager::Goodbye { .. },
            } => self.on_closed(*connection),
            Event::TaskManager {
                connection,
                message: FromTaskManager::Register(registration),
            } => {
                let cores = u32::try_from(registration.data_ports.len()).unwrap();
                let pool = network::pool_buffers(registration.network_memory_bytes, cores);
                self.pools.insert(*connection, pool);
            }
            Event::TaskManager {
                connection,
                message: FromTaskManager::SubtaskStatusChanged(change),
            } => {
                let ended = matches!(
                    change.status,
                    ReportedStatus::Finished | ReportedStatus::Canceled | ReportedStatus::Failed
                );
                if ended
                    && self
                        .open
                        .get(&change.attempt)
                        .is_some_and(|(at, _)| at == connection)
                {
                    self.open.remove(&change.attempt);
                    let job = change.attempt.job;
                    let others = self.open.iter();
                    let mut others =
                        others.filter(|(other, (at, _))| other.job == job && at == connection);
                    if others.next().is_none() {
                        self.taken.remove(&(*connection, job));
                    }
                }
            }
            _ => {}
        }
    }

    fn on_closed(&mut self, connection: ConnectionId) {
        self.open.retain(|_, (at, _)| *at != connection);
        self.taken.retain(|(at, _), _| *at != connection);
    }

    /// After the engine answered. Connections it closes are gone for everything in the same answer.
    pub(crate) fn on_commands(&mut self, commands: &[Command]) {
        for command in commands {
            if let Command::Close { connection, .. } = command {
                self.on_closed(*connection);
            }
        }
        for command in commands {
            let Command::Send {
                connection,
                message,
            } = command
            else {
                continue;
            };
            match message {
                ToTaskManager::DeploySubtasks(deployment) => {
                    self.on_buffers_taken(*connection, deployment);
                    for subtask in &deployment.subtasks {
                        if subtask.inputs.is_empty() {
                            self.sources.insert(subtask.attempt);
                        }
                        self.on_deployed(
                            deployment.job,
                            subtask.attempt,
                            *connection,
                            subtask.slot,
                        );
                    }
                }
                ToTaskManager::CancelSubtasks(attempts) => {
                    for attempt in attempts {
                        let at = self.open.get(attempt).map(|&(at, _)| at);
                        assert_eq!(at, Some(*connection), "cancelled {attempt} where it is not");
                    }
                }
                ToTaskManager::StopSubtasks { attempts, .. } => {
                    for attempt in attempts {
                        let at = self.open.get(attempt).map(|&(at, _)| at);
                        assert_eq!(at, Some(*connection), "stopped {attempt} where it is not");
                        assert!(
                            self.sources.contains(attempt),
                            "stopped {attempt}, which is no source"
                        );
                        assert!(self.stopped.insert(*attempt), "stopped {attempt} twice");
                    }
                }
                _ => {}
            }
        }
    }

    /// Network memory within limits: what all deployed attempts that have not ended may take of a pool, it has. Judged
    /// from descriptors: who ended may have left buffers with the others of its job in that process.
    fn on_buffers_taken(&mut self, connection: ConnectionId, deployment: &Deployment) {
        let mut by_core: BTreeMap<u32, u64> = BTreeMap::new();
        for subtask in &deployment.subtasks {
            let taken = by_core.entry(core_of(subtask.slot)).or_default();
            for output in &subtask.outputs {
                let level = level_of(|level| level.road == output.road_buffers);
                *taken += output.channels.len() as u64 * u64::from(level.subpartition_buffers());
                *self.levels.entry(level).or_default() += 1;
            }
            for input in &subtask.inputs {
                let level = level_of(|level| level.credit == input.credit);
                let remote = input.channels.iter().filter(|channel| {
                    let here = deployment.subtasks.iter();
                    !here.into_iter().any(|own| own.attempt == channel.producer)
                });
                *taken += remote.count() as u64 * u64::from(level.remote_channel_buffers());
            }
        }
        self.taken.insert((connection, deployment.job), by_core);
        for core in 0..2 {
            let of_core = self.taken.iter().filter(|((at, _), _)| *at == connection);
            let taken: u64 = of_core.filter_map(|(_, by_core)| by_core.get(&core)).sum();
            let pool = self.pools[&connection] - u64::from(network::RECEIVE_BUFFERS);
            assert!(
                taken <= pool,
                "{taken} buffers of {pool} on core {core} of {connection:?}"
            );
        }
    }

    /// Result partitions deployed at each level.
    pub(crate) fn levels(&self) -> &BTreeMap<NetworkLevel, usize> {
        &self.levels
    }

    fn on_deployed(
        &mut self,
        job: JobId,
        attempt: ExecutionAttemptId,
        connection: ConnectionId,
        slot: u32,
    ) {
        let at = (connection, slot);
        for (other, &place) in &self.open {
            assert!(
                place != at || other.job == job,
                "slot {at:?} holds {other}, and now {attempt}"
            );
            let same = (other.job, other.vertex, other.subtask)
                == (attempt.job, attempt.vertex, attempt.subtask);
            assert!(!same, "{other} is open, and now {attempt}");
        }
        self.open.insert(attempt, at);
    }
}

fn level_of(is: impl Fn(&NetworkLevel) -> bool) -> NetworkLevel {
    *NETWORK_LEVELS.iter().find(|level| is(level)).unwrap()
}
