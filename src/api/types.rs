//! What the control plane says, as far as it is read (coder/coder: codersdk/workspaces.go,
//! workspacebuilds.go, workspaceagents.go). Fields that differ between releases may be absent, and
//! words that may be new stay words.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

/// A workspace and its latest build.
#[derive(Debug, Clone, Deserialize)]
pub struct Workspace {
    /// Its id, the same for its whole life.
    pub id: Uuid,
    /// Its name; may be changed.
    pub name: String,
    /// Whose it is.
    #[serde(default)]
    pub owner_name: String,
    /// From which template.
    #[serde(default)]
    pub template_name: String,
    /// The template's current version.
    #[serde(default)]
    pub template_active_version_id: Uuid,
    /// Whether only the current version may be started.
    #[serde(default)]
    pub template_require_active_version: bool,
    /// `always` or `never`.
    #[serde(default)]
    pub automatic_updates: String,
    /// The latest build.
    pub latest_build: Build,
    /// Whether the latest build is of an older version than the current one.
    #[serde(default)]
    pub outdated: bool,
    /// Since when it is dormant, if it is.
    #[serde(default)]
    pub dormant_at: Option<Timestamp>,
    /// Whether its agents are well.
    #[serde(default)]
    pub health: Health,
}

/// Whether a workspace's agents are well.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Health {
    /// All of them.
    #[serde(default)]
    pub healthy: bool,
}

/// A build: one start, stop or delete of a workspace.
#[derive(Debug, Clone, Deserialize)]
pub struct Build {
    /// Its id.
    pub id: Uuid,
    /// 1 for the first.
    #[serde(default)]
    pub build_number: u64,
    /// `start`, `stop` or `delete`.
    pub transition: String,
    /// `pending`, `starting`, `running`, `stopping`, `stopped`, `failed`, …
    #[serde(default)]
    pub status: String,
    /// The template version that it is made of.
    #[serde(default)]
    pub template_version_id: Uuid,
    /// The job that makes it.
    pub job: Job,
    /// What it made.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub resources: Vec<Resource>,
    /// When autostop stops the workspace.
    #[serde(default)]
    pub deadline: Option<Timestamp>,
    /// When it was asked for.
    #[serde(default)]
    pub created_at: Option<Timestamp>,
}

/// The provisioner job of a build.
#[derive(Debug, Clone, Deserialize)]
pub struct Job {
    /// `pending`, `running`, `succeeded`, `canceling`, `canceled`, `failed`, `unknown`, …
    pub status: String,
    /// Why it failed. Not to be printed unescaped.
    #[serde(default)]
    pub error: Option<String>,
    /// Place in the queue, 0 when it is in none.
    #[serde(default)]
    pub queue_position: u32,
}

/// Something that a build made.
#[derive(Debug, Clone, Deserialize)]
pub struct Resource {
    /// The agents on it.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub agents: Vec<Agent>,
}

/// An agent. Its id is new with every build.
#[derive(Debug, Clone, Deserialize)]
pub struct Agent {
    /// Its id.
    pub id: Uuid,
    /// The agent whose dev container it is in, if it is.
    #[serde(default)]
    pub parent_id: Option<Uuid>,
    /// Its name.
    pub name: String,
    /// `connecting`, `connected`, `disconnected`, `timeout`.
    #[serde(default)]
    pub status: String,
    /// `created`, `starting`, `ready`, …
    #[serde(default)]
    pub lifecycle_state: String,
    /// `linux`, `darwin`, `windows`.
    #[serde(default)]
    pub operating_system: String,
    /// `amd64`, `arm64`, …
    #[serde(default)]
    pub architecture: String,
    /// Which release it is of; empty until it has connected.
    #[serde(default)]
    pub version: String,
    /// The directory that sessions begin in, as the agent told; empty for its home.
    #[serde(default)]
    pub expanded_directory: String,
    /// Its scripts.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub scripts: Vec<Script>,
    /// Who writes to its log.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub log_sources: Vec<LogSource>,
    /// Where to read about trouble with it.
    #[serde(default)]
    pub troubleshooting_url: String,
}

