//! `/ringflow/jobs/:id/progress` and `/latency`: what a person who waits for a job, or a benchmark, wants to see.

use serde_json::{Value, json};

use super::figures;
use super::job::kind_name;
use crate::event::{Accumulator, SubtaskCounters};
use crate::metrics::latency::LatencySummary;
use crate::supervise::job::Job;
use crate::time::Timestamp;

pub(crate) fn progress(job: &Job, now: Timestamp) -> Value {
    let total = |counter: fn(&SubtaskCounters) -> u64| figures::sum(job.executions.iter(), counter);
    json!({
        "jid": job.id.to_string(),
        "name": job.graph.name,
        "state": job.status().name(),
        "start-time": job.submitted_at.0,
        "running-time": figures::moment(job.running_at),
        "end-time": figures::moment(job.ended_at),
        "duration": figures::duration(Some(job.submitted_at), job.ended_at, now),
        "records_in": total(|counters| counters.source_records),
        "records_out": total(|counters| counters.sink_records),
        "late_records_dropped": total(|counters| counters.late_records_dropped),
        "bad_records": total(|counters| counters.bad_records),
        "pending_records": total(|counters| counters.pending_records),
        "bytes_copied": total(|counters| counters.bytes_copied),
        "state_bytes": total(|counters| counters.state_bytes),
        "state_bytes_max": total(|counters| counters.state_bytes_max),
        "cpu_seconds": job.cpu.seconds(),
        "latency_us": job.latency.total().map(latency),
        "latency_us_interval": job.latency.interval().map(latency),
        "tasks": figures::tasks(job.executions.iter()),
        "network_level": job.network_level.map(|level| json!({
            "road_buffers": level.road,
            "credit": level.credit,
        })),
        "accumulators": job.accumulators.iter().map(accumulator).collect::<Vec<_>>(),
        "warnings": job.warnings,
        "failure": job.failures.root().map(|root| root.message.as_str()),
    })
}

/// The job's latency histogram, from its first record to now or to its end. `histogram` is null when nothing was measured.
pub(crate) fn histogram(job: &Job) -> Value {
    let hex = |encoded: Vec<u8>| {
        encoded.iter().fold(String::new(), |mut text, byte| {
            text.extend(
                [byte >> 4, byte & 15]
                    .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])),
            );
            text
        })
    };
    json!({
        "jid": job.id.to_string(),
        "unit": "us",
        "encoding": "HdrHistogram V2, hexadecimal",
        "histogram": job.latency.encoded().map(hex),
    })
}

fn latency(summary: LatencySummary) -> Value {
    json!({
        "p50": summary.p50,
        "p90": summary.p90,
        "p99": summary.p99,
        "p99_9": summary.p99_9,
        "p99_99": summary.p99_99,
        "max": summary.max,
        "count": summary.count,
    })
}

fn accumulator(accumulator: &Accumulator) -> Value {
    let rows: Vec<Value> = accumulator
        .rows
        .iter()
        .map(|row| json!({ "order": row.order, "text": row.text }))
        .collect();
    json!({
        "name": accumulator.name,
        "kind": kind_name(accumulator.kind),
        "value": accumulator.value,
        "rows": rows,
    })
}
