//! How fast a generator may go: as fast as it can, or at a rate, by an open loop.
//!
//! Owns: [`Pace`] and [`DueTimes`]. Invariant: event n of a paced source is due at start + n / rate whatever happened before
//! it: a slow consumer makes the following records late, never rarer, and their latency counts from when they were due.
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

/// When every `step`-th event is due, one after the other: [`Pace::due_ns`] without its division.
#[derive(Debug, Clone, Copy)]
pub struct DueTimes {
    due_ns: u64,
    /// What due_ns lacks, in 1 / rate ns.
    remainder: u64,
    step_ns: u64,
    step_remainder: u64,
    /// 1 where there is no limit: all steps are 0 then.
    rate: u64,
}

impl DueTimes {
    /// The due times of events `number`, `number + step`, `number + 2 * step` and so on.
    #[must_use]
    pub fn new(pace: &Pace, number: u64, step: u64) -> Self {
        let rate = pace.rate.unwrap_or(1);
        let of = |events: u64| {
            let since = if pace.is_unlimited() {
                0
            } else {
                u128::from(events) * 1_000_000_000
            };
            let whole = u64::try_from(since / u128::from(rate)).unwrap_or(u64::MAX);
            let remainder = u64::try_from(since % u128::from(rate)).unwrap_or(0);
            (whole, remainder)
        };
        let ((since_ns, remainder), (step_ns, step_remainder)) = (of(number), of(step));
        Self {
            due_ns: pace.start_ns.saturating_add(since_ns),
            remainder,
            step_ns,
            step_remainder,
            rate,
        }
    }

    /// When the event at hand is due.
    #[inline]
    #[must_use]
    pub fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// Goes on to the next event.
    #[inline]
    pub fn advance(&mut self) {
        self.due_ns = self.due_ns.saturating_add(self.step_ns);
        // Both are below rate; their sum may not fit when rate is above 2^63.
        let room = self.rate - self.remainder;
        if self.step_remainder >= room {
            self.due_ns = self.due_ns.saturating_add(1);
            self.remainder = self.step_remainder - room;
        } else {
            self.remainder += self.step_remainder;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn due_times_are_those_of_the_pace(
            rate in prop_oneof![Just(None), (1u64..100).prop_map(Some), any::<u64>().prop_map(Some)],
            start_ns in 0u64..1 << 60,
            number in 0u64..1 << 40,
            step in 1u64..64,
        ) {
            let pace = Pace::new(rate, start_ns);
            let mut times = DueTimes::new(&pace, number, step);
            for n in 0..100 {
                prop_assert_eq!(times.due_ns(), pace.due_ns(number + n * step));
                times.advance();
            }
        }
    }

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
