//! Holding the watermarks of sources together.
//!
//! ```text
//! each update interval:  subtasks say how far they are -> least of a group + drift -> subtasks beyond it wait
//! ```
//! Owns: [`SourceAlignment`]: the groups of a job, and how far each of their subtasks said it is.
//! Invariant: a limit is the least watermark of the group's subtasks that have not ended, plus the source's drift; while one of them
//! has none, or has not spoken yet, nobody goes on who has one. Subtasks that are idle or at their end say that they hold nobody up.
//! Left out: waiting (the data plane), and how often subtasks report (they do so by their own clocks, each update interval).
//!
//! Source: Flink `SourceCoordinator.announceCombinedWatermark`.

use std::collections::BTreeMap;
use std::time::Duration;

use ringflow_schemas::id::ExecutionAttemptId;

use crate::graph::StreamGraph;
use crate::graph::job_graph::JobGraph;
use crate::time::Timestamp;

/// The alignment groups of one job.
#[derive(Debug, Default)]
pub(crate) struct SourceAlignment {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    name: String,
    sources: Vec<Source>,
    interval: Duration,
    watermarks: BTreeMap<ExecutionAttemptId, i64>,
    /// When limits were told last, and the watermark they came from.
    announced: Option<(Timestamp, i64)>,
}

#[derive(Debug)]
struct Source {
    vertex: u32,
    max_drift_ms: i64,
}

impl SourceAlignment {
    /// The groups that a job's sources ask for.
    pub(crate) fn new(graph: &StreamGraph, job_graph: &JobGraph) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for (vertex, of) in (0u32..).zip(&job_graph.vertices) {
            let head = of.operators.first().map(|node| graph.node(*node));
            let Some(alignment) = head.and_then(|head| head.watermark_alignment.as_ref()) else {
                continue;
            };
            let interval = Duration::from_millis(u64::from(alignment.update_interval_ms));
            let index = groups
                .iter()
                .position(|group| group.name == alignment.group);
            let index = index.unwrap_or_else(|| {
                groups.push(Group {
                    name: alignment.group.clone(),
                    sources: Vec::new(),
                    interval,
                    watermarks: BTreeMap::new(),
                    announced: None,
                });
                groups.len() - 1
            });
            let group = &mut groups[index];
            group.interval = group.interval.min(interval);
            group.sources.push(Source {
                vertex,
                max_drift_ms: alignment.max_drift_ms,
            });
        }
        Self { groups }
    }

    /// A subtask says how far it is; it is one of this job's, and has not ended.
    pub(crate) fn on_watermark(&mut self, attempt: ExecutionAttemptId, watermark_ms: i64) {
        if let Some(group) = self.group_of(attempt.vertex) {
            group.watermarks.insert(attempt, watermark_ms);
        }
    }

    /// A subtask has ended: it holds nobody up any more.
    pub(crate) fn on_ended(&mut self, attempt: ExecutionAttemptId) {
        if let Some(group) = self.group_of(attempt.vertex) {
            group.watermarks.remove(&attempt);
        }
    }

    /// How far sources may be, by vertex, of the groups whose update interval has passed, or which wait for their first limits.
    ///
    /// Shape: `live` says how many subtasks of a vertex have not ended.
    pub(crate) fn due(&mut self, now: Timestamp, live: impl Fn(u32) -> usize) -> Vec<(u32, i64)> {
        let mut limits = Vec::new();
        for group in &mut self.groups {
            let lives: usize = group.sources.iter().map(|source| live(source.vertex)).sum();
            let Some(mut least) = group.watermarks.values().min().copied() else {
                continue;
            };
            if group.watermarks.len() < lives {
                least = i64::MIN;
            }
            let is_due = match group.announced {
                None => true,
                Some((_, i64::MIN)) if least > i64::MIN => true,
                Some((at, _)) => now >= at.after(group.interval),
            };
            if !is_due {
                continue;
            }
            group.announced = Some((now, least));
            limits.extend(
                group
                    .sources
                    .iter()
                    .map(|source| (source.vertex, least.saturating_add(source.max_drift_ms))),
            );
        }
        limits
    }

    fn group_of(&mut self, vertex: u32) -> Option<&mut Group> {
        self.groups
            .iter_mut()
            .find(|group| group.sources.iter().any(|source| source.vertex == vertex))
    }
}

#[cfg(test)]
mod tests;
