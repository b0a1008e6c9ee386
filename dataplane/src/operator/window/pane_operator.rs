//! Aligned event-time windows with incremental aggregation: the fast road.
//!
//! ```text
//!            window that fires                    front: for each window start before `middle`, all from there to `middle`
//!         |<--------------------->|               back:  all panes from `middle` to the end of the last window fired
//!   . . s1 . . s2 . . s3 . . | middle             panes: each from `middle` on, also those that no window has reached
//!         [ front(s1)        ][ back  ]
//!               [ front(s2)  ][ back      ]       A window is front(its start) with back. When the front is used up, it is
//!                     [ (s3) ][ back         ]    made anew of the panes, and `middle` moves to the end of the window.
//! ```
//! Owns: [`PaneOperator`]. A record goes into one pane; each pane is merged twice in its life, however many windows cover it, so the
//! cost of a firing is that of its rows, whatever size and slide are. The front has a table per window start: as many as windows
//! that overlap.
//! Invariant: a window fires once, when the watermark reaches its last millisecond; a record none of whose windows can
//! fire any more is dropped and counted. Merging and emitting stop after a bounded number of entries and go on later.
//! Left out: lateness, triggers, evictors, window state ([`super::operator`] has them).
//!
//! Source: the queue of two stacks; Tangwongsan, Hirzel, Schneider, "Low-latency sliding-window aggregation in worst-case
//! constant time" (2017), which names it.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::rc::Rc;

use crate::error::Result;
use crate::limits::{FIRE_BITE, MERGE_BITE};
use crate::metrics::{SubtaskMetrics, add};
use crate::operator::chain::Output;
use crate::operator::stateless::{Collector, Scratch};
use crate::operator::window::assigner::SlidingWindows;
use crate::operator::window::pane::Pane;
use crate::operator::window::{AggregateFunction, TimeWindow, without_timestamp};
use crate::operator::{Operator, Progress};
use crate::record::{EventTime, Record, RecordRef, Row};
use crate::runtime::context::OpenContext;
use crate::runtime::on_core::OnCore;
use crate::state::value::{PlainValue, decode_whole};

/// Windows of one keyed stream. `key` reads the key, `emit` writes what a key's window gives out.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct PaneOperator<R: Record, K, A: AggregateFunction<R>, O, KF, EF> {
    key: KF,
    emit: EF,
    panes: Panes<R, A>,
    watermark: Option<EventTime>,
    /// End of the first window that has not fired and has records.
    next_end: Option<i64>,
    firing: Option<Firing>,
    key_bytes: Vec<u8>,
    scratch: Scratch,
    metrics: OnCore<Rc<SubtaskMetrics>>,
    records: PhantomData<fn(K) -> O>,
}

/// What the windows hold.
struct Panes<R: Record, A: AggregateFunction<R>> {
    windows: SlidingWindows,
    aggregate: A,
    /// From `middle` on, in order of time.
    panes: VecDeque<Pane>,
    /// Pane of the last record.
    recent: usize,
    /// The last one is the earliest.
    front: Vec<Pane>,
    back: Pane,
    middle: i64,
    /// Panes from `middle` on that start before this are in the back too.
    merged_until: i64,
    /// An accumulator on its way in.
    fresh: Vec<u8>,
    hot: Hot<A::Accumulator>,
    records: PhantomData<fn(R)>,
}

/// The accumulator of the last record, as a value, where reading it from bytes may allocate. Written back before another one
/// is needed, and before a window fires.
struct Hot<T> {
    start: i64,
    hash: u32,
    key: Vec<u8>,
    accumulator: Option<T>,
}

impl<T: PlainValue> Hot<T> {
    const IS_USED: bool = T::FIXED_BYTES.is_none();

    fn of(&mut self, start: i64, (hash, key): (u32, &[u8])) -> Option<&mut T> {
        let is_its = self.start == start && self.hash == hash && self.key == key;
        self.accumulator.as_mut().filter(|_| is_its)
    }
}

