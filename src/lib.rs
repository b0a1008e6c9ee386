//! ringflow: a stream processor in the shape of Apache Flink, thread per core, for Linux bare-metal nodes.
//!
//! Owns: the programmer's face ([`api`], imported through [`prelude`]), the built-in jobs ([`jobs`]) with Nexmark's event
//! stream ([`nexmark`]), the instruments that measure it ([`mod@bench`]), and the command line ([`cli`]). A job is a program
//! that builds a stream graph and executes it: locally, on a remote cluster, or as the cluster's own binary.
//! Invariant: client and TaskManagers build the same graph from the same program and arguments.
//! Left out: running it (dataplane) and scheduling it (control).

#![deny(unsafe_op_in_unsafe_fn)]

pub mod api;
pub mod bench;
pub mod cli;
mod duration;
pub mod jobs;
pub mod nexmark;
pub mod prelude;
mod record;

#[doc(hidden)]
pub mod private {
    //! What the macros of this crate expand to.
    pub use flatbuffers;

    /// An error's text on one line.
    pub fn one_line(error: &dyn std::fmt::Display) -> String {
        error
            .to_string()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }

    pub use ringflow_dataplane::record::{Record, StructRecord};
}

/// What can go wrong for a user: a message that says what was wrong and what to do.
pub type Error = anyhow::Error;
/// ringflow's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The version that processes show each other.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
