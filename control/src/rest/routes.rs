//! Paths to views.

use std::collections::HashMap;

use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use ringflow_schemas::id::{JobId, VertexId};
use ringflow_schemas::rpc::{Message, SubmittedGraph};
use serde_json::json;

use super::answer::{Answer, Refusal};
use super::parameters;
use super::view;
use crate::command::{CancelAnswer, StopAnswer};
use crate::engine::Engine;
use crate::limits;
use crate::runtime::EngineHandle;
use crate::supervise::job::Job;
use crate::supervise::{JobStatus, StopMode};
use crate::time::Timestamp;
use crate::wire;

type Id = Path<String>;
type Handle = State<EngineHandle>;

/// All routes, with and without `/v1`.
pub(crate) fn router(handle: EngineHandle) -> Router {
    Router::new()
        .merge(routes())
        .nest("/v1", routes())
        .fallback(|| async { Refusal::NotFound("no such path".to_owned()) })
        .method_not_allowed_fallback(|| async { Refusal::MethodNotAllowed })
        .layer(DefaultBodyLimit::max(limits::GRAPH_BYTES_MAX))
        .with_state(handle)
}

fn routes() -> Router<EngineHandle> {
    Router::new()
        .route(
            "/overview",
            get(|handle: Handle| ask(handle, |engine, _| Ok(view::cluster::overview(engine)))),
        )
        .route(
            "/config",
            get(|handle: Handle| ask(handle, |engine, _| Ok(view::cluster::config(engine)))),
        )
        .route(
            "/jobs",
            get(|handle: Handle| ask(handle, |engine, _| Ok(view::jobs::list(engine)))),
        )
        .route(
            "/jobs/overview",
            get(|handle: Handle| ask(handle, |engine, now| Ok(view::jobs::overview(engine, now)))),
        )
        .route(
            "/jobs/{id}",
            get(|handle: Handle, id: Id| ask_job(handle, id, view::job::details)).patch(cancel),
        )
        .route("/jobs/{id}/stop", post(stop))
        .route(
            "/jobs/{id}/plan",
            get(|handle: Handle, id: Id| ask_job(handle, id, |job, _| view::job::plan(job))),
        )
        .route(
            "/jobs/{id}/status",
            get(|handle: Handle, id: Id| ask_job(handle, id, |job, _| view::job::status(job))),
        )
        .route(
            "/jobs/{id}/config",
            get(|handle: Handle, id: Id| ask_job(handle, id, |job, _| view::job::config(job))),
        )
        .route("/jobs/{id}/exceptions", get(exceptions))
        .route(
            "/jobs/{id}/accumulators",
            get(|handle: Handle, id: Id| {
                ask_job(handle, id, |job, _| view::job::accumulators(job))
            }),
        )
        .route(
            "/jobs/{id}/execution-result",
            get(|handle: Handle, id: Id| ask_job(handle, id, view::job::execution_result)),
        )
        .route("/jobs/{id}/vertices/{vertex}", get(vertex))
        .route(
            "/jobs/{id}/vertices/{vertex}/subtasks/metrics",
            get(subtasks_metrics),
        )
        .route(
            "/jobs/{id}/vertices/{vertex}/subtasks/{subtask}/metrics",
            get(subtask_metrics),
        )
        .route(
            "/taskmanagers",
            get(|handle: Handle| ask(handle, |engine, _| Ok(view::task_managers::list(engine)))),
        )
        .route("/taskmanagers/{id}", get(task_manager))
        .route("/taskmanagers/{id}/metrics", get(task_manager_metrics))
        .route("/ringflow/jobs", post(submit))
        .route(
            "/ringflow/jobs/{id}/progress",
            get(|handle: Handle, id: Id| ask_job(handle, id, view::progress::progress)),
        )
        .route(
            "/ringflow/jobs/{id}/latency",
            get(|handle: Handle, id: Id| {
                ask_job(handle, id, |job, _| view::progress::histogram(job))
            }),
        )
}

