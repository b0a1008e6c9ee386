//! A TaskManager process as the control plane may meet it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringflow_control::command::ToTaskManager;
use ringflow_control::event::{
    ConnectionId, Failure, FailureKind, FromTaskManager, Heartbeat, Registration, ReportedStatus,
    SlotDescription, SubtaskCounters, SubtaskReport, SubtaskStatusChange,
};
use ringflow_schemas::id::{ExecutionAttemptId, JobId};
use ringflow_schemas::network::network_memory_bytes;

use crate::random::Random;

/// The core that runs a slot.
pub(crate) fn core_of(slot: u32) -> u32 {
    slot % 2
}

/// Every other job.
pub(crate) fn is_unbounded(job: JobId) -> bool {
    job.0 % 2 == 1
}

struct Running {
    slot: u32,
    status: ReportedStatus,
    is_source: bool,
    /// It shall end: its input will.
    stopped: bool,
}

pub(crate) struct TaskManager {
    pub(crate) id: String,
    slots: u32,
    /// Of each of its two cores' pools.
    pub(crate) buffers: u64,
    /// `None`: not connected, whether dead or cut off.
    pub(crate) connection: Option<ConnectionId>,
    running: BTreeMap<ExecutionAttemptId, Running>,
    /// On their way, in order; lost with the connection.
    pub(crate) to_job_manager: VecDeque<FromTaskManager>,
    pub(crate) from_job_manager: VecDeque<ToTaskManager>,
}

impl TaskManager {
    pub(crate) fn new(id: String, slots: u32, buffers: u64) -> Self {
        Self {
            id,
            slots,
            buffers,
            connection: None,
            running: BTreeMap::new(),
            to_job_manager: VecDeque::new(),
            from_job_manager: VecDeque::new(),
        }
    }

    /// Connects anew: what it ran ended with its last connection.
    pub(crate) fn connect(&mut self, connection: ConnectionId) {
        self.disconnect();
        self.connection = Some(connection);
        self.to_job_manager
            .push_back(FromTaskManager::Register(Box::new(Registration {
                task_manager_id: self.id.clone(),
                data_host: "10.0.0.1".to_owned(),
                data_ports: vec![1, 2],
                slots: (0..self.slots)
                    .map(|slot| SlotDescription {
                        slot,
                        core: core_of(slot),
                    })
                    .collect(),
                core_cpus: vec![0, 1],
                version: "1".to_owned(),
                pid: 1,
                cpu_cores: 2,
                physical_memory_bytes: 0,
                free_memory_bytes: 0,
                network_memory_bytes: network_memory_bytes(self.buffers, 2),
            })));
    }

    /// Dies, or notices that its connection is gone: the same to those who watch.
    pub(crate) fn disconnect(&mut self) {
        self.connection = None;
        self.running.clear();
        self.to_job_manager.clear();
        self.from_job_manager.clear();
    }

    pub(crate) fn heartbeat(&mut self) {
        let subtasks = self
            .running
            .keys()
            .map(|&attempt| report(attempt))
            .collect();
        let heartbeat = Heartbeat {
            process_cpu_ns: 5,
            free_memory_bytes: 5,
            network_buffers_used: 1,
            network_buffers_total: 2 * self.buffers,
            subtasks,
        };
        self.to_job_manager
            .push_back(FromTaskManager::Heartbeat(heartbeat));
    }

    /// Takes in the next message of the JobManager.
    pub(crate) fn receive(&mut self) {
        match self.from_job_manager.pop_front() {
            Some(ToTaskManager::DeploySubtasks(deployment)) => {
                for subtask in &deployment.subtasks {
                    let intruder = self.running.iter().find(|(other, running)| {
                        running.slot == subtask.slot && other.job != deployment.job
                    });
                    assert!(
                        intruder.is_none(),
                        "slot {} of {} is not empty",
                        subtask.slot,
                        self.id
                    );
                    let running = Running {
                        slot: subtask.slot,
                        status: ReportedStatus::Deploying,
                        is_source: subtask.inputs.is_empty(),
                        stopped: false,
                    };
                    self.running.insert(subtask.attempt, running);
                }
            }
            Some(ToTaskManager::CancelSubtasks(attempts)) => {
                for attempt in attempts {
                    if self.running.contains_key(&attempt) {
                        self.report(attempt, ReportedStatus::Canceling, None);
                    }
                }
            }
            Some(ToTaskManager::StopSubtasks { attempts, .. }) => {
                for attempt in attempts {
                    if let Some(running) = self.running.get_mut(&attempt) {
                        let status = running.status;
                        assert_eq!(
                            status,
                            ReportedStatus::Running,
                            "{attempt} does not run yet"
                        );
                        running.stopped = true;
                    }
                }
            }
            Some(ToTaskManager::RegistrationRefused { reason }) => {
                panic!("{} refused: {reason}", self.id)
            }
            _ => {}
        }
    }

    /// One of its subtasks goes on; where faults are allowed, it may fail.
    ///
    /// `stopping`: jobs whose sources end, and with them what is behind.
    pub(crate) fn progress(
        &mut self,
        random: &mut Random,
        peers: &[String],
        stopping: &BTreeSet<JobId>,
        faults: bool,
    ) {
        if self.running.is_empty() {
            return;
        }
        let (&attempt, running) = self
            .running
            .iter()
            .nth(random.index(self.running.len()))
            .unwrap();
        let status = running.status;
        let ends = if running.is_source {
            running.stopped
        } else {
            stopping.contains(&attempt.job)
        };
        if faults && random.chance(3) {
            let failure = match random.below(4) {
                0 => None,
                1 => Some(Failure {
                    kind: FailureKind::PeerLost,
                    message: "connection reset".to_owned(),
                    task_manager_id: Some(peers[random.index(peers.len())].clone()),
                }),
                _ => Some(Failure {
                    kind: FailureKind::Operator,
                    message: "boom".to_owned(),
                    task_manager_id: None,
                }),
            };
            return self.report(attempt, ReportedStatus::Failed, failure);
        }
        let next = match status {
            ReportedStatus::Deploying => ReportedStatus::Initializing,
            ReportedStatus::Initializing => ReportedStatus::Running,
            ReportedStatus::Canceling => ReportedStatus::Canceled,
            // An unbounded job runs until it is told to stop.
            _ if is_unbounded(attempt.job) && !ends => return,
            _ => ReportedStatus::Finished,
        };
        self.report(attempt, next, None);
    }

    fn report(
        &mut self,
        attempt: ExecutionAttemptId,
        status: ReportedStatus,
        failure: Option<Failure>,
    ) {
        let ended = matches!(
            status,
            ReportedStatus::Finished | ReportedStatus::Canceled | ReportedStatus::Failed
        );
        if ended {
            self.running.remove(&attempt);
        } else if let Some(running) = self.running.get_mut(&attempt) {
            running.status = status;
        }
        self.to_job_manager
            .push_back(FromTaskManager::SubtaskStatusChanged(Box::new(
                SubtaskStatusChange {
                    attempt,
                    status,
                    failure,
                    report: ended.then(|| report(attempt)),
                    process_cpu_ns: 9,
                },
            )));
    }
}

fn report(attempt: ExecutionAttemptId) -> SubtaskReport {
    SubtaskReport {
        attempt,
        counters: SubtaskCounters {
            records_in: 1,
            ..SubtaskCounters::default()
        },
        watermark_ms: Some(1),
        latency: Some(vec![1, 2, 3]),
        accumulators: Vec::new(),
    }
}
