//! `/jobs/:id/vertices/:vid/subtasks/metrics`, `.../subtasks/:i/metrics` and `/taskmanagers/:id/metrics`.
//!
//! Without `get` the ids there are; with it, values of those named, unknown ones left out. A value of one subtask or
//! TaskManager is text; aggregates over subtasks are numbers. A rate that is not known is missing, never wrong.
//!
//! Source: Flink `MetricNames`, `AggregatingSubtasksMetricsHandler`, `MetricCollectionResponseBody`.

use std::ops::RangeInclusive;

use ringflow_schemas::id::VertexId;
use ringflow_schemas::network::BUFFER_BYTES;
use serde_json::{Map, Value, json};

use crate::cluster::TaskManager;
use crate::engine::Engine;
use crate::graph::execution_graph::Execution;
use crate::metrics::time::TimeShares;
use crate::supervise::job::Job;

/// What a metric of a subtask is.
enum Metric {
    Count(fn(&Execution) -> u64),
    /// Of the time between the last two reports of an attempt that is not terminal.
    Rate(fn(&TimeShares) -> f64),
}

const SUBTASK_METRICS: [(&str, Metric); 15] = [
    ("numRecordsIn", Metric::Count(|e| e.counters.records_in)),
    ("numRecordsOut", Metric::Count(|e| e.counters.records_out)),
    ("numBytesIn", Metric::Count(|e| e.counters.bytes_in)),
    ("numBytesOut", Metric::Count(|e| e.counters.bytes_out)),
    ("numBuffersOut", Metric::Count(|e| e.counters.buffers_out)),
    // Ours: bytes of records copied into exchange buffers.
    ("numBytesCopied", Metric::Count(|e| e.counters.bytes_copied)),
    // Ours: memory of keyed state, windows and timers. Flink tells sizes of checkpoints only.
    ("stateBytes", Metric::Count(|e| e.counters.state_bytes)),
    (
        "accumulateBusyTimeMs",
        Metric::Count(|e| e.counters.busy_ns / 1_000_000),
    ),
    (
        "accumulateIdleTimeMs",
        Metric::Count(|e| e.counters.idle_ns / 1_000_000),
    ),
    (
        "accumulateBackPressuredTimeMs",
        Metric::Count(|e| e.counters.backpressured_ns / 1_000_000),
    ),
    // Ours, and the last one too.
    (
        "accumulateSpinningTimeMs",
        Metric::Count(|e| e.counters.spinning_ns / 1_000_000),
    ),
    ("busyTimeMsPerSecond", Metric::Rate(|shares| shares.busy)),
    ("idleTimeMsPerSecond", Metric::Rate(|shares| shares.idle)),
    (
        "backPressuredTimeMsPerSecond",
        Metric::Rate(|shares| shares.backpressured),
    ),
    (
        "spinningTimeMsPerSecond",
        Metric::Rate(|shares| shares.spinning),
    ),
];

/// How values of several subtasks become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregation {
    Min,
    Max,
    Avg,
    Sum,
}

impl Aggregation {
    pub(crate) const ALL: [Self; 4] = [Self::Min, Self::Max, Self::Avg, Self::Sum];

    /// As in `agg=`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Min => "min",
            Self::Max => "max",
            Self::Avg => "avg",
            Self::Sum => "sum",
        }
    }

    fn of(self, values: &[f64]) -> f64 {
        let sum: f64 = values.iter().sum();
        match self {
            Self::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
            Self::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Self::Avg => sum / values.len() as f64,
            Self::Sum => sum,
        }
    }
}

/// Aggregates over the subtasks of a vertex; `None` when there is no such vertex.
///
/// `subtasks`: which of them, all when empty. `get`: which metrics; `None` lists their ids.
pub(crate) fn of_subtasks(
    job: &Job,
    vertex: VertexId,
    subtasks: &[RangeInclusive<u32>],
    get: Option<&[String]>,
    aggregations: &[Aggregation],
) -> Option<Value> {
    let executions = executions(job, vertex)?;
    let Some(get) = get else {
        return Some(ids(SUBTASK_METRICS.iter().map(|&(id, _)| id)));
    };
    let wanted = |execution: &&Execution| {
        let index = execution.id.subtask;
        subtasks.is_empty() || subtasks.iter().any(|range| range.contains(&index))
    };
    let metrics = SUBTASK_METRICS.iter().filter(|(id, _)| is_named(get, id));
    let values = metrics.filter_map(|(id, metric)| {
        let values: Vec<f64> = executions
            .iter()
            .filter(wanted)
            .filter_map(|execution| number(metric, execution))
            .collect();
        let mut object = Map::from_iter([("id".to_owned(), json!(id))]);
        for aggregation in aggregations {
            object.insert(
                aggregation.name().to_owned(),
                json!(aggregation.of(&values)),
            );
        }
        (!values.is_empty()).then_some(Value::Object(object))
    });
    Some(values.collect())
}

