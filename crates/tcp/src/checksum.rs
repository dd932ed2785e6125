//! The Internet checksum over an IPv6 pseudo header and what follows (RFC 1071; RFC 8200, 8.1).
//!
//! It is taken over every byte that is carried, so it is summed as the processor likes it: four
//! bytes at a time, since the carries may as well be folded in at the end, and in the processor's own
//! byte order, since the sum of swapped words is the swapped sum (RFC 1071, 2(B)).

use std::net::Ipv6Addr;

/// The checksum of a TCP segment, UDP datagram or ICMPv6 message. Zero over one that already holds
/// its checksum means it is right.
#[must_use]
pub fn checksum(source: &Ipv6Addr, destination: &Ipv6Addr, protocol: u8, payload: &[u8]) -> u16 {
    let addresses = sum(&source.octets()) + sum(&destination.octets());
    // As they stand in the pseudo header: 32 bits each, the highest byte first.
    let length = (payload.len() as u32).to_be();
    let protocol = u32::from(protocol).to_be();
    !fold(addresses + u64::from(length) + u64::from(protocol) + sum(payload))
}

fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let words: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    words + u64::from(u32::from_ne_bytes(last))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    u16::from_be(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes)), 0xddf2);
    }

    #[test]
    fn it_is_that_of_the_words_one_by_one() {
        let source = "fd7a:115c:a1e0::1".parse().expect("an address");
        let destination = "fd60:627a:a42b::ffff".parse().expect("an address");
        let bytes: Vec<u8> = (0..1300_u32).map(|at| ((at * 7919) >> 3) as u8).collect();
        for length in (0..70).chain([1219, 1220, 1300]) {
            let payload = &bytes[..length];
            let mut whole = [source, destination].map(|a: Ipv6Addr| a.octets()).concat();
            whole.extend((length as u32).to_be_bytes());
            whole.extend([0, 0, 0, 6]);
            whole.extend(payload);
            whole.resize(whole.len().next_multiple_of(2), 0);
            let word = |word: &[u8]| u32::from(u16::from_be_bytes([word[0], word[1]]));
            let mut expected: u32 = whole.chunks(2).map(word).sum();
            while expected > 0xffff {
                expected = (expected >> 16) + (expected & 0xffff);
            }
            let found = checksum(&source, &destination, 6, payload);
            assert_eq!(found, !(expected as u16), "{length} bytes");
        }
    }
}
