//! Packets that are made outside the TCP core.

use std::net::Ipv6Addr;

use bytes::{BufMut, BytesMut};

use super::{IPV6_HEADER, TcpSegment};

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

/// The acknowledgement that answers the repeated FIN of a connection that is long done.
pub fn tcp_ack(source: Ipv6Addr, destination: Ipv6Addr, answered: &TcpSegment) -> BytesMut {
    let occupied = answered.payload_len as u32 + u32::from(answered.flags.fin());
    acknowledgement(
        (source, answered.destination),
        (destination, answered.source),
        (answered.acknowledgement, answered.sequence.wrapping_add(occupied)),
        0,
    )
}

/// A segment that only acknowledges: `numbers` are our sequence number and the acknowledgement.
pub fn acknowledgement(
    source: (Ipv6Addr, u16),
    destination: (Ipv6Addr, u16),
    numbers: (u32, u32),
    window: u16,
) -> BytesMut {
    let mut packet = ipv6(source.0, destination.0, 6, 20);
    packet.put_u16(source.1);
    packet.put_u16(destination.1);
    packet.put_u32(numbers.0);
    packet.put_u32(numbers.1);
    packet.put_u16(0x5010);
    packet.put_u16(window);
    packet.put_u32(0);
    let sum = checksum(&source.0, &destination.0, 6, &packet[IPV6_HEADER..]);
    packet[IPV6_HEADER + 16..IPV6_HEADER + 18].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Writes another window into a TCP segment; its checksum stays right (RFC 1624).
pub fn set_window(packet: &mut [u8], window: u16) {
    const WINDOW: usize = IPV6_HEADER + 14;
    let Some(&mut [high, low, sum_high, sum_low]) = packet.get_mut(WINDOW..WINDOW + 4) else {
        return;
    };
    let old = u16::from_be_bytes([high, low]);
    let sum = u16::from_be_bytes([sum_high, sum_low]);
    let new = u32::from(!sum) + u32::from(!old) + u32::from(window);
    let new = (new & 0xffff) + (new >> 16);
    let new = !truncate(((new & 0xffff) + (new >> 16)) as usize);
    packet[WINDOW..WINDOW + 2].copy_from_slice(&window.to_be_bytes());
    packet[WINDOW + 2..WINDOW + 4].copy_from_slice(&new.to_be_bytes());
}

/// The Internet checksum over the IPv6 pseudo header and `payload` (RFC 8200, 8.1). Zero over a
/// payload that already holds its checksum means it is right.
pub fn checksum(source: &Ipv6Addr, destination: &Ipv6Addr, protocol: u8, payload: &[u8]) -> u16 {
    let mut sum = u64::from(protocol) + payload.len() as u64;
    for part in [&source.octets()[..], &destination.octets()[..], payload] {
        let mut words = part.chunks_exact(2);
        for word in &mut words {
            sum += u64::from(u16::from_be_bytes([word[0], word[1]]));
        }
        if let [last] = words.remainder() {
            sum += u64::from(*last) << 8;
        }
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !truncate(sum as usize)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::{Packet, Upper};

    proptest! {
        #[test]
        fn another_window_leaves_the_checksum_right(
            ports in any::<(u16, u16)>(),
            numbers in any::<(u32, u32)>(),
            windows in any::<(u16, u16)>(),
        ) {
            let ends = [1, 2].map(|last| Ipv6Addr::new(0xfd60, 0x627a, 0xa42b, 0, 0, 0, 0, last));
            let (source, destination) = ((ends[0], ports.0), (ends[1], ports.1));
            let mut packet = acknowledgement(source, destination, numbers, windows.0);
            set_window(&mut packet, windows.1);
            prop_assert_eq!(checksum(&ends[0], &ends[1], 6, &packet[IPV6_HEADER..]), 0);
            let packet = Packet::parse(&packet).expect("well-formed");
            let Upper::Tcp(segment) = packet.upper else { panic!("{packet:?}") };
            prop_assert_eq!(segment.window, windows.1);
            prop_assert_eq!((segment.sequence, segment.acknowledgement), numbers);
        }
    }
}