async fn ask(
    State(handle): Handle,
    view: impl FnOnce(&Engine, Timestamp) -> Result<serde_json::Value, Refusal> + Send + 'static,
) -> Answer {
    handle
        .query(view)
        .await
        .map_err(|_| Refusal::ShuttingDown)?
        .map(Json)
}

async fn ask_job(
    handle: Handle,
    Path(id): Id,
    view: impl FnOnce(&Job, Timestamp) -> serde_json::Value + Send + 'static,
) -> Answer {
    let id = job_id(&id)?;
    ask(handle, move |engine, now| {
        find_job(engine, id).map(|job| view(job, now))
    })
    .await
}

async fn exceptions(
    handle: Handle,
    id: Id,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let count = match query.get("maxExceptions") {
        None => view::exceptions::COUNT_DEFAULT,
        Some(text) => text.parse().map_err(|_| {
            Refusal::bad_request(format!("maxExceptions must be a number, not `{text}`"))
        })?,
    };
    ask_job(handle, id, move |job, _| {
        view::exceptions::history(job, count)
    })
    .await
}

async fn vertex(handle: Handle, Path((job, vertex)): Path<(String, String)>) -> Answer {
    let (job, vertex) = (job_id(&job)?, vertex_id(&vertex)?);
    ask(handle, move |engine, now| {
        view::vertex::details(find_job(engine, job)?, vertex, now)
            .ok_or_else(|| Refusal::NotFound(format!("job {job} has no vertex {vertex}")))
    })
    .await
}

