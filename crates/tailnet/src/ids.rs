//! Who is who: peers, nodes, relay regions, and the addresses that follow from a peer's id.
//!
//! An address in the tunnel is six bytes of prefix and the last ten bytes of a UUID, so whoever
//! knows an agent's id knows where to dial (coder/coder: tailnet/tailnet.go).

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use uuid::Uuid;

/// One of the two networks that addresses are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefix {
    /// `fd60:627a:a42b::/48`: a client's own address; an agent has one here too.
    Coder,
    /// `fd7a:115c:a1e0::/48`: where a client dials an agent.
    Tailscale,
}

impl Prefix {
    /// The first six bytes of every address of this network.
    pub const fn bytes(self) -> [u8; 6] {
        match self {
            Prefix::Coder => [0xfd, 0x60, 0x62, 0x7a, 0xa4, 0x2b],
            Prefix::Tailscale => [0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0],
        }
    }

    /// The address of a peer in this network.
    pub fn address(self, peer: PeerId) -> Ipv6Addr {
        let mut octets = peer.to_bytes();
        octets[..6].copy_from_slice(&self.bytes());
        Ipv6Addr::from(octets)
    }

    /// Whether `address` belongs to this network.
    pub fn contains(self, address: &Ipv6Addr) -> bool {
        address.octets()[..6] == self.bytes()
    }
}

/// A fresh address for a client that the server gave no peer id, from 16 random bytes.
///
/// The agent accepts whatever single address a node names; the bits are those of a random UUID.
pub fn random_client_address(entropy: [u8; 16]) -> Ipv6Addr {
    Prefix::Coder.address(PeerId::random(entropy))
}

/// The coordinator's name for a peer: for an agent its UUID, for a client what the server chose.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(Uuid);

impl PeerId {
    /// A version 4 UUID of these bytes.
    pub fn random(entropy: [u8; 16]) -> Self {
        PeerId(uuid::Builder::from_random_bytes(entropy).into_uuid())
    }

    /// The 16 bytes that messages carry.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        PeerId(Uuid::from_bytes(bytes))
    }

    /// Reads the field of a message.
    ///
    /// # Errors
    ///
    /// [`IdError`] unless there are exactly 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
        Uuid::from_slice(bytes).map(PeerId).map_err(|_| IdError::PeerLength(bytes.len()))
    }

    /// The 16 bytes that messages carry.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// The id as a UUID.
    pub const fn uuid(self) -> Uuid {
        self.0
    }

    /// Where a client dials this peer when it is an agent.
    pub fn agent_address(self) -> Ipv6Addr {
        Prefix::Tailscale.address(self)
    }

    /// The address that this peer uses for itself when it is a client.
    pub fn client_address(self) -> Ipv6Addr {
        Prefix::Coder.address(self)
    }
}

impl From<Uuid> for PeerId {
    fn from(uuid: Uuid) -> Self {
        PeerId(uuid)
    }
}

impl FromStr for PeerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Uuid::from_str(text).map(PeerId).map_err(|_| IdError::PeerText)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a node: positive, and stable for the life of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(i64);

impl NodeId {
    /// As found in a message; any number is possible there.
    pub const fn new(id: i64) -> Self {
        NodeId(id)
    }

    /// The number that belongs to a peer id: its last eight bytes, big-endian, without the sign.
    pub fn from_peer(peer: PeerId) -> Self {
        let [.., a, b, c, d, e, f, g, h] = peer.to_bytes();
        // The one number without an absolute value becomes the largest.
        NodeId(i64::from_be_bytes([a, b, c, d, e, f, g, h]).saturating_abs())
    }

    /// A random number of 63 bits.
    pub fn random(entropy: [u8; 8]) -> Self {
        NodeId(i64::from_be_bytes(entropy) & i64::MAX)
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// The number of a relay region; real ones are positive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(i32);

impl RegionId {
    /// The region of the relay inside the control plane, unless the deployment chose another
    /// (coder/coder: codersdk/deployment.go, `derp.server.regionID`).
    pub const EMBEDDED: RegionId = RegionId(999);

    /// A region by its number.
    ///
    /// # Errors
    ///
    /// [`IdError::Region`] for zero and below, which is how messages say "none", and for numbers
    /// that do not fit a node's `preferred_derp` (32 bits).
    pub fn new(id: i64) -> Result<Self, IdError> {
        match i32::try_from(id) {
            Ok(number) if number > 0 => Ok(RegionId(number)),
            Ok(_) | Err(_) => Err(IdError::Region(id)),
        }
    }

    /// The number.
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "region {}", self.0)
    }
}

/// What is wrong with an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A peer id in a message has another length than 16 bytes.
    #[error("a peer id has 16 bytes, this one has {0}")]
    PeerLength(usize),
    /// Not a UUID.
    #[error("not a UUID")]
    PeerText,
    /// Not the number of a region.
    #[error("{0} is not the number of a relay region (1 to 2147483647)")]
    Region(i64),
}
