//! The data path as one pure machine: peers, a WireGuard tunnel to each, a network stack, and
//! the choice of a path for every datagram.
//!
//! ```text
//!   application ◄──► stack ◄── IPv6 ──► tunnel of the peer ◄── datagrams ──► route ◄──► carrier
//!                                          ▲
//!   coordinator ── handle_peer ── peer table ┘
//! ```
//!
//! **How it is driven.** Give it one input: [`Engine::handle_peer`],
//! [`Engine::handle_relay_packet`], [`Engine::handle_udp`], [`Engine::handle_timeout`], or a call on
//! [`Engine::stack`].
//! Then drain: [`Engine::poll_transmit`] (nothing happens there while the carriers are full; call
//! it again when they have room), [`Engine::poll_event`] until `None`. Then wait until the earliest
//! of new input, room in a carrier, and [`Engine::next_deadline`].
//!
//! **A peer's life.** The coordinator names it ([`PeerUpdate::Node`]); a handshake starts at once
//! ([`crate::wg`]). Connections may be opened before that: their SYNs leave in the moment the
//! session exists. A changed key replaces the tunnel and fails the connections of the old one; a
//! lost peer stays for [`LOST_AFTER`] from its last handshake, for it may only have lost its
//! coordinator; a gone one goes at once.
//!
//! **Which way.** Through the peer's home relay, until [`crate::paths`] has found a direct way; its
//! messages, and those that find our own endpoints, are sent and taken here as well.
//!
//! **Who is believed.** A datagram counts for the peer whose key the relay names or whose address
//! disco has proven, and only if that peer's tunnel opens it; the packet inside must come from one of that peer's addresses and be for
//! one of ours. Everything else is counted and dropped. An address that a peer claims while another
//! one that is there has it, or that is our own, is not the claimant's.
//!
//! **Two roles.** A client reaches out: it begins the handshake with each peer and keeps the tunnel
//! alive. An agent ([`Role::Agent`]) is reached: it answers handshakes, and begins one only when it
//! has something to send and no session (coder/coder: tailnet/configmaps.go).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::disco::is_disco;
use crate::ids::{PeerId, RegionId};
use crate::keys::{NodePrivate, NodePublic};
use crate::node::Node;
use crate::packet;
use crate::paths::Path;
use crate::stack::{Stack, StackConfig, StackError, StackEvent};
use crate::wg::{Handshake, NoiseTunnel, PERSISTENT_KEEPALIVE, Tunnel, TunnelStats};

mod directory;
mod disco;
mod egress;
mod peer;
mod transmit;

pub use directory::{Entropy, Identity};
pub use transmit::{Route, Transmit, TransmitSink};

use directory::Directory;
use egress::{Carriers, Egress};
use peer::Peer;

/// A lost peer is kept for this long after its last handshake (coder/coder: tailnet/configmaps.go,
/// `lostTimeout`).
pub const LOST_AFTER: Duration = Duration::from_secs(15 * 60);

/// Makes the tunnel to a peer with the given key.
pub type TunnelMaker = Box<dyn FnMut(&NodePublic, Instant) -> Box<dyn Tunnel> + Send>;

/// Who begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// We reach out to our peers.
    #[default]
    Client,
    /// Our peers reach out to us.
    Agent,
}

/// The data path. See the module's header for how to drive it.
pub struct Engine {
    role: Role,
    stack: Stack,
    make_tunnel: TunnelMaker,
    directory: Option<Directory>,
    peers: BTreeMap<PeerId, Peer>,
    by_key: BTreeMap<NodePublic, PeerId>,
    by_address: BTreeMap<Ipv6Addr, PeerId>,
    events: VecDeque<Event>,
    stats: EngineStats,
    retired: TunnelStats,
    retired_traffic: Traffic,
}

/// What the coordinator says about a peer.
#[derive(Debug, Clone, PartialEq)]
pub enum PeerUpdate {
    /// Its node, complete each time.
    Node(Box<Node>),
    /// It took its leave.
    Gone,
    /// The coordinator lost sight of it, or we of the coordinator; it may still be there.
    Lost,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// In the stack.
    Stack(StackEvent),
    /// A tunnel has its first session, this long after it was made.
    PeerReachable(PeerId, Duration),
    /// A peer did not answer for 90 s; it is asked again when there is something to send.
    PeerSilent(PeerId),
    /// A peer was removed: it left, or was lost for too long.
    PeerRemoved(PeerId),
    /// The datagrams of a peer take another way; [`Engine::path`] says which.
    PathChanged(PeerId),
    /// A peer answered a disco ping that took this way, after this time.
    DiscoPong(PeerId, Path, Duration),
    /// Our own endpoints are others; [`Engine::endpoints`] says which.
    EndpointsChanged,
}

