//! Time as this crate counts it.

use std::ops::Add;
use std::time::Duration;

/// A moment, in microseconds since a start that the caller chose. There is no clock here: every
/// step is told the time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(u64);

impl Time {
    /// The moment so many microseconds after the start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// The time between an earlier moment and this one; none if it is a later one.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The clock of the timestamps option: milliseconds, the finest that RFC 7323 (5.4) provides
    /// for, modulo 2^32.
    pub(crate) const fn stamp(self) -> u32 {
        (self.0 / 1000) as u32
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}
