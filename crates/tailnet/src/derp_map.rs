//! The relay map: which regions there are, and how their relays are reached.
//!
//! It comes from two places, the JSON of the connection info (before any control connection) and
//! the control stream (again whenever it changes), and is one type afterwards. Every map is
//! rewritten before use ([`DerpMap::rewrite`]): the server does not know under which name its
//! clients reach it, they do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use url::Url;

use crate::ids::{IdError, RegionId};

mod json;
mod wire;

/// Regions in one map at most; deployments have one and a few proxies.
pub const MAX_REGIONS: usize = 1024;

/// Nodes in one region at most.
pub const MAX_NODES: usize = 64;

/// All regions and the preferences among them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DerpMap {
    /// Factors by which a region's latency counts (more is worse); 1 where absent.
    pub region_score: BTreeMap<RegionId, f64>,
    /// The regions.
    pub regions: BTreeMap<RegionId, Region>,
}

/// Relays near to each other; a peer listens in one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Its number.
    pub id: RegionId,
    /// Its relay is part of the control plane.
    pub embedded_relay: bool,
    /// Short name.
    pub code: String,
    /// Name for people. Not to be printed unescaped.
    pub name: String,
    /// Not to be chosen as home.
    pub avoid: bool,
    /// In order of preference.
    pub nodes: Vec<RelayNode>,
}

/// One relay or STUN server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayNode {
    /// Unique in the map.
    pub name: String,
    /// Name to dial; may be empty when there are addresses.
    pub host_name: String,
    /// Name expected in the certificate, when it is not the host name.
    pub cert_name: Option<String>,
    /// What is said of IPv4.
    pub ipv4: Family<Ipv4Addr>,
    /// What is said of IPv6.
    pub ipv6: Family<Ipv6Addr>,
    /// UDP port of STUN, `None` when it does not speak it.
    pub stun_port: Option<u16>,
    /// It relays nothing.
    pub stun_only: bool,
    /// TCP port of the relay, `None` for the scheme's own.
    pub derp_port: Option<u16>,
    /// Its certificate is not verified.
    pub insecure_for_tests: bool,
    /// Plain HTTP instead of TLS.
    pub force_http: bool,
}

/// What a node says about one address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family<A> {
    /// Nothing: look the name up.
    Resolve,
    /// This address.
    Fixed(A),
    /// Not to be used (any text that is no address, by convention `none`).
    Disabled,
}

impl DerpMap {
    /// Points every relay that is part of the control plane at the URL by which we reach the
    /// control plane ourselves (coder/coder: tailnet/derpmap.go). The path does not matter: relays
    /// answer at the root.
    pub fn rewrite(&mut self, server: &Url) {
        let Some(host) = server.host_str() else { return };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let force_http = server.scheme() == "http";
        let port = server.port().unwrap_or(if force_http { 80 } else { 443 });
        let embedded = self.regions.values_mut().filter(|region| region.embedded_relay);
        for node in embedded.flat_map(|region| &mut region.nodes).filter(|node| !node.stun_only) {
            node.host_name = host.to_owned();
            // Upstream keeps a fixed address and dials it; what is certain to work is our own way.
            node.ipv4 = Family::Resolve;
            node.ipv6 = Family::Resolve;
            node.derp_port = Some(port);
            node.force_http = force_http;
        }
    }

    /// The map with which a client can start before the server said anything: the relay of the
    /// control plane at its own URL, under the number that servers give it by default
    /// (coder/coder: codersdk/deployment.go).
    pub fn embedded_at(server: &Url) -> DerpMap {
        let id = RegionId::EMBEDDED;
        let relay = RelayNode::named(format!("{id}b"), "");
        let region = Region {
            id,
            embedded_relay: true,
            code: "coder".to_owned(),
            name: "Coder Embedded Relay".to_owned(),
            avoid: false,
            nodes: vec![relay],
        };
        let mut map = DerpMap::default();
        map.regions.insert(id, region);
        map.rewrite(server);
        map
    }

    /// The regions that may be a home: those that relay, and are not to be avoided while there are
    /// others.
    pub fn home_candidates(&self) -> BTreeSet<RegionId> {
        let relays = || self.regions.values().filter(|region| region.has_relay());
        let any_wanted = relays().any(|region| !region.avoid);
        relays().filter(|region| !(any_wanted && region.avoid)).map(|region| region.id).collect()
    }

