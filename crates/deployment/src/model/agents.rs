//! Workspace agents: one row for each agent of each build.

use std::{collections::BTreeMap, time::Duration};

use uuid::{Uuid, uuid};

use super::{LogLevel, Timestamp, hex, sha256, words};

words! {
    /// What an agent says of its scripts (`codersdk/workspaceagents.go`). The order is the one in
    /// which an agent goes through them.
    pub enum Lifecycle ("agent lifecycle state") {
        /// The row was made.
        Created = "created",
        /// The start scripts run.
        Starting = "starting",
        /// One of them took too long.
        StartTimeout = "start_timeout",
        /// One of them failed.
        StartError = "start_error",
        /// All of them succeeded.
        Ready = "ready",
        /// The stop scripts run.
        ShuttingDown = "shutting_down",
        /// One of them took too long.
        ShutdownTimeout = "shutdown_timeout",
        /// One of them failed.
        ShutdownError = "shutdown_error",
        /// It is over.
        Off = "off",
    }
}

words! {
    /// Whether an agent is connected; follows from times, see `decide::agents`.
    pub enum AgentStatus ("agent status") {
        /// Has never been.
        Connecting = "connecting",
        /// Is.
        Connected = "connected",
        /// Was.
        Disconnected = "disconnected",
        /// Has never been, and should long be.
        Timeout = "timeout",
    }
}

words! {
    /// What an agent runs in.
    pub enum Subsystem ("agent subsystem") {
        /// envbox.
        Envbox = "envbox",
        /// envbuilder.
        Envbuilder = "envbuilder",
        /// exectrace.
        Exectrace = "exectrace",
    }
}

words! {
    /// What the dashboard offers of an agent.
    pub enum DisplayApp ("display app") {
        /// VS Code.
        Vscode = "vscode",
        /// VS Code Insiders.
        VscodeInsiders = "vscode_insiders",
        /// A terminal.
        WebTerminal = "web_terminal",
        /// Port forwarding.
        PortForwardingHelper = "port_forwarding_helper",
        /// The command line to connect.
        SshHelper = "ssh_helper",
    }
}

words! {
    /// How well an app is (`codersdk/workspaceapps.go`).
    pub enum AppHealth ("app health") {
        /// It is not looked at.
        Disabled = "disabled",
        /// It was not looked at yet.
        Initializing = "initializing",
        /// It answers.
        Healthy = "healthy",
        /// It does not.
        Unhealthy = "unhealthy",
    }
}

words! {
    /// Who may reach an app.
    pub enum SharingLevel ("app sharing level") {
        /// The owner.
        Owner = "owner",
        /// Every user.
        Authenticated = "authenticated",
        /// Every user of the organization.
        Organization = "organization",
        /// Everybody.
        Public = "public",
    }
}

words! {
    /// When a script ran.
    pub enum ScriptStage ("script stage") {
        /// At the start.
        Start = "start",
        /// At the end.
        Stop = "stop",
        /// By its schedule.
        Cron = "cron",
    }
}

words! {
    /// How a script ended.
    pub enum ScriptStatus ("script status") {
        /// Well.
        Ok = "ok",
        /// With a status other than 0.
        ExitFailure = "exit_failure",
        /// It took too long.
        TimedOut = "timed_out",
        /// It ended, but something holds its output.
        PipesLeftOpen = "pipes_left_open",
    }
}

words! {
    /// How somebody was connected to an agent.
    pub enum ConnectionType ("connection type") {
        /// SSH.
        Ssh = "ssh",
        /// VS Code.
        Vscode = "vscode",
        /// JetBrains.
        Jetbrains = "jetbrains",
        /// A terminal in a browser.
        ReconnectingPty = "reconnecting_pty",
    }
}

/// The token of an agent: a UUID. It is never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AgentToken(Uuid);

impl AgentToken {
    /// A new one: 122 random bits.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }

