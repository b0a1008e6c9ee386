//! A trigger around another one.
//!
//! Owns: [`PurgingTrigger`]. Invariant: it fires exactly when the other does. Left out: when that is.

use crate::error::Result;
use crate::operator::window::TimeWindow;
use crate::record::{EventTime, Record, Row};
use crate::state::backend::KeyedStateBackend;

use super::{MergeContext, Trigger, TriggerContext, TriggerResult};

/// Fires as another trigger does, and has the window forget what it held.
#[derive(Debug, Clone, Copy)]
pub struct PurgingTrigger<T>(T);

impl<T> PurgingTrigger<T> {
    /// `trigger`, purging.
    #[must_use]
    pub const fn of(trigger: T) -> Self {
        Self(trigger)
    }
}

const fn purging(result: TriggerResult) -> TriggerResult {
    if result.is_fire() {
        TriggerResult::FireAndPurge
    } else {
        result
    }
}

impl<R: Record, T: Trigger<R>> Trigger<R> for PurgingTrigger<T> {
    fn open(&mut self, state: &mut KeyedStateBackend) -> Result<()> {
        self.0.open(state)
    }

    fn on_element(
        &mut self,
        row: Row<'_, R>,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        self.0.on_element(row, window, context).map(purging)
    }

    fn on_event_time(
        &mut self,
        time: EventTime,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        self.0.on_event_time(time, window, context).map(purging)
    }

    fn on_processing_time(
        &mut self,
        time_ms: i64,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        self.0
            .on_processing_time(time_ms, window, context)
            .map(purging)
    }

    fn can_merge(&self) -> bool {
        self.0.can_merge()
    }

    fn on_merge(&mut self, window: TimeWindow, context: &mut MergeContext<'_, '_>) -> Result<()> {
        self.0.on_merge(window, context)
    }

    fn clear(&mut self, window: TimeWindow, context: &mut TriggerContext<'_>) -> Result<()> {
        self.0.clear(window, context)
    }
}
