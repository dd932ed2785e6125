//! From the store to JSON.

use std::{collections::BTreeMap, time::Duration};

use uuid::Uuid;

use super::{
    error::ApiError,
    json::{self, Latency, OfWorkspace},
};
use crate::{
    model::{JobStatus, Timestamp, Workspace},
    state::State,
    store::{AgentDetails, BuildDetails, WorkspaceDetails},
};

/// The shortest time after which a silent agent counts as disconnected (`coderd/coderd.go`).
const SHORTEST_INACTIVITY: Duration = Duration::from_secs(2);

/// An agent as it is now.
pub(super) fn agent(state: &State, details: AgentDetails) -> json::Agent {
    let inactivity = (2 * state.config.agent_update_interval).max(SHORTEST_INACTIVITY);
    let latency = latency(state, details.agent.id);
    json::Agent::new(details, latency, inactivity, Timestamp::now())
}

/// How long it takes an agent to reach each relay, by the relay's name.
fn latency(state: &State, agent: Uuid) -> BTreeMap<String, Latency> {
    let Some(node) = state.coordinator.node(agent.into()) else { return BTreeMap::new() };
    let map = state.coordinator.derp_map();
    let map = map.borrow();
    let known = node.derp_latency.iter().filter_map(|(key, seconds)| {
        // `999-v4`: the region and the version of IP.
        let region: i32 = key.split('-').next()?.parse().ok()?;
        let name = match map.regions.get(&region) {
            Some(region) => region.name.clone(),
            None => format!("Unnamed {region}"),
        };
        let preferred = node.preferred_derp == region;
        Some((name, Latency { preferred, latency_ms: seconds * 1000.0 }))
    });
    known.collect()
}

/// A build as it is now.
pub(super) async fn build(
    state: &State,
    details: BuildDetails,
    of: OfWorkspace<'_>,
) -> Result<json::Build, ApiError> {
    let queue = match details.job.status() {
        JobStatus::Pending => state.store.queue_position(details.job.id).await?,
        JobStatus::Running
        | JobStatus::Succeeded
        | JobStatus::Canceling
        | JobStatus::Canceled
        | JobStatus::Failed => (0, 0),
    };
    Ok(json::Build::new(details, of, queue, |details| agent(state, details)))
}

/// A build by id, of this workspace.
pub(super) async fn build_by_id(
    state: &State,
    id: Uuid,
    workspace: &Workspace,
) -> Result<json::Build, ApiError> {
    let mut all = builds(state, &[id], workspace).await?;
    all.pop().ok_or_else(ApiError::not_found)
}

/// Builds by id, all of one workspace.
pub(super) async fn builds(
    state: &State,
    ids: &[Uuid],
    workspace: &Workspace,
) -> Result<Vec<json::Build>, ApiError> {
    let owner = state.store.user(workspace.owner_id).await?;
    let of = OfWorkspace {
        name: &workspace.name,
        owner_id: workspace.owner_id,
        owner_name: &owner.username,
    };
    let mut all = Vec::with_capacity(ids.len());
    for details in state.store.build_details(ids).await? {
        all.push(build(state, details, of).await?);
    }
    Ok(all)
}

/// A workspace as it is now.
pub(super) async fn workspace(
    state: &State,
    details: WorkspaceDetails,
) -> Result<json::Workspace, ApiError> {
    let WorkspaceDetails { workspace, owner_name, template, latest_build } = details;
    let of = OfWorkspace {
        name: &workspace.name,
        owner_id: workspace.owner_id,
        owner_name: &owner_name,
    };
    let version = latest_build.build.template_version_id;
    let latest_build = build(state, latest_build, of).await?;
    Ok(json::Workspace::new(workspace, owner_name, &template, version, latest_build))
}

/// A workspace by id.
pub(super) async fn workspace_by_id(state: &State, id: Uuid) -> Result<json::Workspace, ApiError> {
    let mut details = state.store.workspace_details(&[id]).await?;
    let details = details.pop().ok_or_else(ApiError::not_found)?;
    workspace(state, details).await
}
