//! Operators of two inputs without state: co-map and co-flat-map.
//!
//! Owns: [`CoFlatMap`], [`CoMap`]. Invariant: records of input 0 are `A`, of input 1 `B`; between the inputs there is no order
//! but that of watermarks, as in Flink.
//! Left out: state that both inputs share.

use std::marker::PhantomData;

use crate::error::{Error, Result};
use crate::operator::Operator;
use crate::operator::chain::Output;
use crate::operator::stateless::{Collector, Scratch};
use crate::record::{Record, RecordRef, Row, StructRecord};

type Inputs<A, B, O> = PhantomData<fn(A, B) -> O>;

/// Makes one struct record of each record, by a function for each input.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct CoMap<A, B, O, F, G> {
    first: F,
    second: G,
    records: Inputs<A, B, O>,
}

/// Makes any number of records of each record, by a function for each input.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct CoFlatMap<A, B, O, F, G> {
    first: F,
    second: G,
    scratch: Scratch,
    records: Inputs<A, B, O>,
}

impl<A, B, O, F, G> CoMap<A, B, O, F, G> {
    /// `first` for input 0, `second` for input 1.
    #[must_use]
    pub fn new(first: F, second: G) -> Self {
        Self {
            first,
            second,
            records: PhantomData,
        }
    }
}

impl<A, B, O, F, G> CoFlatMap<A, B, O, F, G> {
    /// `first` for input 0, `second` for input 1.
    #[must_use]
    pub fn new(first: F, second: G) -> Self {
        Self {
            first,
            second,
            scratch: Scratch::default(),
            records: PhantomData,
        }
    }
}

/// Two-input operators are heads of their chains and hear from which input a record is.
#[cold]
pub(crate) fn without_input() -> Error {
    Error::operator("a record came to an operator of two inputs without saying over which")
}

impl<A, B, O, F, G> Operator for CoMap<A, B, O, F, G>
where
    A: Record,
    B: Record,
    O: StructRecord,
    F: for<'a> Fn(Row<'a, A>) -> O + Send,
    G: for<'a> Fn(Row<'a, B>) -> O + Send,
{
    fn on_record(&mut self, _record: &RecordRef<'_>, _output: &mut Output) -> Result<()> {
        Err(without_input())
    }

    #[inline]
    fn on_record_of(
        &mut self,
        input: u8,
        record: &RecordRef<'_>,
        output: &mut Output,
    ) -> Result<()> {
        let made = if input == 0 {
            // SAFETY: edges to input 0 carry `A` (checked when the graph was built), and records on edges are verified.
            (self.first)(unsafe { Row::<A>::read(record) })
        } else {
            // SAFETY: as above, and edges to input 1 carry `B`.
            (self.second)(unsafe { Row::<B>::read(record) })
        };
        output.collect(&RecordRef {
            bytes: made.as_bytes(),
            key_hash: 0,
            ..*record
        })
    }
}

impl<A, B, O, F, G> Operator for CoFlatMap<A, B, O, F, G>
where
    A: Record,
    B: Record,
    O: Record,
    F: for<'a> Fn(Row<'a, A>, &mut Collector<'_, O>) + Send,
    G: for<'a> Fn(Row<'a, B>, &mut Collector<'_, O>) + Send,
{
    fn on_record(&mut self, _record: &RecordRef<'_>, _output: &mut Output) -> Result<()> {
        Err(without_input())
    }

    #[inline]
    fn on_record_of(
        &mut self,
        input: u8,
        record: &RecordRef<'_>,
        output: &mut Output,
    ) -> Result<()> {
        let mut collector = Collector::of(output, &mut self.scratch, record);
        if input == 0 {
            // SAFETY: as in `CoMap`.
            (self.first)(unsafe { Row::<A>::read(record) }, &mut collector);
        } else {
            // SAFETY: as in `CoMap`.
            (self.second)(unsafe { Row::<B>::read(record) }, &mut collector);
        }
        collector.finish()
    }
}
