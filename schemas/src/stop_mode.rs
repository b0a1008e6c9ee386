//! How a job that is stopped in good order, or a stream of it, comes to its end.
//!
//! Owns: [`StopMode`], which both planes and the streams between subtasks speak of.

/// How a stream comes to its end.
///
/// Source: Flink `StopMode`, carried by `EndOfData`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StopMode {
    /// Cut off while more would have come: event time does not end, what is open stays open, and nothing fires.
    NoDrain,
    /// Complete: the input was bounded, or the job is stopped for good. Event time ends before the stream does, so
    /// windows and timers have fired.
    Drain,
}

impl StopMode {
    /// By the flag that users and messages have.
    #[must_use]
    pub fn of(drain: bool) -> Self {
        if drain { Self::Drain } else { Self::NoDrain }
    }

    /// As that flag.
    #[must_use]
    pub fn drains(self) -> bool {
        self == Self::Drain
    }

    /// Of several inputs: complete only if all are.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.min(other)
    }

    /// Behind "stopped", for messages.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::NoDrain => "without a drain",
            Self::Drain => "with a drain",
        }
    }
}
