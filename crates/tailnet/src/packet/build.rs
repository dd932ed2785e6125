//! Packets that are made outside the TCP core.

use std::net::Ipv6Addr;

use bytes::{BufMut, BytesMut};
use coderctl_tcp::checksum;

use super::IPV6_HEADER;

/// Hop limit of packets we make (IANA's recommended default).
const HOP_LIMIT: u8 = 64;

/// A UDP datagram. The caller keeps `payload` within [`super::MAX_UDP_PAYLOAD`].
pub fn udp(source: (Ipv6Addr, u16), destination: (Ipv6Addr, u16), payload: &[u8]) -> BytesMut {
    let len = 8 + payload.len();
    let mut packet = ipv6(source.0, destination.0, 17, len);
    packet.put_u16(source.1);
    packet.put_u16(destination.1);
    packet.put_u16(truncate(len));
    packet.put_u16(0);
    packet.put_slice(payload);
    let sum = checksum(&source.0, &destination.0, 17, &packet[IPV6_HEADER..]);
    // Zero means "no checksum", which IPv6 forbids; its twin stands for it (RFC 768).
    let sum = if sum == 0 { u16::MAX } else { sum };
    packet[IPV6_HEADER + 6..IPV6_HEADER + 8].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The answer to an echo request: `body` is its identifier, sequence number and data.
pub fn echo_reply(source: Ipv6Addr, destination: Ipv6Addr, body: &[u8]) -> BytesMut {
    let mut packet = ipv6(source, destination, 58, 4 + body.len());
    packet.put_u8(129);
    packet.put_u8(0);
    packet.put_u16(0);
    packet.put_slice(body);
    let sum = checksum(&source, &destination, 58, &packet[IPV6_HEADER..]);
    packet[IPV6_HEADER + 2..IPV6_HEADER + 4].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, payload_len: usize) -> BytesMut {
    let mut packet = BytesMut::with_capacity(IPV6_HEADER + payload_len);
    packet.put_u32(0x6000_0000);
    packet.put_u16(truncate(payload_len));
    packet.put_u8(protocol);
    packet.put_u8(HOP_LIMIT);
    packet.put_slice(&source.octets());
    packet.put_slice(&destination.octets());
    packet
}

/// Lengths here are bounded by the MTU; the mask only says so to the compiler.
fn truncate(value: usize) -> u16 {
    (value & 0xffff) as u16
}
