//! How much the way to the peers holds by itself.
//!
//! Bytes under way are either in some queue or really travelling, and only the queues overflow.
//! What travels is the rate of delivery times the shortest round trip (what Linux's BBR calls the
//! bandwidth-delay product). Over 50 ms that is most of what a fast stream has under way; on a
//! short way it is next to nothing, and the queue's allowance is all there is.

use std::time::{Duration, Instant};

/// Delivery is measured over a round trip, but no less than this: acknowledgements come in bursts,
/// and a burst is no rate.
const SHORTEST: Duration = Duration::from_millis(10);

/// The best of so many measurements counts, so that a stream that pauses for a moment does not lose
/// its allowance.
const MEASUREMENTS: usize = 8;

/// A shortest round trip is believed for this long; ways change.
const BELIEVED: Duration = Duration::from_secs(300);

/// What is known about the way.
#[derive(Debug)]
pub(super) struct Way {
    round_trip: Option<(Duration, Instant)>,
    since: Instant,
    delivered: usize,
    /// Bytes that the way held, by the last measurements.
    held: [usize; MEASUREMENTS],
    next: usize,
}

impl Way {
    pub(super) fn new(now: Instant) -> Self {
        Self { round_trip: None, since: now, delivered: 0, held: [0; MEASUREMENTS], next: 0 }
    }

    /// A round trip took this long; the shortest tells of the way, the longer ones of queues.
    pub(super) fn round_trip(&mut self, took: Duration, now: Instant) {
        let replaces = self.round_trip.is_none_or(|(shortest, at)| {
            took <= shortest || now.saturating_duration_since(at) > BELIEVED
        });
        if replaces {
            self.round_trip = Some((took, now));
        }
    }

    /// The other end has these bytes.
    pub(super) fn acknowledged(&mut self, bytes: usize, now: Instant) {
        self.delivered += bytes;
        let Some((round_trip, _)) = self.round_trip else { return };
        let window = round_trip.max(SHORTEST);
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < window {
            return;
        }
        // After a pause the time says nothing about the rate.
        if elapsed < window * 4 {
            let share = round_trip.as_secs_f64() / elapsed.as_secs_f64();
            self.held[self.next] = (self.delivered as f64 * share) as usize;
            self.next = (self.next + 1) % MEASUREMENTS;
        }
        self.since = now;
        self.delivered = 0;
    }

    /// Bytes that travel when the way is full.
    pub(super) fn holds(&self) -> usize {
        self.held.iter().copied().max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Acknowledges `bytes` in each millisecond for this long.
    fn run(way: &mut Way, now: &mut Instant, time: u64, bytes: usize) {
        for _ in 0..time {
            *now += MS(1);
            way.acknowledged(bytes, *now);
        }
    }

    #[test]
    fn a_long_way_holds_its_bandwidth_times_its_delay() {
        let mut now = Instant::now();
        let mut way = Way::new(now);
        way.round_trip(MS(50), now);
        run(&mut way, &mut now, 200, 10_000);
        assert_eq!(way.holds(), 500_000);
    }

    #[test]
    fn a_short_way_holds_nearly_nothing_even_when_acknowledgements_come_in_bursts() {
        let mut now = Instant::now();
        let mut way = Way::new(now);
        way.round_trip(Duration::from_micros(500), now);
        for _ in 0..20 {
            now += MS(5);
            way.acknowledged(400_000, now);
        }
        assert!(way.holds() <= 40_000, "{}", way.holds());
    }

    #[test]
    fn the_allowance_follows_a_rate_that_falls() {
        let mut now = Instant::now();
        let mut way = Way::new(now);
        way.round_trip(MS(20), now);
        run(&mut way, &mut now, 400, 10_000);
        assert_eq!(way.holds(), 200_000);
        run(&mut way, &mut now, 400, 1_000);
        assert_eq!(way.holds(), 20_000);
    }

    #[test]
    fn queues_do_not_make_the_way_longer() {
        let mut now = Instant::now();
        let mut way = Way::new(now);
        way.round_trip(MS(20), now);
        way.round_trip(MS(80), now);
        run(&mut way, &mut now, 400, 10_000);
        assert_eq!(way.holds(), 200_000);
        now += BELIEVED + MS(1);
        way.round_trip(MS(80), now);
        run(&mut way, &mut now, 1600, 10_000);
        assert_eq!(way.holds(), 800_000);
    }
}
