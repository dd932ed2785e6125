//! Agents that an agent makes (coder/coder: coderd/agentapi/subagent.go).

use std::time::Duration;

use coderctl_drpc::proto::agent::{
    CreateSubAgentRequest, CreateSubAgentResponse, ListSubAgentsResponse, SubAgent,
    create_sub_agent_request as request, create_sub_agent_response::AppCreationError,
};
use uuid::Uuid;

use super::{
    calls::{Caller, Failure},
    manifest::bytes,
    rules::{self, Refused},
};
use crate::{
    model::{
        Agent, AgentSpec, AgentToken, App, AppHealth, DisplayApp, NewAgent, SharingLevel, Timestamp,
    },
    provisioner::template::Name,
};

/// Apps of one sub-agent; a devcontainer declares a handful.
const MAX_APPS: usize = 64;

/// Makes one, with a token of its own.
pub(super) async fn create(
    caller: &Caller,
    asked: CreateSubAgentRequest,
) -> Result<CreateSubAgentResponse, Failure> {
    if asked.id.is_some() {
        // Templates here declare none.
        return Err(Refused("there is no sub-agent with this id to be updated".to_owned()).into());
    }
    let name = Name::try_from(asked.name.clone()).map_err(Refused)?;
    if asked.apps.len() > MAX_APPS {
        return Err(Refused(format!("more than {MAX_APPS} apps")).into());
    }
    let mut errors = Vec::new();
    let mut apps: Vec<App> = Vec::new();
    for (index, wanted) in asked.apps.iter().enumerate() {
        match app(wanted, &apps) {
            Ok(app) => apps.push(app),
            Err((field, error)) => errors.push(AppCreationError {
                index: i32::try_from(index).unwrap_or(i32::MAX),
                field: Some(field.to_owned()),
                error,
            }),
        }
    }
    let new = NewAgent {
        id: Uuid::new_v4(),
        auth_token: AgentToken::generate(),
        spec: AgentSpec {
            name: name.as_str().to_owned(),
            operating_system: asked.operating_system.clone(),
            architecture: asked.architecture.clone(),
            directory: asked.directory.clone(),
            display_apps: asked.display_apps().map(display_app).collect(),
            ..AgentSpec::default()
        },
        scripts: Vec::new(),
        apps,
        metadata: Vec::new(),
    };
    let store = &caller.state.store;
    let made = store.create_sub_agent(caller.agent, &new, Timestamp::now()).await?;
    Ok(CreateSubAgentResponse { agent: Some(message(&made)), app_creation_errors: errors })
}

/// Deletes one of this agent's own.
pub(super) async fn delete(caller: &Caller, id: &[u8]) -> Result<(), Failure> {
    let id = rules::id(id, "the sub-agent's id")?;
    caller.state.store.delete_sub_agent(caller.agent, id, Timestamp::now()).await?;
    Ok(())
}

/// This agent's own.
pub(super) async fn list(caller: &Caller) -> Result<ListSubAgentsResponse, Failure> {
    let agents = caller.state.store.sub_agents(caller.agent).await?;
    Ok(ListSubAgentsResponse { agents: agents.iter().map(message).collect() })
}

fn message(agent: &Agent) -> SubAgent {
    SubAgent {
        name: agent.spec.name.clone(),
        id: bytes(agent.id),
        auth_token: bytes(agent.auth_token.expose()),
    }
}

fn display_app(app: request::DisplayApp) -> DisplayApp {
    match app {
        request::DisplayApp::Vscode => DisplayApp::Vscode,
        request::DisplayApp::VscodeInsiders => DisplayApp::VscodeInsiders,
        request::DisplayApp::WebTerminal => DisplayApp::WebTerminal,
        request::DisplayApp::SshHelper => DisplayApp::SshHelper,
        request::DisplayApp::PortForwardingHelper => DisplayApp::PortForwardingHelper,
    }
}

/// An app, or which field of it is wrong and why.
fn app(wanted: &request::App, before: &[App]) -> Result<App, (&'static str, String)> {
    use request::app::SharingLevel as Share;
    let slug = Name::try_from(wanted.slug.clone()).map_err(|why| ("slug", why))?;
    let slug = slug.as_str().to_owned();
    if before.iter().any(|app| app.slug == slug) {
        return Err(("slug", format!("{slug:?} is there twice")));
    }
    let sharing_level = match wanted.share() {
        Share::Owner => SharingLevel::Owner,
        Share::Authenticated => SharingLevel::Authenticated,
        Share::Public => SharingLevel::Public,
        Share::Organization => SharingLevel::Organization,
    };
    let check = wanted.healthcheck.as_ref().filter(|check| !check.url.is_empty());
    let seconds = check.map_or(0, |check| u64::try_from(check.interval).unwrap_or(0));
    Ok(App {
        id: Uuid::new_v4(),
        display_name: wanted.display_name.clone().unwrap_or_else(|| slug.clone()),
        slug,
        icon: wanted.icon.clone().unwrap_or_default(),
        command: wanted.command.clone().unwrap_or_default(),
        url: wanted.url.clone().unwrap_or_default(),
        external: wanted.external.unwrap_or_default(),
        subdomain: wanted.subdomain.unwrap_or_default(),
        sharing_level,
        healthcheck_url: check.map(|check| check.url.clone()).unwrap_or_default(),
        healthcheck_interval: Duration::from_secs(seconds),
        healthcheck_threshold: check.map_or(0, |check| check.threshold),
        health: if check.is_some() { AppHealth::Initializing } else { AppHealth::Disabled },
        hidden: wanted.hidden.unwrap_or_default(),
    })
}
