//! Result rows of the queries as text, from the FlatBuffers views that the jobs hold.
//!
//! Owns: one `append_q…` per query (q18 writes bids as q0 does, with the kind of change before them).
//! Invariant: one JSON object per row, members in the order of the query's columns and named as in Nexmark's own sinks,
//! no line break (the sink's affair). Rows of queries that update (q4, q9, q15 to q19) begin with the member `op`, the
//! short name of their [`RowKind`](super::RowKind); the others only ever insert, and have none. Times are milliseconds since
//! the epoch. q10 also writes CSV, for files. The batch answers of `tests/support` write the same text with other code.
//! Left out: q6, which no engine runs: it would rank rows that are taken back later.
//!
//! | query | rows come from |
//! |---|---|
//! | q0, q1, q2, q10, q13, q14, q21, q22 | one bid each: `stateless` |
//! | q5, q7, q8, q11, q12 | windows: `window` |
//! | q3, q20, q23 | joins: `join` |
//! | q4, q9, q15, q16, q17, q18, q19 | tables that are kept up to date: `changelog` |

mod changelog;
mod join;
mod stateless;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests;
mod window;

pub use changelog::*;
pub use join::*;
pub use stateless::*;
pub use window::*;
