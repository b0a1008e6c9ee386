//! The whole control plane, synchronous: an event and the time in, commands out.
//!
//! Owns: the registered TaskManagers, all jobs, and the order in which jobs wait for slots.
//! Invariant: no clock, socket or randomness here; the same events at the same times give the same commands.
//! [`Engine::check`] says what must hold between events.
//! Left out: everything that acts (runtime/).

mod clients;
mod members;
mod slots;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ringflow_schemas::id::JobId;

use crate::cluster::TaskManagers;
use crate::command::{Command, ToTaskManager};
use crate::event::Event;
use crate::invariants;
use crate::limits;
use crate::supervise::JobStatus;
use crate::supervise::effects::Effects;
use crate::supervise::job::Job;
use crate::time::Timestamp;

/// What an engine needs to know from its start.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Told to TaskManagers.
    pub cluster_id: String,
    /// Grows with each start of the JobManager.
    pub leader_epoch: u64,
    /// TaskManagers send heartbeats this often.
    pub heartbeat_interval: Duration,
    /// A TaskManager silent for longer is lost.
    pub heartbeat_timeout: Duration,
    /// A job that waits longer for slots fails.
    pub slot_request_timeout: Duration,
    /// Version that TaskManagers must have.
    pub version: String,
}

/// A job that waits for slots.
#[derive(Debug)]
struct Waiting {
    job: JobId,
    /// When it fails for want of slots.
    expires_at: Timestamp,
    /// The set of free slots that was last tried, and whether it counted as stable then.
    tried: Option<(u64, bool)>,
    /// There were slots at the last try, but not the buffers.
    shortage: Option<String>,
}

/// The control plane.
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: EngineConfig,
    pub(crate) cluster: TaskManagers,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    waiting: VecDeque<Waiting>,
    /// Jobs that ended, the first first.
    ended: VecDeque<JobId>,
    submissions: u64,
    ticked_at: Option<Timestamp>,
}

impl Engine {
    /// An engine that knows nobody yet.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        Self {
            config,
            cluster: TaskManagers::default(),
            jobs: BTreeMap::new(),
            waiting: VecDeque::new(),
            ended: VecDeque::new(),
            submissions: 0,
            ticked_at: None,
        }
    }

    /// Takes in what happened, answers what to do.
    ///
    /// Invariant: `now` never goes back between calls.
    /// Cost: a heartbeat is O(its reports); a status change O(1); what ends, deploys or cancels a job O(its subtasks).
    pub fn on_event(&mut self, now: Timestamp, event: Event) -> Vec<Command> {
        let mut effects = Effects::default();
        match event {
            Event::SubmitJob { job, graph } => self.on_submit(now, job, graph, &mut effects),
            Event::CancelJob { job } => self.on_cancel(now, job, &mut effects),
            Event::StopJob { job, mode } => self.on_stop(now, job, mode, &mut effects),
            Event::TaskManager {
                connection,
                message,
            } => {
                self.on_message(now, connection, message, &mut effects);
            }
            Event::ConnectionClosed { connection, reason } => {
                self.lose(now, connection, &reason, &mut effects);
            }
            Event::Tick => self.on_tick(now, &mut effects),
        }
        self.finish(now, effects)
    }

    /// Where a job stands.
    #[must_use]
    pub fn job_status(&self, job: JobId) -> Option<JobStatus> {
        self.jobs.get(&job).map(Job::status)
    }

    /// The message of a job's root failure.
    #[must_use]
    pub fn job_failure(&self, job: JobId) -> Option<&str> {
        self.jobs
            .get(&job)?
            .failures
            .root()
            .map(|root| root.message.as_str())
    }

    /// Checks what must hold between events.
    ///
    /// # Errors
    /// The sentence that does not hold. Cost: O(everything); for tests.
    pub fn check(&self) -> Result<(), String> {
        invariants::check_jobs(self.jobs.values())?;
        invariants::check_slots(&self.jobs, &self.cluster)?;
        invariants::check_buffers(&self.jobs, &self.cluster)?;
        let live = self
            .jobs
            .values()
            .filter(|job| !job.status().is_terminal())
            .count();
        if live > limits::JOBS_LIVE_MAX || self.jobs.len() - live > limits::JOBS_TERMINAL_KEPT {
            return Err(format!(
                "{live} live jobs of {} are beyond the limits",
                self.jobs.len()
            ));
        }
        let waits = |job: &Job| self.waiting.iter().any(|waiting| waiting.job == job.id);
        match self
            .jobs
            .values()
            .find(|job| (job.status() == JobStatus::Created) != waits(job))
        {
            Some(job) => Err(format!(
                "job {} is {} and in the wrong queue",
                job.id,
                job.status().name()
            )),
            None => Ok(()),
        }
    }

    /// Carries out what jobs left for others, until nothing is left.
    fn finish(&mut self, now: Timestamp, mut effects: Effects) -> Vec<Command> {
        self.carry_out(now, &mut effects);
        self.schedule(now, &mut effects);
        self.carry_out(now, &mut effects);
        self.forget_old_jobs();
        effects.commands
    }

    fn carry_out(&mut self, now: Timestamp, effects: &mut Effects) {
        for (job, slot) in std::mem::take(&mut effects.freed) {
            self.cluster.release(now, slot, job);
        }
        for (connection, attempts) in std::mem::take(&mut effects.cancel) {
            if self.cluster.get(connection).is_some() {
                let message = ToTaskManager::CancelSubtasks(attempts);
                effects.commands.push(Command::Send {
                    connection,
                    message,
                });
            }
        }
        for ((connection, mode), attempts) in std::mem::take(&mut effects.stop) {
            if self.cluster.get(connection).is_some() {
                let message = ToTaskManager::StopSubtasks { attempts, mode };
                effects.commands.push(Command::Send {
                    connection,
                    message,
                });
            }
        }
        self.ended.extend(std::mem::take(&mut effects.ended));
    }

    fn forget_old_jobs(&mut self) {
        while self.ended.len() > limits::JOBS_TERMINAL_KEPT {
            if let Some(job) = self.ended.pop_front() {
                self.jobs.remove(&job);
            }
        }
    }
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
