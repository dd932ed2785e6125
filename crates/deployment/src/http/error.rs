//! What a refused request is told.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// The message for whatever does not exist or may not be seen; deliberately the same for both
/// (`coderd/httpapi/httpapi.go`).
pub const NOT_FOUND: &str = "Resource not found or you do not have access to this resource";

/// A refusal: a status and the error body of every Coder endpoint (`codersdk/client.go`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The status of the answer.
    pub status: StatusCode,
    /// Its body.
    pub body: Body,
    /// Seconds after which to try again.
    pub retry_after: Option<u64>,
}

/// The body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Body {
    /// What is wrong, for people.
    pub message: String,
    /// The cause.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Which fields of the request are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub validations: Vec<Validation>,
}

/// One field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Validation {
    /// Its name.
    pub field: String,
    /// Why.
    pub detail: String,
}

impl ApiError {
    /// With this status and message.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let body = Body { message: message.into(), detail: String::new(), validations: Vec::new() };
        Self { status, body, retry_after: None }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 403, with the reason as detail.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden.").detail(detail)
    }

    /// 404 for an object that is not there or belongs to somebody else.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, NOT_FOUND)
    }

    /// 409.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 500. The cause goes to the log, not to the client, who can do nothing about it.
    pub fn internal(message: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        let message = message.into();
        tracing::error!(%cause, "{message}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
            .detail("The server's log has the cause.")
    }

    /// The same with a cause.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.body.detail = detail.into();
        self
    }

    /// 429: too many requests, try again after so many seconds.
    #[must_use]
    pub fn too_many(seconds: u64) -> Self {
        let message = format!("Too many requests; try again in {seconds} s.");
        let retry_after = Some(seconds);
        Self { retry_after, ..Self::new(StatusCode::TOO_MANY_REQUESTS, message) }
    }

    /// The same with a field that is wrong.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, detail: impl Into<String>) -> Self {
        self.body.validations.push(Validation { field: field.into(), detail: detail.into() });
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        );
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Bearer realm="coder", error="invalid_token""#),
            );
        }
        response
    }
}
