//! Looking at a packet without copying it.

use std::net::Ipv6Addr;

use super::{IPV6_HEADER, MTU, PROTOCOL_TSMP};

/// An IPv6 packet whose lengths have been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// What the packet carries.
    pub upper: Upper<'a>,
    /// The packet without the padding that WireGuard may have left behind it.
    pub bytes: &'a [u8],
}

/// What an IPv6 packet carries, as far as we look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upper<'a> {
    /// A TCP segment; its checksum is not verified here.
    Tcp(TcpSegment),
    /// A UDP datagram with a right checksum.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Payload.
        payload: &'a [u8],
    },
    /// An ICMPv6 echo request with a right checksum: identifier, sequence number and data.
    EchoRequest(&'a [u8]),
    /// The answer to one.
    EchoReply(&'a [u8]),
    /// Another ICMPv6 message.
    Icmp {
        /// ICMPv6 type.
        kind: u8,
    },
    /// An in-tunnel message (TSMP): everything behind the IP header.
    Tsmp(&'a [u8]),
    /// Something else, by IP protocol number.
    Other(u8),
}

/// The parts of a TCP header that are needed outside the TCP core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpSegment {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number; only meaningful with the ACK flag.
    pub acknowledgement: u32,
    /// The flags.
    pub flags: TcpFlags,
    /// The window field, unscaled.
    pub window: u16,
    /// The window scale option, looked for in SYNs only.
    pub window_scale: Option<u8>,
    /// Payload bytes.
    pub payload_len: usize,
}

/// TCP's control flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// FIN: the sender has no more data.
    pub fn fin(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// SYN: opens a connection.
    pub fn syn(self) -> bool {
        self.0 & 0x02 != 0
    }

    /// RST: there is no such connection.
    pub fn rst(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// ACK: the acknowledgement number counts.
    pub fn ack(self) -> bool {
        self.0 & 0x10 != 0
    }
}

/// Why a packet is none we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Not IPv6.
    #[error("not an IPv6 packet")]
    Version,
    /// Longer than the MTU, or shorter than its headers say.
    #[error("the packet's length does not fit its headers")]
    Length,
    /// A wrong checksum.
    #[error("the packet's checksum is wrong")]
    Checksum,
}

impl<'a> Packet<'a> {
    /// Looks at the packet at the start of `bytes`; what follows its stated length is padding.
    ///
    /// # Errors
    ///
    /// [`PacketError`]; the packet is to be dropped.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let header: &[u8; IPV6_HEADER] = bytes.first_chunk().ok_or(PacketError::Length)?;
        if header[0] >> 4 != 6 {
            return Err(PacketError::Version);
        }
        let end = IPV6_HEADER + usize::from(u16::from_be_bytes([header[4], header[5]]));
        if end > MTU {
            return Err(PacketError::Length);
        }
        let bytes = bytes.get(..end).ok_or(PacketError::Length)?;
        let source = address(&header[8..24]);
        let destination = address(&header[24..40]);
        let payload = &bytes[IPV6_HEADER..];
        let upper = match header[6] {
            6 => Upper::Tcp(tcp(payload)?),
            17 => udp(&source, &destination, payload)?,
            58 => icmp(&source, &destination, payload)?,
            PROTOCOL_TSMP => Upper::Tsmp(payload),
            other => Upper::Other(other),
        };
        Ok(Self { source, destination, upper, bytes })
    }
}

fn address(bytes: &[u8]) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(bytes);
    Ipv6Addr::from(octets)
}

fn tcp(payload: &[u8]) -> Result<TcpSegment, PacketError> {
    let header: &[u8; 20] = payload.first_chunk().ok_or(PacketError::Length)?;
    let header_len = usize::from(header[12] >> 4) * 4;
    if header_len < 20 || header_len > payload.len() {
        return Err(PacketError::Length);
    }
    let flags = TcpFlags(header[13]);
    let be16 = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let be32 = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    Ok(TcpSegment {
        source: be16(0),
        destination: be16(2),
        sequence: be32(4),
        acknowledgement: be32(8),
        flags,
        window: be16(14),
        window_scale: if flags.syn() { window_scale(&payload[20..header_len]) } else { None },
        payload_len: payload.len() - header_len,
    })
}

/// The shift of the window scale option (RFC 7323, section 2), capped at 14 as it demands.
fn window_scale(mut options: &[u8]) -> Option<u8> {
    loop {
        match options {
            [] | [0, ..] => return None,
            [1, rest @ ..] => options = rest,
            [3, 3, shift, ..] => return Some((*shift).min(14)),
            [_, len, ..] if *len >= 2 => options = options.get(usize::from(*len)..)?,
            [_, ..] => return None,
        }
    }
}

fn udp<'a>(
    source: &Ipv6Addr,
    destination: &Ipv6Addr,
    payload: &'a [u8],
) -> Result<Upper<'a>, PacketError> {
    let header: &[u8; 8] = payload.first_chunk().ok_or(PacketError::Length)?;
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if len < 8 {
        return Err(PacketError::Length);
    }
    let datagram = payload.get(..len).ok_or(PacketError::Length)?;
    // IPv6 has no datagrams without checksum (RFC 8200, 8.1).
    if header[6..8] == [0, 0] || super::build::checksum(source, destination, 17, datagram) != 0 {
        return Err(PacketError::Checksum);
    }
    Ok(Upper::Udp {
        source: u16::from_be_bytes([header[0], header[1]]),
        destination: u16::from_be_bytes([header[2], header[3]]),
        payload: &datagram[8..],
    })
}

fn icmp<'a>(
    source: &Ipv6Addr,
    destination: &Ipv6Addr,
    payload: &'a [u8],
) -> Result<Upper<'a>, PacketError> {
    let header: &[u8; 4] = payload.first_chunk().ok_or(PacketError::Length)?;
    if super::build::checksum(source, destination, 58, payload) != 0 {
        return Err(PacketError::Checksum);
    }
    Ok(match (header[0], header[1]) {
        (128, 0) if payload.len() >= 8 => Upper::EchoRequest(&payload[4..]),
        (129, 0) if payload.len() >= 8 => Upper::EchoReply(&payload[4..]),
        (kind, _) => Upper::Icmp { kind },
    })
}
