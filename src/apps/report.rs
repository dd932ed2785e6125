//! What measuring apps have in common when they report.

use std::{io, time::Duration};

use serde::Serialize;

use crate::{
    apps,
    error::{CommandError, Kind},
    ui::escape_json,
};

/// A path as `-o json` shows it: `kind` is `relay`, `direct` or `none`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Path<'a> {
    kind: &'static str,
    relay: Option<&'a str>,
    address: Option<String>,
}

impl<'a> Path<'a> {
    pub(super) fn of(path: &'a apps::Path) -> Self {
        match path {
            apps::Path::Relay(name) => Self { kind: "relay", relay: Some(name), address: None },
            apps::Path::Direct(address) => {
                Self { kind: "direct", relay: None, address: Some(address.to_string()) }
            }
            apps::Path::None => Self { kind: "none", relay: None, address: None },
        }
    }
}

/// One JSON document, with a line end.
pub(crate) fn json(document: &impl Serialize) -> Result<String, CommandError> {
    let json = serde_json::to_string_pretty(document)
        .map_err(|error| CommandError::new(Kind::Other, error))?;
    Ok(format!("{}\n", escape_json(&json)))
}

/// Milliseconds to the microsecond, which is what a round trip is good for.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1000.0)
}

/// To three places.
pub(super) fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

pub(super) fn cannot_write(error: io::Error) -> CommandError {
    CommandError::new(Kind::Other, anyhow::Error::new(error).context("cannot write to stdout"))
}
