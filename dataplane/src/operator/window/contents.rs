//! What a window keeps of its records.
//!
//! Owns: [`Contents`], [`Accumulated`] (one accumulator) and [`Listed`] (every record).
//! Invariant: what is kept is in keyed state, under the window as namespace; nothing of a window is outside it between calls.
//! Left out: which windows there are, and when they go ([`super::operator`]).

use std::marker::PhantomData;

use crate::error::Result;
use crate::operator::window::AggregateFunction;
use crate::operator::window::evictor::{EvictableElements, Evictor, EvictorContext};
use crate::operator::window::function::{
    Aggregated, ElementBuffer, Elements, WindowElements, WindowInput,
};
use crate::record::{Record, Row};
use crate::state::backend::KeyedStateBackend;
use crate::state::handles::{
    KeyedAccess, ListState, ListStateDescriptor, ValueState, ValueStateDescriptor,
};
use crate::state::value::{RecordOf, Stored};

/// Name of the state that holds contents.
const CONTENTS: &str = "ringflow.window.contents";

/// Keeps the records of windows, or what they come to.
pub trait Contents<R: Record>: Send {
    /// What a window function is given.
    type Input: WindowInput;

    /// First call.
    ///
    /// # Errors
    /// The state's name is taken.
    fn open(&mut self, state: &mut KeyedStateBackend) -> Result<()>;

    /// Puts a record into a window; says whether it is the first.
    ///
    /// # Errors
    /// Those of state.
    fn add(&mut self, access: &mut KeyedAccess<'_>, row: Row<'_, R>) -> Result<bool>;

