//! The channels, and what is published on them: names and payloads as upstream's.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Pubsub, PubsubError};
use crate::model::words;

/// Everything about the workspaces of an owner (`coderd/wspubsub/wspubsub.go`); see
/// [`WorkspaceEvent`].
#[must_use]
pub fn workspace_owner(owner_id: Uuid) -> String {
    format!("workspace_owner:{owner_id}")
}

/// New lines of an agent's log (`codersdk/agentsdk/agentsdk.go`); see [`LogsAfter`].
#[must_use]
pub fn agent_logs(agent_id: Uuid) -> String {
    format!("agent-logs:{agent_id}")
}

/// New lines of a job's log, and its end (`provisionersdk/logs.go`); see [`JobLogsAfter`].
#[must_use]
pub fn job_logs(job_id: Uuid) -> String {
    format!("provisioner-log-logs:{job_id}")
}

/// The claim of a prebuilt workspace (`codersdk/agentsdk/agentsdk.go`); see [`super::claims`].
#[must_use]
pub fn prebuild_claimed(workspace_id: Uuid) -> String {
    format!("prebuild_claimed_{workspace_id}")
}

/// A job waits for a worker (`coderd/database/provisionerjobs/provisionerjobs.go`); see
/// [`JobPosted`].
pub const JOB_POSTED: &str = "provisioner_job_posted";

words! {
    /// What has happened to a workspace (`coderd/wspubsub/wspubsub.go`).
    pub enum WorkspaceEventKind ("kind of workspace event") {
        /// A build was made or its job has moved on, or the workspace itself was changed.
        StateChange = "state_change",
        /// Its agents have sent statistics.
        StatsUpdate = "stats_update",
        /// Its agents have sent metadata.
        MetadataUpdate = "mtd_update",
        /// An app's health has changed.
        AppHealthUpdate = "app_health",
        /// An agent's lifecycle has changed.
        AgentLifecycleUpdate = "agt_lifecycle_update",
        /// An agent has connected or disconnected.
        AgentConnectionUpdate = "agt_connection_update",
        /// An agent's log has its first lines.
        AgentFirstLogs = "agt_first_logs",
        /// An agent's log is full.
        AgentLogsOverflow = "agt_logs_overflow",
        /// An agent has not connected in time.
        AgentTimeout = "agt_timeout",
        /// An app has said what it does.
        AgentAppStatusUpdate = "agt_app_status_update",
    }
}

/// What has happened to a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceEvent {
    /// What.
    pub kind: WorkspaceEventKind,
    /// To which.
    pub workspace_id: Uuid,
    /// By which agent; set for the kinds that begin with `Agent`, but for a timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Uuid>,
}

impl WorkspaceEvent {
    /// A build was made, or its job has moved on.
    #[must_use]
    pub fn state_change(workspace_id: Uuid) -> Self {
        Self { kind: WorkspaceEventKind::StateChange, workspace_id, agent_id: None }
    }

    /// An agent did something.
    #[must_use]
    pub fn agent(kind: WorkspaceEventKind, workspace_id: Uuid, agent_id: Uuid) -> Self {
        Self { kind, workspace_id, agent_id: Some(agent_id) }
    }

    /// Reads a payload.
    ///
    /// # Errors
    ///
    /// It is none, or its kind is unknown (of a newer version: treat it as nothing of interest).
    pub fn parse(payload: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(payload)
    }
}

/// There are lines with ids after this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsAfter {
    /// The highest id that was there before.
    pub created_after: i64,
}

/// There are lines with ids after this one, or there will be no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLogsAfter {
    /// The highest id that was there before.
    pub created_after: i64,
    /// The job is over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub end_of_logs: bool,
}

/// A job waits for a worker. Ours take any, so the members are there for others' sake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPosted {
    /// The organization.
    pub organization_id: Uuid,
    /// The kind of provisioner.
    #[serde(rename = "type")]
    pub provisioner: String,
    /// The tags that a worker must have.
    pub tags: std::collections::BTreeMap<String, String>,
}

impl Pubsub {
    /// Tells all who watch an owner's workspaces.
    ///
    /// # Errors
    ///
    /// As [`Pubsub::publish`].
    pub async fn publish_workspace_event(
        &self,
        owner_id: Uuid,
        event: &WorkspaceEvent,
    ) -> Result<(), PubsubError> {
        self.publish_json(&workspace_owner(owner_id), event).await
    }

