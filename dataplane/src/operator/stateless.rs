//! Operators without state: filter, map, flat map.
//!
//! Owns: the operators and [`Collector`], which user code writes to. Invariant: `filter` passes the bytes on as they came;
//! only what makes new records writes bytes. Left out: keys (a property of the edge, [`crate::exchange::partitioner`]).

use std::marker::PhantomData;

use flatbuffers::{FlatBufferBuilder, WIPOffset};

use crate::batch::{Buffer, Run};
use crate::error::Result;
use crate::limits::RUN_RECORDS;
use crate::operator::Operator;
use crate::operator::chain::{Output, SideOutputId};
use crate::operator::side_output::OutputTag;
use crate::record::{EventTime, Record, RecordRef, Row, RowKind, StructRecord};

/// Memory that collectors of one operator reuse.
#[allow(
    missing_debug_implementations,
    reason = "a builder has nothing to show"
)]
#[derive(Default)]
pub struct Scratch {
    builder: FlatBufferBuilder<'static>,
    bytes: Vec<u8>,
}

/// Where user code puts records of type `O`; they take event time and kind of what they were made from.
#[allow(missing_debug_implementations, reason = "borrows a chain")]
pub struct Collector<'a, O> {
    emitter: Emitter<'a>,
    scratch: &'a mut Scratch,
    record: PhantomData<fn(O)>,
}

/// Where bytes go, and what travels beside them.
struct Emitter<'a> {
    to: To<'a>,
    timestamp: EventTime,
    kind: RowKind,
    origin_ns: u64,
    result: Result<()>,
}

/// An output of an operator.
enum To<'a> {
    Main(&'a mut Output),
    Side(&'a mut Output, SideOutputId, &'a mut Result<()>),
}

impl Emitter<'_> {
    #[inline]
    fn emit(&mut self, bytes: &[u8]) {
        let record = RecordRef {
            bytes,
            timestamp: self.timestamp,
            key_hash: 0,
            kind: self.kind,
            origin_ns: self.origin_ns,
        };
        match &mut self.to {
            To::Main(output) => {
                if self.result.is_ok() {
                    self.result = output.collect(&record);
                }
            }
            To::Side(output, id, result) => {
                if result.is_ok() {
                    **result = output.collect_side(*id, &record);
                }
            }
        }
    }
}

impl<'a, O: Record> Collector<'a, O> {
    /// Collects into `output`.
    pub(crate) fn new(
        output: &'a mut Output,
        scratch: &'a mut Scratch,
        timestamp: EventTime,
        origin_ns: u64,
    ) -> Self {
        Self {
            emitter: Emitter {
                to: To::Main(output),
                timestamp,
                kind: RowKind::Insert,
                origin_ns,
                result: Ok(()),
            },
            scratch,
            record: PhantomData,
        }
    }

    /// Collects what is made of `record` into `output`: with its time, origin and kind.
    pub(crate) fn of(
        output: &'a mut Output,
        scratch: &'a mut Scratch,
        record: &RecordRef<'_>,
    ) -> Self {
        let mut collector = Self::new(output, scratch, record.timestamp, record.origin_ns);
        collector.emitter.kind = record.kind;
        collector
    }

    /// Emits a struct record.
    #[inline]
    pub fn collect(&mut self, record: O)
    where
        O: StructRecord,
    {
        self.emitter.emit(record.as_bytes());
    }

    /// Passes a record on, its bytes untouched.
    #[inline]
    pub fn collect_row(&mut self, row: Row<'_, O>) {
        self.emitter.emit(row.bytes());
    }

    /// Emits a table record that `write` builds.
    #[inline]
    pub fn collect_table(
        &mut self,
        write: impl FnOnce(&mut FlatBufferBuilder<'static>) -> WIPOffset<O::View<'static>>,
    ) {
        let builder = &mut self.scratch.builder;
        builder.reset();
        let root = write(builder);
        builder.finish_minimal(root);
        self.emitter.emit(builder.finished_data());
    }

    /// Emits the bytes of an `O` that `write` appends.
    pub(crate) fn collect_bytes(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let bytes = &mut self.scratch.bytes;
        bytes.clear();
        write(bytes);
        self.emitter.emit(bytes);
    }

    /// What is emitted from now on has this event time.
    pub fn set_timestamp(&mut self, timestamp: EventTime) {
        self.emitter.timestamp = timestamp;
    }

    /// What is emitted from now on means this in a changelog.
    pub fn set_row_kind(&mut self, kind: RowKind) {
        self.emitter.kind = kind;
    }

    /// Collects for the side output `tag` of this operator.
    pub fn side<T: Record>(&mut self, tag: &OutputTag<T>) -> Collector<'_, T> {
        let emitter = &mut self.emitter;
        let to = match &mut emitter.to {
            To::Main(output) => To::Side(output, tag.id(), &mut emitter.result),
            To::Side(output, _, result) => To::Side(output, tag.id(), result),
        };
        Collector {
            emitter: Emitter {
                to,
                timestamp: emitter.timestamp,
                kind: emitter.kind,
                origin_ns: emitter.origin_ns,
                result: Ok(()),
            },
            scratch: self.scratch,
            record: PhantomData,
        }
    }

    /// The first failure behind.
    pub(crate) fn finish(self) -> Result<()> {
        self.emitter.result
    }
}