/// A window on its way out.
struct Firing {
    window: TimeWindow,
    origin_ns: u64,
    stage: Stage,
}

/// What may be done before it is the others' turn: rows to give out, places to look at.
struct Bite {
    rows: usize,
    slots: usize,
}

/// How far it is.
enum Stage {
    /// Complete panes go into the back, from this slot of the first of them on.
    Merge { slot: usize },
    /// A new front: panes of the window that are to be merged, latest last; what they came to so far; the window start that they
    /// are merged back to.
    Flip {
        panes: Vec<Pane>,
        slot: usize,
        suffix: Pane,
        start: i64,
    },
    /// Rows of the window's front, each with what the back has of its key; then those of the back that the front has not.
    Emit {
        front: Pane,
        in_back: bool,
        slot: usize,
    },
}

impl<R: Record, A: AggregateFunction<R>> Panes<R, A> {
    /// Where records of a pane go, and whether the pane is new.
    fn pane_at(&mut self, start: i64) -> (usize, bool) {
        if self
            .panes
            .get(self.recent)
            .is_some_and(|pane| pane.start == start)
        {
            return (self.recent, false);
        }
        let found = self.panes.binary_search_by_key(&start, |pane| pane.start);
        let (index, is_new) = match found {
            Ok(index) => (index, false),
            Err(index) => {
                self.panes.insert(index, Pane::new(start));
                (index, true)
            }
        };
        self.recent = index;
        (index, is_new)
    }

    /// Puts a record into its pane; says whether a window may have records now that had none.
    #[inline]
    fn add(&mut self, start: i64, key: (u32, &[u8]), row: Row<'_, R>) -> Result<bool> {
        if start < self.middle {
            return self.add_to_front(start, key, row);
        }
        if start < self.merged_until {
            self.back.add(key, row, &self.aggregate, &mut self.fresh)?;
        }
        if Hot::<A::Accumulator>::IS_USED {
            return self.add_hot(start, key, row);
        }
        let (index, is_new) = self.pane_at(start);
        self.panes[index].add(key, row, &self.aggregate, &mut self.fresh)?;
        Ok(is_new)
    }

    fn add_hot(&mut self, start: i64, key: (u32, &[u8]), row: Row<'_, R>) -> Result<bool> {
        if let Some(accumulator) = self.hot.of(start, key) {
            self.aggregate.add(row, accumulator);
            return Ok(false);
        }
        self.cool()?;
        let (index, is_new) = self.pane_at(start);
        let mut accumulator = match self.panes[index].get(key.0, key.1) {
            Some(bytes) => decode_whole(bytes)?,
            None => self.aggregate.create_accumulator(),
        };
        self.aggregate.add(row, &mut accumulator);
        self.hot.accumulator = Some(accumulator);
        (self.hot.start, self.hot.hash) = (start, key.0);
        self.hot.key.clear();
        self.hot.key.extend_from_slice(key.1);
        Ok(is_new)
    }

    /// Writes the last record's accumulator to its pane.
    fn cool(&mut self) -> Result<()> {
        let Some(accumulator) = self.hot.accumulator.take() else {
            return Ok(());
        };
        self.fresh.clear();
        accumulator.encode(&mut self.fresh);
        let (index, _) = self.pane_at(self.hot.start);
        self.panes[index].put((self.hot.hash, &self.hot.key), &self.fresh)
    }

    /// A record that is late for some of its windows: the others are in the front, one by one.
    #[cold]
    fn add_to_front(&mut self, start: i64, key: (u32, &[u8]), row: Row<'_, R>) -> Result<bool> {
        for suffix in self.front.iter_mut().filter(|suffix| suffix.start <= start) {
            suffix.add(key, row, &self.aggregate, &mut self.fresh)?;
        }
        Ok(true)
    }

