//! IP packets as they travel inside the tunnel: IPv6 only, no extension headers, no fragments
//! (upstream's parser refuses both). Every peer takes [`MTU`] bytes and every way carries them; peers
//! that say so in their SYNs take up to [`WIDEST`], where the way carries them.
//!
//! [`Packet::parse`] looks at what a packet claims, with every length checked; [`build`] makes the
//! few packets that the TCP core does not make: UDP and ICMPv6 echo.

use std::net::Ipv6Addr;

pub mod build;
mod parse;

pub use parse::{Packet, PacketError, Upper};

pub use coderctl_tcp::{MTU, WIDEST};

/// Length of an IPv6 header, in bytes.
pub const IPV6_HEADER: usize = 40;

/// Largest UDP payload that fits one packet.
pub const MAX_UDP_PAYLOAD: usize = MTU - IPV6_HEADER - 8;

/// IP protocol number of Tailscale's in-tunnel messages (coder/tailscale: types/ipproto).
pub const PROTOCOL_TSMP: u8 = 99;

/// Whether packets to or from this address belong inside the tunnel: not multicast, link-local,
/// loopback or unspecified.
pub fn is_tunnel_address(address: &Ipv6Addr) -> bool {
    !(address.is_multicast()
        || address.is_unicast_link_local()
        || address.is_loopback()
        || address.is_unspecified())
}

/// Source and destination of an IPv6 packet, `None` for anything else.
pub fn addresses(packet: &[u8]) -> Option<(Ipv6Addr, Ipv6Addr)> {
    let header: &[u8; IPV6_HEADER] = packet.first_chunk()?;
    let (_, addresses) = header.split_last_chunk::<32>()?;
    let (source, destination) = (addresses.first_chunk::<16>()?, addresses.last_chunk::<16>()?);
    (header[0] >> 4 == 6).then(|| (Ipv6Addr::from(*source), Ipv6Addr::from(*destination)))
}

/// Length of an IPv6 packet by its own account, without what WireGuard may have padded behind it,
/// in bytes; never more than there is.
pub fn length(packet: &[u8]) -> usize {
    match packet.first_chunk::<6>() {
        Some([.., high, low]) => {
            (IPV6_HEADER + usize::from(u16::from_be_bytes([*high, *low]))).min(packet.len())
        }
        None => packet.len(),
    }
}
