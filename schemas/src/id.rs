//! Identifiers as both planes print, parse and compare them.
//!
//! Owns: text forms of [`JobId`], [`ExecutionAttemptId`] and [`VertexId`]. The wire structs are generated code; these
//! are the inner types, ordered and hashable.
//! Invariant: `parse(to_string(id)) == id`; a job id prints as 32 lower-case hex digits, as Flink's does.
//! Left out: how ids are drawn (the control plane's runtime brings randomness in).

use std::fmt;
use std::str::FromStr;

use crate::control as wire;

/// One submitted job.
///
/// Shape: 128 bits, printed as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u128);

/// One vertex of a job graph over versions of the job; what REST calls `vertexid`.
///
/// Shape: 128 bits, printed as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VertexId(pub u128);

/// A text that is not 32 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no id: expected 32 hexadecimal digits")]
pub struct ParseIdError(pub String);

macro_rules! hex_id {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    u128::from_str_radix(text, 16)
                        .map($name)
                        .map_err(|_| ParseIdError(text.to_owned()))
                } else {
                    Err(ParseIdError(text.to_owned()))
                }
            }
        }
    };
}
hex_id!(JobId);
hex_id!(VertexId);

impl JobId {
    /// The high and low halves, as messages carry them.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "splitting 128 bits in two is the point"
    )]
    pub const fn halves(self) -> (u64, u64) {
        ((self.0 >> 64) as u64, self.0 as u64)
    }

    /// The id whose halves these are.
    #[must_use]
    pub const fn from_halves(high: u64, low: u64) -> Self {
        Self(((high as u128) << 64) | low as u128)
    }
}

impl From<&wire::JobId> for JobId {
    fn from(id: &wire::JobId) -> Self {
        Self::from_halves(id.high(), id.low())
    }
}

impl From<JobId> for wire::JobId {
    fn from(id: JobId) -> Self {
        let (high, low) = id.halves();
        Self::new(high, low)
    }
}

/// One attempt at one parallel instance of a job vertex: the only id in messages about work.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExecutionAttemptId {
    /// The job.
    pub job: JobId,
    /// Index of the vertex in the job graph, in topological order.
    pub vertex: u32,
    /// Index of the parallel instance, from 0.
    pub subtask: u32,
    /// Number of the attempt, from 0.
    pub attempt: u32,
}

impl fmt::Display for ExecutionAttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}_{}_{}_{}",
            self.job, self.vertex, self.subtask, self.attempt
        )
    }
}

impl fmt::Debug for ExecutionAttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<&wire::ExecutionAttemptId> for ExecutionAttemptId {
    fn from(id: &wire::ExecutionAttemptId) -> Self {
        Self {
            job: id.job().into(),
            vertex: id.vertex(),
            subtask: id.subtask(),
            attempt: id.attempt(),
        }
    }
}

impl From<ExecutionAttemptId> for wire::ExecutionAttemptId {
    fn from(id: ExecutionAttemptId) -> Self {
        Self::new(&id.job.into(), id.vertex, id.subtask, id.attempt, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_print_and_parse_as_32_hex_digits() {
        let id = JobId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(id.to_string(), "0123456789abcdef0011223344556677");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in [
            "",
            "12",
            "g123456789abcdef0011223344556677",
            "+123456789abcdef0011223344556677",
        ] {
            assert_eq!(bad.parse::<JobId>(), Err(ParseIdError(bad.to_owned())));
        }
    }

    #[test]
    fn attempts_survive_the_wire() {
        let id = ExecutionAttemptId {
            job: JobId(7 << 70 | 3),
            vertex: 2,
            subtask: 5,
            attempt: 1,
        };
        assert_eq!(
            ExecutionAttemptId::from(&wire::ExecutionAttemptId::from(id)),
            id
        );
    }
}
