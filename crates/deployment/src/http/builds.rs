//! Builds: asked for, looked at, cancelled.

use std::collections::{BTreeMap, HashMap};

use axum::{
    Json, Router,
    extract::State as Shared,
    response::{IntoResponse, Response},
    routing::{get, patch},
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    auth::Caller,
    error::ApiError,
    extract::{self, Query, Segments},
    json as wire,
    templates::unfit,
    view,
};
use crate::{
    model::{
        Build, BuildReason, JobStatus, NewBuild, Preset, ScriptTiming, TemplateVersion, Timestamp,
        Transition, Workspace,
    },
    provisioner::{build_made, create::next_build, template::Template as Source},
    pubsub::channels::{JobLogsAfter, WorkspaceEvent},
    state::State,
    store::StoreError,
};

/// Builds of one answer unless it is said, and at most.
const PAGE: u32 = 100;

pub(super) fn routes() -> Router<State> {
    let one = "/api/v2/workspacebuilds/{build}";
    Router::new()
        .route("/api/v2/workspaces/{workspace}/builds", get(list).post(create))
        .route("/api/v2/workspaces/{workspace}/timings", get(latest_timings))
        .route("/api/v2/users/{user}/workspace/{name}/builds/{number}", get(by_number))
        .route(one, get(by_id))
        .route(&format!("{one}/parameters"), get(parameters))
        .route(&format!("{one}/resources"), get(resources))
        .route(&format!("{one}/timings"), get(timings))
        .route(&format!("{one}/cancel"), patch(cancel))
}

