//! Exchange buffers: who fits, at which level, who is refused, and when they come back.

use super::*;

/// Two cores, two slots on each, so many buffers for jobs on each.
fn one_task_manager(buffers: u64) -> Cluster {
    let mut cluster = Cluster::new(&[]);
    cluster.register_with(1, "tm-1", 4, buffers);
    cluster
}

/// The level that all channels of a deployment have.
fn level(commands: &[Command]) -> NetworkLevel {
    let subtasks = deployed(commands);
    let mut levels: Vec<NetworkLevel> = subtasks
        .iter()
        .flat_map(|(_, subtask)| {
            let outputs = subtask.outputs.iter().map(|output| output.road_buffers);
            let roads = outputs.map(|road| NETWORK_LEVELS.iter().find(|level| level.road == road));
            let inputs = subtask.inputs.iter().map(|input| input.credit);
            let credits =
                inputs.map(|credit| NETWORK_LEVELS.iter().find(|level| level.credit == credit));
            roads.chain(credits).map(|level| *level.unwrap())
        })
        .collect();
    levels.dedup();
    assert_eq!(levels.len(), 1, "{levels:?}");
    levels[0]
}

fn attempts(commands: &[Command]) -> Vec<(u64, ExecutionAttemptId)> {
    let subtasks = deployed(commands).into_iter();
    subtasks
        .map(|(tm, subtask)| (tm, subtask.attempt))
        .collect()
}

fn refusal(commands: &[Command]) -> String {
    answer(commands).unwrap_err().to_string()
}

#[test]
fn a_job_gets_the_largest_level_that_fits_and_below_the_smallest_a_refusal() {
    // Per core: one producer with two consumers, all in one process.
    for (buffers, expected) in [
        (1000, NETWORK_LEVELS[0]),
        (2 * 11, NETWORK_LEVELS[0]),
        (2 * 11 - 1, NETWORK_LEVELS[1]),
        (2 * 7 - 1, NETWORK_LEVELS[2]),
        (2 * 4, NETWORK_LEVELS[3]),
    ] {
        let (_, commands) = one_task_manager(buffers).submit(job(2));
        assert_eq!(level(&commands), expected, "{buffers} buffers");
    }
    let mut cluster = one_task_manager(2 * 4 - 1);
    let (id, commands) = cluster.submit(job(2));
    assert_eq!(
        refusal(&commands),
        "insufficient number of network buffers: required 8, but only 7 available on core 0 of TaskManager tm-1; it has \
         39 of 32 KiB, 32 set aside for receiving and 0 taken by other jobs: raise --network-memory to at least 3 MiB, \
         or lower -p/--parallelism"
    );
    assert_eq!(cluster.engine.job_status(id), None);
    // Both pieces of advice hold: 3 MiB are 48 buffers a core, and one subtask each needs 4.
    let (_, commands) = one_task_manager(48 - 32).submit(job(2));
    assert_eq!(level(&commands), NETWORK_LEVELS[1]);
    let (_, commands) = cluster.submit(job(1));
    assert_eq!(level(&commands), NETWORK_LEVELS[1]);
}

#[test]
fn channels_between_processes_need_buffers_on_both_sides() {
    let cluster = |buffers| {
        let mut cluster = Cluster::new(&[]);
        for connection in 1..=2 {
            let id = format!("tm-{connection}");
            cluster.register_with(connection, &id, 1, buffers);
        }
        cluster
    };
    // Per core: two subpartitions, and one channel from the other process.
    for (buffers, expected) in [
        (2 * 11 + 33, NETWORK_LEVELS[0]),
        (2 * 11 + 32, NETWORK_LEVELS[1]),
        (2 * 4 + 5, NETWORK_LEVELS[3]),
    ] {
        let (_, commands) = cluster(buffers).submit(job(2));
        assert_eq!(level(&commands), expected, "{buffers} buffers");
    }
    let (_, commands) = cluster(2 * 4 + 4).submit(job(2));
    let refusal = refusal(&commands);
    assert!(
        refusal.contains("required 13, but only 12 available on core 0 of TaskManager tm-1")
            && refusal.contains("at least 3 MiB on each of 2 TaskManagers"),
        "{refusal}"
    );
}

