//! `codersdk/workspaceagents.go`, `codersdk/workspaceapps.go`.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use uuid::Uuid;

use crate::{
    decide,
    model::{
        self, AgentLog, AgentStatus, AppHealth, DisplayApp, Lifecycle, LogLevel, LogSource,
        ScriptStatus, ScriptTiming, SharingLevel, Subsystem, Timestamp,
    },
    store::AgentDetails,
};

/// Where people are sent who have trouble with an agent of which the template says nothing.
const TROUBLESHOOTING: &str = "https://coder.com/docs/admin/templates/troubleshooting";

/// An agent.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Agent {
    pub id: Uuid,
    parent_id: Option<Uuid>,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_connected_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_connected_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnected_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ready_at: Option<Timestamp>,
    pub status: AgentStatus,
    lifecycle_state: Lifecycle,
    name: String,
    resource_id: Uuid,
    architecture: String,
    /// `null` for none, as Go writes a map that was never made.
    environment_variables: Option<BTreeMap<String, String>>,
    operating_system: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    directory: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    expanded_directory: String,
    logs_length: i64,
    logs_overflowed: bool,
    version: String,
    api_version: String,
    apps: Vec<App>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    latency: BTreeMap<String, Latency>,
    connection_timeout_seconds: u64,
    troubleshooting_url: String,
    subsystems: Vec<Subsystem>,
    health: Health,
    display_apps: Vec<DisplayApp>,
    log_sources: Vec<Source>,
    scripts: Vec<Script>,
    startup_script_behavior: &'static str,
}

/// How long it takes an agent to reach a relay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::http) struct Latency {
    pub preferred: bool,
    pub latency_ms: f64,
}

#[derive(Debug, Serialize)]
struct Health {
    healthy: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
}

#[derive(Debug, Serialize)]
struct Source {
    workspace_agent_id: Uuid,
    id: Uuid,
    created_at: Timestamp,
    display_name: String,
    icon: String,
}

#[derive(Debug, Serialize)]
struct Script {
    id: Uuid,
    log_source_id: Uuid,
    log_path: String,
    script: String,
    cron: String,
    run_on_start: bool,
    run_on_stop: bool,
    start_blocks_login: bool,
    /// Nanoseconds.
    timeout: u64,
    display_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<ScriptStatus>,
}

#[derive(Debug, Serialize)]
struct App {
    id: Uuid,
    #[serde(skip_serializing_if = "String::is_empty")]
    url: String,
    external: bool,
    slug: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    display_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    command: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    icon: String,
    subdomain: bool,
    sharing_level: SharingLevel,
    healthcheck: Healthcheck,
    health: AppHealth,
    hidden: bool,
    open_in: &'static str,
    statuses: [(); 0],
}

#[derive(Debug, Serialize)]
struct Healthcheck {
    url: String,
    /// Seconds.
    interval: u64,
    threshold: i32,
}

impl Agent {
    /// `latency`: by the relay's name, as the agent last told the coordinator; `inactivity`: how
    /// long after its last sign of life it counts as disconnected.
    pub(in crate::http) fn new(
        details: AgentDetails,
        latency: BTreeMap<String, Latency>,
        inactivity: Duration,
        now: Timestamp,
    ) -> Self {
        let AgentDetails { agent, scripts, timings, log_sources, apps } = details;
        let status = decide::agents::status(
            &decide::agents::Connection {
                created_at: agent.created_at,
                first_connected_at: agent.first_connected_at,
                last_connected_at: agent.last_connected_at,
                disconnected_at: agent.disconnected_at,
                connection_timeout: agent.spec.connection_timeout,
            },
            inactivity,
            now,
        );
        let health = Health::new(status, agent.lifecycle);
        let blocking = scripts.iter().any(|one| one.run_on_start && one.start_blocks_login);
        let scripts = scripts.into_iter().map(|script| Script::new(script, &timings)).collect();
        let log_sources = log_sources.into_iter().map(Source::new).collect();
        let apps = apps.into_iter().map(App::new).collect();
        let model::Agent { spec, .. } = agent;
        let troubleshooting_url = if spec.troubleshooting_url.is_empty() {
            TROUBLESHOOTING.to_owned()
        } else {
            spec.troubleshooting_url
        };
        Self {
            id: agent.id,
            parent_id: agent.parent_id,
            created_at: agent.created_at,
            updated_at: agent.updated_at,
            first_connected_at: agent.first_connected_at,
            last_connected_at: agent.last_connected_at,
            disconnected_at: agent.disconnected_at,
            started_at: agent.started_at,
            ready_at: agent.ready_at,
            status,
            lifecycle_state: agent.lifecycle,
            name: spec.name,
            resource_id: agent.resource_id,
            architecture: spec.architecture,
            environment_variables: Some(spec.environment).filter(|all| !all.is_empty()),
            operating_system: spec.operating_system,
            directory: spec.directory,
            expanded_directory: agent.expanded_directory,
            logs_length: agent.logs_length,
            logs_overflowed: agent.logs_overflowed,
            version: agent.version,
            api_version: agent.api_version,
            apps,
            latency,
            connection_timeout_seconds: spec.connection_timeout.map_or(0, |limit| limit.as_secs()),
            troubleshooting_url,
            subsystems: agent.subsystems,
            health,
            display_apps: spec.display_apps,
            log_sources,
            scripts,
            startup_script_behavior: if blocking { "blocking" } else { "non-blocking" },
        }
    }

