//! Windows with all that Flink's have: any assigner, trigger, evictor, lateness and function.
//!
//! ```text
//!  record -> assigner -> windows -> [merge] -> contents -> trigger --Fire--> function -> records
//!  timer  ------------------------------------------------> trigger --Fire--> function -> records
//!  timer of the window's end and lateness ----------------> contents, trigger and function clear
//! ```
//! Owns: [`WindowOperator`]. Invariant: a window is late when the watermark has reached its last millisecond and the allowed
//! lateness; a record is dropped, or goes to the side output, when all of its windows are late and so is itself. Each window
//! that is not global has one timer at which everything of it goes.
//! Left out: panes: a record is put into each of its windows ([`super::pane_operator`] shares work between them).
//!
//! Source: Flink `WindowOperator`, `EvictingWindowOperator`. Unlike Flink's, windows of processing time fire at the end of a
//! bounded input (`docs/ARCHITECTURE.md`, decisions).

use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::element::StopMode;
use crate::error::Result;
use crate::limits::FIRE_BITE;
use crate::metrics::{SubtaskMetrics, add};
use crate::operator::chain::{Output, SideOutputId};
use crate::operator::stateless::{Collector, Scratch};
use crate::operator::window::assigner::WindowAssigner;
use crate::operator::window::contents::Contents;
use crate::operator::window::evictor::EvictorContext;
use crate::operator::window::function::{ProcessWindowFunction, WindowContext};
use crate::operator::window::merging::{Added, MergingWindows};
use crate::operator::window::trigger::{
    MergeContext, Trigger, TriggerContext, TriggerResult, namespace, window_of,
};
use crate::operator::window::{TimeWindow, without_timestamp};
use crate::operator::{Operator, Progress};
use crate::record::{EventTime, Record, RecordRef, Row};
use crate::runtime::clock::Clock;
use crate::runtime::context::OpenContext;
use crate::runtime::on_core::OnCore;
use crate::state::backend::{At, KeyedStateBackend};
use crate::state::handles::KeyedAccess;
use crate::state::timers::{DueTimer, TimeDomain, TimerService};
use crate::state::value::{PlainValue, decode_whole};

/// How windows behave, beside what they hold.
#[allow(missing_debug_implementations, reason = "holds user code")]
pub struct Windowing<R> {
    /// Which windows records are in.
    pub assigner: Arc<dyn WindowAssigner<R>>,
    /// When they fire; the assigner's own if none is given.
    pub trigger: Option<Box<dyn Trigger<R>>>,
    /// How long windows of event time wait for late records after they fired.
    pub allowed_lateness: Duration,
    /// Where records go that are too late; they are counted if nowhere.
    pub late_output: Option<SideOutputId>,
}

/// State, timers and time of one subtask.
///
/// Not [`crate::operator::keyed::Keyed`], which encodes the key at each access, and reads the clock where state expires:
/// a record here makes several accesses for each of its windows (contents, trigger, function), which share the bytes of
/// its key and one time. Windows see that time too; at the end of the input it runs ahead of the clock.
struct StateAndTime {
    backend: KeyedStateBackend,
    timers: TimerService,
    watermark: Option<EventTime>,
    /// Processing time, in milliseconds since the epoch; at the end of the input the latest that a timer waited for.
    now_ms: i64,
}

impl StateAndTime {
    fn trigger<'a>(&'a mut self, at: At<'a>, window: TimeWindow) -> TriggerContext<'a> {
        TriggerContext {
            backend: &mut self.backend,
            timers: &mut self.timers,
            at,
            window,
            watermark: self.watermark,
            now_ms: self.now_ms,
        }
    }

    fn access<'a>(&'a mut self, at: At<'a>, namespace: &'a [u8]) -> KeyedAccess<'a> {
        KeyedAccess::new(&mut self.backend, At { namespace, ..at }, self.now_ms)
    }

    fn window<'a>(
        &'a mut self,
        at: At<'a>,
        window: TimeWindow,
        merging: bool,
    ) -> WindowContext<'a> {
        WindowContext {
            backend: &mut self.backend,
            at,
            window,
            watermark: self.watermark,
            now_ms: self.now_ms,
            merging,
        }
    }
}

