//! Windows of keyed streams: which there are, when they fire, what they give out.
//!
//! Owns: [`TimeWindow`], [`AggregateFunction`], [`WindowResult`]. Two operators stand behind one interface: [`operator`] does all
//! that Flink's does, [`pane_operator`] aligned event-time windows with incremental aggregation and nothing else, at a cost
//! per record that does not depend on how many windows it is in. Their pieces: [`assigner`] and [`session`] (which windows a
//! record is in), [`trigger`] (when they fire), [`evictor`], [`contents`] (what is kept), [`function`] (what becomes of it).
//! Invariant: windows are Flink's, to the millisecond; both operators equal one naive model on random streams (tested).
//! Left out: joins of windows.

use std::marker::PhantomData;

use bytemuck::Pod;

use crate::error::Error;
use crate::operator::stateless::Collector;
use crate::record::{EventTime, Record, Row, StructRecord};
use crate::state::value::{Corrupt, PlainValue};

pub mod assigner;
pub mod contents;
pub mod evictor;
pub mod function;
mod merging;
pub mod operator;
mod pane;
pub mod pane_operator;
pub mod session;
pub mod trigger;

pub use operator::WindowOperator;
pub use pane_operator::PaneOperator;

/// A half-open interval of event time, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimeWindow {
    start: i64,
    end: i64,
}

impl TimeWindow {
    /// All of time: the one window of [`assigner::GlobalWindows`]. It never ends.
    pub const GLOBAL: Self = Self {
        start: i64::MIN,
        end: i64::MAX,
    };

    /// The window `start..end`.
    #[must_use]
    pub const fn new(start: i64, end: i64) -> Self {
        Self { start, end }
    }

    /// First millisecond.
    #[must_use]
    pub const fn start(&self) -> i64 {
        self.start
    }

    /// First millisecond behind it.
    #[must_use]
    pub const fn end(&self) -> i64 {
        self.end
    }

    /// Last millisecond: the timestamp of what the window emits. A window that never ends has the end of time.
    #[must_use]
    pub const fn max_timestamp(&self) -> EventTime {
        if self.end == i64::MAX {
            EventTime::MAX
        } else {
            EventTime(self.end - 1)
        }
    }

    /// They overlap or touch, and so are one session.
    #[must_use]
    pub const fn touches(&self, other: &Self) -> bool {
        self.start <= other.end && self.end >= other.start
    }

    /// The smallest window that holds both.
    #[must_use]
    pub fn cover(&self, other: &Self) -> Self {
        Self::new(self.start.min(other.start), self.end.max(other.end))
    }
}

/// Incremental aggregation, as Flink's.
pub trait AggregateFunction<R: Record>: Clone + Send + 'static {
    /// What is kept per key and window.
    type Accumulator: PlainValue;
    /// What a window gives out.
    type Output;

    /// An empty accumulator.
    fn create_accumulator(&self) -> Self::Accumulator;
    /// Takes one record in.
    fn add(&self, record: Row<'_, R>, accumulator: &mut Self::Accumulator);
    /// Joins two accumulators of one key.
    fn merge(&self, into: &mut Self::Accumulator, other: &Self::Accumulator);
    /// The result.
    fn result(&self, accumulator: Self::Accumulator) -> Self::Output;
}

/// Counts records.
#[derive(Debug, Clone, Copy)]
pub struct Count;

impl<R: Record> AggregateFunction<R> for Count {
    type Accumulator = u64;
    type Output = u64;
    fn create_accumulator(&self) -> u64 {
        0
    }
    fn add(&self, _record: Row<'_, R>, count: &mut u64) {
        *count += 1;
    }
    fn merge(&self, into: &mut u64, other: &u64) {
        *into += other;
    }
    fn result(&self, count: u64) -> u64 {
        count
    }
}

/// Combines records by a function, as an aggregation: what `reduce` on windows does.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds a closure")]
pub struct Reducing<R, F> {
    function: F,
    records: PhantomData<fn() -> R>,
}

impl<R, F> Reducing<R, F> {
    /// `function` takes what came before and a record.
    #[must_use]
    pub fn new(function: F) -> Self {
        Self {
            function,
            records: PhantomData,
        }
    }
}

/// What records were reduced to; nothing before the first.
#[derive(Debug, Clone, Copy)]
pub struct Reduced<R>(Option<R>);

