//! The split of one stream over parallel subtasks: every n-th event number.
//!
//! Invariant: the numbers of all subtasks of a parallelism cover 0..total exactly once.
//! A source keeps [`Numbers::position`] in its snapshot and seeks to it after a restore.

/// The event numbers of one subtask, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    subtask: u64,
    parallelism: u64,
    total: u64,
    position: u64,
}

/// The numbers of subtask `subtask` of `parallelism` among 0..`total`.
/// An unbounded stream is one with `total` = `u64::MAX`.
///
/// # Panics
/// When `subtask` is not below `parallelism`.
pub fn numbers(subtask: u32, parallelism: u32, total: u64) -> Numbers {
    assert!(
        subtask < parallelism,
        "subtask {subtask} of {parallelism} does not exist"
    );
    Numbers {
        subtask: subtask.into(),
        parallelism: parallelism.into(),
        total,
        position: 0,
    }
}

impl Numbers {
    /// How many subtasks share the stream.
    pub fn parallelism(&self) -> u64 {
        self.parallelism
    }

    /// How many numbers were given out so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes on as if `position` numbers had been given out.
    pub fn seek(&mut self, position: u64) {
        self.position = position;
    }

    /// How many numbers this subtask has in all.
    pub fn count_total(&self) -> u64 {
        self.total
            .saturating_sub(self.subtask)
            .div_ceil(self.parallelism)
    }
}

impl Iterator for Numbers {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let n = self
            .position
            .checked_mul(self.parallelism)?
            .checked_add(self.subtask)?;
        if n >= self.total {
            return None;
        }
        self.position += 1;
        Some(n)
    }
}