    /// Begins with a window.
    fn begin(&mut self, window: TimeWindow) -> Stage {
        if self.windows.are_disjoint() {
            let is_it = |pane: &mut Pane| pane.start == window.start();
            let front = self.panes.pop_front_if(is_it).unwrap_or_default();
            return Stage::emit(front);
        }
        let passed = |suffix: &mut Pane| suffix.start < window.start();
        while self.front.pop_if(passed).is_some() {}
        if window.start() < self.middle {
            return Stage::Merge { slot: 0 };
        }
        let (start, end) = (window.start(), window.end());
        let from = self.panes.partition_point(|pane| pane.start < start);
        let to = self.panes.partition_point(|pane| pane.start < end);
        let panes: Vec<Pane> = self.panes.drain(..to).skip(from).collect();
        self.back = Pane::default();
        (self.middle, self.merged_until) = (end, end);
        Stage::Flip {
            panes,
            slot: 0,
            suffix: Pane::default(),
            start: self.windows.last_start(end - 1),
        }
    }

    /// Merges complete panes into the back; the next stage when it is done.
    fn merge(&mut self, window: TimeWindow, mut slot: usize) -> Result<Stage> {
        let mut left = MERGE_BITE;
        loop {
            let (from, end) = (self.merged_until, window.end());
            let index = self.panes.partition_point(|pane| pane.start < from);
            let Some(pane) = self.panes.get(index).filter(|pane| pane.start < end) else {
                self.merged_until = end;
                let is_its = |suffix: &mut Pane| suffix.start == window.start();
                return Ok(Stage::emit(self.front.pop_if(is_its).unwrap_or_default()));
            };
            let (aggregate, fresh) = (&self.aggregate, &mut self.fresh);
            if !merge_some(pane, &mut self.back, &mut slot, &mut left, aggregate, fresh)? {
                return Ok(Stage::Merge { slot });
            }
            self.merged_until = pane.start + 1;
            slot = 0;
        }
    }

    /// Makes a new front of `panes`; the next stage when it is done.
    fn flip(
        &mut self,
        window: TimeWindow,
        mut panes: Vec<Pane>,
        mut slot: usize,
        mut suffix: Pane,
        mut start: i64,
    ) -> Result<Stage> {
        let mut left = MERGE_BITE;
        loop {
            while let Some(pane) = panes.last().filter(|pane| pane.start >= start) {
                let (aggregate, fresh) = (&self.aggregate, &mut self.fresh);
                if !merge_some(pane, &mut suffix, &mut slot, &mut left, aggregate, fresh)? {
                    return Ok(Stage::Flip {
                        panes,
                        slot,
                        suffix,
                        start,
                    });
                }
                slot = 0;
                panes.pop();
            }
            suffix.start = start;
            if start <= window.start() {
                return Ok(Stage::emit(suffix));
            }
            self.front.push(suffix.clone());
            start -= self.windows.slide_ms();
            left = left.saturating_sub(suffix.slots());
            if left == 0 {
                return Ok(Stage::Flip {
                    panes,
                    slot,
                    suffix,
                    start,
                });
            }
        }
    }

    /// Drops what no later window covers; the end of the first one that has records.
    fn end(&mut self, end: i64) -> Option<i64> {
        let windows = self.windows;
        let is_over = |pane: &mut Pane| windows.last_end(pane.start) <= end;
        while self.panes.pop_front_if(is_over).is_some() {}
        self.recent = 0;
        // Of the front's tables each has all that the later ones have.
        let front = self.front.last().filter(|suffix| !suffix.is_empty());
        let front = front.map(|suffix| suffix.start + windows.size_ms());
        let pane = self.panes.front();
        let pane = pane.map(|pane| windows.first_end(pane.start, Some(EventTime(end - 1))));
        front.into_iter().chain(pane).min()
    }

    fn bytes(&self) -> usize {
        let tables = self.panes.iter().chain(&self.front);
        self.back.bytes() + tables.map(Pane::bytes).sum::<usize>()
    }
}

