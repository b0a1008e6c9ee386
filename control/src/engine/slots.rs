//! Time, and the slots that jobs wait for.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringflow_schemas::id::JobId;

use super::{Engine, plural};
use crate::cluster::SlotId;
use crate::command::{Command, ToTaskManager};
use crate::event::ConnectionId;
use crate::limits;
use crate::schedule;
use crate::submit;
use crate::supervise::JobStatus;
use crate::supervise::effects::Effects;
use crate::supervise::job::Job;
use crate::time::Timestamp;

impl Engine {
    pub(super) fn on_tick(&mut self, now: Timestamp, effects: &mut Effects) {
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

    fn expire_waiting(&mut self, now: Timestamp, effects: &mut Effects) {
        let timeout = self.config.slot_request_timeout;
        let (total, free) = (self.cluster.slots_total(), self.cluster.slots_free());
        for waiting in &self.waiting {
            let Some(job) = self.jobs.get_mut(&waiting.job) else {
                continue;
            };
            if job.status() == JobStatus::Created && now >= job.submitted_at.after(timeout) {
                let message = format!(
                    "no slots for {} ms (slot request timeout): job needs {}, {} with {} registered, {free} free",
                    timeout.as_millis(),
                    plural(job.job_graph.slots_needed(), "slot"),
                    plural(self.cluster.len(), "TaskManager"),
                    plural(total, "slot"),
                );
                job.on_no_slots(now, message, effects);
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
            if waiting.tried == Some(view) || !self.try_deploy(now, waiting.job, stable, effects) {
                waiting.tried = Some((self.cluster.version(), stable));
                self.waiting.push_back(waiting);
            }
        }
    }

    /// Whether the job got its slots.
    fn try_deploy(
        &mut self,
        now: Timestamp,
        id: JobId,
        stable: bool,
        effects: &mut Effects,
    ) -> bool {
        let free = self.cluster.slots_free();
        let Some(job) = self.jobs.get_mut(&id) else {
            return true;
        };
        // The plan of submission fits the slots of that moment. Later, slots may still be coming: fewer than planned is
        // for a set that has settled.
        if job.auto && stable && free > 0 {
            replan(job, now, free, effects);
        }
        if job.job_graph.slots_needed() > free {
            return false;
        }
        let groups: Vec<(String, u32)> = job
            .job_graph
            .slots_by_group()
            .into_iter()
            .map(|(group, count)| (group.to_owned(), count))
            .collect();
        let counts: Vec<u32> = groups.iter().map(|&(_, count)| count).collect();
        let Some(slots) = schedule::place(&self.cluster, &counts) else {
            return false;
        };
        let slots: BTreeMap<String, Vec<SlotId>> = groups
            .into_iter()
            .map(|(group, _)| group)
            .zip(slots)
            .collect();
        let cluster = &self.cluster;
        let occupied = job.assign(&slots, |slot| {
            let member = cluster.get(slot.connection)?;
            let core = member
                .slots
                .iter()
                .find(|other| other.slot == slot.slot)?
                .core;
            Some((core, Arc::clone(&member.address)))
        });
        for (slot, subtasks) in occupied {
            let taken = self.cluster.occupy(now, slot, id, subtasks);
            debug_assert!(taken, "placement chose a slot that is not free");
        }
        for (connection, deployment) in job.deploy(now, effects) {
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
        true
    }
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