/// A window and where its contents are: the same but in sessions.
#[derive(Clone, Copy)]
struct Place {
    window: TimeWindow,
    state: TimeWindow,
}

/// All of the operator but what it reads records with.
struct Windows<R, K, C, W, O> {
    assigner: Arc<dyn WindowAssigner<R>>,
    trigger: Box<dyn Trigger<R>>,
    /// Windows fire once, when time reaches their end, and go: records need not be shown to the trigger.
    fires_once: bool,
    is_event_time: bool,
    lateness_ms: i64,
    contents: C,
    function: W,
    merging: Option<MergingWindows>,
    /// Empty until `open`.
    keyed: Option<StateAndTime>,
    scratch: Scratch,
    types: PhantomData<fn(K) -> O>,
}

/// Timers on their way out.
#[derive(Debug, Clone, Copy)]
struct Firing {
    domain: TimeDomain,
    until: i64,
    origin_ns: u64,
}

/// Windows of one keyed stream. `select` reads the key; `contents` says what is kept, `function` what comes of it.
///
/// Lives: on the subtask's core. Cost: per record and window an access to its contents and, unless windows fire once at their
/// end, one to the trigger's state and timers.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct WindowOperator<R, K, C, W, O, KF> {
    windows: Windows<R, K, C, W, O>,
    select: KF,
    late_output: Option<SideOutputId>,
    /// Windows or their trigger look at the clock.
    uses_clock: bool,
    assigned: Vec<TimeWindow>,
    key_bytes: Vec<u8>,
    due: DueTimer,
    firing: Option<Firing>,
    /// The timers that were set when the input ended.
    left: Option<TimerService>,
    on_core: OnCore<(Rc<Clock>, Rc<SubtaskMetrics>)>,
}

const OPENED: &str = "`open` is the first call and makes the state";

