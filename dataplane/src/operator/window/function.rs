//! What becomes of a window's contents when it fires.
//!
//! Owns: [`ProcessWindowFunction`], [`WindowContext`], [`WindowElements`] and the functions that the API makes of closures.
//! Invariant: a function is called once for each firing of a key's window, with what the window then holds.
//! Left out: what is kept ([`super::contents`]).

use std::marker::PhantomData;

use crate::error::{Error, Result};
use crate::operator::stateless::Collector;
use crate::operator::window::trigger::namespace;
use crate::operator::window::{AggregateFunction, TimeWindow};
use crate::record::{EventTime, Record, RecordRef, Row, RowKind, StructRecord};
use crate::state::backend::{At, KeyedStateBackend};
use crate::state::handles::KeyedAccess;

/// What a window function is given of a window: all records ([`Elements`]) or what they came to ([`Aggregated`]).
pub trait WindowInput: 'static {
    /// What it is given.
    type Of<'a>;
}

/// All records of a window, as [`WindowElements`].
#[derive(Debug)]
pub struct Elements<R>(PhantomData<fn() -> R>);

impl<R: Record> WindowInput for Elements<R> {
    type Of<'a> = WindowElements<'a, R>;
}

/// The result of an aggregation.
#[derive(Debug)]
pub struct Aggregated<V>(PhantomData<fn() -> V>);

impl<V: 'static> WindowInput for Aggregated<V> {
    type Of<'a> = V;
}

/// Where a record lies in [`ElementBuffer`].
#[derive(Debug, Clone, Copy)]
struct Place {
    unit: usize,
    bytes: usize,
    timestamp: EventTime,
    kind: RowKind,
}

/// Copies of the records of one window, in memory that serves all of an operator's windows.
#[derive(Debug, Default)]
pub(crate) struct ElementBuffer {
    units: Vec<u64>,
    places: Vec<Place>,
}

impl ElementBuffer {
    pub(crate) fn clear(&mut self) {
        self.units.clear();
        self.places.clear();
    }

    pub(crate) fn push<R: Record>(&mut self, row: Row<'_, R>) {
        let (unit, bytes) = (self.units.len(), row.bytes());
        self.units.resize(unit + bytes.len().div_ceil(8), 0);
        bytemuck::cast_slice_mut(&mut self.units[unit..])[..bytes.len()].copy_from_slice(bytes);
        self.places.push(Place {
            unit,
            bytes: bytes.len(),
            timestamp: row.timestamp(),
            kind: row.kind(),
        });
    }

    /// The records. Only of a buffer that rows of `R` were pushed to.
    pub(crate) fn elements<R: Record>(&self) -> WindowElements<'_, R> {
        WindowElements {
            units: &self.units,
            places: &self.places,
            record: PhantomData,
        }
    }

    /// Takes out what `keep` is not true for; says whether there was any.
    pub(crate) fn retain<R: Record>(
        &mut self,
        mut keep: impl FnMut(usize, Row<'_, R>) -> bool,
    ) -> bool {
        let (before, units) = (self.places.len(), &self.units);
        let mut index = 0;
        self.places.retain(|place| {
            index += 1;
            keep(index - 1, read(units, place))
        });
        self.places.len() < before
    }
}

fn read<'a, R: Record>(units: &'a [u64], place: &Place) -> Row<'a, R> {
    let bytes: &[u8] = bytemuck::cast_slice(&units[place.unit..]);
    let record = RecordRef {
        bytes: &bytes[..place.bytes],
        timestamp: place.timestamp,
        key_hash: 0,
        kind: place.kind,
        origin_ns: 0,
    };
    // SAFETY: the bytes of a row of `R` were copied there, and a buffer holds rows of one type.
    unsafe { Row::read(&record) }
}

/// The records of a window, in the order they came.
#[derive(Debug)]
pub struct WindowElements<'a, R> {
    units: &'a [u64],
    places: &'a [Place],
    record: PhantomData<fn() -> R>,
}

impl<R> Clone for WindowElements<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for WindowElements<'_, R> {}

impl<'a, R: Record> WindowElements<'a, R> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// There are none: an evictor took all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The record at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Row<'a, R>> {
        self.places.get(index).map(|place| read(self.units, place))
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row<'a, R>> + DoubleEndedIterator {
        let units = self.units;
        self.places.iter().map(move |place| read(units, place))
    }
}

/// The window that fires, and its key's state.
#[derive(Debug)]
pub struct WindowContext<'a> {
    pub(crate) backend: &'a mut KeyedStateBackend,
    /// The key; its namespace is empty.
    pub(crate) at: At<'a>,
    pub(crate) window: TimeWindow,
    pub(crate) watermark: Option<EventTime>,
    pub(crate) now_ms: i64,
    pub(crate) merging: bool,
}

impl WindowContext<'_> {
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

    /// Calls `use_state` with access to the state of this key and window. Clear it in [`ProcessWindowFunction::clear`].
    ///
    /// # Errors
    /// The windows merge (sessions), and state of one window would be lost then; or what `use_state` returns.
    pub fn with_window_state<T>(
        &mut self,
        use_state: impl FnOnce(&mut KeyedAccess<'_>) -> Result<T>,
    ) -> Result<T> {
        if self.merging {
            return Err(Error::operator(
                "session windows have no state of their own, because they merge: use the key's global state",
            ));
        }
        let namespace = namespace(self.window);
        let at = At {
            namespace: &namespace,
            ..self.at
        };
        use_state(&mut KeyedAccess::new(self.backend, at, self.now_ms))
    }

    /// The state of this key that all of its windows share.
    pub fn global_state(&mut self) -> KeyedAccess<'_> {
        KeyedAccess::new(self.backend, self.at, self.now_ms)
    }
}

