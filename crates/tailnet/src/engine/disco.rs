//! Disco and STUN in the engine: who may ask and be answered, and what leaves.
//!
//! Nobody who is no peer is answered. A disco message counts when the box between us and the
//! peer with its sender's key opens it; a WireGuard datagram over UDP counts for the peer whose
//! disco messages came from the same address, and for nobody without them. A call-me-maybe is
//! believed only over a relay, which vouches for the node key it came from.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::BytesMut;

use super::directory::{Directory, Identity};
use super::{Engine, Event, Route, Transmit, TransmitSink};
use crate::disco::{self, Message};
use crate::endpoints::Ports;
use crate::ids::PeerId;
use crate::paths::{Call, Outgoing, Path, PathInfo, Way};
use crate::stack::WidthNews;
use crate::stun;

impl Engine {
    /// Takes part in disco: without an identity its messages are ignored, and only relays are used.
    pub fn set_identity(&mut self, identity: Identity) {
        let mut directory = Directory::new(identity);
        for (id, peer) in &mut self.peers {
            directory.learn(*id, peer);
        }
        self.directory = Some(directory);
    }

    /// Whether anything but relays may be used; not before this was called.
    pub fn set_direct(&mut self, direct: bool, now: Instant) {
        let Some(directory) = &mut self.directory else { return };
        if std::mem::replace(&mut directory.direct, direct) == direct {
            return;
        }
        for (id, peer) in &mut self.peers {
            if direct {
                peer.paths.set_endpoints(&peer.node.endpoints);
                peer.paths.message_sent(Way::Relay, now);
            } else {
                for address in peer.paths.forget(now) {
                    directory.release(address, *id);
                }
            }
        }
        if !direct {
            directory.endpoints.clear();
        }
        self.note_paths(now);
    }

    /// The UDP sockets and the addresses of this machine are these.
    pub fn set_local(&mut self, ports: Ports, interfaces: Vec<IpAddr>, now: Instant) {
        if let Some(directory) = self.directory.as_mut().filter(|directory| directory.direct) {
            directory.endpoints.set_local(ports, interfaces, now);
            self.note_paths(now);
        }
    }

    /// These STUN servers tell us how others see us.
    pub fn set_stun_servers(&mut self, servers: Vec<SocketAddr>, now: Instant) {
        if let Some(directory) = self.directory.as_mut().filter(|directory| directory.direct) {
            directory.endpoints.set_servers(servers, now);
            self.note_paths(now);
        }
    }

    /// The network is another one, or the machine slept: every path is asked at once, and datagrams
    /// take both ways until it has answered.
    pub fn network_changed(&mut self, now: Instant) {
        if let Some(directory) = self.directory.as_mut().filter(|directory| directory.direct) {
            directory.endpoints.begin_again(now);
            for peer in self.peers.values_mut() {
                peer.paths.shaken(now);
            }
        }
    }

    /// Where we may be reached, best first; to be told to the coordinator.
    pub fn endpoints(&self) -> &[SocketAddr] {
        self.directory.as_ref().map_or(&[], |directory| directory.endpoints.list())
    }

    /// Whether a NAT gives us another address for each destination; see
    /// [`Endpoints::mapping_varies`](crate::endpoints::Endpoints::mapping_varies).
    pub fn mapping_varies(&self) -> Option<bool> {
        self.directory.as_ref()?.endpoints.mapping_varies()
    }

    /// The way that datagrams to a peer take now.
    pub fn path(&self, id: PeerId) -> Option<PathInfo> {
        let peer = self.peers.get(&id)?;
        let (address, latency, since) = peer.paths.current();
        let path = address.map_or(Path::Relay(peer.node.home), Path::Direct);
        Some(PathInfo { path, latency, since })
    }

    /// Pings a peer by disco, through its relay and on the direct path if there is one. What comes
    /// back is told as [`Event::DiscoPong`]. Whether there is such a peer.
    pub fn measure(&mut self, id: PeerId) -> bool {
        let known = self.directory.is_some();
        let Some(peer) = self.peers.get_mut(&id).filter(|_| known) else { return false };
        peer.paths.measure(Path::Relay(peer.node.home));
        true
    }

