//! Provisioner jobs: the work of builds, and its log.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use uuid::Uuid;

use super::{Timestamp, words};

words! {
    /// How far a job is (`codersdk/provisionerdaemons.go`).
    pub enum JobStatus ("job status") {
        /// Waits for a provisioner.
        Pending = "pending",
        /// A provisioner runs it.
        Running = "running",
        /// It is done.
        Succeeded = "succeeded",
        /// The provisioner was asked to stop it.
        Canceling = "canceling",
        /// It was stopped.
        Canceled = "canceled",
        /// It went wrong.
        Failed = "failed",
    }
}

impl JobStatus {
    /// Whether it is not over: pending, running or canceling.
    #[must_use]
    pub const fn is_active(self) -> bool {
        match self {
            Self::Pending | Self::Running | Self::Canceling => true,
            Self::Succeeded | Self::Canceled | Self::Failed => false,
        }
    }
}

words! {
    /// What a job is for.
    pub enum JobKind ("job type") {
        /// A build of a workspace.
        WorkspaceBuild = "workspace_build",
        /// A template version is read.
        TemplateVersionImport = "template_version_import",
        /// A build that only says what it would make.
        TemplateVersionDryRun = "template_version_dry_run",
    }
}

words! {
    /// Who wrote a line of a job's log.
    pub enum JobLogSource ("log source") {
        /// The one that runs provisioners.
        ProvisionerDaemon = "provisioner_daemon",
        /// The provisioner.
        Provisioner = "provisioner",
    }
}

words! {
    /// How much a log line matters.
    pub enum LogLevel ("log level") {
        /// Not at all.
        Trace = "trace",
        /// For those who look for something.
        Debug = "debug",
        /// For everybody.
        Info = "info",
        /// Something is odd.
        Warn = "warn",
        /// Something went wrong.
        Error = "error",
    }
}

/// What a build has to do with a prebuilt workspace. In a job's input it is a number
/// (`provisionersdk/proto`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrebuildStage {
    /// Nothing.
    #[default]
    None,
    /// It builds one.
    Create,
    /// It gives one to its new owner.
    Claim,
}

impl PrebuildStage {
    /// Its number.
    #[must_use]
    pub const fn number(self) -> i64 {
        match self {
            Self::None => 0,
            Self::Create => 1,
            Self::Claim => 2,
        }
    }

    /// By its number.
    ///
    /// # Errors
    ///
    /// The number is none of them.
    pub fn parse(number: i64) -> Result<Self, super::UnknownWord> {
        match number {
            0 => Ok(Self::None),
            1 => Ok(Self::Create),
            2 => Ok(Self::Claim),
            other => Err(super::UnknownWord {
                what: "stage of a prebuilt workspace",
                text: other.to_string(),
                known: "0, 1, 2".to_owned(),
            }),
        }
    }

    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl Serialize for PrebuildStage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.number())
    }
}

impl<'de> Deserialize<'de> for PrebuildStage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = Option::<i64>::deserialize(deserializer)?.unwrap_or(0);
        Self::parse(number).map_err(D::Error::custom)
    }
}

/// What a job is told (`coderd/provisionerdserver/provisionerdserver.go`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobInput {
    /// Which build it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_build_id: Option<Uuid>,
    /// Which version it reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_version_id: Option<Uuid>,
    /// Whether nothing is to be made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// How much to log; empty for the usual.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log_level: String,
    /// What the build has to do with a prebuilt workspace.
    #[serde(default, skip_serializing_if = "PrebuildStage::is_none")]
    pub prebuilt_workspace_stage: PrebuildStage,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: Uuid,
    /// What it is for.
    pub kind: JobKind,
    /// Who asked.
    pub initiator_id: Uuid,
    /// What it is told.
    pub input: JobInput,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// When a provisioner first took it.
    pub started_at: Option<Timestamp>,
    /// When somebody asked to cancel it.
    pub canceled_at: Option<Timestamp>,
    /// When it was over.
    pub completed_at: Option<Timestamp>,
    /// What went wrong.
    pub error: Option<String>,
    /// What kind of wrong.
    pub error_code: Option<String>,
    /// Which worker has it.
    pub worker_id: Option<Uuid>,
    /// Until then the worker has it; later, another may take it over.
    pub lease_until: Option<Timestamp>,
    /// How often it was taken. A worker that was overtaken is told by this number.
    pub attempt: i64,
    /// Whether lines were left out of its log.
    pub logs_overflowed: bool,
}

impl Job {
    /// How far it is, from what is known of it (as the generated column `job_status` of
    /// `coderd/database`).
    #[must_use]
    pub fn status(&self) -> JobStatus {
        let failed = self.error.as_ref().is_some_and(|error| !error.is_empty());
        match (
            self.completed_at.is_some(),
            failed,
            self.canceled_at.is_some(),
            self.started_at.is_some(),
        ) {
            (_, true, _, _) => JobStatus::Failed,
            (true, false, true, _) => JobStatus::Canceled,
            (true, false, false, _) => JobStatus::Succeeded,
            (false, false, true, _) => JobStatus::Canceling,
            (false, false, false, true) => JobStatus::Running,
            (false, false, false, false) => JobStatus::Pending,
        }
    }
}

/// The right to run a job, for a while. Whoever was overtaken is refused from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JobLease {
    /// Which job.
    pub job_id: Uuid,
    /// Who has it.
    pub worker_id: Uuid,
    /// Which attempt it is.
    pub attempt: i64,
}

/// A line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobLog {
    /// Higher for each later line of the same job.
    pub id: i64,
    /// Of which job.
    pub job_id: Uuid,
    /// When.
    pub created_at: Timestamp,
    /// Who wrote it.
    pub source: JobLogSource,
    /// How much it matters.
    pub level: LogLevel,
    /// In which stage.
    pub stage: String,
    /// The line, without its end.
    pub output: String,
}

/// A line to be added to a job's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJobLog {
    /// When.
    pub created_at: Timestamp,
    /// Who wrote it.
    pub source: JobLogSource,
    /// How much it matters.
    pub level: LogLevel,
    /// In which stage.
    pub stage: String,
    /// The line, without its end.
    pub output: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn input_is_what_upstream_writes() {
        let id = Uuid::from_u128(7);
        for (stage, text) in [
            (PrebuildStage::None, ""),
            (PrebuildStage::Create, r#","prebuilt_workspace_stage":1"#),
            (PrebuildStage::Claim, r#","prebuilt_workspace_stage":2"#),
        ] {
            let input = JobInput {
                workspace_build_id: Some(id),
                prebuilt_workspace_stage: stage,
                ..JobInput::default()
            };
            let json = serde_json::to_string(&input).unwrap();
            assert_eq!(json, format!(r#"{{"workspace_build_id":"{id}"{text}}}"#));
            assert_eq!(serde_json::from_str::<JobInput>(&json).unwrap(), input);
        }
    }

    #[test]
    fn input_of_others_is_read() {
        let input: JobInput = serde_json::from_str(
            r#"{"dry_run":false,"prebuilt_workspace_stage":null,"of_the_future":[1]}"#,
        )
        .unwrap();
        assert_eq!(input, JobInput::default());
        let error = serde_json::from_str::<JobInput>(r#"{"prebuilt_workspace_stage":3}"#)
            .unwrap_err()
            .to_string();
        assert!(error.contains("\"3\" is no stage of a prebuilt workspace"), "{error}");
    }
}