macro_rules! stateless {
    ($(#[$doc:meta])* $name:ident <$($param:ident),+> { $($field:ident: $type:ty),* }) => {
        $(#[$doc])*
        #[allow(missing_debug_implementations, reason = "holds a closure")]
        pub struct $name<$($param),+> {
            function: F,
            $($field: $type,)*
            records: PhantomData<fn($($param),+)>,
        }
        impl<$($param),+> $name<$($param),+> {
            /// Calls `function` for each record.
            #[must_use]
            pub fn new(function: F) -> Self {
                Self { function, $($field: <$type>::default(),)* records: PhantomData }
            }
        }
    };
}

stateless!(
    /// Passes on the records for which the closure is true, bytes untouched.
    Filter<R, F> {}
);
stateless!(
    /// Makes one struct record of each record.
    Map<R, O, F> { made: Vec<u8> }
);
stateless!(
    /// Makes any number of records of each record.
    FlatMap<R, O, F> { scratch: Scratch }
);

impl<R: Record, F: for<'a> Fn(Row<'a, R>) -> bool + Send> Operator for Filter<R, F> {
    #[inline]
    fn on_record(&mut self, record: &RecordRef<'_>, output: &mut Output) -> Result<()> {
        // SAFETY: the edge carries `R` (checked when the graph was built), and records on edges are verified.
        if (self.function)(unsafe { Row::<R>::read(record) }) {
            output.collect(record)
        } else {
            Ok(())
        }
    }

    fn takes_runs(&self) -> bool {
        true
    }

    /// What stays together passes on together.
    fn on_run(&mut self, run: &Run<'_>, output: &mut Output) -> Result<()> {
        let mut from = 0;
        for (index, record) in run.records().enumerate() {
            // SAFETY: as above.
            if !(self.function)(unsafe { Row::<R>::read(&record) }) {
                if from < index {
                    output.collect_run(&run.part(from, index))?;
                }
                from = index + 1;
            }
        }
        if from == 0 {
            output.collect_run(run)
        } else if from < run.len() {
            output.collect_run(&run.part(from, run.len()))
        } else {
            Ok(())
        }
    }
}

impl<R: Record, O: StructRecord, F: for<'a> Fn(Row<'a, R>) -> O + Send> Operator for Map<R, O, F> {
    #[inline]
    fn on_record(&mut self, record: &RecordRef<'_>, output: &mut Output) -> Result<()> {
        // SAFETY: as in `Filter`.
        let made = (self.function)(unsafe { Row::<R>::read(record) });
        output.collect(&RecordRef {
            bytes: made.as_bytes(),
            ..*record
        })
    }

    fn takes_runs(&self) -> bool {
        is_small::<O>()
    }

    fn on_run(&mut self, run: &Run<'_>, output: &mut Output) -> Result<()> {
        let Some(common) = run.in_common() else {
            return run
                .records()
                .try_for_each(|record| self.on_record(&record, output));
        };
        let function = &self.function;
        // SAFETY: as in `Filter`.
        let made = run
            .records()
            .map(|record| function(unsafe { Row::<R>::read(&record) }));
        let length = write_structs(&mut self.made, made);
        collect_structs::<O>(&self.made[..length], common, output)
    }
}

/// Records of `O` that a run makes are less than a buffer.
pub(crate) fn is_small<O: StructRecord>() -> bool {
    (1..=Buffer::CAPACITY / RUN_RECORDS / 2).contains(&size_of::<O>())
}

/// Places for what is made of a run's records, one behind the other.
#[inline]
pub(crate) fn struct_places<O: StructRecord>(
    bytes: &mut Vec<u8>,
) -> impl Iterator<Item = &mut [u8]> {
    let size = size_of::<O>();
    bytes.resize(RUN_RECORDS * size, 0);
    bytes.chunks_exact_mut(size)
}

/// Writes what is made of a run into `bytes`, record behind record; says how many bytes that is.
///
/// Infallible on purpose: a `?` in this loop keeps the compiler from making vectors of it (measured: three times the
/// instructions in `Map`).
#[inline]
pub(crate) fn write_structs<O: StructRecord>(
    bytes: &mut Vec<u8>,
    made: impl Iterator<Item = O>,
) -> usize {
    let mut length = 0;
    for (place, record) in struct_places::<O>(bytes).zip(made) {
        place.copy_from_slice(record.as_bytes());
        length += size_of::<O>();
    }
    length
}

/// Emits what [`write_structs`] wrote.
#[inline]
pub(crate) fn collect_structs<O: StructRecord>(
    bytes: &[u8],
    (timestamp, origin_ns): (EventTime, u64),
    output: &mut Output,
) -> Result<()> {
    let run = Run::of_payloads(bytes, size_of::<O>(), timestamp, origin_ns);
    output.collect_run(&run)
}

impl<R: Record, O: Record, F: for<'a> Fn(Row<'a, R>, &mut Collector<'_, O>) + Send> Operator
    for FlatMap<R, O, F>
{
    #[inline]
    fn on_record(&mut self, record: &RecordRef<'_>, output: &mut Output) -> Result<()> {
        let mut collector = Collector::of(output, &mut self.scratch, record);
        // SAFETY: as in `Filter`.
        (self.function)(unsafe { Row::<R>::read(record) }, &mut collector);
        collector.finish()
    }
}
