//! The programmer's face: environments, streams, sources, sinks, windows, after Flink's DataStream API.
//!
//! Owns: the types that a job's `main` uses. A program only describes: each call adds a node or an edge to the graph
//! ([`graph`]); `execute` sends it away ([`environment`]).
//! Invariant: user code never names a lifetime; a closure's argument is a [`crate::prelude::Row`] over the record's bytes.
//! Left out: watermark alignment (to come).

pub mod async_io;
pub mod connected_streams;
pub mod csv;
pub mod data_stream;
pub mod environment;
pub mod file;
pub mod generator;
pub mod graph;
pub mod interval_join;
pub mod joined_streams;
pub mod kafka;
pub mod key;
pub mod keyed_stream;
pub mod sequence;
pub mod watermark;
pub mod window;
pub mod windowed_stream;
