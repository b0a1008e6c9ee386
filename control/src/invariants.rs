//! What must hold between events, as code that runs in tests.
//!
//! | statement | enforced by |
//! |---|---|
//! | a slot is taken exactly while subtasks of its one job are open in it | `TaskManagers::{occupy, release}` |
//! | a job is terminal exactly when it has ended; then all its subtasks are | `Job::settle` |
//! | a failed job has a root failure | `Job::fail` |
//! | what open jobs may take of a core's buffers, they hold, and all of it fits its pool | `schedule::fit`, `NetworkMemory` |

use std::collections::BTreeMap;

use ringflow_schemas::id::JobId;

use crate::cluster::{CoreId, Hold, SlotId, TaskManagers};
use crate::event::ConnectionId;
use crate::schedule;
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

/// Compares the books with what follows from jobs and placements alone.
pub(crate) fn check_buffers(
    jobs: &BTreeMap<JobId, Job>,
    cluster: &TaskManagers,
) -> Result<(), String> {
    let mut expected: BTreeMap<(ConnectionId, JobId), Hold> = BTreeMap::new();
    for job in jobs.values().filter(|job| !job.executions.all_terminal()) {
        let Some(level) = job.network_level else {
            continue;
        };
        let channels = schedule::channels_by_core(&job.job_graph, &cores(job)?);
        for execution in job.executions.iter() {
            let Some(placement) = &execution.placement else {
                continue;
            };
            let connection = placement.slot.connection;
            if execution.status().is_terminal() || cluster.get(connection).is_none() {
                continue;
            }
            let hold = expected
                .entry((connection, job.id))
                .or_insert_with(|| Hold {
                    open: 0,
                    by_core: schedule::buffers_on(&channels, connection, level),
                });
            hold.open += 1;
        }
    }
    for (connection, member) in cluster.iter() {
        for (&job, hold) in member.network.holds() {
            let right = expected.remove(&(connection, job));
            if right.as_ref() != Some(hold) {
                return Err(format!(
                    "job {job} holds {hold:?} of {}, but its open subtasks say {right:?}",
                    member.address.id
                ));
            }
        }
        for core in (0u32..).take(member.address.data_ports.len()) {
            let (held, most) = (
                member.network.held(core, |_| true),
                member.network.for_jobs(),
            );
            if held > most {
                return Err(format!(
                    "jobs hold {held} buffers of core {core} of {}, which has {most} for them",
                    member.address.id
                ));
            }
        }
    }
    match expected.first_key_value() {
        Some(((_, job), hold)) => Err(format!("job {job} does not hold {hold:?}")),
        None => Ok(()),
    }
}

fn cores(job: &Job) -> Result<Vec<Vec<CoreId>>, String> {
    (0u32..)
        .take(job.job_graph.vertices.len())
        .map(|vertex| {
            let executions = job.executions.vertex(vertex).iter();
            let cores = executions.map(|execution| {
                let placement = execution.placement.as_ref();
                placement
                    .map(|placement| CoreId {
                        connection: placement.slot.connection,
                        core: placement.core,
                    })
                    .ok_or_else(|| format!("{} is deployed nowhere", execution.id))
            });
            cores.collect()
        })
        .collect()
}
