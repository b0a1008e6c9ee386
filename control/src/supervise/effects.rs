//! What a job leaves for others to do.

use std::collections::BTreeMap;

use ringflow_schemas::id::{ExecutionAttemptId, JobId};

use crate::cluster::SlotId;
use crate::command::Command;
use crate::event::ConnectionId;
use crate::supervise::StopMode;

/// What a job wants done by others.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) commands: Vec<Command>,
    /// Attempts to cancel, by TaskManager.
    pub(crate) cancel: BTreeMap<ConnectionId, Vec<ExecutionAttemptId>>,
    /// Sources to stop, by TaskManager and mode.
    pub(crate) stop: BTreeMap<(ConnectionId, StopMode), Vec<ExecutionAttemptId>>,
    /// One entry per subtask that has left its slot.
    pub(crate) freed: Vec<(JobId, SlotId)>,
    /// Jobs that became terminal.
    pub(crate) ended: Vec<JobId>,
}

impl Effects {
    pub(crate) fn log(&mut self, message: impl Into<String>) {
        self.commands.push(Command::Log {
            message: message.into(),
        });
    }
}
