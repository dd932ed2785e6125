//! Looking at a packet without copying it.

use std::net::Ipv6Addr;

use super::{IPV6_HEADER, PROTOCOL_TSMP, WIDEST};

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
    /// A TCP segment, which is not looked at here.
    Tcp(&'a [u8]),
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

/// Why a packet is none we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Not IPv6.
    #[error("not an IPv6 packet")]
    Version,
    /// Longer than [`WIDEST`], or shorter than its headers say.
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
        if end > WIDEST {
            return Err(PacketError::Length);
        }
        let bytes = bytes.get(..end).ok_or(PacketError::Length)?;
        let source = address(&header[8..24]);
        let destination = address(&header[24..40]);
        let payload = &bytes[IPV6_HEADER..];
        let upper = match header[6] {
            6 => Upper::Tcp(payload),
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
    if header[6..8] == [0, 0] || coderctl_tcp::checksum(source, destination, 17, datagram) != 0 {
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
    if coderctl_tcp::checksum(source, destination, 58, payload) != 0 {
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
        long.resize(WIDEST + 60, 0);
        long[4..6].copy_from_slice(&(WIDEST as u16).to_be_bytes());
        assert_eq!(Packet::parse(&long), Err(PacketError::Length));
        let mut four = whole.to_vec();
        four[0] = 0x45;
        assert_eq!(Packet::parse(&four), Err(PacketError::Version));
    }
}
