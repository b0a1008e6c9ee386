//! Window co-group: the records of two inputs that share a key and a window meet when the window ends. Window joins are made of it.
//!
//! ```text
//!  record -> list in state (key, window), timer at the window's last millisecond
//!  watermark reaches it -> both lists are copied out, the function sees them, they are gone
//! ```
//! Owns: [`CoGroup`], [`Rows`]. Invariant: the function sees each key's window once, with all records of both inputs that came
//! before the window ended, in the order they came; a record none of whose windows is open any more is dropped and counted.
//! Left out: lateness, triggers, retractions (refused).
//!
//! Source: Flink `CoGroupedStreams`, `JoinedStreams`.

use std::marker::PhantomData;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::limits::FIRE_BITE;
use crate::metrics::{SubtaskMetrics, add};
use crate::operator::chain::Output;
use crate::operator::changelog::cannot_retract;
use crate::operator::co::without_input;
use crate::operator::keyed::Keyed;
use crate::operator::stateless::{Collector, Scratch};
use crate::operator::window::TimeWindow;
use crate::operator::window::assigner::SlidingWindows;
use crate::operator::{Operator, Progress};
use crate::record::{EventTime, Record, RecordRef, Row, RowKind};
use crate::runtime::context::OpenContext;
use crate::runtime::on_core::OnCore;
use crate::state::handles::{KeyedAccess, ListState, ListStateDescriptor};
use crate::state::timers::DueTimer;
use crate::state::value::{PlainValue, RecordOf, Stored, decode_whole};

/// Records of one input, key and window, in the order they came.
#[derive(Debug)]
pub struct Rows<'a, R> {
    bytes: &'a [u8],
    entries: &'a [Entry],
    record: PhantomData<fn() -> R>,
}

/// A record among others: its time, and where its bytes are.
#[derive(Debug, Clone, Copy)]
struct Entry {
    timestamp: EventTime,
    from: usize,
    to: usize,
}

impl<R> Clone for Rows<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for Rows<'_, R> {}

impl<'a, R: Record> Rows<'a, R> {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Record after record.
    pub fn iter(&self) -> impl Iterator<Item = Row<'a, R>> + use<'a, R> {
        let bytes = self.bytes;
        self.entries.iter().map(move |entry| {
            let record = RecordRef {
                bytes: &bytes[entry.from..entry.to],
                timestamp: entry.timestamp,
                key_hash: 0,
                kind: RowKind::Insert,
                origin_ns: 0,
            };
            // SAFETY: `Gathered::add` copied these bytes out of a row of `R`.
            unsafe { Row::read(&record) }
        })
    }
}

/// Copies of the records of one side, in memory that windows reuse.
#[derive(Debug)]
struct Gathered<R> {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    record: PhantomData<fn() -> R>,
}

impl<R: Record> Gathered<R> {
    const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            entries: Vec::new(),
            record: PhantomData,
        }
    }

    /// Moves the records of a list here.
    fn take(&mut self, access: &mut KeyedAccess<'_>, rows: ListState<Stored<R>>) -> Result<()> {
        self.bytes.clear();
        self.entries.clear();
        rows.for_each(access, |row| {
            self.add(row);
            Ok(())
        })?;
        rows.clear(access)
    }

    fn add(&mut self, row: Row<'_, R>) {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let from = self.bytes.len();
        self.bytes.extend_from_slice(row.bytes());
        self.entries.push(Entry {
            timestamp: row.timestamp(),
            from,
            to: self.bytes.len(),
        });
    }

    fn rows(&self) -> Rows<'_, R> {
        Rows {
            bytes: &self.bytes,
            entries: &self.entries,
            record: PhantomData,
        }
    }
}

