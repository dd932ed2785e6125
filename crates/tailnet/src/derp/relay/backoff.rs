//! How long to wait before a region is connected again.

use std::time::Duration;

/// Delay after the first failure; it grows with the square of their number
/// (coder/tailscale: wgengine/magicsock/derp.go, logtail/backoff/backoff.go).
const UNIT: Duration = Duration::from_millis(10);

/// Longest delay before it is spread (same source).
const MAX: Duration = Duration::from_secs(5);

/// Failures in a row, and what they cost.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Another failure. `random` spreads the delay over half to one and a half, so that the
    /// clients of a relay that restarts do not come back all at once.
    pub(super) fn next(&mut self, random: u16) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let delay = UNIT.saturating_mul(self.failures.saturating_mul(self.failures)).min(MAX);
        delay.mul_f64(0.5 + f64::from(random) / f64::from(u16::MAX))
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_with_the_square_up_to_five_seconds() {
        let mut backoff = Backoff::default();
        let middle = u16::MAX / 2;
        let millis: Vec<u128> = (0..25)
            .map(|_| (backoff.next(middle) + Duration::from_micros(500)).as_millis())
            .collect();
        assert_eq!(millis[..4], [10, 40, 90, 160]);
        assert_eq!(millis[21..], [4840, 5000, 5000, 5000]);
    }

    #[test]
    fn delays_are_spread_over_half_to_one_and_a_half() {
        assert_eq!(Backoff::default().next(0), Duration::from_millis(5));
        assert_eq!(Backoff::default().next(u16::MAX), Duration::from_millis(15));
    }

    #[test]
    fn success_starts_over() {
        let mut backoff = Backoff::default();
        backoff.next(0);
        backoff.next(0);
        backoff.reset();
        assert_eq!(backoff.next(0), Duration::from_millis(5));
    }
}
