//! Time, and the slots and buffers that jobs wait for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ringflow_schemas::id::JobId;
use ringflow_schemas::network::{CoreChannels, NetworkLevel};

use super::{Engine, plural};
use crate::cluster::{CoreId, SlotId};
use crate::command::{Command, ToTaskManager};
use crate::event::ConnectionId;
use crate::graph::job_graph::JobGraph;
use crate::limits;
use crate::schedule::{self, Fit};
use crate::submit;
use crate::supervise::JobStatus;
use crate::supervise::effects::Effects;
use crate::supervise::job::Job;
use crate::time::Timestamp;

impl Engine {
    pub(super) fn on_tick(&mut self, now: Timestamp, effects: &mut Effects) {
        self.excuse_pause(now, effects);
        let timeout = self.config.heartbeat_timeout;
        let silent: Vec<ConnectionId> = self
            .cluster
            .iter()
            .filter(|(_, member)| now > member.heard_at.after(timeout))
            .map(|(connection, _)| connection)
            .collect();
        for connection in silent {
            let reason = format!("no heartbeat for more than {} ms", timeout.as_millis());
            self.lose(now, connection, &reason, effects);
            effects.commands.push(Command::Close { connection, reason });
        }
        for job in self.jobs.values_mut() {
            job.on_tick(now, effects);
        }
        self.expire_waiting(now, effects);
    }

    /// Extends all deadlines when this tick comes much too late: the JobManager stood still (a stopped process, a starved
    /// host) and could not have heard anybody, so nobody was silent.
    fn excuse_pause(&mut self, now: Timestamp, effects: &mut Effects) {
        let before = self.ticked_at.replace(now).unwrap_or(now);
        let elapsed = Duration::from_millis(now.ms_since(before));
        if elapsed < limits::TICK_LATE {
            return;
        }
        let gap = elapsed - limits::TICK;
        effects.log(format!(
            "the JobManager stood still for {} ms: all deadlines are extended by as much",
            gap.as_millis()
        ));
        self.cluster.stood_still(now, gap);
        for job in self.jobs.values_mut() {
            job.stood_still(gap);
        }
        for waiting in &mut self.waiting {
            waiting.expires_at = waiting.expires_at.after(gap);
        }
    }

    fn expire_waiting(&mut self, now: Timestamp, effects: &mut Effects) {
        let timeout_ms = self.config.slot_request_timeout.as_millis();
        let (total, free) = (self.cluster.slots_total(), self.cluster.slots_free());
        for waiting in &self.waiting {
            let Some(job) = self.jobs.get_mut(&waiting.job) else {
                continue;
            };
            if job.status() == JobStatus::Created && now >= waiting.expires_at {
                let message = match &waiting.shortage {
                    Some(shortage) => format!(
                        "no network buffers for {timeout_ms} ms (slot request timeout): {shortage}"
                    ),
                    None => format!(
                        "no slots for {timeout_ms} ms (slot request timeout): job needs {}, {} with {} registered, {free} \
                         free",
                        plural(job.job_graph.slots_needed(), "slot"),
                        plural(self.cluster.len(), "TaskManager"),
                        plural(total, "slot"),
                    ),
                };
                job.on_no_resources(now, message, effects);
            }
        }
    }

    /// Deploys waiting jobs, in order of submission; one that does not fit does not hold up those behind it.
    pub(super) fn schedule(&mut self, now: Timestamp, effects: &mut Effects) {
        let jobs = &self.jobs;
        self.waiting.retain(|waiting| {
            jobs.get(&waiting.job)
                .is_some_and(|job| job.status() == JobStatus::Created)
        });
        for mut waiting in std::mem::take(&mut self.waiting) {
            let stable = now >= self.cluster.changed_at().after(limits::SLOTS_STABLE);
            let view = (self.cluster.version(), stable);
            if waiting.tried != Some(view) {
                match self.try_deploy(now, waiting.job, stable, effects) {
                    Attempt::Done => continue,
                    Attempt::NoSlots => waiting.shortage = None,
                    Attempt::NoBuffersYet(shortage) => waiting.shortage = Some(shortage),
                }
            }
            waiting.tried = Some((self.cluster.version(), stable));
            self.waiting.push_back(waiting);
        }
    }

