//! One accumulator per key, which values are added to and results are read from.
//!
//! Owns: [`AggregatingState`], its descriptor, and the trait that users implement ([`StateAggregate`]).
//! Invariant: what is stored is an accumulator of the aggregate that the state was registered with.
//! Left out: the accumulator's type from the handle's: a handle is known by what comes in and what comes out.

use std::sync::Arc;

use super::macros::show;
use super::store::Store;
use super::{KeyedAccess, StateTtlConfig};
use crate::error::Result;
use crate::state::backend::{KeyedStateBackend, StateKind};
use crate::state::byte_table::Change;
use crate::state::value::{Corrupt, PlainValue, decode_whole};

/// What [`AggregatingState`] does with values.
pub trait StateAggregate: Send + Sync + 'static {
    /// What comes in.
    type In;
    /// What is kept.
    type Accumulator: PlainValue;
    /// What comes out.
    type Out;

    /// An empty accumulator.
    fn create_accumulator(&self) -> Self::Accumulator;
    /// Takes one value in.
    fn add(&self, value: Self::In, accumulator: &mut Self::Accumulator);
    /// The result.
    fn result(&self, accumulator: Self::Accumulator) -> Self::Out;
}

/// [`StateAggregate`] without its accumulator's type.
trait Aggregation<In, Out>: Send + Sync {
    /// Appends the accumulator that comes of `old` and `value`.
    fn add(&self, old: Option<&[u8]>, value: In, fresh: &mut Vec<u8>) -> Result<(), Corrupt>;
    fn result(&self, accumulator: &[u8]) -> Result<Out, Corrupt>;
}

impl<A: StateAggregate> Aggregation<A::In, A::Out> for A {
    fn add(&self, old: Option<&[u8]>, value: A::In, fresh: &mut Vec<u8>) -> Result<(), Corrupt> {
        let mut accumulator = match old {
            Some(old) => decode_whole(old)?,
            None => self.create_accumulator(),
        };
        StateAggregate::add(self, value, &mut accumulator);
        accumulator.encode(fresh);
        Ok(())
    }

    fn result(&self, accumulator: &[u8]) -> Result<A::Out, Corrupt> {
        decode_whole(accumulator).map(|accumulator| StateAggregate::result(self, accumulator))
    }
}

/// Describes [`AggregatingState`].
#[derive(Debug)]
pub struct AggregatingStateDescriptor<A> {
    name: String,
    aggregate: Arc<A>,
    ttl: Option<StateTtlConfig>,
}

/// One accumulator per key, which values are added to and results are read from.
pub struct AggregatingState<In, Out> {
    store: Store,
    aggregation: Arc<dyn Aggregation<In, Out>>,
}

impl<A: StateAggregate> AggregatingStateDescriptor<A> {
    /// A state of this name ([`ValueStateDescriptor::new`](super::ValueStateDescriptor::new)).
    #[must_use]
    pub fn new(name: impl Into<String>, aggregate: A) -> Self {
        Self {
            name: name.into(),
            aggregate: Arc::new(aggregate),
            ttl: None,
        }
    }

    /// Has its accumulators expire.
    #[must_use]
    pub fn enable_time_to_live(mut self, ttl: StateTtlConfig) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Makes the state, or finds it.
    ///
    /// # Errors
    /// As [`ValueStateDescriptor::register`](super::ValueStateDescriptor::register).
    pub fn register(
        &self,
        backend: &mut KeyedStateBackend,
    ) -> Result<AggregatingState<A::In, A::Out>> {
        let kind = StateKind::Aggregating;
        let store = Store::register::<A::Accumulator>(backend, &self.name, kind, self.ttl)?;
        let aggregation: Arc<A> = Arc::clone(&self.aggregate);
        Ok(AggregatingState { store, aggregation })
    }
}

/// Errors of all accesses are those of [`ValueState`](super::ValueState).
impl<In, Out> AggregatingState<In, Out> {
    /// The result for the current key, if a value was added.
    ///
    /// # Errors
    /// As [`ValueState::value`](super::ValueState::value).
    pub fn get(&self, access: &mut KeyedAccess<'_>) -> Result<Option<Out>> {
        match self.store.value(access)? {
            Some(stored) => {
                let accumulator = self.store.strip(stored)?;
                Ok(Some(self.aggregation.result(accumulator)?))
            }
            None => Ok(None),
        }
    }

    /// Adds a value to the current key's accumulator.
    ///
    /// # Errors
    /// As [`ValueState::modify`](super::ValueState::modify).
    pub fn add(&self, access: &mut KeyedAccess<'_>, value: In) -> Result<()> {
        self.store.change_value(access, |old, fresh| {
            self.aggregation.add(old, value, fresh)?;
            Ok(Change::Put)
        })
    }

    /// Takes the current key's accumulator out.
    ///
    /// # Errors
    /// As all accesses.
    pub fn clear(&self, access: &mut KeyedAccess<'_>) -> Result<()> {
        self.store.remove_value(access)
    }
}

show! {
    AggregatingState<In, Out> { store }
}