/// Merges entries of `from` into `into`, from `slot` on and `left` at most; says whether that was all.
#[inline]
fn merge_some<R: Record, A: AggregateFunction<R>>(
    from: &Pane,
    into: &mut Pane,
    slot: &mut usize,
    left: &mut usize,
    aggregate: &A,
    fresh: &mut Vec<u8>,
) -> Result<bool> {
    let end = from.slots().min(*slot + *left);
    *left -= end - *slot;
    for slot in *slot..end {
        if let Some(entry) = from.slot(slot) {
            into.merge(entry, aggregate, fresh)?;
        }
    }
    *slot = end;
    Ok(end == from.slots())
}

impl Stage {
    fn emit(front: Pane) -> Self {
        Self::Emit {
            front,
            in_back: false,
            slot: 0,
        }
    }
}

impl<R, K, A, O, KF, EF> PaneOperator<R, K, A, O, KF, EF>
where
    R: Record,
    K: PlainValue,
    A: AggregateFunction<R>,
    O: Record,
    KF: for<'a> Fn(Row<'a, R>) -> K + Send,
    EF: Fn(&K, A::Output, TimeWindow, &mut Collector<'_, O>) + Send,
{
    /// An operator over `windows`.
    #[must_use]
    pub fn new(windows: SlidingWindows, key: KF, aggregate: A, emit: EF) -> Self {
        Self {
            key,
            emit,
            panes: Panes {
                windows,
                aggregate,
                panes: VecDeque::new(),
                recent: 0,
                front: Vec::new(),
                back: Pane::default(),
                middle: i64::MIN,
                merged_until: i64::MIN,
                fresh: Vec::new(),
                hot: Hot {
                    start: 0,
                    hash: 0,
                    key: Vec::new(),
                    accumulator: None,
                },
                records: PhantomData,
            },
            watermark: None,
            next_end: None,
            firing: None,
            key_bytes: Vec::new(),
            scratch: Scratch::default(),
            metrics: OnCore::empty(),
            records: PhantomData,
        }
    }

    /// Bytes of memory that accumulators and their keys take. Cost: a look at every pane.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.panes.bytes()
    }

    /// Fires all windows that the watermark has reached, until done, blocked, or it is the others' turn.
    fn fire(&mut self, origin_ns: u64, output: &mut Output) -> Result<Progress> {
        // A window counts as a row, so that many empty ones are no long call either.
        let mut bite = Bite {
            rows: FIRE_BITE,
            slots: MERGE_BITE,
        };
        loop {
            let Some(firing) = self.firing.take() else {
                let due = self
                    .next_end
                    .filter(|end| self.watermark >= Some(EventTime(end - 1)));
                let Some(end) = due else {
                    return Ok(Progress::Done);
                };
                if bite.rows == 0 {
                    return Ok(Progress::Yielded);
                }
                bite.rows -= 1;
                let window = TimeWindow::new(end - self.panes.windows.size_ms(), end);
                self.firing = Some(Firing {
                    window,
                    origin_ns,
                    stage: self.panes.begin(window),
                });
                continue;
            };
            let (window, origin_ns) = (firing.window, firing.origin_ns);
            let stage = match firing.stage {
                Stage::Merge { slot } => self.panes.merge(window, slot)?,
                Stage::Flip {
                    panes,
                    slot,
                    suffix,
                    start,
                } => self.panes.flip(window, panes, slot, suffix, start)?,
                Stage::Emit {
                    front,
                    mut in_back,
                    mut slot,
                } => {
                    let at = (&mut in_back, &mut slot);
                    let whose = (window, origin_ns);
                    let progress = self.emit_some(whose, &front, at, &mut bite, output)?;
                    if progress == Progress::Done {
                        self.next_end = self.panes.end(window.end());
                        continue;
                    }
                    let stage = Stage::Emit {
                        front,
                        in_back,
                        slot,
                    };
                    self.firing = Some(Firing {
                        window,
                        origin_ns,
                        stage,
                    });
                    return Ok(progress);
                }
            };
            let is_ready = matches!(stage, Stage::Emit { .. });
            self.firing = Some(Firing {
                window,
                origin_ns,
                stage,
            });
            if !is_ready {
                return Ok(Progress::Yielded);
            }
        }
    }

    /// Gives out rows of a window, as many as are left of a bite.
    fn emit_some(
        &mut self,
        (window, origin_ns): (TimeWindow, u64),
        front: &Pane,
        (in_back, slot): (&mut bool, &mut usize),
        bite: &mut Bite,
        output: &mut Output,
    ) -> Result<Progress> {
        let back = &self.panes.back;
        let is_disjoint = self.panes.windows.are_disjoint();
        let aggregate = &self.panes.aggregate;
        loop {
            let pane = if *in_back { back } else { front };
            if *slot >= pane.slots() {
                if *in_back || is_disjoint {
                    return Ok(Progress::Done);
                }
                (*in_back, *slot) = (true, 0);
                continue;
            }
            if bite.rows == 0 || bite.slots == 0 {
                return Ok(Progress::Yielded);
            }
            bite.slots -= 1;
            let Some((hash, key, accumulator)) = pane.slot(*slot) else {
                *slot += 1;
                continue;
            };
            if *in_back && front.get(hash, key).is_some() {
                *slot += 1;
                continue;
            }
            if output.is_blocked() {
                return Ok(Progress::Blocked);
            }
            let mut accumulator: A::Accumulator = decode_whole(accumulator)?;
            if !*in_back && let Some(rest) = back.get(hash, key) {
                aggregate.merge(&mut accumulator, &decode_whole(rest)?);
            }
            let key: K = decode_whole(key)?;
            let time = window.max_timestamp();
            let mut out = Collector::new(output, &mut self.scratch, time, origin_ns);
            (self.emit)(&key, aggregate.result(accumulator), window, &mut out);
            out.finish()?;
            *slot += 1;
            bite.rows -= 1;
        }
    }
}

