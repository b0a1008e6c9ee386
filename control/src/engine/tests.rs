//! Stories: what happens to jobs and TaskManagers, step by step.

use ringflow_schemas::id::ExecutionAttemptId;
use ringflow_schemas::network::{self, NETWORK_LEVELS, NetworkLevel};
use ringflow_schemas::rpc::{self, Message};

use std::sync::Arc;

use super::*;
use crate::command::{CancelAnswer, SubtaskDescriptor};
use crate::event::{
    Accumulator, AccumulatorKind, ConnectionId, Failure, FailureKind, FromTaskManager, Heartbeat,
    Registration, ReportedStatus, SlotDescription, SubtaskCounters, SubtaskReport,
    SubtaskStatusChange,
};
use crate::graph::StreamGraph;
use crate::graph::stream_graph::Partitioner as P;
use crate::graph::testing::{graph, splits};
use crate::submit::Rejected;

mod buffers;
mod stop;

struct Cluster {
    engine: Engine,
    now: Timestamp,
    jobs: u128,
}

impl Cluster {
    fn new(slots: &[u32]) -> Self {
        let config = EngineConfig {
            cluster_id: "test".to_owned(),
            leader_epoch: 3,
            heartbeat_interval: Duration::from_secs(1),
            heartbeat_timeout: Duration::from_secs(5),
            slot_request_timeout: Duration::from_secs(300),
            version: "1".to_owned(),
        };
        let mut cluster = Self {
            engine: Engine::new(config),
            now: Timestamp(1000),
            jobs: 0,
        };
        for (number, &slots) in (1u64..).zip(slots) {
            cluster.register(number, &format!("tm-{number}"), slots);
        }
        cluster
    }

    fn feed(&mut self, event: Event) -> Vec<Command> {
        let commands = self.engine.on_event(self.now, event);
        self.engine.check().unwrap();
        commands
    }

    fn register(&mut self, connection: u64, id: &str, slots: u32) -> Vec<Command> {
        // As many buffers as the largest job needs.
        self.register_with(connection, id, slots, 1 << 20)
    }

    /// Two cores, with so many buffers for jobs on each.
    fn register_with(
        &mut self,
        connection: u64,
        id: &str,
        slots: u32,
        buffers: u64,
    ) -> Vec<Command> {
        let network_memory_bytes =
            network::network_memory_bytes(buffers + u64::from(network::RECEIVE_BUFFERS), 2);
        self.says(
            connection,
            FromTaskManager::Register(Box::new(Registration {
                network_memory_bytes,
                ..registration(id, slots)
            })),
        )
    }

    fn says(&mut self, connection: u64, message: FromTaskManager) -> Vec<Command> {
        self.feed(Event::TaskManager {
            connection: ConnectionId(connection),
            message,
        })
    }

    fn closes(&mut self, connection: u64) -> Vec<Command> {
        let reason = "connection closed".to_owned();
        self.feed(Event::ConnectionClosed {
            connection: ConnectionId(connection),
            reason,
        })
    }

    /// Time passes, tick by tick.
    fn passes(&mut self, ms: u64) -> Vec<Command> {
        let tick = u64::try_from(limits::TICK.as_millis()).unwrap();
        let end = self.now.0 + ms;
        let mut commands = Vec::new();
        while self.now.0 < end {
            self.now = Timestamp(end.min(self.now.0 + tick));
            commands.extend(self.feed(Event::Tick));
        }
        commands
    }

    /// The JobManager's process is stopped, and goes on.
    fn stands_still(&mut self, ms: u64) -> Vec<Command> {
        self.now = Timestamp(self.now.0 + ms);
        self.feed(Event::Tick)
    }

    fn submit(&mut self, graph: StreamGraph) -> (JobId, Vec<Command>) {
        self.jobs += 1;
        let job = JobId(self.jobs);
        (
            job,
            self.feed(Event::SubmitJob {
                job,
                graph: Arc::new(graph),
            }),
        )
    }

