//! What TaskManagers tell the engine, and what their loss means.

use super::{Engine, plural};
use crate::cluster;
use crate::command::{Command, ToTaskManager};
use crate::event::{ConnectionId, FromTaskManager, Heartbeat, Registration, SubtaskStatusChange};
use crate::limits;
use crate::supervise::effects::Effects;
use crate::time::Timestamp;
use ringflow_schemas::id::{ExecutionAttemptId, JobId};
use std::collections::BTreeSet;
use std::time::Duration;

impl Engine {
    pub(super) fn on_message(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        message: FromTaskManager,
        effects: &mut Effects,
    ) {
        if let FromTaskManager::Register(registration) = message {
            return self.on_register(now, connection, *registration, effects);
        }
        let Some(member) = self.cluster.get_mut(connection) else {
            // It was lost already, or never registered: what it says is about nobody.
            effects.commands.push(Command::Close {
                connection,
                reason: "not registered".to_owned(),
            });
            return;
        };
        member.heard_at = now;
        match message {
            FromTaskManager::Heartbeat(heartbeat) => {
                self.on_heartbeat(connection, heartbeat, effects)
            }
            FromTaskManager::SubtaskStatusChanged(change) => {
                self.on_status(now, connection, *change, effects)
            }
            FromTaskManager::Goodbye { reason } => {
                self.lose(now, connection, &format!("it left: {reason}"), effects);
                effects.commands.push(Command::Close {
                    connection,
                    reason: "said goodbye".to_owned(),
                });
            }
            FromTaskManager::SourceWatermarks(watermarks) => {
                self.on_source_watermarks(now, connection, &watermarks, effects);
            }
            FromTaskManager::Register(_) => {}
        }
    }

    fn on_source_watermarks(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        watermarks: &[(ExecutionAttemptId, i64)],
        effects: &mut Effects,
    ) {
        for (attempt, watermark_ms) in watermarks {
            if let Some(job) = self.jobs.get_mut(&attempt.job) {
                job.on_source_watermark(connection, *attempt, *watermark_ms);
            }
        }
        let jobs: BTreeSet<JobId> = watermarks.iter().map(|(attempt, _)| attempt.job).collect();
        for job in jobs {
            if let Some(job) = self.jobs.get_mut(&job) {
                job.align_sources(now, effects);
            }
        }
    }

    fn on_register(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        registration: Registration,
        effects: &mut Effects,
    ) {
        let known = self.cluster.find(&registration.task_manager_id);
        // Only the process that holds an id may take it over, when it has noticed a broken connection before we have.
        let holder = known
            .filter(|(_, holder)| !holder.registration.is_same_process(&registration))
            .map(|(_, holder)| {
                format!(
                    "process {} at {}",
                    holder.registration.pid,
                    holder.address.endpoint()
                )
            });
        let known = known.map(|(connection, _)| connection);
        let refusal = if self.cluster.get(connection).is_some() {
            Some("this connection registered already".to_owned())
        } else if let Some(holder) = holder {
            Some(format!(
                "its id is in use by {holder}; choose another --id, or stop that one"
            ))
        } else if known.is_none() && self.cluster.len() >= limits::TASK_MANAGERS_MAX {
            Some(format!(
                "{} TaskManagers are registered, the most there may be",
                limits::TASK_MANAGERS_MAX
            ))
        } else {
            cluster::check(&registration, &self.config.version).err()
        };
        if let Some(reason) = refusal {
            effects.log(format!("refused a registration: {reason}"));
            self.lose(now, connection, &reason, effects);
            let message = ToTaskManager::RegistrationRefused {
                reason: reason.clone(),
            };
            effects.commands.push(Command::Send {
                connection,
                message,
            });
            effects.commands.push(Command::Close { connection, reason });
            return;
        }
        if let Some(old) = known {
            self.lose(
                now,
                old,
                "it registered again over a new connection",
                effects,
            );
            effects.commands.push(Command::Close {
                connection: old,
                reason: "replaced".to_owned(),
            });
        }
        effects.log(format!(
            "TaskManager {} registered with {}",
            registration.task_manager_id,
            plural(registration.slots.len(), "slot")
        ));
        let message = ToTaskManager::Registered {
            cluster_id: self.config.cluster_id.clone(),
            leader_epoch: self.config.leader_epoch,
            heartbeat_interval_ms: whole_ms(self.config.heartbeat_interval),
            heartbeat_timeout_ms: whole_ms(self.config.heartbeat_timeout),
        };
        effects.commands.push(Command::Send {
            connection,
            message,
        });
        self.cluster.add(now, connection, registration);
        // Jobs may have been waiting for these slots: `finish` looks.
    }

    fn on_heartbeat(
        &mut self,
        connection: ConnectionId,
        heartbeat: Heartbeat,
        effects: &mut Effects,
    ) {
        if let Some(member) = self.cluster.get_mut(connection) {
            member.process_cpu_ns = Some(heartbeat.process_cpu_ns);
            member.free_memory_bytes = heartbeat.free_memory_bytes;
            member.buffers = Some((
                heartbeat.network_buffers_used,
                heartbeat.network_buffers_total,
            ));
        }
        for job in self.jobs.values_mut() {
            job.observe_cpu(connection, heartbeat.process_cpu_ns);
        }
        for report in &heartbeat.subtasks {
            if let Some(job) = self.jobs.get_mut(&report.attempt.job) {
                job.on_report(connection, report, effects);
            }
        }
        let message = ToTaskManager::HeartbeatAck {
            leader_epoch: self.config.leader_epoch,
        };
        effects.commands.push(Command::Send {
            connection,
            message,
        });
    }

    fn on_status(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        change: SubtaskStatusChange,
        effects: &mut Effects,
    ) {
        if let Some(member) = self.cluster.get_mut(connection) {
            member.process_cpu_ns = Some(change.process_cpu_ns);
        }
        match self.jobs.get_mut(&change.attempt.job) {
            Some(job) => job.on_status_changed(now, connection, change, effects),
            None => effects.log(format!(
                "ignored {:?} of unknown attempt {}",
                change.status, change.attempt
            )),
        }
    }

    /// A TaskManager is gone, with its slots and all that ran in them.
    pub(super) fn lose(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        reason: &str,
        effects: &mut Effects,
    ) {
        let Some(member) = self.cluster.remove(now, connection) else {
            return;
        };
        effects.log(format!(
            "TaskManager {} lost: {reason}",
            member.address.describe()
        ));
        for job in self.jobs.values_mut() {
            job.on_task_manager_lost(now, connection, &member.address, reason, effects);
        }
    }
}

fn whole_ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
