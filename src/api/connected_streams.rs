//! Two streams that share an operator.
//!
//! Owns: [`ConnectedStreams`], [`ConnectedKeyedStreams`], [`BroadcastConnectedStream`]. Invariant: the operator sees each
//! record with the type of its stream; between the streams there is no order but that of watermarks.
//! Left out: unions, which are streams of one type ([`super::data_stream::DataStream::union`]).

use std::marker::PhantomData;

use ringflow_dataplane::operator::Operator;
use ringflow_dataplane::operator::co::{CoFlatMap, CoMap};
use ringflow_dataplane::operator::process::{
    KeyedBroadcastProcessFunction, KeyedCoProcessFunction, KeyedProcess, TwoInputs, WithBroadcast,
};
use ringflow_dataplane::operator::stateless::Collector;
use ringflow_dataplane::record::{Record, Row, StructRecord};
use ringflow_dataplane::runtime::context::PrepareContext;

use crate::api::data_stream::{DataStream, factory};
use crate::api::key::Key;

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

    /// Sends records of both streams by keys of one type, so that they can share state.
    #[must_use]
    pub fn key_by<K: Key, KA, KB>(
        self,
        first: KA,
        second: KB,
    ) -> ConnectedKeyedStreams<A, B, K, KA, KB>
    where
        KA: for<'a> Fn(Row<'a, A>) -> K + Clone + Send + Sync + 'static,
        KB: for<'a> Fn(Row<'a, B>) -> K + Clone + Send + Sync + 'static,
    {
        self.first.key_by(first).connect(self.second.key_by(second))
    }
}

/// Two streams with keys of one type, on their way to the same operator.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct ConnectedKeyedStreams<A, B, K, KA, KB> {
    first: (DataStream<A>, KA),
    second: (DataStream<B>, KB),
    keys: PhantomData<fn() -> K>,
}

impl<A: Record, B: Record, K: Key, KA, KB> ConnectedKeyedStreams<A, B, K, KA, KB>
where
    KA: for<'a> Fn(Row<'a, A>) -> K + Clone + Send + Sync + 'static,
    KB: for<'a> Fn(Row<'a, B>) -> K + Clone + Send + Sync + 'static,
{
    pub(crate) fn new(first: (DataStream<A>, KA), second: (DataStream<B>, KB)) -> Self {
        Self {
            first,
            second,
            keys: PhantomData,
        }
    }

    /// Calls `function` with each record of both streams, with state and timers by key. Each subtask has a clone of it.
    #[must_use]
    pub fn process<O: Record, P>(self, function: P) -> DataStream<O>
    where
        P: KeyedCoProcessFunction<K, A, B, O> + Clone + Sync,
    {
        let ((first, key_a), (second, key_b)) = (self.first, self.second);
        let make = move |_: &PrepareContext| {
            let operator = KeyedProcess::<K, TwoInputs<K, A, B, O, KA, KB, P>>::two_inputs(
                key_a.clone(),
                key_b.clone(),
                function.clone(),
            );
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        first.add_two_input(second, "Co-Keyed-Process", factory(make))
    }
}

/// A keyed stream and one whose records every subtask gets, on their way to the same operator.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct BroadcastConnectedStream<R, B, K, KF> {
    keyed: (DataStream<R>, KF),
    broadcast: DataStream<B>,
    keys: PhantomData<fn() -> K>,
}

impl<R: Record, B: Record, K: Key, KF> BroadcastConnectedStream<R, B, K, KF>
where
    KF: for<'a> Fn(Row<'a, R>) -> K + Clone + Send + Sync + 'static,
{
    pub(crate) fn new(keyed: (DataStream<R>, KF), broadcast: DataStream<B>) -> Self {
        Self {
            keyed,
            broadcast,
            keys: PhantomData,
        }
    }

    /// Calls `function` with each record: those of the keyed stream read the broadcast state, those of the broadcast one write
    /// it, in every subtask. Each subtask has a clone of `function`.
    #[must_use]
    pub fn process<O: Record, P>(self, function: P) -> DataStream<O>
    where
        P: KeyedBroadcastProcessFunction<K, R, B, O> + Clone + Sync,
    {
        let (stream, key) = self.keyed;
        let make = move |_: &PrepareContext| {
            let operator = KeyedProcess::<K, WithBroadcast<K, R, B, O, KF, P>>::with_broadcast(
                key.clone(),
                function.clone(),
            );
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        let name = "Co-Process-Broadcast-Keyed";
        stream.add_two_input(self.broadcast, name, factory(make))
    }
}
