//! What a row of a changelog says about the table it keeps up to date.
//!
//! Owns: [`RowKind`], named as Flink's.
//! Left out: changelogs themselves; the operators that write them decide the kind of each row.

/// The kind of a changelog's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowKind {
    /// `+I`: a new row.
    Insert,
    /// `-U`: a row as it was before an update; `+U` of the same key follows.
    UpdateBefore,
    /// `+U`: a row as it is after an update.
    UpdateAfter,
    /// `-D`: a row that is no more.
    Delete,
}

impl RowKind {
    /// `+I`, `-U`, `+U` or `-D`.
    #[must_use]
    pub const fn short_name(self) -> &'static str {
        match self {
            Self::Insert => "+I",
            Self::UpdateBefore => "-U",
            Self::UpdateAfter => "+U",
            Self::Delete => "-D",
        }
    }
}
