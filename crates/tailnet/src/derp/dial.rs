//! From a relay node to a byte stream: an HTTP request that is upgraded
//! (coder/tailscale: derp/derphttp/derphttp_client.go).

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;

pub use coderctl_transport::{BoxStream, Stream};
use coderctl_transport::{Error, Target, Transport};

use crate::derp_map::{Family, RelayNode, UrlError};

/// How relays are reached; scripted in tests.
pub trait Dial: Send + Sync + 'static {
    /// A byte stream on which the relay speaks next.
    fn dial<'a>(&'a self, node: &'a RelayNode) -> DialFuture<'a>;
}

/// What [`Dial::dial`] gives.
pub type DialFuture<'a> = Pin<Box<dyn Future<Output = Result<BoxStream, DialError>> + Send + 'a>>;

/// The real one: an HTTP upgrade with the protocol name `DERP`, over TLS unless the map says
/// otherwise. No session token goes to relays.
#[derive(Clone)]
pub struct TransportDial {
    transport: Transport,
}

impl TransportDial {
    /// Relays as this transport reaches them, with its proxies, trust roots and extra headers.
    pub fn new(transport: Transport) -> Self {
        TransportDial { transport }
    }

    async fn upgrade(&self, node: &RelayNode) -> Result<BoxStream, DialError> {
        let url = node.url()?;
        let target = target(node)?;
        let host = target.name();
        let request = http::Request::get(url.as_str()).body(()).map_err(|cause| {
            DialError::Unreachable { host: host.clone(), cause: Box::new(cause) }
        })?;
        match self.transport.upgrade_at(request, "DERP", &target).await {
            Ok((_, stream)) => Ok(stream),
            Err(Error::Status { parts, .. }) => {
                Err(DialError::Refused { host, status: parts.status.as_u16() })
            }
            Err(cause) => Err(DialError::Unreachable { host, cause: Box::new(cause) }),
        }
    }
}

impl Dial for TransportDial {
    fn dial<'a>(&'a self, node: &'a RelayNode) -> DialFuture<'a> {
        Box::pin(self.upgrade(node))
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
    /// It answered, but not with an upgrade.
    #[error("the relay at {host} refused the connection (HTTP status {status})")]
    Refused {
        /// Whom we asked.
        host: String,
        /// Its answer; 400 to 499 usually come from something in between that knows no upgrade.
        status: u16,
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
