//! How much the other ends may have under way to us.
//!
//! A window is all that a receiver has to say about what its senders do, and it matters: between a
//! sender and us are queues that drop what they cannot hold. The relay's holds 512 packets, an
//! agent's own before the relay as many as its memory allows, from 32 up
//! (coder/tailscale: wgengine/magicsock/derp.go, `bufferedDerpWritesBeforeDrop`); a window beyond
//! that is answered by bursts that are dropped again and again. So each of those that receive gets
//! an equal share of what the way and its queues hold.

use std::time::Duration;

use super::LEAST;
use super::way::Between;
use crate::time::Time;

/// Whoever receives [`BULK`] bytes in this time counts as one of those that share; it must not be
/// shorter than a round trip.
const EPOCH: Duration = Duration::from_millis(250);

/// A connection that receives less has nothing of the queues.
const BULK: usize = 16 * 1024;

/// What all connections together may have under way to us.
#[derive(Debug)]
pub(crate) struct Intake {
    /// `None` for no limit at all.
    between: Option<Between>,
    epoch: u64,
    epoch_ends: Time,
    /// Connections that received in this epoch, and in the one before.
    receiving: usize,
    received: usize,
}

/// One connection's part in [`Intake`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Part {
    epoch: u64,
    bytes: usize,
}

impl Intake {
    pub(crate) fn new(most: Option<usize>) -> Self {
        Self {
            between: most.map(Between::new),
            epoch: 1,
            epoch_ends: Time::default(),
            receiving: 0,
            received: 0,
        }
    }

    /// A round trip took this long.
    pub(crate) fn round_trip(&mut self, took: Duration, now: Time) {
        if let Some(between) = &mut self.between {
            between.round_trip(took, now);
        }
    }

    /// Something sent to us is missing.
    pub(crate) fn lost(&mut self, now: Time) {
        if let Some(between) = &mut self.between {
            between.lost(now);
        }
    }

    /// Bytes arrived for a connection.
    pub(crate) fn received(&mut self, part: &mut Part, bytes: usize, now: Time) {
        self.turn(now);
        if part.epoch != self.epoch {
            *part = Part { epoch: self.epoch, bytes: 0 };
        }
        let before = part.bytes;
        part.bytes += bytes;
        self.receiving += usize::from(before < BULK && part.bytes >= BULK);
        if let Some(between) = &mut self.between {
            between.carried(bytes, now);
        }
    }

    /// Bytes that one connection may be offered.
    pub(crate) fn share(&self) -> usize {
        let Some(between) = &self.between else { return usize::MAX };
        let streams = self.receiving.max(self.received).max(1);
        (between.holds() / streams).max(LEAST)
    }

    fn turn(&mut self, now: Time) {
        if now < self.epoch_ends {
            return;
        }
        // After a pause nobody is known to receive.
        let at_once = now < self.epoch_ends + EPOCH;
        self.received = if at_once { self.receiving } else { 0 };
        self.receiving = 0;
        self.epoch += 1;
        self.epoch_ends = now + EPOCH;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_receive_share_and_those_that_only_chat_do_not() {
        let mut now = Time::default();
        let mut intake = Intake::new(Some(500_000));
        let mut parts = [Part::default(); 3];
        for _ in 0..10 {
            now = now + EPOCH / 2;
            for (part, bytes) in parts.iter_mut().zip([BULK, BULK, 100]) {
                intake.received(part, bytes, now);
            }
        }
        assert_eq!(intake.share(), 250_000);
        // One of them has ended.
        for _ in 0..6 {
            now = now + EPOCH / 2;
            intake.received(&mut parts[0], BULK, now);
        }
        assert_eq!(intake.share(), 500_000);
        intake.lost(now);
        assert_eq!(intake.share(), 375_000);
    }
}
