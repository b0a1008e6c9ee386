//! The parallel graph: every subtask, its attempts, and where they run.
//!
//! Owns: [`ExecutionGraph`], [`Execution`] with the moments of its statuses and its latest figures.
//! Invariant: a status changes only through [`ExecutionGraph::apply`], which keeps the counts of open and of not yet
//! running executions in step. One attempt per subtask is current; earlier ones are gone.
//! Left out: attempts after the first (there is no restart yet).

use std::sync::Arc;

use ringflow_schemas::id::{ExecutionAttemptId, JobId};

use super::job_graph::JobGraph;
use crate::cluster::{SlotId, TaskManagerAddress};
use crate::event::SubtaskCounters;
use crate::metrics::time::TimeShares;
use crate::supervise::{InvalidSubtaskTransition, SubtaskEvent, SubtaskStatus};
use crate::time::Timestamp;

/// Where an attempt runs, or ran.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    pub(crate) slot: SlotId,
    pub(crate) core: u32,
    pub(crate) task_manager: Arc<TaskManagerAddress>,
}

/// One attempt at one subtask.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) id: ExecutionAttemptId,
    status: SubtaskStatus,
    /// When each status began, by [`SubtaskStatus::index`].
    since: [Option<Timestamp>; SubtaskStatus::ALL.len()],
    pub(crate) placement: Option<Placement>,
    pub(crate) counters: SubtaskCounters,
    /// Of the time between its last two reports in which some was accounted.
    pub(crate) time_shares: Option<TimeShares>,
    pub(crate) watermark_ms: Option<i64>,
}

impl Execution {
    fn new(id: ExecutionAttemptId, now: Timestamp) -> Self {
        let mut since = [None; SubtaskStatus::ALL.len()];
        since[SubtaskStatus::Created.index()] = Some(now);
        Self {
            id,
            status: SubtaskStatus::Created,
            since,
            placement: None,
            counters: SubtaskCounters::default(),
            time_shares: None,
            watermark_ms: None,
        }
    }

    pub(crate) fn status(&self) -> SubtaskStatus {
        self.status
    }

    pub(crate) fn since(&self, status: SubtaskStatus) -> Option<Timestamp> {
        self.since[status.index()]
    }

    /// When it was deployed.
    pub(crate) fn started_at(&self) -> Option<Timestamp> {
        self.since(SubtaskStatus::Deploying)
    }

    /// When it became terminal.
    pub(crate) fn ended_at(&self) -> Option<Timestamp> {
        if self.status.is_terminal() {
            self.since(self.status)
        } else {
            None
        }
    }

    /// How long each status lasted that it has been in, in ms.
    pub(crate) fn status_durations(&self, now: Timestamp) -> Vec<(SubtaskStatus, u64)> {
        let mut entered: Vec<(Timestamp, SubtaskStatus)> = SubtaskStatus::ALL
            .into_iter()
            .filter(|status| !status.is_terminal())
            .filter_map(|status| self.since(status).map(|at| (at, status)))
            .collect();
        entered.sort();
        let end = self.ended_at().unwrap_or(now);
        let ends: Vec<Timestamp> = entered
            .iter()
            .skip(1)
            .map(|&(at, _)| at)
            .chain([end])
            .collect();
        entered
            .into_iter()
            .zip(ends)
            .map(|((at, status), end)| (status, end.ms_since(at)))
            .collect()
    }
}

/// What a status change of one execution did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) from: SubtaskStatus,
    pub(crate) to: SubtaskStatus,
}

/// All subtasks of a job.
#[derive(Debug)]
pub(crate) struct ExecutionGraph {
    /// By vertex, then by subtask.
    vertices: Vec<Vec<Execution>>,
    /// Not terminal.
    open: usize,
    /// Never been running.
    not_yet_running: usize,
}

impl ExecutionGraph {
    /// First attempts at all subtasks, CREATED.
    pub(crate) fn new(job: JobId, graph: &JobGraph, now: Timestamp) -> Self {
        let vertices: Vec<Vec<Execution>> = (0u32..)
            .zip(&graph.vertices)
            .map(|(vertex, job_vertex)| {
                (0..job_vertex.parallelism)
                    .map(|subtask| {
                        Execution::new(
                            ExecutionAttemptId {
                                job,
                                vertex,
                                subtask,
                                attempt: 0,
                            },
                            now,
                        )
                    })
                    .collect()
            })
            .collect();
        let count = vertices.iter().map(Vec::len).sum();
        Self {
            vertices,
            open: count,
            not_yet_running: count,
        }
    }

    pub(crate) fn vertex(&self, vertex: u32) -> &[Execution] {
        self.vertices
            .get(vertex as usize)
            .map_or(&[], Vec::as_slice)
    }

    /// All current executions, by vertex, then by subtask.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Execution> {
        self.vertices.iter().flatten()
    }

    /// The execution whose current attempt `id` is.
    pub(crate) fn get(&self, id: ExecutionAttemptId) -> Option<&Execution> {
        self.vertices
            .get(id.vertex as usize)?
            .get(id.subtask as usize)
            .filter(|execution| execution.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: ExecutionAttemptId) -> Option<&mut Execution> {
        self.vertices
            .get_mut(id.vertex as usize)?
            .get_mut(id.subtask as usize)
            .filter(|execution| execution.id == id)
    }

    pub(crate) fn all_terminal(&self) -> bool {
        self.open == 0
    }

    /// Some subtask has ended.
    pub(crate) fn any_terminal(&self) -> bool {
        self.open < self.vertices.iter().map(Vec::len).sum()
    }

    /// Every subtask is running or ended after it ran.
    pub(crate) fn all_have_run(&self) -> bool {
        self.not_yet_running == 0
    }

    /// Moves an attempt on. `None`: no such attempt, or nothing changed.
    ///
    /// # Errors
    /// The event cannot happen in its status.
    pub(crate) fn apply(
        &mut self,
        now: Timestamp,
        id: ExecutionAttemptId,
        event: SubtaskEvent,
    ) -> Result<Option<Change>, InvalidSubtaskTransition> {
        let Some(execution) = self.get_mut(id) else {
            return Ok(None);
        };
        let from = execution.status;
        let to = from.on(event)?;
        if to == from {
            return Ok(None);
        }
        let runs = |status| matches!(status, SubtaskStatus::Running | SubtaskStatus::Finished);
        let ran = execution.since(SubtaskStatus::Running).is_some();
        execution.status = to;
        execution.since[to.index()] = Some(now);
        if runs(to) && !ran {
            self.not_yet_running -= 1;
        }
        if to.is_terminal() {
            self.open -= 1;
        }
        Ok(Some(Change { from, to }))
    }

    /// How many executions stand at each status, by [`SubtaskStatus::index`].
    pub(crate) fn counts<'a>(
        executions: impl IntoIterator<Item = &'a Execution>,
    ) -> [usize; SubtaskStatus::ALL.len()] {
        let mut counts = [0; SubtaskStatus::ALL.len()];
        for execution in executions {
            counts[execution.status.index()] += 1;
        }
        counts
    }
}