    /// Takes a datagram that came from `from` to one of our UDP sockets.
    pub fn handle_udp(&mut self, from: SocketAddr, datagram: BytesMut, now: Instant) {
        self.stats.datagrams_in += 1;
        let Some(directory) = self.directory.as_mut().filter(|directory| directory.direct) else {
            self.stats.unknown_key += 1;
            return;
        };
        // A socket for both families spells IPv4 as IPv6.
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        if stun::is_stun(&datagram) {
            if let Ok(answer) = stun::parse(&datagram) {
                directory.endpoints.handle_answer(from, answer, now);
                self.note_paths(now);
            }
        } else if disco::is_disco(&datagram) {
            self.disco_over_udp(from, &datagram, now);
        } else if let Some(id) = directory.at(&from) {
            self.open(id, Path::Direct(from), datagram, now);
        } else {
            self.stats.unknown_key += 1;
        }
    }

    fn disco_over_udp(&mut self, from: SocketAddr, packet: &[u8], now: Instant) {
        let Some(directory) = &self.directory else { return };
        match disco::sender(packet).and_then(|key| directory.with_key(&key)) {
            Some(id) => self.disco_of_peer(id, Path::Direct(from), packet, now),
            None => self.stats.disco_ignored += 1,
        }
    }

    /// Takes a disco packet of the peer whose node key a relay names, or whose disco key it has.
    pub(super) fn disco_of_peer(&mut self, id: PeerId, path: Path, packet: &[u8], now: Instant) {
        if !self.disco_was_of_use(id, path, packet, now) {
            self.stats.disco_ignored += 1;
            return;
        }
        if let Path::Direct(from) = path {
            self.prove(id, from, now);
        }
        self.note_peer(id, now);
    }

    fn disco_was_of_use(&mut self, id: PeerId, path: Path, packet: &[u8], now: Instant) -> bool {
        let (Some(directory), Some(peer)) = (&mut self.directory, self.peers.get_mut(&id)) else {
            return false;
        };
        let is_direct = matches!(path, Path::Direct(_));
        // Whoever is at the address a short ping names as its source shall not get our long pong.
        let is_whole = !is_direct || packet.len() >= disco::PADDED_LENGTH;
        match directory.open(peer, packet) {
            // One that says it belongs to another node is not this peer's.
            Some(Message::Ping { tx, node })
                if is_whole && node.is_none_or(|node| node == peer.node.key) =>
            {
                self.stats.disco_answered += 1;
                peer.paths.pinged(path, tx, now);
                true
            }
            Some(Message::Pong { tx, source }) => {
                let pong = peer.paths.answered(tx, source, is_direct, now);
                let measured = pong.filter(|pong| !pong.probe);
                self.events
                    .extend(measured.map(|pong| Event::DiscoPong(id, pong.path, pong.latency)));
                pong.is_some()
            }
            Some(Message::CallMeMaybe { endpoints }) if directory.direct && !is_direct => {
                peer.paths.called(&endpoints, now);
                true
            }
            Some(Message::Ping { .. } | Message::CallMeMaybe { .. }) | None => false,
        }
    }

    /// The peer has shown that it sends from this address. One that another peer is being reached
    /// at stays that peer's.
    fn prove(&mut self, id: PeerId, address: SocketAddr, now: Instant) {
        let Some(directory) = &mut self.directory else { return };
        let owner = directory.at(&address).filter(|owner| *owner != id);
        let owner = owner.and_then(|owner| self.peers.get(&owner));
        if owner.is_some_and(|owner| owner.paths.trusts(address, now)) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        directory.place(address, id);
        if let Some(oldest) = peer.paths.prove(address) {
            directory.release(oldest, id);
        }
    }

    /// A datagram of so many bytes was refused by a socket of ours: too long for the way to `to`.
    pub fn handle_too_long(&mut self, to: SocketAddr, length: usize, now: Instant) {
        for peer in self.peers.values_mut() {
            peer.paths.too_long(to, length, now);
        }
        self.note_paths(now);
    }

