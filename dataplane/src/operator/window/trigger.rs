//! When a window fires.
//!
//! Owns: [`Trigger`], [`TriggerResult`], [`TriggerContext`], [`MergeContext`]; Flink's triggers are in files of their own below.
//! Invariant: a trigger is asked with each record of a window and with each timer it set; what it keeps, it keeps per key and
//! window, and takes out in `clear`, with its timers.
//! Left out: when a window's state goes ([`super::operator`]).
//!
//! Source: Flink `Trigger` and its subclasses.

use crate::error::Result;
use crate::operator::window::TimeWindow;
use crate::record::{EventTime, Record, Row};
use crate::state::backend::{At, KeyedStateBackend};
use crate::state::handles::{KeyedAccess, ValueState};
use crate::state::timers::TimerService;
use crate::state::value::PlainValue;

mod continuous;
mod count;
mod kept;
mod purging;
mod time;

pub use continuous::{ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger};
pub use count::{CountTrigger, DeltaTrigger};
pub use purging::PurgingTrigger;
pub use time::{EventTimeTrigger, NeverTrigger, ProcessingTimeTrigger};

/// What becomes of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TriggerResult {
    /// Nothing.
    Continue,
    /// It gives out its result, and keeps what it holds.
    Fire,
    /// What it holds goes, without a result.
    Purge,
    /// It gives out its result, and what it holds goes.
    FireAndPurge,
}

impl TriggerResult {
    /// There is a result.
    #[must_use]
    pub const fn is_fire(self) -> bool {
        matches!(self, Self::Fire | Self::FireAndPurge)
    }

    /// What the window holds goes.
    #[must_use]
    pub const fn is_purge(self) -> bool {
        matches!(self, Self::Purge | Self::FireAndPurge)
    }

    const fn fire_if(condition: bool) -> Self {
        if condition {
            Self::Fire
        } else {
            Self::Continue
        }
    }
}

/// The windows of one key, as a trigger sees them: one of them, its timers and state, and what time it is.
#[derive(Debug)]
pub struct TriggerContext<'a> {
    pub(crate) backend: &'a mut KeyedStateBackend,
    pub(crate) timers: &'a mut TimerService,
    /// The key; its namespace is empty.
    pub(crate) at: At<'a>,
    pub(crate) window: TimeWindow,
    pub(crate) watermark: Option<EventTime>,
    pub(crate) now_ms: i64,
}

/// The bytes that stand for a window in state and timers.
pub(crate) fn namespace(window: TimeWindow) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (start, end) = bytes.split_at_mut(8);
    start.copy_from_slice(&window.start().to_le_bytes());
    end.copy_from_slice(&window.end().to_le_bytes());
    bytes
}

/// The window that [`namespace`] wrote.
pub(crate) fn window_of(mut namespace: &[u8]) -> Result<TimeWindow> {
    Ok(TimeWindow::decode(&mut namespace)?)
}

impl TriggerContext<'_> {
    /// The window.
    #[must_use]
    pub fn window(&self) -> TimeWindow {
        self.window
    }

    /// The watermark, once there is one.
    #[must_use]
    pub fn current_watermark(&self) -> Option<EventTime> {
        self.watermark
    }

    /// Processing time, in milliseconds since the epoch.
    #[must_use]
    pub fn current_processing_time(&self) -> i64 {
        self.now_ms
    }

    /// Has [`Trigger::on_event_time`] called for this window when the watermark reaches `time`.
    ///
    /// # Errors
    /// The key is longer than state takes.
    pub fn register_event_time_timer(&mut self, time: EventTime) -> Result<()> {
        let namespace = namespace(self.window);
        let at = At {
            namespace: &namespace,
            ..self.at
        };
        self.timers.register_event_time_timer(at, time.0)
    }

    /// Has [`Trigger::on_processing_time`] called for this window when the clock reaches `time_ms`, in milliseconds since the
    /// epoch.
    ///
    /// # Errors
    /// The key is longer than state takes.
    pub fn register_processing_time_timer(&mut self, time_ms: i64) -> Result<()> {
        let namespace = namespace(self.window);
        let at = At {
            namespace: &namespace,
            ..self.at
        };
        self.timers.register_processing_time_timer(at, time_ms)
    }

    /// Takes a timer of this window back.
    ///
    /// # Errors
    /// The key is another subtask's.
    pub fn delete_event_time_timer(&mut self, time: EventTime) -> Result<()> {
        let namespace = namespace(self.window);
        let at = At {
            namespace: &namespace,
            ..self.at
        };
        self.timers.delete_event_time_timer(at, time.0)
    }

    /// Takes a timer of this window back.
    ///
    /// # Errors
    /// The key is another subtask's.
    pub fn delete_processing_time_timer(&mut self, time_ms: i64) -> Result<()> {
        let namespace = namespace(self.window);
        let at = At {
            namespace: &namespace,
            ..self.at
        };
        self.timers.delete_processing_time_timer(at, time_ms)
    }

    /// Calls `use_state` with access to the trigger's state of this key and window.
    ///
    /// # Errors
    /// What `use_state` returns.
    pub fn with_state<T>(
        &mut self,
        use_state: impl FnOnce(&mut KeyedAccess<'_>) -> Result<T>,
    ) -> Result<T> {
        self.with_state_of(self.window, use_state)
    }

    fn with_state_of<T>(
        &mut self,
        window: TimeWindow,
        use_state: impl FnOnce(&mut KeyedAccess<'_>) -> Result<T>,
    ) -> Result<T> {
        let namespace = namespace(window);
        let at = At {
            namespace: &namespace,
            ..self.at
        };
        use_state(&mut KeyedAccess::new(self.backend, at, self.now_ms))
    }
}

/// What a trigger sees when windows become one: the new one's timers and state, and the state of those that it is made of.
#[derive(Debug)]
pub struct MergeContext<'a, 'b> {
    pub(crate) context: &'a mut TriggerContext<'b>,
    pub(crate) merged: &'a [TimeWindow],
}

impl<'b> MergeContext<'_, 'b> {
    /// The windows that become one.
    #[must_use]
    pub fn merged_windows(&self) -> &[TimeWindow] {
        self.merged
    }

    /// The window they become.
    pub fn context(&mut self) -> &mut TriggerContext<'b> {
        self.context
    }

    /// Takes the values of the merged windows out, and puts what `join` makes of them into the new window's.
    ///
    /// # Errors
    /// Those of state.
    pub fn merge_state<T: PlainValue>(
        &mut self,
        state: ValueState<T>,
        join: impl Fn(T, T) -> T,
    ) -> Result<Option<T>> {
        let mut joined = None;
        for window in self.merged {
            let value = self.context.with_state_of(*window, |access| {
                let value = state.value(access)?;
                state.clear(access)?;
                Ok(value)
            })?;
            joined = match (joined, value) {
                (Some(left), Some(right)) => Some(join(left, right)),
                (left, right) => left.or(right),
            };
        }
        let Some(joined) = joined else {
            return Ok(None);
        };
        self.context.with_state(|access| {
            state.update(access, &joined)?;
            Ok(Some(joined))
        })
    }
}

