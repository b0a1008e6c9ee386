//! The cluster, its clients and its faults.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use ringflow_control::command::{Command, StopAnswer};
use ringflow_control::engine::{Engine, EngineConfig};
use ringflow_control::event::{
    ConnectionId, Event, FromTaskManager, ReportedStatus, SubtaskStatusChange,
};
use ringflow_control::graph::StreamGraph;
use ringflow_control::supervise::{JobStatus, StopMode};
use ringflow_control::time::Timestamp;
use ringflow_schemas::id::{ExecutionAttemptId, JobId};
use ringflow_schemas::network::{NetworkLevel, RECEIVE_BUFFERS};

use crate::oracle::Oracle;
use crate::random::Random;
use crate::support::counting_job;
use crate::task_manager::{TaskManager, is_unbounded};

const STEPS: usize = 1500;
const HEAL_ROUNDS: usize = 20_000;

pub(crate) struct World {
    random: Random,
    now: Timestamp,
    engine: Engine,
    oracle: Oracle,
    members: Vec<TaskManager>,
    /// Closed connections of which the engine does not know yet.
    closing: Vec<ConnectionId>,
    connections: u64,
    /// Accepted jobs.
    jobs: Vec<JobId>,
    /// Those of them that were told to stop, with success.
    stopping: BTreeSet<JobId>,
    submissions: u64,
    ends: BTreeMap<JobId, JobStatus>,
    /// Jobs that were refused, or failed, for want of buffers.
    short: usize,
    fingerprint: DefaultHasher,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let count = 1 + random.below(5);
        let members = (0..count)
            .map(|index| {
                TaskManager::new(
                    format!("tm-{index}"),
                    1 + u32::try_from(random.below(4)).unwrap(),
                    // From barely enough to receive to enough for anything.
                    u64::from(RECEIVE_BUFFERS) + random.below(200),
                )
            })
            .collect();
        Self {
            random,
            now: Timestamp(1_000_000),
            engine: Engine::new(EngineConfig {
                cluster_id: "simulated".to_owned(),
                leader_epoch: 1,
                heartbeat_interval: Duration::from_secs(1),
                heartbeat_timeout: Duration::from_secs(5),
                slot_request_timeout: Duration::from_secs(60),
                version: "1".to_owned(),
            }),
            oracle: Oracle::default(),
            members,
            closing: Vec::new(),
            connections: 0,
            jobs: Vec::new(),
            stopping: BTreeSet::new(),
            submissions: 0,
            ends: BTreeMap::new(),
            short: 0,
            fingerprint: DefaultHasher::new(),
        }
    }

    pub(crate) fn safety_phase(&mut self) {
        for _ in 0..STEPS {
            self.step();
        }
    }

    fn step(&mut self) {
        let at = self.random.index(self.members.len());
        match self.random.below(100) {
            0..=1 => self.submit(),
            2 if self.random.chance(50) => self.cancel(),
            2 => self.stop(),
            3..=5 => self.connect(at),
            6 => self.cut(at),
            7 if self.random.chance(30) => self.leave(at),
            8..=9 => self.gossip(at),
            10..=14 => self.tell_closed(),
            15..=24 => self.pass_time(300),
            25..=29 => self.members[at].heartbeat_if_connected(),
            30..=49 => self.progress(at, true),
            50..=74 => self.deliver(at),
            _ => self.members[at].receive(),
        }
    }

    /// Faults end, unbounded jobs are stopped where they run, or cancelled; every accepted job must come to an end.
    pub(crate) fn drain(&mut self) {
        for at in 0..self.members.len() {
            if self.members[at].connection.is_none() {
                self.connect(at);
            }
        }
        for job in self.jobs.clone() {
            if is_unbounded(job) {
                let mode = self.draw_mode();
                self.feed(Event::StopJob { job, mode });
                if !self.stopping.contains(&job) {
                    self.feed(Event::CancelJob { job });
                }
            }
        }
        for round in 0..HEAL_ROUNDS {
            self.tell_closed();
            for at in 0..self.members.len() {
                if self.members[at].connection.is_none() {
                    self.connect(at);
                }
                self.members[at].receive();
                self.progress(at, false);
                self.deliver(at);
                if round % 8 == 0 {
                    self.members[at].heartbeat_if_connected();
                }
            }
            self.pass_time(40);
            if round % 64 == 0 && self.jobs.iter().all(|job| self.ended(*job)) {
                break;
            }
        }
        for &job in &self.jobs {
            assert!(
                self.ended(job),
                "job {job} is still {:?}",
                self.engine.job_status(job)
            );
        }
    }

    fn ended(&self, job: JobId) -> bool {
        self.ends.contains_key(&job)
    }

    pub(crate) fn ends(&self) -> BTreeMap<JobStatus, usize> {
        let mut ends = BTreeMap::new();
        for &status in self.ends.values() {
            *ends.entry(status).or_insert(0) += 1;
        }
        ends
    }

    /// Jobs that would have run for ever, and finished because they were stopped.
    pub(crate) fn stopped(&self) -> usize {
        let ends = self.ends.iter();
        let finished = ends.filter(|(_, status)| **status == JobStatus::Finished);
        finished.filter(|(job, _)| is_unbounded(**job)).count()
    }

    /// Jobs deployed at each level.
    pub(crate) fn levels(&self) -> &BTreeMap<NetworkLevel, usize> {
        self.oracle.levels()
    }

    /// Jobs for which there were not enough buffers.
    pub(crate) fn short(&self) -> usize {
        self.short
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint.finish()
    }

    // ---------------------------------------------------------------------------------------- what happens

    fn submit(&mut self) {
        self.submissions += 1;
        let job = JobId(u128::from(self.submissions));
        let graph = self.draw_graph();
        self.feed(Event::SubmitJob {
            job,
            graph: Arc::new(graph),
        });
    }

    fn draw_graph(&mut self) -> StreamGraph {
        let parallelism = u32::try_from(self.random.below(6)).unwrap();
        let splits = i32::try_from(self.random.below(7)).unwrap();
        let mut graph = counting_job(parallelism, splits);
        graph.nodes[0].auto_parallelism = self.random.chance(40);
        if self.random.chance(20) {
            graph.nodes[2].slot_sharing_group = "other".to_owned();
        }
        graph
    }

    fn cancel(&mut self) {
        if !self.jobs.is_empty() {
            let job = self.jobs[self.random.index(self.jobs.len())];
            self.feed(Event::CancelJob { job });
        }
    }

    fn stop(&mut self) {
        if !self.jobs.is_empty() {
            let job = self.jobs[self.random.index(self.jobs.len())];
            let mode = self.draw_mode();
            self.feed(Event::StopJob { job, mode });
        }
    }

    fn draw_mode(&mut self) -> StopMode {
        StopMode::of(self.random.chance(50))
    }

    /// Starts, or starts again; of an old connection the engine may hear only later, or never.
    fn connect(&mut self, at: usize) {
        self.cut(at);
        self.connections += 1;
        self.members[at].connect(ConnectionId(self.connections));
    }

    /// `kill -9`, or a cable pulled.
    fn cut(&mut self, at: usize) {
        if let Some(connection) = self.members[at].connection {
            self.members[at].disconnect();
            if self.random.chance(80) {
                self.closing.push(connection);
            }
        }
    }

    fn leave(&mut self, at: usize) {
        if let Some(connection) = self.members[at].connection {
            self.members[at].disconnect();
            let message = FromTaskManager::Goodbye {
                reason: "terminated".to_owned(),
            };
            self.feed(Event::TaskManager {
                connection,
                message,
            });
            self.closing.push(connection);
        }
    }

    /// Reports about attempts that never were, or of others.
    fn gossip(&mut self, at: usize) {
        let Some(connection) = self.members[at].connection else {
            return;
        };
        let job = JobId(u128::from(self.random.below(self.submissions + 2)));
        let attempt = ExecutionAttemptId {
            job,
            vertex: u32::try_from(self.random.below(4)).unwrap(),
            subtask: 90 + u32::try_from(self.random.below(9)).unwrap(),
            attempt: 0,
        };
        let status = ReportedStatus::Finished;
        let change = SubtaskStatusChange {
            attempt,
            status,
            failure: None,
            report: None,
            process_cpu_ns: 1,
        };
        self.feed(Event::TaskManager {
            connection,
            message: FromTaskManager::SubtaskStatusChanged(Box::new(change)),
        });
    }

    fn tell_closed(&mut self) {
        if !self.closing.is_empty() {
            let connection = self
                .closing
                .swap_remove(self.random.index(self.closing.len()));
            self.feed(Event::ConnectionClosed {
                connection,
                reason: "connection closed".to_owned(),
            });
        }
    }

    fn pass_time(&mut self, ms_max: u64) {
        self.now = Timestamp(self.now.0 + self.random.below(ms_max));
        self.feed(Event::Tick);
    }

    fn progress(&mut self, at: usize, faults: bool) {
        let peers: Vec<String> = self
            .members
            .iter()
            .map(|member| member.id.clone())
            .collect();
        self.members[at].progress(&mut self.random, &peers, &self.stopping, faults);
    }

    fn deliver(&mut self, at: usize) {
        if let Some(connection) = self.members[at].connection
            && let Some(message) = self.members[at].to_job_manager.pop_front()
        {
            self.feed(Event::TaskManager {
                connection,
                message,
            });
        }
    }

    // ---------------------------------------------------------------------------------------- the engine

    fn feed(&mut self, event: Event) {
        self.oracle.on_event(&event);
        let description = format!("{event:?}");
        let commands = self.engine.on_event(self.now, event);
        self.oracle.on_commands(&commands);
        if let Err(broken) = self.engine.check() {
            panic!("after {description}: {broken}");
        }
        format!("{commands:?}").hash(&mut self.fingerprint);
        for command in commands {
            self.carry_out(command);
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Send {
                connection,
                message,
            } => {
                if let Some(member) = self
                    .members
                    .iter_mut()
                    .find(|member| member.connection == Some(connection))
                {
                    member.from_job_manager.push_back(message);
                }
            }
            Command::Close { connection, .. } => {
                if let Some(member) = self
                    .members
                    .iter_mut()
                    .find(|member| member.connection == Some(connection))
                {
                    member.disconnect();
                }
            }
            Command::SubmissionAnswered { job, answer: Ok(_) } => self.jobs.push(job),
            Command::StopAnswered {
                job,
                answer: StopAnswer::Accepted,
            } => {
                self.stopping.insert(job);
            }
            Command::SubmissionAnswered {
                answer: Err(refusal),
                ..
            } => self.short += usize::from(is_short(&refusal.to_string())),
            Command::JobStatusChanged { job, to, .. } if to.is_terminal() => {
                let before = self.ends.insert(job, to);
                assert_eq!(before, None, "job {job} ended twice");
                if to == JobStatus::Failed {
                    let cause = self.engine.job_failure(job).unwrap_or_default();
                    assert!(!cause.is_empty(), "job {job} failed for no reason");
                    self.short += usize::from(is_short(cause));
                }
            }
            _ => {}
        }
    }
}

fn is_short(reason: &str) -> bool {
    reason.contains("insufficient number of network buffers")
}

impl TaskManager {
    fn heartbeat_if_connected(&mut self) {
        if self.connection.is_some() {
            self.heartbeat();
        }
    }
}
