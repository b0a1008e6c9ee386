//! Which windows a record belongs to, and how windows are cut into panes.
//!
//! Owns: [`WindowAssigner`], Flink's assigners but sessions, and [`SlidingWindows`], their arithmetic (tumbling windows are those
//! whose slide is their size).
//! Invariant: windows start at `offset + k * slide`; panes start at `offset + k * pane`, where `pane` divides both size
//! and slide, so every window is a whole number of panes; of windows that do not overlap, each is one pane (agrees with the
//! windows that Flink 2.2.0 assigns, tested).
//! Left out: session windows, which no clock aligns ([`super::session`]).

use std::time::Duration;

use crate::operator::window::TimeWindow;
use crate::operator::window::trigger::{
    EventTimeTrigger, NeverTrigger, ProcessingTimeTrigger, Trigger,
};
use crate::record::{EventTime, Record, Row};

/// Timestamps beyond this many milliseconds from the epoch (36 million years) belong to no window.
pub(crate) const TIME_LIMIT_MS: i64 = 1 << 60;

/// Says which windows a record is in. One instance serves all subtasks.
///
/// Source: Flink `WindowAssigner`.
pub trait WindowAssigner<R: Record>: Send + Sync + 'static {
    /// What is wrong with its sizes, for the user; asked when the job is built.
    ///
    /// # Errors
    /// It makes no windows.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Appends the windows of a record.
    ///
    /// Shape: `now_ms` is processing time, in milliseconds since the epoch. With event-time windows the record has a timestamp.
    fn assign_windows(&self, row: Row<'_, R>, now_ms: i64, windows: &mut Vec<TimeWindow>);

    /// Its windows are in event time.
    fn is_event_time(&self) -> bool;

    /// Windows that touch are one (sessions).
    fn is_merging(&self) -> bool {
        false
    }

    /// When its windows fire, unless another trigger is given.
    fn default_trigger(&self) -> Box<dyn Trigger<R>> {
        if self.is_event_time() {
            Box::new(EventTimeTrigger)
        } else {
            Box::new(ProcessingTimeTrigger)
        }
    }

    /// Its own trigger fires when time reaches a window's end, and does nothing else: then the operator needs no trigger.
    #[doc(hidden)]
    fn fires_once_at_end(&self) -> bool {
        false
    }

    /// Its windows, if they are aligned windows of event time.
    fn aligned(&self) -> Option<SlidingWindows> {
        None
    }

    /// Name of the operator.
    fn name(&self) -> &'static str;
}

/// Windows of equal length that start at equal distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlidingWindows {
    size_ms: i64,
    slide_ms: i64,
    offset_ms: i64,
    pane_ms: i64,
}

