//! How fast bytes are delivered, measured from segment to acknowledgement (Cheng, Cardwell:
//! draft-cheng-iccrg-delivery-rate-estimation).
//!
//! Each segment remembers what had been delivered when it left; its acknowledgement then tells what
//! was delivered meanwhile. The time it took is the longer one of sending and acknowledging, for
//! acknowledgements may come in bursts.

use std::time::Duration;

use crate::time::Time;

/// What a segment remembers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stamp {
    delivered: u64,
    delivered_at: Time,
    first_sent: Time,
    /// The application had less to send than was allowed.
    limited: bool,
}

impl Stamp {
    /// Bytes delivered when the segment was sent.
    pub(crate) const fn delivered(&self) -> u64 {
        self.delivered
    }
}

/// A measured rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bytes for each second.
    pub bytes_per_second: u64,
    /// The application had less to send, so the way may carry more.
    pub limited: bool,
}

/// The count of what was delivered.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Meter {
    delivered: u64,
    delivered_at: Time,
    first_sent: Time,
    /// Measurements count as limited until so much is delivered.
    limited_until: u64,
}

impl Meter {
    /// Bytes delivered altogether.
    pub(crate) const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// A segment leaves; `first` if nothing was under way.
    pub(crate) fn stamp(&mut self, first: bool, now: Time) -> Stamp {
        if first {
            (self.first_sent, self.delivered_at) = (now, now);
        }
        Stamp {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent: self.first_sent,
            limited: self.delivered < self.limited_until,
        }
    }

    /// There is nothing to send although more is allowed, with so much under way.
    pub(crate) fn limited(&mut self, flying: usize) {
        self.limited_until = self.delivered + flying.max(1) as u64;
    }

    /// Bytes arrived; `newest` is the segment among them that left last: when, and with what stamp.
    pub(crate) fn delivered_now(
        &mut self,
        bytes: usize,
        newest: Option<(Time, Stamp)>,
        shortest: Option<Duration>,
        now: Time,
    ) -> Option<Rate> {
        self.delivered += bytes as u64;
        self.delivered_at = now;
        let (sent_at, stamp) = newest?;
        self.first_sent = sent_at;
        let sending = sent_at.since(stamp.first_sent);
        let acknowledging = now.since(stamp.delivered_at);
        let took = sending.max(acknowledging);
        // Less than a round trip cannot be: the acknowledgements were compressed.
        if took.is_zero() || shortest.is_some_and(|shortest| took < shortest) {
            return None;
        }
        let bytes = u128::from(self.delivered - stamp.delivered);
        let rate = bytes * 1_000_000 / took.as_micros().max(1);
        let bytes_per_second = u64::try_from(rate).unwrap_or(u64::MAX);
        Some(Rate { bytes_per_second, limited: stamp.limited })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_has_its_rate_even_if_acknowledged_in_bursts() {
        let mut meter = Meter::default();
        let at = |ms| Time::default() + Duration::from_millis(ms);
        let stamps: Vec<_> = (0..20).map(|ms| (at(ms), meter.stamp(ms == 0, at(ms)))).collect();
        let rtt = Some(Duration::from_millis(20));
        let first = meter.delivered_now(1000, Some(stamps[0]), rtt, at(20));
        assert_eq!(first.map(|it| it.bytes_per_second), Some(50_000));
        let burst = meter.delivered_now(19_000, Some(stamps[19]), rtt, at(39));
        assert_eq!(burst, Some(Rate { bytes_per_second: 20_000 * 1000 / 39, limited: false }));
    }

    #[test]
    fn what_the_application_limited_is_marked_so() {
        let mut meter = Meter::default();
        meter.limited(1000);
        let stamp = meter.stamp(true, Time::default());
        let now = Time::from_micros(1000);
        let rate = meter.delivered_now(1000, Some((Time::default(), stamp)), None, now);
        assert_eq!(rate, Some(Rate { bytes_per_second: 1_000_000, limited: true }));
        let stamp = meter.stamp(true, now);
        let rate = meter.delivered_now(1000, Some((now, stamp)), None, Time::from_micros(2000));
        assert_eq!(rate.map(|it| it.limited), Some(false));
    }
}
