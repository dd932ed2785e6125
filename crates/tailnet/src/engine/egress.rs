//! From the stack through the tunnels into the carriers.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Instant;

use bytes::BytesMut;

use super::{EngineStats, Peer, Route, Transmit, TransmitSink};
use crate::ids::PeerId;
use crate::paths::{Path, Way};
use crate::stack::{Admission, PacketSink};

/// The stack's sink: seals each packet for its peer and hands it to the carrier.
pub(super) struct Egress<'a> {
    pub(super) peers: &'a mut BTreeMap<PeerId, Peer>,
    pub(super) by_address: &'a BTreeMap<Ipv6Addr, PeerId>,
    pub(super) stats: &'a mut EngineStats,
    pub(super) sink: &'a mut dyn TransmitSink,
    /// Those that have agreed to take the next packet.
    pub(super) carriers: Option<Carriers>,
    pub(super) now: Instant,
}

/// Who takes the next datagram of a peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Carriers {
    relay: Option<Route>,
    direct: Option<SocketAddr>,
}

impl Carriers {
    /// The carriers on the peer's way that have room; `None` when none has. On two ways at once the
    /// datagram leaves if it can leave on one of them.
    pub(super) fn admit(peer: &Peer, now: Instant, sink: &mut dyn TransmitSink) -> Option<Self> {
        let (relay, direct) = match peer.paths.way(now) {
            Way::Relay => (true, None),
            Way::Direct(address) => (false, Some(address)),
            Way::Both(address) => (true, Some(address)),
        };
        let relay = relay.then(|| peer.route(Path::Relay(peer.node.home)));
        let relay = relay.filter(|route| sink.admit(route));
        let direct = direct.filter(|address| sink.admit(&Route::Direct(*address)));
        (relay.is_some() || direct.is_some()).then_some(Self { relay, direct })
    }

    /// The way that a datagram takes with them.
    pub(super) fn way(&self) -> Way {
        match (self.relay, self.direct) {
            (None, Some(address)) => Way::Direct(address),
            (Some(_), Some(address)) => Way::Both(address),
            (_, None) => Way::Relay,
        }
    }

    /// Sends a datagram; how often.
    pub(super) fn send(self, packet: BytesMut, sink: &mut dyn TransmitSink) -> u64 {
        match (self.relay, self.direct.map(Route::Direct)) {
            (Some(relay), Some(direct)) => {
                sink.send(Transmit { route: direct, packet: packet.clone() });
                sink.send(Transmit { route: relay, packet });
                2
            }
            (Some(route), None) | (None, Some(route)) => {
                sink.send(Transmit { route, packet });
                1
            }
            (None, None) => 0,
        }
    }
}

impl PacketSink for Egress<'_> {
    fn admit(&mut self, destination: Ipv6Addr) -> Admission {
        let (now, only) = (self.now, self.peers.len() == 1);
        let peer = self.by_address.get(&destination).and_then(|id| self.peers.get_mut(id));
        let Some(peer) = peer else { return Admission::NotThere };
        if !peer.tunnel.is_ready() {
            peer.tunnel.connect(now);
            return Admission::NotThere;
        }
        let carriers = Carriers::admit(peer, now, self.sink);
        self.carriers = carriers;
        match (carriers.is_some(), only) {
            (true, _) => Admission::Yes,
            (false, true) => Admission::Full,
            (false, false) => Admission::NotThere,
        }
    }

    fn send(&mut self, destination: Ipv6Addr, packet: BytesMut) {
        let now = self.now;
        let Some(carriers) = self.carriers.take() else { return };
        let peer = self.by_address.get(&destination).and_then(|id| self.peers.get_mut(id));
        let Some(peer) = peer else { return };
        peer.traffic.sent(&packet);
        // Without a datagram the session ended in this very moment: the packet waits in the
        // tunnel.
        if let Some(packet) = peer.tunnel.seal(packet, now) {
            peer.paths.data_sent(carriers.way(), now);
            self.stats.datagrams_out += carriers.send(packet, self.sink);
        }
    }
}
