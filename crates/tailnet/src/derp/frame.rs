//! Frames: one byte of type, four bytes of length (big-endian), a payload
//! (coder/tailscale: derp/derp.go).
//!
//! [`Decoder`] cuts them out of a read buffer; payloads are parts of that buffer, not copies, and
//! a packet may be decrypted where it lies. Frames of unknown types and known ones that are too
//! short are handed out as [`Frame::Unknown`], to be skipped, as upstream does.

use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};

use crate::keys::{KEY_LENGTH, NodePublic, RelayPublic};

/// Length of type and length, in bytes.
pub const HEADER_LENGTH: usize = 5;

/// Longest packet that a relay passes on, in bytes.
pub const MAX_PACKET: usize = 64 << 10;

/// Longest frame that a client accepts, in bytes.
pub const MAX_CLIENT_FRAME: usize = 1 << 20;

/// Longest frame that a relay accepts after the login, in bytes: a forwarded packet and two keys.
/// (Upstream allows as much for a login alone: 256 KiB.)
pub const MAX_RELAY_FRAME: usize = 256 << 10;

/// How the key frame of a relay begins: `DERP🔑`.
pub const MAGIC: [u8; 8] = [0x44, 0x45, 0x52, 0x50, 0xf0, 0x9f, 0x94, 0x91];

/// Longest key frame, in bytes (coder/tailscale: derp/derp_client.go).
pub const MAX_SERVER_KEY: usize = 1024;

/// Bytes that a sent packet takes up beside itself; a relay's rate counts them.
pub const SEND_OVERHEAD: usize = HEADER_LENGTH + KEY_LENGTH;

const NONCE_LENGTH: usize = 24;

mod kind {
    pub(super) const SERVER_KEY: u8 = 0x01;
    pub(super) const CLIENT_INFO: u8 = 0x02;
    pub(super) const SERVER_INFO: u8 = 0x03;
    pub(super) const SEND_PACKET: u8 = 0x04;
    pub(super) const RECV_PACKET: u8 = 0x05;
    pub(super) const KEEP_ALIVE: u8 = 0x06;
    pub(super) const NOTE_PREFERRED: u8 = 0x07;
    pub(super) const PEER_GONE: u8 = 0x08;
    pub(super) const PEER_PRESENT: u8 = 0x09;
    pub(super) const FORWARD_PACKET: u8 = 0x0a;
    pub(super) const WATCH_CONNECTIONS: u8 = 0x10;
    pub(super) const CLOSE_PEER: u8 = 0x11;
    pub(super) const PING: u8 = 0x12;
    pub(super) const PONG: u8 = 0x13;
    pub(super) const HEALTH: u8 = 0x14;
    pub(super) const RESTARTING: u8 = 0x15;
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Relay to client, first of all.
    ServerKey {
        /// The relay's key.
        key: RelayPublic,
    },
    /// Client to relay: who it is, and its settings in a box.
    ClientInfo {
        /// The client's key.
        node: NodePublic,
        /// Of the box.
        nonce: [u8; NONCE_LENGTH],
        /// The box.
        sealed: BytesMut,
    },
    /// Relay to client: its settings in a box.
    ServerInfo {
        /// Of the box.
        nonce: [u8; NONCE_LENGTH],
        /// The box.
        sealed: BytesMut,
    },
    /// Client to relay: pass this on.
    SendPacket {
        /// For whom.
        to: NodePublic,
        /// The packet.
        payload: BytesMut,
    },
    /// Relay to client: somebody's packet.
    RecvPacket {
        /// From whom.
        from: NodePublic,
        /// The packet.
        payload: BytesMut,
    },
    /// Relay to client, about every minute.
    KeepAlive,
    /// Client to relay: whether this is its home.
    NotePreferred(bool),
    /// Relay to client: a peer cannot be reached here.
    PeerGone {
        /// The peer.
        peer: NodePublic,
        /// Why.
        reason: PeerGone,
    },
    /// Relay to mesh: a client is here now.
    PeerPresent {
        /// The client.
        peer: NodePublic,
    },
    /// Between relays.
    ForwardPacket {
        /// From whom.
        from: NodePublic,
        /// For whom.
        to: NodePublic,
        /// The packet.
        payload: BytesMut,
    },
    /// Between relays: tell me of your clients.
    WatchConnections,
    /// Between relays: throw a client out.
    ClosePeer {
        /// The client.
        peer: NodePublic,
    },
    /// Either way; to be answered by [`Frame::Pong`].
    Ping([u8; 8]),
    /// The answer.
    Pong([u8; 8]),
    /// Relay to client: a problem with this connection, empty when there is none any more.
    Health(String),
    /// Relay to client: it will be gone for a moment.
    Restarting {
        /// Wait so long before connecting anew.
        reconnect_in: Duration,
        /// Then try for so long.
        try_for: Duration,
    },
    /// To be skipped: of a type from the future, or shorter than its type requires.
    Unknown {
        /// The type.
        kind: u8,
        /// The payload.
        payload: BytesMut,
    },
}

