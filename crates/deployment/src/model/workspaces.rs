//! Workspaces.

use std::time::Duration;

use uuid::Uuid;

use super::{PREBUILDS_USER, Timestamp, words};

words! {
    /// Whether a start uses the template's active version (`codersdk/workspaces.go`).
    pub enum AutomaticUpdates ("automatic updates setting") {
        /// The version of the last build.
        Never = "never",
        /// The active version.
        Always = "always",
    }
}

words! {
    /// What the latest build has made of a workspace (`codersdk/workspacebuilds.go`).
    pub enum WorkspaceStatus ("workspace status") {
        /// The job waits.
        Pending = "pending",
        /// A start runs.
        Starting = "starting",
        /// A start succeeded.
        Running = "running",
        /// A stop runs.
        Stopping = "stopping",
        /// A stop succeeded.
        Stopped = "stopped",
        /// The job failed.
        Failed = "failed",
        /// The job is being cancelled.
        Canceling = "canceling",
        /// The job was cancelled.
        Canceled = "canceled",
        /// A delete runs.
        Deleting = "deleting",
        /// A delete succeeded.
        Deleted = "deleted",
    }
}

/// A workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Its id; stays through claims.
    pub id: Uuid,
    /// Whose it is: the prebuilds user's until it is claimed.
    pub owner_id: Uuid,
    /// Of which template.
    pub template_id: Uuid,
    /// Unique among the owner's that are not deleted, without regard to case.
    pub name: String,
    /// Whether a delete build has succeeded.
    pub deleted: bool,
    /// Since when it is dormant.
    pub dormant_at: Option<Timestamp>,
    /// How long after a start it is stopped; none for never. Whole milliseconds.
    pub ttl: Option<Duration>,
    /// When it is started: cron with an optional `CRON_TZ=`.
    pub autostart_schedule: Option<String>,
    /// Whether a start uses the active version.
    pub automatic_updates: AutomaticUpdates,
    /// When it was used last.
    pub last_used_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

impl Workspace {
    /// Whether it is a prebuilt one that nobody has claimed.
    #[must_use]
    pub fn is_prebuild(&self) -> bool {
        self.owner_id == PREBUILDS_USER
    }
}

/// A workspace to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWorkspace {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub owner_id: Uuid,
    /// Of which template.
    pub template_id: Uuid,
    /// Its name.
    pub name: String,
    /// How long after a start it is stopped.
    pub ttl: Option<Duration>,
    /// When it is started.
    pub autostart_schedule: Option<String>,
    /// Whether a start uses the active version.
    pub automatic_updates: AutomaticUpdates,
}
