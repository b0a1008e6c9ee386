//! How fast a generator may go: as fast as it can, or at a rate, by an open loop.
//!
//! Owns: [`Pace`]. Invariant: event n of a paced source is due at start + n / rate whatever happened before it: a slow
//! consumer makes the following records late, never rarer, and their latency counts from when they were due.
//! Left out: the records.

/// The schedule of one source subtask.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Events per second of the whole source; `None`: no limit.
    rate: Option<u64>,
    start_ns: u64,
}

impl Pace {
    /// A schedule that starts at the monotonic time `start_ns`.
    #[must_use]
    pub fn new(rate: Option<u64>, start_ns: u64) -> Self {
        Self {
            rate: rate.filter(|rate| *rate > 0),
            start_ns,
        }
    }

    /// There is no limit.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.rate.is_none()
    }

    /// When event `number` of the whole source is due; at once when there is no limit.
    #[inline]
    #[must_use]
    pub fn due_ns(&self, number: u64) -> u64 {
        let Some(rate) = self.rate else {
            return self.start_ns;
        };
        let since = u128::from(number) * 1_000_000_000 / u128::from(rate);
        self.start_ns
            .saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_due_by_their_number_alone() {
        let pace = Pace::new(Some(10_000), 5);
        assert_eq!(
            (pace.due_ns(0), pace.due_ns(1), pace.due_ns(10_000)),
            (5, 100_005, 1_000_000_005)
        );
        assert!(Pace::new(None, 7).is_unlimited() && Pace::new(Some(0), 7).is_unlimited());
    }
}
