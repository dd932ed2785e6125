//! Why a call did not do what it should.

use std::fmt::Write;

use bytes::Bytes;
use coderctl_transport as transport;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use crate::error::{CommandError, Kind};

/// Most of a server's text that is repeated, in characters.
const MAX_TEXT: usize = 1024;

/// Why a call did not do what it should. Texts of the server are kept as they came (cut to a sane
/// length); whoever shows them escapes them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with an error.
    #[error("{}", said(.status, .message, .detail.as_deref(), .validations))]
    Server {
        /// The HTTP status.
        status: StatusCode,
        /// `GET /api/v2/…`.
        call: String,
        /// What it said, for people.
        message: String,
        /// Technical detail.
        detail: Option<String>,
        /// Field and what is wrong with it.
        validations: Vec<(String, String)>,
    },
    /// What answers is no Coder deployment: a web page, a proxy, a portal.
    #[error("{host} does not answer like a Coder deployment: {why}")]
    NotCoder {
        /// Who.
        host: String,
        /// What it answered.
        why: String,
    },
    /// An answer that cannot be understood.
    #[error("the server's answer to {call} cannot be understood")]
    Decode {
        /// `GET /api/v2/…`.
        call: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The server was not reached, or broke off.
    #[error(transparent)]
    Transport(#[from] transport::Error),
    /// Something that no server would know: refused before it was asked.
    #[error("{0}")]
    Input(String),
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    message: String,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    validations: Option<Vec<Validation>>,
}

#[derive(Deserialize)]
struct Validation {
    #[serde(default)]
    field: String,
    #[serde(default)]
    detail: String,
}

impl Error {
    /// Reads an answer whose status says that something is wrong.
    pub(super) fn from_answer(
        call: &str,
        host: &str,
        status: StatusCode,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Self {
        let parsed: Option<ErrorBody> = serde_json::from_slice(body).ok();
        let is_coder = headers.contains_key("x-coder-build-version");
        if let Some(answer) = parsed.filter(|answer| !answer.message.is_empty()) {
            let validations = answer.validations.unwrap_or_default().into_iter();
            return Self::Server {
                status,
                call: call.to_owned(),
                message: cut(&answer.message),
                detail: answer.detail.filter(|text| !text.is_empty()).map(|text| cut(&text)),
                validations: validations
                    .take(20)
                    .map(|one| (cut(&one.field), cut(&one.detail)))
                    .collect(),
            };
        }
        if status.is_client_error() && !is_coder {
            let why = format!("{call} was answered with {}", describe(status, headers, body));
            return Self::NotCoder { host: host.to_owned(), why };
        }
        Self::Server {
            status,
            call: call.to_owned(),
            message: format!("the server answered with {}", describe(status, headers, body)),
            detail: None,
            validations: Vec::new(),
        }
    }

    /// The HTTP status, where the server answered.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Server { status, .. } => Some(*status),
            Self::Transport(transport::Error::Status { parts, .. }) => Some(parts.status),
            Self::NotCoder { .. } | Self::Decode { .. } | Self::Transport(_) | Self::Input(_) => {
                None
            }
        }
    }

    /// Whether the server answered with this HTTP status.
    #[must_use]
    pub fn is(&self, status: StatusCode) -> bool {
        self.status() == Some(status)
    }

    /// Whether the route is unknown: an older server.
    #[must_use]
    pub fn is_missing_route(&self) -> bool {
        match self {
            Self::Server { status, message, .. } => {
                *status == StatusCode::NOT_FOUND && message.starts_with("Route not found")
            }
            Self::NotCoder { .. } | Self::Decode { .. } | Self::Transport(_) | Self::Input(_) => {
                false
            }
        }
    }

    /// Whether another try may go better.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Server { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Transport(error) => error.is_transient(),
            Self::NotCoder { .. } | Self::Decode { .. } | Self::Input(_) => false,
        }
    }

    /// Which exit code it means.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Server { status, .. } => match status.as_u16() {
                401 => Kind::Login,
                403 | 404 => Kind::Workspace,
                410 => Kind::Deleted,
                429 | 500..=599 => Kind::Server,
                _ => Kind::Other,
            },
            Self::NotCoder { .. } | Self::Decode { .. } => Kind::Protocol,
            Self::Transport(error) => match error {
                transport::Error::Options(_) | transport::Error::Url { .. } => Kind::Usage,
                transport::Error::NotHttp { .. } | transport::Error::TooLarge { .. } => {
                    Kind::Protocol
                }
                transport::Error::Timeout { .. } => Kind::Timeout,
                transport::Error::Resolve { .. }
                | transport::Error::Connect { .. }
                | transport::Error::Proxy { .. }
                | transport::Error::Certificate { .. }
                | transport::Error::Tls { .. }
                | transport::Error::Broken { .. }
                | transport::Error::Status { .. }
                | transport::Error::Redirect { .. }
                | transport::Error::WebSocket { .. }
                | transport::Error::Closed { .. } => Kind::Server,
            },
            Self::Input(_) => Kind::Usage,
        }
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        let kind = error.kind();
        let hint = next_step(&error);
        let command = CommandError::new(kind, error);
        match hint {
            Some(hint) => command.hint(hint),
            None => command,
        }
    }
}

