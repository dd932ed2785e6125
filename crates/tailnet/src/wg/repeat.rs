//! The repeated first initiation.
//!
//! Measured against a Go agent: READY_FOR_HANDSHAKE is sent before the agent's WireGuard has our
//! key, so 33 of 80 initiations were lost and each cost five seconds; with these repetitions 0 of
//! 80 were slow. The copies are *identical*: a peer that has the first one drops the others as
//! replays, whereas fresh initiations would overwrite each other (the noise library remembers two).

use std::time::{Duration, Instant};

use bytes::BytesMut;

/// When the copies go out, after the original: a local agent needs one or two milliseconds, a
/// far-away one is asked again less and less often. After the last, WireGuard's own
/// retransmission takes over, with a new initiation after 5 s.
const SCHEDULE: [Duration; 10] = [
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
];

/// One initiation and the copies of it that are still to be sent.
#[derive(Debug)]
pub(super) struct Repeat {
    initiation: BytesMut,
    sent: Instant,
    next: usize,
}

impl Repeat {
    /// Copies of `initiation`, which is sent at `now`.
    pub(super) fn new(initiation: BytesMut, now: Instant) -> Self {
        Self { initiation, sent: now, next: 0 }
    }

    /// When the next copy is due, `None` after the last.
    pub(super) fn deadline(&self) -> Option<Instant> {
        SCHEDULE.get(self.next).map(|after| self.sent + *after)
    }

    /// The copy that is due. A late caller gets one, not all that were missed.
    pub(super) fn poll(&mut self, now: Instant) -> Option<BytesMut> {
        let due = SCHEDULE[self.next..].iter().take_while(|after| self.sent + **after <= now);
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
        let mut repeat = Repeat::new(BytesMut::from(&b"initiation"[..]), start);
        assert_eq!(repeat.poll(start), None);
        let mut at = Vec::new();
        while let Some(due) = repeat.deadline() {
            assert_eq!(repeat.poll(due - Duration::from_micros(1)), None);
            assert_eq!(repeat.poll(due).as_deref(), Some(&b"initiation"[..]));
            at.push((due - start).as_millis());
        }
        assert_eq!(at, [2, 5, 10, 20, 40, 80, 160, 320, 640, 1280]);
        assert_eq!(repeat.poll(start + Duration::from_secs(60)), None);
    }

    #[test]
    fn a_late_caller_gets_one_copy() {
        let start = Instant::now();
        let mut repeat = Repeat::new(BytesMut::from(&b"x"[..]), start);
        let late = start + Duration::from_millis(50);
        assert!(repeat.poll(late).is_some());
        assert_eq!(repeat.poll(late), None);
        assert_eq!(repeat.deadline(), Some(start + Duration::from_millis(80)));
    }
}