impl<R, K, C, W, O> Windows<R, K, C, W, O>
where
    R: Record,
    K: PlainValue,
    C: Contents<R>,
    W: ProcessWindowFunction<C::Input, K, O>,
    O: Record,
{
    fn keyed(&mut self) -> &mut StateAndTime {
        self.keyed.as_mut().expect(OPENED)
    }

    /// When everything of a window goes; never for windows that time does not end.
    fn cleanup_time(&self, window: TimeWindow) -> i64 {
        let end = window.max_timestamp().0;
        if self.is_event_time {
            end.saturating_add(self.lateness_ms)
        } else {
            end
        }
    }

    fn is_late(&self, window: TimeWindow) -> bool {
        let watermark = self.keyed.as_ref().and_then(|keyed| keyed.watermark);
        self.is_event_time && watermark >= Some(EventTime(self.cleanup_time(window)))
    }

    fn is_record_late(&self, time: EventTime) -> bool {
        let watermark = self.keyed.as_ref().and_then(|keyed| keyed.watermark);
        self.is_event_time && watermark >= Some(EventTime(time.0.saturating_add(self.lateness_ms)))
    }

    fn register_cleanup(&mut self, at: At<'_>, window: TimeWindow) -> Result<()> {
        let (time, is_event_time) = (self.cleanup_time(window), self.is_event_time);
        if time == i64::MAX {
            return Ok(());
        }
        let mut context = self.keyed().trigger(at, window);
        if is_event_time {
            context.register_event_time_timer(EventTime(time))
        } else {
            context.register_processing_time_timer(time)
        }
    }

    fn delete_cleanup(&mut self, at: At<'_>, window: TimeWindow) -> Result<()> {
        let (time, is_event_time) = (self.cleanup_time(window), self.is_event_time);
        let mut context = self.keyed().trigger(at, window);
        if is_event_time {
            context.delete_event_time_timer(EventTime(time))
        } else {
            context.delete_processing_time_timer(time)
        }
    }

    /// Puts a record into a window and does what the trigger says.
    #[inline]
    fn put(
        &mut self,
        at: At<'_>,
        key: &K,
        row: Row<'_, R>,
        place: Place,
        origin_ns: u64,
        output: &mut Output,
    ) -> Result<()> {
        let namespace = namespace(place.state);
        let keyed = self.keyed.as_mut().expect(OPENED);
        let first = self.contents.add(&mut keyed.access(at, &namespace), row)?;
        if self.fires_once {
            return if first {
                self.register_cleanup(at, place.window)
            } else {
                Ok(())
            };
        }
        let context = &mut keyed.trigger(at, place.window);
        let result = self.trigger.on_element(row, place.window, context)?;
        self.follow(result, at, key, place, origin_ns, output)?;
        self.register_cleanup(at, place.window)
    }

    /// Does what the trigger said.
    fn follow(
        &mut self,
        result: TriggerResult,
        at: At<'_>,
        key: &K,
        place: Place,
        origin_ns: u64,
        output: &mut Output,
    ) -> Result<()> {
        let namespace = namespace(place.state);
        let keyed = self.keyed.as_mut().expect(OPENED);
        if result.is_fire() {
            let context = EvictorContext {
                window: place.window,
                watermark: keyed.watermark,
                now_ms: keyed.now_ms,
            };
            let mut access = keyed.access(at, &namespace);
            if self.contents.load(&mut access, context)? {
                let time = place.window.max_timestamp();
                let mut out = Collector::new(output, &mut self.scratch, time, origin_ns);
                let merging = self.merging.is_some();
                let mut window = keyed.window(at, place.window, merging);
                let input = self.contents.loaded();
                self.function.process(key, &mut window, input, &mut out)?;
                out.finish()?;
                let mut access = keyed.access(at, &namespace);
                self.contents.fired(&mut access, context)?;
            }
        }
        if result.is_purge() {
            self.contents.clear(&mut keyed.access(at, &namespace))?;
        }
        Ok(())
    }

    /// A record of windows that merge; says whether one took it.
    fn put_merging(
        &mut self,
        at: At<'_>,
        key: &K,
        row: Row<'_, R>,
        windows: &[TimeWindow],
        origin_ns: u64,
        output: &mut Output,
    ) -> Result<bool> {
        let mut taken = false;
        self.load_merging(at)?;
        for window in windows {
            let alone = self
                .merging()
                .is_some_and(|held| !held.touches_any(*window));
            if alone && self.is_late(*window) {
                continue;
            }
            taken = true;
            let place = self.merge(at, *window)?;
            self.put(at, key, row, place, origin_ns, output)?;
        }
        self.store_merging(at)?;
        Ok(taken)
    }

    fn merging(&mut self) -> Option<&mut MergingWindows> {
        self.merging.as_mut()
    }

    fn load_merging(&mut self, at: At<'_>) -> Result<()> {
        let keyed = self.keyed.as_mut().expect(OPENED);
        match &mut self.merging {
            Some(held) => held.load(&mut keyed.access(at, &[])),
            None => Ok(()),
        }
    }

    fn store_merging(&mut self, at: At<'_>) -> Result<()> {
        let keyed = self.keyed.as_mut().expect(OPENED);
        match &mut self.merging {
            Some(held) => held.store(&mut keyed.access(at, &[])),
            None => Ok(()),
        }
    }

    /// Adds a window to those of its key; the window it has become part of.
    fn merge(&mut self, at: At<'_>, window: TimeWindow) -> Result<Place> {
        let added = self.merging().map_or(Added::Alone, |held| held.add(window));
        let (window, state) = match added {
            Added::Alone => (window, window),
            Added::Within { window, state } => (window, state),
            Added::Merged { window, state } => {
                self.on_merge(at, window, state)?;
                (window, state)
            }
        };
        Ok(Place { window, state })
    }

    /// Windows have become `window`, whose contents are under `state`.
    fn on_merge(&mut self, at: At<'_>, window: TimeWindow, state: TimeWindow) -> Result<()> {
        let merged = self.merging().map(|held| held.merged().to_vec());
        let merged = merged.unwrap_or_default();
        let windows: Vec<TimeWindow> = merged.iter().map(|(window, _)| *window).collect();
        if !self.fires_once {
            let keyed = self.keyed.as_mut().expect(OPENED);
            let mut context = MergeContext {
                context: &mut keyed.trigger(at, window),
                merged: &windows,
            };
            self.trigger.on_merge(window, &mut context)?;
            for gone in &windows {
                self.trigger.clear(*gone, &mut keyed.trigger(at, *gone))?;
            }
        }
        for gone in &windows {
            self.delete_cleanup(at, *gone)?;
        }
        let (keyed, target) = (self.keyed.as_mut().expect(OPENED), namespace(state));
        for (_, from) in merged.iter().filter(|(_, from)| *from != state) {
            let mut access = keyed.access(at, &target);
            self.contents.merge(&mut access, &namespace(*from))?;
        }
        if self.fires_once {
            self.register_cleanup(at, window)?;
        }
        Ok(())
    }

    /// A timer of a key's window is due.
    fn on_timer(
        &mut self,
        due: &DueTimer,
        domain: TimeDomain,
        origin_ns: u64,
        output: &mut Output,
    ) -> Result<()> {
        let (window, key) = (window_of(&due.namespace)?, decode_whole::<K>(&due.key)?);
        let at = At {
            namespace: &[],
            ..due.at()
        };
        self.load_merging(at)?;
        let state = match self.merging() {
            None => Some(window),
            Some(held) => held.state_of(window),
        };
        let Some(state) = state else {
            // A trigger did not take this timer back when its window became part of another.
            return Ok(());
        };
        let result = if self.fires_once {
            TriggerResult::Fire
        } else {
            let keyed = self.keyed.as_mut().expect(OPENED);
            let (trigger, context) = (&mut self.trigger, &mut keyed.trigger(at, window));
            match domain {
                TimeDomain::EventTime => {
                    trigger.on_event_time(EventTime(due.timestamp), window, context)?
                }
                TimeDomain::ProcessingTime => {
                    trigger.on_processing_time(due.timestamp, window, context)?
                }
            }
        };
        let place = Place { window, state };
        self.follow(result, at, &key, place, origin_ns, output)?;
        let is_own = self.is_event_time == (domain == TimeDomain::EventTime);
        if is_own && due.timestamp == self.cleanup_time(window) {
            self.clear(at, place)?;
        }
        self.store_merging(at)
    }

    /// Everything of a window goes.
    fn clear(&mut self, at: At<'_>, place: Place) -> Result<()> {
        let Place { window, state } = place;
        let (namespace, merging) = (namespace(state), self.merging.is_some());
        let keyed = self.keyed.as_mut().expect(OPENED);
        self.contents.clear(&mut keyed.access(at, &namespace))?;
        if !self.fires_once {
            self.trigger.clear(window, &mut keyed.trigger(at, window))?;
        }
        self.function
            .clear(&mut keyed.window(at, window, merging))?;
        if let Some(held) = &mut self.merging {
            held.retire(window);
        }
        Ok(())
    }
}