    fn try_deploy(
        &mut self,
        now: Timestamp,
        id: JobId,
        stable: bool,
        effects: &mut Effects,
    ) -> Attempt {
        let free = self.cluster.slots_free();
        let Some(job) = self.jobs.get_mut(&id) else {
            return Attempt::Done;
        };
        // The plan of submission fits the slots of that moment. Later, slots may still be coming: fewer than planned is
        // for a set that has settled.
        if job.auto && stable && free > 0 {
            replan(job, now, free, effects);
        }
        let seating = self.jobs.get(&id).and_then(|job| self.seat(&job.job_graph));
        let Some(seating) = seating else {
            return Attempt::NoSlots;
        };
        match self.fit(&seating) {
            Fit::At(level) => self.deploy(now, id, &seating, level, effects),
            Fit::Later(shortage) => return Attempt::NoBuffersYet(shortage.to_string()),
            // More TaskManagers may be on their way, over which the job spreads.
            Fit::No(shortage) if !stable => return Attempt::NoBuffersYet(shortage.to_string()),
            Fit::No(shortage) => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.on_no_resources(now, shortage.to_string(), effects);
                }
            }
        }
        Attempt::Done
    }

    /// Where the subtasks of a job would go now; `None` when there are not enough free slots.
    pub(super) fn seat(&self, job_graph: &JobGraph) -> Option<Seating> {
        if job_graph.slots_needed() > self.cluster.slots_free() {
            return None;
        }
        let groups = job_graph.slots_by_group();
        let counts: Vec<u32> = groups.values().copied().collect();
        let slots = schedule::place(&self.cluster, &counts)?;
        let slots = groups.into_keys().map(str::to_owned).zip(slots).collect();
        let slots = schedule::seats(job_graph, &slots);
        let cores: Option<Vec<Vec<CoreId>>> = slots
            .iter()
            .map(|vertex| {
                vertex
                    .iter()
                    .map(|&slot| self.cluster.core_of(slot))
                    .collect()
            })
            .collect();
        let channels = schedule::channels_by_core(job_graph, &cores?);
        Some(Seating { slots, channels })
    }

    /// Whether the buffers there suffice.
    pub(super) fn fit(&self, seating: &Seating) -> Fit {
        schedule::fit(&self.cluster, &seating.channels, |job| {
            self.jobs.get(&job).is_none_or(Job::is_ending)
        })
    }

    fn deploy(
        &mut self,
        now: Timestamp,
        id: JobId,
        seating: &Seating,
        level: NetworkLevel,
        effects: &mut Effects,
    ) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let cluster = &self.cluster;
        let occupied = job.assign(&seating.slots, |slot| {
            let core = cluster.core_of(slot)?.core;
            let member = cluster.get(slot.connection)?;
            Some((core, Arc::clone(&member.address)))
        });
        let mut subtasks_at: BTreeMap<ConnectionId, usize> = BTreeMap::new();
        for (slot, subtasks) in occupied {
            let taken = self.cluster.occupy(now, slot, id, subtasks);
            debug_assert!(taken, "placement chose a slot that is not free");
            *subtasks_at.entry(slot.connection).or_default() += subtasks;
        }
        for (connection, subtasks) in subtasks_at {
            if let Some(member) = self.cluster.get_mut(connection) {
                let by_core = schedule::buffers_on(&seating.channels, connection, level);
                member.network.take(id, subtasks, by_core);
            }
        }
        for (connection, deployment) in job.deploy(now, level, effects) {
            let cpu = self
                .cluster
                .get(connection)
                .and_then(|member| member.process_cpu_ns);
            job.cpu.begin(connection, cpu);
            let message = ToTaskManager::DeploySubtasks(Arc::new(deployment));
            effects.commands.push(Command::Send {
                connection,
                message,
            });
        }
    }
}

/// What an attempt to deploy a waiting job came to.
enum Attempt {
    /// It waits no more: deployed, or failed.
    Done,
    NoSlots,
    /// Jobs that are ending hold what it needs, or slots are still coming.
    NoBuffersYet(String),
}

/// A job on free slots, nothing taken yet.
pub(super) struct Seating {
    /// By vertex, then by subtask.
    slots: Vec<Vec<SlotId>>,
    channels: BTreeMap<CoreId, CoreChannels>,
}

/// Gives a waiting job the plan that fits `free` slots, unless its own fits.
fn replan(job: &mut Job, now: Timestamp, free: usize, effects: &mut Effects) {
    let free = u32::try_from(free).unwrap_or(u32::MAX);
    if let Ok(plan) = submit::plan(&job.graph, Some(free))
        && plan.job_graph.slots_needed() <= free as usize
        && plan.job_graph.slots_needed() != job.job_graph.slots_needed()
    {
        job.replan(now, plan, effects);
    }
}
