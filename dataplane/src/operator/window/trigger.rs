//! When a window fires.
//!
//! Owns: [`Trigger`], [`TriggerResult`], [`TriggerContext`], [`MergeContext`] and Flink's triggers.
//! Invariant: a trigger is asked with each record of a window and with each timer it set; what it keeps, it keeps per key and
//! window, and takes out in `clear`, with its timers.
//! Left out: when a window's state goes ([`super::operator`]).
//!
//! Source: Flink `Trigger` and its subclasses.

use std::time::Duration;

use crate::error::Result;
use crate::operator::window::TimeWindow;
use crate::record::{EventTime, Record, Row};
use crate::state::backend::{At, KeyedStateBackend};
use crate::state::handles::{KeyedAccess, ValueState, ValueStateDescriptor};
use crate::state::timers::TimerService;
use crate::state::value::{PlainValue, RecordOf, Stored};

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

/// A value per key and window that a trigger keeps.
#[derive(Debug)]
struct Kept<T> {
    name: &'static str,
    state: Option<ValueState<T>>,
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Kept<T> {}

impl<T> Kept<T> {
    const fn new(name: &'static str) -> Self {
        Self { name, state: None }
    }

    fn handle(self) -> ValueState<T> {
        self.state
            .expect("`open` is the first call and makes the handle")
    }
}

impl<T: PlainValue> Kept<T> {
    fn open(&mut self, state: &mut KeyedStateBackend) -> Result<()> {
        self.state = Some(ValueStateDescriptor::new(self.name).register(state)?);
        Ok(())
    }

    fn get(self, context: &mut TriggerContext<'_>) -> Result<Option<T>> {
        context.with_state(|access| self.handle().value(access))
    }

    fn put(self, context: &mut TriggerContext<'_>, value: &T) -> Result<()> {
        context.with_state(|access| self.handle().update(access, value))
    }

    fn clear(self, context: &mut TriggerContext<'_>) -> Result<()> {
        context.with_state(|access| self.handle().clear(access))
    }
}

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
