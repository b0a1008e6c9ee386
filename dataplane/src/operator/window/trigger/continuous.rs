//! Triggers that fire again and again before a window's end.
//!
//! Owns: [`ContinuousEventTimeTrigger`], [`ContinuousProcessingTimeTrigger`]. Invariant: the next firing is a multiple of the
//! interval; one timer for it per key and window. Left out: purging ([`super::purging`]).

use std::time::Duration;

use crate::error::Result;
use crate::operator::window::TimeWindow;
use crate::record::{EventTime, Record, Row};
use crate::state::backend::KeyedStateBackend;

use super::kept::Kept;
use super::{MergeContext, Trigger, TriggerContext, TriggerResult};

fn interval_ms(interval: Duration) -> i64 {
    i64::try_from(interval.as_millis())
        .unwrap_or(i64::MAX)
        .max(1)
}

/// The next multiple of `interval` behind `time`, but no later than the end of the window where that is still to come.
fn next_fire(time: i64, interval: i64, end: i64) -> i64 {
    let next = (time - time.rem_euclid(interval)).saturating_add(interval);
    if time < end { next.min(end) } else { next }
}

/// Fires whenever the watermark has moved on by an interval, and at the window's end.
#[derive(Debug, Clone, Copy)]
pub struct ContinuousEventTimeTrigger {
    interval_ms: i64,
    next: Kept<i64>,
}

impl ContinuousEventTimeTrigger {
    /// Fires at each multiple of `interval`, of 1 ms at least.
    #[must_use]
    pub fn of(interval: Duration) -> Self {
        Self {
            interval_ms: interval_ms(interval),
            next: Kept::new("ringflow.trigger.fire-time"),
        }
    }

    fn register_next(
        &self,
        time: i64,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<()> {
        let next = next_fire(time, self.interval_ms, window.max_timestamp().0);
        self.next.put(context, &next)?;
        context.register_event_time_timer(EventTime(next))
    }
}

impl<R: Record> Trigger<R> for ContinuousEventTimeTrigger {
    fn open(&mut self, state: &mut KeyedStateBackend) -> Result<()> {
        self.next.open(state)
    }

    fn on_element(
        &mut self,
        row: Row<'_, R>,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        if context.watermark >= Some(window.max_timestamp()) {
            return Ok(TriggerResult::Fire);
        }
        context.register_event_time_timer(window.max_timestamp())?;
        if self.next.get(context)?.is_none() {
            self.register_next(row.timestamp().0, window, context)?;
        }
        Ok(TriggerResult::Continue)
    }

    fn on_event_time(
        &mut self,
        time: EventTime,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        if time == window.max_timestamp() {
            return Ok(TriggerResult::Fire);
        }
        let fires = self.next.get(context)? == Some(time.0);
        if fires {
            self.register_next(time.0, window, context)?;
        }
        Ok(TriggerResult::fire_if(fires))
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&mut self, _window: TimeWindow, context: &mut MergeContext<'_, '_>) -> Result<()> {
        if let Some(next) = context.merge_state(self.next.handle(), i64::min)? {
            context
                .context()
                .register_event_time_timer(EventTime(next))?;
        }
        Ok(())
    }

    fn clear(&mut self, window: TimeWindow, context: &mut TriggerContext<'_>) -> Result<()> {
        context.delete_event_time_timer(window.max_timestamp())?;
        if let Some(next) = self.next.get(context)? {
            context.delete_event_time_timer(EventTime(next))?;
            self.next.clear(context)?;
        }
        Ok(())
    }
}

/// Fires whenever the clock has moved on by an interval.
#[derive(Debug, Clone, Copy)]
pub struct ContinuousProcessingTimeTrigger {
    interval_ms: i64,
    next: Kept<i64>,
}

impl ContinuousProcessingTimeTrigger {
    /// Fires at each multiple of `interval`, of 1 ms at least.
    #[must_use]
    pub fn of(interval: Duration) -> Self {
        Self {
            interval_ms: interval_ms(interval),
            next: Kept::new("ringflow.trigger.fire-time"),
        }
    }

    fn register_next(
        &self,
        time: i64,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<()> {
        let next = next_fire(time, self.interval_ms, window.max_timestamp().0);
        self.next.put(context, &next)?;
        context.register_processing_time_timer(next)
    }
}

impl<R: Record> Trigger<R> for ContinuousProcessingTimeTrigger {
    fn open(&mut self, state: &mut KeyedStateBackend) -> Result<()> {
        self.next.open(state)
    }

    fn on_element(
        &mut self,
        _row: Row<'_, R>,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        if self.next.get(context)?.is_none() {
            self.register_next(context.now_ms, window, context)?;
        }
        Ok(TriggerResult::Continue)
    }

    fn on_processing_time(
        &mut self,
        time_ms: i64,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        let fires = self.next.get(context)? == Some(time_ms);
        if fires {
            self.register_next(time_ms, window, context)?;
        }
        Ok(TriggerResult::fire_if(fires))
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&mut self, _window: TimeWindow, context: &mut MergeContext<'_, '_>) -> Result<()> {
        if let Some(next) = context.merge_state(self.next.handle(), i64::min)? {
            context.context().register_processing_time_timer(next)?;
        }
        Ok(())
    }

    fn clear(&mut self, _window: TimeWindow, context: &mut TriggerContext<'_>) -> Result<()> {
        if let Some(next) = self.next.get(context)? {
            context.delete_processing_time_timer(next)?;
            self.next.clear(context)?;
        }
        Ok(())
    }
}
