//! What the agent needs of its server: the stream of the Agent API, and news of claims.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use coderctl_transport::{Body, BoxStream, Error, EventParser, Transport, WebSocketOptions};
use http::{HeaderValue, Request, StatusCode};
use serde::Deserialize;
use url::Url;
use uuid::Uuid;

use crate::token::Token;

/// A future in a box.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Carries the token (`codersdk/client.go`, `SessionTokenHeader`).
const TOKEN_HEADER: &str = "Coder-Session-Token";

/// Longest WebSocket message taken on the Agent API (`codersdk/agentsdk/agentsdk.go`).
const MAX_MESSAGE: usize = 4 << 20;

/// How long the head of `/reinit` may take: the Go server sends nothing, not even that, before its
/// first keep-alive after 15 s.
const HEAD_TIMEOUT: Duration = Duration::from_secs(45);

/// How long `/reinit` may be silent: three keep-alives.
const SILENCE: Duration = Duration::from_secs(45);

/// Longest event of `/reinit`, in bytes: a claim has about 150.
const MAX_EVENT: usize = 64 * 1024;

/// Bytes of a refusal that are read for its words.
const MAX_REFUSAL: usize = 64 * 1024;

/// Characters of a server's words that are kept.
const MAX_WORDS: usize = 512;

/// The version of the Agent API that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// The first; banners come by another call.
    V2_0,
    /// Everything that is used here (coder 2.20).
    V2_4,
}

impl Version {
    fn text(self) -> &'static str {
        match self {
            Self::V2_0 => "2.0",
            Self::V2_4 => "2.4",
        }
    }
}

/// Why there is no stream of the Agent API.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// 401. Ordinary while a build is under way, since the next one's token is not valid before.
    #[error("the server does not know our token (now): {0:?}")]
    Unauthorized(String),
    /// 400: too old for the version that was asked for.
    #[error("the server refuses version {} of the Agent API: {words:?}", version.text())]
    Version { version: Version, words: String },
    #[error("the server answered with HTTP status {status}: {words:?}")]
    Status { status: StatusCode, words: String },
    #[error("the Agent API cannot be reached: {}", full(.0))]
    Transport(#[from] Error),
    #[error("cannot ask for the Agent API: {0}")]
    Request(#[from] http::Error),
}

/// Somebody has claimed the workspace (`codersdk/agentsdk/agentsdk.go`, `ReinitializationEvent`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ReinitEvent {
    #[serde(default)]
    pub(crate) reason: String,
    /// Missing when an old server tells it.
    #[serde(default)]
    pub(crate) owner_id: Option<Uuid>,
}

/// Why there is no event.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReinitError {
    /// 409: there never will be one.
    #[error("there is no claim to wait for: {0:?}")]
    Never(String),
    /// 401, see [`DialError::Unauthorized`].
    #[error("the server does not know our token (now): {0:?}")]
    Unauthorized(String),
    #[error("the server answered with HTTP status {status}: {words:?}")]
    Status { status: StatusCode, words: String },
    #[error("the server's events cannot be read: {0}")]
    Stream(String),
    #[error("the server cannot be reached: {}", full(.0))]
    Transport(#[from] Error),
    #[error("cannot ask for events: {0}")]
    Request(#[from] http::Error),
}

/// For whom the agent runs already: what "handled" means is judged from it. The Go agent does not
/// say it, and a Go server does not look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunsFor {
    pub(crate) agent: Uuid,
    pub(crate) owner: Option<Uuid>,
}

/// The server; scripted in tests.
pub(crate) trait Server: Send + Sync + 'static {
    /// Opens the Agent API.
    fn rpc<'a>(
        &'a self,
        token: &'a Token,
        version: Version,
    ) -> BoxFuture<'a, Result<BoxStream, DialError>>;

    /// Waits for one claim.
    fn reinit<'a>(
        &'a self,
        token: &'a Token,
        runs_for: RunsFor,
    ) -> BoxFuture<'a, Result<ReinitEvent, ReinitError>>;
}

/// The real one.
#[derive(Debug, Clone)]
pub(crate) struct HttpServer {
    transport: Transport,
    url: Url,
}

