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
    /// The flags in the 14th byte of a TCP header.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

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

#[cfg(test)]
mod tests {
    use super::super::build;
    use super::*;

    fn addresses() -> (Ipv6Addr, Ipv6Addr) {
        let parse = |text: &str| text.parse().expect("literal");
        (
            parse("fd60:627a:a42b:4d58:b6a9:51c0:7e38:d2f4"),
            parse("fd7a:115c:a1e0:4f63:8a1e:d5b:7c9e:4f21"),
        )
    }

    #[test]
    fn a_built_datagram_is_read_back_and_padding_ignored() {
        let (from, to) = addresses();
        let mut bytes = build::udp((from, 1000), (to, 53), b"abc").to_vec();
        let len = bytes.len();
        bytes.resize(len.next_multiple_of(16), 0);
        let packet = Packet::parse(&bytes).expect("well formed");
        assert_eq!(packet.bytes.len(), len);
        assert_eq!((packet.source, packet.destination), (from, to));
        assert_eq!(packet.upper, Upper::Udp { source: 1000, destination: 53, payload: b"abc" });
    }

    #[test]
    fn a_wrong_or_missing_checksum_is_refused() {
        let (from, to) = addresses();
        let good = build::udp((from, 1000), (to, 53), b"abc");
        let mut wrong = good.clone();
        wrong[IPV6_HEADER + 8] ^= 1;
        assert_eq!(Packet::parse(&wrong), Err(PacketError::Checksum));
        let mut missing = good.clone();
        missing[IPV6_HEADER + 6..IPV6_HEADER + 8].fill(0);
        assert_eq!(Packet::parse(&missing), Err(PacketError::Checksum));
        let mut reply = build::echo_reply(from, to, b"id+sequence");
        assert_eq!(Packet::parse(&reply).map(|it| it.upper), Ok(Upper::EchoReply(b"id+sequence")));
        reply[50] ^= 0x80;
        assert_eq!(Packet::parse(&reply), Err(PacketError::Checksum));
    }

    #[test]
    fn every_cut_of_a_packet_is_refused() {
        let (from, to) = addresses();
        let whole = build::udp((from, 1), (to, 2), &[5; 100]);
        for len in 0..whole.len() {
            assert_eq!(Packet::parse(&whole[..len]), Err(PacketError::Length), "{len}");
        }
        let mut long = whole.to_vec();
        long.resize(MTU + 60, 0);
        long[4..6].copy_from_slice(&(MTU as u16).to_be_bytes());
        assert_eq!(Packet::parse(&long), Err(PacketError::Length));
        let mut four = whole.to_vec();
        four[0] = 0x45;
        assert_eq!(Packet::parse(&four), Err(PacketError::Version));
    }

    #[test]
    fn the_window_scale_is_found_among_options() {
        assert_eq!(window_scale(&[2, 4, 4, 0xc4, 1, 3, 3, 7, 4, 2]), Some(7));
        assert_eq!(window_scale(&[3, 3, 200]), Some(14));
        assert_eq!(window_scale(&[2, 4, 4, 0xc4, 0, 3, 3, 7]), None);
        assert_eq!(window_scale(&[2, 0, 3, 3, 7]), None);
        assert_eq!(window_scale(&[2, 200, 3]), None);
        assert_eq!(window_scale(&[3, 3]), None);
    }

    #[test]
    fn a_late_fin_is_acknowledged_where_it_ended() {
        let (from, to) = addresses();
        let fin = TcpSegment {
            source: 80,
            destination: 50_000,
            sequence: u32::MAX,
            acknowledgement: 77,
            flags: TcpFlags(0x11),
            window: 1,
            window_scale: None,
            payload_len: 3,
        };
        let bytes = build::tcp_ack(from, to, &fin);
        assert_eq!(build::checksum(&from, &to, 6, &bytes[IPV6_HEADER..]), 0);
        let Ok(Packet { upper: Upper::Tcp(ack), .. }) = Packet::parse(&bytes) else {
            panic!("not TCP");
        };
        assert_eq!((ack.source, ack.destination), (50_000, 80));
        assert_eq!((ack.sequence, ack.acknowledgement), (77, 3));
        assert!(ack.flags.ack() && !ack.flags.fin() && !ack.flags.syn());
    }
}
