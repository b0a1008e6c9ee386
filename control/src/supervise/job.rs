//! One job from submission to its end.
//!
//! ```text
//! waiting for slots (CREATED) -> deployed (RUNNING) -> every subtask terminal
//! a failure: FAILING, cancel the rest -> all terminal -> (a moment, if only peers were lost) -> FAILED
//! a stop: RUNNING, its sources end, each as soon as it runs -> every subtask terminal -> FINISHED
//! ```
//! Owns: [`Job`]: its graphs, executions, failures and figures.
//! Invariant: `status` is terminal only when every execution is; a job that is FAILED has a root failure.
//! What it wants from others (messages, slots freed) it leaves in [`Effects`].
//! Left out: choosing slots, restarts.

mod failing;
mod reports;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ringflow_schemas::id::{ExecutionAttemptId, JobId};
use ringflow_schemas::network::NetworkLevel;

use super::alignment::SourceAlignment;
use super::effects::Effects;
use super::failure::{FailureHistory, FailureRecord};
use super::{JobEvent, JobStatus, StopMode, SubtaskEvent, SubtaskStatus};
use crate::cluster::{SlotId, TaskManagerAddress};
use crate::command::{Command, Deployment, StopAnswer, ToTaskManager};
use crate::deploy;
use crate::event::ConnectionId;
use crate::graph::StreamGraph;
use crate::graph::execution_graph::{Change, Execution, ExecutionGraph, Placement};
use crate::graph::job_graph::JobGraph;
use crate::metrics::accumulator::JobAccumulators;
use crate::metrics::cpu::JobCpu;
use crate::metrics::latency::JobLatency;
use crate::submit::Plan;
use crate::time::Timestamp;

/// One job.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    /// Counts submissions.
    pub(crate) number: u64,
    pub(crate) graph: Arc<StreamGraph>,
    pub(crate) job_graph: JobGraph,
    pub(crate) executions: ExecutionGraph,
    pub(crate) warnings: Vec<String>,
    /// Its plan depends on the number of slots.
    pub(crate) auto: bool,
    pub(crate) submitted_at: Timestamp,
    /// When every subtask had run at last.
    pub(crate) running_at: Option<Timestamp>,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) modified_at: Timestamp,
    pub(crate) failures: FailureHistory,
    pub(crate) latency: JobLatency,
    pub(crate) accumulators: JobAccumulators,
    pub(crate) cpu: JobCpu,
    /// What its channels may have in flight, once it is deployed.
    pub(crate) network_level: Option<NetworkLevel>,
    alignment: SourceAlignment,
    status: JobStatus,
    /// Its sources are told to end, and how.
    stopping: Option<StopMode>,
    /// When each status began.
    since: BTreeMap<JobStatus, Timestamp>,
    /// Until when FAILED waits for the story of a lost peer.
    hold_until: Option<Timestamp>,
    /// TaskManagers lost when nothing of the job was open there, by name: the root, should a peer miss one later.
    lost_idle: BTreeMap<String, FailureRecord>,
}