/// Why a peer cannot be reached at a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerGone {
    /// It was connected and left. Also what a frame without a reason means.
    Disconnected,
    /// It is not connected here.
    NotHere,
    /// Something newer.
    Other(u8),
}

/// Appends a frame with a packet for somebody: what a client sends all day, without a copy in
/// between.
///
/// # Errors
///
/// [`FrameError::PacketTooLong`]; nothing was appended.
pub fn put_send_packet(
    out: &mut BytesMut,
    to: &NodePublic,
    payload: &[u8],
) -> Result<(), FrameError> {
    if payload.len() > MAX_PACKET {
        return Err(FrameError::PacketTooLong(payload.len()));
    }
    out.reserve(SEND_OVERHEAD + payload.len());
    put_header(out, kind::SEND_PACKET, KEY_LENGTH + payload.len());
    out.put_slice(to.as_bytes());
    out.put_slice(payload);
    Ok(())
}

/// Appends a frame with somebody's packet: what a relay sends all day.
///
/// # Errors
///
/// [`FrameError::PacketTooLong`]; nothing was appended.
pub fn put_recv_packet(
    out: &mut BytesMut,
    from: &NodePublic,
    payload: &[u8],
) -> Result<(), FrameError> {
    if payload.len() > MAX_PACKET {
        return Err(FrameError::PacketTooLong(payload.len()));
    }
    out.reserve(SEND_OVERHEAD + payload.len());
    put_header(out, kind::RECV_PACKET, KEY_LENGTH + payload.len());
    out.put_slice(from.as_bytes());
    out.put_slice(payload);
    Ok(())
}

fn put_header(out: &mut BytesMut, kind: u8, length: usize) {
    out.put_u8(kind);
    // Every caller is bounded far below 4 GiB.
    out.put_u32(length as u32);
}

impl Frame {
    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        put_header(out, self.kind(), 0);
        match self {
            Frame::ServerKey { key } => {
                out.put_slice(&MAGIC);
                out.put_slice(key.as_bytes());
            }
            Frame::ClientInfo { node, nonce, sealed } => {
                out.put_slice(node.as_bytes());
                out.put_slice(nonce);
                out.put_slice(sealed);
            }
            Frame::ServerInfo { nonce, sealed } => {
                out.put_slice(nonce);
                out.put_slice(sealed);
            }
            Frame::SendPacket { to: peer, payload } | Frame::RecvPacket { from: peer, payload } => {
                out.put_slice(peer.as_bytes());
                out.put_slice(payload);
            }
            Frame::KeepAlive | Frame::WatchConnections => {}
            Frame::NotePreferred(home) => out.put_u8((*home).into()),
            Frame::PeerGone { peer, reason } => {
                out.put_slice(peer.as_bytes());
                out.put_u8(match reason {
                    PeerGone::Disconnected => 0,
                    PeerGone::NotHere => 1,
                    PeerGone::Other(reason) => *reason,
                });
            }
            Frame::PeerPresent { peer } | Frame::ClosePeer { peer } => {
                out.put_slice(peer.as_bytes());
            }
            Frame::ForwardPacket { from, to, payload } => {
                out.put_slice(from.as_bytes());
                out.put_slice(to.as_bytes());
                out.put_slice(payload);
            }
            Frame::Ping(data) | Frame::Pong(data) => out.put_slice(data),
            Frame::Health(problem) => out.put_slice(problem.as_bytes()),
            Frame::Restarting { reconnect_in, try_for } => {
                out.put_u32(millis(*reconnect_in));
                out.put_u32(millis(*try_for));
            }
            Frame::Unknown { kind: _, payload } => out.put_slice(payload),
        }
        let length = (out.len() - start - HEADER_LENGTH) as u32;
        out[start + 1..start + HEADER_LENGTH].copy_from_slice(&length.to_be_bytes());
    }

    fn kind(&self) -> u8 {
        match self {
            Frame::ServerKey { .. } => kind::SERVER_KEY,
            Frame::ClientInfo { .. } => kind::CLIENT_INFO,
            Frame::ServerInfo { .. } => kind::SERVER_INFO,
            Frame::SendPacket { .. } => kind::SEND_PACKET,
            Frame::RecvPacket { .. } => kind::RECV_PACKET,
            Frame::KeepAlive => kind::KEEP_ALIVE,
            Frame::NotePreferred(_) => kind::NOTE_PREFERRED,
            Frame::PeerGone { .. } => kind::PEER_GONE,
            Frame::PeerPresent { .. } => kind::PEER_PRESENT,
            Frame::ForwardPacket { .. } => kind::FORWARD_PACKET,
            Frame::WatchConnections => kind::WATCH_CONNECTIONS,
            Frame::ClosePeer { .. } => kind::CLOSE_PEER,
            Frame::Ping(_) => kind::PING,
            Frame::Pong(_) => kind::PONG,
            Frame::Health(_) => kind::HEALTH,
            Frame::Restarting { .. } => kind::RESTARTING,
            Frame::Unknown { kind, .. } => *kind,
        }
    }

    /// A frame from its payload; what follows the known fields is for the future and ignored.
    fn parse(kind: u8, mut payload: BytesMut) -> Frame {
        match Frame::parse_known(kind, &mut payload) {
            Some(frame) => frame,
            None => Frame::Unknown { kind, payload },
        }
    }

    /// `None` leaves the payload as it was.
    fn parse_known(kind: u8, payload: &mut BytesMut) -> Option<Frame> {
        Some(match kind {
            kind::SERVER_KEY => {
                let key = payload.strip_prefix(&MAGIC)?.get(..KEY_LENGTH)?;
                Frame::ServerKey { key: RelayPublic::from_slice(key).ok()? }
            }
            kind::CLIENT_INFO if payload.len() >= KEY_LENGTH + NONCE_LENGTH => Frame::ClientInfo {
                node: take_key(payload)?,
                nonce: take(payload)?,
                sealed: payload.split(),
            },
            kind::SERVER_INFO => {
                Frame::ServerInfo { nonce: take(payload)?, sealed: payload.split() }
            }
            kind::SEND_PACKET => {
                Frame::SendPacket { to: take_key(payload)?, payload: payload.split() }
            }
            kind::RECV_PACKET => {
                Frame::RecvPacket { from: take_key(payload)?, payload: payload.split() }
            }
            kind::KEEP_ALIVE => Frame::KeepAlive,
            kind::NOTE_PREFERRED => Frame::NotePreferred(*payload.first()? != 0),
            kind::PEER_GONE => {
                let peer = take_key(payload)?;
                let reason = match payload.first() {
                    None | Some(0) => PeerGone::Disconnected,
                    Some(1) => PeerGone::NotHere,
                    Some(other) => PeerGone::Other(*other),
                };
                Frame::PeerGone { peer, reason }
            }
            kind::PEER_PRESENT => Frame::PeerPresent { peer: take_key(payload)? },
            kind::FORWARD_PACKET if payload.len() >= 2 * KEY_LENGTH => Frame::ForwardPacket {
                from: take_key(payload)?,
                to: take_key(payload)?,
                payload: payload.split(),
            },
            kind::WATCH_CONNECTIONS => Frame::WatchConnections,
            kind::CLOSE_PEER => Frame::ClosePeer { peer: take_key(payload)? },
            kind::PING => Frame::Ping(take(payload)?),
            kind::PONG => Frame::Pong(take(payload)?),
            kind::HEALTH => Frame::Health(String::from_utf8_lossy(payload).into_owned()),
            kind::RESTARTING => {
                let [a, b, c, d, e, f, g, h] = take(payload)?;
                let duration = |bytes| Duration::from_millis(u32::from_be_bytes(bytes).into());
                Frame::Restarting {
                    reconnect_in: duration([a, b, c, d]),
                    try_for: duration([e, f, g, h]),
                }
            }
            _ => return None,
        })
    }
}

