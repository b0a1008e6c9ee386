//! Aligned event-time windows with incremental aggregation: the fast road.
//!
//! Owns: [`PaneOperator`]. A record goes into one pane; a window is the panes it covers, so sliding windows cost one update per
//! record however long they are.
//! Invariant: a window fires once, when the watermark reaches its last millisecond; a record none of whose windows can
//! fire any more is dropped and counted.
//! Left out: lateness, triggers, evictors, window state ([`super::operator`] has them).

use std::collections::VecDeque;
use std::hash::Hash;
use std::rc::Rc;

use crate::error::Result;
use crate::metrics::{SubtaskMetrics, add};
use crate::operator::chain::Output;
use crate::operator::stateless::{Collector, Scratch};
use crate::operator::window::assigner::SlidingWindows;
use crate::operator::window::pane::{KeyTable, Pane};
use crate::operator::window::{AggregateFunction, TimeWindow, without_timestamp};
use crate::operator::{Operator, Progress};
use crate::record::{EventTime, Record, RecordRef, Row};
use crate::runtime::context::OpenContext;
use crate::runtime::on_core::OnCore;

/// Windows of one keyed stream. `key` reads the key, `emit` writes what a key's window gives out.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct PaneOperator<R, K, A, O, KF, EF>
where
    R: Record,
    A: AggregateFunction<R>,
{
    windows: SlidingWindows,
    key: KF,
    aggregate: A,
    emit: EF,
    panes: VecDeque<Pane<K, A::Accumulator>>,
    /// Pane of the last record.
    recent: usize,
    watermark: Option<EventTime>,
    /// End of the first window that has not fired and has records.
    next_end: Option<i64>,
    firing: Option<Firing<K, A::Accumulator>>,
    scratch: Scratch,
    metrics: OnCore<Rc<SubtaskMetrics>>,
    records: std::marker::PhantomData<fn(R, O)>,
}

/// A window on its way out.
struct Firing<K, V> {
    window: TimeWindow,
    rows: Vec<(K, V)>,
    origin_ns: u64,
}

