//! REST calls.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use coderctl_transport::{Body, Limits, Transport};
use http::{HeaderValue, Method, Request, StatusCode, header};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Agent, Build, BuildInfo, ConnectionInfo, Error, Workspace, error::is_page};

/// Tries of a call without effect, the first included. The Go client makes ten at two seconds'
/// distance; ours grow, and reach about the same time.
const TRIES: u32 = 6;

/// First pause between tries; doubled each time, with up to a half of it added at random.
const PAUSE: Duration = Duration::from_millis(250);

/// Longest pause, also of a server that asks for more (`Retry-After`).
const MAX_PAUSE: Duration = Duration::from_secs(8);

/// How long the text of an error may take to follow its status.
const ERROR_BODY: Duration = Duration::from_secs(2);

/// Longest name of a user, workspace or agent that is asked for; legal ones have 32 characters.
const MAX_NAME: usize = 256;

/// Workspaces fetched at once.
const PAGE: usize = 100;

/// Version of the tailnet API that is asked for: 2.0 is what every server since 2.8 speaks, and
/// what is newer is tried and may be missing.
const TAILNET_VERSION: &str = "2.0";

/// A session token. Shown as redacted, zeroed when dropped.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Takes the text of a token; white space around it is dropped.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.trim().to_owned()))
    }

    /// The token itself, to be stored or sent, never shown.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// A deployment and who we are there. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Transport,
    url: Url,
    token: Option<Token>,
    limits: Limits,
    /// The server was found to lack the connection watch; it is not asked again.
    watch_missing: Arc<AtomicBool>,
}

impl Client {
    /// A client of the deployment at `url`.
    #[must_use]
    pub fn new(transport: Transport, url: Url, token: Option<Token>) -> Self {
        let watch_missing = Arc::default();
        Self { transport, url, token, limits: Limits::default(), watch_missing }
    }