    /// Takes in what the stack has to say about the length of packets.
    pub(super) fn note_width(&mut self, now: Instant) {
        while let Some(news) = self.stack.poll_width() {
            let (WidthNews::Wanted(remote) | WidthNews::Lost(remote)) = news;
            let Some(id) = self.by_address.get(&remote) else { continue };
            let Some(peer) = self.peers.get_mut(id) else { continue };
            match news {
                WidthNews::Wanted(_) => peer.paths.width_wanted(now),
                WidthNews::Lost(_) => peer.paths.width_doubted(now),
            }
            peer.lead(*id, &self.by_address, &mut self.stack, now);
        }
    }

    /// Lets time pass for the paths and our own endpoints.
    pub(super) fn time_of_paths(&mut self, now: Instant) {
        for peer in self.peers.values_mut() {
            if peer.paths.next_deadline().is_some_and(|at| at <= now) {
                peer.paths.handle_timeout(now);
            }
        }
        let in_use = self.peers.values().any(|peer| peer.paths.is_in_use(now));
        if let Some(directory) = &mut self.directory
            && directory.endpoints.next_deadline().is_some_and(|at| at <= now)
        {
            let random = directory.random.draw().map_or(0, u32::from_le_bytes);
            directory.endpoints.handle_timeout(in_use, random, now);
        }
        self.note_paths(now);
    }

    /// When that is wanted next.
    pub(super) fn deadline_of_paths(&self) -> Option<Instant> {
        let peers = self.peers.values().filter_map(|peer| peer.paths.next_deadline());
        let own = self.directory.as_ref().and_then(|directory| directory.endpoints.next_deadline());
        peers.chain(own).min()
    }

    /// Sends disco and STUN messages as far as carriers take them.
    pub(super) fn send_of_paths(&mut self, now: Instant, sink: &mut dyn TransmitSink) {
        let Some(directory) = &mut self.directory else { return };
        for peer in self.peers.values_mut() {
            for _ in 0..peer.paths.waiting() {
                let Some(message) = peer.paths.poll_message() else { break };
                let path = match message {
                    Outgoing::Ping(path) | Outgoing::Pong(path, _) => path,
                    Outgoing::Probe(address, _) => Path::Direct(address),
                    Outgoing::Call(_) => Path::Relay(peer.node.home),
                };
                let route = peer.route(path);
                if !sink.admit(&route) {
                    peer.paths.put_back(message);
                    continue;
                }
                if message == Outgoing::Call(Call::Endpoints) {
                    directory.endpoints.refresh(now);
                }
                let Some((packet, tx)) = directory.seal(peer, message) else { continue };
                self.stats.datagrams_out += 1;
                sink.send(Transmit { route, packet });
                if let Some(tx) = tx {
                    peer.paths.ping_left(message, tx, now);
                }
            }
        }
        let Directory { endpoints, random, .. } = directory;
        while let Some((server, request)) = endpoints.poll_transmit(
            now,
            |server| sink.admit(&Route::Direct(server)),
            || random.draw(),
        ) {
            self.stats.datagrams_out += 1;
            let packet = BytesMut::from(&request[..]);
            sink.send(Transmit { route: Route::Direct(server), packet });
        }
    }

    /// Reports what became of the paths to all peers, and of our own endpoints: peers that look
    /// for a way to us are told them at once.
    pub(super) fn note_paths(&mut self, now: Instant) {
        for (id, peer) in &mut self.peers {
            if peer.paths.take_change() {
                self.events.push_back(Event::PathChanged(*id));
            }
            peer.lead(*id, &self.by_address, &mut self.stack, now);
        }
        if self.directory.as_mut().is_some_and(|directory| directory.endpoints.take_change()) {
            self.events.push_back(Event::EndpointsChanged);
            for peer in self.peers.values_mut() {
                peer.paths.own_endpoints_changed(now);
            }
        }
    }
}