impl<R, K, A, O, KF, EF> Operator for PaneOperator<R, K, A, O, KF, EF>
where
    R: Record,
    K: PlainValue,
    A: AggregateFunction<R>,
    O: Record,
    KF: for<'a> Fn(Row<'a, R>) -> K + Send,
    EF: Fn(&K, A::Output, TimeWindow, &mut Collector<'_, O>) + Send,
{
    fn open(&mut self, context: &OpenContext) -> Result<()> {
        self.metrics.set(Rc::clone(&context.metrics));
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.panes.bytes()
    }

    /// It emits with watermarks only.
    fn takes_runs(&self) -> bool {
        true
    }

    fn on_record(&mut self, record: &RecordRef<'_>, _output: &mut Output) -> Result<()> {
        if record.timestamp == EventTime::NONE {
            return Err(without_timestamp());
        }
        let windows = &self.panes.windows;
        let pane = windows.pane_start(record.timestamp.0);
        let live =
            pane.filter(|pane| self.watermark < Some(EventTime(windows.last_end(*pane) - 1)));
        let Some(start) = live else {
            // A record in a gap between windows is in none, and late only if the watermark has passed it.
            if self.watermark >= Some(record.timestamp) {
                add(&self.metrics.get().late_records_dropped, 1);
            }
            return Ok(());
        };
        // SAFETY: the edge carries `R` (checked when the graph was built), and records on edges are verified.
        let row = unsafe { Row::<R>::read(record) };
        self.key_bytes.clear();
        (self.key)(row).encode(&mut self.key_bytes);
        let key = (record.key_hash, &*self.key_bytes);
        if self.panes.add(start, key, row)? {
            let first = self.panes.windows.first_end(start, self.watermark);
            self.next_end = Some(self.next_end.map_or(first, |end| end.min(first)));
        }
        Ok(())
    }

    fn on_watermark(
        &mut self,
        watermark: EventTime,
        origin_ns: u64,
        output: &mut Output,
    ) -> Result<Progress> {
        self.watermark = self.watermark.max(Some(watermark));
        self.panes.cool()?;
        self.fire(origin_ns, output)
    }

    fn resume(&mut self, output: &mut Output) -> Result<Progress> {
        let origin_ns = self.firing.as_ref().map_or(0, |firing| firing.origin_ns);
        self.fire(origin_ns, output)
    }
}
