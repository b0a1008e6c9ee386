//! The whole (status x event) table of both machines against the committed `status_tables.txt`.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test -p ringflow-control status_tables` writes the file anew.

use std::fmt::Write as _;

use super::{JobEvent, JobStatus, SubtaskEvent, SubtaskStatus};
use crate::event::ReportedStatus;

#[test]
fn status_tables_are_as_committed() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/supervise/status_tables.txt"
    );
    let table = format!("{}\n{}", job_table(), subtask_table());
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    assert_eq!(table, std::fs::read_to_string(path).unwrap());
}

fn job_table() -> String {
    let events = [
        JobEvent::GraphBuilt,
        JobEvent::Deployed,
        JobEvent::CancelRequested,
        JobEvent::FailureOccurred,
        JobEvent::AllSubtasksTerminal,
    ];
    let mut table = "job status | event | next\n".to_owned();
    for status in JobStatus::ALL {
        for event in events {
            let next = status.on(event).map_or("-", JobStatus::name);
            writeln!(table, "{} | {event:?} | {next}", status.name()).unwrap();
        }
    }
    table
}

fn subtask_table() -> String {
    let mut events = vec![
        SubtaskEvent::Scheduled,
        SubtaskEvent::Deployed,
        SubtaskEvent::CancelRequested,
        SubtaskEvent::TaskManagerLost,
    ];
    events.extend(
        [
            ReportedStatus::Deploying,
            ReportedStatus::Initializing,
            ReportedStatus::Running,
            ReportedStatus::Finished,
            ReportedStatus::Canceling,
            ReportedStatus::Canceled,
            ReportedStatus::Failed,
        ]
        .map(SubtaskEvent::Reported),
    );
    let mut table = "subtask status | event | next\n".to_owned();
    for status in SubtaskStatus::ALL {
        for &event in &events {
            let next = status.on(event).map_or("-", SubtaskStatus::name);
            writeln!(table, "{} | {event:?} | {next}", status.name()).unwrap();
        }
    }
    table
}

#[test]
fn terminal_statuses_never_change() {
    for status in SubtaskStatus::ALL
        .into_iter()
        .filter(|status| status.is_terminal())
    {
        for event in [
            SubtaskEvent::CancelRequested,
            SubtaskEvent::TaskManagerLost,
            SubtaskEvent::Deployed,
        ] {
            assert_eq!(status.on(event).unwrap_or(status), status);
        }
        assert_eq!(SubtaskStatus::ALL[status.index()], status);
    }
}
