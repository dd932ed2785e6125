//! Bytes by the second.

use std::time::Duration;

use tokio::time::Instant;

/// Length of an interval (tailscale: net/speedtest, `increment`).
const INTERVAL: Duration = Duration::from_secs(1);

/// A rest shorter than this is no interval (same source: `minInterval`).
const SHORTEST: Duration = Duration::from_millis(10);

/// Bytes between two moments, counted from the beginning of the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) start: Duration,
    pub(super) end: Duration,
    pub(super) bytes: u64,
}

impl Interval {
    /// Megabits, of a million bits each, in a second; zero where no time has passed.
    pub(super) fn megabits_per_second(&self) -> f64 {
        let seconds = self.end.saturating_sub(self.start).as_secs_f64();
        if seconds > 0.0 { self.bytes as f64 * 8.0 / 1e6 / seconds } else { 0.0 }
    }
}

/// What a test measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) overall: Interval,
    pub(super) intervals: Vec<Interval>,
}

/// Counts bytes as they come.
#[derive(Debug)]
pub(super) struct Meter {
    begun: Instant,
    total: u64,
    /// Where the interval that is being counted began, and its bytes.
    start: Duration,
    bytes: u64,
    intervals: Vec<Interval>,
}

impl Meter {
    pub(super) fn start(now: Instant) -> Self {
        Self { begun: now, total: 0, start: Duration::ZERO, bytes: 0, intervals: Vec::new() }
    }

    /// So many bytes more. An interval ends with the first bytes after its second.
    pub(super) fn add(&mut self, bytes: usize, now: Instant) {
        let bytes = bytes as u64;
        self.total += bytes;
        self.bytes += bytes;
        let end = now.saturating_duration_since(self.begun);
        if end.saturating_sub(self.start) >= INTERVAL {
            self.close(end);
        }
    }

    /// The test is over.
    pub(super) fn end(mut self, now: Instant) -> Measured {
        let end = now.saturating_duration_since(self.begun);
        if end.saturating_sub(self.start) > SHORTEST {
            self.close(end);
        }
        let overall = Interval { start: Duration::ZERO, end, bytes: self.total };
        Measured { overall, intervals: self.intervals }
    }

    fn close(&mut self, end: Duration) {
        let start = std::mem::replace(&mut self.start, end);
        let bytes = std::mem::take(&mut self.bytes);
        self.intervals.push(Interval { start, end, bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_by_the_second() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut meter = Meter::start(begun);
        for (ms, bytes) in [(100, 1000), (999, 1000), (1001, 500_000), (1500, 7), (2600, 125_000)] {
            meter.add(bytes, at(ms));
        }
        let measured = meter.end(at(2605));
        let spans: Vec<_> = measured
            .intervals
            .iter()
            .map(|one| (one.start.as_millis(), one.end.as_millis(), one.bytes))
            .collect();
        assert_eq!(spans, [(0, 1001, 502_000), (1001, 2600, 125_007)]);
        assert_eq!(measured.overall.bytes, 627_007);
        assert_eq!(measured.overall.end, Duration::from_millis(2605));
    }

    #[test]
    fn a_rest_counts_when_it_is_long_enough() {
        let begun = Instant::now();
        let mut meter = Meter::start(begun);
        meter.add(1_250_000, begun + Duration::from_millis(500));
        let measured = meter.end(begun + Duration::from_millis(500));
        assert_eq!(measured.intervals.len(), 1);
        assert!((measured.overall.megabits_per_second() - 20.0).abs() < 1e-9);
        let nothing = Meter::start(begun).end(begun);
        assert_eq!(nothing.intervals, []);
        assert!(nothing.overall.megabits_per_second() < 1e-9);
    }
}
