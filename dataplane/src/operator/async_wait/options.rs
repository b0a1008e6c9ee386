//! What a program may say about an async operator.
//!
//! Owns: [`AsyncOptions`], [`AsyncRetryStrategy`]. Invariant: [`AsyncOptions::check`] has passed before an operator is
//! built of them. Left out: who waits ([`super::caller`]).

use std::time::Duration;

use crate::limits::{ASYNC_CAPACITY, ASYNC_CAPACITY_MAX};

/// How async I/O waits: a timeout, which has no default, a capacity of 100 and no retries unless set.
///
/// ```
/// use std::time::Duration;
/// use ringflow_dataplane::operator::async_wait::{AsyncOptions, AsyncRetryStrategy};
///
/// let retry = AsyncRetryStrategy::fixed_delay(3, Duration::from_millis(10));
/// let options = AsyncOptions::timeout(Duration::from_secs(1)).capacity(1_000).retry(retry);
/// assert!(options.check().is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AsyncOptions {
    pub(super) timeout: Duration,
    pub(super) capacity: usize,
    pub(super) retry: AsyncRetryStrategy,
}

impl AsyncOptions {
    /// A record's results must be there after `timeout`, retries and their delays included; more than zero.
    #[must_use]
    pub const fn timeout(timeout: Duration) -> Self {
        Self {
            timeout,
            capacity: ASYNC_CAPACITY,
            retry: AsyncRetryStrategy::none(),
        }
    }

    /// Records of one subtask that may be on their way at a time, 1 to 65 536: also those whose results wait for their
    /// turn to leave. Then the subtask takes no more.
    #[must_use]
    pub const fn capacity(mut self, records: usize) -> Self {
        self.capacity = records;
        self
    }

    /// What to do when the function fails.
    #[must_use]
    pub const fn retry(mut self, strategy: AsyncRetryStrategy) -> Self {
        self.retry = strategy;
        self
    }

    /// Whether an operator can be built of these.
    ///
    /// # Errors
    /// What is wrong, and what is right.
    pub fn check(&self) -> Result<(), String> {
        let Self {
            timeout,
            capacity,
            retry,
        } = self;
        if timeout.is_zero() {
            return Err("a timeout of 0s fails every record: it must be longer".to_owned());
        }
        if !(1..=ASYNC_CAPACITY_MAX).contains(capacity) {
            return Err(format!(
                "a capacity of {capacity} records: it must be 1 to {ASYNC_CAPACITY_MAX}"
            ));
        }
        if !(retry.multiplier >= 1.0 && retry.multiplier.is_finite()) {
            return Err(format!(
                "a retry multiplier of {}: it must be a number from 1 on",
                retry.multiplier
            ));
        }
        if retry.delay_max < retry.delay {
            return Err(format!(
                "a greatest retry delay of {:?} is shorter than the first one of {:?}",
                retry.delay_max, retry.delay
            ));
        }
        Ok(())
    }
}

/// When an async function that failed is called again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AsyncRetryStrategy {
    attempts_max: u32,
    delay: Duration,
    delay_max: Duration,
    multiplier: f64,
    empty_results: bool,
}

impl AsyncRetryStrategy {
    /// Never.
    #[must_use]
    pub const fn none() -> Self {
        Self::fixed_delay(0, Duration::ZERO)
    }

    /// After `delay`, `max_attempts` times at most, as Flink counts: the first call is none of them.
    #[must_use]
    pub const fn fixed_delay(max_attempts: u32, delay: Duration) -> Self {
        Self::exponential_backoff(max_attempts, delay, delay, 1.0)
    }

    /// After `initial` the first time, then after `multiplier` times the delay before, up to `max`; `max_attempts`
    /// times at most.
    #[must_use]
    pub const fn exponential_backoff(
        max_attempts: u32,
        initial: Duration,
        max: Duration,
        multiplier: f64,
    ) -> Self {
        Self {
            attempts_max: max_attempts,
            delay: initial,
            delay_max: max,
            multiplier,
            empty_results: false,
        }
    }

    /// A call that gives no results has failed too. When the last one gives none, so does the record.
    #[must_use]
    pub const fn retry_empty_results(mut self) -> Self {
        self.empty_results = true;
        self
    }

    pub(super) const fn retries_empty_results(&self) -> bool {
        self.empty_results
    }

    /// How long to wait after so many failed calls; `None`: no more calls.
    pub(super) fn delay_after(&self, calls: u32) -> Option<Duration> {
        if calls > self.attempts_max {
            return None;
        }
        if self.delay.is_zero() {
            // Times a power that has become infinite it would be no number.
            return Some(Duration::ZERO);
        }
        let power = i32::try_from(calls.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.delay.as_secs_f64() * self.multiplier.powi(power);
        let delay = Duration::try_from_secs_f64(seconds).unwrap_or(self.delay_max);
        Some(delay.min(self.delay_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn delays(strategy: AsyncRetryStrategy) -> Vec<Duration> {
        (1..)
            .map_while(|calls| strategy.delay_after(calls))
            .collect()
    }

    #[test]
    fn delays_stay_the_same_or_grow_to_their_maximum() {
        assert_eq!(delays(AsyncRetryStrategy::none()), []);
        assert_eq!(
            delays(AsyncRetryStrategy::fixed_delay(3, 5 * MS)),
            [5 * MS; 3]
        );
        let growing = AsyncRetryStrategy::exponential_backoff(5, 10 * MS, 60 * MS, 2.0);
        assert_eq!(
            delays(growing),
            [10 * MS, 20 * MS, 40 * MS, 60 * MS, 60 * MS]
        );
    }

    #[test]
    fn late_delays_do_not_overflow() {
        let day = Duration::from_secs(86_400);
        let endless = AsyncRetryStrategy::exponential_backoff(u32::MAX, MS, day, 1e300);
        assert_eq!(endless.delay_after(u32::MAX), Some(day));
        let at_once = AsyncRetryStrategy::exponential_backoff(u32::MAX, Duration::ZERO, day, 2.0);
        assert_eq!(at_once.delay_after(3), Some(Duration::ZERO));
        assert_eq!(at_once.delay_after(u32::MAX), Some(Duration::ZERO));
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_would() {
        let good = AsyncOptions::timeout(MS);
        assert_eq!(good.check(), Ok(()));
        let backoff = |first, max, multiplier| {
            good.retry(AsyncRetryStrategy::exponential_backoff(
                1, first, max, multiplier,
            ))
        };
        let wrong = [
            (AsyncOptions::timeout(Duration::ZERO), "timeout of 0s"),
            (good.capacity(0), "must be 1 to 65536"),
            (good.capacity(65_537), "must be 1 to 65536"),
            (backoff(MS, MS, 0.5), "multiplier of 0.5"),
            (backoff(MS, MS, f64::NAN), "multiplier of NaN"),
            (
                backoff(2 * MS, MS, 2.0),
                "shorter than the first one of 2ms",
            ),
        ];
        for (options, expected) in wrong {
            let why = options.check().expect_err("refused");
            assert!(why.contains(expected), "{why}");
        }
    }
}
