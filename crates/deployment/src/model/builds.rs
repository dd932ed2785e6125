//! Builds of workspaces, and what they made.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{JobInput, Timestamp, words};

words! {
    /// What a build does (`codersdk/workspacebuilds.go`).
    pub enum Transition ("workspace transition") {
        /// Starts the workspace.
        Start = "start",
        /// Stops it.
        Stop = "stop",
        /// Deletes it.
        Delete = "delete",
    }
}

words! {
    /// Why a build was made (`codersdk/workspacebuilds.go`).
    pub enum BuildReason ("build reason") {
        /// Somebody asked.
        Initiator = "initiator",
        /// Its schedule.
        Autostart = "autostart",
        /// Its time to live.
        Autostop = "autostop",
        /// It was unused for long.
        Dormancy = "dormancy",
        /// Somebody asked on the dashboard.
        Dashboard = "dashboard",
        /// Somebody asked on the command line.
        Cli = "cli",
        /// A connection needed it.
        SshConnection = "ssh_connection",
        /// VS Code needed it.
        VscodeConnection = "vscode_connection",
        /// JetBrains needed it.
        JetbrainsConnection = "jetbrains_connection",
        /// A task was paused.
        TaskManualPause = "task_manual_pause",
        /// A task was resumed.
        TaskResume = "task_resume",
    }
}

/// A build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Its id.
    pub id: Uuid,
    /// Of which workspace.
    pub workspace_id: Uuid,
    /// With which version of its template.
    pub template_version_id: Uuid,
    /// From 1, one more for each; unique within the workspace.
    pub number: i32,
    /// What it does.
    pub transition: Transition,
    /// Why.
    pub reason: BuildReason,
    /// Who asked.
    pub initiator_id: Uuid,
    /// The job that runs it.
    pub job_id: Uuid,
    /// With which preset.
    pub preset_id: Option<Uuid>,
    /// Parameter values by name.
    pub parameters: BTreeMap<String, String>,
    /// When the workspace will be stopped.
    pub deadline: Option<Timestamp>,
    /// No deadline may be later.
    pub max_deadline: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

/// A build to be made, with its job. Its number follows from the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBuild {
    /// Its id.
    pub id: Uuid,
    /// With which version of the template.
    pub template_version_id: Uuid,
    /// What it does.
    pub transition: Transition,
    /// Why.
    pub reason: BuildReason,
    /// Who asked.
    pub initiator_id: Uuid,
    /// With which preset.
    pub preset_id: Option<Uuid>,
    /// Parameter values by name, complete.
    pub parameters: BTreeMap<String, String>,
    /// The job's id.
    pub job_id: Uuid,
    /// What the job is told.
    pub input: JobInput,
}

/// What a build made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its id.
    pub id: Uuid,
    /// By which job.
    pub job_id: Uuid,
    /// What the build did.
    pub transition: Transition,
    /// What it is.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether it is of no interest.
    pub hide: bool,
    /// A picture; may be empty.
    pub icon: String,
    /// What people see of it.
    pub metadata: Vec<ResourceMetadata>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Something to see of a resource.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ResourceMetadata {
    /// What.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Whether it is to be hidden at first.
    pub sensitive: bool,
}

/// What a build has made, to be stored with its success.
#[derive(Debug, Clone, PartialEq)]
pub struct NewResource {
    /// Its id.
    pub id: Uuid,
    /// What it is.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether it is of no interest.
    pub hide: bool,
    /// A picture; may be empty.
    pub icon: String,
    /// What people see of it.
    pub metadata: Vec<ResourceMetadata>,
    /// The agents that run on it.
    pub agents: Vec<super::NewAgent>,
}