/// Counters of an [`Engine`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Datagrams that came in.
    pub datagrams_in: u64,
    /// Datagrams that went out.
    pub datagrams_out: u64,
    /// Datagrams from a key that is no peer's.
    pub unknown_key: u64,
    /// Datagrams that no session opened: malformed, forged, replayed, too old.
    pub not_opened: u64,
    /// Opened packets whose source is none of the peer's addresses, or whose destination is not
    /// ours.
    pub wrong_address: u64,
    /// Addresses that a peer claimed and another one has, or we.
    pub wrong_claims: u64,
    /// Disco messages answered.
    pub disco_answered: u64,
    /// Disco messages that wanted no answer or deserved none.
    pub disco_ignored: u64,
}

/// IP packets inside the tunnels, in both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets from peers.
    pub rx_packets: u64,
    /// Their bytes, with IP headers.
    pub rx_bytes: u64,
    /// Packets to peers.
    pub tx_packets: u64,
    /// Their bytes, with IP headers.
    pub tx_bytes: u64,
}

impl Traffic {
    fn received(&mut self, packet: &[u8]) {
        self.rx_packets += 1;
        self.rx_bytes += packet::length(packet) as u64;
    }

    fn sent(&mut self, packet: &[u8]) {
        self.tx_packets += 1;
        self.tx_bytes += packet.len() as u64;
    }
}

impl std::ops::Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            rx_packets: self.rx_packets + other.rx_packets,
            rx_bytes: self.rx_bytes + other.rx_bytes,
            tx_packets: self.tx_packets + other.tx_packets,
            tx_bytes: self.tx_bytes + other.tx_bytes,
        }
    }
}

/// One peer, as the engine knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Who.
    pub id: PeerId,
    /// Its addresses in the tunnel.
    pub addresses: Vec<Ipv6Addr>,
    /// Age of its last completed handshake, `None` before the first and long after the last.
    pub last_handshake: Option<Duration>,
    /// The coordinator does not see it any more.
    pub lost: bool,
    /// Its packets since it became known with this key.
    pub traffic: Traffic,
}

/// What an [`Engine`] is made with.
#[derive(Debug)]
pub struct EngineConfig {
    /// Our WireGuard key.
    pub key: NodePrivate,
    /// The stack's configuration, with our address.
    pub stack: StackConfig,
}

impl Engine {
    /// An engine with real WireGuard.
    pub fn new(config: EngineConfig, now: Instant) -> Self {
        let stack = Stack::new(config.stack, now);
        let private = config.key;
        Self::with_parts(
            stack,
            Box::new(move |peer, now| {
                Box::new(NoiseTunnel::new(&private.expose_bytes(), peer.as_bytes(), now))
            }),
        )
    }

    /// An engine of given parts: `stack` with our address, `make_tunnel` for each peer key.
    pub fn with_parts(stack: Stack, make_tunnel: TunnelMaker) -> Self {
        Self {
            role: Role::Client,
            stack,
            make_tunnel,
            directory: None,
            peers: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_address: BTreeMap::new(),
            events: VecDeque::new(),
            stats: EngineStats::default(),
            retired: TunnelStats::default(),
            retired_traffic: Traffic::default(),
        }
    }

    /// Plays this role for the peers that become known from now on.
    pub fn set_role(&mut self, role: Role) {
        self.role = role;
    }

    /// Our (first) address in the tunnel.
    pub fn address(&self) -> Ipv6Addr {
        self.stack.address()
    }

    /// Has other addresses in the tunnel from now on; see [`Stack::set_addresses`].
    ///
    /// # Errors
    ///
    /// As [`Stack::set_addresses`].
    pub fn set_addresses(
        &mut self,
        addresses: &[Ipv6Addr],
        now: Instant,
    ) -> Result<(), StackError> {
        self.stack.set_addresses(addresses, now)
    }

    /// The connections, sockets and pings. After a call that changes anything, drain the engine.
    pub fn stack(&mut self) -> &mut Stack {
        &mut self.stack
    }

