//! From a relay node to a byte stream: an HTTP request that is upgraded, or a WebSocket; and how far
//! away the node is (coder/tailscale: derp/derphttp/derphttp_client.go, derp/derphttp/websocket.go,
//! net/netcheck/netcheck.go).

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

pub use coderctl_transport::{BoxStream, Stream};
use coderctl_transport::{Error, Step, Target, Transport, WebSocketOptions};
use url::Url;

use super::carrier::Carrier;
use super::frame::MAX_CLIENT_FRAME;
use crate::derp_map::{Family, RelayNode, UrlError};

/// Limit for one measurement; a relay that needs longer is no home (same source:
/// `overallProbeTimeout`, as Coder's connections set it).
pub const MEASURE_TIMEOUT: Duration = Duration::from_secs(2);

/// The sub-protocol of WebSockets that carry DERP. Without it a relay takes the request for an
/// upgrade.
const SUBPROTOCOL: &str = "derp";

/// How relays are reached; scripted in tests.
pub trait Dial: Send + Sync + 'static {
    /// A byte stream on which the relay speaks next.
    fn dial<'a>(&'a self, node: &'a RelayNode, carrier: Carrier) -> DialFuture<'a>;

    /// How long the relay takes for a round trip over HTTP.
    fn measure<'a>(&'a self, node: &'a RelayNode) -> MeasureFuture<'a>;
}

/// What [`Dial::dial`] gives.
pub type DialFuture<'a> = Pin<Box<dyn Future<Output = Result<BoxStream, DialError>> + Send + 'a>>;

/// What [`Dial::measure`] gives.
pub type MeasureFuture<'a> = Pin<Box<dyn Future<Output = Result<Duration, DialError>> + Send + 'a>>;

/// The real one: HTTP, over TLS unless the map says otherwise. No session token goes to relays.
#[derive(Clone)]
pub struct TransportDial {
    transport: Transport,
}

impl TransportDial {
    /// Relays as this transport reaches them, with its proxies, trust roots and extra headers.
    pub fn new(transport: Transport) -> Self {
        TransportDial { transport }
    }

    async fn open(&self, node: &RelayNode, carrier: Carrier) -> Result<BoxStream, DialError> {
        let (target, request) = (target(node)?, request(node, node.url()?)?);
        let opened = match carrier {
            Carrier::Upgrade => {
                let upgraded = self.transport.upgrade_at(request, "DERP", &target).await;
                upgraded.map(|(_, stream)| stream)
            }
            Carrier::WebSocket => {
                // Messages mean nothing, but none is longer than two of the longest frames.
                let options = WebSocketOptions {
                    subprotocol: Some(SUBPROTOCOL),
                    max_message: 2 * MAX_CLIENT_FRAME,
                };
                let socket = self.transport.websocket_at(request, options, &target).await;
                socket.map(|socket| Box::new(socket.into_stream()) as BoxStream)
            }
        };
        opened.map_err(|error| explain(error, &target))
    }

    async fn round_trip(&self, node: &RelayNode) -> Result<Duration, DialError> {
        let mut url = node.url()?;
        url.set_path("/derp/latency-check");
        let (target, request) = (target(node)?, request(node, url)?);
        let took = self.transport.round_trip(request, &target, MEASURE_TIMEOUT).await;
        took.map_err(|error| explain(error, &target))
    }
}

impl Dial for TransportDial {
    fn dial<'a>(&'a self, node: &'a RelayNode, carrier: Carrier) -> DialFuture<'a> {
        Box::pin(self.open(node, carrier))
    }

    fn measure<'a>(&'a self, node: &'a RelayNode) -> MeasureFuture<'a> {
        Box::pin(self.round_trip(node))
    }
}

fn request(node: &RelayNode, url: Url) -> Result<http::Request<()>, DialError> {
    http::Request::get(url.as_str()).body(()).map_err(|cause| {
        let host = node.host().unwrap_or_default();
        DialError::Unreachable { host, cause: Box::new(cause) }
    })
}

/// What an error says about the way: refused, swallowed, or no way at all.
#[allow(clippy::wildcard_enum_match_arm, reason = "all other errors are handled alike")]
fn explain(error: Error, target: &Target) -> DialError {
    let host = target.name();
    match error {
        Error::Status { parts, .. } => DialError::Refused { host, status: parts.status.as_u16() },
        cause @ (Error::Broken { sent: true, .. }
        | Error::Timeout { step: Step::Answer | Step::Body, .. }
        | Error::NotHttp { .. }
        | Error::WebSocket { .. }
        | Error::Closed { .. }) => DialError::Interrupted { host, cause: Box::new(cause) },
        cause => DialError::Unreachable { host, cause: Box::new(cause) },
    }
}

/// Where the node's relay is. A family that is switched off while the other is looked up cannot be
/// said here; the race of addresses takes care of one that does not work.
fn target(node: &RelayNode) -> Result<Target, DialError> {
    let host = node.host().ok_or_else(|| UrlError::NoHost(node.name.clone()))?;
    let mut addresses = Vec::new();
    if let Family::Fixed(address) = node.ipv4 {
        addresses.push(IpAddr::V4(address));
    }
    if let Family::Fixed(address) = node.ipv6 {
        addresses.push(IpAddr::V6(address));
    }
    Ok(Target {
        host,
        port: node.port(),
        tls: node.is_tls(),
        addresses,
        server_name: node.cert_name.clone(),
        insecure: node.insecure_for_tests,
    })
}

/// Why there is no byte stream to a relay.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The map does not say where the relay is.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// It answered, but not as a relay does.
    #[error("the relay at {host} refused the connection (HTTP status {status})")]
    Refused {
        /// Whom we asked.
        host: String,
        /// Its answer; 400 to 499 usually come from something in between that knows no upgrade.
        status: u16,
    },
    /// Its host was there, and gave no answer, or none that makes sense.
    #[error("no answer of the relay at {host}: {cause}")]
    Interrupted {
        /// Whom we asked.
        host: String,
        /// What went wrong.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It could not be reached.
    #[error("no connection to the relay at {host}: {cause}")]
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

impl fmt::Debug for TransportDial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TransportDial")
    }
}
