//! Two streams that share an operator.
//!
//! Owns: [`ConnectedStreams`]. Invariant: the operator sees each record with the type of its stream; between the streams there
//! is no order but that of watermarks.
//! Left out: unions, which are streams of one type ([`super::data_stream::DataStream::union`]).

use ringflow_dataplane::operator::Operator;
use ringflow_dataplane::operator::co::{CoFlatMap, CoMap};
use ringflow_dataplane::operator::stateless::Collector;
use ringflow_dataplane::record::{Record, Row, StructRecord};
use ringflow_dataplane::runtime::context::PrepareContext;

use crate::api::data_stream::{DataStream, factory};

/// A stream of `A` and a stream of `B`, each on its way to the same operator.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct ConnectedStreams<A, B> {
    first: DataStream<A>,
    second: DataStream<B>,
}

impl<A: Record, B: Record> ConnectedStreams<A, B> {
    pub(crate) fn new(first: DataStream<A>, second: DataStream<B>) -> Self {
        Self { first, second }
    }

    /// Makes one struct record of each record: `first` of those of the first stream, `second` of the others.
    #[must_use]
    pub fn map<O: StructRecord>(
        self,
        first: impl for<'a> Fn(Row<'a, A>) -> O + Clone + Send + Sync + 'static,
        second: impl for<'a> Fn(Row<'a, B>) -> O + Clone + Send + Sync + 'static,
    ) -> DataStream<O> {
        let make = move |_: &PrepareContext| {
            let operator = CoMap::<A, B, O, _, _>::new(first.clone(), second.clone());
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        self.first
            .add_two_input(self.second, "Co-Map", factory(make))
    }

    /// Makes any number of records of each record: `first` of those of the first stream, `second` of the others.
    #[must_use]
    pub fn flat_map<O: Record>(
        self,
        first: impl for<'a> Fn(Row<'a, A>, &mut Collector<'_, O>) + Clone + Send + Sync + 'static,
        second: impl for<'a> Fn(Row<'a, B>, &mut Collector<'_, O>) + Clone + Send + Sync + 'static,
    ) -> DataStream<O> {
        let make = move |_: &PrepareContext| {
            let operator = CoFlatMap::<A, B, O, _, _>::new(first.clone(), second.clone());
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        self.first
            .add_two_input(self.second, "Co-Flat Map", factory(make))
    }
}
