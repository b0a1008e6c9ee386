//! Triggers of a window's end.
//!
//! Owns: [`EventTimeTrigger`], [`ProcessingTimeTrigger`], and [`NeverTrigger`], which waits for no end. Invariant: one timer per key
//! and window. Left out: firing before the end ([`super::continuous`]).

use super::{MergeContext, Trigger, TriggerContext, TriggerResult};
use crate::error::Result;
use crate::operator::window::TimeWindow;
use crate::record::{EventTime, Record, Row};

/// Fires when the watermark reaches the window's end, and with each late record that is still allowed.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventTimeTrigger;

impl EventTimeTrigger {
    /// The trigger.
    #[must_use]
    pub const fn create() -> Self {
        Self
    }
}

impl<R: Record> Trigger<R> for EventTimeTrigger {
    fn on_element(
        &mut self,
        _row: Row<'_, R>,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        if context.watermark >= Some(window.max_timestamp()) {
            return Ok(TriggerResult::Fire);
        }
        context.register_event_time_timer(window.max_timestamp())?;
        Ok(TriggerResult::Continue)
    }

    fn on_event_time(
        &mut self,
        time: EventTime,
        window: TimeWindow,
        _context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        Ok(TriggerResult::fire_if(time == window.max_timestamp()))
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&mut self, window: TimeWindow, context: &mut MergeContext<'_, '_>) -> Result<()> {
        let context = context.context();
        if context.watermark >= Some(window.max_timestamp()) {
            return Ok(());
        }
        context.register_event_time_timer(window.max_timestamp())
    }

    fn clear(&mut self, window: TimeWindow, context: &mut TriggerContext<'_>) -> Result<()> {
        context.delete_event_time_timer(window.max_timestamp())
    }
}

/// Fires when the clock reaches the window's end.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessingTimeTrigger;

impl ProcessingTimeTrigger {
    /// The trigger.
    #[must_use]
    pub const fn create() -> Self {
        Self
    }
}

impl<R: Record> Trigger<R> for ProcessingTimeTrigger {
    fn on_element(
        &mut self,
        _row: Row<'_, R>,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        context.register_processing_time_timer(window.max_timestamp().0)?;
        Ok(TriggerResult::Continue)
    }

    fn on_processing_time(
        &mut self,
        _time_ms: i64,
        _window: TimeWindow,
        _context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        Ok(TriggerResult::Fire)
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&mut self, window: TimeWindow, context: &mut MergeContext<'_, '_>) -> Result<()> {
        let context = context.context();
        if context.now_ms >= window.max_timestamp().0 {
            return Ok(());
        }
        context.register_processing_time_timer(window.max_timestamp().0)
    }

    fn clear(&mut self, window: TimeWindow, context: &mut TriggerContext<'_>) -> Result<()> {
        context.delete_processing_time_timer(window.max_timestamp().0)
    }
}

/// Never fires: the trigger of global windows, which are given another one.
#[derive(Debug, Clone, Copy, Default)]
pub struct NeverTrigger;

impl<R: Record> Trigger<R> for NeverTrigger {
    fn on_element(
        &mut self,
        _row: Row<'_, R>,
        _window: TimeWindow,
        _context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        Ok(TriggerResult::Continue)
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn clear(&mut self, _window: TimeWindow, _context: &mut TriggerContext<'_>) -> Result<()> {
        Ok(())
    }
}
