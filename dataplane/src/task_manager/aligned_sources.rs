//! The aligned sources of this TaskManager, between their cores and the JobManager.
//!
//! Owns: [`AlignedSources`]. Invariant: what is here is on a core, or was a moment ago. Left out: who is slowest (the JobManager says
//! what that means for each), waiting (the cores do).

use std::sync::Arc;
use std::time::Duration;

use ringflow_schemas::control as wire;
use ringflow_schemas::id::{ExecutionAttemptId, JobId};
use ringflow_schemas::rpc::{FromTaskManager, Message};
use tokio::time::Instant;

use crate::record::EventTime;
use crate::runtime::core::CoreHandle;
use crate::source::alignment::AlignmentCell;
use crate::subtask::spec::SubtaskSpec;
use crate::task_manager::messages;

/// How often the JobManager hears of sources at the latest while one of them has just begun.
const NEWS_INTERVAL: Duration = Duration::from_millis(100);

/// One of them.
#[derive(Debug)]
struct AlignedSource {
    attempt: ExecutionAttemptId,
    core: u32,
    interval: Duration,
    cell: Arc<AlignmentCell>,
}

impl AlignedSource {
    /// It has no watermark, or waits to hear how far it may go.
    fn is_new(&self) -> bool {
        self.cell.watermark_ms() == i64::MIN || self.cell.limit() == EventTime(i64::MIN)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct AlignedSources {
    sources: Vec<AlignedSource>,
    reported_at: Option<Instant>,
}

impl AlignedSources {
    /// Those among `specs`, which are on their way to their cores.
    pub(super) fn add(&mut self, specs: &[(u32, SubtaskSpec)]) {
        let aligned = specs.iter().filter_map(|(core, spec)| {
            let (cell, interval) = spec.alignment()?;
            Some(AlignedSource {
                attempt: spec.attempt,
                core: *core,
                interval,
                cell: Arc::clone(cell),
            })
        });
        self.sources.extend(aligned);
    }

    /// An attempt has ended, or never got to its core.
    pub(super) fn remove(&mut self, attempt: ExecutionAttemptId) {
        self.sources.retain(|source| source.attempt != attempt);
    }

    /// When the JobManager is to hear of them next; `None`: there are none.
    pub(super) fn report_at(&self, now: Instant) -> Option<Instant> {
        let mut interval = self.sources.iter().map(|source| source.interval).min()?;
        if self.sources.iter().any(AlignedSource::is_new) {
            interval = interval.min(NEWS_INTERVAL);
        }
        Some(self.reported_at.map_or(now, |at| at + interval))
    }

    /// How far they are.
    pub(super) fn report(&mut self, now: Instant) -> Message<FromTaskManager> {
        self.reported_at = Some(now);
        let sources: Vec<wire::SourceWatermark> = self
            .sources
            .iter()
            .map(|source| {
                wire::SourceWatermark::new(&source.attempt.into(), source.cell.watermark_ms())
            })
            .collect();
        messages::source_watermarks(&sources)
    }

    /// The JobManager says how far they may go.
    pub(super) fn on_limits(&self, limits: wire::AlignSources<'_>, cores: &[CoreHandle]) {
        let job = JobId::from(limits.job());
        for limit in limits.limits() {
            let of_vertex = |source: &&AlignedSource| {
                source.attempt.job == job && source.attempt.vertex == limit.vertex()
            };
            for source in self.sources.iter().filter(of_vertex) {
                source.cell.allow(limit.max_watermark_ms());
                if let Some(core) = cores.get(source.core as usize) {
                    core.ring();
                }
            }
        }
    }
}
