//! Session windows: records of a key belong together while less than a gap lies between them.
//!
//! Owns: the four session assigners: in event time or processing time, with one gap or one for each record.
//! Invariant: a record's own window is from its time to a gap later; windows that touch are one, as in Flink 2.2.0 (tested).
//! Left out: merging (`merging`).

use std::time::Duration;

use crate::operator::window::TimeWindow;
use crate::operator::window::assigner::{TIME_LIMIT_MS, WindowAssigner};
use crate::record::{Record, Row};

/// Longest gap: a million years. Times and gaps below their limits add up without overflow.
const GAP_LIMIT_MS: i64 = 1 << 55;

fn gap_ms(gap: Duration) -> Result<i64, String> {
    i64::try_from(gap.as_millis())
        .ok()
        .filter(|ms| (1..GAP_LIMIT_MS).contains(ms))
        .ok_or_else(|| format!("the gap of a session must be 1 ms or more, not {gap:?}"))
}

fn push_session(time: i64, gap_ms: i64, windows: &mut Vec<TimeWindow>) {
    if time.saturating_abs() <= TIME_LIMIT_MS {
        windows.push(TimeWindow::new(time, time + gap_ms));
    }
}

macro_rules! sessions {
    ($(#[$doc:meta])* $fixed:ident, $(#[$dynamic_doc:meta])* $dynamic:ident, event time: $event_time:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $fixed(Result<i64, String>);

        impl $fixed {
            /// Sessions that end when no record has come for `gap`.
            #[must_use]
            pub fn with_gap(gap: Duration) -> Self {
                Self(gap_ms(gap))
            }

            /// Sessions whose gap `gap` reads from each record. A gap below 1 ms counts as 1 ms.
            #[must_use]
            pub const fn with_dynamic_gap<F>(gap: F) -> $dynamic<F> {
                $dynamic(gap)
            }
        }

        impl<R: Record> WindowAssigner<R> for $fixed {
            fn check(&self) -> Result<(), String> {
                self.0.clone().map(drop)
            }

            fn assign_windows(&self, row: Row<'_, R>, now_ms: i64, windows: &mut Vec<TimeWindow>) {
                let time = if $event_time { row.timestamp().0 } else { now_ms };
                if let Ok(gap_ms) = self.0 {
                    push_session(time, gap_ms, windows);
                }
            }

            fn is_event_time(&self) -> bool {
                $event_time
            }

            fn is_merging(&self) -> bool {
                true
            }

            fn fires_once_at_end(&self) -> bool {
                true
            }

            fn name(&self) -> &'static str {
                stringify!($fixed)
            }
        }

        $(#[$dynamic_doc])*
        #[derive(Clone)]
        #[allow(missing_debug_implementations, reason = "holds a closure")]
        pub struct $dynamic<F>(F);

        impl<R, F> WindowAssigner<R> for $dynamic<F>
        where
            R: Record,
            F: for<'a> Fn(Row<'a, R>) -> Duration + Send + Sync + 'static,
        {
            fn assign_windows(&self, row: Row<'_, R>, now_ms: i64, windows: &mut Vec<TimeWindow>) {
                let time = if $event_time { row.timestamp().0 } else { now_ms };
                let gap_ms = i64::try_from((self.0)(row).as_millis()).unwrap_or(GAP_LIMIT_MS);
                push_session(time, gap_ms.clamp(1, GAP_LIMIT_MS), windows);
            }

            fn is_event_time(&self) -> bool {
                $event_time
            }

            fn is_merging(&self) -> bool {
                true
            }

            fn fires_once_at_end(&self) -> bool {
                true
            }

            fn name(&self) -> &'static str {
                stringify!($dynamic)
            }
        }
    };
}

sessions! {
    /// Sessions in event time.
    EventTimeSessionWindows,
    /// Sessions in event time, each record with a gap of its own.
    DynamicEventTimeSessionWindows,
    event time: true
}
sessions! {
    /// Sessions in processing time. At the end of a bounded input they fire.
    ProcessingTimeSessionWindows,
    /// Sessions in processing time, each record with a gap of its own.
    DynamicProcessingTimeSessionWindows,
    event time: false
}