    /// Tells all who follow an agent's log.
    ///
    /// # Errors
    ///
    /// As [`Pubsub::publish`].
    pub async fn publish_agent_logs(
        &self,
        agent_id: Uuid,
        created_after: i64,
    ) -> Result<(), PubsubError> {
        self.publish_json(&agent_logs(agent_id), &LogsAfter { created_after }).await
    }

    /// Tells all who follow a job's log.
    ///
    /// # Errors
    ///
    /// As [`Pubsub::publish`].
    pub async fn publish_job_logs(
        &self,
        job_id: Uuid,
        logs: JobLogsAfter,
    ) -> Result<(), PubsubError> {
        self.publish_json(&job_logs(job_id), &logs).await
    }

    /// Tells all workers that there is a job.
    ///
    /// # Errors
    ///
    /// As [`Pubsub::publish`].
    pub async fn publish_job_posted(&self, posted: &JobPosted) -> Result<(), PubsubError> {
        self.publish_json(JOB_POSTED, posted).await
    }

    async fn publish_json(
        &self,
        channel: &str,
        payload: &impl Serialize,
    ) -> Result<(), PubsubError> {
        // Cannot fail: these are plain structures with text keys.
        let payload = serde_json::to_string(payload).unwrap_or_default();
        self.publish(channel, &payload).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::pubsub::MAX_CHANNEL;

    const ID: Uuid = Uuid::from_u128(0x11);
    const AGENT: Uuid = Uuid::from_u128(0x22);

    #[test]
    fn names_are_upstreams_and_short_enough() {
        let id = "00000000-0000-0000-0000-000000000011";
        for (name, wanted) in [
            (workspace_owner(ID), format!("workspace_owner:{id}")),
            (agent_logs(ID), format!("agent-logs:{id}")),
            (job_logs(ID), format!("provisioner-log-logs:{id}")),
            (prebuild_claimed(ID), format!("prebuild_claimed_{id}")),
            (JOB_POSTED.to_owned(), "provisioner_job_posted".to_owned()),
        ] {
            assert_eq!(name, wanted);
            assert!(name.len() <= MAX_CHANNEL, "{name}");
        }
    }

    #[test]
    fn payloads_are_upstreams() {
        let json = |value: &dyn erased::Json| value.json();
        for (payload, wanted) in [
            (
                json(&WorkspaceEvent::state_change(ID)),
                r#"{"kind":"state_change","workspace_id":"00000000-0000-0000-0000-000000000011"}"#,
            ),
            (
                json(&WorkspaceEvent::agent(WorkspaceEventKind::AgentLifecycleUpdate, ID, AGENT)),
                r#"{"kind":"agt_lifecycle_update","workspace_id":"00000000-0000-0000-0000-000000000011","agent_id":"00000000-0000-0000-0000-000000000022"}"#,
            ),
            (json(&LogsAfter { created_after: 41 }), r#"{"created_after":41}"#),
            (
                json(&JobLogsAfter { created_after: 41, end_of_logs: false }),
                r#"{"created_after":41}"#,
            ),
            (
                json(&JobLogsAfter { created_after: 0, end_of_logs: true }),
                r#"{"created_after":0,"end_of_logs":true}"#,
            ),
        ] {
            assert_eq!(payload, wanted);
        }
    }

    #[test]
    fn what_is_no_workspace_event() {
        for payload in [
            "",
            "null",
            "[]",
            r#"{"kind":"state_change"}"#,
            r#"{"kind":"of_the_future","workspace_id":"00000000-0000-0000-0000-000000000011"}"#,
            r#"{"kind":"state_change","workspace_id":"not one"}"#,
        ] {
            assert!(WorkspaceEvent::parse(payload.as_bytes()).is_err(), "{payload}");
        }
        let read = WorkspaceEvent::parse(
            br#"{"kind":"state_change","workspace_id":"00000000-0000-0000-0000-000000000011","new":1,"agent_id":null}"#,
        )
        .unwrap();
        assert_eq!(read, WorkspaceEvent::state_change(ID));
    }

    mod erased {
        pub(super) trait Json {
            fn json(&self) -> String;
        }
        impl<T: serde::Serialize> Json for T {
            fn json(&self) -> String {
                serde_json::to_string(self).unwrap_or_default()
            }
        }
    }
}
