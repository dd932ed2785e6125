//! From the stack through the tunnels into the carriers.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Instant;

use bytes::BytesMut;

use super::{EngineStats, Peer, Transmit, TransmitSink};
use crate::ids::PeerId;
use crate::packet::MTU;
use crate::stack::{Admission, PacketSink};

/// Packets are cut from a block of this size. The noise library frees a packet as soon as it is
/// sealed, so one block serves for ever.
const BLOCK: usize = 16 * MTU;

/// The stack's sink: seals each packet for its peer and hands it to the carrier.
pub(super) struct Egress<'a> {
    pub(super) peers: &'a mut BTreeMap<PeerId, Peer>,
    pub(super) by_address: &'a BTreeMap<Ipv6Addr, PeerId>,
    pub(super) buffer: &'a mut BytesMut,
    pub(super) stats: &'a mut EngineStats,
    pub(super) sink: &'a mut dyn TransmitSink,
    pub(super) now: Instant,
}

impl Egress<'_> {
    fn peer(&mut self, destination: Ipv6Addr) -> Option<&mut Peer> {
        self.peers.get_mut(self.by_address.get(&destination)?)
    }
}

impl PacketSink for Egress<'_> {
    fn admit(&mut self, destination: Ipv6Addr) -> Admission {
        let (now, only) = (self.now, self.peers.len() == 1);
        let Some(peer) = self.peer(destination) else { return Admission::NotThere };
        if !peer.tunnel.is_ready() {
            peer.tunnel.connect(now);
            return Admission::NotThere;
        }
        let route = peer.route();
        match (self.sink.admit(&route), only) {
            (true, _) => Admission::Yes,
            (false, true) => Admission::Full,
            (false, false) => Admission::NotThere,
        }
    }

    fn buffer(&mut self) -> BytesMut {
        if self.buffer.capacity() < MTU {
            self.buffer.reserve(BLOCK);
        }
        self.buffer.resize(MTU, 0);
        let mut packet = self.buffer.split();
        packet.clear();
        packet
    }

    fn send(&mut self, destination: Ipv6Addr, packet: BytesMut) {
        let now = self.now;
        let Some(peer) = self.peer(destination) else { return };
        let route = peer.route();
        peer.traffic.sent(&packet);
        // Without a datagram the session ended in this very moment: the packet waits in the
        // tunnel.
        if let Some(packet) = peer.tunnel.seal(packet, now) {
            self.stats.datagrams_out += 1;
            self.sink.send(Transmit { route, packet });
        }
    }
}
