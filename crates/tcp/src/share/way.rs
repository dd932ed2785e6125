//! What lies between us and a peer: a way that holds so much by itself, and a queue.

use std::time::Duration;

use crate::config::MSS;
use crate::time::Time;

/// No queue is taken to hold less: half of what a stock relay holds for a client (32 packets).
pub(super) const LEAST_QUEUE: usize = 16 * MSS as usize;

/// The queue is taken to hold an eighth more after so many bytes without a loss: a loss costs about a
/// round trip of throughput, so it must stay rare.
pub(super) const CLEAN: usize = 16 << 20;

/// Beside somebody who waits for short answers a queue may hold as much as the way itself does: an
/// answer then takes about twice as long as alone. But this much always, in bytes, or a stream would
/// never find out what passes. (Measured by a relay on loopback, where the way itself holds next to
/// nothing: an echo of 0.3 ms took 2.9 ms beside an upload with 64 KiB, 0.8 ms with eight segments.)
const LEAST_SHORT: usize = 8 * MSS as usize;

/// Losses this close belong together: connections lose in the same overflow.
const TOGETHER: Duration = Duration::from_millis(100);

/// The queue, as far as its losses tell, and the way.
#[derive(Debug)]
pub(super) struct Between {
    /// What the queue holds at most.
    most: usize,
    /// What it is thought to hold.
    queue: usize,
    clean: usize,
    lost: Option<Time>,
    way: Way,
}

impl Between {
    pub(super) fn new(most: usize) -> Self {
        Self { most, queue: most, clean: 0, lost: None, way: Way::default() }
    }

    /// Bytes that may be under way.
    pub(super) fn holds(&self) -> usize {
        self.queue + self.way.holds()
    }

    /// Bytes that may be under way beside somebody who waits for short answers.
    pub(super) fn holds_shortly(&self) -> usize {
        let holds = self.way.holds();
        self.queue.min(holds.max(LEAST_SHORT)) + holds
    }

    /// Bytes arrived.
    pub(super) fn carried(&mut self, bytes: usize, now: Time) {
        self.way.carried(bytes, now);
        self.clean += bytes;
        if self.clean >= CLEAN {
            self.clean = 0;
            self.queue = (self.queue + self.queue / 8).min(self.most);
        }
    }

    /// Bytes were lost.
    pub(super) fn lost(&mut self, now: Time) {
        self.clean = 0;
        let known = |at| now.since(at) < TOGETHER;
        if !self.lost.replace(now).is_some_and(known) {
            self.queue = (self.queue / 4 * 3).max(LEAST_QUEUE);
        }
    }

    /// A round trip took this long.
    pub(super) fn round_trip(&mut self, took: Duration, now: Time) {
        self.way.round_trip(took, now);
    }
}

/// How much the way holds by itself: the rate of delivery times the shortest round trip (what
/// BBR calls the bandwidth-delay product).
#[derive(Debug, Default)]
struct Way {
    round_trip: Option<(Duration, Time)>,
    since: Time,
    delivered: usize,
    /// By the last measurements; the best counts, so that a pause does not cost the allowance.
    held: [usize; 8],
    next: usize,
}

/// Delivery is measured over half a round trip, so that a sender that doubles its rate in each finds
/// more room in each; but over no less than this: acknowledgements come in bursts, and a burst is no
/// rate.
const SHORTEST: Duration = Duration::from_millis(10);

/// A shortest round trip is believed for this long; ways change.
const BELIEVED: Duration = Duration::from_secs(300);

impl Way {
    fn round_trip(&mut self, took: Duration, now: Time) {
        let stale = |at| now.since(at) > BELIEVED;
        if self.round_trip.is_none_or(|(shortest, at)| took <= shortest || stale(at)) {
            self.round_trip = Some((took, now));
        }
    }

    fn carried(&mut self, bytes: usize, now: Time) {
        self.delivered += bytes;
        let Some((round_trip, _)) = self.round_trip else { return };
        let window = (round_trip / 2).max(SHORTEST);
        let elapsed = now.since(self.since);
        if elapsed < window {
            return;
        }
        // After a pause the time says nothing about the rate.
        if elapsed < window * 4 {
            let held = self.delivered as u128 * round_trip.as_micros() / elapsed.as_micros().max(1);
            self.held[self.next] = usize::try_from(held).unwrap_or(usize::MAX);
            self.next = (self.next + 1) % self.held.len();
        }
        (self.since, self.delivered) = (now, 0);
    }

    fn holds(&self) -> usize {
        self.held.iter().copied().max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Carries `bytes` in each millisecond for this long.
    fn run(way: &mut Way, now: &mut Time, time: u64, bytes: usize) {
        for _ in 0..time {
            *now = *now + MS(1);
            way.carried(bytes, *now);
        }
    }

    #[test]
    fn a_short_way_holds_nearly_nothing_even_when_acknowledgements_come_in_bursts() {
        let mut now = Time::default();
        let mut way = Way::default();
        way.round_trip(Duration::from_micros(500), now);
        for _ in 0..20 {
            now = now + MS(5);
            way.carried(400_000, now);
        }
        assert!(way.holds() <= 40_000, "{}", way.holds());
    }

    #[test]
    fn the_allowance_follows_a_rate_that_falls() {
        let mut now = Time::default();
        let mut way = Way::default();
        way.round_trip(MS(20), now);
        run(&mut way, &mut now, 400, 10_000);
        assert_eq!(way.holds(), 200_000);
        run(&mut way, &mut now, 400, 1_000);
        assert_eq!(way.holds(), 20_000);
    }

    #[test]
    fn queues_do_not_make_the_way_longer() {
        let mut now = Time::default();
        let mut way = Way::default();
        way.round_trip(MS(20), now);
        way.round_trip(MS(80), now);
        run(&mut way, &mut now, 400, 10_000);
        assert_eq!(way.holds(), 200_000);
        now = now + BELIEVED + MS(1);
        way.round_trip(MS(80), now);
        run(&mut way, &mut now, 1600, 10_000);
        assert_eq!(way.holds(), 800_000);
    }
}
