//! `/jobs/:id` and the smaller answers about one job.

use serde_json::{Map, Value, json};

use super::figures;
use crate::event::AccumulatorKind;
use crate::graph::execution_graph::{Execution, ExecutionGraph};
use crate::graph::plan::job_plan;
use crate::supervise::job::Job;
use crate::supervise::{JobStatus, SubtaskStatus};
use crate::time::Timestamp;

pub(crate) fn details(job: &Job, now: Timestamp) -> Value {
    let vertices: Vec<Value> = (0u32..)
        .zip(&job.job_graph.vertices)
        .map(|(index, _)| vertex(job, index, now))
        .collect();
    json!({
        "jid": job.id.to_string(),
        "name": job.graph.name,
        "isStoppable": false,
        "state": job.status().name(),
        "job-type": "STREAMING",
        "start-time": job.submitted_at.0,
        "end-time": figures::moment(job.ended_at),
        "duration": figures::duration(Some(job.submitted_at), job.ended_at, now),
        "maxParallelism": max_parallelism(job),
        "now": now.0,
        "timestamps": timestamps(job),
        "vertices": vertices,
        "status-counts": figures::counts_by_name(job.executions.iter()),
        "plan": job_plan(&job.id.to_string(), &job.graph.name, &job.job_graph)["plan"],
        "stream-graph": null,
        "pending-operators": 0,
    })
}

pub(crate) fn plan(job: &Job) -> Value {
    job_plan(&job.id.to_string(), &job.graph.name, &job.job_graph)
}

pub(crate) fn status(job: &Job) -> Value {
    json!({ "status": job.status().name() })
}

/// Flink's `/config` has no field for the buffer timeout; it stands under the name of its option.
pub(crate) fn config(job: &Job) -> Value {
    let mut user_config = Map::new();
    if job.graph.buffer_timeout_ns > 0 {
        let interval = json!(figures::interval(job.graph.buffer_timeout_ns));
        user_config.insert("execution.buffer-timeout.interval".to_owned(), interval);
    }
    json!({
        "jid": job.id.to_string(),
        "name": job.graph.name,
        "execution-config": {
            "restart-strategy": "none",
            "job-parallelism": job.graph.parallelism.max(1),
            "object-reuse-mode": true,
            "user-config": user_config,
        },
    })
}

pub(crate) fn accumulators(job: &Job) -> Value {
    let all: Vec<Value> = job
        .accumulators
        .iter()
        .map(|accumulator| {
            let value = if accumulator.kind == AccumulatorKind::TopRows {
                accumulator
                    .rows
                    .iter()
                    .map(|row| row.text.as_str())
                    .collect::<Vec<_>>()
                    .join("\n")
            } else {
                accumulator.value.to_string()
            };
            json!({ "name": accumulator.name, "type": kind_name(accumulator.kind), "value": value })
        })
        .collect();
    json!({
        "job-accumulators": [],
        "user-task-accumulators": all,
        "serialized-user-task-accumulators": {},
    })
}

pub(crate) fn execution_result(job: &Job, now: Timestamp) -> Value {
    let status = job.status();
    if !status.is_terminal() {
        return json!({ "status": { "id": "IN_PROGRESS" } });
    }
    let application_status = match status {
        JobStatus::Finished => "SUCCEEDED",
        JobStatus::Canceled => "CANCELED",
        _ => "FAILED",
    };
    let mut result = json!({
        "id": job.id.to_string(),
        "application-status": application_status,
        "net-runtime": figures::duration(Some(job.submitted_at), job.ended_at, now),
        "accumulator-results": {},
    });
    if let Some(root) = job.failures.root() {
        result["failure-cause"] =
            json!({ "class": root.cause.name(), "stack-trace": root.message });
    }
    json!({ "status": { "id": "COMPLETED" }, "job-execution-result": result })
}

/// How REST names a kind of accumulator.
pub(super) fn kind_name(kind: AccumulatorKind) -> &'static str {
    match kind {
        AccumulatorKind::Sum => "Sum",
        AccumulatorKind::Max => "Max",
        AccumulatorKind::Min => "Min",
        AccumulatorKind::TopRows => "TopRows",
    }
}

/// Flink's status of a vertex, from those of its subtasks.
fn vertex_status(executions: &[Execution]) -> SubtaskStatus {
    use SubtaskStatus as S;
    let counts = ExecutionGraph::counts(executions);
    let any = |status: S| counts[status.index()] > 0;
    [
        S::Failed,
        S::Canceling,
        S::Canceled,
        S::Initializing,
        S::Running,
    ]
    .into_iter()
    .find(|&status| any(status))
    .unwrap_or(match counts[S::Finished.index()] {
        0 => [S::Deploying, S::Scheduled]
            .into_iter()
            .find(|&status| any(status))
            .unwrap_or(S::Created),
        count if count == executions.len() => S::Finished,
        _ => S::Running,
    })
}

fn vertex(job: &Job, index: u32, now: Timestamp) -> Value {
    let vertex = &job.job_graph.vertices[index as usize];
    let executions = job.executions.vertex(index);
    let start = executions.iter().filter_map(Execution::started_at).min();
    let ended = executions
        .iter()
        .all(|execution| execution.status().is_terminal());
    let end = if ended {
        executions.iter().filter_map(Execution::ended_at).max()
    } else {
        None
    };
    json!({
        "id": vertex.id.to_string(),
        "slotSharingGroupId": vertex.slot_sharing_group,
        "name": vertex.name,
        "maxParallelism": vertex.max_parallelism,
        "parallelism": vertex.parallelism,
        "status": vertex_status(executions).name(),
        "start-time": figures::moment(start),
        "end-time": figures::moment(end),
        "duration": figures::duration(start, end, now),
        "tasks": figures::counts_by_name(executions),
        "metrics": figures::io_metrics(&executions.iter().collect::<Vec<_>>()),
    })
}

fn max_parallelism(job: &Job) -> Value {
    match job.graph.max_parallelism {
        0 => json!(-1),
        stated => json!(stated),
    }
}

/// When each status began; 0 for those that never did.
fn timestamps(job: &Job) -> Value {
    let mut timestamps: Map<String, Value> = JobStatus::ALL
        .into_iter()
        .map(|status| {
            (
                status.name().to_owned(),
                json!(job.since(status).unwrap_or_default().0),
            )
        })
        .collect();
    for never in ["RESTARTING", "SUSPENDED", "RECONCILING"] {
        timestamps.insert(never.to_owned(), json!(0));
    }
    Value::Object(timestamps)
}
