//! Triggers that look at records.
//!
//! Owns: [`CountTrigger`], [`DeltaTrigger`]. Invariant: what they compare with is what they kept when they fired last. Left
//! out: time.

use crate::error::Result;
use crate::operator::window::TimeWindow;
use crate::record::{Record, Row};
use crate::state::backend::KeyedStateBackend;
use crate::state::handles::{ValueState, ValueStateDescriptor};
use crate::state::value::{RecordOf, Stored};

use super::kept::Kept;
use super::{MergeContext, Trigger, TriggerContext, TriggerResult};

/// Fires when so many records have come since it last fired.
#[derive(Debug, Clone, Copy)]
pub struct CountTrigger {
    max_count: u64,
    count: Kept<u64>,
}

impl CountTrigger {
    /// Fires with each `max_count`th record; 0 counts as 1.
    #[must_use]
    pub const fn of(max_count: u64) -> Self {
        Self {
            max_count,
            count: Kept::new("ringflow.trigger.count"),
        }
    }
}

impl<R: Record> Trigger<R> for CountTrigger {
    fn open(&mut self, state: &mut KeyedStateBackend) -> Result<()> {
        self.count.open(state)
    }

    fn on_element(
        &mut self,
        _row: Row<'_, R>,
        _window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        let (mut fires, max_count) = (false, self.max_count);
        context.with_state(|access| {
            self.count.handle().modify(access, |count| {
                let count = count.unwrap_or(0) + 1;
                fires = count >= max_count;
                (!fires).then_some(count)
            })
        })?;
        Ok(TriggerResult::fire_if(fires))
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&mut self, _window: TimeWindow, context: &mut MergeContext<'_, '_>) -> Result<()> {
        context.merge_state(self.count.handle(), |left, right| left + right)?;
        Ok(())
    }

    fn clear(&mut self, _window: TimeWindow, context: &mut TriggerContext<'_>) -> Result<()> {
        self.count.clear(context)
    }
}

/// Fires when a record differs from the one it last fired with by more than a threshold.
#[allow(missing_debug_implementations, reason = "holds a closure")]
pub struct DeltaTrigger<R, F> {
    threshold: f64,
    delta: F,
    last: Option<ValueState<Stored<R>>>,
}

impl<R, F: Clone> Clone for DeltaTrigger<R, F> {
    fn clone(&self) -> Self {
        Self {
            threshold: self.threshold,
            delta: self.delta.clone(),
            last: self.last,
        }
    }
}

impl<R, F> DeltaTrigger<R, F>
where
    R: Record,
    F: for<'a, 'b> Fn(Row<'a, R>, Row<'b, R>) -> f64,
{
    /// `delta` says how far a record is from the last one.
    #[must_use]
    pub const fn of(threshold: f64, delta: F) -> Self {
        Self {
            threshold,
            delta,
            last: None,
        }
    }

    fn last(&self) -> ValueState<Stored<R>> {
        self.last
            .expect("`open` is the first call and makes the handle")
    }
}

impl<R, F> Trigger<R> for DeltaTrigger<R, F>
where
    R: Record,
    F: for<'a, 'b> Fn(Row<'a, R>, Row<'b, R>) -> f64 + Send + 'static,
{
    fn open(&mut self, state: &mut KeyedStateBackend) -> Result<()> {
        let descriptor = ValueStateDescriptor::new("ringflow.trigger.last-element");
        self.last = Some(descriptor.register(state)?);
        Ok(())
    }

    fn on_element(
        &mut self,
        row: Row<'_, R>,
        _window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        let (state, delta, threshold) = (self.last(), &self.delta, self.threshold);
        context.with_state(|access| {
            let last = state.value(access)?;
            let fires = last.map(|last| delta(last, row) > threshold);
            if fires != Some(false) {
                state.update(access, &RecordOf::from(row))?;
            }
            Ok(TriggerResult::fire_if(fires == Some(true)))
        })
    }

    fn clear(&mut self, _window: TimeWindow, context: &mut TriggerContext<'_>) -> Result<()> {
        let state = self.last();
        context.with_state(|access| state.clear(access))
    }
}
