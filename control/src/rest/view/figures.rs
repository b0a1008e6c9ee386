//! Pieces that several answers share: durations, status counts, IO metrics.

use serde_json::{Map, Value, json};

use crate::event::SubtaskCounters;
use crate::graph::execution_graph::{Execution, ExecutionGraph};
use crate::supervise::SubtaskStatus;
use crate::time::Timestamp;

/// A moment, or -1.
pub(super) fn moment(at: Option<Timestamp>) -> Value {
    at.map_or(json!(-1), |at| json!(at.0))
}

/// From `start` to `end` or to now; -1 before the start.
pub(super) fn duration(start: Option<Timestamp>, end: Option<Timestamp>, now: Timestamp) -> Value {
    start.map_or(json!(-1), |start| json!(end.unwrap_or(now).ms_since(start)))
}

/// A configured duration in the greatest unit that needs no fraction, as in Flink's configuration: `200 ms`.
pub(super) fn interval(ns: u64) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    let whole = units.into_iter().find(|(unit, _)| ns.is_multiple_of(*unit));
    let (unit, name) = whole.unwrap_or((1, "ns"));
    format!("{} {name}", ns / unit)
}

/// `{"CREATED": 0, ...}` with every status of Flink.
pub(super) fn counts_by_name<'a>(executions: impl IntoIterator<Item = &'a Execution>) -> Value {
    let counts = ExecutionGraph::counts(executions);
    let mut object: Map<String, Value> = SubtaskStatus::ALL
        .into_iter()
        .map(|status| (status.name().to_owned(), json!(counts[status.index()])))
        .collect();
    object.insert("RECONCILING".to_owned(), json!(0));
    Value::Object(object)
}

/// `{"total": 4, "created": 0, ...}`.
pub(super) fn tasks<'a>(executions: impl IntoIterator<Item = &'a Execution>) -> Value {
    let counts = ExecutionGraph::counts(executions);
    let mut object: Map<String, Value> = SubtaskStatus::ALL
        .into_iter()
        .map(|status| {
            (
                status.name().to_ascii_lowercase(),
                json!(counts[status.index()]),
            )
        })
        .collect();
    object.insert("reconciling".to_owned(), json!(0));
    object.insert("total".to_owned(), json!(counts.iter().sum::<usize>()));
    Value::Object(object)
}

/// Sums one counter.
pub(super) fn sum<'a>(
    executions: impl IntoIterator<Item = &'a Execution>,
    counter: impl Fn(&SubtaskCounters) -> u64,
) -> u64 {
    executions.into_iter().fold(0, |total: u64, execution| {
        total.saturating_add(counter(&execution.counters))
    })
}

/// Flink's `IOMetrics`, and the time spent spinning. A counter is complete once its attempts have ended.
pub(super) fn io_metrics(executions: &[&Execution]) -> Value {
    let complete = executions
        .iter()
        .all(|execution| execution.status().is_terminal());
    let total = |counter: fn(&SubtaskCounters) -> u64| sum(executions.iter().copied(), counter);
    json!({
        "read-bytes": total(|counters| counters.bytes_in),
        "read-bytes-complete": complete,
        "write-bytes": total(|counters| counters.bytes_out),
        "write-bytes-complete": complete,
        "read-records": total(|counters| counters.records_in),
        "read-records-complete": complete,
        "write-records": total(|counters| counters.records_out),
        "write-records-complete": complete,
        "accumulated-backpressured-time": total(|counters| counters.backpressured_ns) / 1_000_000,
        "accumulated-idle-time": total(|counters| counters.idle_ns) / 1_000_000,
        "accumulated-busy-time":
            std::time::Duration::from_nanos(total(|counters| counters.busy_ns)).as_secs_f64() * 1e3,
        "accumulated-spinning-time": total(|counters| counters.spinning_ns) / 1_000_000,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_whole_numbers_of_the_greatest_unit() {
        let intervals = [200_000_000, 3_000_000_000, 1_500_000, 7].map(interval);
        assert_eq!(intervals, ["200 ms", "3 s", "1500 us", "7 ns"]);
    }
}
