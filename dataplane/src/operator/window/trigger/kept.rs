//! What triggers keep of a window.
//!
//! Owns: [`Kept`]. Invariant: the handle is there after `open`. Left out: merging windows, which is each trigger's to say.

use crate::error::Result;
use crate::state::backend::KeyedStateBackend;
use crate::state::handles::{ValueState, ValueStateDescriptor};
use crate::state::value::PlainValue;

use super::TriggerContext;

/// A value per key and window that a trigger keeps.
#[derive(Debug)]
pub(super) struct Kept<T> {
    name: &'static str,
    state: Option<ValueState<T>>,
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Kept<T> {}

impl<T> Kept<T> {
    pub(super) const fn new(name: &'static str) -> Self {
        Self { name, state: None }
    }

    pub(super) fn handle(self) -> ValueState<T> {
        self.state
            .expect("`open` is the first call and makes the handle")
    }
}

impl<T: PlainValue> Kept<T> {
    pub(super) fn open(&mut self, state: &mut KeyedStateBackend) -> Result<()> {
        self.state = Some(ValueStateDescriptor::new(self.name).register(state)?);
        Ok(())
    }

    pub(super) fn get(self, context: &mut TriggerContext<'_>) -> Result<Option<T>> {
        context.with_state(|access| self.handle().value(access))
    }

    pub(super) fn put(self, context: &mut TriggerContext<'_>, value: &T) -> Result<()> {
        context.with_state(|access| self.handle().update(access, value))
    }

    pub(super) fn clear(self, context: &mut TriggerContext<'_>) -> Result<()> {
        context.with_state(|access| self.handle().clear(access))
    }
}
