//! Round trips, and how long to wait for one (RFC 6298).

use std::time::Duration;

use crate::time::Time;

/// Before anything was measured (RFC 6298, 2.1).
const FIRST: Duration = Duration::from_secs(1);

/// RFC 6298 (2.4) says one second and allows less where clocks are fine; Linux and gVisor have
/// 200 ms, which covers a delayed acknowledgement.
const FLOOR: Duration = Duration::from_millis(200);

/// RFC 6298 (2.5): at least 60 s.
const CEILING: Duration = Duration::from_secs(60);

/// How long the shortest round trip is believed; ways change. (Linux: `tcp_min_rtt_wlen`, shorter,
/// for a tunnel moves from a relay to a direct way in one moment.)
const BELIEVED: Duration = Duration::from_secs(30);

/// What is known about round trips.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
    shortest: Option<(Duration, Time)>,
    latest: Option<Duration>,
    backoff: u32,
}

impl Rtt {
    pub(crate) const fn new() -> Self {
        Self { smoothed: None, variation: Duration::ZERO, shortest: None, latest: None, backoff: 0 }
    }

    /// A round trip was measured, not across a retransmission (Karn's rule; RFC 6298, 3).
    pub(crate) fn measured(&mut self, took: Duration, now: Time) {
        let (smoothed, variation) = match self.smoothed {
            None => (took, took / 2),
            Some(smoothed) => {
                let off = smoothed.abs_diff(took);
                ((smoothed * 7 + took) / 8, (self.variation * 3 + off) / 4)
            }
        };
        self.smoothed = Some(smoothed);
        self.variation = variation;
        self.latest = Some(took);
        self.backoff = 0;
        let stale = |at| now.since(at) > BELIEVED;
        if self.shortest.is_none_or(|(shortest, at)| took <= shortest || stale(at)) {
            self.shortest = Some((took, now));
        }
    }

    pub(crate) const fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    pub(crate) const fn latest(&self) -> Option<Duration> {
        self.latest
    }

    /// The way is another one.
    pub(crate) fn forget_shortest(&mut self) {
        self.shortest = None;
    }

    pub(crate) fn shortest(&self) -> Option<Duration> {
        self.shortest.map(|(shortest, _)| shortest)
    }

    /// How long an acknowledgement may take before the oldest segment is sent again.
    pub(crate) fn timeout(&self) -> Duration {
        let base = match self.smoothed {
            None => FIRST,
            Some(smoothed) => smoothed + (self.variation * 4).max(FLOOR),
        };
        let base = base.max(FLOOR);
        base.saturating_mul(1 << self.backoff.min(16)).min(CEILING)
    }

    /// The timeout expired: the next one takes twice as long (RFC 6298, 5.5).
    pub(crate) fn back_off(&mut self) {
        self.backoff += 1;
    }

    /// The timeout expired, and nothing was acknowledged since.
    pub(crate) const fn is_backed_off(&self) -> bool {
        self.backoff > 0
    }

    /// The expiry was a mistake, or the way works again.
    pub(crate) fn forgive(&mut self) {
        self.backoff = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn the_timeout_follows_rfc_6298() {
        let now = Time::default();
        let mut rtt = Rtt::new();
        assert_eq!(rtt.timeout(), MS(1000));
        rtt.measured(MS(100), now);
        assert_eq!(rtt.timeout(), MS(100 + 4 * 50));
        rtt.measured(MS(200), now);
        assert_eq!(rtt.smoothed(), Some(Duration::from_micros(112_500)));
        assert_eq!(rtt.timeout(), Duration::from_micros(112_500 + 4 * 62_500));
        rtt.back_off();
        rtt.back_off();
        assert_eq!(rtt.timeout(), Duration::from_micros(4 * (112_500 + 4 * 62_500)));
        (0..40).for_each(|_| rtt.back_off());
        assert_eq!(rtt.timeout(), CEILING);
        rtt.measured(MS(100), now);
        assert!(rtt.timeout() < MS(400));
    }

    #[test]
    fn a_steady_short_way_has_the_floor() {
        let mut rtt = Rtt::new();
        (0..50).for_each(|_| rtt.measured(MS(1), Time::default()));
        assert_eq!(rtt.timeout(), MS(201));
    }

    #[test]
    fn the_shortest_is_believed_for_a_while() {
        let mut rtt = Rtt::new();
        let start = Time::default();
        rtt.measured(MS(10), start);
        rtt.measured(MS(50), start + MS(1));
        assert_eq!(rtt.shortest(), Some(MS(10)));
        rtt.measured(MS(50), start + BELIEVED + MS(1));
        assert_eq!(rtt.shortest(), Some(MS(50)));
    }
}
