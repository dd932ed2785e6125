//! Values that are checked where they stand, so that an error names their line.

use std::time::Duration;

use serde::Deserialize;

use super::Line;
use crate::model::LogLevel;

/// Longest duration in a template, a day: a longer one is a slip of the pen.
const MAX_SPAN: Duration = Duration::from_hours(24);

/// Characters of a name (coder/coder: codersdk/name.go `UsernameMaxLength`).
const MAX_NAME: usize = 32;

/// A name of an agent or an application: letters, digits and single dashes between them
/// (coder/coder: provisioner/regexes.go, in lower case there).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(String);

impl Name {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let words = text.split('-');
        let fine = |word: &str| {
            !word.is_empty()
                && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if text.len() > MAX_NAME || !words.into_iter().all(fine) {
            return Err(format!(
                "{text:?} is not a name: lower-case letters, digits and single dashes between \
                 them, at most {MAX_NAME} characters"
            ));
        }
        Ok(Self(text))
    }
}

/// A duration, written as in Go: `1h30m`, `250ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(Duration);

impl Span {
    /// As a duration.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let span = parse_span(&text).ok_or_else(|| {
            format!("{text:?} is not a duration: write it as 250ms, 10s or 1h30m")
        })?;
        if span > MAX_SPAN {
            return Err(format!("{text:?} is longer than a day"));
        }
        Ok(Self(span))
    }
}

/// Numbers with a unit, one after the other.
fn parse_span(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        seconds += number.parse::<f64>().ok()?
            * match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// A schedule: five fields, or six with seconds first. What the fields mean is the agent's
/// business.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Cron(String);

impl Cron {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Cron {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let field = |field: &str| {
            field.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"*/,-?".contains(&byte))
        };
        let fields = text.split_whitespace();
        if !matches!(fields.clone().count(), 5 | 6) || !fields.into_iter().all(field) {
            return Err(format!(
                "{text:?} is not a schedule: five fields (minute, hour, day, month, weekday), or \
                 six with the second first"
            ));
        }
        Ok(Self(text))
    }
}

/// A log line as it may be written.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a text, or a table with `text` and perhaps `level`")]
pub(super) enum AnyLine {
    Plain(String),
    Full(FullLine),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FullLine {
    level: Option<LogLevel>,
    text: String,
}

impl From<AnyLine> for Line {
    fn from(line: AnyLine) -> Self {
        match line {
            AnyLine::Plain(text) => Self { level: LogLevel::Info, text },
            AnyLine::Full(FullLine { level, text }) => {
                Self { level: level.unwrap_or(LogLevel::Info), text }
            }
        }
    }
}

/// The default of `connection_timeout` (coder/terraform-provider-coder: 120 s).
pub(super) fn two_minutes() -> Span {
    Span(Duration::from_mins(2))
}

/// The default time between two runs or checks.
pub(super) fn ten_seconds() -> Span {
    Span(Duration::from_secs(10))
}

/// The default of failed checks that are forgiven.
pub(super) fn three() -> u16 {
    3
}
