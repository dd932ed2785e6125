//! What a peer may say, as pure functions (coder/coder: tailnet/tunnel.go).

use std::net::{IpAddr, Ipv6Addr};

use coderctl_drpc::proto::tailnet::{self as proto, coordinate_request::UpdateSelf};
use coderctl_tailnet::{
    ids::{IdError, PeerId, Prefix},
    keys::{KeyError, NodePublic},
};
use prost::Message as _;

/// The address that agents of old releases have beside their own (same source).
const LEGACY_AGENT: Ipv6Addr =
    Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0x49d6, 0xb259, 0xb7ac, 0xb1b2, 0x48f4);

/// Longest node, in bytes: a hundred endpoints and a hundred regions have a tenth of it.
pub(super) const MAX_NODE: usize = 64 << 10;

/// What a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A workspace agent; its peer id is its own.
    Agent,
    /// Somebody who wants to reach agents.
    Client,
}

/// A request, taken apart and found in order. Whether a tunnel is allowed is another question.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Request {
    pub(super) update_self: Option<(Box<proto::Node>, NodePublic)>,
    pub(super) add_tunnel: Option<PeerId>,
    pub(super) remove_tunnel: Option<PeerId>,
    pub(super) disconnect: bool,
    pub(super) ready_for_handshake: Vec<PeerId>,
}

