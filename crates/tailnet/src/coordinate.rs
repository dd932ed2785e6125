//! A peer's side of coordination, without I/O: who we want to reach, what we tell, what we know
//! of the others (coder/coder: tailnet/controllers.go, tailnet/configmaps.go).
//!
//! ```text
//!   we                                coordinator                       agent
//!    │ ── add_tunnel(agent) ───────────► │                                │
//!    │ ◄─────────────── NODE(agent) ──── │                                │
//!    │ ── update_self(our node) ───────► │ ── NODE(us) ─────────────────► │
//!    │ ◄── READY_FOR_HANDSHAKE(agent) ── │ ◄── ready_for_handshake(us) ── │
//!    │ ── disconnect ──────────────────► │ ── DISCONNECTED(us) ─────────► │
//! ```
//!
//! NODE is when the handshake starts. READY_FOR_HANDSHAKE would be no proof that it can succeed:
//! the agent says it before it has our key (measured), so the handshake repeats itself anyway.
//!
//! The life of a peer: it is known from its NODE on. DISCONNECTED forgets it. LOST, or the loss of
//! our own control connection, does not: packets still flow while coordination is away. How long a
//! lost peer is of use depends on its last handshake, which the [`engine`](crate::engine) knows;
//! it forgets the peer when the time has come. A destination stays a destination through all of it,
//! until it is removed: one that comes back is reached again.
//!
//! An agent reaches out to nobody. It tells who it is, hears of its clients, and says of each that
//! it is ready ([`Coordination::ready`]) once its tunnel is.
//!
//! To be driven like every pure part: one `handle_*` (or change of what is wanted), then
//! [`Coordination::poll_request`] and [`Coordination::poll_update`] until both are empty. There is
//! no deadline: nothing here depends on time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use coderctl_drpc::proto::tailnet as proto;
use proto::coordinate_request::{Disconnect, ReadyForHandshake, Tunnel, UpdateSelf};
use proto::coordinate_response::PeerUpdate as WireUpdate;
use proto::coordinate_response::peer_update::Kind;

use crate::ids::PeerId;
use crate::node::Node;

/// Peers known at once at most. A client knows a few; an agent has one for each client.
pub const MAX_PEERS: usize = 16384;

/// What became of a peer.
#[derive(Debug, Clone, PartialEq)]
pub enum PeerUpdate {
    /// It can be reached like this from now on: start a handshake.
    Node(PeerId, Box<Node>),
    /// It says that it knows us. Comes again and again.
    Ready(PeerId),
    /// It is gone: forget it.
    Gone(PeerId),
    /// The coordinator does not see it any more, or we do not see the coordinator. It may still
    /// answer; either [`PeerUpdate::Node`] or [`PeerUpdate::Gone`] follows.
    Lost(PeerId),
}

/// The state of coordination.
#[derive(Debug, Default)]
pub struct Coordination {
    node: Option<Node>,
    destinations: BTreeSet<PeerId>,
    peers: BTreeMap<PeerId, Sight>,
    connected: bool,
    requests: VecDeque<proto::CoordinateRequest>,
    /// Peers that are to hear that we are ready for them.
    ready: BTreeSet<PeerId>,
    updates: VecDeque<PeerUpdate>,
}

/// Whether the coordinator sees a peer whose node we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    Present,
    Lost,
}

impl Coordination {
    /// Nothing is wanted and nobody known.
    pub fn new() -> Self {
        Coordination::default()
    }

    /// The control connection is there: everything we want is to be said (again).
    pub fn handle_connected(&mut self) {
        self.connected = true;
        self.requests.clear();
        self.ready.clear();
        for peer in &self.destinations {
            self.requests.push_back(add_tunnel(*peer));
        }
        if let Some(node) = &self.node {
            self.requests.push_back(update_self(node));
        }
    }

    /// The control connection is gone, and with it the sight of all peers.
    pub fn handle_disconnected(&mut self) {
        self.connected = false;
        self.requests.clear();
        self.ready.clear();
        for (id, sight) in &mut self.peers {
            if std::mem::replace(sight, Sight::Lost) == Sight::Present {
                self.updates.push_back(PeerUpdate::Lost(*id));
            }
        }
    }

    /// A message of the coordinator.
    pub fn handle_response(&mut self, response: proto::CoordinateResponse) {
        if !response.error.is_empty() {
            tracing::warn!(error = ?response.error, "the coordinator reports an error");
        }
        for update in response.peer_updates {
            self.handle_update(update);
        }
    }

    /// Wants to reach this peer.
    pub fn add_tunnel(&mut self, peer: PeerId) {
        if self.destinations.insert(peer) && self.connected {
            self.requests.push_back(add_tunnel(peer));
        }
    }

