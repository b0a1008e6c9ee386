//! `/jobs` and `/jobs/overview`.

use serde_json::{Value, json};

use super::figures;
use crate::engine::Engine;
use crate::supervise::job::Job;
use crate::time::Timestamp;

pub(crate) fn list(engine: &Engine) -> Value {
    let jobs: Vec<Value> = in_order(engine)
        .into_iter()
        .map(|job| json!({ "id": job.id.to_string(), "status": job.status().name() }))
        .collect();
    json!({ "jobs": jobs })
}

pub(crate) fn overview(engine: &Engine, now: Timestamp) -> Value {
    let jobs: Vec<Value> = in_order(engine)
        .into_iter()
        .map(|job| one(job, now))
        .collect();
    json!({ "jobs": jobs })
}

fn in_order(engine: &Engine) -> Vec<&Job> {
    let mut jobs: Vec<&Job> = engine.jobs.values().collect();
    jobs.sort_by_key(|job| job.number);
    jobs
}

fn one(job: &Job, now: Timestamp) -> Value {
    json!({
        "jid": job.id.to_string(),
        "name": job.graph.name,
        "start-time": job.submitted_at.0,
        "end-time": figures::moment(job.ended_at),
        "duration": figures::duration(Some(job.submitted_at), job.ended_at, now),
        "state": job.status().name(),
        "last-modification": job.modified_at.0,
        "tasks": figures::tasks(job.executions.iter()),
        "pending-operators": 0,
    })
}
