//! What operators that keep a table up to date have in common.
//!
//! Owns: [`ChangelogMode`], [`ChangelogOptions`]. Invariant: in every mode the fold of an operator's output is its table.
//! Left out: the operators ([`crate::operator::group_aggregate`], [`crate::operator::top_n`],
//! [`crate::operator::deduplicate`]).

use crate::error::Error;
use crate::state::handles::StateTtlConfig;

/// How updates of a row travel.
///
/// Source: Flink's changelog modes, retract and upsert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChangelogMode {
    /// As the row before (`-U`) and the row after (`+U`).
    #[default]
    Retract,
    /// As the row after alone, for consumers that know rows by their key.
    Upsert,
}

/// How an operator keeps its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChangelogOptions {
    mode: ChangelogMode,
    ttl: Option<StateTtlConfig>,
}

impl ChangelogOptions {
    /// Updates travel as `-U` and `+U`, and state is kept for ever.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            mode: ChangelogMode::Retract,
            ttl: None,
        }
    }

    /// How updates travel.
    #[must_use]
    pub const fn mode(mut self, mode: ChangelogMode) -> Self {
        self.mode = mode;
        self
    }

    /// Has state expire. Rows that came out of it stay with those who got them, and its key begins anew.
    #[must_use]
    pub const fn state_ttl(mut self, ttl: StateTtlConfig) -> Self {
        self.ttl = Some(ttl);
        self
    }

    pub(crate) const fn ttl(&self) -> Option<StateTtlConfig> {
        self.ttl
    }

    /// Updates say what was before.
    pub(crate) fn says_before(&self) -> bool {
        self.mode == ChangelogMode::Retract
    }
}

/// A retraction reached an operator that cannot take a row back.
#[cold]
pub(crate) fn cannot_retract(what: &str, instead: &str) -> Error {
    Error::operator(format!(
        "a retraction (-U or -D) reached {what}, which takes insertions only: {instead}"
    ))
}
