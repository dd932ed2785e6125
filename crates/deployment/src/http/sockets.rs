//! Connections that change protocol: WebSocket as a byte stream or as messages, and raw upgrades.
//!
//! ```text
//!   request ─► handshake checks ─► 101 ─┬─ upgrade_stream: bytes in binary messages (rpc, coordinate)
//!              (400, 403, 426)          ├─ upgrade_raw:    bytes as they are (DERP)
//!                                       └─ upgrade_events: text, server to client (watches, logs)
//! ```
//!
//! A handler returns the response at once; what follows runs in a task that the listener owns
//! ([`Tasks`]), so that a server that stops leaves nobody behind.

mod events;

use std::io;

use axum::{extract::Request, response::Response};
use coderctl_transport::{BoxStream, WebSocket};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

pub use self::events::{Close, Events, EventsUpgrade, Gone};
use super::{
    error::ApiError,
    tasks::{Stopping, Tasks},
};

/// Longest WebSocket message that is accepted, in bytes. The agent and tailnet services send at
/// most 4 MiB in one message (`codersdk/drpcsdk/transport.go`); the rest is their framing.
const MAX_MESSAGE: usize = 5 << 20;

/// An upgrade that is under way: once the response is out, a byte stream.
#[must_use = "nothing runs until `run` is called"]
pub struct StreamUpgrade {
    upgrade: OnUpgrade,
    /// WebSocket messages around the bytes, or nothing.
    websocket: bool,
    tasks: Tasks,
}

impl StreamUpgrade {
    /// Runs `serve` on the stream, once it is there, in a task that the listener owns. It should
    /// end soon after `Stopping` says so.
    pub fn run<F, W>(self, serve: F)
    where
        F: FnOnce(BoxStream, Stopping) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let tasks = self.tasks.clone();
        tasks.clone().spawn(
            async move {
                match self.stream().await {
                    Ok(stream) => serve(stream, tasks.stopping()).await,
                    Err(error) => tracing::debug!(%error, "an upgrade was abandoned"),
                }
            }
            .boxed(),
        );
    }

    /// The stream, once the response is out.
    ///
    /// # Errors
    /// When the client went away first.
    pub async fn stream(self) -> io::Result<BoxStream> {
        let upgraded = self.upgrade.await.map_err(io::Error::other)?;
        let stream: BoxStream = Box::new(TokioIo::<Upgraded>::new(upgraded));
        if !self.websocket {
            return Ok(stream);
        }
        let socket = WebSocket::accepted(stream, "the client".to_owned(), MAX_MESSAGE).await;
        Ok(Box::new(socket.into_stream()))
    }
}

/// Upgrades to a WebSocket whose binary messages are one byte stream; `protocol` is the
/// sub-protocol that the client must offer (`derp`), if any.
///
/// # Errors
/// [`ApiError`], to be returned, when the request is no proper upgrade or comes from a foreign
/// page.
pub fn upgrade_stream(
    request: Request,
    protocol: Option<&'static str>,
) -> Result<(Response, StreamUpgrade), ApiError> {
    let (response, upgrade, tasks) = websocket(request, protocol)?;
    Ok((response, StreamUpgrade { upgrade, websocket: true, tasks }))
}

/// Upgrades to a WebSocket on which the server sends text and the client only listens.
///
/// # Errors
/// As [`upgrade_stream`].
pub fn upgrade_events(request: Request) -> Result<(Response, EventsUpgrade), ApiError> {
    let (response, upgrade, tasks) = websocket(request, None)?;
    Ok((response, EventsUpgrade::new(upgrade, tasks)))
}

/// Upgrades to `protocol`, whose bytes follow as they are; `headers` go into the answer.
///
/// # Errors
/// 426 when the client did not ask for this protocol.
pub fn upgrade_raw(
    mut request: Request,
    protocol: &'static str,
    headers: HeaderMap,
) -> Result<(Response, StreamUpgrade), ApiError> {
    if !wants(&request, protocol) {
        return Err(upgrade_required(protocol));
    }
    let (upgrade, tasks) = take(&mut request)?;
    let mut response = switching(protocol);
    response.headers_mut().extend(headers);
    Ok((response, StreamUpgrade { upgrade, websocket: false, tasks }))
}

/// Whether the client asks to change to `protocol` (any case).
#[must_use]
pub fn wants(request: &Request, protocol: &str) -> bool {
    request.version() == Version::HTTP_11
        && has_token(request.headers(), &header::CONNECTION, "upgrade")
        && has_token(request.headers(), &header::UPGRADE, protocol)
}

fn websocket(
    mut request: Request,
    protocol: Option<&'static str>,
) -> Result<(Response, OnUpgrade, Tasks), ApiError> {
    if !wants(&request, "websocket") {
        return Err(upgrade_required("websocket"));
    }
    let headers = request.headers();
    if headers.get(header::SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) != Some(b"13") {
        return Err(ApiError::bad_request("Unsupported WebSocket version.")
            .field("Sec-WebSocket-Version", "must be 13"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| {
        ApiError::bad_request("The WebSocket handshake has no key.")
            .field("Sec-WebSocket-Key", "is missing")
    })?;
    let accept = derive_accept_key(key.as_bytes());
    if let Some(protocol) = protocol
        && !has_token(headers, &header::SEC_WEBSOCKET_PROTOCOL, protocol)
    {
        return Err(ApiError::bad_request(format!(
            "This WebSocket is for the sub-protocol {protocol} only."
        ))
        .field("Sec-WebSocket-Protocol", format!("must offer {protocol}")));
    }
    same_origin(headers)?;
    let (upgrade, tasks) = take(&mut request)?;
    let mut response = switching("websocket");
    let headers = response.headers_mut();
    let accept = HeaderValue::from_str(&accept)
        .map_err(|error| ApiError::internal("The handshake could not be answered.", error))?;
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok((response, upgrade, tasks))
}

/// A page of another site may not open a socket with this browser's cookie. No program but a
/// browser sends `Origin`.
fn same_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    match (origin, host) {
        (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
        (Some(_) | None, Some(_) | None) => Err(ApiError::forbidden(
            "The request comes from a page of another site (its Origin is not this host).",
        )),
    }
}

fn take(request: &mut Request) -> Result<(OnUpgrade, Tasks), ApiError> {
    let tasks = request.extensions().get::<Tasks>().cloned();
    let tasks = tasks.ok_or_else(|| {
        ApiError::internal("This connection cannot change protocol.", "no listener serves it")
    })?;
    if tasks.stopping().now() {
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Server instance is shutting down",
        ));
    }
    Ok((hyper::upgrade::on(request), tasks))
}

fn switching(protocol: &'static str) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
    response
}

fn upgrade_required(protocol: &str) -> ApiError {
    ApiError::new(
        StatusCode::UPGRADE_REQUIRED,
        format!("This endpoint is for connections that are upgraded to {protocol}."),
    )
    .detail("The request has no fitting Connection and Upgrade headers.")
}

/// Whether one of the comma-separated words of a header is `token` (any case).
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case(token))
}
