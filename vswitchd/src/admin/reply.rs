//! Replies: objects, and errors as objects.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::objects::{Error, Object};
use crate::event_loop::Ended;

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status.
    pub status: StatusCode,
    /// What happened and what to do about it.
    pub error: Error,
}

impl Failure {
    /// The request is wrong.
    #[must_use]
    pub fn request(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message, hint)
    }

    /// What it names does not exist.
    #[must_use]
    pub fn missing(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message, hint)
    }

    /// Any failure.
    #[must_use]
    pub fn new(status: StatusCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, error: Error { message: message.into(), hint: hint.into() } }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(Object::new(self.error))).into_response()
    }
}

impl From<Ended> for Failure {
    fn from(ended: Ended) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ended.to_string(),
            "the daemon is stopping; ask again when it runs",
        )
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text(), "")
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text(), "")
    }
}

/// An address that does not exist.
pub async fn unknown(uri: axum::http::Uri) -> Failure {
    Failure::missing(
        format!("there is nothing at {}", uri.path()),
        "hopctl and vswitchd should have the same version: hopctl version",
    )
}

/// An address that exists, asked in the wrong way.
pub async fn wrong_method(method: axum::http::Method, uri: axum::http::Uri) -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not take {method}", uri.path()),
        "lists take GET, trace and capture take POST",
    )
}