/// Decides when windows fire. One instance serves all keys of a subtask; what it knows of a window is in state.
///
/// ```
/// use ringflow_dataplane::error::Result;
/// use ringflow_dataplane::operator::window::TimeWindow;
/// use ringflow_dataplane::operator::window::trigger::{Trigger, TriggerContext, TriggerResult};
/// use ringflow_dataplane::record::{EventTime, Record, Row};
///
/// /// Fires when a record of the window's last second has come, and at its end.
/// #[derive(Clone)]
/// struct LastSecond;
///
/// impl<R: Record> Trigger<R> for LastSecond {
///     fn on_element(&mut self, row: Row<'_, R>, window: TimeWindow, context: &mut TriggerContext<'_>) -> Result<TriggerResult> {
///         context.register_event_time_timer(window.max_timestamp())?;
///         let is_last = row.timestamp().0 >= window.end() - 1_000;
///         Ok(if is_last { TriggerResult::Fire } else { TriggerResult::Continue })
///     }
///     fn on_event_time(&mut self, _: EventTime, _: TimeWindow, _: &mut TriggerContext<'_>) -> Result<TriggerResult> {
///         Ok(TriggerResult::Fire)
///     }
///     fn clear(&mut self, window: TimeWindow, context: &mut TriggerContext<'_>) -> Result<()> {
///         context.delete_event_time_timer(window.max_timestamp())
///     }
/// }
/// ```
pub trait Trigger<R: Record>: Send + 'static {
    /// First call: make the handles of the trigger's state here.
    ///
    /// # Errors
    /// A name is taken.
    fn open(&mut self, state: &mut KeyedStateBackend) -> Result<()> {
        let _ = state;
        Ok(())
    }

    /// A record was put into the window.
    ///
    /// # Errors
    /// The subtask fails.
    fn on_element(
        &mut self,
        row: Row<'_, R>,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult>;

    /// An event-time timer of the window is due: one of the trigger's, or the one at which the window's state goes.
    ///
    /// # Errors
    /// The subtask fails.
    fn on_event_time(
        &mut self,
        time: EventTime,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        let _ = (time, window, context);
        Ok(TriggerResult::Continue)
    }

    /// A processing-time timer of the window is due.
    ///
    /// # Errors
    /// The subtask fails.
    fn on_processing_time(
        &mut self,
        time_ms: i64,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        let _ = (time_ms, window, context);
        Ok(TriggerResult::Continue)
    }

    /// It can be used where windows merge.
    fn can_merge(&self) -> bool {
        false
    }

    /// Windows become `window`: set its timers and join the state of the others. They are cleared after this.
    ///
    /// # Errors
    /// The subtask fails.
    fn on_merge(&mut self, window: TimeWindow, context: &mut MergeContext<'_, '_>) -> Result<()> {
        let _ = (window, context);
        Ok(())
    }

    /// The window goes: take out timers and state.
    ///
    /// # Errors
    /// The subtask fails.
    fn clear(&mut self, window: TimeWindow, context: &mut TriggerContext<'_>) -> Result<()>;
}

impl<R: Record> Trigger<R> for Box<dyn Trigger<R>> {
    fn open(&mut self, state: &mut KeyedStateBackend) -> Result<()> {
        (**self).open(state)
    }
    fn on_element(
        &mut self,
        row: Row<'_, R>,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        (**self).on_element(row, window, context)
    }
    fn on_event_time(
        &mut self,
        time: EventTime,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        (**self).on_event_time(time, window, context)
    }
    fn on_processing_time(
        &mut self,
        time_ms: i64,
        window: TimeWindow,
        context: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult> {
        (**self).on_processing_time(time_ms, window, context)
    }
    fn can_merge(&self) -> bool {
        (**self).can_merge()
    }
    fn on_merge(&mut self, window: TimeWindow, context: &mut MergeContext<'_, '_>) -> Result<()> {
        (**self).on_merge(window, context)
    }
    fn clear(&mut self, window: TimeWindow, context: &mut TriggerContext<'_>) -> Result<()> {
        (**self).clear(window, context)
    }
}
