//! `/jobs/:id/vertices/:vid`.

use ringflow_schemas::id::VertexId;
use serde_json::{Map, Value, json};

use super::figures;
use crate::graph::execution_graph::Execution;
use crate::supervise::job::Job;
use crate::time::Timestamp;

pub(crate) fn details(job: &Job, id: VertexId, now: Timestamp) -> Option<Value> {
    let (index, vertex) = (0u32..)
        .zip(&job.job_graph.vertices)
        .find(|(_, vertex)| vertex.id == id)?;
    let executions = job.executions.vertex(index);
    let subtasks: Vec<Value> = executions
        .iter()
        .map(|execution| subtask(execution, now))
        .collect();
    Some(json!({
        "id": vertex.id.to_string(),
        "name": vertex.name,
        "parallelism": vertex.parallelism,
        "maxParallelism": vertex.max_parallelism,
        "now": now.0,
        "subtasks": subtasks,
        "aggregated": { "metrics": aggregated(executions), "status-duration": {} },
    }))
}

fn subtask(execution: &Execution, now: Timestamp) -> Value {
    let placement = execution.placement.as_ref();
    let start = figures::moment(execution.started_at());
    let durations: Map<String, Value> = execution
        .status_durations(now)
        .into_iter()
        .map(|(status, ms)| (status.name().to_owned(), json!(ms)))
        .collect();
    json!({
        "subtask": execution.id.subtask,
        "status": execution.status().name(),
        "attempt": execution.id.attempt,
        "endpoint": placement.map_or_else(|| "(unassigned)".to_owned(), |placement| placement.task_manager.endpoint()),
        "start-time": start,
        "start_time": start,
        "end-time": figures::moment(execution.ended_at()),
        "duration": figures::duration(execution.started_at(), execution.ended_at(), now),
        "metrics": figures::io_metrics(&[execution]),
        "taskmanager-id": placement.map_or("(unassigned)", |placement| &*placement.task_manager.id),
        "slot": placement.map(|placement| placement.slot.slot),
        "core": placement.map(|placement| placement.core),
        "watermark": execution.watermark_ms,
        "status-duration": durations,
    })
}

/// Min, max, average and so on of each metric over the subtasks.
fn aggregated(executions: &[Execution]) -> Value {
    let metric = |values: fn(&Execution) -> u64| -> Value {
        let mut values: Vec<u64> = executions.iter().map(values).collect();
        values.sort_unstable();
        let sum: u64 = values
            .iter()
            .fold(0, |sum, &value| sum.saturating_add(value));
        let at = |percent: usize| {
            values
                .get((values.len().saturating_sub(1)) * percent / 100)
                .copied()
                .unwrap_or(0)
        };
        json!({
            "min": at(0),
            "max": at(100),
            "avg": sum / (values.len() as u64).max(1),
            "sum": sum,
            "median": at(50),
            "p25": at(25),
            "p75": at(75),
            "p95": at(95),
        })
    };
    json!({
        "read-bytes": metric(|execution| execution.counters.bytes_in),
        "write-bytes": metric(|execution| execution.counters.bytes_out),
        "read-records": metric(|execution| execution.counters.records_in),
        "write-records": metric(|execution| execution.counters.records_out),
    })
}
