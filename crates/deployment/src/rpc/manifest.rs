//! What an agent is told of itself, as a message. Built anew for every call.

use std::time::Duration;

use coderctl_drpc::proto::{
    agent::{
        Manifest, WorkspaceAgentScript, WorkspaceApp, workspace_agent_metadata::Description,
        workspace_app,
    },
    tailnet::DerpMap,
};
use uuid::Uuid;

use crate::model::{
    Agent, AgentScript, App, AppHealth, MetadataDescription, SharingLevel, Workspace,
};

/// What a manifest is made of.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    /// The agent's row.
    pub(super) agent: &'a Agent,
    /// Its workspace.
    pub(super) workspace: &'a Workspace,
    /// The name of the workspace's owner.
    pub(super) owner: &'a str,
    /// Its scripts.
    pub(super) scripts: &'a [AgentScript],
    /// Its apps.
    pub(super) apps: &'a [App],
    /// What it is to report.
    pub(super) metadata: &'a [MetadataDescription],
    /// Where the relays are.
    pub(super) derp_map: DerpMap,
}

/// The manifest.
pub(super) fn manifest(parts: Parts<'_>) -> Manifest {
    let Parts { agent, workspace, owner, scripts, apps, metadata, derp_map } = parts;
    Manifest {
        agent_id: bytes(agent.id),
        // No git providers.
        git_auth_configs: 0,
        environment_variables: agent.spec.environment.clone(),
        directory: agent.spec.directory.clone(),
        // There are no wildcard hosts.
        vs_code_port_proxy_uri: String::new(),
        motd_path: agent.spec.motd_file.clone(),
        disable_direct_connections: false,
        derp_force_websockets: false,
        derp_map: Some(derp_map),
        scripts: scripts.iter().map(script).collect(),
        apps: apps.iter().map(app).collect(),
        metadata: metadata.iter().map(description).collect(),
        owner_username: owner.to_owned(),
        workspace_id: bytes(workspace.id),
        agent_name: agent.spec.name.clone(),
        workspace_name: workspace.name.clone(),
        devcontainers: Vec::new(),
        parent_id: agent.parent_id.map(bytes),
        secrets: Vec::new(),
    }
}

fn script(script: &AgentScript) -> WorkspaceAgentScript {
    WorkspaceAgentScript {
        log_source_id: bytes(script.log_source_id),
        log_path: script.log_path.clone(),
        script: script.script.clone(),
        cron: script.cron.clone(),
        run_on_start: script.run_on_start,
        run_on_stop: script.run_on_stop,
        start_blocks_login: script.start_blocks_login,
        timeout: Some(duration(script.timeout)),
        display_name: script.display_name.clone(),
        id: bytes(script.id),
    }
}

fn app(app: &App) -> WorkspaceApp {
    use workspace_app::{Health, Healthcheck, SharingLevel as Sharing};
    let sharing = match app.sharing_level {
        SharingLevel::Owner => Sharing::Owner,
        SharingLevel::Authenticated => Sharing::Authenticated,
        SharingLevel::Organization => Sharing::Organization,
        SharingLevel::Public => Sharing::Public,
    };
    let health = match app.health {
        AppHealth::Disabled => Health::Disabled,
        AppHealth::Initializing => Health::Initializing,
        AppHealth::Healthy => Health::Healthy,
        AppHealth::Unhealthy => Health::Unhealthy,
    };
    WorkspaceApp {
        id: bytes(app.id),
        url: app.url.clone(),
        external: app.external,
        slug: app.slug.clone(),
        display_name: app.display_name.clone(),
        command: app.command.clone(),
        icon: app.icon.clone(),
        subdomain: app.subdomain,
        // Named after a wildcard host, of which there is none.
        subdomain_name: String::new(),
        sharing_level: sharing.into(),
        healthcheck: Some(Healthcheck {
            url: app.healthcheck_url.clone(),
            interval: Some(duration(app.healthcheck_interval)),
            threshold: app.healthcheck_threshold,
        }),
        health: health.into(),
        hidden: app.hidden,
    }
}

fn description(metadata: &MetadataDescription) -> Description {
    Description {
        display_name: metadata.display_name.clone(),
        key: metadata.key.clone(),
        script: metadata.script.clone(),
        interval: Some(seconds_as_nanos(metadata.interval)),
        timeout: Some(seconds_as_nanos(metadata.timeout)),
    }
}

/// A UUID as messages carry it: its 16 bytes.
pub(super) fn bytes(id: Uuid) -> Vec<u8> {
    id.as_bytes().to_vec()
}

/// A duration as messages carry it; one that is too long becomes the longest.
pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration)
        .unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
}

/// Metadata's durations carry their seconds in the place of nanoseconds
/// (coder/coder: coderd/agentapi/manifest.go): 10 s travels as 10 ns.
fn seconds_as_nanos(seconds: Duration) -> prost_types::Duration {
    duration(Duration::from_nanos(seconds.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_travel_as_nanoseconds_in_metadata_only() {
        let metadata = MetadataDescription {
            key: "load".to_owned(),
            display_name: "Load".to_owned(),
            script: "uptime".to_owned(),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(3),
        };
        let description = description(&metadata);
        assert_eq!(description.interval, Some(prost_types::Duration { seconds: 0, nanos: 10 }));
        assert_eq!(description.timeout, Some(prost_types::Duration { seconds: 0, nanos: 3 }));
        let script = script(&AgentScript {
            id: Uuid::from_u128(1),
            log_source_id: Uuid::from_u128(2),
            display_name: "a".to_owned(),
            icon: String::new(),
            log_path: String::new(),
            script: "true".to_owned(),
            cron: String::new(),
            run_on_start: true,
            run_on_stop: false,
            start_blocks_login: true,
            timeout: Duration::from_millis(1500),
        });
        assert_eq!(script.timeout, Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }));
        assert_eq!((script.id.len(), script.log_source_id.len()), (16, 16));
    }

    #[test]
    fn a_go_agent_finds_all_that_it_insists_on_in_an_app() {
        let app = app(&App {
            id: Uuid::from_u128(1),
            slug: "web".to_owned(),
            display_name: "Web".to_owned(),
            icon: String::new(),
            command: String::new(),
            url: "http://localhost:8080".to_owned(),
            external: false,
            subdomain: false,
            sharing_level: SharingLevel::Owner,
            healthcheck_url: String::new(),
            healthcheck_interval: Duration::ZERO,
            healthcheck_threshold: 0,
            health: AppHealth::Disabled,
            hidden: false,
        });
        assert_eq!(app.sharing_level(), workspace_app::SharingLevel::Owner);
        assert_eq!(app.health(), workspace_app::Health::Disabled);
        assert!(app.healthcheck.is_some());
    }
}
