//! One value per key, which each new one is reduced into.
//!
//! Owns: [`ReducingState`], its descriptor and the function.
//! Invariant: the function sees the old value first.
//! Left out: storage of its own: it is a [`ValueState`] that the function writes.

use std::marker::PhantomData;
use std::sync::Arc;

use super::macros::show;
use super::store::Store;
use super::value::ValueState;
use super::{KeyedAccess, StateTtlConfig};
use crate::error::Result;
use crate::state::backend::{KeyedStateBackend, StateKind};
use crate::state::value::PlainValue;

/// How two values become one.
type ReduceFunction<T> = Arc<dyn Fn(T, T) -> T + Send + Sync>;

/// Describes [`ReducingState`].
pub struct ReducingStateDescriptor<T> {
    name: String,
    function: ReduceFunction<T>,
    ttl: Option<StateTtlConfig>,
}

/// One value per key, which each new one is reduced into.
pub struct ReducingState<T> {
    store: Store,
    function: ReduceFunction<T>,
}

impl<T: PlainValue> ReducingStateDescriptor<T> {
    /// A state of this name ([`ValueStateDescriptor::new`](super::ValueStateDescriptor::new)); `function` takes the old
    /// value and the new one.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        function: impl Fn(T, T) -> T + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            function: Arc::new(function),
            ttl: None,
        }
    }

    /// Has its values expire.
    #[must_use]
    pub fn enable_time_to_live(mut self, ttl: StateTtlConfig) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Makes the state, or finds it.
    ///
    /// # Errors
    /// As [`ValueStateDescriptor::register`](super::ValueStateDescriptor::register).
    pub fn register(&self, backend: &mut KeyedStateBackend) -> Result<ReducingState<T>> {
        Ok(ReducingState {
            store: Store::register::<T>(backend, &self.name, StateKind::Reducing, self.ttl)?,
            function: Arc::clone(&self.function),
        })
    }
}

/// Errors of all accesses are those of [`ValueState`].
impl<T: PlainValue> ReducingState<T> {
    /// What the current key's values have been reduced to.
    ///
    /// # Errors
    /// As [`ValueState::value`].
    pub fn get(&self, access: &mut KeyedAccess<'_>) -> Result<Option<T>> {
        self.as_value().value(access)
    }

    /// Reduces a value into the current key's.
    ///
    /// # Errors
    /// As [`ValueState::modify`].
    pub fn add(&self, access: &mut KeyedAccess<'_>, value: T) -> Result<()> {
        self.as_value().modify(access, |old| match old {
            Some(old) => Some((self.function)(old, value)),
            None => Some(value),
        })
    }

    /// Takes the current key's value out.
    ///
    /// # Errors
    /// As all accesses.
    pub fn clear(&self, access: &mut KeyedAccess<'_>) -> Result<()> {
        self.store.remove_value(access)
    }

    fn as_value(&self) -> ValueState<T> {
        ValueState {
            store: self.store,
            value: PhantomData,
        }
    }
}

show! {
    ReducingStateDescriptor<T> { name, ttl }
    ReducingState<T> { store }
}
