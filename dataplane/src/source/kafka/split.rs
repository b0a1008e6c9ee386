//! One partition being read: how far, and until where.
//!
//! Owns: [`Split`]. Pure: told of records and of the partition's end, it says what to give on and when it is over.
//! Invariant: the position only grows, and is the offset of the next record to give on: what a checkpoint must keep.
//! Left out: where records come from.

use crate::runtime::context::SplitAssignment;

/// What to do with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Give it on.
    Take,
    /// Give it on; the split is over after it.
    TakeLast,
    /// It lies behind the end: the split is over without it.
    Behind,
}

/// One partition of a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    assignment: SplitAssignment,
    position: i64,
    /// Offset to stop before; `None`: never.
    end: Option<i64>,
    over: bool,
}

impl Split {
    /// A split that starts at `position`.
    #[must_use]
    pub fn new(assignment: SplitAssignment, position: i64, end: Option<i64>) -> Self {
        let over = end.is_some_and(|end| position >= end);
        Self {
            assignment,
            position,
            end,
            over,
        }
    }

    /// Which partition it is.
    #[must_use]
    pub fn assignment(&self) -> &SplitAssignment {
        &self.assignment
    }

    /// Offset of the next record to give on.
    #[must_use]
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Offset to stop before.
    #[must_use]
    pub fn end(&self) -> Option<i64> {
        self.end
    }

    /// It has given its last record.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// A record came.
    ///
    /// Offsets may jump: compaction and the markers of transactions leave holes.
    #[inline]
    pub fn on_record(&mut self, offset: i64) -> Admission {
        debug_assert!(
            offset >= self.position,
            "{offset} comes again, at {}",
            self.position
        );
        match self.end {
            Some(end) if offset >= end => {
                self.over = true;
                Admission::Behind
            }
            Some(end) if offset + 1 == end => {
                self.position = end;
                self.over = true;
                Admission::TakeLast
            }
            _ => {
                self.position = offset + 1;
                Admission::Take
            }
        }
    }

    /// The reader has seen all that the partition holds, up to `offset`: this ends splits whose last offsets are no
    /// records. True when the split is over by it.
    pub fn on_partition_end(&mut self, offset: i64) -> bool {
        self.position = self.position.max(offset.min(self.end.unwrap_or(offset)));
        let over = self.end.is_some_and(|end| offset >= end);
        self.over |= over;
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(position: i64, end: Option<i64>) -> Split {
        Split::new(
            SplitAssignment {
                topic: "t".to_owned(),
                kafka_partition: 0,
            },
            position,
            end,
        )
    }

    #[test]
    fn an_unbounded_split_never_ends() {
        let mut split = split(5, None);
        assert_eq!(split.on_record(5), Admission::Take);
        assert_eq!(split.on_record(9), Admission::Take);
        assert!(!split.on_partition_end(10));
        assert_eq!((split.position(), split.is_over()), (10, false));
    }

    #[test]
    fn a_bounded_split_ends_with_its_last_record() {
        let mut split = split(0, Some(2));
        assert_eq!(split.on_record(0), Admission::Take);
        assert_eq!(split.on_record(1), Admission::TakeLast);
        assert_eq!((split.position(), split.is_over()), (2, true));
    }

    #[test]
    fn an_empty_split_is_over_at_once() {
        assert!(split(7, Some(7)).is_over());
        assert!(split(9, Some(7)).is_over());
    }

    #[test]
    fn control_records_and_compacted_records_at_the_end_do_not_keep_it_open() {
        let mut split = split(0, Some(10));
        assert_eq!(split.on_record(3), Admission::Take);
        assert!(!split.on_partition_end(9));
        assert!(split.on_partition_end(12));
        assert_eq!((split.position(), split.is_over()), (10, true));
    }

    #[test]
    fn records_behind_the_end_are_left_alone() {
        let mut split = split(0, Some(10));
        assert_eq!(split.on_record(10), Admission::Behind);
        assert_eq!((split.position(), split.is_over()), (0, true));
    }
}