async fn by_id(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Json<wire::Build>, ApiError> {
    let (build, workspace) = caller.build(&state, path.id("build")?).await?;
    view::build_by_id(&state, build.id, &workspace).await.map(Json)
}

async fn by_number(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Json<wire::Build>, ApiError> {
    let owner = caller.user(&state, path.text("user")).await?;
    let workspace = state.store.workspace_by_name(owner.id, path.text("name"), true).await?;
    let number = path.text("number").parse::<i32>().map_err(|error| {
        ApiError::bad_request("Failed to parse build number as integer.").detail(error.to_string())
    })?;
    let build = state.store.build_by_number(workspace.id, number).await?;
    view::build_by_id(&state, build.id, &workspace).await.map(Json)
}

async fn list(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    query: Query,
) -> Result<Json<Vec<wire::Build>>, ApiError> {
    let limit = query.number("limit")?.filter(|limit| *limit > 0).unwrap_or(PAGE).min(PAGE);
    let offset = query.number("offset")?.unwrap_or(0);
    let since = query.text("since").map(Timestamp::parse_rfc3339).transpose().map_err(|error| {
        ApiError::bad_request("Query parameters have invalid values.")
            .field("since", format!("must be a time like 2006-01-02T15:04:05Z: {error}"))
    })?;
    let workspace = caller.workspace(&state, path.id("workspace")?).await?;
    let builds = state.store.builds(workspace.id, limit, offset).await?;
    let ids: Vec<Uuid> = builds
        .into_iter()
        .filter(|(build, _)| since.is_none_or(|since| build.created_at >= since))
        .map(|(build, _)| build.id)
        .collect();
    view::builds(&state, &ids, &workspace).await.map(Json)
}

async fn parameters(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Json<Vec<wire::ParameterValue>>, ApiError> {
    let (build, _) = caller.build(&state, path.id("build")?).await?;
    let values = build.parameters.into_iter();
    Ok(Json(values.map(|(name, value)| wire::ParameterValue { name, value }).collect()))
}

async fn resources(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Json<Vec<wire::Resource>>, ApiError> {
    let (build, workspace) = caller.build(&state, path.id("build")?).await?;
    Ok(Json(view::build_by_id(&state, build.id, &workspace).await?.resources))
}

async fn latest_timings(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Json<Value>, ApiError> {
    let workspace = caller.workspace(&state, path.id("workspace")?).await?;
    let (build, _) = state.store.latest_build(workspace.id).await?;
    timings_of(&state, &build).await
}

async fn timings(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Json<Value>, ApiError> {
    let (build, _) = caller.build(&state, path.id("build")?).await?;
    timings_of(&state, &build).await
}

/// How long scripts took, and agents until they connected (`codersdk/workspacebuilds.go`). What
/// the provisioner did is not recorded in such detail.
async fn timings_of(state: &State, build: &Build) -> Result<Json<Value>, ApiError> {
    let (mut scripts, mut connections) = (Vec::new(), Vec::new());
    let details = state.store.build_details(&[build.id]).await?;
    let resources = details.into_iter().flat_map(|details| details.resources);
    for one in resources.flat_map(|resource| resource.agents) {
        let names: HashMap<Uuid, String> =
            one.scripts.into_iter().map(|script| (script.id, script.display_name)).collect();
        let (id, name) = (one.agent.id.to_string(), one.agent.spec.name);
        for ScriptTiming { script_id, started_at, ended_at, exit_code, stage, status } in
            one.timings
        {
            scripts.push(json!({
                "started_at": started_at,
                "ended_at": ended_at,
                "exit_code": exit_code,
                "stage": stage,
                "status": status,
                "display_name": names.get(&script_id),
                "workspace_agent_id": id,
                "workspace_agent_name": name,
            }));
        }
        if let Some(connected) = one.agent.first_connected_at {
            connections.push(json!({
                "started_at": one.agent.created_at,
                "ended_at": connected,
                "stage": "connect",
                "workspace_agent_id": id,
                "workspace_agent_name": name,
            }));
        }
    }
    Ok(Json(json!({
        "provisioner_timings": [],
        "agent_script_timings": scripts,
        "agent_connection_timings": connections,
    })))
}

#[derive(Deserialize)]
struct CreateBuild {
    transition: String,
    #[serde(default)]
    template_version_id: Uuid,
    #[serde(default)]
    rich_parameter_values: Option<Vec<wire::ParameterValue>>,
    #[serde(default)]
    template_version_preset_id: Uuid,
    #[serde(default)]
    log_level: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    dry_run: bool,
}

async fn create(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    extract::Json(asked): extract::Json<CreateBuild>,
) -> Result<Response, ApiError> {
    let workspace = caller.workspace(&state, path.id("workspace")?).await?;
    let transition = Transition::parse(&asked.transition).map_err(|error| {
        ApiError::bad_request("Validation failed.").field("transition", error.to_string())
    })?;
    let reason = checked_reason(&asked.reason, transition)?;
    if !asked.log_level.is_empty() {
        return Err(ApiError::bad_request(
            "Workspace builds with a custom log level are not allowed.",
        )
        .field("log_level", "must be empty"));
    }
    if asked.dry_run {
        return Err(ApiError::bad_request("Validation failed.")
            .field("dry_run", "is for template versions only"));
    }
    let (latest, job) = state.store.latest_build(workspace.id).await?;
    if job.status().is_active() {
        // Said early, so that it is said rather than anything about parameters.
        return Err(ApiError::conflict("A workspace build is already active."));
    }
    let mut build = next_build(&latest, transition, caller.user.id, reason);
    change(&state, &caller, &workspace, &asked, &latest, &mut build).await?;
    let (build, _) = state.store.insert_build(workspace.id, &build, Timestamp::now()).await?;
    build_made(&state, workspace.owner_id, workspace.id).await;
    let build = view::build_by_id(&state, build.id, &workspace).await?;
    Ok((StatusCode::CREATED, Json(build)).into_response())
}

/// Reasons that a client may give (`codersdk/workspaces.go`); deletions have none.
fn checked_reason(reason: &str, transition: Transition) -> Result<BuildReason, ApiError> {
    let known = match reason {
        "" => BuildReason::Initiator,
        "dashboard" => BuildReason::Dashboard,
        "cli" => BuildReason::Cli,
        "ssh_connection" => BuildReason::SshConnection,
        "vscode_connection" => BuildReason::VscodeConnection,
        "jetbrains_connection" => BuildReason::JetbrainsConnection,
        "task_manual_pause" => BuildReason::TaskManualPause,
        _ => {
            return Err(ApiError::bad_request("Validation failed.").field(
                "reason",
                "must be one of dashboard, cli, ssh_connection, vscode_connection, \
                 jetbrains_connection, task_manual_pause",
            ));
        }
    };
    Ok(match transition {
        Transition::Start | Transition::Stop => known,
        Transition::Delete => BuildReason::Initiator,
    })
}

/// Another version, other values.
async fn change(
    state: &State,
    caller: &Caller,
    workspace: &Workspace,
    asked: &CreateBuild,
    latest: &Build,
    build: &mut NewBuild,
) -> Result<(), ApiError> {
    let template = state.store.template(workspace.template_id).await?;
    if !asked.template_version_id.is_nil() {
        build.template_version_id = asked.template_version_id;
    }
    let wrong_version = || {
        ApiError::bad_request("Template version does not belong to the template.")
            .field("template_version_id", "must be a version of the workspace's template")
    };
    let version = match state.store.template_version(build.template_version_id).await {
        Ok(version) if version.template_id == workspace.template_id => version,
        Ok(_) | Err(StoreError::NotFound(_)) => return Err(wrong_version()),
        Err(error) => return Err(error.into()),
    };
    if build.transition != Transition::Start {
        return Ok(());
    }
    if template.require_active_version
        && version.id != template.active_version_id
        && !caller.is_owner()
    {
        return Err(ApiError::forbidden("The template requires its active version.")
            .detail("insert workspace build: the version is not the template's active one"));
    }
    let preset = wanted_preset(state, asked, &version).await?;
    if asked.template_version_preset_id.is_nil() && version.id != latest.template_version_id {
        build.preset_id = None;
    }
    if let Some(preset) = &preset {
        build.preset_id = Some(preset.id);
    }
    let given = asked.rich_parameter_values.iter().flatten();
    let mut given: BTreeMap<_, _> =
        given.map(|one| (one.name.clone(), one.value.clone())).collect();
    given.extend(preset.into_iter().flat_map(|preset| preset.parameters));
    build.parameters = values(&version, &latest.parameters, given)?;
    Ok(())
}

async fn wanted_preset(
    state: &State,
    asked: &CreateBuild,
    version: &TemplateVersion,
) -> Result<Option<Preset>, ApiError> {
    if asked.template_version_preset_id.is_nil() {
        return Ok(None);
    }
    match state.store.preset(asked.template_version_preset_id).await {
        Ok(preset) if preset.template_version_id == version.id => Ok(Some(preset)),
        Ok(_) | Err(StoreError::NotFound(_)) => Err(ApiError::bad_request("Preset not found.")
            .field("template_version_preset_id", "must be a preset of the template's version")),
        Err(error) => Err(error.into()),
    }
}

/// The values of a start: those of the last build, and over them those that are given. What the
/// version no longer knows is left out; what may not change may only be set for the first time.
fn values(
    version: &TemplateVersion,
    last: &BTreeMap<String, String>,
    given: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ApiError> {
    let source = Source::parse(&version.source)
        .map_err(|error| ApiError::internal("The template version cannot be read.", error))?;
    for parameter in &source.parameters {
        let (before, now) = (last.get(&parameter.name), given.get(&parameter.name));
        if !parameter.mutable
            && let (Some(before), Some(now)) = (before, now)
            && before != now
        {
            let why = format!(
                "Parameter {:?} is not mutable, so it can't be updated after \
                               creating a workspace.",
                parameter.name
            );
            return Err(ApiError::bad_request("Unable to validate parameters.")
                .detail(why.clone())
                .field(parameter.name.clone(), why));
        }
    }
    let mut named: BTreeMap<_, _> = last
        .iter()
        .filter(|(name, value)| {
            source.parameters.iter().any(|parameter| {
                parameter.name == **name
                    && (parameter.options.is_empty() || parameter.options.contains(value))
            })
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    named.extend(given);
    source.check_parameters(&named).map_err(unfit)?;
    Ok(source.parameter_values(&named))
}

async fn cancel(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    query: Query,
) -> Result<Json<Value>, ApiError> {
    let expect = match query.text("expect_status") {
        None => None,
        Some("pending") => Some(JobStatus::Pending),
        Some("running") => Some(JobStatus::Running),
        Some(other) => {
            let shown: String = other.chars().take(32).collect();
            return Err(ApiError::bad_request(format!(
                "Invalid expect_status {shown:?}. Only 'running' or 'pending' are allowed."
            )));
        }
    };
    let (build, workspace) = caller.build(&state, path.id("build")?).await?;
    let template = state.store.template(workspace.template_id).await?;
    // Whoever only takes back what has not begun needs no permission (`coderd/workspacebuilds.go`).
    if !template.allow_user_cancel_workspace_jobs
        && !caller.is_owner()
        && expect != Some(JobStatus::Pending)
    {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "User is not allowed to cancel workspace builds. Owner role is required.",
        ));
    }
    let job = state.store.cancel_job(build.job_id, expect, Timestamp::now()).await?;
    if !job.status().is_active() {
        // Nobody had begun it, so that nobody else ends its log.
        let end = JobLogsAfter { created_after: 0, end_of_logs: true };
        if let Err(error) = state.pubsub.publish_job_logs(job.id, end).await {
            tracing::warn!(%error, "those who follow a log were not told of its end");
        }
    }
    let event = WorkspaceEvent::state_change(workspace.id);
    state.publish_workspace(workspace.owner_id, event).await;
    Ok(Json(json!({"message": "Job has been marked as canceled..."})))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const SOURCE: &str = r#"
        [[agents]]
        name = "main"
        [[parameters]]
        name = "size"
        default = "small"
        options = ["small", "large"]
        mutable = true
        [[parameters]]
        name = "zone"
        default = "here"
        [[parameters]]
        name = "key"
    "#;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn values_of_a_start() {
        let version = TemplateVersion {
            id: Uuid::nil(),
            template_id: Uuid::nil(),
            name: String::new(),
            source: SOURCE.to_owned(),
            created_by: Uuid::nil(),
            created_at: Timestamp::EPOCH,
        };
        let last = [("size", "small"), ("zone", "there"), ("key", "k")];
        // The last values, those that are given, and what comes of it or which field is wrong.
        type Pairs<'a> = &'a [(&'a str, &'a str)];
        let rows: &[(&str, Pairs<'_>, Pairs<'_>, Result<Pairs<'_>, &str>)] = &[
            ("nothing given", &last, &[], Ok(&last)),
            (
                "one changed",
                &last,
                &[("size", "large")],
                Ok(&[("size", "large"), ("zone", "there"), ("key", "k")]),
            ),
            ("the same again", &last, &[("zone", "there")], Ok(&last)),
            ("immutable changed", &last, &[("zone", "here")], Err("zone")),
            ("immutable set first", &[("key", "k")], &[("zone", "there")], Ok(&last)),
            ("no option", &last, &[("size", "huge")], Err("rich_parameter_values")),
            ("unknown", &last, &[("colour", "red")], Err("rich_parameter_values")),
            ("missing", &[], &[], Err("rich_parameter_values")),
            (
                "vanished, and no option any more",
                &[("gone", "x"), ("size", "medium"), ("zone", "there"), ("key", "k")],
                &[],
                Ok(&last),
            ),
        ];
        for (name, last, given, wanted) in rows {
            let found = values(&version, &map(last), map(given));
            let found = found.map_err(|error| error.body.validations[0].field.clone());
            let wanted = wanted.map(map).map_err(str::to_owned);
            assert_eq!(found, wanted, "{name}");
        }
    }

    #[test]
    fn reasons() {
        for (reason, transition, wanted) in [
            ("", Transition::Start, Some(BuildReason::Initiator)),
            ("cli", Transition::Start, Some(BuildReason::Cli)),
            ("ssh_connection", Transition::Stop, Some(BuildReason::SshConnection)),
            ("cli", Transition::Delete, Some(BuildReason::Initiator)),
            ("autostart", Transition::Start, None),
            ("CLI", Transition::Start, None),
        ] {
            assert_eq!(checked_reason(reason, transition).ok(), wanted, "{reason} {transition}");
        }
    }
}