    /// Takes what the coordinator says about a peer.
    pub fn handle_peer(&mut self, id: PeerId, update: PeerUpdate, now: Instant) {
        match update {
            PeerUpdate::Node(node) => self.peer_node(id, *node, now),
            PeerUpdate::Gone => self.remove_peer(id, now),
            PeerUpdate::Lost => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.lost(now);
                }
            }
        }
    }

    /// Takes a datagram that came through the relay `region` from the node `from`.
    pub fn handle_relay_packet(
        &mut self,
        region: RegionId,
        from: &NodePublic,
        datagram: BytesMut,
        now: Instant,
    ) {
        self.stats.datagrams_in += 1;
        let Some(id) = self.by_key.get(from).copied() else {
            self.stats.unknown_key += 1;
            return;
        };
        if is_disco(&datagram) {
            self.disco_of_peer(id, Path::Relay(region), &datagram, now);
        } else {
            self.open(id, Path::Relay(region), datagram, now);
        }
    }

    /// Takes a datagram of a peer's tunnel.
    fn open(&mut self, id: PeerId, path: Path, datagram: BytesMut, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let opened = peer.tunnel.open(datagram, now);
        if opened.is_ok() {
            match path {
                Path::Relay(_) => peer.paths.heard_by_relay(now),
                Path::Direct(address) => peer.paths.heard_from(address, now),
            }
        }
        match opened {
            Ok(Some(inner)) => {
                let may_send = packet::addresses(&inner).is_some_and(|(source, destination)| {
                    self.stack.addresses().contains(&destination)
                        && self.by_address.get(&source) == Some(&id)
                        && packet::is_tunnel_address(&source)
                });
                if may_send {
                    peer.traffic.received(&inner);
                    self.stack.ingest(&inner, now);
                } else {
                    self.stats.wrong_address += 1;
                }
            }
            Ok(None) => {}
            Err(error) => {
                self.stats.not_opened += 1;
                tracing::trace!(peer = %id, %error, "datagram dropped");
            }
        }
        self.note_peer(id, now);
    }

    /// Lets timers fire that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut expired = Vec::new();
        let mut due = Vec::new();
        for (id, peer) in &mut self.peers {
            if peer.lost_for_good(now) {
                expired.push(*id);
            } else if peer.tunnel.next_deadline().is_some_and(|at| at <= now) {
                peer.tunnel.handle_timeout(now);
                due.push(*id);
            }
        }
        for id in due {
            self.note_peer(id, now);
        }
        for id in expired {
            self.remove_peer(id, now);
        }
        self.time_of_paths(now);
        if self.stack.next_deadline().is_some_and(|at| at <= now) {
            self.stack.handle_timeout(now);
        }
    }

    /// When [`Engine::handle_timeout`] is wanted next; `None` while only input can change
    /// anything.
    pub fn next_deadline(&self) -> Option<Instant> {
        let tunnels = self.peers.values().filter_map(|peer| peer.tunnel.next_deadline());
        let losses = self.peers.values().filter_map(Peer::removal_at);
        let paths = self.deadline_of_paths();
        tunnels.chain(losses).chain(paths).chain(self.stack.next_deadline()).min()
    }

    /// Hands out datagrams until there are none or `sink` takes no more. Nothing is made before
    /// its carrier has agreed to take it, so nothing is ever dropped here.
    pub fn poll_transmit(&mut self, now: Instant, sink: &mut dyn TransmitSink) {
        self.send_of_tunnels(now, sink);
        self.send_of_stack(now, sink);
        // What was sent may have begun a search for a way.
        self.send_of_paths(now, sink);
    }

    fn send_of_stack(&mut self, now: Instant, sink: &mut dyn TransmitSink) {
        if !self.stack.wants_transmit() {
            return;
        }
        let mut egress = Egress {
            peers: &mut self.peers,
            by_address: &self.by_address,
            stats: &mut self.stats,
            sink,
            carriers: None,
            now,
        };
        self.stack.poll_transmit(&mut egress, now);
        self.note_width(now);
        // A connection that found no session has just asked for one.
        self.send_of_tunnels(now, sink);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| self.stack.poll_event().map(Event::Stack))
    }

    /// The relay regions that our peers listen at; a carrier for each is needed.
    pub fn regions(&self) -> BTreeSet<RegionId> {
        self.peers.values().map(|peer| peer.node.home).collect()
    }

    /// The peers known.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.peers.keys().copied()
    }

    /// A peer's node key, `None` for an unknown peer.
    pub fn peer_key(&self, id: PeerId) -> Option<NodePublic> {
        self.peers.get(&id).map(|peer| peer.node.key)
    }

    /// Where a peer's handshake stands, `None` for an unknown peer.
    pub fn handshake(&self, id: PeerId) -> Option<Handshake> {
        self.peers.get(&id).map(|peer| peer.tunnel.handshake())
    }

    /// Counters of the engine itself.
    pub fn stats(&self) -> EngineStats {
        self.stats
    }

    /// Counters of all tunnels together, those of replaced and removed peers included.
    pub fn tunnel_stats(&self) -> TunnelStats {
        self.peers.values().fold(self.retired, |sum, peer| sum + peer.tunnel.stats())
    }

    /// The packets inside all tunnels together, those of replaced and removed peers included.
    pub fn traffic(&self) -> Traffic {
        self.peers.values().fold(self.retired_traffic, |sum, peer| sum + peer.traffic)
    }

    /// The peer that has this address.
    pub fn peer_at(&self, address: &Ipv6Addr) -> Option<PeerId> {
        self.by_address.get(address).copied()
    }

    /// An address of a peer that it really has.
    pub fn peer_address(&self, id: PeerId) -> Option<Ipv6Addr> {
        let mut addresses = self.peers.get(&id)?.node.addresses.iter();
        addresses.find(|address| self.by_address.get(*address) == Some(&id)).copied()
    }

    /// What is known about all peers.
    pub fn peer_infos(&self, now: Instant) -> Vec<PeerInfo> {
        self.peers.iter().map(|(id, peer)| peer.info(*id, now)).collect()
    }

    /// Handshakes, keepalives, and packets that waited for a session.
    fn send_of_tunnels(&mut self, now: Instant, sink: &mut dyn TransmitSink) {
        for peer in self.peers.values_mut() {
            while peer.tunnel.wants_transmit() {
                let Some(carriers) = Carriers::admit(peer, now, sink) else { break };
                let Some(packet) = peer.tunnel.poll_transmit(now) else { break };
                self.stats.datagrams_out += carriers.send(packet, sink);
                peer.paths.message_sent(carriers.way(), now);
            }
        }
    }

    fn peer_node(&mut self, id: PeerId, node: Node, now: Instant) {
        let same_key = self.peers.get(&id).is_some_and(|peer| peer.node.key == node.key);
        if !same_key {
            self.forget_peer(id, now);
            let mut tunnel = (self.make_tunnel)(&node.key, now);
            match self.role {
                Role::Client => {
                    tunnel.set_keepalive(Some(PERSISTENT_KEEPALIVE));
                    tunnel.connect(now);
                }
                Role::Agent => {}
            }
            // Two peers with one key cannot be told apart; the newer name is right.
            if let Some(other) = self.by_key.insert(node.key, id) {
                self.forget_peer(other, now);
                self.by_key.insert(node.key, id);
            }
            self.peers.insert(id, Peer::new(node, tunnel, now));
        } else if let Some(peer) = self.peers.get_mut(&id) {
            for address in peer.replace_node(node) {
                if self.by_address.get(&address) == Some(&id) {
                    self.by_address.remove(&address);
                    self.stack.fail_remote(address, now);
                }
            }
        }
        self.claim_addresses(id);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.lead(id, &self.by_address, &mut self.stack, now);
        }
        if let (Some(directory), Some(peer)) = (&mut self.directory, self.peers.get_mut(&id)) {
            directory.learn(id, peer);
        }
    }

    /// Gives a peer its addresses, but for those that others have.
    fn claim_addresses(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else { return };
        for address in &peer.node.addresses {
            let owner = self.by_address.get(address).filter(|owner| **owner != id);
            let taken = owner.and_then(|owner| self.peers.get(owner)).is_some_and(Peer::is_there);
            if taken || self.stack.addresses().contains(address) {
                tracing::warn!(peer = %id, %address, "a peer claims an address that is not its own");
                self.stats.wrong_claims += 1;
            } else {
                self.by_address.insert(*address, id);
            }
        }
    }

    fn remove_peer(&mut self, id: PeerId, now: Instant) {
        if self.forget_peer(id, now) {
            self.events.push_back(Event::PeerRemoved(id));
        }
    }

    fn forget_peer(&mut self, id: PeerId, now: Instant) -> bool {
        let Some(peer) = self.peers.remove(&id) else { return false };
        self.retired = self.retired + peer.tunnel.stats();
        self.retired_traffic = self.retired_traffic + peer.traffic;
        self.by_key.remove(&peer.node.key);
        if let Some(directory) = &mut self.directory {
            directory.forget(id, &peer);
        }
        for address in &peer.node.addresses {
            if self.by_address.get(address) == Some(&id) {
                self.by_address.remove(address);
                self.stack.fail_remote(*address, now);
            }
        }
        true
    }

    /// Reports what became of a peer's tunnel and path in the step before.
    fn note_peer(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        self.events.extend(peer.note(id, now));
        if peer.paths.take_change() {
            self.events.push_back(Event::PathChanged(id));
        }
        peer.lead(id, &self.by_address, &mut self.stack, now);
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("addresses", &self.stack.addresses())
            .field("peers", &self.peers.keys())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
