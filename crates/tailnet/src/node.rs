//! A node: what a peer tells others about itself, so that they can reach it.
//!
//! On the wire it is a protobuf message in which nearly everything is text; [`Node::parse`] turns
//! that into types once, by the rules of the receivers upstream (coder/coder: tailnet/convert.go,
//! tailnet/configmaps.go), so that nothing downstream checks again. The same type, written back
//! with [`Node::to_proto`], is how we introduce ourselves.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::SystemTime;

use coderctl_drpc::proto::tailnet as proto;

use crate::ids::{NodeId, RegionId};
use crate::keys::{DiscoPublic, KeyError, NodePublic};

/// Endpoints kept of one node; upstream prunes its candidates at the same number
/// (coder/tailscale: wgengine/magicsock/endpoint.go).
pub const MAX_ENDPOINTS: usize = 100;

/// Addresses kept of one node; agents have two or three.
pub const MAX_ADDRESSES: usize = 16;

/// Characters kept of a text that is only shown to people.
pub const MAX_TEXT: usize = 256;

/// Entries kept of a map from regions to something.
const MAX_REGIONS: usize = 1024;

/// What a peer says about itself, complete each time.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// When it said so, by its own clock.
    pub as_of: Option<SystemTime>,
    /// WireGuard key and identity to relays.
    pub key: NodePublic,
    /// Key of its disco messages.
    pub disco: DiscoPublic,
    /// The relay region where it listens.
    pub home: RegionId,
    /// Seconds to regions, by `<region>-v4` or `<region>-v6`.
    pub derp_latency: BTreeMap<String, f64>,
    /// Regions that it reaches only over WebSocket, and why.
    pub derp_forced_websocket: BTreeMap<i32, String>,
    /// Its addresses in the tunnel, each alone (`/128`); also what may come from it.
    pub addresses: Vec<Ipv6Addr>,
    /// UDP addresses where it may be reached directly.
    pub endpoints: Vec<SocketAddr>,
    /// What it is, for people. Not to be printed unescaped.
    pub short_description: String,
    /// Its host name, for people. Not to be printed unescaped.
    pub hostname: String,
}

impl Node {
    /// Reads a coordinator's message.
    ///
    /// Addresses count when they stand alone (`/128`) and are named both as address and as allowed;
    /// others are left out, and so are endpoints that are no `ip:port`.
    ///
    /// # Errors
    ///
    /// [`NodeError`] when the peer cannot be reached by what it says; upstream then leaves the
    /// peer as it was.
    pub fn parse(node: proto::Node) -> Result<Node, NodeError> {
        let home = RegionId::new(node.preferred_derp.into())
            .map_err(|_| NodeError::NoHome(node.preferred_derp))?;
        let key = NodePublic::from_prefixed(&node.key).map_err(NodeError::Key)?;
        let disco: DiscoPublic = node.disco.parse().map_err(NodeError::Disco)?;
        if key.is_zero() || disco.is_zero() {
            return Err(NodeError::ZeroKey);
        }
        let named = single_addresses(&node.addresses)?;
        let mut addresses = single_addresses(&node.allowed_ips)?;
        addresses.retain(|address| named.contains(address));
        if addresses.is_empty() {
            return Err(NodeError::NoAddress);
        }
        let endpoints = node.endpoints.iter().filter_map(|text| text.parse().ok());
        Ok(Node {
            id: NodeId::new(node.id),
            as_of: node.as_of.and_then(|time| SystemTime::try_from(time).ok()),
            key,
            disco,
            home,
            derp_latency: node.derp_latency.into_iter().take(MAX_REGIONS).collect(),
            derp_forced_websocket: node
                .derp_forced_websocket
                .into_iter()
                .take(MAX_REGIONS)
                .collect(),
            addresses,
            endpoints: endpoints.take(MAX_ENDPOINTS).collect(),
            short_description: shortened(node.short_description),
            hostname: shortened(node.hostname),
        })
    }

    /// The message; `allowed_ips` are the addresses, for receivers drop whatever is only in one.
    pub fn to_proto(&self) -> proto::Node {
        let addresses: Vec<String> =
            self.addresses.iter().map(|address| format!("{address}/128")).collect();
        proto::Node {
            id: self.id.get(),
            as_of: self.as_of.map(Into::into),
            key: self.key.to_prefixed().to_vec(),
            disco: self.disco.to_string(),
            preferred_derp: self.home.get(),
            derp_latency: self.derp_latency.clone(),
            derp_forced_websocket: self.derp_forced_websocket.clone(),
            allowed_ips: addresses.clone(),
            addresses,
            endpoints: self.endpoints.iter().map(ToString::to_string).collect(),
            short_description: self.short_description.clone(),
            hostname: self.hostname.clone(),
        }
    }
}

fn single_addresses(texts: &[String]) -> Result<Vec<Ipv6Addr>, NodeError> {
    let mut addresses = Vec::new();
    for text in texts.iter().take(MAX_ADDRESSES) {
        let bad = || NodeError::Address(shortened(text.clone()));
        let (address, length) = text.split_once('/').ok_or_else(bad)?;
        let length: u8 = length.parse().map_err(|_| bad())?;
        match address.parse().map_err(|_| bad())? {
            IpAddr::V6(address) if length == 128 => addresses.push(address),
            IpAddr::V6(_) if length < 128 => {}
            IpAddr::V4(_) if length <= 32 => {}
            IpAddr::V6(_) | IpAddr::V4(_) => return Err(bad()),
        }
    }
    Ok(addresses)
}

fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
    }
    text
}

/// Why a peer cannot be reached by what it says about itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// It has no home relay (yet).
    #[error("the peer names no home relay (region {0})")]
    NoHome(i32),
    /// Its WireGuard key is malformed.
    #[error("the peer's node key is malformed: {0}")]
    Key(KeyError),
    /// Its disco key is malformed.
    #[error("the peer's disco key is malformed: {0}")]
    Disco(KeyError),
    /// A key of zeros.
    #[error("the peer names a key of zeros")]
    ZeroKey,
    /// An address that is no CIDR text.
    #[error("the peer names an address that is none: {0:?}")]
    Address(String),
    /// No single address that is allowed too.
    #[error("the peer names no single IPv6 address (/128) that it also allows")]
    NoAddress,
}
