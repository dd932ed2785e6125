//! What is read of a request, with Coder's error shape for all that is wrong with it.

use std::{convert::Infallible, net::SocketAddr};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
};
use http::{StatusCode, request::Parts};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{
    error::ApiError,
    serve::Peer,
    tasks::{Stopping, Tasks},
};

/// The variable segments of the path.
#[derive(Debug, Clone)]
pub struct Segments(Vec<(String, String)>);

impl Segments {
    /// One of them; empty if the route has none of that name.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// One that must be a UUID (`coderd/httpmw/httpmw.go`).
    ///
    /// # Errors
    /// 400 when it is none.
    pub fn id(&self, name: &str) -> Result<Uuid, ApiError> {
        let text = self.text(name);
        Uuid::parse_str(text).map_err(|error| {
            // Long ids would make long answers.
            let shown: String = text.chars().take(64).collect();
            ApiError::bad_request(format!("Invalid UUID {shown:?}."))
                .detail(error.to_string())
                .field(name, "must be a UUID")
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Segments {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let segments = RawPathParams::from_request_parts(parts, state).await.map_err(|error| {
            ApiError::bad_request("The path cannot be read.").detail(error.to_string())
        })?;
        let owned = segments.iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        Ok(Self(owned.collect()))
    }
}

/// The parameters of the query. Those that nobody asks for are ignored, as upstream does.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Of this URL.
    #[must_use]
    pub fn of(uri: &http::Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// The first of this name; none when it is absent or empty.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether it is there, whatever its value: `?follow` and `?follow=false` are the same
    /// (`coderd/provisionerjobs.go`).
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// One that is true or false; absent is false.
    ///
    /// # Errors
    /// 400 when it is neither.
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        self.text(name).map_or(Ok(false), |text| {
            boolean(text).ok_or_else(|| {
                invalid(name, format!("Query param {name:?} must be a valid boolean"))
            })
        })
    }

    /// A number from 0 to `i32::MAX`; absent is none.
    ///
    /// # Errors
    /// 400 when it is none.
    pub fn number(&self, name: &str) -> Result<Option<u32>, ApiError> {
        let number = |text: &str| text.parse::<i32>().ok().and_then(|n| u32::try_from(n).ok());
        self.text(name).map_or(Ok(None), |text| {
            number(text).map(Some).ok_or_else(|| {
                let why = format!("Query param {name:?} must be a valid 32-bit positive integer");
                invalid(name, why)
            })
        })
    }

    /// The id of a log line, which the lines that are wanted come after; absent is 0.
    ///
    /// # Errors
    /// 400 when it is no number, or negative.
    pub fn after(&self) -> Result<i64, ApiError> {
        let number = |text: &str| text.parse::<i64>().ok().filter(|after| *after >= 0);
        self.text("after").map_or(Ok(0), |text| {
            number(text).ok_or_else(|| {
                invalid("after", "Query param \"after\" must be a number, 0 or more".to_owned())
            })
        })
    }
}

fn invalid(name: &str, why: String) -> ApiError {
    ApiError::bad_request("Query parameters have invalid values.").field(name, why)
}

/// What Go's `strconv.ParseBool` takes for true and false.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.uri))
    }
}

/// A body that is JSON, whatever its content type says (`coderd/httpapi/httpapi.go`).
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        read(&body(request, state).await?).map(Self)
    }
}

/// A body that is JSON, or empty.
#[derive(Debug)]
pub struct MaybeJson<T>(pub Option<T>);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for MaybeJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = body(request, state).await?;
        if bytes.trim_ascii().is_empty() {
            Ok(Self(None))
        } else {
            read(&bytes).map(Some).map(Self)
        }
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let wrong = |why: String| ApiError::bad_request("Request body must be valid JSON.").detail(why);
    // A list of values would do for a struct otherwise, which no client means.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(wrong("an object is expected, not a list".to_owned()));
    }
    serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))
}

/// The whole body, within the listener's limit.
///
/// # Errors
/// 413 when it is larger, 400 when it breaks off.
pub async fn body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, state).await.map_err(|error| {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "The request's body is too large.")
        } else {
            ApiError::bad_request("The request's body cannot be read.").detail(error.body_text())
        }
    })
}

/// Where the client is; none where no listener is (tests of the router alone).
#[derive(Debug, Clone, Copy)]
pub struct Client(pub Option<SocketAddr>);

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<Peer>().map(|Peer(address)| *address)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Stopping {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Tasks>().map(Tasks::stopping).ok_or_else(|| {
            ApiError::internal("This connection cannot be followed.", "no listener serves it")
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn query(text: &str) -> Query {
        Query::of(&format!("/x?{text}").parse().unwrap())
    }

    #[test]
    fn parameters_of_a_query() {
        let q = query("follow&a=b%20c&a=d&empty=&n=7&t=True");
        assert!(q.has("follow") && q.has("empty") && !q.has("b"));
        assert_eq!((q.text("a"), q.text("empty"), q.text("follow")), (Some("b c"), None, None));
        assert_eq!((q.number("n").unwrap(), q.number("none").unwrap()), (Some(7), None));
        assert!(q.flag("t").unwrap() && !q.flag("none").unwrap());
        assert_eq!((query("after=12").after().unwrap(), q.after().unwrap()), (12, 0));
    }

    #[test]
    fn parameters_that_are_wrong_are_named() {
        let cases = [
            ("limit=-1", query("limit=-1").number("limit").unwrap_err()),
            ("limit=x", query("limit=x").number("limit").unwrap_err()),
            ("limit=2147483648", query("limit=2147483648").number("limit").unwrap_err()),
            ("limit=yes", query("limit=yes").flag("limit").unwrap_err()),
        ];
        for (text, error) in cases {
            assert_eq!(error.status, StatusCode::BAD_REQUEST, "{text}");
            assert_eq!(error.body.validations[0].field, "limit", "{text}");
        }
        for text in ["after=-1", "after=x", "after=9223372036854775808"] {
            let error = query(text).after().unwrap_err();
            assert_eq!(error.body.validations[0].field, "after", "{text}");
        }
    }
}
