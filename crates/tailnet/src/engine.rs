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
//! [`Engine::handle_relay_packet`], [`Engine::handle_timeout`], or a call on [`Engine::stack`].
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
//! **Who is believed.** A datagram counts for the peer whose key the relay names, and only if that
//! peer's tunnel opens it; the packet inside must come from one of that peer's addresses and be for
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

use crate::disco;
use crate::ids::{PeerId, RegionId};
use crate::keys::{NodePrivate, NodePublic};
use crate::node::Node;
use crate::packet;
use crate::stack::{Stack, StackConfig, StackError, StackEvent, UserStack};
use crate::wg::{Handshake, NoiseTunnel, PERSISTENT_KEEPALIVE, Tunnel, TunnelStats};

mod egress;
mod peer;
mod transmit;

pub use transmit::{Route, Transmit, TransmitSink};

use egress::Egress;
use peer::Peer;

/// A lost peer is kept for this long after its last handshake (coder/coder: tailnet/configmaps.go,
/// `lostTimeout`).
pub const LOST_AFTER: Duration = Duration::from_secs(15 * 60);

/// Answers to disco messages that may wait for a carrier. A peer pings a few times in a minute.
const DISCO_QUEUE: usize = 32;

/// Makes the tunnel to a peer with the given key.
pub type TunnelMaker = Box<dyn FnMut(&NodePublic, Instant) -> Box<dyn Tunnel> + Send>;

/// Answers disco messages. A peer without an answer to its pings over the relay believes us
/// unreachable, so even a client that only uses the relay must answer.
pub trait Disco: Send {
    /// Takes a disco packet that came through `region` from the node `from`; gives the packet to
    /// send back the same way, if any. Anything malformed is no answer.
    fn handle_relay(
        &mut self,
        packet: &[u8],
        region: RegionId,
        from: &NodePublic,
    ) -> Option<BytesMut>;

