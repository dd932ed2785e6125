//! TSMP: pings inside the tunnel, and notices that a connection was refused
//! (coder/tailscale: net/packet/tsmp.go).
//!
//! A message is the payload of an IPv6 packet of protocol 99, without a checksum. An answered ping
//! proves the whole way: the WireGuard session is up in both directions.

use std::net::Ipv6Addr;

use crate::packet::{IPV6_HEADER, PROTOCOL_TSMP};

/// Length of a whole ping packet, in bytes.
pub const PING_LENGTH: usize = IPV6_HEADER + 9;

/// Length of a whole pong packet, in bytes.
pub const PONG_LENGTH: usize = IPV6_HEADER + 11;

/// Hop limit that upstream sends with (coder/tailscale: net/packet/ip6.go).
const HOP_LIMIT: u8 = 64;

/// The 20 bits of the flow label within the first four bytes of the header.
const FLOW_MASK: u32 = 0x000f_ffff;

const PING: u8 = b'p';
const PONG: u8 = b'o';
const REJECTED: u8 = b'!';

/// A packet with its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Who sent it.
    pub source: Ipv6Addr,
    /// For whom it is.
    pub destination: Ipv6Addr,
    /// Of the IPv6 header, 20 bits.
    pub flow_label: u32,
    /// What it says.
    pub message: Message,
}

/// What a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Please answer.
    Ping {
        /// To be repeated in the answer.
        data: [u8; 8],
    },
    /// The answer.
    Pong {
        /// Of the ping.
        data: [u8; 8],
        /// A port for the peer API, which Coder does not have; 0.
        port: u16,
    },
    /// A connection was refused. Only a hint: nothing authenticates which one is meant.
    Rejected {
        /// IP protocol of the connection.
        protocol: u8,
        /// Why, a letter: `A` by access rules, `S` by "shields up", `F` no forwarding, `W` by the
        /// host's firewall.
        reason: u8,
        /// Port of the refused sender.
        source_port: u16,
        /// Port that it wanted.
        destination_port: u16,
        /// The sender only suspects that something is wrong; nothing has to fail.
        maybe_broken: bool,
    },
}

impl Packet {
    /// Reads an IPv6 packet that [has protocol 99](PROTOCOL_TSMP).
    ///
    /// # Errors
    ///
    /// [`TsmpError`] when it is no such packet, or one that is not understood.
    pub fn parse(packet: &[u8]) -> Result<Packet, TsmpError> {
        let (header, rest) = packet.split_first_chunk::<IPV6_HEADER>().ok_or(TsmpError::NotTsmp)?;
        if header[0] >> 4 != 6 || header[6] != PROTOCOL_TSMP {
            return Err(TsmpError::NotTsmp);
        }
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let payload = rest.get(..length).ok_or(TsmpError::Short)?;
        Ok(Packet {
            source: address(header, 8),
            destination: address(header, 24),
            flow_label: first_word(header) & FLOW_MASK,
            message: Message::parse(payload)?,
        })
    }

    /// The answer to a ping, `None` for everything else.
    ///
    /// It differs from upstream's in nothing, down to the flow label, which upstream inverts.
    pub fn respond(&self) -> Option<[u8; PONG_LENGTH]> {
        match self.message {
            Message::Ping { data } => {
                let flow_label = !self.flow_label & FLOW_MASK;
                Some(pong(self.destination, self.source, flow_label, data))
            }
            Message::Pong { .. } | Message::Rejected { .. } => None,
        }
    }
}

/// A ping packet; `data` is random, it matches the pong.
pub fn ping(source: Ipv6Addr, destination: Ipv6Addr, data: [u8; 8]) -> [u8; PING_LENGTH] {
    let mut packet = [0; PING_LENGTH];
    write_header(&mut packet, source, destination, 0);
    packet[IPV6_HEADER] = PING;
    packet[IPV6_HEADER + 1..].copy_from_slice(&data);
    packet
}

fn pong(from: Ipv6Addr, to: Ipv6Addr, flow_label: u32, data: [u8; 8]) -> [u8; PONG_LENGTH] {
    let mut packet = [0; PONG_LENGTH];
    write_header(&mut packet, from, to, flow_label);
    packet[IPV6_HEADER] = PONG;
    packet[IPV6_HEADER + 1..IPV6_HEADER + 9].copy_from_slice(&data);
    packet
}

impl Message {
    fn parse(payload: &[u8]) -> Result<Message, TsmpError> {
        let (&kind, body) = payload.split_first().ok_or(TsmpError::Short)?;
        match kind {
            PING => {
                let data = body.first_chunk().ok_or(TsmpError::Short)?;
                Ok(Message::Ping { data: *data })
            }
            PONG => {
                let [data @ .., high, low]: [u8; 10] =
                    *body.first_chunk().ok_or(TsmpError::Short)?;
                Ok(Message::Pong { data, port: u16::from_be_bytes([high, low]) })
            }
            REJECTED => {
                let &[protocol, reason, s0, s1, d0, d1] =
                    body.first_chunk().ok_or(TsmpError::Short)?;
                Ok(Message::Rejected {
                    protocol,
                    reason,
                    source_port: u16::from_be_bytes([s0, s1]),
                    destination_port: u16::from_be_bytes([d0, d1]),
                    maybe_broken: body.get(6).is_some_and(|flags| flags & 1 != 0),
                })
            }
            other => Err(TsmpError::Unknown(other)),
        }
    }
}

fn write_header(packet: &mut [u8], source: Ipv6Addr, destination: Ipv6Addr, flow_label: u32) {
    let payload = (packet.len() - IPV6_HEADER) as u16;
    packet[..4].copy_from_slice(&(6 << 28 | flow_label).to_be_bytes());
    packet[4..6].copy_from_slice(&payload.to_be_bytes());
    packet[6] = PROTOCOL_TSMP;
    packet[7] = HOP_LIMIT;
    packet[8..24].copy_from_slice(&source.octets());
    packet[24..IPV6_HEADER].copy_from_slice(&destination.octets());
}

fn address(header: &[u8; IPV6_HEADER], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[at..at + 16]);
    Ipv6Addr::from(octets)
}

fn first_word(header: &[u8; IPV6_HEADER]) -> u32 {
    u32::from_be_bytes([header[0], header[1], header[2], header[3]])
}

/// Why a packet is no TSMP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TsmpError {
    /// Not IPv6, or of another protocol.
    #[error("not a TSMP packet")]
    NotTsmp,
    /// Shorter than its header or its type says.
    #[error("a TSMP packet that is cut off")]
    Short,
    /// A type from the future.
    #[error("a TSMP message of unknown type {0:#04x}")]
    Unknown(u8),
}
