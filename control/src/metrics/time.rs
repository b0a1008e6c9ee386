//! Where the time of an attempt goes.
//!
//! Owns: [`TimeShares`], made of two successive reports of one attempt.
//! Invariant: the shares add up to 1000 ms per second, because the four times of a subtask add up to the time it has
//! lived; how long a report was on its way does not matter.
//! Left out: averages over longer than one heartbeat interval.

use std::time::Duration;

use crate::event::SubtaskCounters;

/// Milliseconds per second that a subtask spent, between its last two reports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TimeShares {
    pub(crate) busy: f64,
    pub(crate) idle: f64,
    pub(crate) backpressured: f64,
    pub(crate) spinning: f64,
}

impl TimeShares {
    /// `None` when no time was accounted in between.
    pub(crate) fn between(earlier: &SubtaskCounters, later: &SubtaskCounters) -> Option<Self> {
        let spent = |time: fn(&SubtaskCounters) -> u64| {
            Duration::from_nanos(time(later).saturating_sub(time(earlier))).as_secs_f64()
        };
        let busy = spent(|counters| counters.busy_ns);
        let idle = spent(|counters| counters.idle_ns);
        let backpressured = spent(|counters| counters.backpressured_ns);
        let spinning = spent(|counters| counters.spinning_ns);
        let total = busy + idle + backpressured + spinning;
        let share = |seconds: f64| seconds * 1000.0 / total;
        (total > 0.0).then(|| Self {
            busy: share(busy),
            idle: share(idle),
            backpressured: share(backpressured),
            spinning: share(spinning),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_last_interval_and_add_up() {
        let earlier = SubtaskCounters {
            busy_ns: 900,
            idle_ns: 100,
            ..SubtaskCounters::default()
        };
        assert_eq!(TimeShares::between(&earlier, &earlier), None);
        let later = SubtaskCounters {
            busy_ns: 1000,
            idle_ns: 300,
            backpressured_ns: 400,
            spinning_ns: 100,
            ..SubtaskCounters::default()
        };
        let shares = TimeShares::between(&earlier, &later).unwrap();
        let expected = TimeShares {
            busy: 125.0,
            idle: 250.0,
            backpressured: 500.0,
            spinning: 125.0,
        };
        for (share, expected) in [
            (shares.busy, expected.busy),
            (shares.idle, expected.idle),
            (shares.backpressured, expected.backpressured),
            (shares.spinning, expected.spinning),
        ] {
            assert!((share - expected).abs() < 1e-9, "{shares:?}");
        }
        // Whatever a TaskManager sends.
        assert_eq!(TimeShares::between(&later, &earlier), None);
    }
}
