//! How long the packets to a peer may be: what the path in use is known to carry, and the pings that
//! find it out.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Outgoing, PeerPaths};
use crate::packet::MTU;
use crate::paths::{RELAY_WIDTH, Way};

impl PeerPaths {
    /// The longest packet that the way of the next datagram carries, in bytes.
    pub(crate) fn width(&self, now: Instant) -> usize {
        let direct = self.best.as_ref().map_or(MTU, |best| best.width.carried());
        match self.way(now) {
            Way::Relay => RELAY_WIDTH,
            Way::Direct(_) => direct,
            Way::Both(_) => direct.min(RELAY_WIDTH),
        }
    }

    /// Somebody would send longer packets than the way is known to carry.
    pub(crate) fn width_wanted(&mut self, now: Instant) {
        self.wide = true;
        self.widen(now);
    }

    /// A long packet was lost.
    pub(crate) fn width_doubted(&mut self, now: Instant) {
        if let Some(best) = &mut self.best {
            best.width.doubted(now);
        }
        self.probe(now);
    }

    /// Our own system refused a datagram of this length.
    pub(crate) fn too_long(&mut self, address: SocketAddr, length: usize, now: Instant) {
        if let Some(best) = self.best.as_mut().filter(|best| best.address == address) {
            best.width.too_long(length, now);
        }
        self.probe(now);
    }

    /// A ping as long as the datagram of such a packet has arrived.
    pub(super) fn passed(&mut self, address: SocketAddr, packet: usize, now: Instant) {
        if let Some(best) = self.best.as_mut().filter(|best| best.address == address) {
            best.width.passed(packet, now);
        }
        self.probe(now);
    }

    /// Finds out what the path in use carries, if somebody wants to know.
    pub(super) fn widen(&mut self, now: Instant) {
        let wide = self.wide;
        if let Some(best) = self.best.as_mut().filter(|best| wide && best.is_trusted(now)) {
            best.width.wanted(now);
            self.probe(now);
        }
    }

    /// Sends the long ping that is due.
    pub(super) fn probe(&mut self, now: Instant) {
        let Some(best) = &mut self.best else { return };
        if let Some(packet) = best.width.poll(now) {
            let address = best.address;
            self.put(Outgoing::Probe(address, packet));
        }
    }
}