/// What a person can do about it.
fn next_step(error: &Error) -> Option<&'static str> {
    const REACH: &str = "check the deployment's URL, and that it can be opened from here";
    const ADDRESS: &str = "check the deployment's URL";
    match error {
        Error::Server { status, .. } => match status.as_u16() {
            401 => Some("log in again with `coderctl login URL`, or renew CODER_SESSION_TOKEN"),
            403 => Some("log in as somebody who may do this, or ask an administrator"),
            429 | 500..=599 => Some("the server is unwell: try again later, or tell its operator"),
            _ => None,
        },
        Error::NotCoder { .. } => Some(
            "check the deployment's URL; a proxy or a sign-in portal in front of it answers \
             like this too",
        ),
        Error::Decode { .. } => Some(
            "server and client may be too far apart in age (compare with `coderctl version`), or \
             something between them changes answers",
        ),
        Error::Transport(error) => match error {
            transport::Error::Redirect { .. } => {
                Some("use the URL that it redirects to as the deployment's URL")
            }
            transport::Error::Certificate { .. } => Some(
                "a private CA is trusted with --client-tls-ca-file, or by adding it to the system",
            ),
            transport::Error::Proxy { .. } => {
                Some("check HTTPS_PROXY and HTTP_PROXY, or except the host with NO_PROXY")
            }
            transport::Error::Resolve { .. }
            | transport::Error::Connect { .. }
            | transport::Error::Tls { .. }
            | transport::Error::Broken { .. }
            | transport::Error::Timeout { .. }
            | transport::Error::WebSocket { .. }
            | transport::Error::Closed { .. } => Some(REACH),
            transport::Error::NotHttp { .. }
            | transport::Error::TooLarge { .. }
            | transport::Error::Url { .. }
            | transport::Error::Status { .. } => Some(ADDRESS),
            transport::Error::Options(_) => None,
        },
        Error::Input(_) => None,
    }
}

/// Whether a body is a web page, whatever its content type says.
pub(super) fn is_page(headers: &HeaderMap, body: &[u8]) -> bool {
    let typed = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("text/html"));
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    typed || text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<')
}

fn describe(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> String {
    let what = if is_page(headers, body) {
        "a web page"
    } else if body.is_empty() {
        "an empty body"
    } else if body.starts_with(b"Client sent an HTTP request to an HTTPS server") {
        // What Go's servers say (golang.org: net/http/server.go).
        "a demand for TLS: its URL begins with https://"
    } else {
        "something that is no error message"
    };
    format!("status {} and {what}", status.as_u16())
}

fn said(
    status: &StatusCode,
    message: &str,
    detail: Option<&str>,
    validations: &[(String, String)],
) -> String {
    let mut text = format!("{} (HTTP status {})", message.trim_end_matches('.'), status.as_u16());
    if let Some(detail) = detail {
        let _ = write!(text, ": {detail}");
    }
    for (field, detail) in validations {
        let _ = write!(text, "; {field}: {detail}");
    }
    text
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
