//! How much each connection may hold, and how much all together may have under way.
//!
//! A relay forgets packets beyond its queue, and the TCP core in use recovers from losses badly, so
//! the best is not to overrun the queue: all streams together keep at most so much under way as
//! the queue may hold and the way itself does ([`Way`]). What a stream has *under way* is what it has queued, but no more than its peer's
//! window, for only that much can be sent: a stream whose reader has stopped costs the others
//! nothing. Each stream may fill up to an equal share, and every stream always has the room of
//! [`LEAST`] bytes, so none can be starved.

use std::time::Instant;

use super::way::Way;
use crate::packet::MSS;

/// Every stream may have this much under way, whatever the others do: two segments, because the
/// other side acknowledges every second one.
const LEAST: usize = 2 * MSS;

/// Sizes of a connection's buffers, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Buffers {
    pub(super) receive: usize,
    pub(super) send: usize,
}

impl Buffers {
    /// The sizes for one more connection beside `others`.
    ///
    /// smoltcp's buffers never grow. The receive buffer is the window: 64 KiB would halve a single
    /// stream, and more than the relay's queue of 512 packets lets a sender overrun it (measured
    /// with a Go agent on a loaded host: 512 KiB gave 1.1 to 3 times the download of 1 MiB). The
    /// send buffer is the other direction's. Few connections get the best; a browser's worth of
    /// them gets less, and even 200 stay within 50 MiB when all are full (the memory is only
    /// touched when it is used).
    pub(super) fn beside(others: usize) -> Self {
        const KIB: usize = 1024;
        match others {
            0..8 => Self { receive: 512 * KIB, send: 1024 * KIB },
            8..32 => Self { receive: 256 * KIB, send: 256 * KIB },
            32..128 => Self { receive: 128 * KIB, send: 128 * KIB },
            _ => Self { receive: 64 * KIB, send: 64 * KIB },
        }
    }
}

/// What all streams together have under way.
#[derive(Debug)]
pub(super) struct Budget {
    /// What may wait in the relay's queue.
    queue: usize,
    way: Way,
    total: usize,
    used: usize,
    /// Streams with something under way.
    active: usize,
}

impl Budget {
    pub(super) fn new(queue: usize, now: Instant) -> Self {
        Self { queue, way: Way::new(now), total: queue, used: 0, active: 0 }
    }

    /// Some bytes were acknowledged.
    pub(super) fn acknowledged(&mut self, bytes: usize, now: Instant) {
        self.way.acknowledged(bytes, now);
        self.total = self.queue + self.way.holds();
    }

    /// A round trip through the tunnel took this long.
    pub(super) fn round_trip(&mut self, took: std::time::Duration, now: Instant) {
        self.way.round_trip(took, now);
    }

    /// Replaces what a stream had under way by what it has now.
    pub(super) fn update(&mut self, load: &mut usize, new: usize) {
        self.used = self.used - *load + new;
        self.active = self.active + usize::from(new > 0) - usize::from(*load > 0);
        *load = new;
    }

    /// How many bytes a stream may have queued that has `load` under way.
    pub(super) fn limit(&self, load: usize) -> usize {
        let streams = self.active + usize::from(load == 0);
        let share = self.total / streams.max(1);
        let free = self.total.saturating_sub(self.used);
        share.min(load + free).max(LEAST)
    }

    /// Room worth waking a writer for: a good part of its share, so that it does not write in
    /// crumbs.
    pub(super) fn worth_waking(&self, load: usize) -> usize {
        (self.limit(load) / 4).min(16 * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stream_may_use_everything() {
        let budget = Budget::new(400 * MSS, Instant::now());
        assert_eq!(budget.limit(0), 400 * MSS);
    }

    #[test]
    fn a_second_stream_gets_its_share_as_the_first_drains() {
        let mut budget = Budget::new(400 * MSS, Instant::now());
        let (mut first, mut second) = (0, 0);
        budget.update(&mut first, 400 * MSS);
        assert_eq!(budget.limit(second), LEAST);
        budget.update(&mut second, LEAST);
        budget.update(&mut first, 300 * MSS);
        assert_eq!(budget.limit(second), 100 * MSS);
        assert_eq!(budget.limit(first), 200 * MSS);
        budget.update(&mut second, 100 * MSS);
        budget.update(&mut first, 200 * MSS);
        assert_eq!(budget.limit(second), 200 * MSS);
    }

    #[test]
    fn a_stream_that_ends_frees_its_share() {
        let mut budget = Budget::new(400 * MSS, Instant::now());
        let (mut first, mut second) = (0, 0);
        budget.update(&mut first, 200 * MSS);
        budget.update(&mut second, 200 * MSS);
        budget.update(&mut first, 0);
        assert_eq!(budget.limit(second), 400 * MSS);
        assert_eq!((budget.used, budget.active), (200 * MSS, 1));
    }
}