/// A byte 0, or a byte 1 and the record.
impl<R: StructRecord> PlainValue for Reduced<R> {
    const FIXED_BYTES: Option<usize> = None;

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.0.is_some()));
        if let Some(record) = &self.0 {
            out.extend_from_slice(record.as_bytes());
        }
    }

    #[inline]
    fn decode(from: &mut &[u8]) -> Result<Self, Corrupt> {
        if !bool::decode(from)? {
            return Ok(Self(None));
        }
        let Some((bytes, rest)) = from.split_at_checked(size_of::<R>()) else {
            let missing = size_of::<R>() - from.len();
            return Err(Corrupt::Short { missing });
        };
        R::verify(bytes).map_err(|found| Corrupt::Invalid {
            expected: R::NAME,
            found,
        })?;
        *from = rest;
        // SAFETY: verified.
        Ok(Self(Some(unsafe { R::view(bytes) })))
    }
}

impl<R, F> AggregateFunction<R> for Reducing<R, F>
where
    R: StructRecord,
    F: Fn(R, R) -> R + Clone + Send + 'static,
{
    type Accumulator = Reduced<R>;
    type Output = R;

    fn create_accumulator(&self) -> Reduced<R> {
        Reduced(None)
    }

    fn add(&self, record: Row<'_, R>, reduced: &mut Reduced<R>) {
        let record = record.view();
        reduced.0 = Some(match reduced.0 {
            Some(before) => (self.function)(before, record),
            None => record,
        });
    }

    fn merge(&self, into: &mut Reduced<R>, other: &Reduced<R>) {
        into.0 = match (into.0, other.0) {
            (Some(into), Some(other)) => Some((self.function)(into, other)),
            (into, other) => into.or(other),
        };
    }

    fn result(&self, reduced: Reduced<R>) -> R {
        reduced
            .0
            .expect("an accumulator is made for a record, and takes it in")
    }
}

#[cold]
fn without_timestamp() -> Error {
    Error::operator(
        "a record without a timestamp reached an event-time window: give the source a timestamp assigner",
    )
}

/// What `aggregate` gives out: key, value and window. Travels as window start, window end, key and value, back to back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowResult<K, V> {
    key: K,
    value: V,
    window: TimeWindow,
}

impl<K, V> WindowResult<K, V> {
    /// The key.
    pub fn key(&self) -> &K {
        &self.key
    }
    /// The aggregate.
    pub fn value(&self) -> &V {
        &self.value
    }
    /// The window.
    pub fn window(&self) -> TimeWindow {
        self.window
    }
}

impl<K: Pod, V: Pod> WindowResult<K, V> {
    const BYTES: usize = 16 + size_of::<K>() + size_of::<V>();

    /// Appends the bytes of a result.
    pub fn encode(key: &K, value: &V, window: TimeWindow, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&window.start.to_le_bytes());
        bytes.extend_from_slice(&window.end.to_le_bytes());
        bytes.extend_from_slice(bytemuck::bytes_of(key));
        bytes.extend_from_slice(bytemuck::bytes_of(value));
    }
}

impl<K: Pod, V: Pod> Collector<'_, WindowResult<K, V>> {
    /// Emits the result of one key's window.
    pub fn collect_window_result(&mut self, key: &K, value: &V, window: TimeWindow) {
        self.collect_bytes(|bytes| WindowResult::encode(key, value, window, bytes));
    }
}

// SAFETY: `verify` accepts exactly BYTES bytes, and `view` reads plain values of any bit pattern out of them.
unsafe impl<K: Pod, V: Pod> Record for WindowResult<K, V> {
    type View<'a> = Self;
    const NAME: &'static str = "WindowResult";

    fn verify(bytes: &[u8]) -> Result<(), String> {
        let (found, expected) = (bytes.len(), Self::BYTES);
        (found == expected)
            .then_some(())
            .ok_or_else(|| format!("a window result has {expected} bytes, not {found}"))
    }

    unsafe fn view(bytes: &[u8]) -> Self {
        let (start, rest) = bytes.split_at(8);
        let (end, rest) = rest.split_at(8);
        let (key, value) = rest.split_at(size_of::<K>());
        Self {
            key: bytemuck::pod_read_unaligned(key),
            value: bytemuck::pod_read_unaligned(value),
            window: TimeWindow::new(
                bytemuck::pod_read_unaligned(start),
                bytemuck::pod_read_unaligned(end),
            ),
        }
    }
}

#[cfg(test)]
mod tests;
