//! Where frames begin and end in a buffer. Packets are passed on without being taken apart: a sent
//! packet and a received one differ in one byte of type and in whose key they name, so a frame is
//! rewritten where it lies.

use bytes::{BufMut, BytesMut};
use coderctl_tailnet::{
    derp::frame::{FrameError, HEADER_LENGTH, MAX_PACKET},
    keys::{KEY_LENGTH, NodePublic},
};

/// A packet for somebody (coder/tailscale: derp/derp.go).
pub(super) const SEND_PACKET: u8 = 0x04;
/// Somebody's packet.
pub(super) const RECV_PACKET: u8 = 0x05;
/// Between relays: somebody's packet for somebody.
const FORWARD_PACKET: u8 = 0x0a;

/// Where the payload of a packet begins in its frame.
pub(super) const PACKET_START: usize = HEADER_LENGTH + KEY_LENGTH;

/// Longest payload of a frame that a client may send: a packet and two keys, as between relays.
pub(super) const MAX_FRAME: usize = 2 * KEY_LENGTH + MAX_PACKET;

/// How disco packets begin (coder/tailscale: disco/disco.go).
const DISCO: [u8; 6] = [0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac];
/// And how long the shortest one is: magic, key, nonce.
const DISCO_LENGTH: usize = 62;

/// The beginning of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: u8,
    /// Of the payload, in bytes.
    pub(super) length: usize,
}

impl Head {
    /// The head of the frame at the beginning of `bytes`, `None` when it is not there as a whole.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let &[kind, a, b, c, d] = bytes.first_chunk::<HEADER_LENGTH>()?;
        Some(Self { kind, length: u32::from_be_bytes([a, b, c, d]) as usize })
    }

    /// The head of the frame at the beginning of `bytes`, when all of the frame is there.
    pub(super) fn complete(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some(head) = Self::read(bytes) else { return Ok(None) };
        let limit = if head.kind == SEND_PACKET { KEY_LENGTH + MAX_PACKET } else { MAX_FRAME };
        if head.length > limit {
            return Err(FrameError::TooLong { kind: head.kind, length: head.length, limit });
        }
        Ok((bytes.len() >= head.total()).then_some(head))
    }

    /// Length of the whole frame, in bytes.
    pub(super) fn total(self) -> usize {
        HEADER_LENGTH + self.length
    }

    /// Whether it is a packet that names its receiver.
    pub(super) fn is_packet(self) -> bool {
        self.kind == SEND_PACKET && self.length >= KEY_LENGTH
    }
}

/// The key in a frame of a packet.
pub(super) fn key(frame: &[u8]) -> Option<NodePublic> {
    frame.get(HEADER_LENGTH..)?.first_chunk().copied().map(NodePublic::from_bytes)
}

/// Whether the packet in a frame looks like disco.
pub(super) fn is_disco(frame: &[u8]) -> bool {
    frame
        .get(PACKET_START..)
        .is_some_and(|packet| packet.len() >= DISCO_LENGTH && packet.starts_with(&DISCO))
}

/// Makes of a packet for somebody a packet from somebody.
pub(super) fn turn(frame: &mut [u8], from: &NodePublic) {
    if let Some(kind) = frame.first_mut() {
        *kind = RECV_PACKET;
    }
    if let Some(key) = frame.get_mut(HEADER_LENGTH..PACKET_START) {
        key.copy_from_slice(from.as_bytes());
    }
}

/// Appends packets from somebody as packets that another relay is to pass on to somebody.
pub(super) fn forward(frames: &[u8], to: &NodePublic, out: &mut BytesMut) {
    for frame in self::frames(frames) {
        let Some(from) = frame.get(HEADER_LENGTH..PACKET_START) else { continue };
        let packet = frame.get(PACKET_START..).unwrap_or_default();
        out.put_u8(FORWARD_PACKET);
        // A frame that fits has fewer than 2^17 bytes.
        out.put_u32((2 * KEY_LENGTH + packet.len()) as u32);
        out.put_slice(from);
        out.put_slice(to.as_bytes());
        out.put_slice(packet);
    }
}

/// The frames in `bytes`, of which each is there as a whole.
pub(super) fn frames(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let head = Head::read(bytes)?;
        let (frame, rest) = bytes.split_at_checked(head.total())?;
        bytes = rest;
        Some(frame)
    })
}