impl<R, K, C, W, O, KF> WindowOperator<R, K, C, W, O, KF>
where
    R: Record,
    K: PlainValue,
    C: Contents<R>,
    W: ProcessWindowFunction<C::Input, K, O>,
    O: Record,
    KF: for<'a> Fn(Row<'a, R>) -> K + Send,
{
    /// An operator without state.
    #[must_use]
    pub fn new(windowing: Windowing<R>, select: KF, contents: C, function: W) -> Self {
        let Windowing {
            assigner,
            trigger,
            allowed_lateness,
            late_output,
        } = windowing;
        let lateness_ms = i64::try_from(allowed_lateness.as_millis()).unwrap_or(i64::MAX);
        let is_event_time = assigner.is_event_time();
        let is_plain = trigger.is_none() && assigner.fires_once_at_end();
        Self {
            uses_clock: !(is_event_time && is_plain),
            windows: Windows {
                fires_once: is_plain && (lateness_ms == 0 || !is_event_time),
                is_event_time,
                lateness_ms,
                contents,
                function,
                merging: assigner.is_merging().then(MergingWindows::default),
                keyed: None,
                scratch: Scratch::default(),
                types: PhantomData,
                trigger: trigger.unwrap_or_else(|| assigner.default_trigger()),
                assigner,
            },
            select,
            late_output,
            assigned: Vec::new(),
            key_bytes: Vec::new(),
            due: DueTimer::default(),
            firing: None,
            left: None,
            on_core: OnCore::empty(),
        }
    }

    fn read_clock(&mut self) {
        if self.uses_clock {
            self.windows.keyed().now_ms = self.on_core.get().0.wall_ms();
        }
    }

    #[inline]
    fn take(&mut self, record: &RecordRef<'_>, output: &mut Output) -> Result<()> {
        let windows = &mut self.windows;
        if windows.is_event_time && record.timestamp == EventTime::NONE {
            return Err(without_timestamp());
        }
        // SAFETY: the edge carries `R` (checked when the graph was built), and records on edges are verified.
        let row = unsafe { Row::<R>::read(record) };
        let key = (self.select)(row);
        self.key_bytes.clear();
        key.encode(&mut self.key_bytes);
        let at = At {
            key_hash: record.key_hash,
            key: &self.key_bytes,
            namespace: &[],
        };
        self.assigned.clear();
        let now_ms = windows.keyed().now_ms;
        windows
            .assigner
            .assign_windows(row, now_ms, &mut self.assigned);
        let origin_ns = record.origin_ns;
        let mut taken = false;
        if windows.merging.is_some() {
            taken = windows.put_merging(at, &key, row, &self.assigned, origin_ns, output)?;
        } else {
            for window in self.assigned.iter().copied() {
                if windows.is_late(window) {
                    continue;
                }
                taken = true;
                let state = window;
                windows.put(at, &key, row, Place { window, state }, origin_ns, output)?;
            }
        }
        if !taken && windows.is_record_late(record.timestamp) {
            return self.on_late(record, output);
        }
        Ok(())
    }

    #[cold]
    fn on_late(&mut self, record: &RecordRef<'_>, output: &mut Output) -> Result<()> {
        match self.late_output {
            Some(side) => output.collect_side(side, record),
            None => {
                add(&self.on_core.get().1.late_records_dropped, 1);
                Ok(())
            }
        }
    }

    /// Fires timers until done, blocked, or it is the others' turn.
    fn fire(&mut self, output: &mut Output) -> Result<Progress> {
        let Some(firing) = self.firing else {
            return Ok(Progress::Done);
        };
        for _ in 0..FIRE_BITE {
            let timers = match &mut self.left {
                Some(left) => left,
                None => &mut self.windows.keyed.as_mut().expect(OPENED).timers,
            };
            let next = match firing.domain {
                TimeDomain::EventTime => timers.next_event_time().map(|time| time.0),
                TimeDomain::ProcessingTime => timers.next_processing_time(),
            };
            if next.is_none_or(|next| next > firing.until) {
                self.firing = None;
                return Ok(Progress::Done);
            }
            if output.is_blocked() {
                return Ok(Progress::Blocked);
            }
            let due = &mut self.due;
            let came = match firing.domain {
                TimeDomain::EventTime => timers.pop_due_event_time(EventTime(firing.until), due),
                TimeDomain::ProcessingTime => timers.pop_due_processing_time(firing.until, due),
            };
            debug_assert!(came, "there was a next one");
            if self.left.is_some() {
                // The clock never gets there: its time is the timer's.
                let keyed = self.windows.keyed();
                keyed.now_ms = keyed.now_ms.max(due.timestamp);
            }
            self.windows
                .on_timer(&self.due, firing.domain, firing.origin_ns, output)?;
        }
        Ok(Progress::Yielded)
    }
}

