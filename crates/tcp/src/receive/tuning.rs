//! How large a window to offer.
//!
//! A window begins small and doubles whenever the application took, within a round trip, more than
//! a part of it: then the window may be what limits the sender in the next one. (Fisk, Feng: Dynamic
//! right-sizing; Linux: `tcp_rcv_space_adjust`.)

use std::time::Duration;

use crate::time::Time;

/// The first window, in bytes: more than a sender that is new sends in its first round trips.
pub(super) const FIRST: usize = 64 * 1024;

/// The largest (upstream's stack: 6 MiB; tailscale/wgengine/netstack).
const MOST: usize = 6 << 20;

/// The part: a sender in slow start sends twice as much in each round trip as in the one before, and
/// what it may send must have been told a round trip earlier.
const PART: usize = 4;

/// A shorter time is no measure: wakeups are coarser.
const SHORTEST: Duration = Duration::from_millis(2);

/// How long a round trip is believed; ways change.
const BELIEVED: Duration = Duration::from_secs(10);

/// What a receiver knows of its sender's pace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tuning {
    window: usize,
    /// The shortest round trip seen, and when.
    round_trip: Option<(Duration, Time)>,
    /// What the application took since.
    taken: usize,
    since: Time,
}

impl Tuning {
    pub(super) const fn new(now: Time) -> Self {
        Self { window: FIRST, round_trip: None, taken: 0, since: now }
    }

    /// The window, in bytes.
    pub(super) const fn window(&self) -> usize {
        self.window
    }

    /// A round trip took this long.
    pub(super) fn round_trip(&mut self, took: Duration, now: Time) {
        let stale = |at| now.since(at) > BELIEVED;
        if self.round_trip.is_none_or(|(shortest, at)| took <= shortest || stale(at)) {
            self.round_trip = Some((took, now));
        }
    }

    /// The application took bytes.
    pub(super) fn taken(&mut self, bytes: usize, now: Time) {
        self.taken += bytes;
        let Some((round_trip, _)) = self.round_trip else { return };
        let elapsed = now.since(self.since);
        let round_trip = round_trip.max(SHORTEST);
        // So much in less than a round trip tells already.
        if self.taken >= self.window / PART && elapsed <= round_trip * 2 {
            self.window = (self.window * 2).min(MOST);
        } else if elapsed < round_trip {
            return;
        }
        (self.taken, self.since) = (0, now);
    }

    /// Nothing arrived for long: the next transfer begins anew.
    pub(super) fn idle(&mut self, now: Time) {
        *self = Self { round_trip: self.round_trip, ..Self::new(now) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(20);

    /// The window after a second in which so many bytes came in each millisecond.
    fn window_at(bytes: usize) -> usize {
        let mut now = Time::default();
        let mut tuning = Tuning::new(now);
        tuning.round_trip(RTT, now);
        for _ in 0..1000 {
            now = now + Duration::from_millis(1);
            tuning.taken(bytes, now);
        }
        tuning.window()
    }

    #[test]
    fn a_window_grows_to_several_times_what_the_way_holds() {
        assert_eq!(window_at(100), FIRST);
        // 20 ms of 20,000 bytes are 400,000.
        let window = window_at(20_000);
        assert!((1_600_000..=3_200_000).contains(&window), "{window}");
        assert_eq!(window_at(1_000_000), MOST);
    }

    #[test]
    fn without_a_round_trip_nothing_is_known() {
        let mut tuning = Tuning::new(Time::default());
        tuning.taken(1 << 20, Time::default());
        assert_eq!(tuning.window(), FIRST);
    }
}
