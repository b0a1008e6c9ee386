//! Triggers that fire again and again before a window's end.
//!
//! Owns: [`ContinuousEventTimeTrigger`], [`ContinuousProcessingTimeTrigger`], and the firing time that both keep
//! ([`NextFire`]). Invariant: the next firing is a multiple of the interval; one timer for it per key and window. Left
//! out: purging ([`super::purging`]).

use std::time::Duration;

use crate::error::Result;
use crate::operator::window::TimeWindow;
use crate::record::{EventTime, Record, Row};
use crate::state::backend::KeyedStateBackend;
use crate::state::timers::TimeDomain;

use super::kept::Kept;
use super::{MergeContext, Trigger, TriggerContext, TriggerResult};

/// The next multiple of `interval` behind `time`, but no later than the end of the window where that is still to come.
fn next_fire(time: i64, interval: i64, end: i64) -> i64 {
    let next = (time - time.rem_euclid(interval)).saturating_add(interval);
    if time < end { next.min(end) } else { next }
}

/// When a window fires next, which its state holds, with the timer for it.
#[derive(Debug, Clone, Copy)]
struct NextFire {
    domain: TimeDomain,
    interval_ms: i64,
    /// In milliseconds.
    time: Kept<i64>,
}

impl NextFire {
    /// At multiples of `interval`, of 1 ms at least.
    fn every(interval: Duration, domain: TimeDomain) -> Self {
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        Self {
            domain,
            interval_ms: interval_ms.max(1),
            time: Kept::new("ringflow.trigger.fire-time"),
        }
    }

    fn open(&mut self, state: &mut KeyedStateBackend) -> Result<()> {
        self.time.open(state)
    }

    /// A record of time `time` came: if the window has no next firing, it gets one.
    fn on_element(
        &self,
        time: i64,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<()> {
        if self.time.get(context)?.is_none() {
            self.put_behind(time, window, context)?;
        }
        Ok(())
    }

    /// A timer of the window is due at `time`: if it is this one, the window fires, and again an interval later.
    fn on_timer(
        &self,
        time: i64,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        let fires = self.time.get(context)? == Some(time);
        if fires {
            self.put_behind(time, window, context)?;
        }
        Ok(TriggerResult::fire_if(fires))
    }

    /// Of windows that become one, the earliest firing counts.
    fn on_merge(&self, context: &mut MergeContext<'_, '_>) -> Result<()> {
        match context.merge_state(self.time.handle(), i64::min)? {
            Some(next) => self.register(next, context.context()),
            None => Ok(()),
        }
    }

    fn clear(&self, context: &mut TriggerContext<'_>) -> Result<()> {
        let Some(next) = self.time.get(context)? else {
            return Ok(());
        };
        match self.domain {
            TimeDomain::EventTime => context.delete_event_time_timer(EventTime(next))?,
            TimeDomain::ProcessingTime => context.delete_processing_time_timer(next)?,
        }
        self.time.clear(context)
    }

    /// The firing after `time`.
    fn put_behind(
        &self,
        time: i64,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<()> {
        let next = next_fire(time, self.interval_ms, window.max_timestamp().0);
        self.time.put(context, &next)?;
        self.register(next, context)
    }

    fn register(&self, next: i64, context: &mut TriggerContext<'_>) -> Result<()> {
        match self.domain {
            TimeDomain::EventTime => context.register_event_time_timer(EventTime(next)),
            TimeDomain::ProcessingTime => context.register_processing_time_timer(next),
        }
    }
}

/// Fires whenever the watermark has moved on by an interval, and at the window's end.
#[derive(Debug, Clone, Copy)]
pub struct ContinuousEventTimeTrigger {
    next: NextFire,
}

impl ContinuousEventTimeTrigger {
    /// Fires at each multiple of `interval`, of 1 ms at least.
    #[must_use]
    pub fn of(interval: Duration) -> Self {
        Self {
            next: NextFire::every(interval, TimeDomain::EventTime),
        }
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
        self.next.on_element(row.timestamp().0, window, context)?;
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
        self.next.on_timer(time.0, window, context)
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&mut self, _window: TimeWindow, context: &mut MergeContext<'_, '_>) -> Result<()> {
        self.next.on_merge(context)
    }

    fn clear(&mut self, window: TimeWindow, context: &mut TriggerContext<'_>) -> Result<()> {
        context.delete_event_time_timer(window.max_timestamp())?;
        self.next.clear(context)
    }
}

/// Fires whenever the clock has moved on by an interval.
#[derive(Debug, Clone, Copy)]
pub struct ContinuousProcessingTimeTrigger {
    next: NextFire,
}

impl ContinuousProcessingTimeTrigger {
    /// Fires at each multiple of `interval`, of 1 ms at least.
    #[must_use]
    pub fn of(interval: Duration) -> Self {
        Self {
            next: NextFire::every(interval, TimeDomain::ProcessingTime),
        }
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
        self.next.on_element(context.now_ms, window, context)?;
        Ok(TriggerResult::Continue)
    }

    fn on_processing_time(
        &mut self,
        time_ms: i64,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        self.next.on_timer(time_ms, window, context)
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&mut self, _window: TimeWindow, context: &mut MergeContext<'_, '_>) -> Result<()> {
        self.next.on_merge(context)
    }

    fn clear(&mut self, _window: TimeWindow, context: &mut TriggerContext<'_>) -> Result<()> {
        self.next.clear(context)
    }
}