/// A script of an agent.
#[derive(Debug, Clone, Deserialize)]
pub struct Script {
    /// Whether it runs at start.
    #[serde(default)]
    pub run_on_start: bool,
    /// Whether logins should wait for it.
    #[serde(default)]
    pub start_blocks_login: bool,
}

/// Who writes to an agent's log.
#[derive(Debug, Clone, Deserialize)]
pub struct LogSource {
    /// Its id.
    pub id: Uuid,
    /// Its name for people. Not to be printed unescaped.
    #[serde(default)]
    pub display_name: String,
}

/// How an agent is reached.
#[derive(Debug, Clone, Deserialize)]
pub struct ConnectionInfo {
    /// The relay map, in Tailscale's spelling.
    pub derp_map: serde_json::Value,
    /// Whether relays are to be reached by WebSocket only.
    #[serde(default)]
    pub derp_force_websockets: bool,
    /// Whether the deployment forbids direct paths.
    #[serde(default)]
    pub disable_direct_connections: bool,
}

/// What a deployment says of itself.
#[derive(Debug, Clone, Deserialize)]
pub struct BuildInfo {
    /// `v2.35.0`, perhaps with `-devel+…` or `-rc.1`.
    pub version: String,
}

impl Build {
    /// The agents that it made.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.resources.iter().flat_map(|resource| &resource.agents)
    }
}

impl Workspace {
    /// The agents of the latest build.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.latest_build.agents()
    }

    /// The template's active version, where the latest build is of another.
    #[must_use]
    pub fn newer_version(&self) -> Option<Uuid> {
        let active = self.template_active_version_id;
        (active != self.latest_build.template_version_id && !active.is_nil()).then_some(active)
    }

    /// Whether a start is to use the template's active version.
    #[must_use]
    pub fn wants_newest(&self) -> bool {
        self.template_require_active_version || self.automatic_updates == "always"
    }
}

impl Agent {
    /// The names of those who write to its log.
    #[must_use]
    pub fn log_names(&self) -> BTreeMap<Uuid, String> {
        let source = |source: &LogSource| (source.id, source.display_name.clone());
        self.log_sources.iter().map(source).collect()
    }

    /// Whether any of its scripts wants logins to wait.
    #[must_use]
    pub fn blocks_login(&self) -> bool {
        self.scripts.iter().any(|script| script.start_blocks_login)
    }
}

/// Go writes an empty list as `null`.
pub(super) fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_workspace_is_read() {
        let recorded: serde_json::Value =
            serde_json::from_str(include_str!("fixtures/workspace.json")).unwrap();
        let workspace: Workspace = serde_json::from_value(recorded).unwrap();
        assert_eq!(workspace.name, "dev");
        assert_eq!(workspace.latest_build.build_number, 3);
        assert_eq!(workspace.latest_build.job.status, "succeeded");
        let agent = workspace.agents().next().unwrap();
        assert_eq!((agent.name.as_str(), agent.status.as_str()), ("main", "connected"));
        assert!(!agent.blocks_login());
        assert!(workspace.dormant_at.is_none());
    }

    #[test]
    fn the_least_that_an_old_server_says_is_enough() {
        let text = r#"{"id":"99020e73-89e4-4b47-92b4-cfa51f29fd20","name":"dev","latest_build":
            {"id":"d1d047ca-9c58-4093-9964-900d931d963b","transition":"start",
             "job":{"status":"frobnicating"},"resources":null}}"#;
        let workspace: Workspace = serde_json::from_str(text).unwrap();
        assert_eq!(workspace.agents().count(), 0);
        assert_eq!(workspace.latest_build.job.status, "frobnicating");
    }
}
