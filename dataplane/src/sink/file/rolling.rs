//! When a part file is complete.
//!
//! Owns: [`RollingPolicy`] and what it looks at ([`PartAge`]). Invariant: a file that is due has been open or untouched
//! for at least its interval; one that is not empty is always due at some time.
//! Left out: who looks, and at which clock ([`super::buckets`]).

use std::time::Duration;

/// When a file is finished, and the next row of its bucket begins another one: whichever comes first.
///
/// Source: Flink `DefaultRollingPolicy`, with its defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollingPolicy {
    max_part_size: u64,
    rollover_interval: Duration,
    inactivity_interval: Duration,
}

impl Default for RollingPolicy {
    fn default() -> Self {
        Self {
            max_part_size: 128 << 20,
            rollover_interval: Duration::from_secs(60),
            inactivity_interval: Duration::from_secs(60),
        }
    }
}

impl RollingPolicy {
    /// Rolls a file that has reached so many bytes; 128 MiB by default. Rows are written in blocks, so a file may be
    /// larger by one block (as large as the file may be, 64 KiB at most, and a row).
    #[must_use]
    pub const fn with_max_part_size(mut self, bytes: u64) -> Self {
        self.max_part_size = bytes;
        self
    }

    /// Rolls a file that has been open for so long; 60 s by default.
    #[must_use]
    pub const fn with_rollover_interval(mut self, interval: Duration) -> Self {
        self.rollover_interval = interval;
        self
    }

    /// Rolls a file to which nothing was written for so long; 60 s by default.
    #[must_use]
    pub const fn with_inactivity_interval(mut self, interval: Duration) -> Self {
        self.inactivity_interval = interval;
        self
    }

    pub(super) const fn max_part_size(&self) -> u64 {
        self.max_part_size
    }

    pub(super) const fn is_full(&self, part: &PartAge) -> bool {
        part.bytes >= self.max_part_size
    }

    /// When it is due by time.
    pub(super) fn due_ns(&self, part: &PartAge) -> u64 {
        let behind = |ns: u64, interval: Duration| {
            ns.saturating_add(u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX))
        };
        behind(part.opened_ns, self.rollover_interval)
            .min(behind(part.written_ns, self.inactivity_interval))
    }
}

/// What a policy knows of a file, in monotonic time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartAge {
    pub(super) bytes: u64,
    pub(super) opened_ns: u64,
    pub(super) written_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_due_by_whichever_interval_ends_first() {
        let policy = RollingPolicy::default()
            .with_max_part_size(100)
            .with_rollover_interval(Duration::from_nanos(1_000))
            .with_inactivity_interval(Duration::from_nanos(300));
        let part = |bytes, written_ns| PartAge {
            bytes,
            opened_ns: 50,
            written_ns,
        };
        assert_eq!(policy.due_ns(&part(1, 50)), 350);
        assert_eq!(policy.due_ns(&part(1, 700)), 1_000);
        assert_eq!(policy.due_ns(&part(1, 900)), 1_050);
        assert!(!policy.is_full(&part(99, 50)) && policy.is_full(&part(100, 50)));
        let never = policy
            .with_rollover_interval(Duration::MAX)
            .with_inactivity_interval(Duration::MAX);
        assert_eq!(never.due_ns(&part(1, 50)), u64::MAX);
    }

    #[test]
    fn the_defaults_are_flinks() {
        let policy = RollingPolicy::default();
        let part = PartAge {
            bytes: 128 << 20,
            opened_ns: 0,
            written_ns: 1,
        };
        assert!(policy.is_full(&part));
        assert_eq!(policy.due_ns(&part), 60_000_000_000);
    }
}