    /// Does not want to reach this peer any more; it is forgotten.
    pub fn remove_tunnel(&mut self, peer: PeerId) {
        if self.destinations.remove(&peer) && self.connected {
            self.requests.push_back(remove_tunnel(peer));
        }
        if self.peers.remove(&peer).is_some() {
            self.updates.push_back(PeerUpdate::Gone(peer));
        }
    }

    /// This is how we can be reached. An equal node is not said again; when it was made does not
    /// count.
    pub fn set_node(&mut self, node: Node) {
        let known = self.node.as_ref().is_some_and(|old| {
            let old = Node { as_of: node.as_of, ..old.clone() };
            old == node
        });
        if !known && self.connected {
            self.requests.push_back(update_self(&node));
        }
        if !known {
            self.node = Some(node);
        }
    }

    /// Our tunnel can answer this peer's handshake. For agents alone: a client that says so is cut
    /// off. Nothing is said of a peer that the coordinator does not see.
    pub fn ready(&mut self, peer: PeerId) {
        if self.connected && self.peers.get(&peer) == Some(&Sight::Present) {
            self.ready.insert(peer);
        }
    }

    /// Takes leave; the coordinator then ends the stream.
    pub fn disconnect(&mut self) {
        if self.connected {
            self.requests.clear();
            self.ready.clear();
            let disconnect = Some(Disconnect {});
            self.requests.push_back(proto::CoordinateRequest { disconnect, ..Default::default() });
        }
    }

    /// Who is wanted.
    pub fn destinations(&self) -> &BTreeSet<PeerId> {
        &self.destinations
    }

    /// What is to be said next.
    pub fn poll_request(&mut self) -> Option<proto::CoordinateRequest> {
        self.requests.pop_front().or_else(|| {
            let ready = std::mem::take(&mut self.ready);
            (!ready.is_empty()).then(|| ready_for(&ready))
        })
    }

    /// What became of a peer.
    pub fn poll_update(&mut self) -> Option<PeerUpdate> {
        self.updates.pop_front()
    }

    fn handle_update(&mut self, update: WireUpdate) {
        let id = match PeerId::from_slice(&update.id) {
            Ok(id) => id,
            Err(error) => {
                tracing::warn!(%error, "news of a peer without a proper id");
                return;
            }
        };
        match update.kind() {
            Kind::Node => self.handle_node(id, update.node),
            Kind::ReadyForHandshake => self.updates.push_back(PeerUpdate::Ready(id)),
            Kind::Disconnected => {
                if self.peers.remove(&id).is_some() {
                    self.updates.push_back(PeerUpdate::Gone(id));
                }
            }
            Kind::Lost => {
                if let Some(sight) = self.peers.get_mut(&id)
                    && std::mem::replace(sight, Sight::Lost) == Sight::Present
                {
                    self.updates.push_back(PeerUpdate::Lost(id));
                }
            }
            Kind::Unspecified => {
                tracing::debug!(%id, kind = update.kind, "news of an unknown kind");
            }
        }
    }

    fn handle_node(&mut self, id: PeerId, node: Option<proto::Node>) {
        let node = match Node::parse(node.unwrap_or_default()) {
            Ok(node) => node,
            // What was known of it stays; a proper node follows when the peer has a home.
            Err(error) => {
                tracing::debug!(%id, %error, "a node that is of no use yet");
                return;
            }
        };
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&id) {
            self.peers.retain(|_, sight| *sight == Sight::Present);
            if self.peers.len() >= MAX_PEERS {
                tracing::warn!(%id, "more peers than {MAX_PEERS}, this one is ignored");
                return;
            }
        }
        self.peers.insert(id, Sight::Present);
        self.updates.push_back(PeerUpdate::Node(id, Box::new(node)));
    }
}

fn add_tunnel(peer: PeerId) -> proto::CoordinateRequest {
    let tunnel = Tunnel { id: peer.to_bytes().to_vec() };
    proto::CoordinateRequest { add_tunnel: Some(tunnel), ..Default::default() }
}

fn remove_tunnel(peer: PeerId) -> proto::CoordinateRequest {
    let tunnel = Tunnel { id: peer.to_bytes().to_vec() };
    proto::CoordinateRequest { remove_tunnel: Some(tunnel), ..Default::default() }
}

fn ready_for(peers: &BTreeSet<PeerId>) -> proto::CoordinateRequest {
    let ready = |peer: &PeerId| ReadyForHandshake { id: peer.to_bytes().to_vec() };
    let ready_for_handshake = peers.iter().map(ready).collect();
    proto::CoordinateRequest { ready_for_handshake, ..Default::default() }
}

fn update_self(node: &Node) -> proto::CoordinateRequest {
    let update = UpdateSelf { node: Some(node.to_proto()) };
    proto::CoordinateRequest { update_self: Some(update), ..Default::default() }
}