    /// The region to listen in, without measuring: the best score, then the control plane's own
    /// relay, then the lowest number. A region to be avoided only when there is no other.
    pub fn choose_home(&self) -> Option<RegionId> {
        let score = |id| self.region_score.get(id).copied().filter(|s| *s > 0.0).unwrap_or(1.0);
        let candidates = self.home_candidates();
        candidates
            .iter()
            .filter_map(|id| self.regions.get(id))
            .min_by(|a, b| {
                (score(&a.id).total_cmp(&score(&b.id)))
                    .then(b.embedded_relay.cmp(&a.embedded_relay))
                    .then(a.id.cmp(&b.id))
            })
            .map(|region| region.id)
    }

    /// The regions whose relays `newer` has not, or has differently: connections to them are to be
    /// made anew.
    pub fn changed_regions(&self, newer: &DerpMap) -> BTreeSet<RegionId> {
        let relays = |region: &Region| region.relays().map(RelayNode::as_relay).collect::<Vec<_>>();
        let unchanged = |region: &Region| {
            newer.regions.get(&region.id).is_some_and(|other| relays(region) == relays(other))
        };
        self.regions.values().filter(|region| !unchanged(region)).map(|region| region.id).collect()
    }
}

/// A STUN server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StunServer {
    /// At this address.
    At(SocketAddr),
    /// At the addresses of this name that are of these families, on this port.
    Named(String, u16, Families),
}

/// Address families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Either.
    Both,
}

impl Families {
    /// Whether this address is of one of them.
    #[must_use]
    pub fn allows(self, address: &IpAddr) -> bool {
        match self {
            Families::V4 => address.is_ipv4(),
            Families::V6 => address.is_ipv6(),
            Families::Both => true,
        }
    }
}

impl DerpMap {
    /// The STUN servers of all regions, each once.
    #[must_use]
    pub fn stun_servers(&self) -> Vec<StunServer> {
        let mut servers = Vec::new();
        for server in self.regions.values().flat_map(|region| &region.nodes).flat_map(stun_servers)
        {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        servers
    }
}

fn stun_servers(node: &RelayNode) -> Vec<StunServer> {
    let Some(port) = node.stun_port else { return Vec::new() };
    let name = Some(&node.host_name).filter(|name| !name.is_empty());
    let named =
        |families| name.map(|name| StunServer::Named(name.clone(), port, families)).into_iter();
    let at = |ip: IpAddr| StunServer::At(SocketAddr::new(ip, port));
    match (node.ipv4, node.ipv6) {
        (Family::Fixed(v4), Family::Fixed(v6)) => vec![at(v4.into()), at(v6.into())],
        (Family::Fixed(v4), Family::Resolve) => {
            named(Families::V6).chain([at(v4.into())]).collect()
        }
        (Family::Fixed(v4), Family::Disabled) => vec![at(v4.into())],
        (Family::Resolve, Family::Fixed(v6)) => {
            named(Families::V4).chain([at(v6.into())]).collect()
        }
        (Family::Disabled, Family::Fixed(v6)) => vec![at(v6.into())],
        (Family::Resolve, Family::Resolve) => named(Families::Both).collect(),
        (Family::Resolve, Family::Disabled) => named(Families::V4).collect(),
        (Family::Disabled, Family::Resolve) => named(Families::V6).collect(),
        (Family::Disabled, Family::Disabled) => Vec::new(),
    }
}

impl Region {
    /// Its nodes that relay, in order of preference.
    pub fn relays(&self) -> impl Iterator<Item = &RelayNode> {
        self.nodes.iter().filter(|node| !node.stun_only)
    }

    /// Whether it can be used as a relay at all.
    pub fn has_relay(&self) -> bool {
        self.relays().next().is_some()
    }
}

impl RelayNode {
    /// A relay at this name, on the port of its scheme, with TLS and without STUN.
    pub fn named(name: impl Into<String>, host_name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            host_name: host_name.into(),
            cert_name: None,
            ipv4: Family::Resolve,
            ipv6: Family::Resolve,
            stun_port: None,
            stun_only: false,
            derp_port: None,
            insecure_for_tests: false,
            force_http: false,
        }
    }

    /// What of it matters to a connection that relays.
    fn as_relay(&self) -> Self {
        Self { stun_port: None, ..self.clone() }
    }

    /// Whether the relay speaks TLS.
    pub fn is_tls(&self) -> bool {
        !self.force_http
    }

