//! Disco: the small sealed messages by which peers find and measure paths
//! (coder/tailscale: disco/disco.go).
//!
//! ```text
//!   0       6                38              62       78
//!   | magic | sender's key   | nonce         | tag    | sealed: type, version, body
//! ```
//!
//! A ping travels a path that is to be tried, its pong comes back the same way and tells from
//! where the ping seemed to come; both are padded to [`PADDED_LENGTH`], so that a path that loses
//! large packets does not look usable. A call-me-maybe goes over the relay and says where the
//! sender may be reached. Even a client that uses relays only must answer the pings that come over
//! them: agents measure their latency with them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crypto_box::SalsaBox;
use crypto_box::aead::AeadInPlace;

use crate::ids::RegionId;
use crate::keys::{DiscoPrivate, DiscoPublic, KEY_LENGTH, NodePublic};

/// How every disco packet begins: `TS💬`.
pub const MAGIC: [u8; 6] = [0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac];

/// Length of the part before the box, in bytes.
pub const HEADER_LENGTH: usize = MAGIC.len() + KEY_LENGTH + NONCE_LENGTH;

/// Length of a whole ping or pong packet, in bytes.
pub const PADDED_LENGTH: usize = HEADER_LENGTH + TAG_LENGTH + PADDED_PLAINTEXT;

/// Length of a nonce, in bytes.
pub const NONCE_LENGTH: usize = 24;

/// Endpoints read from one call-me-maybe; upstream prunes its candidates at the same number.
pub const MAX_ENDPOINTS: usize = 100;

/// Longest packet that is opened, in bytes: nothing longer fits a UDP datagram.
pub const MAX_PACKET: usize = 65535;

const TAG_LENGTH: usize = 16;

/// Type, version and a body of 1230 bytes.
const PADDED_PLAINTEXT: usize = 2 + 1230;

/// An endpoint on the wire: an IPv6 address (IPv4 mapped into it) and a port.
const ENDPOINT_LENGTH: usize = 18;

const PING: u8 = 1;
const PONG: u8 = 2;
const CALL_ME_MAYBE: u8 = 3;

/// Matches a pong to its ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxId(pub [u8; 12]);

/// An opened message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Please answer on the path this came by.
    Ping {
        /// To be repeated in the answer.
        tx: TxId,
        /// The sender's node key; old senders leave it out.
        node: Option<NodePublic>,
    },
    /// The answer.
    Pong {
        /// Of the ping.
        tx: TxId,
        /// Where the ping came from, as its receiver saw it ([`relay_address`] over a relay).
        source: SocketAddr,
    },
    /// Where the sender may be reached.
    CallMeMaybe {
        /// Perhaps none: then what was said before is void.
        endpoints: Vec<SocketAddr>,
    },
}

/// Whether a packet is disco rather than WireGuard.
pub fn is_disco(packet: &[u8]) -> bool {
    packet.len() >= HEADER_LENGTH && packet.starts_with(&MAGIC)
}

/// The disco key of the sender; nothing proves it before the box is opened.
pub fn sender(packet: &[u8]) -> Option<DiscoPublic> {
    if !is_disco(packet) {
        return None;
    }
    DiscoPublic::from_slice(packet.get(MAGIC.len()..MAGIC.len() + KEY_LENGTH)?).ok()
}

/// How a relay path is written where an address is expected: a reserved loopback address with
/// the region as port (coder/tailscale: tailcfg/derpmap.go, `DerpMagicIP`).
pub fn relay_address(region: RegionId) -> SocketAddr {
    // Larger numbers lose their upper bits upstream as well.
    SocketAddr::from((Ipv4Addr::new(127, 3, 3, 40), region.get() as u16))
}

/// The box between us and one peer. Making one costs a curve multiplication, using it does not.
pub struct DiscoBox {
    ours: DiscoPublic,
    theirs: DiscoPublic,
    secret: SalsaBox,
}

impl DiscoBox {
    /// Our key and the peer's.
    pub fn new(ours: &DiscoPrivate, theirs: DiscoPublic) -> Self {
        DiscoBox { ours: ours.public(), theirs, secret: ours.box_with_peer(&theirs) }
    }

    /// The peer's key.
    pub fn peer(&self) -> DiscoPublic {
        self.theirs
    }

    /// A packet with this message; `nonce` is 24 random bytes.
    pub fn seal(&self, message: &Message, nonce: [u8; NONCE_LENGTH]) -> Vec<u8> {
        self.seal_padded(message, nonce, 0)
    }

    /// As [`DiscoBox::seal`], with more padding where it takes more for the packet to have so many
    /// bytes.
    pub fn seal_padded(
        &self,
        message: &Message,
        nonce: [u8; NONCE_LENGTH],
        length: usize,
    ) -> Vec<u8> {
        let mut packet = Vec::with_capacity(length.max(PADDED_LENGTH));
        packet.extend_from_slice(&MAGIC);
        packet.extend_from_slice(self.ours.as_bytes());
        packet.extend_from_slice(&nonce);
        packet.extend_from_slice(&[0; TAG_LENGTH]);
        message.write(&mut packet);
        packet.resize(packet.len().max(length), 0);
        let (head, plaintext) = packet.split_at_mut(HEADER_LENGTH + TAG_LENGTH);
        match self.secret.encrypt_in_place_detached(&nonce.into(), &[], plaintext) {
            Ok(tag) => head[HEADER_LENGTH..].copy_from_slice(&tag),
            // The cipher refuses additional data and more than 2^38 bytes, of which neither is here.
            Err(_) => unreachable!("sealing a short message without additional data"),
        }
        packet
    }

