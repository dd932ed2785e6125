//! Where datagrams leave.

use std::net::SocketAddr;

use bytes::BytesMut;

use crate::ids::RegionId;
use crate::keys::NodePublic;

/// A way to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// Through a relay region, addressed by the peer's key.
    Relay {
        /// The region where the peer listens.
        region: RegionId,
        /// The peer's node key.
        key: NodePublic,
    },
    /// By UDP straight to this address.
    Direct(SocketAddr),
}

/// A datagram and the way it shall take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The way.
    pub route: Route,
    /// The datagram.
    pub packet: BytesMut,
}

/// What carries datagrams away.
pub trait TransmitSink {
    /// Whether one more datagram can be taken for this route now. A `true` is binding for the next
    /// [`TransmitSink::send`].
    fn admit(&mut self, route: &Route) -> bool;

    /// Takes a datagram for a route that was just admitted.
    fn send(&mut self, transmit: Transmit);
}