impl Job {
    /// A job that waits for slots.
    pub(crate) fn new(
        id: JobId,
        number: u64,
        graph: Arc<StreamGraph>,
        plan: Plan,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Self {
        let executions = ExecutionGraph::new(id, &plan.job_graph, now);
        let alignment = SourceAlignment::new(&graph, &plan.job_graph);
        let mut job = Self {
            id,
            number,
            graph,
            job_graph: plan.job_graph,
            executions,
            warnings: plan.warnings,
            auto: plan.auto,
            submitted_at: now,
            running_at: None,
            ended_at: None,
            modified_at: now,
            failures: FailureHistory::default(),
            latency: JobLatency::default(),
            accumulators: JobAccumulators::default(),
            cpu: JobCpu::default(),
            network_level: None,
            alignment,
            status: JobStatus::Initializing,
            stopping: None,
            since: BTreeMap::from([(JobStatus::Initializing, now)]),
            hold_until: None,
            lost_idle: BTreeMap::new(),
        };
        job.advance(now, JobEvent::GraphBuilt, effects);
        job.apply_all(now, SubtaskEvent::Scheduled, effects);
        job
    }

    /// Takes another plan while it still waits.
    pub(crate) fn replan(&mut self, now: Timestamp, plan: Plan, effects: &mut Effects) {
        debug_assert_eq!(self.status, JobStatus::Created);
        self.executions = ExecutionGraph::new(self.id, &plan.job_graph, now);
        self.alignment = SourceAlignment::new(&self.graph, &plan.job_graph);
        self.job_graph = plan.job_graph;
        self.warnings = plan.warnings;
        self.apply_all(now, SubtaskEvent::Scheduled, effects);
    }

    pub(crate) fn status(&self) -> JobStatus {
        self.status
    }

    /// It gives back its buffers before long: it was told to end, or its input has ended for some of it.
    pub(crate) fn is_ending(&self) -> bool {
        self.status != JobStatus::Running
            || self.stopping.is_some()
            || self.executions.any_terminal()
    }

    pub(crate) fn since(&self, status: JobStatus) -> Option<Timestamp> {
        self.since.get(&status).copied()
    }

    /// `Source: bids -> Map (2/4)`.
    pub(crate) fn task_name(&self, id: ExecutionAttemptId) -> String {
        let vertex = self.job_graph.vertices.get(id.vertex as usize);
        let (name, parallelism) = vertex.map_or(("?", 0), |vertex| {
            (vertex.name.as_str(), vertex.parallelism)
        });
        format!("{name} ({}/{parallelism})", u64::from(id.subtask) + 1)
    }

    /// Puts every execution into its slot, given by vertex, then by subtask; answers how many subtasks each slot got.
    pub(crate) fn assign(
        &mut self,
        seats: &[Vec<SlotId>],
        locate: impl Fn(SlotId) -> Option<(u32, Arc<TaskManagerAddress>)>,
    ) -> BTreeMap<SlotId, usize> {
        let mut subtasks = BTreeMap::new();
        for (index, seats) in (0u32..).zip(seats) {
            for (subtask, &slot) in (0u32..).zip(seats) {
                let id = ExecutionAttemptId {
                    job: self.id,
                    vertex: index,
                    subtask,
                    attempt: 0,
                };
                if let (Some(execution), Some((core, task_manager))) =
                    (self.executions.get_mut(id), locate(slot))
                {
                    execution.placement = Some(Placement {
                        slot,
                        core,
                        task_manager,
                    });
                    *subtasks.entry(slot).or_insert(0) += 1;
                }
            }
        }
        subtasks
    }

    /// Goes RUNNING, its channels at `level`; answers what to tell the TaskManagers.
    pub(crate) fn deploy(
        &mut self,
        now: Timestamp,
        level: NetworkLevel,
        effects: &mut Effects,
    ) -> BTreeMap<ConnectionId, Deployment> {
        self.advance(now, JobEvent::Deployed, effects);
        self.apply_all(now, SubtaskEvent::Deployed, effects);
        self.network_level = Some(level);
        deploy::deployments(
            self.id,
            &self.graph,
            &self.job_graph,
            &self.executions,
            level,
        )
    }

    /// Someone asked to cancel it.
    pub(crate) fn cancel(&mut self, now: Timestamp, effects: &mut Effects) {
        self.advance(now, JobEvent::CancelRequested, effects);
        self.hold_until = None;
        self.cancel_subtasks(now, effects);
        self.settle(now, effects);
    }

    /// A TaskManager says how far a subtask of an aligned source is.
    pub(crate) fn on_source_watermark(
        &mut self,
        connection: ConnectionId,
        attempt: ExecutionAttemptId,
        watermark_ms: i64,
    ) {
        let runs_there = self.executions.get(attempt).is_some_and(|execution| {
            let placement = execution.placement.as_ref();
            !execution.status().is_terminal()
                && placement.is_some_and(|placement| placement.slot.connection == connection)
        });
        if runs_there {
            self.alignment.on_watermark(attempt, watermark_ms);
        }
    }

    /// Tells aligned sources how far they may go, if it is time.
    pub(crate) fn align_sources(&mut self, now: Timestamp, effects: &mut Effects) {
        let executions = &self.executions;
        let limits = self.alignment.due(now, |vertex| {
            let live = |execution: &&Execution| !execution.status().is_terminal();
            executions.vertex(vertex).iter().filter(live).count()
        });
        if limits.is_empty() {
            return;
        }
        let sources = limits.iter().map(|(vertex, _)| *vertex);
        let executions = sources.flat_map(|vertex| self.executions.vertex(vertex));
        let connections: BTreeSet<ConnectionId> = executions
            .filter(|execution| !execution.status().is_terminal())
            .filter_map(|execution| Some(execution.placement.as_ref()?.slot.connection))
            .collect();
        for connection in connections {
            effects.commands.push(Command::Send {
                connection,
                message: ToTaskManager::AlignSources {
                    job: self.id,
                    limits: limits.clone(),
                },
            });
        }
    }

    /// Someone asked to stop it: its sources end in good order, and it with them. The first mode counts.
    pub(crate) fn stop(
        &mut self,
        now: Timestamp,
        mode: StopMode,
        effects: &mut Effects,
    ) -> StopAnswer {
        if self.status != JobStatus::Running {
            return StopAnswer::NotRunning(self.status);
        }
        if let Some(other) = self.stopping {
            return if other == mode {
                StopAnswer::Accepted
            } else {
                StopAnswer::OtherMode(other)
            };
        }
        self.stopping = Some(mode);
        self.modified_at = now;
        effects.log(format!(
            "Job {} ({}) is stopped {}",
            self.graph.name,
            self.id,
            mode.phrase()
        ));
        let running: Vec<ExecutionAttemptId> = self
            .executions
            .iter()
            .filter(|execution| execution.status() == SubtaskStatus::Running)
            .map(|execution| execution.id)
            .collect();
        for id in running {
            self.stop_subtask(id, effects);
        }
        StopAnswer::Accepted
    }

    /// Stops a subtask that runs, if its job is being stopped and it is a source.
    fn stop_subtask(&self, id: ExecutionAttemptId, effects: &mut Effects) {
        let vertex = self.job_graph.vertices.get(id.vertex as usize);
        let is_source = vertex.is_some_and(|vertex| vertex.inputs.is_empty());
        let execution = self.executions.get(id);
        if let (Some(mode), true, Some(placement)) = (
            self.stopping,
            is_source,
            execution.and_then(|execution| execution.placement.as_ref()),
        ) {
            let key = (placement.slot.connection, mode);
            effects.stop.entry(key).or_default().push(id);
        }
    }

    /// Time passed.
    pub(crate) fn on_tick(&mut self, now: Timestamp, effects: &mut Effects) {
        if !self.status.is_terminal() {
            self.latency.on_tick(now);
            self.settle(now, effects);
        }
    }

    /// Nobody looked at deadlines for `gap`: those that run get it back.
    pub(crate) fn stood_still(&mut self, gap: Duration) {
        self.hold_until = self.hold_until.map(|until| until.after(gap));
    }

    fn cancel_subtasks(&mut self, now: Timestamp, effects: &mut Effects) {
        for (id, change) in self.apply_all(now, SubtaskEvent::CancelRequested, effects) {
            if change.to != SubtaskStatus::Canceling {
                continue;
            }
            if let Some(placement) = self
                .executions
                .get(id)
                .and_then(|execution| execution.placement.as_ref())
            {
                effects
                    .cancel
                    .entry(placement.slot.connection)
                    .or_default()
                    .push(id);
            }
        }
    }

    /// Applies an event wherever it can happen.
    fn apply_all(
        &mut self,
        now: Timestamp,
        event: SubtaskEvent,
        effects: &mut Effects,
    ) -> Vec<(ExecutionAttemptId, Change)> {
        let ids: Vec<ExecutionAttemptId> = self
            .executions
            .iter()
            .map(|execution| execution.id)
            .collect();
        let mut changes = Vec::new();
        for id in ids {
            if let Ok(Some(change)) = self.executions.apply(now, id, event) {
                self.on_applied(now, id, change, effects);
                changes.push((id, change));
            }
        }
        changes
    }

    fn on_applied(
        &mut self,
        now: Timestamp,
        id: ExecutionAttemptId,
        change: Change,
        effects: &mut Effects,
    ) {
        self.modified_at = now;
        let Change { from, to } = change;
        effects.commands.push(Command::SubtaskStatusChanged {
            attempt: id,
            task_name: self.task_name(id),
            from,
            to,
        });
        if to == SubtaskStatus::Running {
            self.stop_subtask(id, effects);
        }
        if self.running_at.is_none() && self.executions.all_have_run() {
            self.running_at = Some(now);
            self.cpu.restart();
        }
        if to.is_terminal() {
            self.alignment.on_ended(id);
        }
        if to.is_terminal()
            && let Some(placement) = self
                .executions
                .get(id)
                .and_then(|execution| execution.placement.as_ref())
        {
            effects.freed.push((self.id, placement.slot));
        }
    }

    /// Ends the job when nothing of it is left.
    fn settle(&mut self, now: Timestamp, effects: &mut Effects) {
        let held = self.hold_until.is_some_and(|until| now < until);
        if self.executions.all_terminal() && !self.status.is_terminal() && !held {
            self.advance(now, JobEvent::AllSubtasksTerminal, effects);
        }
    }

    fn advance(&mut self, now: Timestamp, event: JobEvent, effects: &mut Effects) {
        let from = self.status;
        let to = match from.on(event) {
            Ok(to) => to,
            Err(invalid) => return effects.log(format!("job {}: {invalid}", self.id)),
        };
        if to == from {
            return;
        }
        self.status = to;
        self.since.insert(to, now);
        self.modified_at = now;
        if to.is_terminal() {
            self.ended_at = Some(now);
            self.latency.end();
            effects.ended.push(self.id);
        }
        let failing = matches!(to, JobStatus::Failing | JobStatus::Failed);
        effects.commands.push(Command::JobStatusChanged {
            job: self.id,
            name: self.graph.name.clone(),
            from,
            to,
            reason: self
                .failures
                .root()
                .filter(|_| failing)
                .map(|root| root.message.clone()),
        });
    }
}