/// Why a request ends the call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Upstream's words.
    #[error("authorization: agents cannot open tunnels")]
    AgentTunnel,
    /// Upstream's words.
    #[error("authorization: clients may not send ready_for_handshake")]
    ClientReady,
    /// Upstream's words: nobody learns whether the agent exists.
    #[error("authorization: workspace agent not found or you do not have permission")]
    Tunnel,
    /// The endpoint is for one agent.
    #[error("authorization: invalid agent id, expected {expected}, got {got}")]
    OtherAgent {
        /// Whose endpoint it is.
        expected: PeerId,
        /// Who was asked for.
        got: PeerId,
    },
    /// An id in a request.
    #[error("unable to convert bytes to UUID: {0}")]
    Id(#[from] IdError),
    /// No node in it.
    #[error("update_self names no node")]
    NoNode,
    /// Too much of it.
    #[error("the node has {0} bytes, more than {MAX_NODE}")]
    LongNode(usize),
    /// Its key is none.
    #[error("the node's key: {0}")]
    Key(#[from] KeyError),
    /// Its key is all zeros.
    #[error("the node's key is zero")]
    ZeroKey,
    /// No CIDR text.
    #[error("parse node address: {0:?} is no address with the number of its bits")]
    Address(String),
    /// Upstream's words.
    #[error("invalid address bits, expected 128, got {0}")]
    Bits(u8),
    /// Upstream's words: an agent with another's address would get its traffic.
    #[error("invalid node address, got {0}")]
    ForeignAddress(IpAddr),
    /// More than anybody needs.
    #[error("more than {0} tunnels")]
    Tunnels(usize),
    /// It could not be found out; the same request may be granted later.
    #[error("whether this tunnel is allowed could not be determined; try again")]
    Unknown,
}

/// Checks a request of a peer. It is refused as a whole.
pub(super) fn check(
    role: Role,
    peer: PeerId,
    request: proto::CoordinateRequest,
) -> Result<Request, Refusal> {
    let id = |bytes: &[u8]| PeerId::from_slice(bytes);
    let mut checked = Request { disconnect: request.disconnect.is_some(), ..Request::default() };
    match role {
        Role::Agent if request.add_tunnel.is_some() => return Err(Refusal::AgentTunnel),
        Role::Client if !request.ready_for_handshake.is_empty() => {
            return Err(Refusal::ClientReady);
        }
        Role::Agent | Role::Client => {}
    }
    if let Some(update) = request.update_self {
        checked.update_self = Some(node(role, peer, update)?);
    }
    checked.add_tunnel = request.add_tunnel.map(|tunnel| id(&tunnel.id)).transpose()?;
    checked.remove_tunnel = request.remove_tunnel.map(|tunnel| id(&tunnel.id)).transpose()?;
    checked.ready_for_handshake =
        request.ready_for_handshake.iter().map(|ready| id(&ready.id)).collect::<Result<_, _>>()?;
    Ok(checked)
}

fn node(
    role: Role,
    peer: PeerId,
    update: UpdateSelf,
) -> Result<(Box<proto::Node>, NodePublic), Refusal> {
    let node = update.node.ok_or(Refusal::NoNode)?;
    let size = node.encoded_len();
    if size > MAX_NODE {
        return Err(Refusal::LongNode(size));
    }
    let key = NodePublic::from_prefixed(&node.key)?;
    if key.is_zero() {
        return Err(Refusal::ZeroKey);
    }
    for text in node.addresses.iter().chain(&node.allowed_ips) {
        let address = single_address(text)?;
        if role == Role::Agent && !is_agents(peer, address) {
            return Err(Refusal::ForeignAddress(address));
        }
    }
    Ok((Box::new(node), key))
}

/// The address in `<address>/128`. An IPv4 address never has so many bits.
fn single_address(text: &str) -> Result<IpAddr, Refusal> {
    let bad = || Refusal::Address(text.chars().take(64).collect());
    let (address, bits) = text.split_once('/').ok_or_else(bad)?;
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    match bits.parse().map_err(|_| bad())? {
        128 if address.is_ipv6() => Ok(address),
        bits => Err(Refusal::Bits(bits)),
    }
}

fn is_agents(agent: PeerId, address: IpAddr) -> bool {
    let own = [Prefix::Tailscale.address(agent), Prefix::Coder.address(agent), LEGACY_AGENT];
    own.iter().any(|own| IpAddr::V6(*own) == address)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::coordinate_request::{Disconnect, ReadyForHandshake, Tunnel};

    use super::*;

    const AGENT: PeerId = PeerId::from_bytes([0xa1; 16]);
    const CLIENT: PeerId = PeerId::from_bytes([0xc1; 16]);
    const KEY: NodePublic = NodePublic::from_bytes([7; 32]);

    fn good(peer: PeerId) -> proto::Node {
        let address = format!("{}/128", peer.agent_address());
        proto::Node {
            key: KEY.to_prefixed().to_vec(),
            addresses: vec![address.clone()],
            allowed_ips: vec![address],
            ..Default::default()
        }
    }

    fn update(node: proto::Node) -> proto::CoordinateRequest {
        let update_self = Some(UpdateSelf { node: Some(node) });
        proto::CoordinateRequest { update_self, ..Default::default() }
    }

    fn tunnel(id: &[u8]) -> proto::CoordinateRequest {
        let add_tunnel = Some(Tunnel { id: id.to_vec() });
        proto::CoordinateRequest { add_tunnel, ..Default::default() }
    }

    fn ready(id: &[u8]) -> proto::CoordinateRequest {
        let ready_for_handshake = vec![ReadyForHandshake { id: id.to_vec() }];
        proto::CoordinateRequest { ready_for_handshake, ..Default::default() }
    }

    fn refused(role: Role, request: proto::CoordinateRequest) -> Option<String> {
        let peer = if role == Role::Agent { AGENT } else { CLIENT };
        check(role, peer, request).err().map(|refusal| refusal.to_string())
    }

    #[test]
    fn what_is_in_order_is_taken_apart() {
        let request = proto::CoordinateRequest {
            remove_tunnel: Some(Tunnel { id: vec![2; 16] }),
            disconnect: Some(Disconnect {}),
            add_tunnel: Some(Tunnel { id: vec![1; 16] }),
            ..update(good(CLIENT))
        };
        let expected = Request {
            update_self: Some((Box::new(good(CLIENT)), KEY)),
            add_tunnel: Some(PeerId::from_bytes([1; 16])),
            remove_tunnel: Some(PeerId::from_bytes([2; 16])),
            disconnect: true,
            ready_for_handshake: Vec::new(),
        };
        assert_eq!(check(Role::Client, CLIENT, request), Ok(expected));
        let ready = check(Role::Agent, AGENT, ready(&[3; 16]));
        let expected = Request {
            ready_for_handshake: vec![PeerId::from_bytes([3; 16])],
            ..Request::default()
        };
        assert_eq!(ready, Ok(expected));
    }

    #[test]
    fn each_has_its_own_part() {
        assert_eq!(
            refused(Role::Agent, tunnel(&[1; 16])).as_deref(),
            Some("authorization: agents cannot open tunnels")
        );
        assert_eq!(
            refused(Role::Client, ready(&[1; 16])).as_deref(),
            Some("authorization: clients may not send ready_for_handshake")
        );
        for (role, request) in [
            (Role::Client, tunnel(&[1; 15])),
            (Role::Client, tunnel(&[])),
            (Role::Agent, ready(&[1; 17])),
        ] {
            let why = refused(role, request);
            assert!(why.is_some_and(|why| why.starts_with("unable to convert bytes to UUID")));
        }
    }

    #[test]
    fn addresses() {
        let other = PeerId::from_bytes([0xa2; 16]);
        #[rustfmt::skip]
        let table = [
            // address                                     agent                     client
            (format!("{}/128", AGENT.agent_address()),     None,                     None),
            (format!("{}/128", AGENT.client_address()),    None,                     None),
            (format!("{LEGACY_AGENT}/128"),                None,                     None),
            (format!("{}/128", other.agent_address()),     Some("invalid node address"), None),
            (format!("{}/128", other.client_address()),    Some("invalid node address"), None),
            (format!("{}/127", AGENT.agent_address()),     Some("invalid address bits"), Some("invalid address bits")),
            (format!("{}/0", AGENT.agent_address()),       Some("invalid address bits"), Some("invalid address bits")),
            ("10.0.0.1/32".to_owned(),                     Some("invalid address bits"), Some("invalid address bits")),
            ("10.0.0.1/128".to_owned(),                    Some("invalid address bits"), Some("invalid address bits")),
            (AGENT.agent_address().to_string(),            Some("parse node address"), Some("parse node address")),
            ("::/0x80".to_owned(),                         Some("parse node address"), Some("parse node address")),
            (String::new(),                                Some("parse node address"), Some("parse node address")),
            ("\u{1b}[2J/128".to_owned(),                   Some("parse node address"), Some("parse node address")),
        ];
        for (address, agent, client) in table {
            for (role, expected) in [(Role::Agent, agent), (Role::Client, client)] {
                // Either list alone: both decide where packets go.
                let addresses = proto::Node { addresses: vec![address.clone()], ..good(AGENT) };
                let allowed = proto::Node { allowed_ips: vec![address.clone()], ..good(AGENT) };
                for node in [addresses, allowed] {
                    let refused = refused(role, update(node));
                    let fits = match (&refused, expected) {
                        (None, None) => true,
                        (Some(refused), Some(expected)) => refused.starts_with(expected),
                        (None, Some(_)) | (Some(_), None) => false,
                    };
                    assert!(fits, "{role:?} {address:?}: {refused:?}");
                    assert!(!refused.unwrap_or_default().contains('\u{1b}'));
                }
            }
        }
    }

    #[test]
    fn nodes_have_keys_and_bounds() {
        let node = |change: &dyn Fn(&mut proto::Node)| {
            let mut node = good(CLIENT);
            change(&mut node);
            refused(Role::Client, update(node)).unwrap_or_default()
        };
        assert!(node(&|node| node.key.truncate(33)).contains("32 bytes"));
        assert!(node(&|node| drop(node.key.drain(..2))).contains("`np`"));
        assert!(node(&|node| node.key[2..].fill(0)).contains("zero"));
        assert!(node(&|node| node.hostname = "x".repeat(MAX_NODE)).contains("more than 65536"));
        let empty = proto::CoordinateRequest {
            update_self: Some(UpdateSelf { node: None }),
            ..Default::default()
        };
        assert_eq!(refused(Role::Client, empty).as_deref(), Some("update_self names no node"));
    }

    proptest! {
        #[test]
        fn garbage_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), agent: bool) {
            if let Ok(request) = proto::CoordinateRequest::decode(&bytes[..]) {
                let role = if agent { Role::Agent } else { Role::Client };
                let _ = check(role, AGENT, request);
            }
        }
    }
}
