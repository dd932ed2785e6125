//! Numbers that others cannot guess: initial sequence numbers, ports, and the order of a table
//! whose keys they choose.
#![expect(
    deprecated,
    reason = "the successor of SipHasher in the standard library takes no key; it is deprecated \
              for hash tables, not for what it computes"
)]

use std::hash::{BuildHasher, SipHasher};
use std::time::Duration;

use crate::connection::Tuple;
use crate::time::Time;

/// IANA's range of dynamic ports (RFC 6335, 6).
const FIRST_PORT: u16 = 49_152;
const PORTS: u16 = u16::MAX - FIRST_PORT + 1;

/// A sequence number rises by one in this time (RFC 9293, 3.4.1), so that a connection begins
/// behind an earlier one with the same ends.
const TICK: Duration = Duration::from_micros(4);

/// SipHash with a key of ours (RFC 6528, 3, leaves the function open).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key(u64, u64);

impl Key {
    pub(crate) const fn new((first, second): (u64, u64)) -> Self {
        Self(first, second)
    }

    /// RFC 6528's `M + F(...)`.
    pub(crate) fn sequence(self, tuple: &Tuple, now: Time) -> u32 {
        let ticks = now.micros() / TICK.as_micros() as u64;
        (self.hash_one((tuple, 'S')) as u32).wrapping_add(ticks as u32)
    }

    /// All ports, for a connection to this destination, beginning with one that depends on it
    /// (RFC 6056, 3.3.3).
    pub(crate) fn ports(self, tuple: &Tuple, round: u64) -> impl Iterator<Item = u16> {
        let offset = self.hash_one((tuple.local, tuple.remote, tuple.remote_port, 'P'));
        let first = offset.wrapping_add(round);
        (0..u64::from(PORTS)).map(move |step| {
            let port = first.wrapping_add(step) % u64::from(PORTS);
            FIRST_PORT + port as u16
        })
    }
}

impl BuildHasher for Key {
    type Hasher = SipHasher;

    fn build_hasher(&self) -> SipHasher {
        SipHasher::new_with_keys(self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv6Addr;

    use super::*;

    fn tuple(port: u16) -> Tuple {
        let address = |last| Ipv6Addr::new(0xfd7a, 0, 0, 0, 0, 0, 0, last);
        Tuple { local: address(1), port, remote: address(2), remote_port: 22 }
    }

    #[test]
    fn sequence_numbers_rise_with_time_and_differ_by_tuple_and_key() {
        let key = Key::new((1, 2));
        let start = key.sequence(&tuple(1), Time::default());
        let later = key.sequence(&tuple(1), Time::from_micros(4_000_000));
        assert_eq!(later.wrapping_sub(start), 1_000_000);
        assert_ne!(start, key.sequence(&tuple(2), Time::default()));
        assert_ne!(start, Key::new((1, 3)).sequence(&tuple(1), Time::default()));
    }

    #[test]
    fn every_port_is_tried_once() {
        let ports: BTreeSet<u16> = Key::new((1, 2)).ports(&tuple(0), u64::MAX).collect();
        assert_eq!(ports.len(), usize::from(PORTS));
        assert_eq!(ports.first(), Some(&FIRST_PORT));
    }
}