/// Makes records of a key's window when it fires: of all its records, or of what they were aggregated to.
///
/// ```
/// use ringflow_dataplane::error::Result;
/// use ringflow_dataplane::operator::stateless::Collector;
/// use ringflow_dataplane::operator::window::WindowResult;
/// use ringflow_dataplane::operator::window::function::{Aggregated, ProcessWindowFunction, WindowContext};
/// use ringflow_dataplane::state::backend::KeyedStateBackend;
/// use ringflow_dataplane::state::handles::{ValueState, ValueStateDescriptor};
///
/// /// Numbers the windows of each key.
/// #[derive(Clone, Default)]
/// struct Numbered(Option<ValueState<u64>>);
///
/// impl ProcessWindowFunction<Aggregated<u64>, u64, WindowResult<u64, u64>> for Numbered {
///     fn open(&mut self, state: &mut KeyedStateBackend) -> Result<()> {
///         self.0 = Some(ValueStateDescriptor::new("windows so far").register(state)?);
///         Ok(())
///     }
///
///     fn process(
///         &mut self,
///         key: &u64,
///         context: &mut WindowContext<'_>,
///         count: u64,
///         out: &mut Collector<'_, WindowResult<u64, u64>>,
///     ) -> Result<()> {
///         let window = context.window();
///         let Some(so_far) = self.0 else { return Ok(()) };
///         let number = so_far.value(&mut context.global_state())?.unwrap_or(0) + 1;
///         so_far.update(&mut context.global_state(), &number)?;
///         out.collect_window_result(key, &(1_000 * number + count), window);
///         Ok(())
///     }
/// }
/// ```
pub trait ProcessWindowFunction<I: WindowInput, K, O: Record>: Clone + Send + 'static {
    /// First call: make state handles here.
    ///
    /// # Errors
    /// A name is taken.
    fn open(&mut self, state: &mut KeyedStateBackend) -> Result<()> {
        let _ = state;
        Ok(())
    }

    /// The window fires.
    ///
    /// # Errors
    /// The subtask fails.
    fn process(
        &mut self,
        key: &K,
        context: &mut WindowContext<'_>,
        input: I::Of<'_>,
        out: &mut Collector<'_, O>,
    ) -> Result<()>;

    /// The window goes: clear its state.
    ///
    /// # Errors
    /// The subtask fails.
    fn clear(&mut self, context: &mut WindowContext<'_>) -> Result<()> {
        let _ = context;
        Ok(())
    }
}

/// A closure of key, window, contents and collector.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds a closure")]
pub struct Apply<F>(pub F);

impl<R, K, O, F> ProcessWindowFunction<Elements<R>, K, O> for Apply<F>
where
    R: Record,
    O: Record,
    F: for<'a> Fn(&K, TimeWindow, WindowElements<'a, R>, &mut Collector<'_, O>)
        + Clone
        + Send
        + 'static,
{
    fn process(
        &mut self,
        key: &K,
        context: &mut WindowContext<'_>,
        elements: WindowElements<'_, R>,
        out: &mut Collector<'_, O>,
    ) -> Result<()> {
        (self.0)(key, context.window, elements, out);
        Ok(())
    }
}

/// A closure of key, aggregate, window and collector.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds a closure")]
pub struct Emit<F>(pub F);

impl<V, K, O, F> ProcessWindowFunction<Aggregated<V>, K, O> for Emit<F>
where
    V: 'static,
    O: Record,
    F: Fn(&K, V, TimeWindow, &mut Collector<'_, O>) + Clone + Send + 'static,
{
    fn process(
        &mut self,
        key: &K,
        context: &mut WindowContext<'_>,
        value: V,
        out: &mut Collector<'_, O>,
    ) -> Result<()> {
        (self.0)(key, value, context.window, out);
        Ok(())
    }
}

/// Gives out what a window's records were reduced to.
#[derive(Debug, Clone, Copy)]
pub struct EmitRecord;

impl<R: StructRecord, K> ProcessWindowFunction<Aggregated<R>, K, R> for EmitRecord {
    fn process(
        &mut self,
        _key: &K,
        _context: &mut WindowContext<'_>,
        record: R,
        out: &mut Collector<'_, R>,
    ) -> Result<()> {
        out.collect(record);
        Ok(())
    }
}

/// Aggregates all records of a window when it fires: where an evictor wants to see them first.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds user code")]
pub struct Folded<A, W> {
    aggregate: A,
    function: W,
}

impl<A, W> Folded<A, W> {
    /// `function` gets what `aggregate` makes of the records.
    #[must_use]
    pub const fn new(aggregate: A, function: W) -> Self {
        Self {
            aggregate,
            function,
        }
    }
}

impl<R, K, O, A, W> ProcessWindowFunction<Elements<R>, K, O> for Folded<A, W>
where
    R: Record,
    O: Record,
    A: AggregateFunction<R>,
    A::Output: 'static,
    W: ProcessWindowFunction<Aggregated<A::Output>, K, O>,
{
    fn open(&mut self, state: &mut KeyedStateBackend) -> Result<()> {
        self.function.open(state)
    }

    fn process(
        &mut self,
        key: &K,
        context: &mut WindowContext<'_>,
        elements: WindowElements<'_, R>,
        out: &mut Collector<'_, O>,
    ) -> Result<()> {
        if elements.is_empty() {
            // An aggregate of nothing is no result.
            return Ok(());
        }
        let mut accumulator = self.aggregate.create_accumulator();
        for row in elements.iter() {
            self.aggregate.add(row, &mut accumulator);
        }
        let result = self.aggregate.result(accumulator);
        self.function.process(key, context, result, out)
    }

    fn clear(&mut self, context: &mut WindowContext<'_>) -> Result<()> {
        self.function.clear(context)
    }
}
