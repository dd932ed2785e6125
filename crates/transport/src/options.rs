//! What a transport is made with, and where a single leg goes.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use http::{HeaderMap, Uri};

use crate::{Error, Proxies};

/// What a [`crate::Transport`] is made with.
#[derive(Clone)]
pub struct Options {
    /// PEM certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM certificate chain and private key to show to servers that ask for one.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// Extra headers for every leg: REST, WebSocket, relay.
    pub headers: HeaderMap,
    /// Which proxy for which host.
    pub proxies: Proxies,
    /// `User-Agent` of every request.
    pub user_agent: String,
    /// Limit for name lookup, TCP, proxy and TLS together.
    pub connect_timeout: Duration,
}

impl Options {
    /// Go's dialer and the relay client allow ten seconds for a connection
    /// (coder/tailscale: derp/derphttp/derphttp_client.go).
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
}

impl Default for Options {
    /// No proxies (those of the environment are [`Proxies::from_env`]), the system's roots, no extra
    /// headers.
    fn default() -> Self {
        Self {
            ca_file: None,
            client_cert: None,
            headers: HeaderMap::new(),
            proxies: Proxies::none(),
            user_agent: concat!("coderctl/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Self::CONNECT_TIMEOUT,
        }
    }
}

impl fmt::Debug for Options {
    /// Header values may be secrets: only their names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("ca_file", &self.ca_file)
            .field("client_cert", &self.client_cert)
            // The iterator itself would print the values too.
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("user_agent", &self.user_agent)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

/// Where a leg goes, when that is more than its URL says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Name or address to connect to, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Addresses to use instead of looking the name up.
    pub addresses: Vec<IpAddr>,
    /// Name expected in the certificate, if it is not the host.
    pub server_name: Option<String>,
    /// Do not verify the certificate. Only a relay map that says so sets this.
    pub insecure: bool,
}

impl Target {
    /// The target that a URL means. `ws` and `wss` count as `http` and `https`.
    ///
    /// # Errors
    /// [`Error::Url`] without a host, or with another scheme.
    pub fn of(uri: &Uri) -> Result<Self, Error> {
        let wrong = |why| Error::Url { url: without_credentials(uri), why };
        let tls = match uri.scheme_str() {
            Some("https" | "wss") => true,
            Some("http" | "ws") => false,
            Some(_) => return Err(wrong("its scheme is neither http nor https")),
            None => return Err(wrong("it has no scheme")),
        };
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| wrong("it names no host"))?;
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            tls,
            addresses: Vec::new(),
            server_name: None,
            insecure: false,
        })
    }

    /// `name:port`, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

fn without_credentials(uri: &Uri) -> String {
    let scheme = uri.scheme_str().map(|scheme| format!("{scheme}://")).unwrap_or_default();
    format!("{scheme}{}{}", uri.host().unwrap_or_default(), uri.path())
}
