//! What can go wrong with the store.

use crate::decide::Conflict;

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such row.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The state forbids it.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The database does not answer, or refuses. Nothing was changed, or it cannot be told
    /// whether (a commit whose answer was lost).
    #[error("the database is not available while it was to {doing}")]
    Unavailable {
        /// What was to be done.
        doing: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A row cannot be understood: another program wrote it, or a newer version of this one.
    #[error(
        "column {column} holds what cannot be read: {reason}; was the state written by a newer \
         version?"
    )]
    Corrupt {
        /// Which column.
        column: String,
        /// Why.
        reason: String,
    },
    /// The state cannot be used at all.
    #[error("{0}")]
    Unusable(String),
}

impl StoreError {
    /// Makes an [`StoreError::Unavailable`] of a driver's error.
    pub(crate) fn unavailable(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| {
            if let sqlx::Error::ColumnDecode { index, source } = source {
                return Self::Corrupt { column: index, reason: source.to_string() };
            }
            Self::Unavailable { doing, source }
        }
    }

    /// As [`StoreError::unavailable`], but the violation of a unique index is this conflict.
    pub(crate) fn unless_unique(
        doing: &'static str,
        conflict: Conflict,
    ) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| {
            let unique =
                source.as_database_error().is_some_and(|error| error.is_unique_violation());
            if unique { conflict.into() } else { Self::unavailable(doing)(source) }
        }
    }

    /// Whether a later try may succeed.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
