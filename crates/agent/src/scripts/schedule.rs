//! When a script runs by the clock.
//!
//! The expressions are the Go agent's: second, minute, hour, day of month, month, and day of week,
//! the last of which may be missing (`agent/agentscripts/agentscripts.go`: `cron.Second | … |
//! cron.DowOptional`). So five fields begin with the second too, which is not what crontab(5)
//! says. `TZ=` or `CRON_TZ=` and a zone may come first; otherwise it is the machine's own zone.

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{Timestamp, tz::TimeZone};

/// An expression that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{expression:?} is no schedule: {why}; it is like \"0 */5 * * * *\": second, minute, hour, day \
     of month, month, day of week"
)]
pub(crate) struct ScheduleError {
    expression: String,
    why: String,
}

/// Points in time that come again and again.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

impl Schedule {
    pub(crate) fn parse(expression: &str) -> Result<Self, ScheduleError> {
        let wrong = |why: String| ScheduleError { expression: expression.to_owned(), why };
        let text = expression.trim();
        let zoned = text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ="));
        let (zone, text) = match zoned {
            Some(text) => {
                let (zone, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
                let zone = TimeZone::get(zone).map_err(|error| wrong(error.to_string()))?;
                (zone, rest)
            }
            None => (TimeZone::system(), text),
        };
        let mut fields: Vec<&str> = text.split_whitespace().collect();
        match fields.len() {
            5 => fields.push("*"),
            6 => {}
            count => return Err(wrong(format!("it has {count} fields, not 5 or 6"))),
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Required)
            .year(Year::Disallowed)
            .sloppy_ranges(true)
            .build();
        let cron = parser.parse(&fields.join(" ")).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { cron, zone })
    }

    /// The first time after `now`; `None` when there is none any more.
    pub(crate) fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        let now = now.to_zoned(self.zone.clone());
        self.cron.find_next_occurrence(&now, false).ok().map(|next| next.timestamp())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn next(expression: &str, now: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(&format!("TZ=UTC {expression}")).unwrap();
        let mut now: Timestamp = now.parse().unwrap();
        let times = std::iter::from_fn(|| {
            now = schedule.next_after(now)?;
            Some(now.to_string())
        });
        times.take(count).collect()
    }

    #[test]
    fn six_fields_and_five_that_begin_with_the_second() {
        let now = "2026-03-05T10:20:30Z";
        for (expression, expected) in [
            ("* * * * * *", ["2026-03-05T10:20:31Z", "2026-03-05T10:20:32Z"]),
            ("*/20 * * * *", ["2026-03-05T10:20:40Z", "2026-03-05T10:21:00Z"]),
            ("0 */5 * * * *", ["2026-03-05T10:25:00Z", "2026-03-05T10:30:00Z"]),
            ("0 0 6 * * *", ["2026-03-06T06:00:00Z", "2026-03-07T06:00:00Z"]),
            ("0 30 8-9 * * MON-FRI", ["2026-03-06T08:30:00Z", "2026-03-06T09:30:00Z"]),
            ("0 0 0 1 JAN ?", ["2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"]),
            ("0 5/25 * * * *", ["2026-03-05T10:30:00Z", "2026-03-05T10:55:00Z"]),
            // Either of both days, as everywhere.
            ("0 0 0 13 * FRI", ["2026-03-06T00:00:00Z", "2026-03-13T00:00:00Z"]),
        ] {
            assert_eq!(next(expression, now, 2), expected, "{expression}");
        }
    }

    #[test]
    fn a_zone_of_its_own() {
        let schedule = Schedule::parse("CRON_TZ=Asia/Tokyo 0 0 6 * * *").unwrap();
        let now = "2026-03-05T10:00:00Z".parse().unwrap();
        assert_eq!(schedule.next_after(now).unwrap().to_string(), "2026-03-05T21:00:00Z");
    }

    #[test]
    fn what_means_nothing_is_named() {
        for (expression, expected) in [
            ("", "0 fields"),
            ("* * * *", "4 fields"),
            ("* * * * * * *", "7 fields"),
            ("@daily", "1 fields"),
            ("61 * * * * *", "\"61 * * * * *\""),
            ("a b c d e f", "\"a b c d e f\""),
            ("TZ=Mars/Olympus * * * * * *", "Mars/Olympus"),
        ] {
            let error = Schedule::parse(expression).unwrap_err().to_string();
            assert!(error.contains(expected), "{expression}: {error}");
        }
    }
}
