//! `/jobs/:id/exceptions`.

use serde_json::{Value, json};

use crate::supervise::failure::FailureRecord;
use crate::supervise::job::Job;

/// Entries answered when the client does not say how many.
pub(crate) const COUNT_DEFAULT: usize = 20;

/// The root failure, and those that came with it.
pub(crate) fn history(job: &Job, count: usize) -> Value {
    let entries: Vec<Value> = job
        .failures
        .root()
        .into_iter()
        .take(count)
        .map(|root| {
            let mut entry = one(root);
            entry["concurrentExceptions"] = job.failures.concurrent().iter().map(one).collect();
            entry
        })
        .collect();
    let hidden = job.failures.root().is_some() && entries.is_empty();
    json!({ "exceptionHistory": { "entries": entries, "truncated": hidden || job.failures.truncated() } })
}

fn one(failure: &FailureRecord) -> Value {
    let mut entry = json!({
        "exceptionName": failure.cause.name(),
        "stacktrace": failure.message,
        "timestamp": failure.timestamp.0,
        "failureLabels": {},
    });
    for (name, value) in [
        ("taskName", &failure.task_name),
        ("endpoint", &failure.endpoint),
        ("taskManagerId", &failure.task_manager_id),
    ] {
        if let Some(value) = value {
            entry[name] = json!(value);
        }
    }
    entry
}
