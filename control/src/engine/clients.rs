//! What clients ask of the engine: submit, cancel, stop.

use std::sync::Arc;

use ringflow_schemas::id::JobId;

use super::{Engine, Waiting, plural};
use crate::command::{CancelAnswer, Command, StopAnswer};
use crate::graph::StreamGraph;
use crate::limits;
use crate::schedule::Fit;
use crate::submit::{self, Plan, Rejected};
use crate::supervise::effects::Effects;
use crate::supervise::job::Job;
use crate::supervise::{JobStatus, StopMode};
use crate::time::Timestamp;

impl Engine {
    pub(super) fn on_submit(
        &mut self,
        now: Timestamp,
        job: JobId,
        graph: Arc<StreamGraph>,
        effects: &mut Effects,
    ) {
        // Who came first chooses first: what is free now is this job's to take.
        self.schedule(now, effects);
        let answer = self.accept(now, job, graph, effects);
        effects
            .commands
            .push(Command::SubmissionAnswered { job, answer });
        // `finish` looks for its slots.
    }

    fn accept(
        &mut self,
        now: Timestamp,
        id: JobId,
        graph: Arc<StreamGraph>,
        effects: &mut Effects,
    ) -> Result<Vec<String>, Rejected> {
        if self.jobs.contains_key(&id) {
            return Err(Rejected::because(format!("job {id} was submitted already")));
        }
        if self.jobs.len() - self.ended.len() >= limits::JOBS_LIVE_MAX {
            return Err(Rejected::because(format!(
                "{} jobs are running or waiting, the most that one JobManager takes",
                limits::JOBS_LIVE_MAX
            )));
        }
        let plan = submit::plan(&graph, self.slots_to_plan_with())?;
        self.check_slots(&plan)?;
        self.check_buffers(&plan)?;
        self.submissions += 1;
        let job = Job::new(id, self.submissions, graph, plan, now, effects);
        let warnings = job.warnings.clone();
        self.jobs.insert(id, job);
        self.waiting.push_back(Waiting {
            job: id,
            expires_at: now.after(self.config.slot_request_timeout),
            tried: None,
            shortage: None,
        });
        Ok(warnings)
    }

    /// Free slots; all where none is free; unknown where nobody is registered.
    fn slots_to_plan_with(&self) -> Option<u32> {
        let count = match (self.cluster.slots_free(), self.cluster.slots_total()) {
            (_, 0) => return None,
            (0, total) => total,
            (free, _) => free,
        };
        Some(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Refuses a job that this cluster, as it is, can never run.
    fn check_slots(&self, plan: &Plan) -> Result<(), Rejected> {
        let total = self.cluster.slots_total();
        let needed = plan.job_graph.slots_needed();
        if self.cluster.len() == 0 || needed <= total {
            return Ok(());
        }
        let free = self.cluster.slots_free();
        let groups = plan.job_graph.slots_by_group().len();
        let most = total / groups.max(1);
        let advice = if most > 0 {
            format!(
                "lower -p/--parallelism to at most {most} or start more TaskManagers / raise --slots"
            )
        } else {
            "start more TaskManagers / raise --slots".to_owned()
        };
        Err(Rejected::because(format!(
            "job needs {} (max parallelism {}{}), but only {} ({}) and {free} {} free: {advice}",
            plural(needed, "slot"),
            plan.job_graph.parallelism_max(),
            if groups > 1 {
                format!(", {groups} slot sharing groups")
            } else {
                String::new()
            },
            if total == 1 {
                "1 exists".to_owned()
            } else {
                format!("{total} exist")
            },
            plural(self.cluster.len(), "TaskManager"),
            if free == 1 { "is" } else { "are" },
        )))
    }

    /// Refuses a job that could start now, were there buffers for its channels.
    fn check_buffers(&self, plan: &Plan) -> Result<(), Rejected> {
        match self.seat(&plan.job_graph).map(|seating| self.fit(&seating)) {
            Some(Fit::No(shortage)) => Err(Rejected::because(shortage.to_string())),
            // It waits for slots, or for buffers that are on their way back: what it needs is known when it gets them.
            None | Some(Fit::At(_) | Fit::Later(_)) => Ok(()),
        }
    }

    pub(super) fn on_cancel(&mut self, now: Timestamp, id: JobId, effects: &mut Effects) {
        let answer = match self.jobs.get_mut(&id) {
            None => CancelAnswer::Unknown,
            Some(job) if job.status() == JobStatus::Canceled => CancelAnswer::Accepted,
            Some(job) if job.status().is_terminal() => CancelAnswer::AlreadyTerminal(job.status()),
            Some(job) => {
                job.cancel(now, effects);
                CancelAnswer::Accepted
            }
        };
        effects
            .commands
            .push(Command::CancelAnswered { job: id, answer });
    }

    pub(super) fn on_stop(
        &mut self,
        now: Timestamp,
        id: JobId,
        mode: StopMode,
        effects: &mut Effects,
    ) {
        let answer = match self.jobs.get_mut(&id) {
            None => StopAnswer::Unknown,
            Some(job) => job.stop(now, mode, effects),
        };
        effects
            .commands
            .push(Command::StopAnswered { job: id, answer });
    }
}
