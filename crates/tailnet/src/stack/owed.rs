//! Acknowledgements that a connection owes, gathered.
//!
//! An acknowledgement for every second segment costs the other end, and the relay between, nearly
//! as much as the segment did: they decrypt, route and wake up for each (measured: a download by
//! relay on a machine that carries both ends was a tenth faster in the median of four pairs). TCP only asks that they are not delayed excessively (RFC 9293, 3.8.6.3), and
//! senders that count bytes (RFC 9438, 4.1) grow as fast. So a bulk download owes up to
//! [`GATHERED`] segments or [`DELAY`], whichever comes first. Short exchanges, the beginning of a
//! connection, holes and everything that carries data or a flag are answered as ever.

use std::time::{Duration, Instant};

use crate::packet::MSS;

/// Segments that one acknowledgement may cover: a small part of the window, so that a sender never
/// waits for it.
const GATHERED: usize = 16 * MSS;

/// Longest time that an acknowledgement waits. A thousandth of a second is nothing beside the round
/// trip of any relay, and half of what RFC 5681 would call a second segment late.
const DELAY: Duration = Duration::from_millis(1);

/// A connection that has received less is not a bulk download yet: its sender is in slow start and
/// wants to hear of every segment.
const BULK: u64 = 256 * 1024;

/// Behind a loss a sender has to find its rate anew, and some count acknowledgements rather than
/// bytes (smoltcp does; in a simulation a stream that lost once stayed at a third of the rate).
const RECOVERY: u64 = 8 << 20;

/// What a connection received and has not acknowledged.
#[derive(Debug)]
pub(super) struct Owed {
    received: u64,
    /// When so much was received, acknowledgements may be gathered.
    bulk_from: u64,
    bytes: usize,
    since: Option<Instant>,
    urgent: bool,
}

impl Default for Owed {
    fn default() -> Self {
        Self { received: 0, bulk_from: BULK, bytes: 0, since: None, urgent: false }
    }
}

impl Owed {
    /// A segment came; `taken` of its `length` bytes were new and in order.
    pub(super) fn received(&mut self, length: usize, taken: usize, plain: bool, now: Instant) {
        if length == 0 && plain {
            return;
        }
        self.received += taken as u64;
        self.bytes += taken;
        self.since.get_or_insert(now);
        // A hole, a copy, the end of input: the sender should know at once.
        self.urgent |= taken != length || !plain;
        if length > 0 && taken == 0 {
            self.bulk_from = self.received + RECOVERY;
        }
    }

    /// A packet left; it acknowledges everything.
    pub(super) fn paid(&mut self) {
        (self.bytes, self.since, self.urgent) = (0, None, false);
    }

    /// Whether nothing waits to be acknowledged.
    pub(super) fn is_clear(&self) -> bool {
        self.since.is_none()
    }

    /// Until when the acknowledgement may wait, if it may.
    pub(super) fn may_wait(&self, now: Instant) -> Option<Instant> {
        let until = self.since? + DELAY;
        let patient = !self.urgent && self.received >= self.bulk_from && self.bytes < GATHERED;
        (patient && until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(now: Instant) -> Owed {
        let mut owed = Owed::default();
        owed.received(BULK as usize, BULK as usize, true, now);
        owed.paid();
        owed
    }

    #[test]
    fn a_bulk_download_owes_some_segments_for_a_moment() {
        let now = Instant::now();
        let mut owed = bulk(now);
        owed.received(MSS, MSS, true, now);
        assert_eq!(owed.may_wait(now), Some(now + DELAY));
        assert_eq!(owed.may_wait(now + DELAY), None);
        owed.received(GATHERED, GATHERED, true, now);
        assert_eq!(owed.may_wait(now), None);
        owed.paid();
        assert_eq!(owed.may_wait(now), None);
    }

    #[test]
    fn a_young_connection_a_hole_and_a_flag_do_not_wait() {
        let now = Instant::now();
        let mut young = Owed::default();
        young.received(MSS, MSS, true, now);
        assert_eq!(young.may_wait(now), None);
        let mut hole = bulk(now);
        hole.received(MSS, 0, true, now);
        assert_eq!(hole.may_wait(now), None);
        hole.paid();
        hole.received(MSS, MSS, true, now);
        assert_eq!(hole.may_wait(now), None, "its sender recovers");
        hole.received(RECOVERY as usize, RECOVERY as usize, true, now);
        hole.paid();
        hole.received(MSS, MSS, true, now);
        assert_eq!(hole.may_wait(now), Some(now + DELAY));
        let mut end = bulk(now);
        end.received(MSS, MSS, false, now);
        assert_eq!(end.may_wait(now), None);
    }
}