/// Aggregates over subtasks; `subtasks=0,2-3` and `agg=min,max` choose.
async fn subtasks_metrics(
    handle: Handle,
    Path((job, vertex)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let (job, vertex) = (job_id(&job)?, vertex_id(&vertex)?);
    let get = names(&query, "get");
    let subtasks = parameters::subtasks(&names(&query, "subtasks").unwrap_or_default())?;
    let aggregations = parameters::aggregations(names(&query, "agg"))?;
    ask(handle, move |engine, _| {
        let job_found = find_job(engine, job)?;
        view::metrics::of_subtasks(job_found, vertex, &subtasks, get.as_deref(), &aggregations)
            .ok_or_else(|| Refusal::NotFound(format!("job {job} has no vertex {vertex}")))
    })
    .await
}

async fn subtask_metrics(
    handle: Handle,
    Path((job, vertex, subtask)): Path<(String, String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let (job, vertex) = (job_id(&job)?, vertex_id(&vertex)?);
    let subtask = parameters::subtask(&subtask)?;
    let get = names(&query, "get");
    ask(handle, move |engine, _| {
        let found = find_job(engine, job)?;
        view::metrics::of_subtask(found, vertex, subtask, get.as_deref()).ok_or_else(|| {
            Refusal::NotFound(format!(
                "job {job} has no subtask {subtask} of vertex {vertex}"
            ))
        })
    })
    .await
}

async fn task_manager_metrics(
    handle: Handle,
    Path(id): Id,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let get = names(&query, "get");
    ask(handle, move |engine, _| {
        view::metrics::of_task_manager(engine, &id, get.as_deref())
            .ok_or_else(|| Refusal::NotFound(format!("TaskManager {id} is not registered")))
    })
    .await
}

async fn task_manager(handle: Handle, Path(id): Id) -> Answer {
    ask(handle, move |engine, _| {
        view::task_managers::details(engine, &id)
            .ok_or_else(|| Refusal::NotFound(format!("TaskManager {id} is not registered")))
    })
    .await
}

/// `PATCH /jobs/:id?mode=cancel`; the mode may be left out, as in Flink.
async fn cancel(
    State(handle): Handle,
    Path(id): Id,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response, Refusal> {
    let id = job_id(&id)?;
    let mode = query.get("mode").map_or("cancel", String::as_str);
    if mode != "cancel" {
        return Err(Refusal::bad_request(format!(
            "unknown mode `{mode}`: only `cancel` is supported"
        )));
    }
    match handle.cancel(id).await.map_err(|_| Refusal::ShuttingDown)? {
        CancelAnswer::Accepted => Ok((StatusCode::ACCEPTED, Json(json!({}))).into_response()),
        CancelAnswer::Unknown => Err(Refusal::NotFound(format!("job {id} not found"))),
        CancelAnswer::AlreadyTerminal(status) => Err(Refusal::Conflict(format!(
            "job {id} cannot be cancelled: it is {} already",
            status.name()
        ))),
    }
}

/// `POST /jobs/:id/stop {"drain": bool}`. Flink's takes a savepoint on the way; there are none yet, so there is no
/// operation to ask about later, and what only a savepoint has a use for is refused.
async fn stop(
    State(handle): Handle,
    Path(id): Id,
    body: Result<axum::body::Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let id = job_id(&id)?;
    let body = body.map_err(|rejection| Refusal::bad_request(rejection.body_text()))?;
    let mode = StopMode::of(parameters::drain(&body)?);
    let answer = handle.stop(id, mode).await;
    match answer.map_err(|_| Refusal::ShuttingDown)? {
        StopAnswer::Accepted => {
            let accepted = json!({
                "drain": mode.drains(),
                "warnings": ["no savepoint is taken: ringflow has none yet, so the state of the job ends with it"],
            });
            Ok((StatusCode::ACCEPTED, Json(accepted)).into_response())
        }
        StopAnswer::Unknown => Err(Refusal::NotFound(format!("job {id} not found"))),
        StopAnswer::OtherMode(other) => Err(Refusal::Conflict(format!(
            "job {id} is being stopped {} already",
            other.phrase()
        ))),
        StopAnswer::NotRunning(status) if status.is_terminal() => Err(Refusal::Conflict(format!(
            "job {id} cannot be stopped: it is {} already",
            status.name()
        ))),
        StopAnswer::NotRunning(status) => Err(Refusal::Conflict(format!(
            "job {id} cannot be stopped: it is {}, and only a running job can{}",
            status.name(),
            if status == JobStatus::Created {
                "; cancel it instead"
            } else {
                ""
            }
        ))),
    }
}

async fn submit(
    State(handle): Handle,
    body: Result<axum::body::Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = body.map_err(|rejection| {
        let reason = rejection.body_text();
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Refusal::TooLarge(format!(
                "{reason}: at most {} bytes",
                limits::GRAPH_BYTES_MAX
            ))
        } else {
            Refusal::bad_request(reason)
        }
    })?;
    let message = Message::<SubmittedGraph>::parse(body)
        .map_err(|error| Refusal::bad_request(format!("body is no stream graph: {error}")))?;
    let graph = wire::decode_stream_graph(&message).map_err(Refusal::bad_request)?;
    let (job, answer) = handle
        .submit(graph)
        .await
        .map_err(|_| Refusal::ShuttingDown)?;
    let warnings = answer.map_err(|rejected| Refusal::BadRequest(rejected.reasons))?;
    let accepted = json!({ "jobid": job.to_string(), "warnings": warnings });
    Ok((StatusCode::ACCEPTED, Json(accepted)).into_response())
}

fn job_id(text: &str) -> Result<JobId, Refusal> {
    text.parse()
        .map_err(|error| Refusal::bad_request(format!("job id {error}")))
}

fn vertex_id(text: &str) -> Result<VertexId, Refusal> {
    text.parse()
        .map_err(|error| Refusal::bad_request(format!("vertex {error}")))
}

/// The names in a list such as `get=a,b`, if there is one.
fn names(query: &HashMap<String, String>, parameter: &str) -> Option<Vec<String>> {
    let list = query.get(parameter)?;
    Some(list.split(',').map(str::to_owned).collect())
}

fn find_job(engine: &Engine, id: JobId) -> Result<&Job, Refusal> {
    engine
        .jobs
        .get(&id)
        .ok_or_else(|| Refusal::NotFound(format!("job {id} not found")))
}
