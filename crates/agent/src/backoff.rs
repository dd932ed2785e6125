//! How long to wait before the next try.

use std::time::Duration;

/// What each pause grows by, and the first one before it has grown (coder/retry: retry.go; the
/// agent's loop in `agent/agent.go` begins at 100 ms).
const GROWTH: f64 = 1.618_033_988_749_895;
const SEED: Duration = Duration::from_millis(100);

/// The longest pause (`agent/agent.go`).
pub(crate) const CAP: Duration = Duration::from_secs(10);

/// Pauses: none, 162 ms, 262 ms, … up to 10 s.
///
/// Upstream never begins anew, so that in an old process each redial costs 10 s. Ours does after a
/// connection that was good for longer than the longest pause: a server that accepts us and fails
/// at once is still asked less and less often.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Backoff {
    /// The pause after this one, before it grows; `None` when the next try is immediate.
    last: Option<Duration>,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { last: None }
    }

    /// The pause before the next try.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = match self.last {
            None => Duration::ZERO,
            Some(last) => last.mul_f64(GROWTH).min(CAP),
        };
        self.last = Some(pause.max(SEED));
        pause
    }

    /// A connection has ended that was in good use for this long.
    pub(crate) fn was_good(&mut self, lived: Duration) {
        if lived >= CAP {
            self.reset();
        }
    }

    /// Begins anew.
    pub(crate) fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_begin_anew() {
        let mut backoff = Backoff::new();
        let pauses: Vec<u128> = (0..13).map(|_| backoff.pause().as_millis()).collect();
        assert_eq!(
            pauses,
            [0, 161, 261, 423, 685, 1109, 1794, 2903, 4697, 7601, 10_000, 10_000, 10_000]
        );
        backoff.was_good(CAP - Duration::from_millis(1));
        assert_eq!(backoff.pause(), CAP);
        backoff.was_good(CAP);
        assert_eq!(backoff.pause(), Duration::ZERO);
        assert_eq!(backoff.pause().as_millis(), 161);
        backoff.reset();
        assert_eq!(backoff.pause(), Duration::ZERO);
    }
}