    /// Moves what is in the window `from` into the one of `access`.
    ///
    /// # Errors
    /// Those of state.
    fn merge(&mut self, access: &mut KeyedAccess<'_>, from: &[u8]) -> Result<()>;

    /// Takes out what is in a window.
    ///
    /// # Errors
    /// Those of state.
    fn clear(&mut self, access: &mut KeyedAccess<'_>) -> Result<()>;

    /// Reads what is in a window that fires; says whether there is anything.
    ///
    /// # Errors
    /// Those of state.
    fn load(&mut self, access: &mut KeyedAccess<'_>, context: EvictorContext) -> Result<bool>;

    /// What [`Contents::load`] has read; asked once.
    fn loaded(&mut self) -> <Self::Input as WindowInput>::Of<'_>;

    /// The window has fired.
    ///
    /// # Errors
    /// Those of state.
    fn fired(&mut self, access: &mut KeyedAccess<'_>, context: EvictorContext) -> Result<()>;
}

/// Keeps an accumulator.
#[allow(missing_debug_implementations, reason = "holds user code")]
pub struct Accumulated<R: Record, A: AggregateFunction<R>> {
    aggregate: A,
    state: Option<ValueState<A::Accumulator>>,
    loaded: Option<A::Accumulator>,
    records: PhantomData<fn() -> R>,
}

impl<R: Record, A: AggregateFunction<R>> Accumulated<R, A> {
    /// Accumulators of `aggregate`.
    #[must_use]
    pub const fn new(aggregate: A) -> Self {
        Self {
            aggregate,
            state: None,
            loaded: None,
            records: PhantomData,
        }
    }

    fn state(&self) -> ValueState<A::Accumulator> {
        self.state
            .expect("`open` is the first call and makes the handle")
    }
}

impl<R: Record, A: AggregateFunction<R>> Contents<R> for Accumulated<R, A>
where
    A::Output: 'static,
{
    type Input = Aggregated<A::Output>;

    fn open(&mut self, state: &mut KeyedStateBackend) -> Result<()> {
        self.state = Some(ValueStateDescriptor::new(CONTENTS).register(state)?);
        Ok(())
    }

    #[inline]
    fn add(&mut self, access: &mut KeyedAccess<'_>, row: Row<'_, R>) -> Result<bool> {
        let (mut first, aggregate) = (false, &self.aggregate);
        self.state().modify(access, |accumulator| {
            let mut accumulator = accumulator.unwrap_or_else(|| {
                first = true;
                aggregate.create_accumulator()
            });
            aggregate.add(row, &mut accumulator);
            Some(accumulator)
        })?;
        Ok(first)
    }

    fn merge(&mut self, access: &mut KeyedAccess<'_>, from: &[u8]) -> Result<()> {
        let (state, aggregate) = (self.state(), &self.aggregate);
        let mut source = access.in_namespace(from);
        let Some(other) = state.value(&mut source)? else {
            return Ok(());
        };
        state.clear(&mut source)?;
        state.modify(access, |accumulator| match accumulator {
            Some(mut into) => {
                aggregate.merge(&mut into, &other);
                Some(into)
            }
            None => Some(other),
        })
    }

    fn clear(&mut self, access: &mut KeyedAccess<'_>) -> Result<()> {
        self.state().clear(access)
    }

    fn load(&mut self, access: &mut KeyedAccess<'_>, _context: EvictorContext) -> Result<bool> {
        self.loaded = self.state().value(access)?;
        Ok(self.loaded.is_some())
    }

    fn loaded(&mut self) -> A::Output {
        let accumulator = self.loaded.take();
        self.aggregate
            .result(accumulator.expect("asked once, when there was something to load"))
    }

    fn fired(&mut self, _access: &mut KeyedAccess<'_>, _context: EvictorContext) -> Result<()> {
        Ok(())
    }
}

/// Keeps every record, for functions and evictors that want to see them.
#[allow(missing_debug_implementations, reason = "holds user code")]
pub struct Listed<R> {
    state: Option<ListState<Stored<R>>>,
    evictor: Option<Box<dyn Evictor<R>>>,
    buffer: ElementBuffer,
    evicted: bool,
}

impl<R: Record> Listed<R> {
    /// Records that `evictor` may take out when a window fires.
    #[must_use]
    pub fn new(evictor: Option<Box<dyn Evictor<R>>>) -> Self {
        Self {
            state: None,
            evictor,
            buffer: ElementBuffer::default(),
            evicted: false,
        }
    }

    fn state(&self) -> ListState<Stored<R>> {
        self.state
            .expect("`open` is the first call and makes the handle")
    }

    fn read(&mut self, access: &mut KeyedAccess<'_>) -> Result<()> {
        let (state, buffer) = (self.state(), &mut self.buffer);
        buffer.clear();
        state.for_each(access, |row| {
            buffer.push(row);
            Ok(())
        })
    }

    fn write(&mut self, access: &mut KeyedAccess<'_>) -> Result<()> {
        let state = self.state();
        for row in self.buffer.elements::<R>().iter() {
            state.add(access, &RecordOf::from(row))?;
        }
        Ok(())
    }
}

impl<R: Record> Contents<R> for Listed<R> {
    type Input = Elements<R>;

    fn open(&mut self, state: &mut KeyedStateBackend) -> Result<()> {
        self.state = Some(ListStateDescriptor::new(CONTENTS).register(state)?);
        Ok(())
    }

    fn add(&mut self, access: &mut KeyedAccess<'_>, row: Row<'_, R>) -> Result<bool> {
        let first = self.state().is_empty(access)?;
        self.state().add(access, &RecordOf::from(row))?;
        Ok(first)
    }

    fn merge(&mut self, access: &mut KeyedAccess<'_>, from: &[u8]) -> Result<()> {
        let mut source = access.in_namespace(from);
        self.read(&mut source)?;
        self.state().clear(&mut source)?;
        self.write(access)
    }

    fn clear(&mut self, access: &mut KeyedAccess<'_>) -> Result<()> {
        self.state().clear(access)
    }

    fn load(&mut self, access: &mut KeyedAccess<'_>, context: EvictorContext) -> Result<bool> {
        self.read(access)?;
        self.evicted = false;
        if self.buffer.elements::<R>().is_empty() {
            return Ok(false);
        }
        if let Some(evictor) = &mut self.evictor {
            let mut elements = EvictableElements::new(&mut self.buffer, &mut self.evicted);
            evictor.evict_before(&mut elements, context);
        }
        Ok(true)
    }

    fn loaded(&mut self) -> WindowElements<'_, R> {
        self.buffer.elements()
    }

    fn fired(&mut self, access: &mut KeyedAccess<'_>, context: EvictorContext) -> Result<()> {
        if let Some(evictor) = &mut self.evictor {
            let mut elements = EvictableElements::new(&mut self.buffer, &mut self.evicted);
            evictor.evict_after(&mut elements, context);
        }
        if self.evicted {
            self.clear(access)?;
            self.write(access)?;
        }
        Ok(())
    }
}