    /// Reads one; any form of a UUID.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::parse_str(text).ok().map(Self)
    }

    /// Takes the UUID.
    #[must_use]
    pub fn from_uuid(token: Uuid) -> Self {
        Self(token)
    }

    /// The UUID, for the agent itself.
    #[must_use]
    pub fn expose(self) -> Uuid {
        self.0
    }

    /// What it is found by: SHA-256 in hex. So the time of a lookup tells nothing of the token.
    #[must_use]
    pub fn lookup(self) -> String {
        hex(&sha256(self.0.as_bytes()))
    }
}

impl std::fmt::Debug for AgentToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What a template says of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentSpec {
    /// Its name; unique within the build.
    pub name: String,
    /// `linux`, …
    pub operating_system: String,
    /// `amd64`, …
    pub architecture: String,
    /// Where it works, unexpanded; may be empty.
    pub directory: String,
    /// Its environment, unexpanded.
    pub environment: BTreeMap<String, String>,
    /// A file to greet with; may be empty.
    pub motd_file: String,
    /// After how long without a first connection it counts as timed out; none for never. Whole
    /// seconds.
    pub connection_timeout: Option<Duration>,
    /// Where to read on about trouble; may be empty.
    pub troubleshooting_url: String,
    /// What the dashboard offers.
    pub display_apps: Vec<DisplayApp>,
}

/// An agent of one build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its id: another for each build.
    pub id: Uuid,
    /// The agent that made it, for a sub-agent.
    pub parent_id: Option<Uuid>,
    /// The resource that it runs on.
    pub resource_id: Uuid,
    /// The build that made it.
    pub build_id: Uuid,
    /// The workspace that it is of.
    pub workspace_id: Uuid,
    /// What it shows who it is by. A claim build has the token of the first build.
    pub auth_token: AgentToken,
    /// What the template says of it.
    pub spec: AgentSpec,
    /// Whether it is gone (sub-agents only).
    pub deleted: bool,
    /// What it says of its scripts.
    pub lifecycle: Lifecycle,
    /// When the start scripts began.
    pub started_at: Option<Timestamp>,
    /// When they ended.
    pub ready_at: Option<Timestamp>,
    /// When it connected first.
    pub first_connected_at: Option<Timestamp>,
    /// When it was last known to be connected.
    pub last_connected_at: Option<Timestamp>,
    /// When it disconnected.
    pub disconnected_at: Option<Timestamp>,
    /// Which replica it is, or was, connected to.
    pub replica_id: Option<Uuid>,
    /// Its version, with a leading `v`; empty until it says so.
    pub version: String,
    /// The API version that it asked for; empty until it says so.
    pub api_version: String,
    /// Where it works, expanded; empty until it says so.
    pub expanded_directory: String,
    /// What it runs in.
    pub subsystems: Vec<Subsystem>,
    /// Bytes of its log.
    pub logs_length: i64,
    /// Whether lines were left out of its log.
    pub logs_overflowed: bool,
    /// When the row was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

/// An agent to be made with a build's success.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAgent {
    /// Its id.
    pub id: Uuid,
    /// Its token; for a claim build that of the agent of this name in the first build.
    pub auth_token: AgentToken,
    /// What the template says of it.
    pub spec: AgentSpec,
    /// Its scripts; each gets a log source.
    pub scripts: Vec<AgentScript>,
    /// Its apps.
    pub apps: Vec<App>,
    /// What it is to report.
    pub metadata: Vec<MetadataDescription>,
}

/// A script of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentScript {
    /// Its id.
    pub id: Uuid,
    /// The log source of its lines.
    pub log_source_id: Uuid,
    /// Its name for people.
    pub display_name: String,
    /// A picture; may be empty.
    pub icon: String,
    /// Where its output is kept on the agent's side; may be empty.
    pub log_path: String,
    /// What is run.
    pub script: String,
    /// When, beside start and stop; may be empty.
    pub cron: String,
    /// Whether it is run at the start.
    pub run_on_start: bool,
    /// Whether it is run at the end.
    pub run_on_stop: bool,
    /// Whether a login waits for it.
    pub start_blocks_login: bool,
    /// How long it may take; zero for ever. Whole milliseconds.
    pub timeout: Duration,
}

