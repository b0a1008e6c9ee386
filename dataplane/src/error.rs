//! What went wrong in the data plane, sorted by what to do about it.
//!
//! Owns: [`Error`], which user code, operators, sources and sinks return, and [`ErrorKind`], which the control plane
//! acts on. Invariant: an error that leaves a chain names the operator it came from.
//! Left out: full queues, closed channels, no progress. Those are outcomes ([`crate::operator::Progress`]).

use std::fmt;

/// What the control plane should do about an [`Error`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// User code, a source or a sink failed: the job's own trouble.
    Operator,
    /// The subtask could not be built or wired: nothing ran yet.
    Deployment,
    /// The data connection to this TaskManager ended: it is likely lost.
    PeerLost {
        /// Id of the TaskManager at the other end.
        task_manager_id: String,
    },
}

/// A failure of one subtask. One pointer wide, so that the `Ok` road of a record costs nothing.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operator: Option<String>,
    message: String,
}

/// The data plane's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An operator's, source's or sink's own failure.
    pub fn operator(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Operator, message)
    }

    /// A subtask that cannot be built as described.
    pub fn deployment(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Deployment, message)
    }

    /// A data connection that ended under a running subtask.
    pub fn peer_lost(task_manager_id: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(
            ErrorKind::PeerLost {
                task_manager_id: task_manager_id.into(),
            },
            message,
        )
    }

    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            operator: None,
            message: message.into(),
        }))
    }

    /// Names the operator, unless a deeper one is named already.
    #[must_use]
    pub fn at_operator(mut self, name: &str) -> Self {
        self.0.operator.get_or_insert_with(|| name.to_owned());
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.operator {
            Some(operator) => write!(f, "operator `{operator}`: {}", self.0.message),
            None => f.write_str(&self.0.message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {}