    fn reports(
        &mut self,
        connection: u64,
        attempt: ExecutionAttemptId,
        status: ReportedStatus,
    ) -> Vec<Command> {
        self.reports_failure(connection, attempt, status, None)
    }

    fn reports_failure(
        &mut self,
        connection: u64,
        attempt: ExecutionAttemptId,
        status: ReportedStatus,
        failure: Option<Failure>,
    ) -> Vec<Command> {
        let change = SubtaskStatusChange {
            attempt,
            status,
            failure,
            report: None,
            process_cpu_ns: 0,
        };
        self.says(
            connection,
            FromTaskManager::SubtaskStatusChanged(Box::new(change)),
        )
    }

    fn status(&self, job: JobId) -> JobStatus {
        self.engine.job_status(job).unwrap()
    }

    fn root(&self, job: JobId) -> &str {
        self.engine.job_failure(job).unwrap()
    }
}

/// Two cores, which share the slots.
fn registration(id: &str, slots: u32) -> Registration {
    Registration {
        task_manager_id: id.to_owned(),
        data_host: format!("host-{id}"),
        data_ports: vec![7000, 7001],
        slots: (0..slots)
            .map(|slot| SlotDescription {
                slot,
                core: slot % 2,
            })
            .collect(),
        core_cpus: Vec::new(),
        version: "1".to_owned(),
        pid: 4711,
        cpu_cores: 2,
        physical_memory_bytes: 0,
        free_memory_bytes: 0,
        network_memory_bytes: 0,
    }
}

/// `src =hash=> snk`.
fn job(parallelism: u32) -> StreamGraph {
    let mut graph = graph(&["src", "snk"], &[(0, 1, P::Hash)]);
    graph.parallelism = parallelism;
    graph
}

fn auto_job(count: i32) -> StreamGraph {
    let mut graph = job(0);
    graph.nodes[0].auto_parallelism = true;
    graph.nodes[0].splits = splits(count);
    graph
}

fn deployed(commands: &[Command]) -> Vec<(u64, SubtaskDescriptor)> {
    let mut subtasks = Vec::new();
    for command in commands {
        if let Command::Send {
            connection,
            message: ToTaskManager::DeploySubtasks(deployment),
        } = command
        {
            subtasks.extend(
                deployment
                    .subtasks
                    .iter()
                    .cloned()
                    .map(|subtask| (connection.0, subtask)),
            );
        }
    }
    subtasks
}

fn answer(commands: &[Command]) -> Result<Vec<String>, Rejected> {
    let found = commands.iter().find_map(|command| match command {
        Command::SubmissionAnswered { answer, .. } => Some(answer.clone()),
        _ => None,
    });
    found.unwrap()
}

fn peer_lost(id: &str) -> Option<Failure> {
    Some(Failure {
        kind: FailureKind::PeerLost,
        message: "connection reset".to_owned(),
        task_manager_id: Some(id.to_owned()),
    })
}

