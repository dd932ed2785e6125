//! News about one workspace: the agent-connection watch, or the event stream where a server lacks
//! it (coder/coder: coderd/workspaceconnwatcher, before mid-2026 absent).
//!
//! Both give the same facts; the event stream, which sends the whole workspace each time, gives
//! snapshots. A watch tells until it breaks; it is for its user to open another, and everything is
//! told again then.

use std::time::Duration;

use coderctl_transport::{Body, EventParser, Message, ServerEvent, WebSocket, WebSocketOptions};
use http::StatusCode;
use serde::Deserialize;
use uuid::Uuid;

use super::{Client, Error, Workspace};

/// Silence after which we ask whether the server is still there; it pings at the same distance.
const ASK_AFTER: Duration = Duration::from_secs(15);

/// Silence after which it is not: three of its pings missed.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(45);

/// Longest event, in bytes: a workspace with hundreds of agents stays far below.
const MAX_EVENT: usize = 16 << 20;

/// Something that the server told.
#[derive(Debug, Clone)]
pub enum Fact {
    /// The latest build.
    Build {
        /// `start`, `stop`, `delete`.
        transition: String,
        /// `pending`, `running`, `succeeded`, …
        job_status: String,
    },
    /// The chosen agent.
    Agent {
        /// Its id.
        id: Uuid,
        /// `created`, `starting`, `ready`, …
        lifecycle: String,
    },
    /// Several agents and none was named.
    SeveralAgents,
    /// No agent of that name.
    NoSuchAgent,
    /// No agent at all.
    NoAgent,
    /// The whole workspace.
    Snapshot(Box<Workspace>),
    /// Something else.
    Other,
}

/// Why there is no news any more.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// It could not be opened, or broke.
    #[error(transparent)]
    Api(#[from] Error),
    /// The server ended it with an error.
    #[error("{message}{}", details.as_deref().map(|details| format!(": {details}")).unwrap_or_default())]
    Told {
        /// 4 shutdown, 5 database, 6 internal.
        code: i64,
        /// Whether it says that another try makes sense.
        retryable: bool,
        /// For people.
        message: String,
        /// The cause.
        details: Option<String>,
    },
    /// Nothing came for a long time.
    #[error("the server has been silent for {} s", DEAD_AFTER.as_secs())]
    Silent,
}

impl WatchError {
    /// Whether another try may go better.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Api(error) => error.is_transient(),
            Self::Told { retryable, .. } => *retryable,
            Self::Silent => true,
        }
    }
}

/// An open watch.
#[derive(Debug)]
pub struct Watch(Source);

#[derive(Debug)]
enum Source {
    Socket { socket: WebSocket, ended: Option<WatchError> },
    Events { body: Body, parser: EventParser, waiting: Vec<ServerEvent> },
}

#[derive(Deserialize)]
struct Update {
    #[serde(default)]
    build_update: Option<BuildUpdate>,
    #[serde(default)]
    agent_update: Option<AgentUpdate>,
    #[serde(default)]
    error: Option<Told>,
}

#[derive(Deserialize)]
struct BuildUpdate {
    #[serde(default)]
    transition: String,
    #[serde(default)]
    job_status: String,
}

#[derive(Deserialize)]
struct AgentUpdate {
    #[serde(default)]
    lifecycle: String,
    id: Uuid,
}

/// An error object, or (leniently) just a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Told {
    Full {
        #[serde(default)]
        code: i64,
        #[serde(default)]
        retryable: bool,
        #[serde(default)]
        message: String,
        #[serde(default)]
        details: Option<String>,
    },
    Text(String),
}

impl Client {
    /// Opens the watch of a workspace, for one agent if its name is known.
    ///
    /// # Errors
    /// When neither source can be opened.
    pub async fn watch(&self, workspace: Uuid, agent: Option<&str>) -> Result<Watch, WatchError> {
        if self.watch_is_missing() {
            return self.event_stream(workspace).await;
        }
        let path = format!("/workspaces/{workspace}/agent-connection-watch");
        let call = format!("GET /api/v2{path}");
        let parameters: Vec<_> = agent.map(|agent| ("agent_name", agent)).into_iter().collect();
        let request = self.empty_request(&path, &parameters)?;
        let opened = self.transport().websocket(request, WebSocketOptions::default()).await;
        let error = match opened {
            Ok(socket) => return Ok(Watch(Source::Socket { socket, ended: None })),
            Err(error) => self.refused(&call, error),
        };
        let missing = error.is_missing_route()
            || (error.status() == Some(StatusCode::NOT_FOUND)
                && self.workspace(workspace).await.is_ok());
        if !missing {
            return Err(error.into());
        }
        tracing::debug!("the server has no connection watch; using the event stream");
        self.set_watch_missing();
        self.event_stream(workspace).await
    }

    async fn event_stream(&self, workspace: Uuid) -> Result<Watch, WatchError> {
        let body = self.stream(&format!("/workspaces/{workspace}/watch")).await?;
        let parser = EventParser::new(MAX_EVENT);
        Ok(Watch(Source::Events { body, parser, waiting: Vec::new() }))
    }
}

impl Watch {
    /// The next fact. Not cancel safe: to be awaited by one task to its end.
    ///
    /// # Errors
    /// Once, when there will be no more.
    pub async fn next(&mut self) -> Result<Fact, WatchError> {
        match &mut self.0 {
            Source::Socket { socket, ended } => match ended.take() {
                Some(error) => Err(error),
                None => from_socket(socket, ended).await,
            },
            Source::Events { body, parser, waiting } => from_events(body, parser, waiting).await,
        }
    }
}

