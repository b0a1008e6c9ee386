//! Window assigners.
//!
//! Owns: [`TumblingEventTimeWindows`], [`SlidingEventTimeWindows`]. Sizes are checked when the job is executed.

use std::time::Duration;

use ringflow_dataplane::operator::window::assigner::SlidingWindows;

/// What `window` takes.
pub trait WindowAssigner {
    /// The windows.
    ///
    /// # Errors
    /// Sizes that make no windows, for the user.
    fn windows(&self) -> Result<SlidingWindows, String>;
}

/// Windows of one size, one behind the other.
#[derive(Debug, Clone, Copy)]
pub struct TumblingEventTimeWindows(Duration);

impl TumblingEventTimeWindows {
    /// Windows of `size`, aligned to the epoch.
    #[must_use]
    pub const fn of(size: Duration) -> Self {
        Self(size)
    }
}

impl WindowAssigner for TumblingEventTimeWindows {
    fn windows(&self) -> Result<SlidingWindows, String> {
        SlidingWindows::new(self.0, self.0, 0)
    }
}

/// Windows of one size that start at equal distances and may overlap.
#[derive(Debug, Clone, Copy)]
pub struct SlidingEventTimeWindows(Duration, Duration);

impl SlidingEventTimeWindows {
    /// Windows of `size` that start every `slide`, aligned to the epoch.
    #[must_use]
    pub const fn of(size: Duration, slide: Duration) -> Self {
        Self(size, slide)
    }
}

impl WindowAssigner for SlidingEventTimeWindows {
    fn windows(&self) -> Result<SlidingWindows, String> {
        SlidingWindows::new(self.0, self.1, 0)
    }
}