/// Metrics of one subtask; `None` when there is no such vertex or subtask.
pub(crate) fn of_subtask(
    job: &Job,
    vertex: VertexId,
    subtask: u32,
    get: Option<&[String]>,
) -> Option<Value> {
    let execution = executions(job, vertex)?.get(subtask as usize)?;
    let texts = SUBTASK_METRICS.iter().map(|(id, metric)| {
        let text = match metric {
            Metric::Count(count) => Some(count(execution).to_string()),
            Metric::Rate(_) => number(metric, execution).map(|rate| rate.to_string()),
        };
        (*id, text)
    });
    Some(list(texts, get))
}

/// Metrics of a TaskManager; `None` when it is not registered.
pub(crate) fn of_task_manager(engine: &Engine, id: &str, get: Option<&[String]>) -> Option<Value> {
    let (_, member) = engine.cluster.find(id)?;
    let buffers = Buffers::of(member);
    let metrics = [
        ("AvailableMemory", buffers.available() * BUFFER_BYTES as u64),
        ("AvailableMemorySegments", buffers.available()),
        ("TotalMemory", buffers.total * BUFFER_BYTES as u64),
        ("TotalMemorySegments", buffers.total),
        ("UsedMemory", buffers.used * BUFFER_BYTES as u64),
        ("UsedMemorySegments", buffers.used),
    ];
    let metrics = metrics.map(|(name, value)| {
        (
            format!("Status.Shuffle.Netty.{name}"),
            Some(value.to_string()),
        )
    });
    let metrics = metrics
        .iter()
        .map(|(id, value)| (id.as_str(), value.clone()));
    Some(list(metrics, get))
}

/// Exchange buffers of a TaskManager, over all its cores.
pub(super) struct Buffers {
    pub(super) used: u64,
    pub(super) total: u64,
}

impl Buffers {
    /// As its last heartbeat said; before the first, as its registration says.
    pub(super) fn of(member: &TaskManager) -> Self {
        let registered = member.network.per_core() * member.address.data_ports.len() as u64;
        let (used, total) = member.buffers.unwrap_or((0, registered));
        // What a TaskManager says is not checked where it arrives: beyond its memory it says nothing.
        let total = total.min(registered);
        Self {
            used: used.min(total),
            total,
        }
    }

    pub(super) fn available(&self) -> u64 {
        self.total - self.used
    }
}

fn executions(job: &Job, vertex: VertexId) -> Option<&[Execution]> {
    let (index, _) = (0u32..)
        .zip(&job.job_graph.vertices)
        .find(|(_, known)| known.id == vertex)?;
    Some(job.executions.vertex(index))
}

fn number(metric: &Metric, execution: &Execution) -> Option<f64> {
    match metric {
        Metric::Count(count) => Some(count(execution) as f64),
        Metric::Rate(_) if execution.status().is_terminal() => None,
        Metric::Rate(rate) => execution.time_shares.as_ref().map(rate),
    }
}

fn is_named(get: &[String], id: &str) -> bool {
    get.iter().any(|name| name == id)
}

fn ids<'a>(ids: impl Iterator<Item = &'a str>) -> Value {
    ids.map(|id| json!({ "id": id })).collect()
}

fn list<'a>(
    metrics: impl Iterator<Item = (&'a str, Option<String>)>,
    get: Option<&[String]>,
) -> Value {
    let Some(get) = get else {
        return ids(metrics.map(|(id, _)| id));
    };
    metrics
        .filter(|(id, _)| is_named(get, id))
        .filter_map(|(id, value)| Some(json!({ "id": id, "value": value? })))
        .collect()
}