fn take<const N: usize>(payload: &mut BytesMut) -> Option<[u8; N]> {
    let bytes = *payload.first_chunk::<N>()?;
    payload.advance(N);
    Some(bytes)
}

fn take_key(payload: &mut BytesMut) -> Option<NodePublic> {
    take(payload).map(NodePublic::from_bytes)
}

fn millis(duration: Duration) -> u32 {
    duration.as_millis().try_into().unwrap_or(u32::MAX)
}

/// Cuts frames out of a read buffer.
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    limit: usize,
}

impl Decoder {
    /// A decoder that refuses payloads longer than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Decoder { limit }
    }

    /// The next frame, `None` while the buffer holds none as a whole.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLong`]: the stream is of no use any more.
    pub fn decode(&self, buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(&[kind, a, b, c, d]) = buffer.first_chunk::<HEADER_LENGTH>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > self.limit {
            return Err(FrameError::TooLong { kind, length, limit: self.limit });
        }
        if buffer.len() - HEADER_LENGTH < length {
            return Ok(None);
        }
        buffer.advance(HEADER_LENGTH);
        Ok(Some(Frame::parse(kind, buffer.split_to(length))))
    }

    /// Bytes that are missing before [`Decoder::decode`] can have a frame, 0 when it may have one
    /// now: how much room a reader has to make.
    pub fn missing(&self, buffer: &BytesMut) -> usize {
        let wanted = match buffer.first_chunk::<HEADER_LENGTH>() {
            None => HEADER_LENGTH,
            Some(&[_, a, b, c, d]) => {
                HEADER_LENGTH + (u32::from_be_bytes([a, b, c, d]) as usize).min(self.limit)
            }
        };
        wanted.saturating_sub(buffer.len())
    }
}

/// What is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than the reader accepts.
    #[error("a frame of type {kind:#04x} with {length} bytes, more than the {limit} allowed")]
    TooLong {
        /// Its type.
        kind: u8,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A packet to be sent is longer than any relay passes on.
    #[error("a packet of {0} bytes, more than the {MAX_PACKET} that a relay passes on")]
    PacketTooLong(usize),
}
