//! Segments leave spread over time, not in bursts that fill a queue.

use std::time::Duration;

use crate::time::Time;

/// Segments that may leave at once: what a new connection may have under way (RFC 6928), a third of
/// the smallest relay queue.
const BURST_SEGMENTS: usize = 10;

/// At a high rate, what leaves in this time may leave at once: whoever drives us does not wake up
/// more often.
const BURST_TIME: Duration = Duration::from_millis(1);

/// An allowance that fills with time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pacer {
    /// Bytes that may leave in a second, `None` for no limit.
    rate: Option<u64>,
    /// By the rate, what was sent would have taken until here.
    until: Time,
}

impl Pacer {
    /// From now on so many bytes may leave in a second, `None` for no limit.
    pub(crate) fn set_rate(&mut self, rate: Option<u64>) {
        self.rate = rate;
    }

    /// When the next segment may leave, if not now.
    pub(crate) fn wait(&self, mss: usize, now: Time) -> Option<Time> {
        let burst = takes(BURST_SEGMENTS * mss, self.rate?).max(BURST_TIME);
        // Half a burst is worth waking up for.
        let ahead = self.until.since(now);
        (ahead > burst).then(|| now + (ahead - burst / 2))
    }

    /// Bytes left.
    pub(crate) fn sent(&mut self, bytes: usize, now: Time) {
        if let Some(rate) = self.rate {
            self.until = self.until.max(now) + takes(bytes, rate);
        }
    }

    /// Bytes that may leave at once at a high rate.
    pub(super) fn burst(&self) -> Option<usize> {
        let in_burst = |rate| u128::from(rate) * BURST_TIME.as_nanos() / 1_000_000_000;
        self.rate.map(|rate: u64| in_burst(rate) as usize)
    }
}

/// How long so many bytes take.
fn takes(bytes: usize, rate: u64) -> Duration {
    Duration::from_nanos(bytes as u64 * 1_000_000_000 / rate.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_over_time_has_the_rate_and_bursts_are_short() {
        let mss = 1000;
        let mut pacer = Pacer::default();
        pacer.set_rate(Some(1_000_000));
        let mut now = Time::default();
        let (mut sent, mut longest) = (0, 0);
        while now < Time::from_micros(1_000_000) {
            let mut burst = 0;
            let later = loop {
                match pacer.wait(mss, now) {
                    Some(later) => break later,
                    None => pacer.sent(mss, now),
                }
                burst += 1;
            };
            sent += burst;
            longest = longest.max(burst);
            assert!(later > now);
            now = later;
        }
        assert!((1000..=1012).contains(&sent), "{sent}");
        assert!(longest <= 11, "{longest}");
    }
}
