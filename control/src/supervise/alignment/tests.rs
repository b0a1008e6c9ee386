use std::time::Duration;

use ringflow_schemas::id::{ExecutionAttemptId, JobId};

use super::{Group, Source, SourceAlignment};
use crate::time::Timestamp;

fn attempt(vertex: u32, subtask: u32) -> ExecutionAttemptId {
    ExecutionAttemptId {
        job: JobId::from_halves(1, 2),
        vertex,
        subtask,
        attempt: 0,
    }
}

/// Vertices 0 and 1 in one group, with drifts of 100 and 20; 2 alone.
fn alignment() -> SourceAlignment {
    let group = |name: &str, sources| Group {
        name: name.to_owned(),
        sources,
        interval: Duration::from_millis(1000),
        watermarks: std::collections::BTreeMap::new(),
        announced: None,
    };
    let source = |vertex, max_drift_ms| Source {
        vertex,
        max_drift_ms,
    };
    SourceAlignment {
        groups: vec![
            group("both", vec![source(0, 100), source(1, 20)]),
            group("alone", vec![source(2, 5)]),
        ],
    }
}

/// Limits at `ms`, of vertices that have as many live subtasks as have spoken.
fn due(alignment: &mut SourceAlignment, ms: u64) -> Vec<(u32, i64)> {
    let spoken: Vec<u32> = alignment
        .groups
        .iter()
        .flat_map(|group| group.watermarks.keys().map(|attempt| attempt.vertex))
        .collect();
    let live = |vertex| spoken.iter().filter(|of| **of == vertex).count();
    let now = Timestamp::default().after(Duration::from_millis(ms));
    alignment.due(now, live)
}

#[test]
fn each_source_may_be_its_drift_ahead_of_the_slowest_of_its_group() {
    let mut alignment = alignment();
    assert_eq!(due(&mut alignment, 0), [], "nobody has spoken");
    alignment.on_watermark(attempt(0, 0), 1000);
    alignment.on_watermark(attempt(0, 1), 700);
    alignment.on_watermark(attempt(1, 0), 5000);
    assert_eq!(due(&mut alignment, 0), [(0, 800), (1, 720)]);
}

#[test]
fn limits_are_told_once_an_interval() {
    let mut alignment = alignment();
    alignment.on_watermark(attempt(2, 0), 10);
    assert_eq!(due(&mut alignment, 0), [(2, 15)]);
    alignment.on_watermark(attempt(2, 0), 20);
    assert_eq!(due(&mut alignment, 999), []);
    assert_eq!(due(&mut alignment, 1000), [(2, 25)]);
}

#[test]
fn who_is_idle_or_has_ended_holds_nobody_up() {
    let mut alignment = alignment();
    alignment.on_watermark(attempt(0, 0), i64::MAX);
    alignment.on_watermark(attempt(0, 1), 50);
    alignment.on_watermark(attempt(1, 0), 9000);
    assert_eq!(due(&mut alignment, 0), [(0, 150), (1, 70)]);
    alignment.on_ended(attempt(0, 1));
    assert_eq!(due(&mut alignment, 1000), [(0, 9100), (1, 9020)]);
    alignment.on_watermark(attempt(1, 0), i64::MAX);
    assert_eq!(due(&mut alignment, 2000), [(0, i64::MAX), (1, i64::MAX)]);
}

#[test]
fn nobody_goes_on_before_all_have_spoken_and_then_all_at_once() {
    let mut alignment = alignment();
    alignment.on_watermark(attempt(0, 0), 700);
    let now = Timestamp::default();
    let held = [(0, i64::MIN + 100), (1, i64::MIN + 20)];
    assert_eq!(alignment.due(now, |vertex| usize::from(vertex < 2)), held);
    alignment.on_watermark(attempt(1, 0), 600);
    let limits = [(0, 700), (1, 620)];
    assert_eq!(alignment.due(now, |vertex| usize::from(vertex < 2)), limits);
}

#[test]
fn a_source_without_a_watermark_holds_the_others_up() {
    let mut alignment = alignment();
    alignment.on_watermark(attempt(0, 0), i64::MIN);
    alignment.on_watermark(attempt(1, 0), 40);
    assert_eq!(
        due(&mut alignment, 0),
        [(0, i64::MIN + 100), (1, i64::MIN + 20)]
    );
}