#[test]
fn two_jobs_share_what_there_is() {
    let mut cluster = one_task_manager(2 * 11 + 2 * 4);
    let (first, commands) = cluster.submit(job(2));
    assert_eq!(level(&commands), NETWORK_LEVELS[0]);
    let (second, commands) = cluster.submit(job(1));
    assert_eq!(level(&commands), NETWORK_LEVELS[1], "8 are left of core 0");
    let (_, commands) = cluster.submit(job(1));
    assert_eq!(level(&commands), NETWORK_LEVELS[1], "8 are left of core 1");
    let states = (cluster.status(first), cluster.status(second));
    assert_eq!(states, (JobStatus::Running, JobStatus::Running));
}

#[test]
fn buffers_come_back_when_a_job_has_ended_however_it_ends() {
    type End = fn(&mut Cluster, JobId, &[(u64, ExecutionAttemptId)]);
    let finish: End = |cluster, _, attempts| {
        for &(tm, attempt) in attempts {
            cluster.reports(tm, attempt, ReportedStatus::Finished);
        }
    };
    let cancel: End = |cluster, job, attempts| {
        cluster.feed(Event::CancelJob { job });
        for &(tm, attempt) in attempts {
            cluster.reports(tm, attempt, ReportedStatus::Canceled);
        }
    };
    let fail: End = |cluster, _, attempts| {
        cluster.reports(attempts[0].0, attempts[0].1, ReportedStatus::Failed);
        for &(tm, attempt) in &attempts[1..] {
            cluster.reports(tm, attempt, ReportedStatus::Canceled);
        }
    };
    let lose: End = |cluster, _, _| {
        cluster.closes(1);
        cluster.register_with(2, "tm-1", 4, 22);
    };
    for end in [finish, cancel, fail, lose] {
        let mut cluster = one_task_manager(22);
        let (first, commands) = cluster.submit(job(2));
        let attempts = attempts(&commands);
        let (_, refused) = cluster.submit(job(2));
        let refused = refusal(&refused);
        assert!(
            refused.contains("required 8, but only 0 available")
                && refused.contains("22 taken by other jobs")
                && refused.contains("at least 4 MiB"),
            "{refused}"
        );
        end(&mut cluster, first, &attempts);
        assert!(cluster.status(first).is_terminal());
        let (_, commands) = cluster.submit(job(2));
        assert_eq!(level(&commands), NETWORK_LEVELS[0]);
    }
}

#[test]
fn a_job_waits_for_buffers_of_one_that_is_ending_and_gets_them_with_its_last_subtask() {
    let mut cluster = one_task_manager(22);
    let (first, commands) = cluster.submit(job(2));
    let attempts = attempts(&commands);
    cluster.feed(Event::CancelJob { job: first });
    let (second, commands) = cluster.submit(job(2));
    assert_eq!(
        answer(&commands),
        Ok(Vec::new()),
        "slots are free, buffers will be"
    );
    for &(tm, attempt) in &attempts[..3] {
        assert!(deployed(&cluster.reports(tm, attempt, ReportedStatus::Canceled)).is_empty());
        assert_eq!(cluster.status(second), JobStatus::Created);
    }
    let (tm, attempt) = attempts[3];
    let commands = cluster.reports(tm, attempt, ReportedStatus::Canceled);
    assert_eq!(level(&commands), NETWORK_LEVELS[0]);
    assert_eq!(cluster.status(second), JobStatus::Running);
}