impl<R, K, A, O, KF, EF> PaneOperator<R, K, A, O, KF, EF>
where
    R: Record,
    K: Eq + Hash + Clone + Send,
    A: AggregateFunction<R>,
    O: Record,
    KF: for<'a> Fn(Row<'a, R>) -> K + Send,
    EF: Fn(&K, A::Output, TimeWindow, &mut Collector<'_, O>) + Send,
{
    /// An operator over `windows`.
    #[must_use]
    pub fn new(windows: SlidingWindows, key: KF, aggregate: A, emit: EF) -> Self {
        Self {
            windows,
            key,
            aggregate,
            emit,
            panes: VecDeque::new(),
            recent: 0,
            watermark: None,
            next_end: None,
            firing: None,
            scratch: Scratch::default(),
            metrics: OnCore::empty(),
            records: std::marker::PhantomData,
        }
    }

    /// Index of the pane that starts at `start`.
    fn pane_at(&mut self, start: i64) -> usize {
        if self
            .panes
            .get(self.recent)
            .is_some_and(|pane| pane.start == start)
        {
            return self.recent;
        }
        let index = match self.panes.binary_search_by_key(&start, |pane| pane.start) {
            Ok(index) => index,
            Err(index) => {
                self.panes.insert(
                    index,
                    Pane {
                        start,
                        table: KeyTable::default(),
                    },
                );
                let first = self.windows.first_end(start, self.watermark);
                self.next_end = Some(self.next_end.map_or(first, |end| end.min(first)));
                index
            }
        };
        self.recent = index;
        index
    }

    /// Fires all windows that the watermark has reached, until done or blocked.
    fn fire(&mut self, origin_ns: u64, output: &mut Output) -> Result<Progress> {
        loop {
            if self.emit_rows(output)? == Progress::Blocked {
                return Ok(Progress::Blocked);
            }
            let due = self
                .next_end
                .filter(|end| self.watermark >= Some(EventTime(end - 1)));
            let Some(end) = due else {
                return Ok(Progress::Done);
            };
            let window = TimeWindow::new(end - self.windows.size_ms(), end);
            let rows = self.collect_rows(window);
            self.firing = Some(Firing {
                window,
                rows,
                origin_ns,
            });
            // Panes that no later window covers go; the next window is the first that covers a pane that is left.
            let windows = self.windows;
            while self
                .panes
                .front()
                .is_some_and(|pane| windows.last_end(pane.start) <= end)
            {
                self.panes.pop_front();
            }
            self.recent = 0;
            let covered = |pane: &Pane<K, A::Accumulator>| {
                windows.first_end(pane.start, Some(EventTime(end - 1)))
            };
            self.next_end = self.panes.front().map(covered);
        }
    }

    /// The rows of a window: its panes, merged by key.
    fn collect_rows(&mut self, window: TimeWindow) -> Vec<(K, A::Accumulator)> {
        let mut covered = self
            .panes
            .iter_mut()
            .filter(|pane| (window.start..window.end).contains(&pane.start));
        let Some(first) = covered.next() else {
            return Vec::new();
        };
        if self.windows.is_tumbling() {
            return std::mem::take(&mut first.table).into_iter().collect();
        }
        let mut merged = first.table.clone();
        for pane in covered {
            for (key, value) in &pane.table {
                match merged.get_mut(key) {
                    Some(into) => self.aggregate.merge(into, value),
                    None => drop(merged.insert(key.clone(), value.clone())),
                }
            }
        }
        merged.into_iter().collect()
    }

    fn emit_rows(&mut self, output: &mut Output) -> Result<Progress> {
        let Some(firing) = &mut self.firing else {
            return Ok(Progress::Done);
        };
        loop {
            if output.is_blocked() && !firing.rows.is_empty() {
                return Ok(Progress::Blocked);
            }
            let Some((key, accumulator)) = firing.rows.pop() else {
                break;
            };
            let timestamp = firing.window.max_timestamp();
            let mut collector =
                Collector::new(output, &mut self.scratch, timestamp, firing.origin_ns);
            (self.emit)(
                &key,
                self.aggregate.result(accumulator),
                firing.window,
                &mut collector,
            );
            collector.finish()?;
        }
        self.firing = None;
        Ok(Progress::Done)
    }
}

impl<R, K, A, O, KF, EF> Operator for PaneOperator<R, K, A, O, KF, EF>
where
    R: Record,
    K: Eq + Hash + Clone + Send,
    A: AggregateFunction<R>,
    O: Record,
    KF: for<'a> Fn(Row<'a, R>) -> K + Send,
    EF: Fn(&K, A::Output, TimeWindow, &mut Collector<'_, O>) + Send,
{
    fn open(&mut self, context: &OpenContext) -> Result<()> {
        self.metrics.set(Rc::clone(&context.metrics));
        Ok(())
    }

    /// It emits with watermarks only.
    fn takes_runs(&self) -> bool {
        true
    }

    fn on_record(&mut self, record: &RecordRef<'_>, _output: &mut Output) -> Result<()> {
        if record.timestamp == EventTime::NONE {
            return Err(without_timestamp());
        }
        let pane = self.windows.pane_start(record.timestamp.0);
        let live =
            pane.filter(|pane| self.watermark < Some(EventTime(self.windows.last_end(*pane) - 1)));
        let Some(start) = live else {
            // A record in a gap between windows is in none, and late only if the watermark has passed it.
            if self.watermark >= Some(record.timestamp) {
                add(&self.metrics.get().late_records_dropped, 1);
            }
            return Ok(());
        };
        // SAFETY: the edge carries `R` (checked when the graph was built), and records on edges are verified.
        let row = unsafe { Row::<R>::read(record) };
        let key = (self.key)(row);
        let index = self.pane_at(start);
        let Self {
            panes, aggregate, ..
        } = self;
        let accumulator = panes[index]
            .table
            .entry(key)
            .or_insert_with(|| aggregate.create_accumulator());
        aggregate.add(row, accumulator);
        Ok(())
    }

    fn on_watermark(
        &mut self,
        watermark: EventTime,
        origin_ns: u64,
        output: &mut Output,
    ) -> Result<Progress> {
        self.watermark = self.watermark.max(Some(watermark));
        self.fire(origin_ns, output)
    }

    fn resume(&mut self, output: &mut Output) -> Result<Progress> {
        let origin_ns = self.firing.as_ref().map_or(0, |firing| firing.origin_ns);
        self.fire(origin_ns, output)
    }
}