    /// Opens a packet of this peer.
    ///
    /// # Errors
    ///
    /// [`DiscoError`] when it is none, not from this peer, or not understood.
    pub fn open(&self, packet: &[u8]) -> Result<Message, DiscoError> {
        if packet.len() > MAX_PACKET || sender(packet) != Some(self.theirs) {
            return Err(DiscoError::NotFromPeer);
        }
        let (nonce, sealed) = packet[HEADER_LENGTH - NONCE_LENGTH..].split_at(NONCE_LENGTH);
        let (tag, ciphertext) = sealed.split_at_checked(TAG_LENGTH).ok_or(DiscoError::Sealed)?;
        let mut plaintext = ciphertext.to_vec();
        self.secret
            .decrypt_in_place_detached(nonce.into(), &[], &mut plaintext, tag.into())
            .map_err(|_| DiscoError::Sealed)?;
        Message::parse(&plaintext)
    }
}

impl std::fmt::Debug for DiscoBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DiscoBox({:?} to {:?})", self.ours, self.theirs)
    }
}

impl Message {
    /// The plaintext, padded where it has to be.
    pub fn to_plaintext(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(PADDED_PLAINTEXT);
        self.write(&mut out);
        out
    }

    /// Reads a plaintext. As lenient as upstream: whatever trails is padding, and a call-me-maybe
    /// of another version or length names no endpoint.
    ///
    /// # Errors
    ///
    /// [`DiscoError`] when the type is unknown or the body too short.
    pub fn parse(plaintext: &[u8]) -> Result<Message, DiscoError> {
        let (&[kind, version], body) =
            plaintext.split_first_chunk::<2>().ok_or(DiscoError::Short)?;
        match kind {
            PING => {
                let (tx, rest) = body.split_first_chunk().ok_or(DiscoError::Short)?;
                // Where it was left out there is padding, if there is anything.
                let node = rest.get(..KEY_LENGTH).filter(|key| **key != [0; KEY_LENGTH]);
                let node = node.and_then(|key| NodePublic::from_slice(key).ok());
                Ok(Message::Ping { tx: TxId(*tx), node })
            }
            PONG => {
                let (tx, rest) = body.split_first_chunk().ok_or(DiscoError::Short)?;
                let source = rest.first_chunk().map(read_endpoint).ok_or(DiscoError::Short)?;
                Ok(Message::Pong { tx: TxId(*tx), source })
            }
            CALL_ME_MAYBE => {
                let whole = version == 0 && body.len().is_multiple_of(ENDPOINT_LENGTH);
                let (chunks, _) = body.as_chunks::<ENDPOINT_LENGTH>();
                let endpoints = chunks.iter().take(if whole { MAX_ENDPOINTS } else { 0 });
                Ok(Message::CallMeMaybe { endpoints: endpoints.map(read_endpoint).collect() })
            }
            other => Err(DiscoError::Unknown(other)),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        match self {
            Message::Ping { tx, node } => {
                out.extend_from_slice(&[PING, 1]);
                out.extend_from_slice(&tx.0);
                if let Some(node) = node {
                    out.extend_from_slice(node.as_bytes());
                }
                out.resize(start + PADDED_PLAINTEXT, 0);
            }
            Message::Pong { tx, source } => {
                out.extend_from_slice(&[PONG, 1]);
                out.extend_from_slice(&tx.0);
                write_endpoint(source, out);
                out.resize(start + PADDED_PLAINTEXT, 0);
            }
            Message::CallMeMaybe { endpoints } => {
                out.extend_from_slice(&[CALL_ME_MAYBE, 0]);
                for endpoint in endpoints.iter().take(MAX_ENDPOINTS) {
                    write_endpoint(endpoint, out);
                }
            }
        }
    }
}

fn read_endpoint(bytes: &[u8; ENDPOINT_LENGTH]) -> SocketAddr {
    let [address @ .., high, low] = *bytes;
    let address = Ipv6Addr::from(address);
    let ip = address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4);
    SocketAddr::new(ip, u16::from_be_bytes([high, low]))
}

fn write_endpoint(endpoint: &SocketAddr, out: &mut Vec<u8>) {
    let address = match endpoint.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    out.extend_from_slice(&address.octets());
    out.extend_from_slice(&endpoint.port().to_be_bytes());
}

/// Why a packet is no message for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiscoError {
    /// No disco packet, or the sender's key is not the one of this peer.
    #[error("not a disco packet of this peer")]
    NotFromPeer,
    /// The box does not open.
    #[error("a disco packet that does not open with our key")]
    Sealed,
    /// Shorter than its type requires.
    #[error("a disco message that is too short")]
    Short,
    /// A type from the future.
    #[error("a disco message of unknown type {0}")]
    Unknown(u8),
}