impl HttpServer {
    pub(crate) fn new(transport: Transport, url: Url) -> Self {
        Self { transport, url }
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("/api/v2/workspaceagents/me/{path}"));
        url.set_query(None);
        url.set_fragment(None);
        url
    }

    async fn open_rpc(&self, token: &Token, version: Version) -> Result<BoxStream, DialError> {
        let mut url = self.url("rpc");
        url.query_pairs_mut().append_pair("version", version.text()).append_pair("role", "agent");
        let request = request(&url, token, ())?;
        let options = WebSocketOptions { max_message: MAX_MESSAGE, ..Default::default() };
        match self.transport.websocket(request, options).await {
            Ok(socket) => Ok(Box::new(socket.into_stream())),
            Err(Error::Status { parts, body, .. }) => {
                let words = words(&body);
                Err(match parts.status {
                    StatusCode::UNAUTHORIZED => DialError::Unauthorized(words),
                    StatusCode::BAD_REQUEST if names_version(&body) => {
                        DialError::Version { version, words }
                    }
                    status => DialError::Status { status, words },
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn wait_for_claim(
        &self,
        token: &Token,
        runs_for: RunsFor,
    ) -> Result<ReinitEvent, ReinitError> {
        let mut url = self.url("reinit");
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("wait", "true");
            query.append_pair("agent_id", &runs_for.agent.to_string());
            if let Some(owner) = runs_for.owner {
                query.append_pair("owner_id", &owner.to_string());
            }
        }
        let request = request(&url, token, Bytes::new())?;
        let response = self.transport.stream(request, HEAD_TIMEOUT).await?;
        let status = response.status();
        let mut body = response.into_body();
        if status == StatusCode::OK {
            return read_event(&mut body).await;
        }
        let words = words(&refusal(&mut body).await);
        Err(match status {
            StatusCode::CONFLICT => ReinitError::Never(words),
            StatusCode::UNAUTHORIZED => ReinitError::Unauthorized(words),
            status => ReinitError::Status { status, words },
        })
    }
}

impl Server for HttpServer {
    fn rpc<'a>(
        &'a self,
        token: &'a Token,
        version: Version,
    ) -> BoxFuture<'a, Result<BoxStream, DialError>> {
        Box::pin(self.open_rpc(token, version))
    }

    fn reinit<'a>(
        &'a self,
        token: &'a Token,
        runs_for: RunsFor,
    ) -> BoxFuture<'a, Result<ReinitEvent, ReinitError>> {
        Box::pin(self.wait_for_claim(token, runs_for))
    }
}

fn request<T>(url: &Url, token: &Token, body: T) -> Result<Request<T>, http::Error> {
    let mut value = HeaderValue::from_str(token.expose())?;
    value.set_sensitive(true);
    Request::get(url.as_str()).header(TOKEN_HEADER, value).body(body)
}

/// Reads up to the first event that is one.
async fn read_event(body: &mut Body) -> Result<ReinitEvent, ReinitError> {
    let mut parser = EventParser::new(MAX_EVENT);
    loop {
        let chunk = tokio::time::timeout(SILENCE, body.chunk()).await.map_err(|_| {
            ReinitError::Stream(format!("nothing came for {} s", SILENCE.as_secs()))
        })??;
        let Some(chunk) = chunk else {
            return Err(ReinitError::Stream("the stream has ended".to_owned()));
        };
        let events = parser.push(&chunk).map_err(|error| ReinitError::Stream(error.to_string()))?;
        for event in events {
            match event.kind.as_str() {
                // What has no type is data all the same.
                "data" | "message" => {
                    return serde_json::from_str(&event.data).map_err(|error| {
                        ReinitError::Stream(format!("an event is not what it should be: {error}"))
                    });
                }
                "error" => {
                    return Err(ReinitError::Stream(format!("an error: {:?}", cut(&event.data))));
                }
                other => tracing::trace!(event = %other, "skipped"),
            }
        }
    }
}

/// The beginning of a refusal's body.
async fn refusal(body: &mut Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_REFUSAL
        && let Ok(Ok(Some(chunk))) =
            tokio::time::timeout(Duration::from_secs(5), body.chunk()).await
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes
}

/// Coder's error body (`codersdk/client.go`, `Response`).
#[derive(Debug, Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    message: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    validations: Vec<Validation>,
}

#[derive(Debug, Deserialize)]
struct Validation {
    #[serde(default)]
    field: String,
}

/// What a refusal says.
fn words(body: &[u8]) -> String {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) if !refusal.detail.is_empty() => {
            cut(&format!("{} {}", refusal.message, refusal.detail))
        }
        Ok(refusal) => cut(&refusal.message),
        Err(_) => cut(&String::from_utf8_lossy(body)),
    }
}

fn names_version(body: &[u8]) -> bool {
    serde_json::from_slice::<Refusal>(body)
        .unwrap_or_default()
        .validations
        .iter()
        .any(|validation| validation.field == "version")
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_WORDS).collect()
}

/// An error with its causes.
pub(crate) fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