const fn greatest_common_divisor(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl SlidingWindows {
    /// Windows of `size` that start every `slide`, shifted by `offset` milliseconds.
    ///
    /// # Errors
    /// Sizes that are not positive whole milliseconds below a million years, or an offset not below the slide.
    pub fn new(size: Duration, slide: Duration, offset_ms: i64) -> Result<Self, String> {
        let whole = |name: &str, duration: Duration| {
            let ms = i64::try_from(duration.as_millis())
                .ok()
                .filter(|ms| (1..1 << 55).contains(ms));
            ms.ok_or_else(|| format!("a window's {name} must be 1 ms or more, not {duration:?}"))
        };
        let (size_ms, slide_ms) = (whole("size", size)?, whole("slide", slide)?);
        if offset_ms.saturating_abs() >= slide_ms {
            return Err(format!(
                "a window's offset must be less than its slide of {slide_ms} ms, not {offset_ms} ms"
            ));
        }
        Ok(Self {
            size_ms,
            slide_ms,
            offset_ms,
            pane_ms: if size_ms <= slide_ms {
                slide_ms
            } else {
                greatest_common_divisor(size_ms, slide_ms)
            },
        })
    }

    /// Length of a window, in milliseconds.
    #[must_use]
    pub const fn size_ms(&self) -> i64 {
        self.size_ms
    }

    /// From one window's start to the next one's, in milliseconds.
    #[must_use]
    pub const fn slide_ms(&self) -> i64 {
        self.slide_ms
    }

    /// No timestamp is in two windows.
    #[must_use]
    pub const fn are_disjoint(&self) -> bool {
        self.size_ms <= self.slide_ms
    }

    /// Calls `visit` with each window that holds `timestamp`, the latest first, as Flink does.
    #[inline]
    pub fn assign(&self, timestamp: i64, mut visit: impl FnMut(TimeWindow)) {
        if timestamp.saturating_abs() > TIME_LIMIT_MS {
            return;
        }
        let mut start = self.last_start(timestamp);
        while start > timestamp - self.size_ms {
            visit(TimeWindow::new(start, start + self.size_ms));
            start -= self.slide_ms;
        }
    }

    /// Start of the pane that holds `timestamp`; `None` for times out of bounds, and for gaps between windows.
    #[inline]
    #[must_use]
    pub fn pane_start(&self, timestamp: i64) -> Option<i64> {
        if timestamp.saturating_abs() > TIME_LIMIT_MS {
            return None;
        }
        let start = timestamp - (timestamp - self.offset_ms).rem_euclid(self.pane_ms);
        (self.last_end(start) > timestamp).then_some(start)
    }

    /// Start of the last window that holds a time.
    pub(super) const fn last_start(&self, pane_start: i64) -> i64 {
        pane_start - (pane_start - self.offset_ms).rem_euclid(self.slide_ms)
    }

    /// End of the last window that covers a pane.
    #[inline]
    #[must_use]
    pub const fn last_end(&self, pane_start: i64) -> i64 {
        self.last_start(pane_start) + self.size_ms
    }

    /// End of the first window that covers a pane and that `watermark` has not reached.
    #[must_use]
    pub fn first_end(&self, pane_start: i64, watermark: Option<EventTime>) -> i64 {
        let last = self.last_end(pane_start);
        // Windows that cover the pane end at last, last - slide, .., while they still reach beyond the pane's start.
        let mut back = (last - pane_start - 1) / self.slide_ms;
        if let Some(EventTime(watermark)) = watermark {
            // No pane starts below the limit, so nothing is lost by it, and the sum below cannot overflow.
            let watermark = watermark.max(-2 * TIME_LIMIT_MS);
            // Those ends still to come are above watermark + 1.
            back = back.min((last - 2 - watermark.min(last - 2)) / self.slide_ms);
        }
        last - back * self.slide_ms
    }
}

/// Flink's tumbling and sliding windows differ in whose time they are of, and in nothing else.
macro_rules! aligned {
    ($(#[$doc:meta])* $name:ident, event time: $event_time:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name(Result<SlidingWindows, String>);

        impl<R: Record> WindowAssigner<R> for $name {
            fn check(&self) -> Result<(), String> {
                self.0.clone().map(drop)
            }

            fn assign_windows(&self, row: Row<'_, R>, now_ms: i64, windows: &mut Vec<TimeWindow>) {
                let time = if $event_time { row.timestamp().0 } else { now_ms };
                if let Ok(aligned) = &self.0 {
                    aligned.assign(time, |window| windows.push(window));
                }
            }

            fn is_event_time(&self) -> bool {
                $event_time
            }

            fn fires_once_at_end(&self) -> bool {
                true
            }

            fn aligned(&self) -> Option<SlidingWindows> {
                self.0.clone().ok().filter(|_| $event_time)
            }

            fn name(&self) -> &'static str {
                stringify!($name)
            }
        }
    };
}

aligned! {
    /// Windows of one size, one behind the other, in event time.
    TumblingEventTimeWindows, event time: true
}
aligned! {
    /// Windows of one size, one behind the other, in processing time. At the end of a bounded input they fire.
    TumblingProcessingTimeWindows, event time: false
}
aligned! {
    /// Windows of one size that start at equal distances and may overlap, in event time.
    SlidingEventTimeWindows, event time: true
}
aligned! {
    /// Windows of one size that start at equal distances and may overlap, in processing time. At the end of a bounded input they
    /// fire.
    SlidingProcessingTimeWindows, event time: false
}

/// Constructors of windows without overlap.
macro_rules! of_size {
    ($($name:ident),*) => {$(
        impl $name {
            /// Windows of `size`, aligned to the epoch.
            #[must_use]
            pub fn of(size: Duration) -> Self {
                Self(SlidingWindows::new(size, size, 0))
            }

            /// Windows of `size` that start `offset_ms` milliseconds behind multiples of it; less than the size, and negative to
            /// begin earlier (UTC-8 days: -8 h).
            #[must_use]
            pub fn of_with_offset(size: Duration, offset_ms: i64) -> Self {
                Self(SlidingWindows::new(size, size, offset_ms))
            }
        }
    )*};
}
of_size!(TumblingEventTimeWindows, TumblingProcessingTimeWindows);

/// Constructors of windows that may overlap.
macro_rules! of_size_and_slide {
    ($($name:ident),*) => {$(
        impl $name {
            /// Windows of `size` that start every `slide`, aligned to the epoch.
            #[must_use]
            pub fn of(size: Duration, slide: Duration) -> Self {
                Self(SlidingWindows::new(size, slide, 0))
            }

            /// Windows of `size` that start every `slide`, `offset_ms` milliseconds behind its multiples; less than the slide.
            #[must_use]
            pub fn of_with_offset(size: Duration, slide: Duration, offset_ms: i64) -> Self {
                Self(SlidingWindows::new(size, slide, offset_ms))
            }
        }
    )*};
}
of_size_and_slide!(SlidingEventTimeWindows, SlidingProcessingTimeWindows);

/// One window for all of a key's records. It fires by a trigger only.
#[derive(Debug, Clone, Copy)]
pub struct GlobalWindows {
    at_end_of_stream: bool,
}

impl GlobalWindows {
    /// Never fires, unless a trigger is given.
    #[must_use]
    pub const fn create() -> Self {
        Self {
            at_end_of_stream: false,
        }
    }

    /// Fires when the stream ends, unless another trigger is given.
    #[must_use]
    pub const fn create_with_end_of_stream_trigger() -> Self {
        Self {
            at_end_of_stream: true,
        }
    }
}

impl<R: Record> WindowAssigner<R> for GlobalWindows {
    fn assign_windows(&self, _row: Row<'_, R>, _now_ms: i64, windows: &mut Vec<TimeWindow>) {
        windows.push(TimeWindow::GLOBAL);
    }

    fn is_event_time(&self) -> bool {
        false
    }

    fn default_trigger(&self) -> Box<dyn Trigger<R>> {
        if self.at_end_of_stream {
            // The window ends with time, which the last watermark says.
            Box::new(EventTimeTrigger)
        } else {
            Box::new(NeverTrigger)
        }
    }

    fn name(&self) -> &'static str {
        "GlobalWindows"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows_of(windows: &SlidingWindows, timestamp: i64) -> Vec<(i64, i64)> {
        let Some(pane) = windows.pane_start(timestamp) else {
            return Vec::new();
        };
        let (first, last) = (windows.first_end(pane, None), windows.last_end(pane));
        let mut found = Vec::new();
        let mut end = last;
        while end >= first {
            found.push((end - windows.size_ms, end));
            end -= windows.slide_ms;
        }
        found
    }

    #[test]
    fn agrees_with_every_fixed_window_that_flink_2_2_0_assigns() {
        let mut lines = 0;
        for line in include_str!("../../../tests/data/windows.csv")
            .lines()
            .filter(|line| !line.starts_with('#'))
        {
            let fields: Vec<&str> = line.split(',').collect();
            let number = |index: usize| fields[index].parse::<i64>().expect(line);
            let ms = |index: usize| Duration::from_millis(number(index).unsigned_abs());
            match fields[0] {
                "tumbling" => {
                    let windows = SlidingWindows::new(ms(2), ms(2), number(3)).expect(line);
                    assert_eq!(
                        windows_of(&windows, number(1)),
                        [(number(4), number(5))],
                        "{line}"
                    );
                }
                "sliding" => {
                    let windows = SlidingWindows::new(ms(2), ms(3), number(4)).expect(line);
                    let assigned = windows_of(&windows, number(1));
                    let starts = fields[5]
                        .split(' ')
                        .map(|start| start.parse::<i64>().expect(line));
                    let expected: Vec<(i64, i64)> =
                        starts.map(|start| (start, start + number(2))).collect();
                    assert_eq!(assigned, expected, "{line}");
                }
                _ => continue,
            }
            lines += 1;
        }
        assert!(lines > 20, "{lines} lines");
    }

    #[test]
    fn ends_that_the_watermark_has_passed_are_skipped() {
        let windows =
            SlidingWindows::new(Duration::from_secs(10), Duration::from_secs(2), 0).expect("legal");
        assert_eq!(windows.first_end(4_000, None), 6_000);
        assert_eq!(windows.first_end(4_000, Some(EventTime(5_998))), 6_000);
        assert_eq!(windows.first_end(4_000, Some(EventTime(5_999))), 8_000);
        assert_eq!(windows.first_end(4_000, Some(EventTime(9_999))), 12_000);
        assert_eq!(
            windows.first_end(4_000, Some(EventTime(99_999))),
            windows.last_end(4_000)
        );
    }

    #[test]
    fn times_beyond_all_bounds_are_in_no_window() {
        let windows =
            SlidingWindows::new(Duration::from_secs(10), Duration::from_secs(2), 0).expect("legal");
        assert_eq!(windows.pane_start(i64::MAX), None);
        assert_eq!(windows.pane_start(i64::MIN + 1), None);
        assert!(SlidingWindows::new(Duration::ZERO, Duration::from_secs(2), 0).is_err());
        assert!(SlidingWindows::new(Duration::from_secs(1), Duration::from_secs(2), 2000).is_err());
    }
}
