//! Time to live of keyed state.
//!
//! ```text
//!  stored value   | last access (i64, ms) | the value |
//! ```
//! Owns: [`StateTtlConfig`] and its choices. Invariant: a value has expired when its last access is the time to live or longer
//! ago, in processing time, which comes in with each access.
//! Left out: event time, as in Flink; and the removal itself ([`crate::state::handles`], [`crate::state::backend`]).
//!
//! Source: Flink `StateTtlConfig`.

use std::time::Duration;

use crate::error::{Error, Result};

/// Entries looked at with each access, as in Flink.
const CLEANUP_ENTRIES: usize = 5;

/// Bytes before a value that expires.
pub(crate) const STAMP_BYTES: usize = 8;

/// What counts as an access that keeps a value alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpdateType {
    /// Writing it.
    #[default]
    OnCreateAndWrite,
    /// Writing or reading it.
    OnReadAndWrite,
}

/// Whether a value is seen that has expired and is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StateVisibility {
    /// It is not, and goes when it is met.
    #[default]
    NeverReturnExpired,
    /// It is, until the clean-up or a write takes it.
    ReturnExpiredIfNotCleanedUp,
}

/// How long values live that nobody touches, in processing time.
///
/// Elements of a list and entries of a map live and expire one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateTtlConfig {
    ttl: Duration,
    update_type: UpdateType,
    visibility: StateVisibility,
    cleanup_entries: usize,
}

impl StateTtlConfig {
    /// Values live for `ttl` (1 ms or more) behind their last write, and are never seen later. Each access looks at 5 other
    /// entries of the state and removes the expired ones.
    #[must_use]
    pub const fn of(ttl: Duration) -> Self {
        Self {
            ttl,
            update_type: UpdateType::OnCreateAndWrite,
            visibility: StateVisibility::NeverReturnExpired,
            cleanup_entries: CLEANUP_ENTRIES,
        }
    }

    /// What keeps a value alive.
    #[must_use]
    pub const fn update_type(mut self, update_type: UpdateType) -> Self {
        self.update_type = update_type;
        self
    }

    /// Whether expired values are seen.
    #[must_use]
    pub const fn state_visibility(mut self, visibility: StateVisibility) -> Self {
        self.visibility = visibility;
        self
    }

    /// How many entries each access looks at for expired ones; 0: none, and values go only when they are met.
    #[must_use]
    pub const fn cleanup_incrementally(mut self, entries: usize) -> Self {
        self.cleanup_entries = entries;
        self
    }

    /// # Errors
    /// The time to live is no whole millisecond.
    pub(crate) fn checked(self, state: &str) -> Result<Ttl> {
        let ttl_ms = i64::try_from(self.ttl.as_millis()).unwrap_or(i64::MAX);
        if ttl_ms < 1 {
            return Err(Error::operator(format!(
                "state `{state}`: its time to live must be 1 ms or more, not {:?}",
                self.ttl
            )));
        }
        Ok(Ttl {
            ttl_ms,
            on_read: self.update_type == UpdateType::OnReadAndWrite,
            returns_expired: self.visibility == StateVisibility::ReturnExpiredIfNotCleanedUp,
            cleanup_entries: self.cleanup_entries,
        })
    }
}

/// A checked [`StateTtlConfig`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ttl {
    ttl_ms: i64,
    pub(crate) on_read: bool,
    pub(crate) returns_expired: bool,
    pub(crate) cleanup_entries: usize,
}

impl Ttl {
    /// A stored value has expired. Bytes too short to carry a time never do: reading them is an error.
    pub(crate) fn has_expired(&self, stored: &[u8], now_ms: i64) -> bool {
        let last = stored.first_chunk().map(|bytes| i64::from_le_bytes(*bytes));
        last.is_some_and(|last| last.saturating_add(self.ttl_ms) <= now_ms)
    }

    /// A stored value is not to be seen any more.
    pub(crate) fn hides(&self, stored: &[u8], now_ms: i64) -> bool {
        !self.returns_expired && self.has_expired(stored, now_ms)
    }

    /// A stored value is read.
    pub(crate) fn on_read(&self, stored: &mut [u8], now_ms: i64) {
        if self.on_read
            && let Some(stamp) = stored.first_chunk_mut()
        {
            *stamp = now_ms.to_le_bytes();
        }
    }
}
