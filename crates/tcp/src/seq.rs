//! Sequence numbers that do not wrap.
//!
//! The wire counts modulo 2^32 (RFC 9293, 3.4). Here a place in a stream is a 64-bit number whose
//! lower half is what the wire says, so that places compare as numbers do; what arrives is put
//! next to a place that is known ([`Seq::near`]).

use std::ops::{Add, Sub};

/// A place in a stream of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seq(u64);

/// A run of a stream: from the first byte, to the one behind the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: Seq,
    pub(crate) end: Seq,
}

impl Seq {
    /// Where a stream begins. What lies half the wire's numbers before it has a place, too.
    pub(crate) const fn initial(wire: u32) -> Self {
        Self((1 << 32) + wire as u64)
    }

    /// The place nearest to this one that the wire calls by this number.
    pub(crate) const fn near(self, wire: u32) -> Self {
        let distance = wire.wrapping_sub(self.0 as u32) as i32;
        Self(self.0.saturating_add_signed(distance as i64))
    }

    /// What the wire calls it.
    pub(crate) const fn wire(self) -> u32 {
        self.0 as u32
    }

    /// Bytes from an earlier place to this one; 0 if it is a later one.
    pub(crate) const fn since(self, earlier: Self) -> usize {
        self.0.saturating_sub(earlier.0) as usize
    }
}

impl Add<usize> for Seq {
    type Output = Self;

    fn add(self, bytes: usize) -> Self {
        Self(self.0.saturating_add(bytes as u64))
    }
}

impl Sub<usize> for Seq {
    type Output = Self;

    fn sub(self, bytes: usize) -> Self {
        Self(self.0.saturating_sub(bytes as u64))
    }
}

impl Range {
    pub(crate) const fn new(start: Seq, end: Seq) -> Self {
        Self { start, end }
    }

    pub(crate) const fn len(self) -> usize {
        self.end.since(self.start)
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_passes_the_end_of_the_wires_numbers() {
        let start = Seq::initial(u32::MAX - 1);
        let later = start + 5;
        assert_eq!(later.wire(), 3);
        assert!(later > start);
        assert_eq!(later.since(start), 5);
        assert_eq!(start.since(later), 0);
        assert_eq!(start.near(3), later);
        assert_eq!(later.near(u32::MAX - 1), start);
    }

    #[test]
    fn what_lies_before_the_start_has_a_place() {
        let start = Seq::initial(7);
        assert!(start.near(u32::MAX) < start);
        assert_eq!(start.since(start.near(u32::MAX)), 8);
        assert_eq!(start.near(0x8000_0006), start + 0x7fff_ffff);
        assert_eq!(start.near(0x8000_0007), start - 0x8000_0000);
    }
}