    /// The same with another limit for each call.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.limits.deadline = deadline;
        self
    }

    /// The deployment's URL.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The way to every host.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// `GET /buildinfo`; needs no token.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn build_info(&self) -> Result<BuildInfo, Error> {
        self.get("/buildinfo", &[]).await
    }

    /// All workspaces that a search finds, page by page.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn workspaces(&self, query: &str) -> Result<Vec<Workspace>, Error> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            workspaces: Option<Vec<Workspace>>,
            #[serde(default)]
            count: usize,
        }
        let mut all: Vec<Workspace> = Vec::new();
        loop {
            let (limit, offset) = (PAGE.to_string(), all.len().to_string());
            let parameters = [("q", query), ("limit", &limit), ("offset", &offset)];
            let page: Page = self.get("/workspaces", &parameters).await?;
            let found = page.workspaces.unwrap_or_default();
            let last = found.is_empty();
            all.extend(found);
            if last || all.len() >= page.count {
                return Ok(all);
            }
        }
    }

    /// A workspace by owner (`me` or a user name) and name.
    ///
    /// # Errors
    /// [`Error::Input`] for what can be no name; see [`Error`].
    pub async fn workspace_by_name(&self, owner: &str, name: &str) -> Result<Workspace, Error> {
        let path = format!("/users/{}/workspace/{}", segment(owner)?, segment(name)?);
        self.get(&path, &[]).await
    }

    /// A workspace by id; 410 when it is deleted.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn workspace(&self, id: Uuid) -> Result<Workspace, Error> {
        self.get(&format!("/workspaces/{id}"), &[]).await
    }

    /// Wakes a dormant workspace; one that is awake stays so.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn wake(&self, workspace: Uuid) -> Result<(), Error> {
        let path = format!("/workspaces/{workspace}/dormant");
        let body = json(&serde_json::json!({"dormant": false}));
        self.send(Method::PUT, &path, body).await.map(drop)
    }

    /// A build.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn build(&self, id: Uuid) -> Result<Build, Error> {
        self.get(&format!("/workspacebuilds/{id}"), &[]).await
    }

    /// A build of a workspace by its number.
    ///
    /// # Errors
    /// 404 when there is none; see [`Error`].
    pub async fn build_by_number(
        &self,
        workspace: &Workspace,
        number: u64,
    ) -> Result<Build, Error> {
        let (owner, name) = (segment(&workspace.owner_name)?, segment(&workspace.name)?);
        self.get(&format!("/users/{owner}/workspace/{name}/builds/{number}"), &[]).await
    }

    /// An agent's record.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn agent(&self, id: Uuid) -> Result<Agent, Error> {
        self.get(&format!("/workspaceagents/{id}"), &[]).await
    }

    /// How agents are reached. Without an agent it can be asked for before one is known, by any
    /// user; servers that lack that form answer 404.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn connection_info(&self, agent: Option<Uuid>) -> Result<ConnectionInfo, Error> {
        let path = match agent {
            Some(agent) => format!("/workspaceagents/{agent}/connection"),
            None => "/workspaceagents/connection".to_owned(),
        };
        self.get(&path, &[]).await
    }

    /// The options that OpenSSH should have for this deployment. Not to be trusted.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ssh_options(&self) -> Result<BTreeMap<String, String>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            ssh_config_options: Option<BTreeMap<String, String>>,
        }
        let answer: Answer = self.get("/deployment/ssh", &[]).await?;
        Ok(answer.ssh_config_options.unwrap_or_default())
    }

    /// Reports that the workspace is in use, with the agent and app for `ssh`, without for a
    /// forward.
    ///
    /// # Errors
    /// 403 for somebody who may connect but not change the workspace: normal, never fatal.
    pub async fn report_usage(
        &self,
        workspace: Uuid,
        session: Option<(Uuid, &str)>,
    ) -> Result<(), Error> {
        let path = format!("/workspaces/{workspace}/usage");
        let body = match session {
            Some((agent, app)) => json(&serde_json::json!({"agent_id": agent, "app_name": app})),
            None => Bytes::new(),
        };
        self.send(Method::POST, &path, body).await.map(drop)
    }

    /// The request that opens a coordination socket: for one agent, or for all that the user may
    /// reach.
    ///
    /// # Errors
    /// [`Error::Input`] for a resume token that can be no part of a URL.
    pub fn coordinate_request(
        &self,
        agent: Option<Uuid>,
        resume_token: Option<&str>,
    ) -> Result<Request<()>, Error> {
        let path = match agent {
            Some(agent) => format!("/workspaceagents/{agent}/coordinate"),
            None => "/tailnet".to_owned(),
        };
        let mut parameters = vec![("version", TAILNET_VERSION)];
        parameters.extend(resume_token.map(|token| ("resume_token", token)));
        self.empty_request(&path, &parameters)
    }

    /// A GET that follows something, as a WebSocket or an event stream.
    pub(super) fn empty_request(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Request<()>, Error> {
        self.build_request(Method::GET, path, parameters).map(|(request, _)| request)
    }

    /// A GET whose answer goes on.
    pub(super) async fn stream(&self, path: &str) -> Result<Body, Error> {
        let (request, call) = self.build_request(Method::GET, path, &[])?;
        let request = request.map(|()| Bytes::new());
        let response = self.transport.stream(request, self.limits.deadline).await?;
        let (parts, mut body) = response.into_parts();
        let host = self.host();
        if parts.status == StatusCode::OK {
            let kind = parts.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
            if kind.is_some_and(|kind| kind.starts_with(b"text/event-stream")) {
                return Ok(body);
            }
            let why = format!("{call} was answered with something that is no event stream");
            return Err(Error::NotCoder { host, why });
        }
        // Only the text is at stake: an answer that stalls is told by its status.
        let first = tokio::time::timeout(ERROR_BODY, body.chunk()).await;
        let first = first.ok().and_then(Result::ok).flatten().unwrap_or_default();
        Err(Error::from_answer(&call, &host, parts.status, &parts.headers, &first))
    }

    /// A call without effect, tried again while the server is unwell.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<T, Error> {
        let mut attempt = 1;
        let began = Instant::now();
        loop {
            let (request, call) = self.build_request(Method::GET, path, parameters)?;
            let outcome = self.exchange(request.map(|()| Bytes::new()), &call).await;
            match outcome {
                Ok(answer) => return self.decode(&call, &answer),
                Err((error, asked)) if error.is_transient() && self.may_try(attempt, began) => {
                    tracing::debug!(%error, attempt, "trying again");
                    tokio::time::sleep(pause(attempt, asked)).await;
                    attempt += 1;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let (call, answer) = self.send(Method::POST, path, json(body)).await?;
        self.decode(&call, &answer)
    }

    /// A call with an effect, tried again only if the server surely never saw it.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(String, Answer), Error> {
        let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let headers = if body.is_empty() { &json[..0] } else { &json };
        self.send_with(method, path, body, headers).await
    }

    /// The same with these headers.
    pub(super) async fn send_with(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        headers: &[(header::HeaderName, HeaderValue)],
    ) -> Result<(String, Answer), Error> {
        let mut attempt = 1;
        let began = Instant::now();
        loop {
            let (request, call) = self.build_request(method.clone(), path, &[])?;
            let mut request = request.map(|()| body.clone());
            request.headers_mut().extend(headers.iter().cloned());
            match self.exchange(request, &call).await {
                Ok(answer) => return Ok((call, answer)),
                Err((error, asked)) if arrived_never(&error) && self.may_try(attempt, began) => {
                    tokio::time::sleep(pause(attempt, asked)).await;
                    attempt += 1;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Whether there is another try: their number is limited, and so is the time for all of them,
    /// so that a server that never answers costs one deadline and not six.
    fn may_try(&self, attempt: u32, began: Instant) -> bool {
        attempt < TRIES && began.elapsed() < self.limits.deadline
    }

    /// What is known of the watch's absence.
    pub(super) fn watch_is_missing(&self) -> bool {
        self.watch_missing.load(Ordering::Relaxed)
    }

    /// The server has no watch.
    pub(super) fn set_watch_missing(&self) {
        self.watch_missing.store(true, Ordering::Relaxed);
    }

    /// One try; on failure also how long the server wants us to wait.
    async fn exchange(
        &self,
        request: Request<Bytes>,
        call: &str,
    ) -> Result<Answer, (Error, Option<Duration>)> {
        let began = Instant::now();
        let response = self.transport.request(request, self.limits).await;
        let response = response.map_err(|error| (Error::from(error), None))?;
        tracing::debug!(call, status = response.status().as_u16(), took = ?began.elapsed());
        let (parts, body) = response.into_parts();
        if parts.status.is_success() || parts.status == StatusCode::NOT_MODIFIED {
            return Ok(Answer { headers: parts.headers, body });
        }
        let asked = parts
            .headers
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let host = self.host();
        Err((Error::from_answer(call, &host, parts.status, &parts.headers, &body), asked))
    }

    pub(super) fn decode<T: DeserializeOwned>(
        &self,
        call: &str,
        answer: &Answer,
    ) -> Result<T, Error> {
        if is_page(&answer.headers, &answer.body) {
            let why = format!("{call} was answered with a web page");
            return Err(Error::NotCoder { host: self.host(), why });
        }
        serde_json::from_slice(&answer.body)
            .map_err(|source| Error::Decode { call: call.to_owned(), source })
    }

    fn build_request(
        &self,
        method: Method,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<(Request<()>, String), Error> {
        let mut url = self.url.clone();
        url.set_path(&format!("/api/v2{path}"));
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        let call = format!("{method} /api/v2{path}");
        let mut request = Request::new(());
        *request.method_mut() = method;
        let wrong = |_| Error::Input(format!("{call} is no URL"));
        *request.uri_mut() = url.as_str().parse().map_err(wrong)?;
        if let Some(Token(token)) = &self.token {
            let mut value = HeaderValue::from_str(token).map_err(|_| {
                Error::Input("the session token has characters that no token has".to_owned())
            })?;
            value.set_sensitive(true);
            request.headers_mut().insert("coder-session-token", value);
        }
        Ok((request, call))
    }

    pub(super) fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// An upgrade that was refused, with what the server said.
    pub(super) fn refused(&self, call: &str, error: coderctl_transport::Error) -> Error {
        match error {
            coderctl_transport::Error::Status { host, parts, body } => {
                if let Some(location) = redirect(&parts) {
                    let error = coderctl_transport::Error::Redirect { host, location };
                    return Error::Transport(error);
                }
                Error::from_answer(call, &self.host(), parts.status, &parts.headers, &body)
            }
            other @ (coderctl_transport::Error::Options(_)
            | coderctl_transport::Error::Url { .. }
            | coderctl_transport::Error::Resolve { .. }
            | coderctl_transport::Error::Connect { .. }
            | coderctl_transport::Error::Proxy { .. }
            | coderctl_transport::Error::Certificate { .. }
            | coderctl_transport::Error::Tls { .. }
            | coderctl_transport::Error::NotHttp { .. }
            | coderctl_transport::Error::Broken { .. }
            | coderctl_transport::Error::Timeout { .. }
            | coderctl_transport::Error::Redirect { .. }
            | coderctl_transport::Error::TooLarge { .. }
            | coderctl_transport::Error::WebSocket { .. }
            | coderctl_transport::Error::Closed { .. }) => Error::Transport(other),
        }
    }
}

/// Where a refused upgrade wants us to go: a deployment that is reached by another name than its
/// own sends everybody there.
fn redirect(parts: &http::response::Parts) -> Option<String> {
    let location = parts.headers.get(header::LOCATION).filter(|_| parts.status.is_redirection())?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

pub(super) struct Answer {
    headers: http::HeaderMap,
    body: Bytes,
}

/// Whether a call with an effect surely had none.
fn arrived_never(error: &Error) -> bool {
    match error {
        Error::Transport(error) => error.is_before_request() && error.is_transient(),
        Error::Server { status, .. } => *status == StatusCode::TOO_MANY_REQUESTS,
        Error::NotCoder { .. } | Error::Decode { .. } | Error::Input(_) => false,
    }
}

fn pause(attempt: u32, asked: Option<Duration>) -> Duration {
    let grown = PAUSE.saturating_mul(1 << (attempt - 1).min(8));
    // The clock's low digits are random enough to keep clients apart.
    let jitter = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos() % 500);
    let spread = grown + grown.mul_f64(f64::from(jitter) / 1000.0);
    asked.unwrap_or(Duration::ZERO).max(spread).min(MAX_PAUSE)
}

pub(super) fn json(body: &impl Serialize) -> Bytes {
    // These are our own types, whose keys are strings.
    serde_json::to_vec(body).map(Bytes::from).unwrap_or_default()
}

/// A name as one segment of a path.
pub(super) fn segment(name: &str) -> Result<String, Error> {
    let odd = |c: char| c.is_control() || matches!(c, '/' | '\\' | '?' | '#' | '%');
    let why = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_NAME {
        "is too long"
    } else if matches!(name, "." | "..") || name.contains(odd) {
        "has characters that no name has"
    } else {
        return Ok(url::form_urlencoded::byte_serialize(name.as_bytes())
            .collect::<String>()
            .replace('+', "%20"));
    };
    let shown: String = name.chars().take(40).collect();
    Err(Error::Input(format!("the name {} {why}", crate::ui::quoted(&shown))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        for name in ["", "..", "a/b", "a\nb", "a?b", "a%2fb", &"x".repeat(100_000)] {
            let error = segment(name).unwrap_err();
            assert!(error.to_string().len() < 200, "{error}");
        }
        assert_eq!(segment("dev-1").unwrap(), "dev-1");
        assert_eq!(segment("dév 1").unwrap(), "d%C3%A9v%201");
    }

    #[test]
    fn a_token_is_never_shown() {
        let transport = Transport::new(coderctl_transport::Options::default()).unwrap();
        let url = Url::parse("https://coder.example.com").unwrap();
        let client = Client::new(transport, url, Some(Token::new("abcdefghij-secret\n")));
        let request = client.coordinate_request(None, None).unwrap();
        let shown = format!("{client:?} {request:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn pauses_grow_and_obey_the_server_within_reason() {
        assert!(pause(1, None) < Duration::from_millis(400));
        assert!(pause(4, None) >= Duration::from_secs(2));
        assert_eq!(pause(1, Some(Duration::from_secs(3600))), MAX_PAUSE);
        assert_eq!(pause(1, Some(Duration::from_secs(3))), Duration::from_secs(3));
    }
}
