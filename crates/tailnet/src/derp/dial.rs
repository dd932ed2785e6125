//! From a relay node to a byte stream: an HTTP request that is upgraded
//! (coder/tailscale: derp/derphttp/derphttp_client.go).

use std::fmt;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::derp_map::{RelayNode, UrlError};

/// A byte stream, however it came about.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Any byte stream.
pub type BoxStream = Box<dyn ByteStream>;

/// How relays are reached; scripted in tests.
pub trait Dial: Send + Sync + 'static {
    /// A byte stream on which the relay speaks next.
    fn dial<'a>(&'a self, node: &'a RelayNode) -> DialFuture<'a>;
}

/// What [`Dial::dial`] gives.
pub type DialFuture<'a> = Pin<Box<dyn Future<Output = Result<BoxStream, DialError>> + Send + 'a>>;

/// Why there is no byte stream to a relay.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The map does not say where the relay is.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// It answered, but not with an upgrade.
    #[error("the relay at {host} refused the connection (HTTP status {status})")]
    Refused {
        /// Whom we asked.
        host: String,
        /// Its answer; 400 to 499 usually come from something in between that knows no upgrade.
        status: u16,
    },
    /// It could not be reached.
    #[error("cannot reach the relay at {host}: {cause}")]
    Unreachable {
        /// Whom we asked.
        host: String,
        /// What went wrong.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl fmt::Debug for dyn Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}
