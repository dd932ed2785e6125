//! The repeated first initiation.
//!
//! Measured against a Go agent: READY_FOR_HANDSHAKE is sent before the agent's WireGuard has our
//! key, so 33 of 80 initiations were lost and each cost five seconds; with these repetitions 0 of
//! 80 were slow. The copies are *identical*: a peer that has the first one drops the others as
//! replays, whereas fresh initiations would overwrite each other (the noise library remembers two).

use std::time::{Duration, Instant};

use bytes::BytesMut;

/// When the copies go out, after the original: a local agent needs one or two milliseconds, a
/// far-away one is asked again less and less often, a busy one (seen: more than 1.3 s on a machine
/// with four times the load it can bear) about once a second. After the last, WireGuard's own
/// retransmission takes over, with a new initiation after 5 s.
const SCHEDULE: [Duration; 14] = [
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(160),
    Duration::from_millis(320),
    Duration::from_millis(640),
    Duration::from_millis(1280),
    Duration::from_millis(2000),
    Duration::from_millis(2800),
    Duration::from_millis(3600),
    Duration::from_millis(4400),
];

/// One initiation and the copies of it that are still to be sent.
#[derive(Debug)]
pub(super) struct Repeat {
    initiation: BytesMut,
    /// When the original left; no copy is due before.
    sent: Option<Instant>,
    next: usize,
}

impl Repeat {
    /// Copies of `initiation`, which waits to be sent.
    pub(super) fn new(initiation: BytesMut) -> Self {
        Self { initiation, sent: None, next: 0 }
    }

    /// A datagram leaves. If it is the original, the copies' time begins.
    pub(super) fn leaves(&mut self, datagram: &[u8], now: Instant) {
        if self.sent.is_none() && *datagram == *self.initiation {
            self.sent = Some(now);
        }
    }

    /// Whether a datagram is a copy.
    pub(super) fn is_copy(&self, datagram: &[u8]) -> bool {
        *datagram == *self.initiation
    }

    /// When the next copy is due, `None` after the last.
    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(self.sent? + *SCHEDULE.get(self.next)?)
    }

    /// The copy that is due. A late caller gets one, not all that were missed.
    pub(super) fn poll(&mut self, now: Instant) -> Option<BytesMut> {
        let sent = self.sent?;
        let due = SCHEDULE[self.next..].iter().take_while(|after| sent + **after <= now);
        let due = due.count();
        self.next += due;
        (due > 0).then(|| self.initiation.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_follow_the_schedule_and_end() {
        let start = Instant::now();
        let mut repeat = Repeat::new(BytesMut::from(&b"initiation"[..]));
        assert_eq!((repeat.poll(start), repeat.deadline()), (None, None));
        repeat.leaves(b"something else", start);
        assert_eq!(repeat.deadline(), None);
        repeat.leaves(b"initiation", start);
        let mut at = Vec::new();
        while let Some(due) = repeat.deadline() {
            assert_eq!(repeat.poll(due - Duration::from_micros(1)), None);
            assert_eq!(repeat.poll(due).as_deref(), Some(&b"initiation"[..]));
            at.push((due - start).as_millis());
        }
        let expected = [2, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2000, 2800, 3600, 4400];
        assert_eq!(at, expected);
        assert_eq!(repeat.poll(start + Duration::from_secs(60)), None);
    }

    #[test]
    fn a_late_caller_gets_one_copy() {
        let start = Instant::now();
        let mut repeat = Repeat::new(BytesMut::from(&b"x"[..]));
        repeat.leaves(b"x", start);
        let late = start + Duration::from_millis(50);
        assert!(repeat.poll(late).is_some());
        assert_eq!(repeat.poll(late), None);
        assert_eq!(repeat.deadline(), Some(start + Duration::from_millis(80)));
    }
}
