//! What happens, as JSON: one object a line, in place of text or beside it.
//!
//! `docs/events.schema.json` describes the lines, and a test here holds it to them. Within version 1
//! events and fields may be added, never removed.

use std::{
    fs::File,
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::Serialize;

use super::{escape_json, output::Sink};
use crate::error::CommandError;

/// The version of the lines.
const VERSION: u32 = 1;

/// Where events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Events {
    /// To stderr, in place of text.
    Stderr,
    /// To this inherited descriptor, while text stays on stderr.
    Descriptor(u32),
}

/// Something that happens.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event<'a> {
    /// Something is said.
    Said { level: Level, text: &'a str },
    /// A line of a log: of a build, or of a script by its name.
    Log { source: &'a str, text: &'a str },
    /// A step has begun.
    Began { step: &'a str },
    /// A step is over.
    Ended { step: &'a str, outcome: Outcome, seconds: f64 },
    /// Bytes of a copy.
    Progress { step: &'a str, done: u64, total: u64 },
    /// Forwards are ready: what was asked for, and where each listens.
    Ready { workspace: &'a str, forwards: serde_json::Value },
    /// The command failed.
    Error { kind: &'a str, code: u8, text: String, causes: Vec<String>, hints: &'a [String] },
    /// The command is over: always the last line.
    Finished { code: u8 },
}

/// How much something matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    Debug,
    Info,
    Hint,
    Warning,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Done,
    Failed,
    BrokenOff,
}

impl<'a> Event<'a> {
    pub(super) fn error(error: &'a CommandError) -> Self {
        Self::Error {
            kind: error.kind.name(),
            code: error.kind.code(),
            text: error.to_string(),
            causes: error.source.chain().skip(1).map(ToString::to_string).collect(),
            hints: &error.hints,
        }
    }

    /// Whether it is told even under `-q`.
    pub(super) fn matters(&self) -> bool {
        match self {
            Self::Said { level: Level::Warning | Level::Debug, .. }
            | Self::Ready { .. }
            | Self::Error { .. }
            | Self::Finished { .. } => true,
            Self::Said { level: Level::Info | Level::Hint, .. }
            | Self::Log { .. }
            | Self::Began { .. }
            | Self::Ended { .. }
            | Self::Progress { .. } => false,
        }
    }
}

/// A line, as it is written.
#[derive(Serialize)]
struct Line<'a> {
    version: u32,
    time: Timestamp,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

/// Who hears of events.
#[derive(Debug)]
pub(super) enum Ear {
    Nobody,
    /// Whoever would have read the text.
    Instead,
    Beside(Mutex<File>),
}

impl Ear {
    pub(super) fn open(events: Option<Events>) -> io::Result<Self> {
        Ok(match events {
            None => Self::Nobody,
            Some(Events::Stderr) => Self::Instead,
            Some(Events::Descriptor(number)) => Self::Beside(Mutex::new(descriptor(number)?)),
        })
    }

    /// Whether there is to be no text.
    pub(super) fn is_instead(&self) -> bool {
        match self {
            Self::Instead => true,
            Self::Nobody | Self::Beside(_) => false,
        }
    }

    pub(super) fn is_there(&self) -> bool {
        match self {
            Self::Instead | Self::Beside(_) => true,
            Self::Nobody => false,
        }
    }

    /// Writes an event. Nobody is left to be told that nobody reads it.
    pub(super) fn tell(&self, event: &Event<'_>, sink: &Sink) {
        match self {
            Self::Nobody => {}
            Self::Instead => sink.said(line(event).as_bytes()),
            Self::Beside(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = file.write_all(line(event).as_bytes());
            }
        }
    }
}

fn line(event: &Event<'_>) -> String {
    let line = Line { version: VERSION, time: Timestamp::now(), event };
    // These are our own types, whose keys are strings.
    let json = serde_json::to_string(&line).unwrap_or_default();
    format!("{}\n", escape_json(&json))
}

/// A descriptor by its number, as the system's file for it. (To take over the descriptor itself
/// would need `unsafe`: nobody knows who else uses it.)
///
/// # Errors
/// It is not open for writing.
pub fn descriptor(number: u32) -> io::Result<File> {
    std::fs::OpenOptions::new().write(true).open(format!("/dev/fd/{number}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;
    use crate::error::Kind;

    fn schema() -> Value {
        serde_json::from_str(include_str!("../../docs/events.schema.json")).unwrap()
    }

    /// Why a value is not what a schema says, in the words of JSON Schema that ours uses.
    fn wrong(value: &Value, schema: &Value, all: &Value) -> Option<String> {
        for (word, said) in schema.as_object().unwrap() {
            let ok = match word.as_str() {
                "$schema" | "$id" | "title" | "description" | "$defs" | "format" => true,
                "$ref" => {
                    let name = said.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                    wrong(value, &all["$defs"][name], all).is_none()
                }
                "oneOf" => {
                    let fits = |one: &&Value| wrong(value, one, all).is_none();
                    said.as_array().unwrap().iter().filter(fits).count() == 1
                }
                "const" => value == said,
                "enum" => said.as_array().unwrap().contains(value),
                "type" => match said.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "number" => value.is_number(),
                    "integer" => value.is_u64(),
                    other => panic!("the schema has the type {other}"),
                },
                "items" => {
                    value.as_array().unwrap().iter().all(|one| wrong(one, said, all).is_none())
                }
                "required" => said
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|name| value.get(name.as_str().unwrap()).is_some()),
                "properties" => said.as_object().unwrap().iter().all(|(name, said)| {
                    value.get(name).is_none_or(|value| wrong(value, said, all).is_none())
                }),
                other => panic!("the schema has the word {other}"),
            };
            if !ok {
                return Some(format!("{word}: {said} does not hold for {value}"));
            }
        }
        None
    }

    /// One of each, and of each of their words.
    fn all() -> Vec<Event<'static>> {
        const HINTS: &[String] = &[];
        let (text, step) = ("what\u{1b}", "step");
        let mut all = vec![
            Event::Log { source: "build", text },
            Event::Began { step },
            Event::Progress { step, done: 1, total: 2 },
            Event::Finished { code: 207 },
            Event::Ready { workspace: "dev", forwards: json!([{"kind": "tcp", "local": {}}]) },
        ];
        let levels = [Level::Debug, Level::Info, Level::Hint, Level::Warning];
        all.extend(levels.map(|level| Event::Said { level, text }));
        let outcomes = [Outcome::Done, Outcome::Failed, Outcome::BrokenOff];
        all.extend(outcomes.map(|outcome| Event::Ended { step, outcome, seconds: 0.5 }));
        all.extend(Kind::NAMED.map(|kind| Event::Error {
            kind: kind.name(),
            code: kind.code(),
            text: text.to_owned(),
            causes: vec![text.to_owned()],
            hints: HINTS,
        }));
        all
    }

    #[test]
    fn the_schema_is_that_of_the_lines() {
        let schema = schema();
        let mut seen = BTreeSet::new();
        for event in all() {
            let line = line(&event);
            assert!(!line.contains('\u{1b}'), "{line}");
            let value: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(wrong(&value, &schema, &schema), None, "{line}");
            // What is written is described, field by field.
            let name = value["event"].as_str().unwrap().to_owned();
            let described = &schema["$defs"][&name];
            for field in value.as_object().unwrap().keys() {
                let of_all = schema["properties"].get(field).is_some();
                let of_this = described["properties"].get(field).is_some();
                assert!(of_all || of_this, "{field} of {name} is not described");
            }
            for field in described["required"].as_array().unwrap() {
                assert!(value.get(field.as_str().unwrap()).is_some(), "{field} of {line}");
            }
            seen.insert(name);
        }
        // And nothing is described that is not written.
        let described: BTreeSet<String> =
            schema["$defs"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(seen, described);
        let kinds = schema["$defs"]["error"]["properties"]["kind"]["enum"].as_array().unwrap();
        assert_eq!(kinds.len(), Kind::NAMED.len());
    }

    #[test]
    fn the_schema_refuses_what_is_not_described() {
        let schema = schema();
        for text in [
            r#"{"version":1,"time":"x","event":"unheard_of"}"#,
            r#"{"version":2,"time":"x","event":"began","step":"x"}"#,
            r#"{"version":1,"time":"x","event":"began"}"#,
            r#"{"version":1,"time":"x","event":"finished","code":"0"}"#,
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert!(wrong(&value, &schema, &schema).is_some(), "{text}");
        }
    }
}