/// Brings records of `A`, input 0, and of `B`, input 1, together by key and window.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct CoGroup<A, B, K, O, KA, KB, F> {
    windows: SlidingWindows,
    left_key: KA,
    right_key: KB,
    function: F,
    watermark: Option<EventTime>,
    /// Of the watermark that windows fire for.
    origin_ns: u64,
    /// Empty until `open`.
    state: Option<Sides<A, B>>,
    due: DueTimer,
    left: Gathered<A>,
    right: Gathered<B>,
    /// Bytes of the window at hand.
    namespace: Vec<u8>,
    scratch: Scratch,
    metrics: OnCore<Rc<SubtaskMetrics>>,
    types: PhantomData<fn() -> (K, O)>,
}

struct Sides<A, B> {
    keyed: Keyed,
    left: ListState<Stored<A>>,
    right: ListState<Stored<B>>,
}

impl<A, B, K, O, KA, KB, F> CoGroup<A, B, K, O, KA, KB, F>
where
    A: Record,
    B: Record,
    K: PlainValue,
    O: Record,
    KA: for<'a> Fn(Row<'a, A>) -> K,
    KB: for<'b> Fn(Row<'b, B>) -> K,
    F: for<'a, 'b> Fn(&K, TimeWindow, Rows<'a, A>, Rows<'b, B>, &mut Collector<'_, O>),
{
    /// A co-group without state. `left_key` and `right_key` read keys, `function` makes any number of records of a key's window.
    #[must_use]
    pub fn new(windows: SlidingWindows, left_key: KA, right_key: KB, function: F) -> Self {
        Self {
            windows,
            left_key,
            right_key,
            function,
            watermark: None,
            origin_ns: 0,
            state: None,
            due: DueTimer::default(),
            left: Gathered::new(),
            right: Gathered::new(),
            namespace: Vec::new(),
            scratch: Scratch::default(),
            metrics: OnCore::empty(),
            types: PhantomData,
        }
    }

    /// Fires windows that the watermark has reached, until done or blocked, or it is the others' turn.
    fn fire(&mut self, output: &mut Output) -> Result<Progress> {
        let Some(watermark) = self.watermark else {
            return Ok(Progress::Done);
        };
        let Sides { keyed, left, right } = opened(&mut self.state);
        for _ in 0..FIRE_BITE {
            let next = keyed.timers.next_event_time();
            if next.is_none_or(|next| next > watermark) {
                return Ok(Progress::Done);
            }
            if output.is_blocked() {
                return Ok(Progress::Blocked);
            }
            if !keyed.timers.pop_due_event_time(watermark, &mut self.due) {
                return Ok(Progress::Done);
            }
            let mut access = KeyedAccess::new(&mut keyed.backend, self.due.at(), 0);
            self.left.take(&mut access, *left)?;
            self.right.take(&mut access, *right)?;
            let window: TimeWindow = decode_whole(&self.due.namespace)?;
            let key: K = decode_whole(&self.due.key)?;
            let timestamp = window.max_timestamp();
            let mut collector =
                Collector::new(output, &mut self.scratch, timestamp, self.origin_ns);
            let (left, right) = (self.left.rows(), self.right.rows());
            (self.function)(&key, window, left, right, &mut collector);
            collector.finish()?;
        }
        Ok(Progress::Yielded)
    }
}

impl<A, B, K, O, KA, KB, F> Operator for CoGroup<A, B, K, O, KA, KB, F>
where
    A: Record,
    B: Record,
    K: PlainValue,
    O: Record,
    KA: for<'a> Fn(Row<'a, A>) -> K + Send,
    KB: for<'b> Fn(Row<'b, B>) -> K + Send,
    F: for<'a, 'b> Fn(&K, TimeWindow, Rows<'a, A>, Rows<'b, B>, &mut Collector<'_, O>) + Send,
{
    fn state_bytes(&self) -> usize {
        self.state.as_ref().map_or(0, |sides| sides.keyed.bytes())
    }

    fn open(&mut self, context: &OpenContext) -> Result<()> {
        self.metrics.set(Rc::clone(&context.metrics));
        let mut keyed = Keyed::open(context)?;
        let left = ListStateDescriptor::new("left").register(&mut keyed.backend)?;
        let right = ListStateDescriptor::new("right").register(&mut keyed.backend)?;
        self.state = Some(Sides { keyed, left, right });
        Ok(())
    }

    fn on_record(&mut self, _record: &RecordRef<'_>, _output: &mut Output) -> Result<()> {
        Err(without_input())
    }

    fn on_record_of(
        &mut self,
        input: u8,
        record: &RecordRef<'_>,
        _output: &mut Output,
    ) -> Result<()> {
        check(record)?;
        let Sides { keyed, left, right } = opened(&mut self.state);
        let mut into = Assignment {
            windows: self.windows,
            watermark: self.watermark,
            keyed,
            namespace: &mut self.namespace,
        };
        let taken = if input == 0 {
            // SAFETY: edges to input 0 carry `A` (checked when the graph was built), and records on edges are verified.
            let row = unsafe { Row::<A>::read(record) };
            into.add(record.key_hash, &(self.left_key)(row), row, *left)?
        } else {
            // SAFETY: as above, and edges to input 1 carry `B`.
            let row = unsafe { Row::<B>::read(record) };
            into.add(record.key_hash, &(self.right_key)(row), row, *right)?
        };
        // A record in a gap between windows is in none, and late only if the watermark has passed it.
        if !taken && self.watermark >= Some(record.timestamp) {
            add(&self.metrics.get().late_records_dropped, 1);
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
        self.origin_ns = origin_ns;
        self.fire(output)
    }

    fn resume(&mut self, output: &mut Output) -> Result<Progress> {
        self.fire(output)
    }
}

fn opened<A, B>(state: &mut Option<Sides<A, B>>) -> &mut Sides<A, B> {
    state
        .as_mut()
        .expect("`open` is the first call and makes the state")
}

fn check(record: &RecordRef<'_>) -> Result<()> {
    if !record.kind.is_addition() {
        return Err(cannot_retract(
            "a window join or co-group",
            "join the streams without a window, or take the updates out before",
        ));
    }
    if record.timestamp == EventTime::NONE {
        return Err(Error::operator(
            "a record without a timestamp reached a window join or co-group: give the source a timestamp assigner",
        ));
    }
    Ok(())
}

/// What puts a record into its windows.
struct Assignment<'a> {
    windows: SlidingWindows,
    watermark: Option<EventTime>,
    keyed: &'a mut Keyed,
    namespace: &'a mut Vec<u8>,
}

impl Assignment<'_> {
    /// Puts a record into those of its windows that have not ended; says whether there are any.
    fn add<R: Record, K: PlainValue>(
        &mut self,
        key_hash: u32,
        key: &K,
        row: Row<'_, R>,
        rows: ListState<Stored<R>>,
    ) -> Result<bool> {
        let (windows, mut taken, mut result) = (self.windows, false, Ok(()));
        windows.assign(row.timestamp().0, |window| {
            let end = window.max_timestamp();
            if self.watermark < Some(end) && result.is_ok() {
                taken = true;
                result = self.add_to(window, key_hash, key, row, rows);
            }
        });
        result.map(|()| taken)
    }

    fn add_to<R: Record, K: PlainValue>(
        &mut self,
        window: TimeWindow,
        key_hash: u32,
        key: &K,
        row: Row<'_, R>,
        rows: ListState<Stored<R>>,
    ) -> Result<()> {
        self.namespace.clear();
        window.encode(self.namespace);
        let mut access = self.keyed.access_in(key_hash, key, self.namespace);
        rows.add(&mut access, &RecordOf::from(row))?;
        let end = window.max_timestamp().0;
        self.keyed
            .register_event_time_timer(key_hash, self.namespace, end)
    }
}

#[cfg(test)]
mod tests;
