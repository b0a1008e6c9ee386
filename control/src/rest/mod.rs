//! The JobManager over HTTP: Flink's paths and JSON, and our own under `/ringflow/`.
//!
//! Owns: routes, status codes, error bodies. `view/` says what each answer looks like, as functions of `&Engine`.
//! Invariant: nothing here changes a job but through an event; no request, however malformed, panics.
//! Left out: jars, metrics, checkpoints, the web page.
//!
//! Source: Flink 2.2 REST API; field names by Jackson introspection of its response classes.

mod answer;
mod routes;
mod view;

pub(crate) use routes::router;
