//! Reading columns: what cannot be read is an error that names the column.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row as _, any::AnyRow};
use uuid::Uuid;

use super::StoreError;
use crate::model::{Timestamp, UnknownWord};

/// Reads columns of a row by name.
pub(crate) trait Columns {
    /// Text.
    fn text(&self, column: &str) -> Result<String, StoreError>;
    /// Text, or NULL.
    fn maybe_text(&self, column: &str) -> Result<Option<String>, StoreError>;
    /// A number.
    fn int(&self, column: &str) -> Result<i64, StoreError>;
    /// A number, or NULL.
    fn maybe_int(&self, column: &str) -> Result<Option<i64>, StoreError>;

    /// A UUID.
    fn uuid(&self, column: &str) -> Result<Uuid, StoreError> {
        parse_uuid(column, &self.text(column)?)
    }

    /// A UUID, or NULL.
    fn maybe_uuid(&self, column: &str) -> Result<Option<Uuid>, StoreError> {
        self.maybe_text(column)?.map(|text| parse_uuid(column, &text)).transpose()
    }

    /// A small number.
    fn int32(&self, column: &str) -> Result<i32, StoreError> {
        i32::try_from(self.int(column)?).map_err(|error| corrupt(column, error))
    }

    /// 0 or 1.
    fn flag(&self, column: &str) -> Result<bool, StoreError> {
        Ok(self.int(column)? != 0)
    }

    /// Microseconds since the Unix epoch.
    fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        Ok(Timestamp::from_micros(self.int(column)?))
    }

    /// Microseconds since the Unix epoch, or NULL.
    fn maybe_time(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.maybe_int(column)?.map(Timestamp::from_micros))
    }

    /// Milliseconds.
    fn millis(&self, column: &str) -> Result<Duration, StoreError> {
        u64::try_from(self.int(column)?)
            .map(Duration::from_millis)
            .map_err(|error| corrupt(column, error))
    }

    /// Seconds.
    fn seconds(&self, column: &str) -> Result<Duration, StoreError> {
        u64::try_from(self.int(column)?)
            .map(Duration::from_secs)
            .map_err(|error| corrupt(column, error))
    }

    /// A word of an enum, with its `parse`.
    fn word<T>(
        &self,
        column: &str,
        parse: fn(&str) -> Result<T, UnknownWord>,
    ) -> Result<T, StoreError> {
        parse(&self.text(column)?).map_err(|error| corrupt(column, error))
    }

    /// JSON.
    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?).map_err(|error| corrupt(column, error))
    }
}

impl Columns for AnyRow {
    fn text(&self, column: &str) -> Result<String, StoreError> {
        self.try_get(column).map_err(|error| corrupt(column, error))
    }

    fn maybe_text(&self, column: &str) -> Result<Option<String>, StoreError> {
        self.try_get(column).map_err(|error| corrupt(column, error))
    }

    fn int(&self, column: &str) -> Result<i64, StoreError> {
        self.try_get(column).map_err(|error| corrupt(column, error))
    }

    fn maybe_int(&self, column: &str) -> Result<Option<i64>, StoreError> {
        self.try_get(column).map_err(|error| corrupt(column, error))
    }
}

pub(crate) fn corrupt(column: &str, reason: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { column: column.to_owned(), reason: reason.to_string() }
}

fn parse_uuid(column: &str, text: &str) -> Result<Uuid, StoreError> {
    Uuid::parse_str(text).map_err(|error| corrupt(column, error))
}

/// JSON to be stored.
pub(crate) fn to_json(value: &impl Serialize) -> String {
    // Cannot fail: these are maps with text keys, lists and words.
    serde_json::to_string(value).unwrap_or_default()
}

/// A duration to be stored in milliseconds.
pub(crate) fn to_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A duration to be stored in seconds.
pub(crate) fn to_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
