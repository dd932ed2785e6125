//! How long to wait before the server is dialled again.

use std::time::Duration;

/// What the delays grow from; the first is already one step further
/// (coder/coder: tailnet/controllers.go, retry.New(50ms, 10s)).
const UNIT: Duration = Duration::from_millis(50);

/// By how much each delay is longer than the one before (coder/retry).
const FACTOR: f64 = 1.618;

/// The longest delay.
const MAX: Duration = Duration::from_secs(10);

/// The delay before the last attempt.
#[derive(Debug)]
pub(super) struct Backoff {
    delay: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Backoff { delay: UNIT }
    }

    /// The delay before the next attempt.
    pub(super) fn next(&mut self) -> Duration {
        self.delay = self.delay.mul_f64(FACTOR).min(MAX);
        self.delay
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.delay = UNIT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_from_81_ms_to_ten_seconds() {
        let mut backoff = Backoff::new();
        let millis: Vec<u128> = (0..13).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(millis[..3], [80, 130, 211]);
        assert_eq!(millis[11..], [10_000, 10_000]);
        backoff.reset();
        assert_eq!(backoff.next(), Duration::from_micros(80_900));
    }
}
