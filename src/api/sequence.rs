//! A bounded source of numbers, for trying things out.
//!
//! Owns: [`SequenceSource`] of [`Number`]. Invariant: subtask i of p gives every p-th number, from i on.

use std::sync::Arc;

use ringflow_dataplane::record::{EventTime, StructRecord};
use ringflow_dataplane::source::SourceFactory;

use crate::api::data_stream::Source;
use crate::api::generator::{Making, Numbered};

/// One number: 8 bytes, little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Number(pub [u8; 8]);

impl Number {
    /// A record of `value`.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value.to_le_bytes())
    }

    /// The number.
    #[must_use]
    pub const fn value(&self) -> u64 {
        u64::from_le_bytes(self.0)
    }
}

impl Default for Number {
    fn default() -> Self {
        Self::new(0)
    }
}

crate::struct_record!(Number);

/// The numbers `0..count`; the event time of number n is n milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct SequenceSource {
    count: u64,
    rate: Option<u64>,
}

impl SequenceSource {
    /// The numbers `0..count`.
    #[must_use]
    pub const fn new(count: u64) -> Self {
        Self { count, rate: None }
    }

    /// So many numbers per second of wall time, from all subtasks together; at least 1.
    #[must_use]
    pub const fn rate(mut self, per_second: u64) -> Self {
        self.rate = Some(if per_second == 0 { 1 } else { per_second });
        self
    }
}

impl Source for SequenceSource {
    type Record = Number;

    fn factory(&self) -> Arc<dyn SourceFactory> {
        Arc::new(Numbered {
            count: self.count,
            rate: self.rate,
            make: Arc::new(|number, making: &mut Making| {
                making.plain(Number::new(number).as_bytes());
                EventTime(i64::try_from(number).unwrap_or(i64::MAX))
            }),
        })
    }
}
