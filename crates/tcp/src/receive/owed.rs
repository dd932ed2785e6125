//! When to acknowledge.
//!
//! RFC 9293 (3.8.6.3) and RFC 5681 (4.2): at least for every second full segment, within half a
//! second, and at once for what is out of order. An acknowledgement for every second segment costs
//! the other end, and a relay between, nearly as much as the segment did, so a bulk transfer that
//! loses nothing gets them gathered: RFC 5681 allows it ("SHOULD", and careful consideration), and
//! senders that count bytes (RFC 9438, 4.1) grow as fast. A segment that is pushed ends the gathering:
//! nothing follows it, perhaps because its sender may send no more before it hears of us.

use std::time::Duration;

use crate::time::Time;

/// A lone segment is acknowledged after this, unless an answer carries the acknowledgement sooner.
const DELAY: Duration = Duration::from_millis(10);

/// Segments that one acknowledgement covers in a bulk transfer, and how long it may wait.
const GATHERED_SEGMENTS: usize = 16;
const GATHERED_DELAY: Duration = Duration::from_millis(1);

/// A connection that has received less is not a bulk transfer yet: its sender is in slow start and
/// wants to hear of every second segment, of the first ones at once. (Of the full ones: behind a short
/// one its sender has nothing to send, and the answer acknowledges it.)
const BULK: u64 = 256 * 1024;
const QUICK: u64 = 16 * 1024;

/// Behind a loss a sender has to find its rate anew, and some count acknowledgements.
const RECOVERY: u64 = 8 << 20;

/// What is to be acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owed {
    debt: Debt,
    received: u64,
    /// When so much was received, acknowledgements may be gathered.
    bulk_from: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Debt {
    None,
    /// Bytes that may wait until then.
    Later {
        bytes: usize,
        at: Time,
    },
    /// So many acknowledgements, at once: one for each segment that a sender has to hear of.
    Now(u8),
}

impl Owed {
    pub(super) const fn new() -> Self {
        Self { debt: Debt::None, received: 0, bulk_from: BULK }
    }

    /// Bytes came in their turn.
    pub(super) fn in_order(&mut self, bytes: usize, mss: usize, now: Time) {
        self.received += bytes as u64;
        let (bytes, due) = match self.debt {
            Debt::Now(_) => return,
            Debt::None => (bytes, now + DELAY),
            Debt::Later { bytes: before, at } => (before + bytes, at),
        };
        let bulk = self.received >= self.bulk_from;
        let quick = self.received <= QUICK && bytes >= mss / 2;
        let (enough, due) = match bulk && bytes >= 2 * mss {
            true => (GATHERED_SEGMENTS * mss, due.min(now + GATHERED_DELAY)),
            false => (2 * mss, due),
        };
        self.debt =
            if bytes >= enough || quick { Debt::Now(1) } else { Debt::Later { bytes, at: due } };
    }

    /// What came last was pushed: an acknowledgement that was due but for being gathered is due.
    pub(super) fn pushed(&mut self, mss: usize) {
        if let Debt::Later { bytes, .. } = self.debt
            && bytes >= 2 * mss
        {
            self.debt = Debt::Now(1);
        }
    }

    /// The other end should hear of something at once.
    pub(super) fn at_once(&mut self) {
        if !matches!(self.debt, Debt::Now(_)) {
            self.debt = Debt::Now(1);
        }
    }

    /// A segment came out of its turn, or once more: it gets an acknowledgement of its own, for its
    /// sender may count them.
    pub(super) fn one_more(&mut self) {
        self.debt = match self.debt {
            Debt::Now(count) => Debt::Now(count.saturating_add(1)),
            Debt::None | Debt::Later { .. } => Debt::Now(1),
        };
    }

    /// Something is missing.
    pub(super) fn lost(&mut self) {
        self.bulk_from = self.received + RECOVERY;
    }

    /// An acknowledgement left.
    pub(super) fn paid(&mut self) {
        self.debt = match self.debt {
            Debt::Now(count) if count > 1 => Debt::Now(count - 1),
            Debt::Now(_) | Debt::None | Debt::Later { .. } => Debt::None,
        };
    }

    /// When an acknowledgement is due.
    pub(super) fn due(&self, now: Time) -> Option<Time> {
        match self.debt {
            Debt::None => None,
            Debt::Later { at, .. } => Some(at),
            Debt::Now(_) => Some(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: usize = 1000;

    fn after(bytes: u64) -> Owed {
        Owed { received: bytes, ..Owed::new() }
    }

    #[test]
    fn the_first_segments_are_acknowledged_at_once() {
        let mut owed = Owed::new();
        owed.in_order(MSS, MSS, Time::default());
        assert_eq!(owed.due(Time::default()), Some(Time::default()));
        owed.paid();
        assert_eq!(owed.due(Time::default()), None);
        // A keystroke, or a request: the answer acknowledges it.
        owed.in_order(MSS / 10, MSS, Time::default());
        assert_eq!(owed.due(Time::default()), Some(Time::default() + DELAY));
    }

    #[test]
    fn then_every_second_one_or_what_waited() {
        let now = Time::default();
        let mut owed = after(QUICK);
        owed.in_order(MSS, MSS, now);
        owed.pushed(MSS);
        assert_eq!(owed.due(now), Some(now + DELAY), "an answer may carry it");
        owed.in_order(MSS, MSS, now + Duration::from_millis(1));
        assert_eq!(owed.due(now), Some(now), "two segments");
    }

    #[test]
    fn a_bulk_transfer_gets_them_gathered_until_it_loses() {
        let now = Time::default();
        let mut owed = after(BULK);
        (0..GATHERED_SEGMENTS - 1).for_each(|_| owed.in_order(MSS, MSS, now));
        assert_eq!(owed.due(now), Some(now + GATHERED_DELAY));
        owed.in_order(MSS, MSS, now);
        assert_eq!(owed.due(now), Some(now));
        owed.paid();
        (0..3).for_each(|_| owed.in_order(MSS, MSS, now));
        owed.pushed(MSS);
        assert_eq!(owed.due(now), Some(now), "nothing follows");
        owed.paid();
        owed.at_once();
        owed.lost();
        owed.paid();
        owed.in_order(2 * MSS, MSS, now);
        assert_eq!(owed.due(now), Some(now));
    }

    #[test]
    fn each_segment_out_of_its_turn_is_answered() {
        let now = Time::default();
        let mut owed = after(BULK);
        (0..3).for_each(|_| owed.one_more());
        for _ in 0..3 {
            assert_eq!(owed.due(now), Some(now));
            owed.paid();
        }
        assert_eq!(owed.due(now), None);
    }
}
