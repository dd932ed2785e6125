//! Event streams (`text/event-stream`), as `coderd/httpapi/httpapi.go` writes them: `event:` lines
//! of `ping`, `data` and `error`, a `data:` line of JSON for the last two.

use std::{pin::Pin, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderValue, header};
use serde::Serialize;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::{error, tasks::Stopping};

/// How often a client hears that the stream lives (`coderd/httpapi/httpapi.go`).
pub const PING: Duration = Duration::from_secs(15);

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The stream lives.
    Ping,
    /// JSON, without line ends.
    Data(String),
    /// The body of an error; the stream goes on.
    Error(String),
}

impl Event {
    /// JSON of this value.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn data(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(Self::Data)
    }

    /// An error.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn error(body: &error::Body) -> Result<Self, serde_json::Error> {
        serde_json::to_string(body).map(Self::Error)
    }

    fn bytes(&self) -> Bytes {
        match self {
            Self::Ping => Bytes::from_static(b"event: ping\n\n"),
            Self::Data(json) => format!("event: data\ndata: {json}\n\n").into(),
            Self::Error(json) => format!("event: error\ndata: {json}\n\n").into(),
        }
    }
}

struct Streaming<S> {
    events: Pin<Box<S>>,
    tick: Interval,
    stopping: Stopping,
}

/// A response that streams these events, and pings in between, until they end, the server stops
/// or the client goes away (the stream is dropped then). Its head goes out at once.
pub fn response(
    events: impl Stream<Item = Event> + Send + 'static,
    stopping: Stopping,
) -> Response {
    let mut tick = tokio::time::interval_at(Instant::now() + PING, PING);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let streaming = Streaming { events: Box::pin(events), tick, stopping };
    let body = stream::unfold(streaming, |mut streaming| async move {
        let event = tokio::select! {
            biased;
            () = streaming.stopping.requested() => None,
            event = streaming.events.next() => event,
            _ = streaming.tick.tick() => Some(Event::Ping),
        };
        event.map(|event| (Ok::<_, std::convert::Infallible>(event.bytes()), streaming))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    let text = HeaderValue::from_static;
    headers.insert(header::CONTENT_TYPE, text("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, text("no-cache"));
    headers.insert(header::CONNECTION, text("keep-alive"));
    // Proxies of the nginx kind would hold the events back.
    headers.insert("x-accel-buffering", text("no"));
    response
}