/// How a script went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptTiming {
    /// Which script.
    pub script_id: Uuid,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Its status.
    pub exit_code: i32,
    /// When it ran.
    pub stage: ScriptStage,
    /// How it ended.
    pub status: ScriptStatus,
}

/// Where lines of an agent's log come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSource {
    /// Its id; unique within the agent.
    pub id: Uuid,
    /// Of which agent.
    pub agent_id: Uuid,
    /// Its name for people.
    pub display_name: String,
    /// A picture; may be empty.
    pub icon: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The log source of lines that name none (`coderd/agentapi/logs.go`).
pub const EXTERNAL_LOG_SOURCE: Uuid = uuid!("3b579bf4-1ed8-4b99-87a8-e9a1e3410410");
/// Its name for people.
pub const EXTERNAL_LOG_SOURCE_NAME: &str = "External";

/// An app of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Its id.
    pub id: Uuid,
    /// Its name in URLs; unique within the agent.
    pub slug: String,
    /// Its name for people.
    pub display_name: String,
    /// A picture; may be empty.
    pub icon: String,
    /// What is run; may be empty.
    pub command: String,
    /// Where it is, on the agent's side; may be empty.
    pub url: String,
    /// Whether the URL is one for the browser.
    pub external: bool,
    /// Whether it has a host name of its own.
    pub subdomain: bool,
    /// Who may reach it.
    pub sharing_level: SharingLevel,
    /// What is asked to see how well it is; empty for nothing.
    pub healthcheck_url: String,
    /// How often. Whole seconds.
    pub healthcheck_interval: Duration,
    /// How many failures in a row make it unhealthy.
    pub healthcheck_threshold: i32,
    /// How well it is.
    pub health: AppHealth,
    /// Whether it is not shown.
    pub hidden: bool,
}

/// What an agent is to report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataDescription {
    /// Its key; unique within the agent.
    pub key: String,
    /// Its name for people.
    pub display_name: String,
    /// What is run to know it.
    pub script: String,
    /// How often. Whole seconds.
    pub interval: Duration,
    /// How long it may take. Whole seconds.
    pub timeout: Duration,
}

/// What an agent reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadatum {
    /// What was asked for.
    pub description: MetadataDescription,
    /// The value; empty until it is known.
    pub value: String,
    /// What went wrong; empty if nothing.
    pub error: String,
    /// When; none until it is known.
    pub collected_at: Option<Timestamp>,
}

/// A report for one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataReport {
    /// Its key.
    pub key: String,
    /// The value.
    pub value: String,
    /// What went wrong; empty if nothing.
    pub error: String,
}

/// A line of an agent's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentLog {
    /// Higher for each later line of the same agent.
    pub id: i64,
    /// When.
    pub created_at: Timestamp,
    /// How much it matters.
    pub level: LogLevel,
    /// Where it comes from.
    pub source_id: Uuid,
    /// The line, without its end.
    pub output: String,
}

/// A line to be added to an agent's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAgentLog {
    /// When.
    pub created_at: Timestamp,
    /// How much it matters.
    pub level: LogLevel,
    /// The line, without its end.
    pub output: String,
}

/// Somebody who is, or was, connected to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLog {
    /// The agent's id for the connection.
    pub id: Uuid,
    /// Which agent.
    pub agent_id: Uuid,
    /// How.
    pub kind: ConnectionType,
    /// From where, without a port; may be empty.
    pub ip: String,
    /// With which app; may be empty.
    pub app_name: String,
    /// Since when.
    pub connected_at: Option<Timestamp>,
    /// Until when.
    pub disconnected_at: Option<Timestamp>,
    /// With which status it ended.
    pub exit_code: Option<i32>,
    /// Why it ended; may be empty.
    pub reason: String,
}