    /// The peers' disco keys changed: only these may be answered.
    fn set_peers(&mut self, peers: &[(NodePublic, crate::keys::DiscoPublic)]);
}

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
    stack: Box<dyn Stack>,
    make_tunnel: TunnelMaker,
    disco: Option<Box<dyn Disco>>,
    peers: BTreeMap<PeerId, Peer>,
    by_key: BTreeMap<NodePublic, PeerId>,
    by_address: BTreeMap<Ipv6Addr, PeerId>,
    disco_answers: VecDeque<Transmit>,
    events: VecDeque<Event>,
    buffer: BytesMut,
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
    /// An engine with real WireGuard and the stack in use.
    pub fn new(config: EngineConfig, now: Instant) -> Self {
        let stack = Box::new(UserStack::new(config.stack, now));
        let private = config.key;
        Self::with_parts(
            stack,
            Box::new(move |peer, now| {
                Box::new(NoiseTunnel::new(&private.expose_bytes(), peer.as_bytes(), now))
            }),
        )
    }

    /// An engine of given parts: `stack` with our address, `make_tunnel` for each peer key.
    pub fn with_parts(stack: Box<dyn Stack>, make_tunnel: TunnelMaker) -> Self {
        Self {
            role: Role::Client,
            stack,
            make_tunnel,
            disco: None,
            peers: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_address: BTreeMap::new(),
            disco_answers: VecDeque::new(),
            events: VecDeque::new(),
            buffer: BytesMut::new(),
            stats: EngineStats::default(),
            retired: TunnelStats::default(),
            retired_traffic: Traffic::default(),
        }
    }

    /// Has disco messages answered by `disco`; without it they are ignored.
    pub fn set_disco(&mut self, mut disco: Box<dyn Disco>) {
        disco.set_peers(&self.disco_peers());
        self.disco = Some(disco);
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
    pub fn stack(&mut self) -> &mut dyn Stack {
        &mut *self.stack
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
        if disco::is_disco(&datagram) {
            self.disco_over_relay(&datagram, region, from);
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        match peer.tunnel.open(datagram, now) {
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
        self.note_tunnel(id, now);
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
            self.note_tunnel(id, now);
        }
        for id in expired {
            self.remove_peer(id, now);
        }
        if self.stack.next_deadline().is_some_and(|at| at <= now) {
            self.stack.handle_timeout(now);
        }
    }

    /// When [`Engine::handle_timeout`] is wanted next; `None` while only input can change
    /// anything.
    pub fn next_deadline(&self) -> Option<Instant> {
        let tunnels = self.peers.values().filter_map(|peer| peer.tunnel.next_deadline());
        let losses = self.peers.values().filter_map(Peer::removal_at);
        tunnels.chain(losses).chain(self.stack.next_deadline()).min()
    }

    /// Hands out datagrams until there are none or `sink` takes no more. Nothing is made before
    /// its carrier has agreed to take it, so nothing is ever dropped here.
    pub fn poll_transmit(&mut self, now: Instant, sink: &mut dyn TransmitSink) {
        while let Some(answer) = self.disco_answers.pop_front() {
            if !sink.admit(&answer.route) {
                self.disco_answers.push_front(answer);
                break;
            }
            self.stats.datagrams_out += 1;
            sink.send(answer);
        }
        self.send_of_tunnels(now, sink);
        if !self.stack.wants_transmit() {
            return;
        }
        let mut egress = Egress {
            peers: &mut self.peers,
            by_address: &self.by_address,
            buffer: &mut self.buffer,
            stats: &mut self.stats,
            sink,
            now,
        };
        self.stack.poll_transmit(&mut egress, now);
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

    /// The way datagrams to a peer take now.
    pub fn route(&self, id: PeerId) -> Option<Route> {
        self.peers.get(&id).map(Peer::route)
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
            let route = peer.route();
            while peer.tunnel.wants_transmit() && sink.admit(&route) {
                let Some(packet) = peer.tunnel.poll_transmit(now) else { break };
                self.stats.datagrams_out += 1;
                sink.send(Transmit { route, packet });
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
        self.tell_disco();
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
            self.tell_disco();
        }
    }

    fn forget_peer(&mut self, id: PeerId, now: Instant) -> bool {
        let Some(peer) = self.peers.remove(&id) else { return false };
        self.retired = self.retired + peer.tunnel.stats();
        self.retired_traffic = self.retired_traffic + peer.traffic;
        self.by_key.remove(&peer.node.key);
        for address in &peer.node.addresses {
            if self.by_address.get(address) == Some(&id) {
                self.by_address.remove(address);
                self.stack.fail_remote(*address, now);
            }
        }
        true
    }

    /// Reports what became of a tunnel in the step before.
    fn note_tunnel(&mut self, id: PeerId, now: Instant) {
        if let Some(event) = self.peers.get_mut(&id).and_then(|peer| peer.note(id, now)) {
            self.events.push_back(event);
        }
    }

    fn disco_over_relay(&mut self, datagram: &[u8], region: RegionId, from: &NodePublic) {
        let answer = match &mut self.disco {
            Some(disco) if self.disco_answers.len() < DISCO_QUEUE => {
                disco.handle_relay(datagram, region, from)
            }
            Some(_) | None => None,
        };
        match answer {
            Some(packet) => {
                self.stats.disco_answered += 1;
                let route = Route::Relay { region, key: *from };
                self.disco_answers.push_back(Transmit { route, packet });
            }
            None => self.stats.disco_ignored += 1,
        }
    }

    fn disco_peers(&self) -> Vec<(NodePublic, crate::keys::DiscoPublic)> {
        self.peers.values().map(|peer| (peer.node.key, peer.node.disco)).collect()
    }

    fn tell_disco(&mut self) {
        let peers = self.disco_peers();
        if let Some(disco) = &mut self.disco {
            disco.set_peers(&peers);
        }
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
