//! Why a host was not reached, or did not answer as it should.

use std::{fmt, io, time::Duration};

use bytes::Bytes;

/// A step on the way to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Looking its name up.
    Resolve,
    /// Connecting by TCP.
    Connect,
    /// Getting through the proxy.
    Proxy,
    /// The TLS handshake.
    Tls,
    /// Waiting for the answer.
    Answer,
    /// Reading the answer's body.
    Body,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "looking up its name",
            Self::Connect => "connecting",
            Self::Proxy => "connecting through the proxy",
            Self::Tls => "the TLS handshake",
            Self::Answer => "an answer",
            Self::Body => "the rest of the answer",
        })
    }
}

/// Why a host was not reached, or did not answer as it should. `host` is `name:port` everywhere.
/// No variant ever holds a header that was sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options cannot be used: a file that is missing or is no certificate.
    #[error("{0}")]
    Options(String),
    /// Not a URL that can be connected to.
    #[error("{url:?} is not a URL to connect to: {why}")]
    Url {
        /// The URL, without credentials.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The name is not known.
    #[error("cannot find host {host}")]
    Resolve {
        /// Whom.
        host: String,
        /// The resolver's answer.
        #[source]
        source: io::Error,
    },
    /// TCP was refused, or there is no route.
    #[error("cannot connect to {host}")]
    Connect {
        /// Whom.
        host: String,
        /// The last address's answer.
        #[source]
        source: io::Error,
    },
    /// The proxy did not let us through.
    #[error("the proxy {proxy} does not connect us to {host}: {why}")]
    Proxy {
        /// Which proxy, without credentials.
        proxy: String,
        /// Whom we wanted.
        host: String,
        /// What it said.
        why: String,
    },
    /// The certificate is not to be trusted.
    #[error("the certificate of {host} is not trusted: {why}")]
    Certificate {
        /// Whose.
        host: String,
        /// Unknown issuer, expired, wrong name, …
        why: String,
    },
    /// TLS failed otherwise.
    #[error("no TLS connection to {host}: {why}")]
    Tls {
        /// With whom.
        host: String,
        /// What went wrong.
        why: String,
    },
    /// What answers is no HTTP server.
    #[error("{host} does not speak HTTP: {why}")]
    NotHttp {
        /// Who.
        host: String,
        /// What it did instead.
        why: String,
    },
    /// The connection broke.
    #[error("the connection to {host} broke")]
    Broken {
        /// To whom.
        host: String,
        /// How.
        #[source]
        source: io::Error,
        /// Whether the request may have reached the server.
        sent: bool,
    },
    /// A time limit passed.
    #[error("{host} did not answer: gave up after {} s of waiting for {step}", after.as_secs_f32())]
    Timeout {
        /// Who.
        host: String,
        /// In which step.
        step: Step,
        /// The limit.
        after: Duration,
    },
    /// An upgrade was refused.
    #[error("{host} answered with HTTP status {}", parts.status)]
    Status {
        /// Who.
        host: String,
        /// Status and headers.
        parts: Box<http::response::Parts>,
        /// The body's beginning, at most 64 KiB.
        body: Bytes,
    },
    /// The answer leads to another host, where a token must not follow.
    #[error("{host} redirects to {location}")]
    Redirect {
        /// Who.
        host: String,
        /// Where to, as it said.
        location: String,
    },
    /// The body is longer than it may be.
    #[error("the answer of {host} is longer than {limit} bytes")]
    TooLarge {
        /// Whose.
        host: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// WebSocket was broken.
    #[error("WebSocket to {host}: {why}")]
    WebSocket {
        /// With whom.
        host: String,
        /// How.
        why: String,
    },
    /// The other side closed the WebSocket.
    #[error("{host} closed the WebSocket ({code} {reason:?})")]
    Closed {
        /// Who.
        host: String,
        /// RFC 6455 section 7.4; 1005 when it gave none, 1006 when the connection just ended.
        code: u16,
        /// What it said.
        reason: String,
    },
}

impl Error {
    /// Whether the request cannot have had an effect: it never reached the server.
    #[must_use]
    pub fn is_before_request(&self) -> bool {
        match self {
            Self::Options(_)
            | Self::Url { .. }
            | Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Proxy { .. }
            | Self::Certificate { .. }
            | Self::Tls { .. } => true,
            Self::Broken { sent, .. } => !sent,
            Self::Timeout { step, .. } => match step {
                Step::Resolve | Step::Connect | Step::Proxy | Step::Tls => true,
                Step::Answer | Step::Body => false,
            },
            Self::NotHttp { .. }
            | Self::Status { .. }
            | Self::Redirect { .. }
            | Self::TooLarge { .. }
            | Self::WebSocket { .. }
            | Self::Closed { .. } => false,
        }
    }

    /// Whether another try may go better: the network, not the configuration.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Broken { .. }
            | Self::Timeout { .. }
            | Self::Closed { .. } => true,
            Self::Status { parts, .. } => {
                parts.status.is_server_error()
                    || parts.status == http::StatusCode::TOO_MANY_REQUESTS
            }
            Self::Options(_)
            | Self::Url { .. }
            | Self::Proxy { .. }
            | Self::Certificate { .. }
            | Self::Tls { .. }
            | Self::NotHttp { .. }
            | Self::Redirect { .. }
            | Self::TooLarge { .. }
            | Self::WebSocket { .. } => false,
        }
    }
}
