//! Status codes and error bodies.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// What a handler answers when it cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    BadRequest(Vec<String>),
    NotFound(String),
    Conflict(String),
    TooLarge(String),
    MethodNotAllowed,
    ShuttingDown,
}

impl Refusal {
    pub(crate) fn bad_request(reason: impl Into<String>) -> Self {
        Self::BadRequest(vec![reason.into()])
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, errors) = match self {
            Self::BadRequest(errors) => (StatusCode::BAD_REQUEST, errors),
            Self::NotFound(error) => (StatusCode::NOT_FOUND, vec![error]),
            Self::Conflict(error) => (StatusCode::CONFLICT, vec![error]),
            Self::TooLarge(error) => (StatusCode::PAYLOAD_TOO_LARGE, vec![error]),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                vec!["method not allowed here".to_owned()],
            ),
            Self::ShuttingDown => (
                StatusCode::SERVICE_UNAVAILABLE,
                vec!["the JobManager is shutting down".to_owned()],
            ),
        };
        (status, Json(json!({ "errors": errors }))).into_response()
    }
}

/// What a handler answers.
pub(crate) type Answer = Result<Json<Value>, Refusal>;
