//! Messages as bytes: the only place that sees generated types.
//!
//! Owns: decoding what came from outside into inner types, encoding what goes out.
//! Invariant: decoding never panics; values that no enum has are errors.
//! Left out: verification of the bytes (`ringflow_schemas::rpc::Message`), meaning.

mod decode;
mod encode;
mod encode_graph;

pub use decode::{decode_from_task_manager, decode_stream_graph};
pub use encode::encode_to_task_manager;
pub use encode_graph::encode_stream_graph;

#[cfg(test)]
mod tests;
