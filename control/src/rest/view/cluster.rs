//! `/overview` and `/config`.

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::supervise::JobStatus;

pub(crate) fn overview(engine: &Engine) -> Value {
    let count = |wanted: fn(JobStatus) -> bool| {
        engine
            .jobs
            .values()
            .filter(|job| wanted(job.status()))
            .count()
    };
    json!({
        "taskmanagers": engine.cluster.len(),
        "slots-total": engine.cluster.slots_total(),
        "slots-available": engine.cluster.slots_free(),
        "jobs-running": count(|status| !status.is_terminal()),
        "jobs-finished": count(|status| status == JobStatus::Finished),
        "jobs-cancelled": count(|status| status == JobStatus::Canceled),
        "jobs-failed": count(|status| status == JobStatus::Failed),
        "flink-version": version(engine),
        "flink-commit": "",
    })
}

pub(crate) fn config(engine: &Engine) -> Value {
    json!({
        "refresh-interval": 3000,
        "timezone-name": "UTC",
        "timezone-offset": 0,
        "flink-version": version(engine),
        "flink-revision": "",
        "features": { "web-submit": false, "web-cancel": true, "web-rescale": false, "web-history": false },
    })
}

fn version(engine: &Engine) -> String {
    format!("ringflow-{}", engine.config.version)
}
