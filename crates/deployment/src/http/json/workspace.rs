//! `codersdk/workspaces.go`.

use serde::Serialize;
use uuid::Uuid;

use super::{Build, ORGANIZATION, ORGANIZATION_ID};
use crate::model::{self, AutomaticUpdates, Timestamp};

/// A workspace and its latest build.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Workspace {
    pub id: Uuid,
    created_at: Timestamp,
    updated_at: Timestamp,
    owner_id: Uuid,
    owner_name: String,
    owner_avatar_url: &'static str,
    organization_id: Uuid,
    organization_name: &'static str,
    template_id: Uuid,
    template_name: String,
    template_display_name: String,
    template_icon: &'static str,
    template_allow_user_cancel_workspace_jobs: bool,
    template_active_version_id: Uuid,
    template_require_active_version: bool,
    template_use_classic_parameter_flow: bool,
    pub latest_build: Build,
    latest_app_status: Option<()>,
    outdated: bool,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    autostart_schedule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    last_used_at: Timestamp,
    deleting_at: Option<Timestamp>,
    dormant_at: Option<Timestamp>,
    health: Health,
    automatic_updates: AutomaticUpdates,
    allow_renames: bool,
    favorite: bool,
    next_start_at: Option<Timestamp>,
    is_prebuild: bool,
    task_id: Option<Uuid>,
}

#[derive(Debug, Serialize)]
struct Health {
    healthy: bool,
    failing_agents: Vec<Uuid>,
}

impl Workspace {
    pub(in crate::http) fn new(
        workspace: model::Workspace,
        owner_name: String,
        template: &model::Template,
        build_version: Uuid,
        latest_build: Build,
    ) -> Self {
        let failing_agents: Vec<_> = latest_build
            .resources
            .iter()
            .flat_map(|resource| &resource.agents)
            .filter(|agent| agent.ails())
            .map(|agent| agent.id)
            .collect();
        Self {
            id: workspace.id,
            created_at: workspace.created_at,
            updated_at: workspace.updated_at,
            owner_id: workspace.owner_id,
            owner_name,
            owner_avatar_url: "",
            organization_id: ORGANIZATION_ID,
            organization_name: ORGANIZATION,
            template_id: workspace.template_id,
            template_name: template.name.clone(),
            template_display_name: template.display_name.clone(),
            template_icon: "",
            template_allow_user_cancel_workspace_jobs: template.allow_user_cancel_workspace_jobs,
            template_active_version_id: template.active_version_id,
            template_require_active_version: template.require_active_version,
            template_use_classic_parameter_flow: true,
            outdated: template.active_version_id != build_version,
            latest_app_status: None,
            is_prebuild: workspace.is_prebuild(),
            name: workspace.name,
            autostart_schedule: workspace.autostart_schedule,
            ttl_ms: workspace.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
            last_used_at: workspace.last_used_at,
            deleting_at: None,
            dormant_at: workspace.dormant_at,
            health: Health { healthy: failing_agents.is_empty(), failing_agents },
            automatic_updates: workspace.automatic_updates,
            allow_renames: true,
            favorite: false,
            next_start_at: None,
            task_id: None,
            latest_build,
        }
    }
}