async fn from_socket(
    socket: &mut WebSocket,
    ended: &mut Option<WatchError>,
) -> Result<Fact, WatchError> {
    match hear(socket).await {
        Ok(text) => read(&text, ended),
        Err(Silence::Broke(error)) => Err(Error::from(error).into()),
        Err(Silence::Dead) => Err(WatchError::Silent),
    }
}

/// Why no message came.
#[derive(Debug)]
pub(super) enum Silence {
    /// The socket was closed, or broke.
    Broke(coderctl_transport::Error),
    /// Nothing was heard for [`DEAD_AFTER`], although we asked.
    Dead,
}

/// The next message of a socket on which only the server speaks. Asks whether it is there when it
/// has been quiet.
pub(super) async fn hear(socket: &mut WebSocket) -> Result<String, Silence> {
    let mut silent = Duration::ZERO;
    loop {
        match tokio::time::timeout(ASK_AFTER, socket.next()).await {
            Ok(Ok(Message::Text(text))) => return Ok(text),
            Ok(Ok(Message::Binary(bytes))) => {
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            Ok(Ok(Message::Alive)) => silent = Duration::ZERO,
            Ok(Err(error)) => return Err(Silence::Broke(error)),
            Err(_) => {
                silent += ASK_AFTER;
                if silent >= DEAD_AFTER {
                    return Err(Silence::Dead);
                }
                // One that cannot even be written to any more is as dead.
                match tokio::time::timeout(ASK_AFTER, socket.ping()).await {
                    Ok(asked) => asked.map_err(Silence::Broke)?,
                    Err(_) => return Err(Silence::Dead),
                }
            }
        }
    }
}

/// Reads one message. An error that is about agents is a fact, and the stream's end follows it.
fn read(text: &str, ended: &mut Option<WatchError>) -> Result<Fact, WatchError> {
    let call = "GET agent-connection-watch".to_owned();
    let update: Update =
        serde_json::from_str(text).map_err(|source| Error::Decode { call, source })?;
    if let Some(told) = update.error {
        let (code, retryable, message, details) = match told {
            Told::Full { code, retryable, message, details } => (code, retryable, message, details),
            Told::Text(message) => (0, false, message, None),
        };
        let fact = match code {
            1 => Some(Fact::SeveralAgents),
            2 => Some(Fact::NoSuchAgent),
            3 => Some(Fact::NoAgent),
            _ => None,
        };
        let error = WatchError::Told { code, retryable, message, details };
        return match fact {
            Some(fact) => {
                *ended = Some(error);
                Ok(fact)
            }
            None => Err(error),
        };
    }
    if let Some(BuildUpdate { transition, job_status }) = update.build_update {
        return Ok(Fact::Build { transition, job_status });
    }
    if let Some(AgentUpdate { lifecycle, id }) = update.agent_update {
        return Ok(Fact::Agent { id, lifecycle });
    }
    Ok(Fact::Other)
}

async fn from_events(
    body: &mut Body,
    parser: &mut EventParser,
    waiting: &mut Vec<ServerEvent>,
) -> Result<Fact, WatchError> {
    loop {
        while !waiting.is_empty() {
            let event = waiting.remove(0);
            if event.kind != "data" {
                continue;
            }
            let call = "GET workspace watch".to_owned();
            let workspace = serde_json::from_str(&event.data)
                .map_err(|source| Error::Decode { call, source })?;
            return Ok(Fact::Snapshot(Box::new(workspace)));
        }
        let chunk = tokio::time::timeout(DEAD_AFTER, body.chunk()).await;
        let chunk = chunk.map_err(|_| WatchError::Silent)?.map_err(Error::from)?;
        let Some(chunk) = chunk else {
            return Err(WatchError::Told {
                code: 0,
                retryable: true,
                message: "the server ended the event stream".to_owned(),
                details: None,
            });
        };
        *waiting = parser.push(&chunk).map_err(|error| WatchError::Told {
            code: 0,
            retryable: false,
            message: error.to_string(),
            details: None,
        })?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> String {
        match read(text, &mut None) {
            Ok(fact) => format!("{fact:?}"),
            Err(error) => format!("{error}, transient: {}", error.is_transient()),
        }
    }

    #[test]
    fn messages_as_a_server_sends_them() {
        assert_eq!(
            words(r#"{"error":null,"build_update":{"transition":"start","job_status":"running"}}"#),
            r#"Build { transition: "start", job_status: "running" }"#
        );
        assert!(words(
            r#"{"error":null,"agent_update":{"lifecycle":"ready","id":"ab8545d3-479d-4c05-ba6d-5000150329dd"}}"#
        )
        .starts_with("Agent { id: ab8545d3"));
        assert_eq!(words(r#"{"error":null,"job_log":{"x":1}}"#), "Other");
    }

    #[test]
    fn errors_say_whether_to_try_again() {
        assert_eq!(
            words(r#"{"error":{"code":4,"retryable":true,"message":"going down"}}"#),
            "going down, transient: true"
        );
        assert_eq!(
            words(r#"{"error":{"code":5,"message":"db","details":"unauthorized"}}"#),
            "db: unauthorized, transient: false"
        );
        assert_eq!(words(r#"{"error":"odd"}"#), "odd, transient: false");
    }

    #[test]
    fn an_error_about_agents_is_a_fact_and_then_the_end() {
        let mut ended = None;
        let fact = read(r#"{"error":{"code":1,"message":"too many"}}"#, &mut ended).unwrap();
        assert!(matches!(fact, Fact::SeveralAgents));
        assert!(ended.is_some_and(|error| !error.is_transient()));
    }
}
