//! Segments as they are on the wire (RFC 9293, 3.1), inside IPv6 packets without extension headers.
//!
//! [`Segment::parse`] looks without copying, at bytes that anybody may have made; [`Header::emit`]
//! writes a whole packet, with the payload straight from the two halves of a ring.

use std::net::Ipv6Addr;

use bytes::{BufMut as _, BytesMut};

use crate::checksum::checksum;

mod options;

pub(crate) use options::{Options, SackBlocks, Stamps};

/// Length of an IPv6 header (RFC 8200, 3), in bytes.
const IPV6: usize = 40;

/// Length of a TCP header without options, in bytes.
const FIXED: usize = 20;

/// IPv6's number for TCP.
const PROTOCOL: u8 = 6;

/// TCP's control bits (RFC 9293, 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flags {
    pub(crate) fin: bool,
    pub(crate) syn: bool,
    pub(crate) rst: bool,
    pub(crate) psh: bool,
    pub(crate) ack: bool,
}

impl Flags {
    const fn from_bits(bits: u8) -> Self {
        Self {
            fin: bits & 0x01 != 0,
            syn: bits & 0x02 != 0,
            rst: bits & 0x04 != 0,
            psh: bits & 0x08 != 0,
            ack: bits & 0x10 != 0,
        }
    }

    const fn bits(self) -> u8 {
        self.fin as u8
            | (self.syn as u8) << 1
            | (self.rst as u8) << 2
            | (self.psh as u8) << 3
            | (self.ack as u8) << 4
    }
}

/// Everything about a segment but its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Header {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) sequence: u32,
    /// Only meaningful with the ACK flag.
    pub(crate) acknowledgement: u32,
    pub(crate) flags: Flags,
    /// As on the wire, not scaled.
    pub(crate) window: u16,
    pub(crate) options: Options,
}

/// A segment that arrived. The urgent pointer is ignored: urgent data is data (RFC 6093 deprecates
/// it for new applications, and ours are).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    pub(crate) header: Header,
    pub(crate) payload: &'a [u8],
}

/// A segment whose lengths contradict each other, or with a wrong checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

impl<'a> Segment<'a> {
    /// Looks at the TCP segment that an IPv6 packet between these addresses carries.
    pub(crate) fn parse(
        source: &Ipv6Addr,
        destination: &Ipv6Addr,
        bytes: &'a [u8],
    ) -> Result<Self, Malformed> {
        let fixed: &[u8; FIXED] = bytes.first_chunk().ok_or(Malformed)?;
        let length = usize::from(fixed[12] >> 4) * 4;
        if length < FIXED {
            return Err(Malformed);
        }
        let (head, payload) = bytes.split_at_checked(length).ok_or(Malformed)?;
        if checksum(source, destination, PROTOCOL, bytes) != 0 {
            return Err(Malformed);
        }
        let be16 = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let be32 = |at: usize| (u32::from(be16(at)) << 16) | u32::from(be16(at + 2));
        let header = Header {
            source: be16(0),
            destination: be16(2),
            sequence: be32(4),
            acknowledgement: be32(8),
            flags: Flags::from_bits(fixed[13]),
            window: be16(14),
            options: Options::parse(&head[FIXED..]),
        };
        Ok(Self { header, payload })
    }

    /// What it occupies of the sequence space: its bytes, and one each for SYN and FIN.
    pub(crate) fn occupies(&self) -> usize {
        let flags = self.header.flags;
        self.payload.len() + usize::from(flags.syn) + usize::from(flags.fin)
    }
}

impl Header {
    /// Appends the IPv6 packet with this segment to `out`, which is empty.
    pub(crate) fn emit(
        &self,
        source: &Ipv6Addr,
        destination: &Ipv6Addr,
        payload: (&[u8], &[u8]),
        out: &mut BytesMut,
    ) {
        let options = self.options.length();
        let length = FIXED + options + payload.0.len() + payload.1.len();
        out.reserve(IPV6 + length);
        out.put_u32(0x6000_0000);
        out.put_u16(length as u16);
        out.put_u8(PROTOCOL);
        out.put_u8(64);
        out.put_slice(&source.octets());
        out.put_slice(&destination.octets());
        out.put_u16(self.source);
        out.put_u16(self.destination);
        out.put_u32(self.sequence);
        out.put_u32(if self.flags.ack { self.acknowledgement } else { 0 });
        out.put_u8((((FIXED + options) / 4) << 4) as u8);
        out.put_u8(self.flags.bits());
        out.put_u16(self.window);
        out.put_u32(0);
        self.options.emit(out);
        out.put_slice(payload.0);
        out.put_slice(payload.1);
        let checksum = checksum(source, destination, PROTOCOL, &out[IPV6..]);
        out[IPV6 + 16..IPV6 + 18].copy_from_slice(&checksum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> (Ipv6Addr, Ipv6Addr) {
        (Ipv6Addr::new(0xfd7a, 0, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0xfd7a, 0, 0, 0, 0, 0, 0, 2))
    }

    fn header() -> Header {
        let stamps = Stamps { value: 1, echo: 2 };
        Header {
            source: 1000,
            destination: 80,
            sequence: 0x0102_0304,
            acknowledgement: 5,
            flags: Flags { ack: true, psh: true, ..Flags::default() },
            window: 17,
            options: Options { stamps: Some(stamps), ..Options::default() },
        }
    }

    #[test]
    fn what_was_emitted_is_read_back() {
        let (here, there) = ends();
        for cut in 0..=5 {
            let mut packet = BytesMut::new();
            let (first, second) = b"hello".split_at(cut);
            header().emit(&here, &there, (first, second), &mut packet);
            let segment = Segment::parse(&here, &there, &packet[IPV6..]);
            assert_eq!(segment, Ok(Segment { header: header(), payload: b"hello" }));
        }
    }

    #[test]
    fn no_damage_to_a_byte_goes_unseen_and_no_cut_panics() {
        let (here, there) = ends();
        let mut packet = BytesMut::new();
        header().emit(&here, &there, (b"hello", b""), &mut packet);
        let bytes = &packet[IPV6..];
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0x40;
            assert_eq!(Segment::parse(&here, &there, &damaged), Err(Malformed), "byte {at}");
            assert_eq!(Segment::parse(&here, &there, &bytes[..at]), Err(Malformed), "cut {at}");
        }
        assert_eq!(Segment::parse(&there, &there, bytes), Err(Malformed));
    }
}
