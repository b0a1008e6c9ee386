//! Stops: which sources are told, when, and what clients hear.

use super::*;
use crate::command::StopAnswer;
use crate::supervise::StopMode;

fn stop(cluster: &mut Cluster, job: JobId, mode: StopMode) -> (StopAnswer, Vec<Command>) {
    let commands = cluster.feed(Event::StopJob { job, mode });
    let answer = commands.iter().find_map(|command| match command {
        Command::StopAnswered { answer, .. } => Some(*answer),
        _ => None,
    });
    (answer.unwrap(), commands)
}

/// Attempts that are told to stop: TaskManager, mode, attempts.
fn told(commands: &[Command]) -> Vec<(u64, StopMode, Vec<ExecutionAttemptId>)> {
    let mut told = Vec::new();
    for command in commands {
        if let Command::Send {
            connection,
            message: ToTaskManager::StopSubtasks { attempts, mode },
        } = command
        {
            told.push((connection.0, *mode, attempts.clone()));
        }
    }
    told
}

#[test]
fn a_stop_reaches_each_source_once_it_runs_and_the_job_is_finished() {
    for mode in [StopMode::Drain, StopMode::NoDrain] {
        let mut cluster = Cluster::new(&[1, 1]);
        let (id, commands) = cluster.submit(job(2));
        let subtasks = deployed(&commands);
        let (sources, sinks): (Vec<_>, Vec<_>) = subtasks
            .into_iter()
            .partition(|(_, subtask)| subtask.inputs.is_empty());
        assert!(sources.iter().all(|(_, subtask)| !subtask.finished_before));
        let source = |tm: u64| {
            let of_tm = sources.iter().find(|(own, _)| *own == tm);
            of_tm.map(|(_, subtask)| subtask.attempt).unwrap()
        };
        cluster.reports(1, source(1), ReportedStatus::Running);
        for (tm, sink) in &sinks {
            cluster.reports(*tm, sink.attempt, ReportedStatus::Running);
        }
        let (answer, commands) = stop(&mut cluster, id, mode);
        assert_eq!(answer, StopAnswer::Accepted);
        assert_eq!(told(&commands), [(1, mode, vec![source(1)])]);
        // The other one is still being built.
        let commands = cluster.reports(2, source(2), ReportedStatus::Initializing);
        assert_eq!(told(&commands), []);
        let commands = cluster.reports(2, source(2), ReportedStatus::Running);
        assert_eq!(told(&commands), [(2, mode, vec![source(2)])]);
        // Asked again, nothing is told twice; another mode comes too late.
        let (answer, commands) = stop(&mut cluster, id, mode);
        assert_eq!(
            (answer, told(&commands)),
            (StopAnswer::Accepted, Vec::new())
        );
        let other = StopMode::of(!mode.drains());
        assert_eq!(stop(&mut cluster, id, other).0, StopAnswer::OtherMode(mode));
        assert_eq!(cluster.status(id), JobStatus::Running);
        for (tm, subtask) in sources.iter().chain(&sinks) {
            cluster.reports(*tm, subtask.attempt, ReportedStatus::Finished);
        }
        assert_eq!(cluster.status(id), JobStatus::Finished);
        assert_eq!(
            stop(&mut cluster, id, mode).0,
            StopAnswer::NotRunning(JobStatus::Finished)
        );
    }
}

#[test]
fn only_a_running_job_is_stopped_and_one_that_is_stopped_can_be_cancelled_or_fail() {
    let mut cluster = Cluster::new(&[1]);
    assert_eq!(
        stop(&mut cluster, JobId(77), StopMode::Drain).0,
        StopAnswer::Unknown
    );
    let (first, commands) = cluster.submit(job(1));
    let (waiting, _) = cluster.submit(job(1));
    assert_eq!(
        stop(&mut cluster, waiting, StopMode::Drain).0,
        StopAnswer::NotRunning(JobStatus::Created)
    );
    let attempts = deployed(&commands);
    for (tm, subtask) in &attempts {
        cluster.reports(*tm, subtask.attempt, ReportedStatus::Running);
    }
    stop(&mut cluster, first, StopMode::NoDrain);
    let failed = cluster.reports(1, attempts[0].1.attempt, ReportedStatus::Failed);
    assert_eq!(told(&failed), []);
    assert_eq!(cluster.status(first), JobStatus::Failing);
    assert_eq!(
        stop(&mut cluster, first, StopMode::NoDrain).0,
        StopAnswer::NotRunning(JobStatus::Failing)
    );
    let commands = cluster.reports(1, attempts[1].1.attempt, ReportedStatus::Canceled);
    assert_eq!(cluster.status(first), JobStatus::Failed);

    // The next one has its slot now; nobody asked for its stop with success.
    let attempts = deployed(&commands);
    let commands = cluster.reports(1, attempts[0].1.attempt, ReportedStatus::Running);
    assert_eq!(told(&commands), []);
    stop(&mut cluster, waiting, StopMode::Drain);
    let commands = cluster.feed(Event::CancelJob { job: waiting });
    assert!(commands.iter().any(|command| matches!(
        command,
        Command::CancelAnswered {
            answer: CancelAnswer::Accepted,
            ..
        }
    )));
    for (tm, subtask) in &attempts {
        cluster.reports(*tm, subtask.attempt, ReportedStatus::Canceled);
    }
    assert_eq!(cluster.status(waiting), JobStatus::Canceled);
}