    /// Whether it counts for the health of its workspace, and ails. A sub-agent is its parent's
    /// affair.
    pub(in crate::http) fn ails(&self) -> bool {
        self.parent_id.is_none() && !self.health.healthy
    }
}

impl Health {
    /// `coderd/database/db2sdk/db2sdk.go`. A script that took too long makes nobody ill.
    fn new(status: AgentStatus, lifecycle: Lifecycle) -> Self {
        let reason = match (status, lifecycle) {
            (
                AgentStatus::Connecting | AgentStatus::Timeout | AgentStatus::Disconnected,
                Lifecycle::Off,
            ) => "agent is not running",
            (AgentStatus::Connecting, _) => "agent has not yet connected",
            (AgentStatus::Timeout, _) => "agent is taking too long to connect",
            (AgentStatus::Disconnected, _) => "agent has lost connection",
            (AgentStatus::Connected, Lifecycle::StartError) => {
                "agent startup script exited with an error"
            }
            (
                AgentStatus::Connected,
                Lifecycle::ShuttingDown
                | Lifecycle::ShutdownTimeout
                | Lifecycle::ShutdownError
                | Lifecycle::Off,
            ) => "agent is shutting down",
            (
                AgentStatus::Connected,
                Lifecycle::Created
                | Lifecycle::Starting
                | Lifecycle::StartTimeout
                | Lifecycle::Ready,
            ) => "",
        };
        Self { healthy: reason.is_empty(), reason }
    }
}

impl Source {
    fn new(source: LogSource) -> Self {
        Self {
            workspace_agent_id: source.agent_id,
            id: source.id,
            created_at: source.created_at,
            display_name: source.display_name,
            icon: source.icon,
        }
    }
}

impl Script {
    fn new(script: model::AgentScript, timings: &[ScriptTiming]) -> Self {
        let last = timings
            .iter()
            .filter(|timing| timing.script_id == script.id)
            .max_by_key(|timing| timing.ended_at);
        Self {
            id: script.id,
            log_source_id: script.log_source_id,
            log_path: script.log_path,
            script: script.script,
            cron: script.cron,
            run_on_start: script.run_on_start,
            run_on_stop: script.run_on_stop,
            start_blocks_login: script.start_blocks_login,
            timeout: u64::try_from(script.timeout.as_nanos()).unwrap_or(u64::MAX),
            display_name: script.display_name,
            exit_code: last.map(|timing| timing.exit_code),
            status: last.map(|timing| timing.status),
        }
    }
}

impl App {
    fn new(app: model::App) -> Self {
        Self {
            id: app.id,
            url: app.url,
            external: app.external,
            slug: app.slug,
            display_name: app.display_name,
            command: app.command,
            icon: app.icon,
            subdomain: app.subdomain,
            sharing_level: app.sharing_level,
            healthcheck: Healthcheck {
                url: app.healthcheck_url,
                interval: app.healthcheck_interval.as_secs(),
                threshold: app.healthcheck_threshold,
            },
            health: app.health,
            hidden: app.hidden,
            open_in: "slim-window",
            statuses: [],
        }
    }
}

/// A line of an agent's log.
#[derive(Debug, Serialize)]
pub(in crate::http) struct AgentLogLine {
    id: i64,
    created_at: Timestamp,
    output: String,
    level: LogLevel,
    source_id: Uuid,
}

impl From<AgentLog> for AgentLogLine {
    fn from(log: AgentLog) -> Self {
        Self {
            id: log.id,
            created_at: log.created_at,
            output: log.output,
            level: log.level,
            source_id: log.source_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_of_every_state() {
        use AgentStatus::{Connected, Connecting, Disconnected, Timeout};
        for lifecycle in Lifecycle::ALL.iter().copied() {
            let off = lifecycle == Lifecycle::Off;
            for (status, reason) in [
                (Connecting, "agent has not yet connected"),
                (Timeout, "agent is taking too long to connect"),
                (Disconnected, "agent has lost connection"),
            ] {
                let wanted = if off { "agent is not running" } else { reason };
                assert_eq!(Health::new(status, lifecycle).reason, wanted, "{status} {lifecycle}");
            }
        }
        for (lifecycle, reason) in [
            (Lifecycle::Created, ""),
            (Lifecycle::Starting, ""),
            (Lifecycle::StartTimeout, ""),
            (Lifecycle::StartError, "agent startup script exited with an error"),
            (Lifecycle::Ready, ""),
            (Lifecycle::ShuttingDown, "agent is shutting down"),
            (Lifecycle::ShutdownTimeout, "agent is shutting down"),
            (Lifecycle::ShutdownError, "agent is shutting down"),
            (Lifecycle::Off, "agent is shutting down"),
        ] {
            let health = Health::new(Connected, lifecycle);
            assert_eq!((health.reason, health.healthy), (reason, reason.is_empty()), "{lifecycle}");
        }
    }
}