impl<R, K, C, W, O, KF> Operator for WindowOperator<R, K, C, W, O, KF>
where
    R: Record,
    K: PlainValue,
    C: Contents<R>,
    W: ProcessWindowFunction<C::Input, K, O>,
    O: Record,
    KF: for<'a> Fn(Row<'a, R>) -> K + Send,
{
    fn open(&mut self, context: &OpenContext) -> Result<()> {
        let (index, parallelism) = (context.subtask_index, context.parallelism);
        let mut backend =
            KeyedStateBackend::open(&context.state, index, parallelism, context.max_parallelism)?;
        let windows = &mut self.windows;
        windows.contents.open(&mut backend)?;
        windows.trigger.open(&mut backend)?;
        windows.function.open(&mut backend)?;
        if let Some(merging) = &mut windows.merging {
            merging.open(&mut backend)?;
        }
        windows.keyed = Some(StateAndTime {
            backend,
            timers: TimerService::new(index, parallelism, context.max_parallelism),
            watermark: None,
            now_ms: context.clock.wall_ms(),
        });
        let (clock, metrics) = (Rc::clone(&context.clock), Rc::clone(&context.metrics));
        self.on_core.set((clock, metrics));
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let keyed = self.windows.keyed.as_ref();
        keyed.map_or(0, |keyed| keyed.backend.bytes() + keyed.timers.bytes())
    }

    /// When windows fire once, at their end, no record makes any.
    fn takes_runs(&self) -> bool {
        self.windows.fires_once
    }

    fn on_record(&mut self, record: &RecordRef<'_>, output: &mut Output) -> Result<()> {
        self.read_clock();
        self.take(record, output)
    }

    fn on_run(&mut self, run: &crate::batch::Run<'_>, output: &mut Output) -> Result<()> {
        self.read_clock();
        run.records()
            .try_for_each(|record| self.take(&record, output))
    }

    fn on_watermark(
        &mut self,
        watermark: EventTime,
        origin_ns: u64,
        output: &mut Output,
    ) -> Result<Progress> {
        self.read_clock();
        let keyed = self.windows.keyed();
        keyed.watermark = keyed.watermark.max(Some(watermark));
        self.firing = Some(Firing {
            domain: TimeDomain::EventTime,
            until: watermark.0,
            origin_ns,
        });
        self.fire(output)
    }

    fn uses_processing_time(&self) -> bool {
        self.uses_clock
    }

    fn next_processing_time(&mut self) -> Option<i64> {
        self.windows.keyed().timers.next_processing_time()
    }

    fn on_processing_time(&mut self, now_ms: i64, output: &mut Output) -> Result<Progress> {
        let keyed = self.windows.keyed();
        keyed.now_ms = keyed.now_ms.max(now_ms);
        self.firing = Some(Firing {
            domain: TimeDomain::ProcessingTime,
            until: now_ms,
            origin_ns: 0,
        });
        self.fire(output)
    }

    /// Processing time would go on, but nobody waits for it: each timer that is set fires once, and those set meanwhile do not.
    /// Where the input was cut off, windows stay as they are.
    fn on_end_of_input(&mut self, mode: StopMode, output: &mut Output) -> Result<Progress> {
        if mode == StopMode::NoDrain {
            return Ok(Progress::Done);
        }
        let keyed = self.windows.keyed();
        self.left = Some(keyed.timers.take());
        self.firing = Some(Firing {
            domain: TimeDomain::ProcessingTime,
            until: i64::MAX,
            origin_ns: 0,
        });
        self.fire(output)
    }

    fn resume(&mut self, output: &mut Output) -> Result<Progress> {
        self.fire(output)
    }
}
