//! The agent's HTTP API on port 4 of the tunnel (`agent/api.go`).
//!
//! Whoever can reach it may use it: the tunnel has authenticated them. Answers are Coder's:
//! `{message, detail}` where something is wrong.
//!
//! Two routes are ours, and no agent of upstream's has them:
//!
//! * `GET /api/v0/terminals`: the reconnecting terminals whose programs run, as an array of
//!   `{id, command, created_at, attached}`. `command` is empty for a login shell, `created_at` RFC
//!   3339, `attached` the number of clients.
//! * `GET /api/v0/terminals/ID`: `{running, exit_code}` of one of them, or of one of the last that
//!   have ended; `exit_code` is `null` while it runs, and 128 and the number of the signal that
//!   killed it.
//!
//! Whoever can ask could run `ps` over SSH and come back to each of them as well: there is nothing
//! in it that they could not see.

mod debug;
mod files;
mod listening;

use std::{borrow::Cow, convert::Infallible, io, sync::Arc, time::Duration};

use bytes::Bytes;
use coderctl_transport::BoxStream;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::{agent::Agent, containers, environment::Environment};

/// How long the head of a request may take, and the answer to one that is not a file
/// (`agent/agent.go`: read and write timeouts of the server).
const TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes of a request's body that is not a file.
const MAX_BODY: usize = 1 << 20;

/// A body that may be long.
type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Serves one connection to its end.
pub(crate) async fn serve(agent: Arc<Agent>, stream: BoxStream) {
    let service = service_fn(|request| {
        let agent = Arc::clone(&agent);
        async move { Ok::<_, Infallible>(answer(&agent, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the API has ended");
    }
}

/// Something that is wrong, in Coder's words (`codersdk/client.go`, `Response`).
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// What the system says about a file.
    #[allow(clippy::wildcard_enum_match_arm, reason = "the standard library's kinds")]
    fn of(error: &io::Error, path: &str) -> Self {
        let status = match error.kind() {
            io::ErrorKind::NotFound => StatusCode::NOT_FOUND,
            io::ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, format!("{path:?}: {error}"))
    }

    fn into_response(self) -> Response<Body> {
        reply(self.status, &json!({ "message": self.message }))
    }
}

type Answer = Result<Response<Body>, Refusal>;

async fn answer(agent: &Arc<Agent>, request: Request<Incoming>) -> Response<Body> {
    let answer = route(agent, request).await;
    answer.unwrap_or_else(Refusal::into_response)
}

async fn route(agent: &Arc<Agent>, request: Request<Incoming>) -> Answer {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let is = |wanted: Method| {
        if method == wanted {
            return Ok(());
        }
        let message = format!("{method} is not answered here, {wanted} is");
        Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message))
    };
    match path.as_str() {
        "/" => {
            is(Method::GET)?;
            Ok(reply(StatusCode::OK, &json!({ "message": "Hello from the agent!" })))
        }
        "/api/v0/listening-ports" => {
            is(Method::GET)?;
            listening::answer().await
        }
        "/api/v0/netcheck" => {
            is(Method::GET)?;
            debug::netcheck(agent)
        }
        "/api/v0/list-directory" => {
            is(Method::POST)?;
            files::list(agent, request).await
        }
        "/api/v0/resolve-path" => {
            is(Method::GET)?;
            files::resolve(&Query::of(&request)).await
        }
        "/api/v0/read-file" => {
            is(Method::GET)?;
            files::read(&Query::of(&request)).await
        }
        "/api/v0/write-file" => {
            is(Method::POST)?;
            files::write(request).await
        }
        "/api/v0/terminals" => {
            is(Method::GET)?;
            Ok(reply(StatusCode::OK, &agent.terminals.list()))
        }
        "/api/v0/containers" => {
            is(Method::GET)?;
            containers(agent).await
        }
        "/debug/manifest" => {
            is(Method::GET)?;
            debug::manifest(agent)
        }
        "/debug/magicsock" => {
            is(Method::GET)?;
            debug::network(agent)
        }
        "/debug/prometheus" => {
            is(Method::GET)?;
            Ok(debug::metrics(agent))
        }
        "/debug/logs" => {
            is(Method::GET)?;
            debug::logs(agent).await
        }
        other if let Some(id) = other.strip_prefix("/api/v0/terminals/") => {
            is(Method::GET)?;
            terminal(agent, id).await
        }
        other => {
            let message = format!("this agent does not answer {other:?}");
            Err(Refusal::new(StatusCode::NOT_FOUND, message))
        }
    }
}

/// The containers there are (`agent/agentcontainers/api.go`); their development containers are
/// nobody's here.
async fn containers(agent: &Agent) -> Answer {
    let environment = agent.environment.borrow().clone();
    let Some(environment) = environment.filter(Environment::has_containers) else {
        let message = "Dev Container feature not enabled.";
        return Err(Refusal::new(StatusCode::FORBIDDEN, message));
    };
    match containers::list(&environment).await {
        Ok(listed) => Ok(reply(StatusCode::OK, &json!({ "containers": listed }))),
        Err(error) => {
            let message = format!("Could not get containers: {error}");
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message))
        }
    }
}

/// How one terminal is.
async fn terminal(agent: &Agent, id: &str) -> Answer {
    let known = match Uuid::parse_str(id) {
        Ok(id) => agent.terminals.status(id).await,
        Err(_) => None,
    };
    match known {
        Some(status) => Ok(reply(StatusCode::OK, &status)),
        None => Err(Refusal::new(StatusCode::NOT_FOUND, "there is no such terminal")),
    }
}

/// The parameters of a request.
struct Query(Vec<(String, String)>);

impl Query {
    fn of<T>(request: &Request<T>) -> Self {
        let text = request.uri().query().unwrap_or_default();
        let pairs = url::form_urlencoded::parse(text.as_bytes());
        let owned = |text: Cow<'_, str>| text.into_owned();
        Self(pairs.map(|(key, value)| (owned(key), owned(value))).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn number(&self, name: &str) -> Result<u64, Refusal> {
        self.get(name).map_or(Ok(0), |text| {
            text.parse().map_err(|_| Refusal::bad_request(format!("{name} is no number: {text:?}")))
        })
    }
}

fn reply(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(text) => whole(status, "application/json; charset=utf-8", text),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written");
            whole(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", Vec::new())
        }
    }
}

/// A whole body.
fn whole(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Body> {
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
    response(status, kind, body)
}

fn response(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
