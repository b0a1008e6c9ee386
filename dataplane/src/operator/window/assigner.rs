//! Which windows a timestamp belongs to, and how windows are cut into panes.
//!
//! Owns: [`SlidingWindows`] (tumbling windows are those whose slide is their size).
//! Invariant: windows start at `offset + k * slide`; panes start at `offset + k * pane`, where `pane` divides both size
//! and slide, so every window is a whole number of panes (agrees with the windows that Flink 2.2.0 assigns, tested).
//! Left out: session windows, which no clock aligns.

use std::time::Duration;

use crate::record::EventTime;

/// Timestamps beyond this many milliseconds from the epoch (36 million years) belong to no window.
const TIME_LIMIT_MS: i64 = 1 << 60;

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
            pane_ms: greatest_common_divisor(size_ms, slide_ms),
        })
    }

    /// Length of a window, in milliseconds.
    #[must_use]
    pub const fn size_ms(&self) -> i64 {
        self.size_ms
    }

    /// Each timestamp is in one window.
    #[must_use]
    pub const fn is_tumbling(&self) -> bool {
        self.size_ms == self.slide_ms
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

    const fn last_start(&self, pane_start: i64) -> i64 {
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
