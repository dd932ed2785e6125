//! A moment, in microseconds: what both databases keep without loss.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A moment in UTC, in whole microseconds since the Unix epoch (PostgreSQL's own resolution).
/// In JSON it is RFC 3339, as Coder writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// 9999-12-30T22:00:00.999999Z, the last moment that RFC 3339 can write in every zone.
const LAST: i64 = 253_402_207_200_999_999;
/// 0000-01-01T00:00:00Z, the first.
const FIRST: i64 = -62_167_219_200_000_000;

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// Now, by the system's clock.
    #[must_use]
    pub fn now() -> Self {
        Self::from(jiff::Timestamp::now())
    }

    /// From microseconds since the Unix epoch; what RFC 3339 cannot write (before year 0, after
    /// year 9999) becomes the nearest moment that it can.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        Self(micros.clamp(FIRST, LAST))
    }

    /// From seconds and nanoseconds since the Unix epoch, as protocol buffers carry them.
    #[must_use]
    pub fn from_unix(seconds: i64, nanos: i32) -> Self {
        Self::from_micros(
            seconds.saturating_mul(1_000_000).saturating_add(i64::from(nanos / 1_000)),
        )
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Seconds and nanoseconds since the Unix epoch, as protocol buffers carry them.
    #[must_use]
    pub fn unix(self) -> (i64, i32) {
        let nanos = self.0.rem_euclid(1_000_000) * 1_000;
        (self.0.div_euclid(1_000_000), i32::try_from(nanos).unwrap_or(0))
    }

    /// The moment that much later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self::from_micros(self.0.saturating_add(micros(duration)))
    }

    /// The moment that much earlier.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self::from_micros(self.0.saturating_sub(micros(duration)))
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let micros = self.0.saturating_sub(earlier.0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// RFC 3339 in UTC.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        // Cannot fail: the range was clamped to what can be written.
        let nanos = i128::from(self.0) * 1_000;
        jiff::Timestamp::from_nanosecond(nanos).unwrap_or_default().to_string()
    }

    /// Reads RFC 3339.
    ///
    /// # Errors
    ///
    /// It is not RFC 3339.
    pub fn parse_rfc3339(text: &str) -> Result<Self, jiff::Error> {
        text.parse::<jiff::Timestamp>().map(Self::from)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(time: jiff::Timestamp) -> Self {
        let micros = time.as_nanosecond().div_euclid(1_000);
        Self::from_micros(i64::try_from(micros).unwrap_or(LAST))
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_rfc3339())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse_rfc3339(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for text in [
            "2026-11-21T07:06:06.265497Z",
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999999Z",
            "9999-12-30T22:00:00.999999Z",
            "0000-01-01T00:00:00Z",
        ] {
            let time = Timestamp::parse_rfc3339(text).expect(text);
            assert_eq!(time.to_rfc3339(), text);
            let (seconds, nanos) = time.unix();
            assert!((0..1_000_000_000).contains(&nanos), "{text}");
            assert_eq!(Timestamp::from_unix(seconds, nanos), time, "{text}");
        }
    }

    #[test]
    fn offsets_become_utc_and_nanoseconds_are_cut() {
        let time = Timestamp::parse_rfc3339("2026-11-21T03:36:06.265497999-03:30").expect("valid");
        assert_eq!(time.to_rfc3339(), "2026-11-21T07:06:06.265497Z");
    }

    #[test]
    fn extremes_are_clamped() {
        for micros in [i64::MIN, i64::MAX] {
            let time = Timestamp::from_micros(micros);
            assert_eq!(Timestamp::parse_rfc3339(&time.to_rfc3339()).ok(), Some(time));
            assert_eq!(time.plus(Duration::MAX).to_rfc3339(), "9999-12-30T22:00:00.999999Z");
        }
        assert_eq!(Timestamp::from_unix(i64::MIN, -1).to_rfc3339(), "0000-01-01T00:00:00Z");
    }

    #[test]
    fn differences_do_not_go_below_zero() {
        let one = Timestamp::EPOCH.plus(Duration::from_secs(1));
        assert_eq!(one.since(Timestamp::EPOCH), Duration::from_secs(1));
        assert_eq!(Timestamp::EPOCH.since(one), Duration::ZERO);
        assert_eq!(one.minus(Duration::from_secs(1)), Timestamp::EPOCH);
    }
}
