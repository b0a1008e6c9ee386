//! How long a TaskManager waits for a word of its JobManager.
//!
//! Owns: [`Patience`], pure: times come in. Invariant: silence counts only while this process could have listened; the
//! time by which its own look comes too late (a stopped process, a starved or migrated host) is nobody's silence, as the
//! JobManager's engine holds it for its own.
//! Left out: what to do about it.

use std::time::Duration;

use tokio::time::Instant;

/// Watches over one session with the JobManager.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    heard: Instant,
    /// When this process was last seen to run: it heard something, or looked.
    awake: Instant,
    /// How often [`Self::look`] is called when all is well.
    period: Duration,
    silence: Duration,
}

impl Patience {
    /// Starts at `now`: looks every `period` whether it has been silent for more than `silence`.
    pub(super) fn new(now: Instant, period: Duration, silence: Duration) -> Self {
        Self {
            heard: now,
            awake: now,
            period,
            silence,
        }
    }

    /// The JobManager said something.
    pub(super) fn on_heard(&mut self, now: Instant) {
        (self.heard, self.awake) = (now, now);
    }

    /// For how long it has been silent, if that is too long.
    pub(super) fn look(&mut self, now: Instant) -> Option<Duration> {
        let stood_still = (now - self.awake).saturating_sub(self.period);
        self.awake = now;
        self.heard += stood_still;
        let silent = now - self.heard;
        (silent > self.silence).then_some(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(1);
    const SILENCE: Duration = Duration::from_secs(5);

    /// Looks every period for so many periods.
    fn looks(patience: &mut Patience, now: &mut Instant, periods: u32) -> Option<Duration> {
        (0..periods).find_map(|_| {
            *now += PERIOD;
            patience.look(*now)
        })
    }

    #[test]
    fn a_silent_job_manager_is_lost_and_one_that_answers_is_not() {
        let mut now = Instant::now();
        let mut patience = Patience::new(now, PERIOD, SILENCE);
        for _ in 0..20 {
            assert_eq!(looks(&mut patience, &mut now, 5), None);
            patience.on_heard(now);
        }
        assert_eq!(looks(&mut patience, &mut now, 5), None);
        let silent = looks(&mut patience, &mut now, 1);
        assert_eq!(silent, Some(6 * PERIOD));
    }

    #[test]
    fn a_pause_of_its_own_is_not_the_job_managers_silence() {
        let mut now = Instant::now();
        let mut patience = Patience::new(now, PERIOD, SILENCE);
        assert_eq!(looks(&mut patience, &mut now, 3), None);
        now += 60 * PERIOD;
        assert_eq!(looks(&mut patience, &mut now, 1), None);
        // 4 of 5 s are used up; what was left before the pause is left after it, and no more.
        assert_eq!(looks(&mut patience, &mut now, 1), None);
        assert_eq!(looks(&mut patience, &mut now, 1), Some(6 * PERIOD));
    }

    #[test]
    fn a_pause_before_the_last_word_does_not_count_after_it() {
        let mut now = Instant::now();
        let mut patience = Patience::new(now, PERIOD, SILENCE);
        now += 60 * PERIOD;
        patience.on_heard(now);
        assert_eq!(looks(&mut patience, &mut now, 5), None);
        assert_eq!(looks(&mut patience, &mut now, 1), Some(6 * PERIOD));
    }
}
