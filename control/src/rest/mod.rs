//! The JobManager over HTTP: Flink's paths and JSON, and our own under `/ringflow/`.
//!
//! Owns: routes, status codes, error bodies. `view/` says what each answer looks like, as functions of `&Engine`.
//! Invariant: nothing here changes a job but through an event; no request, however malformed, panics.
//! Left out: jars, checkpoints, the web page; of metrics, what nobody counts here.
//!
//! Source: Flink 2.2 REST API; field names by Jackson introspection of its response classes.

mod answer;
mod parameters;
mod routes;
mod view;

pub(crate) use routes::router;
