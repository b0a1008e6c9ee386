//! Which records of a window its function gets to see.
//!
//! Owns: [`Evictor`], [`EvictableElements`] and Flink's evictors. A window with an evictor keeps all of its records.
//! Invariant: what an evictor takes out is out of the window, for later firings too; the others keep their order.
//!
//! Source: Flink `Evictor` and its subclasses.

use std::marker::PhantomData;
use std::time::Duration;

use crate::operator::window::TimeWindow;
use crate::operator::window::function::{ElementBuffer, WindowElements};
use crate::record::{EventTime, Record, Row};

/// The records of a window that fires, to take some out.
#[derive(Debug)]
pub struct EvictableElements<'a, R> {
    buffer: &'a mut ElementBuffer,
    evicted: &'a mut bool,
    record: PhantomData<fn() -> R>,
}

impl<'a, R: Record> EvictableElements<'a, R> {
    /// The buffer holds rows of `R`.
    pub(crate) fn new(buffer: &'a mut ElementBuffer, evicted: &'a mut bool) -> Self {
        Self {
            buffer,
            evicted,
            record: PhantomData,
        }
    }

    /// What is there.
    #[must_use]
    pub fn elements(&self) -> WindowElements<'_, R> {
        self.buffer.elements()
    }

    /// Takes out the records for which `keep` is not true; it also gets their positions.
    pub fn retain(&mut self, keep: impl FnMut(usize, Row<'_, R>) -> bool) {
        *self.evicted |= self.buffer.retain(keep);
    }
}

/// What an evictor knows beside the records.
#[derive(Debug, Clone, Copy)]
pub struct EvictorContext {
    /// The window that fires.
    pub window: TimeWindow,
    /// The watermark, once there is one.
    pub watermark: Option<EventTime>,
    /// Processing time, in milliseconds since the epoch.
    pub now_ms: i64,
}

/// Takes records out of a window when it fires.
pub trait Evictor<R: Record>: Send + 'static {
    /// Before the window function.
    fn evict_before(&mut self, elements: &mut EvictableElements<'_, R>, context: EvictorContext);

    /// After the window function.
    fn evict_after(&mut self, elements: &mut EvictableElements<'_, R>, context: EvictorContext);
}

/// Evicts before or after the window function, as `after` says.
macro_rules! evicts {
    () => {
        fn evict_before(&mut self, elements: &mut EvictableElements<'_, R>, _: EvictorContext) {
            if !self.after {
                self.evict(elements);
            }
        }

        fn evict_after(&mut self, elements: &mut EvictableElements<'_, R>, _: EvictorContext) {
            if self.after {
                self.evict(elements);
            }
        }
    };
}

/// Keeps the last so many records.
#[derive(Debug, Clone, Copy)]
pub struct CountEvictor {
    max_count: usize,
    after: bool,
}

impl CountEvictor {
    /// Keeps `max_count`; evicts before the window function.
    #[must_use]
    pub const fn of(max_count: usize) -> Self {
        Self {
            max_count,
            after: false,
        }
    }

    /// Evicts after the window function instead.
    #[must_use]
    pub const fn after(mut self) -> Self {
        self.after = true;
        self
    }

    fn evict<R: Record>(self, elements: &mut EvictableElements<'_, R>) {
        let excess = elements.elements().len().saturating_sub(self.max_count);
        if excess > 0 {
            elements.retain(|index, _| index >= excess);
        }
    }
}

/// Keeps the records of the last so much time before the newest one. Records without timestamps stay.
#[derive(Debug, Clone, Copy)]
pub struct TimeEvictor {
    size_ms: i64,
    after: bool,
}

impl TimeEvictor {
    /// Keeps records that are less than `size` older than the newest one; evicts before the window function.
    #[must_use]
    pub fn of(size: Duration) -> Self {
        Self {
            size_ms: i64::try_from(size.as_millis()).unwrap_or(i64::MAX),
            after: false,
        }
    }

    /// Evicts after the window function instead.
    #[must_use]
    pub const fn after(mut self) -> Self {
        self.after = true;
        self
    }

    fn evict<R: Record>(self, elements: &mut EvictableElements<'_, R>) {
        let newest = elements.elements().iter().map(|row| row.timestamp()).max();
        let Some(EventTime(newest)) = newest.filter(|time| *time != EventTime::NONE) else {
            return;
        };
        let cut = newest.saturating_sub(self.size_ms);
        elements.retain(|_, row| row.timestamp() == EventTime::NONE || row.timestamp().0 > cut);
    }
}

/// Keeps the records that differ from the last one by less than a threshold.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds a closure")]
pub struct DeltaEvictor<F> {
    threshold: f64,
    delta: F,
    after: bool,
}

impl<F> DeltaEvictor<F> {
    /// `delta` says how far a record is from the last one; evicts before the window function.
    #[must_use]
    pub const fn of(threshold: f64, delta: F) -> Self {
        Self {
            threshold,
            delta,
            after: false,
        }
    }

    /// Evicts after the window function instead.
    #[must_use]
    pub fn after(mut self) -> Self {
        self.after = true;
        self
    }

    fn evict<R: Record>(&self, elements: &mut EvictableElements<'_, R>)
    where
        F: for<'a, 'b> Fn(Row<'a, R>, Row<'b, R>) -> f64,
    {
        let all = elements.elements();
        let Some(last) = all.iter().next_back() else {
            return;
        };
        let goes: Vec<bool> = all
            .iter()
            .map(|row| (self.delta)(row, last) >= self.threshold)
            .collect();
        elements.retain(|index, _| !goes[index]);
    }
}

impl<R: Record> Evictor<R> for CountEvictor {
    evicts!();
}

impl<R: Record> Evictor<R> for TimeEvictor {
    evicts!();
}

impl<R, F> Evictor<R> for DeltaEvictor<F>
where
    R: Record,
    F: for<'a, 'b> Fn(Row<'a, R>, Row<'b, R>) -> f64 + Send + 'static,
{
    evicts!();
}
