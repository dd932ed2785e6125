//! What is decided, as pure tables: tokens, watch, reinitialisation, builds, agents.
//!
//! Nothing here reads a clock, a database or a socket: everything that a decision rests on is an
//! argument, so each table has a test that names every row.

pub mod agents;
pub mod builds;
pub mod reinit;
pub mod tokens;
pub mod watch;

use crate::model::JobStatus;

/// Why the state forbids what was asked. The words are those of `coderd/*.go` where a client
/// reads them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// A build of the workspace is pending, running or being cancelled.
    #[error("A workspace build is already active.")]
    BuildActive,
    /// The workspace is deleted.
    #[error("The workspace has been deleted.")]
    WorkspaceDeleted,
    /// The name is taken.
    #[error("{0} already exists.")]
    NameTaken(String),
    /// The job is over.
    #[error("Job has already completed!")]
    JobCompleted,
    /// The job was already asked to stop.
    #[error("Job has already been marked as canceled!")]
    JobAlreadyCanceled,
    /// The job is not in the state that the caller expected.
    #[error("Job is not in the expected state: it is {actual}, not {expected}.")]
    NotInExpectedState {
        /// What the caller expected.
        expected: JobStatus,
        /// What it is.
        actual: JobStatus,
    },
    /// Another worker has taken the job over, or it is over: stop working on it, and report
    /// nothing more of it.
    #[error("The job is no longer this worker's: its lease ran out, or it is over.")]
    LeaseLost,
    /// The workspace is a prebuilt one that nobody has claimed.
    #[error("Prebuilt workspaces cannot be changed until they are claimed.")]
    Prebuild,
    /// A value cannot be stored.
    #[error("{0}")]
    Invalid(String),
}

impl Conflict {
    /// The status of the answer to the client.
    #[must_use]
    pub const fn http_status(&self) -> u16 {
        match self {
            Self::BuildActive | Self::NameTaken(_) | Self::LeaseLost | Self::Prebuild => 409,
            Self::WorkspaceDeleted => 410,
            Self::JobCompleted | Self::JobAlreadyCanceled | Self::Invalid(_) => 400,
            Self::NotInExpectedState { .. } => 412,
        }
    }
}