    /// The host to name in requests: the host name, or an address where there is none.
    ///
    /// Upstream prefers the IPv4 address; behind a virtual host only the name works, and the
    /// embedded relay's name was just rewritten to one that does.
    pub fn host(&self) -> Option<String> {
        if !self.host_name.is_empty() {
            return Some(self.host_name.clone());
        }
        match (self.ipv4, self.ipv6) {
            (Family::Fixed(address), _) => Some(address.to_string()),
            (_, Family::Fixed(address)) => Some(address.to_string()),
            _ => None,
        }
    }

    /// TCP port of the relay.
    pub fn port(&self) -> u16 {
        self.derp_port.unwrap_or(if self.is_tls() { 443 } else { 80 })
    }

    /// Where the relay answers.
    ///
    /// # Errors
    ///
    /// [`UrlError`] when the node names no host, or one that is none.
    pub fn url(&self) -> Result<Url, UrlError> {
        let host = self.host().ok_or_else(|| UrlError::NoHost(self.name.clone()))?;
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host };
        let scheme = if self.is_tls() { "https" } else { "http" };
        let port = self.derp_port.map(|port| format!(":{port}")).unwrap_or_default();
        Url::parse(&format!("{scheme}://{bracketed}{port}/derp"))
            .map_err(|cause| UrlError::Host { node: self.name.clone(), cause })
    }
}

/// Why a relay node has no URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Neither a name nor an address.
    #[error("relay node {0:?} names neither host nor address")]
    NoHost(String),
    /// The host name is none.
    #[error("relay node {node:?} names a host that is none: {cause}")]
    Host {
        /// Name of the node.
        node: String,
        /// What is wrong with its host.
        cause: url::ParseError,
    },
}

/// Why a relay map cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DerpMapError {
    /// Not the JSON of a map.
    #[error("the relay map is not what was expected: {0}")]
    Json(#[from] serde_json::Error),
    /// A region with an impossible number.
    #[error("the relay map has a bad region: {0}")]
    Region(#[from] IdError),
    /// More regions than any deployment has.
    #[error("the relay map has {0} regions, more than {MAX_REGIONS}")]
    TooManyRegions(usize),
    /// More nodes than any region has.
    #[error("region {region} of the relay map has {nodes} nodes, more than {MAX_NODES}")]
    TooManyNodes {
        /// Which region.
        region: RegionId,
        /// How many nodes.
        nodes: usize,
    },
}

/// The fields of a node as both forms spell them, before they mean anything.
struct RawNode {
    name: String,
    host_name: String,
    cert_name: String,
    ipv4: String,
    ipv6: String,
    stun_port: i64,
    stun_only: bool,
    derp_port: i64,
    insecure_for_tests: bool,
    force_http: bool,
}

impl RawNode {
    /// A node with an impossible port cannot be reached; it is as good as absent, and must not
    /// take the rest of the map with it.
    fn parse(self) -> Option<RelayNode> {
        let derp_port = match u16::try_from(self.derp_port) {
            Ok(0) => None,
            Ok(port) => Some(port),
            Err(_) => {
                tracing::warn!(node = ?self.name, port = self.derp_port, "relay node without a usable port");
                return None;
            }
        };
        Some(RelayNode {
            cert_name: Some(self.cert_name).filter(|name| !name.is_empty()),
            ipv4: family(&self.ipv4),
            ipv6: family(&self.ipv6),
            stun_port: match self.stun_port {
                0 => Some(DEFAULT_STUN_PORT),
                port => u16::try_from(port).ok(),
            },
            name: self.name,
            host_name: self.host_name,
            stun_only: self.stun_only,
            derp_port,
            insecure_for_tests: self.insecure_for_tests,
            force_http: self.force_http,
        })
    }
}

/// RFC 8489, 18.6.
const DEFAULT_STUN_PORT: u16 = 3478;

fn family<A: std::str::FromStr>(text: &str) -> Family<A> {
    if text.is_empty() {
        return Family::Resolve;
    }
    text.parse().map_or(Family::Disabled, Family::Fixed)
}

/// Checks what both forms have in common.
fn region_nodes(
    id: RegionId,
    nodes: impl ExactSizeIterator<Item = RawNode>,
) -> Result<Vec<RelayNode>, DerpMapError> {
    if nodes.len() > MAX_NODES {
        return Err(DerpMapError::TooManyNodes { region: id, nodes: nodes.len() });
    }
    Ok(nodes.filter_map(RawNode::parse).collect())
}

fn scores(raw: impl IntoIterator<Item = (i64, f64)>) -> BTreeMap<RegionId, f64> {
    raw.into_iter()
        .take(MAX_REGIONS)
        .filter_map(|(id, score)| Some((RegionId::new(id).ok()?, score)))
        .collect()
}