#[test]
fn waiting_for_buffers_has_its_end_too() {
    let mut cluster = one_task_manager(22);
    let (first, _) = cluster.submit(job(2));
    cluster.feed(Event::CancelJob { job: first });
    let (second, _) = cluster.submit(job(2));
    for _ in 0..300 {
        cluster.passes(1000);
        cluster.says(1, FromTaskManager::Heartbeat(Heartbeat::default()));
    }
    assert_eq!(cluster.status(second), JobStatus::Failed);
    let root = cluster.root(second);
    assert!(
        root.starts_with("no network buffers for 300000 ms (slot request timeout): insufficient"),
        "{root}"
    );
}

#[test]
fn a_job_that_waited_for_slots_fails_when_the_buffers_there_are_too_few() {
    let mut cluster = Cluster::new(&[]);
    let (id, commands) = cluster.submit(job(2));
    assert_eq!(answer(&commands), Ok(Vec::new()));
    let commands = cluster.register_with(1, "tm-1", 4, 7);
    assert!(deployed(&commands).is_empty());
    cluster.passes(900);
    assert_eq!(
        cluster.status(id),
        JobStatus::Created,
        "more may be on their way"
    );
    cluster.passes(100);
    assert_eq!(cluster.status(id), JobStatus::Failed);
    assert!(
        cluster
            .root(id)
            .starts_with("insufficient number of network buffers: required 8, but only 7"),
        "{}",
        cluster.root(id)
    );
    assert_eq!(cluster.engine.cluster.slots_free(), 4);
}

#[test]
fn a_job_that_waits_runs_once_enough_task_managers_share_its_channels() {
    let mut cluster = Cluster::new(&[]);
    let (id, _) = cluster.submit(job(4));
    // All on one: 2 producers with 4 consumers on each core, 32 buffers at least.
    cluster.register_with(1, "tm-1", 4, 30);
    cluster.passes(500);
    assert_eq!(cluster.status(id), JobStatus::Created);
    // Spread over two: 4 subpartitions and 2 channels from the other process on each core.
    let commands = cluster.register_with(2, "tm-2", 4, 30);
    assert_eq!(level(&commands), NETWORK_LEVELS[3]);
}

#[test]
fn a_lost_task_manager_takes_only_its_own_buffers_with_it() {
    let mut cluster = Cluster::new(&[]);
    for connection in 1..=2 {
        let id = format!("tm-{connection}");
        cluster.register_with(connection, &id, 2, 2 * 11 + 33);
    }
    let (first, commands) = cluster.submit(job(2));
    let on_first = attempts(&commands).into_iter().filter(|&(tm, _)| tm == 1);
    let on_first: Vec<_> = on_first.collect();
    cluster.closes(2);
    assert_eq!(cluster.status(first), JobStatus::Failing);
    let held = |cluster: &Cluster| {
        let member = cluster.engine.cluster.get(ConnectionId(1)).unwrap();
        member.network.held(0, |_| true)
    };
    assert_eq!(
        held(&cluster),
        2 * 11 + 33,
        "its subtasks there are not gone yet"
    );
    cluster.reports(1, on_first[0].1, ReportedStatus::Canceled);
    assert_eq!(held(&cluster), 2 * 11 + 33);
    cluster.reports(1, on_first[1].1, ReportedStatus::Canceled);
    assert_eq!(held(&cluster), 0);
}

#[test]
fn a_task_manager_that_could_not_even_receive_is_refused() {
    let mut cluster = Cluster::new(&[]);
    let network_memory_bytes = (2 << 20) - 1;
    let commands = cluster.says(
        1,
        FromTaskManager::Register(Box::new(Registration {
            network_memory_bytes,
            ..registration("tm-1", 2)
        })),
    );
    let reason = commands.iter().find_map(|command| match command {
        Command::Send {
            message: ToTaskManager::RegistrationRefused { reason },
            ..
        } => Some(reason.as_str()),
        _ => None,
    });
    assert_eq!(
        reason,
        Some(
            "TaskManager tm-1: 2097151 bytes of network memory are too few for 2 data cores: each needs 1 MiB to receive \
             at all; raise --network-memory to at least 2 MiB, and beyond that by what jobs need"
        )
    );
}