#[test]
fn a_job_is_spread_wired_and_given_its_splits() {
    let mut cluster = Cluster::new(&[2, 2, 2, 2]);
    let mut graph = job(4);
    graph.nodes[0].splits = splits(6);
    let (_, commands) = cluster.submit(graph);
    assert_eq!(answer(&commands), Ok(Vec::new()));
    let subtasks = deployed(&commands);
    assert_eq!(subtasks.len(), 8);
    for tm in 1..=4 {
        assert_eq!(
            subtasks
                .iter()
                .filter(|(connection, _)| *connection == tm)
                .count(),
            2
        );
    }
    let (_, source) = subtasks
        .iter()
        .find(|(_, subtask)| !subtask.outputs.is_empty())
        .unwrap();
    let channels = &source.outputs[0].channels;
    assert_eq!(
        channels
            .iter()
            .map(|channel| channel.consumer.subtask)
            .collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    assert_eq!(&*channels[2].peer_task_manager_id, "tm-3");
    assert_eq!(channels[2].peer_address, Some(("host-tm-3".into(), 7000)));
    let (_, sink) = subtasks
        .iter()
        .find(|(_, subtask)| !subtask.inputs.is_empty())
        .unwrap();
    assert!(
        sink.inputs[0]
            .channels
            .iter()
            .all(|channel| channel.peer_address.is_none())
    );
    assert_eq!(source.splits.len(), 2);
}

#[test]
fn too_large_jobs_are_refused_and_fitting_ones_wait_their_turn() {
    let mut cluster = Cluster::new(&[1, 1]);
    let (_, commands) = cluster.submit(job(4));
    assert_eq!(
        answer(&commands).unwrap_err().to_string(),
        "job needs 4 slots (max parallelism 4), but only 2 exist (2 TaskManagers) and 2 are free: lower \
         -p/--parallelism to at most 2 or start more TaskManagers / raise --slots"
    );
    let (first, commands) = cluster.submit(job(1));
    let attempts = deployed(&commands);
    let (second, commands) = cluster.submit(job(2));
    assert!(deployed(&commands).is_empty());
    assert_eq!(
        (cluster.status(first), cluster.status(second)),
        (JobStatus::Running, JobStatus::Created)
    );
    // The slot is free only when the last subtask in it has ended.
    let (tm, source) = &attempts[0];
    assert!(deployed(&cluster.reports(*tm, source.attempt, ReportedStatus::Finished)).is_empty());
    let commands = cluster.reports(
        attempts[1].0,
        attempts[1].1.attempt,
        ReportedStatus::Finished,
    );
    assert_eq!(deployed(&commands).len(), 4);
    assert_eq!(
        (cluster.status(first), cluster.status(second)),
        (JobStatus::Finished, JobStatus::Running)
    );
}

#[test]
fn a_job_that_waits_in_vain_fails_and_says_so() {
    let mut cluster = Cluster::new(&[]);
    let (id, commands) = cluster.submit(job(2));
    assert_eq!(answer(&commands), Ok(Vec::new()));
    cluster.passes(299_999);
    assert_eq!(cluster.status(id), JobStatus::Created);
    cluster.passes(1);
    assert_eq!(cluster.status(id), JobStatus::Failed);
    assert_eq!(
        cluster.root(id),
        "no slots for 300000 ms (slot request timeout): job needs 2 slots, 0 TaskManagers with 0 slots registered, \
         0 free"
    );
}

#[test]
fn automatic_parallelism_follows_the_slots() {
    let mut cluster = Cluster::new(&[3, 3]);
    let (_, commands) = cluster.submit(auto_job(8));
    assert_eq!(deployed(&commands).len(), 8, "4 of 6 slots divide 8 splits");
    assert!(answer(&commands).unwrap()[0].contains("parallelism 4 for its 8 splits"));

    // Nobody there yet: the full number at once when it fits, less only when no more slots come.
    let mut cluster = Cluster::new(&[]);
    let (id, _) = cluster.submit(auto_job(4));
    assert!(deployed(&cluster.register(1, "tm-1", 3)).is_empty());
    cluster.passes(900);
    assert_eq!(cluster.status(id), JobStatus::Created);
    assert_eq!(deployed(&cluster.register(2, "tm-2", 1)).len(), 8);
    let (id, _) = cluster.submit(auto_job(4));
    assert_eq!(cluster.status(id), JobStatus::Created, "no slot is free");
    cluster.register(3, "tm-3", 3);
    assert_eq!(cluster.status(id), JobStatus::Created);
    assert_eq!(
        deployed(&cluster.passes(1000)).len(),
        4,
        "2 of 3 slots divide 4 splits"
    );
}

#[test]
fn the_lost_task_manager_is_the_root_not_the_peer_that_missed_it() {
    let mut cluster = Cluster::new(&[1, 1]);
    let (id, commands) = cluster.submit(job(2));
    let attempts = deployed(&commands);
    for (tm, subtask) in &attempts {
        cluster.reports(*tm, subtask.attempt, ReportedStatus::Running);
    }
    let on_first: Vec<_> = attempts
        .iter()
        .filter(|(tm, _)| *tm == 1)
        .map(|(_, subtask)| subtask.attempt)
        .collect();
    let commands =
        cluster.reports_failure(1, on_first[0], ReportedStatus::Failed, peer_lost("tm-2"));
    let cancelled: usize = commands
        .iter()
        .map(|command| match command {
            Command::Send {
                message: ToTaskManager::CancelSubtasks(attempts),
                ..
            } => attempts.len(),
            _ => 0,
        })
        .sum();
    assert_eq!((cancelled, cluster.status(id)), (3, JobStatus::Failing));
    cluster.reports(1, on_first[1], ReportedStatus::Canceled);
    cluster.passes(500);
    cluster.closes(2);
    assert_eq!(cluster.status(id), JobStatus::Failed);
    assert_eq!(
        cluster.root(id),
        "TaskManager tm-2 (host-tm-2:7000, pid 4711) lost: connection closed"
    );
    let failures = &cluster.engine.jobs[&id].failures;
    assert_eq!(
        failures.concurrent()[0].message,
        "connection reset (TaskManager tm-2)"
    );
    assert_eq!(cluster.engine.cluster.slots_free(), 1);
}

#[test]
fn a_lost_peer_is_the_root_when_nothing_else_comes_to_light() {
    let mut cluster = Cluster::new(&[1, 1]);
    let (id, commands) = cluster.submit(job(2));
    let attempts = deployed(&commands);
    cluster.reports_failure(
        attempts[0].0,
        attempts[0].1.attempt,
        ReportedStatus::Failed,
        peer_lost("tm-2"),
    );
    for (tm, subtask) in &attempts[1..] {
        cluster.reports(*tm, subtask.attempt, ReportedStatus::Canceled);
    }
    assert_eq!(
        cluster.status(id),
        JobStatus::Failing,
        "waits for the story of tm-2"
    );
    assert_eq!(
        cluster.engine.cluster.slots_free(),
        2,
        "its slots do not wait"
    );
    cluster.passes(999);
    assert_eq!(cluster.status(id), JobStatus::Failing);
    cluster.passes(1);
    assert_eq!(cluster.status(id), JobStatus::Failed);
    assert_eq!(cluster.root(id), "connection reset (TaskManager tm-2)");
}

#[test]
fn a_task_manager_lost_before_its_peers_missed_it_is_the_root() {
    let mut cluster = Cluster::new(&[1, 1]);
    let (id, commands) = cluster.submit(job(2));
    let (second, first): (Vec<_>, Vec<_>) = deployed(&commands)
        .into_iter()
        .partition(|(tm, _)| *tm == 2);
    for (tm, subtask) in &second {
        cluster.reports(*tm, subtask.attempt, ReportedStatus::Finished);
    }
    cluster.closes(2);
    assert_eq!(cluster.status(id), JobStatus::Running);
    cluster.reports_failure(
        1,
        first[0].1.attempt,
        ReportedStatus::Failed,
        peer_lost("tm-2"),
    );
    cluster.reports(1, first[1].1.attempt, ReportedStatus::Canceled);
    assert_eq!(cluster.status(id), JobStatus::Failed);
    assert!(
        cluster.root(id).starts_with("TaskManager tm-2"),
        "{}",
        cluster.root(id)
    );
}

#[test]
fn silence_is_a_loss_and_any_message_breaks_it() {
    let mut cluster = Cluster::new(&[1]);
    cluster.passes(5000);
    cluster.says(1, FromTaskManager::Heartbeat(Heartbeat::default()));
    cluster.passes(5000);
    assert_eq!(cluster.engine.cluster.len(), 1);
    let commands = cluster.passes(1);
    assert_eq!(cluster.engine.cluster.len(), 0);
    assert!(
        commands
            .iter()
            .any(|command| matches!(command, Command::Close { .. }))
    );
}

#[test]
fn a_pause_of_the_job_manager_itself_is_nobodys_silence() {
    let mut cluster = Cluster::new(&[1, 1]);
    let (running, _) = cluster.submit(job(2));
    let (waiting, _) = cluster.submit(job(2));
    cluster.passes(4000);
    cluster.stands_still(60_000);
    assert_eq!(cluster.engine.cluster.len(), 2);
    assert_eq!(cluster.status(running), JobStatus::Running);
    // One was heard since; what the other had left before the pause it still has.
    cluster.says(1, FromTaskManager::Heartbeat(Heartbeat::default()));
    cluster.passes(1200);
    assert_eq!(cluster.engine.cluster.len(), 1);
    assert_eq!(cluster.status(running), JobStatus::Failing);
    // The same with the time that a job waits for slots: it ends 300 s after submission, not counting the pause.
    for _ in 0..294 {
        cluster.says(1, FromTaskManager::Heartbeat(Heartbeat::default()));
        cluster.passes(1000);
    }
    assert_eq!(cluster.status(waiting), JobStatus::Created);
    cluster.passes(1000);
    assert_eq!(cluster.status(waiting), JobStatus::Failed);
}

#[test]
fn a_pause_extends_the_wait_for_the_story_of_a_lost_peer() {
    let mut cluster = Cluster::new(&[1, 1]);
    let (id, commands) = cluster.submit(job(2));
    let attempts = deployed(&commands);
    cluster.passes(100);
    let (tm, first) = (attempts[0].0, attempts[0].1.attempt);
    cluster.reports_failure(tm, first, ReportedStatus::Failed, peer_lost("tm-2"));
    for (tm, subtask) in &attempts[1..] {
        cluster.reports(*tm, subtask.attempt, ReportedStatus::Canceled);
    }
    cluster.stands_still(3000);
    assert_eq!(cluster.status(id), JobStatus::Failing);
    cluster.closes(2);
    assert_eq!(cluster.status(id), JobStatus::Failed);
    assert!(
        cluster.root(id).starts_with("TaskManager tm-2"),
        "{}",
        cluster.root(id)
    );
}

#[test]
fn a_task_manager_that_comes_back_replaces_itself() {
    let mut cluster = Cluster::new(&[2]);
    let (id, _) = cluster.submit(job(1));
    cluster.register(9, "tm-1", 2);
    assert_eq!(cluster.status(id), JobStatus::Failed);
    assert!(
        cluster
            .root(id)
            .ends_with("lost: it registered again over a new connection"),
        "{}",
        cluster.root(id)
    );
    assert_eq!(
        (
            cluster.engine.cluster.len(),
            cluster.engine.cluster.slots_free()
        ),
        (1, 2)
    );
    // The end of the old connection is no news.
    cluster.closes(1);
    assert_eq!(cluster.engine.cluster.len(), 1);
}

#[test]
fn a_goodbye_names_its_reason() {
    let mut cluster = Cluster::new(&[1]);
    let (id, _) = cluster.submit(job(1));
    cluster.says(
        1,
        FromTaskManager::Goodbye {
            reason: "SIGTERM".to_owned(),
        },
    );
    assert_eq!(
        cluster.root(id),
        "TaskManager tm-1 (host-tm-1:7000, pid 4711) lost: it left: SIGTERM"
    );
}

#[test]
fn cancelling_waits_for_every_subtask_whatever_it_says() {
    let mut cluster = Cluster::new(&[1]);
    let (id, commands) = cluster.submit(job(1));
    let attempts = deployed(&commands);
    cluster.feed(Event::CancelJob { job: id });
    assert_eq!(cluster.status(id), JobStatus::Cancelling);
    cluster.reports(1, attempts[0].1.attempt, ReportedStatus::Finished);
    cluster.reports(1, attempts[1].1.attempt, ReportedStatus::Failed);
    assert_eq!(cluster.status(id), JobStatus::Canceled);
    let again = cluster.feed(Event::CancelJob { job: id });
    assert!(matches!(
        again[..],
        [Command::CancelAnswered {
            answer: CancelAnswer::Accepted,
            ..
        }]
    ));
    let (waiting, _) = cluster.submit(job(1));
    cluster.feed(Event::CancelJob { job: waiting });
    let unknown = cluster.feed(Event::CancelJob { job: JobId(77) });
    assert!(matches!(
        unknown[..],
        [Command::CancelAnswered {
            answer: CancelAnswer::Unknown,
            ..
        }]
    ));
}

#[test]
fn reports_of_others_change_nothing() {
    let mut cluster = Cluster::new(&[1, 1]);
    let (id, commands) = cluster.submit(job(2));
    let (tm, subtask) = deployed(&commands).remove(0);
    let other = 3 - tm;
    cluster.reports(other, subtask.attempt, ReportedStatus::Failed);
    cluster.reports(
        tm,
        ExecutionAttemptId {
            attempt: 1,
            ..subtask.attempt
        },
        ReportedStatus::Failed,
    );
    cluster.reports(77, subtask.attempt, ReportedStatus::Failed);
    assert_eq!(cluster.status(id), JobStatus::Running);
}

#[test]
fn ended_jobs_are_kept_up_to_their_limit() {
    let mut cluster = Cluster::new(&[]);
    for _ in 0..limits::JOBS_TERMINAL_KEPT + 7 {
        let (id, _) = cluster.submit(job(1));
        cluster.feed(Event::CancelJob { job: id });
    }
    assert_eq!(cluster.engine.jobs.len(), limits::JOBS_TERMINAL_KEPT);
    assert_eq!(cluster.engine.job_status(JobId(7)), None);
}

/// The arithmetic of `limits`, end to end: as many channels as a job may have, all on one TaskManager.
#[test]
fn the_largest_job_can_be_deployed() {
    let mut cluster = Cluster::new(&[443]);
    let (_, commands) = cluster.submit(job(443));
    assert_eq!(answer(&commands), Ok(Vec::new()));
    let message = commands.iter().find_map(|command| match command {
        Command::Send {
            message: message @ ToTaskManager::DeploySubtasks(_),
            ..
        } => Some(message),
        _ => None,
    });
    let bytes = crate::encode_to_task_manager(message.unwrap())
        .bytes()
        .clone();
    assert!(bytes.len() < rpc::MESSAGE_BYTES_MAX);
    Message::<rpc::FromJobManager>::parse(bytes).unwrap();
    let (_, commands) = cluster.submit(job(444));
    assert!(
        answer(&commands)
            .unwrap_err()
            .to_string()
            .contains("channels")
    );
}

#[test]
fn only_the_last_report_of_an_attempt_counts_for_accumulators() {
    let mut cluster = Cluster::new(&[1]);
    let (id, commands) = cluster.submit(job(1));
    let attempt = deployed(&commands)[0].1.attempt;
    for status in [
        ReportedStatus::Running,
        ReportedStatus::Finished,
        ReportedStatus::Finished,
    ] {
        let accumulator = Accumulator {
            name: "rows".to_owned(),
            kind: AccumulatorKind::Sum,
            value: 5,
            limit: 0,
            rows: Vec::new(),
        };
        let report = SubtaskReport {
            attempt,
            counters: SubtaskCounters {
                source_records: 9,
                ..SubtaskCounters::default()
            },
            watermark_ms: None,
            latency: None,
            accumulators: vec![accumulator],
        };
        let change = SubtaskStatusChange {
            attempt,
            status,
            failure: None,
            report: Some(report),
            process_cpu_ns: 7,
        };
        cluster.says(1, FromTaskManager::SubtaskStatusChanged(Box::new(change)));
    }
    let job = &cluster.engine.jobs[&id];
    assert_eq!(
        job.accumulators
            .iter()
            .map(|rows| rows.value)
            .collect::<Vec<_>>(),
        [5]
    );
    assert_eq!(
        job.executions.get(attempt).unwrap().counters.source_records,
        9
    );
}
