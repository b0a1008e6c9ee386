//! What must hold between events, as code that runs in tests.
//!
//! | statement | enforced by |
//! |---|---|
//! | a slot is taken exactly while subtasks of its one job are open in it | `TaskManagers::{occupy, release}` |
//! | a job is terminal exactly when it has ended; then all its subtasks are | `Job::settle` |
//! | a failed job has a root failure | `Job::fail` |

use std::collections::BTreeMap;

use ringflow_schemas::id::JobId;

use crate::cluster::{SlotId, TaskManagers};
use crate::supervise::JobStatus;
use crate::supervise::job::Job;

pub(crate) fn check_jobs<'a>(jobs: impl Iterator<Item = &'a Job>) -> Result<(), String> {
    for job in jobs {
        let status = job.status();
        let name = status.name();
        if status.is_terminal() && !job.executions.all_terminal() {
            return Err(format!("job {} is {name} with open subtasks", job.id));
        }
        if status.is_terminal() != job.ended_at.is_some() {
            return Err(format!(
                "job {} is {name} and ended at {:?}",
                job.id, job.ended_at
            ));
        }
        if matches!(status, JobStatus::Failing | JobStatus::Failed) && job.failures.root().is_none()
        {
            return Err(format!("job {} is {name} for no reason", job.id));
        }
    }
    Ok(())
}

pub(crate) fn check_slots(
    jobs: &BTreeMap<JobId, Job>,
    cluster: &TaskManagers,
) -> Result<(), String> {
    let mut open: BTreeMap<SlotId, (JobId, usize)> = BTreeMap::new();
    for job in jobs.values() {
        for execution in job
            .executions
            .iter()
            .filter(|execution| !execution.status().is_terminal())
        {
            let Some(placement) = &execution.placement else {
                continue;
            };
            let (owner, count) = open.entry(placement.slot).or_insert((job.id, 0));
            if *owner != job.id {
                return Err(format!(
                    "slot {:?} holds jobs {owner} and {}",
                    placement.slot, job.id
                ));
            }
            *count += 1;
        }
    }
    for (connection, member) in cluster.iter() {
        for slot in &member.slots {
            let taken = slot.job().map(|job| (job, slot.subtasks()));
            let expected = open.remove(&SlotId {
                connection,
                slot: slot.slot,
            });
            if taken != expected {
                return Err(format!(
                    "slot {} of {} is taken by {taken:?}, but open subtasks say {expected:?}",
                    slot.slot, member.address.id
                ));
            }
        }
    }
    match open.first_key_value() {
        Some((slot, (job, _))) => Err(format!(
            "job {job} has open subtasks in {slot:?}, which is gone"
        )),
        None => Ok(()),
    }
}
