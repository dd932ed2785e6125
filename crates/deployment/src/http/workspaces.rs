//! Workspaces: found, made, used, scheduled.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json, Router,
    extract::State as Shared,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    auth::Caller,
    error::ApiError,
    extract::{self, MaybeJson, Query, Segments},
    json as wire, names,
    search::WorkspaceQuery,
    templates::unfit,
    users::the_organization,
    view,
};
use crate::{
    decide::{Conflict, builds::workspace_status},
    model::{
        AutomaticUpdates, BuildReason, JobStatus, TemplateVersion, Timestamp, Transition, Workspace,
    },
    provisioner::create::{self, CreateError, WorkspaceRequest},
    pubsub::channels::WorkspaceEvent,
    state::State,
    store::{StoreError, WorkspaceDetails, WorkspaceFilter},
};

/// Most workspaces of one answer; more are on the next page.
const PAGE: u32 = 1000;

/// The shortest time to live (`coderd/workspaces.go`).
const SHORTEST_TTL: Duration = Duration::from_secs(60);
/// The longest.
const LONGEST_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// A deadline is at least this far away: half an hour, but for a minute that the request may take
/// (`coderd/workspaces.go`).
const SOONEST_DEADLINE: Duration = Duration::from_secs(29 * 60);

pub(super) fn routes() -> Router<State> {
    let member = "/api/v2/organizations/{organization}/members/{user}/workspaces";
    let one = "/api/v2/workspaces/{workspace}";
    Router::new()
        .route("/api/v2/workspaces", get(list))
        .route("/api/v2/users/{user}/workspaces", post(create))
        .route(member, post(create_in_organization))
        .route("/api/v2/users/{user}/workspace/{name}", get(by_name))
        .route(one, get(by_id).patch(rename))
        .route(&format!("{one}/usage"), post(usage))
        .route(&format!("{one}/dormant"), put(dormant))
        .route(&format!("{one}/extend"), put(extend))
        .route(&format!("{one}/ttl"), put(ttl))
        .route(&format!("{one}/autostart"), put(autostart))
        .route(&format!("{one}/resolve-autostart"), get(resolve_autostart))
}

async fn by_id(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    query: Query,
) -> Result<Json<wire::Workspace>, ApiError> {
    let include_deleted = query.flag("include_deleted")?;
    let workspace = caller.workspace(&state, path.id("workspace")?).await?;
    if workspace.deleted && !include_deleted {
        return Err(ApiError::new(
            StatusCode::GONE,
            format!(
                "Workspace {:?} was deleted, you can view this workspace by specifying \
                 '?include_deleted=true' and trying again.",
                workspace.id.to_string()
            ),
        ));
    }
    view::workspace_by_id(&state, workspace.id).await.map(Json)
}

async fn by_name(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    query: Query,
) -> Result<Json<wire::Workspace>, ApiError> {
    let include_deleted = query.flag("include_deleted")?;
    let owner = caller.user(&state, path.text("user")).await?;
    let name = path.text("name");
    let workspace = state.store.workspace_by_name(owner.id, name, include_deleted).await?;
    view::workspace_by_id(&state, workspace.id).await.map(Json)
}

async fn list(
    Shared(state): Shared<State>,
    caller: Caller,
    query: Query,
) -> Result<Json<Value>, ApiError> {
    let limit = query.number("limit")?.filter(|limit| *limit > 0).unwrap_or(PAGE).min(PAGE);
    let offset = query.number("offset")?.unwrap_or(0);
    let wanted = WorkspaceQuery::parse(query.text("q").unwrap_or_default())
        .map_err(|error| error.into_api("Invalid workspace search query."))?;
    let Some(filter) = filter(&state, &caller, &wanted).await? else {
        return Ok(Json(json!({"workspaces": [], "count": 0})));
    };
    let rows = state.store.workspaces(&filter).await?;
    let ids: Vec<Uuid> = rows
        .iter()
        .filter(|row| wanted.ids.as_ref().is_none_or(|ids| ids.contains(&row.id)))
        .map(|row| row.id)
        .collect();
    // Only what cannot be told from the rows needs all the details before the page is known.
    let plain = wanted.status.is_none()
        && wanted.agents.is_empty()
        && wanted.dormant.is_none()
        && wanted.outdated.is_none()
        && wanted.last_used_after.is_none()
        && wanted.last_used_before.is_none()
        && wanted.parameter.is_none();
    let page = |count: usize| {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(count);
        let to = from.saturating_add(usize::try_from(limit).unwrap_or(usize::MAX)).min(count);
        from..to
    };
    let (count, details) = if plain {
        let shown = ids.get(page(ids.len())).unwrap_or_default();
        (ids.len(), state.store.workspace_details(shown).await?)
    } else {
        let mut details = state.store.workspace_details(&ids).await?;
        details.retain(|details| fits(&state, &wanted, details));
        let count = details.len();
        let range = page(count);
        details.truncate(range.end);
        (count, details.split_off(range.start))
    };
    let mut found = Vec::with_capacity(details.len());
    for details in details {
        found.push(view::workspace(&state, details).await?);
    }
    Ok(Json(json!({"workspaces": found, "count": count})))
}

/// What the store can sort out; none if nothing can fit.
async fn filter(
    state: &State,
    caller: &Caller,
    wanted: &WorkspaceQuery,
) -> Result<Option<WorkspaceFilter>, ApiError> {
    if wanted.nothing {
        return Ok(None);
    }
    let owner = match wanted.owner.as_deref() {
        None if caller.is_owner() => None,
        None => Some(caller.user.id),
        // Whoever may see only their own finds nothing of others, whether they exist or not.
        Some(name) => match if_there(caller.user(state, name).await)? {
            Some(user) => Some(user.id),
            None => return Ok(None),
        },
    };
    let template = match wanted.template.as_deref() {
        None => None,
        Some(name) => {
            let found = state.store.template_by_name(name).await;
            match if_there(found.map_err(ApiError::from))? {
                Some(template) => Some(template.id),
                None => return Ok(None),
            }
        }
    };
    Ok(Some(WorkspaceFilter {
        owner_id: owner,
        template_id: template,
        name_contains: wanted.name.clone(),
    }))
}

fn if_there<T>(found: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.status == StatusCode::NOT_FOUND => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the store leaves to us.
fn fits(state: &State, wanted: &WorkspaceQuery, details: &WorkspaceDetails) -> bool {
    let WorkspaceDetails { workspace, template, latest_build, .. } = details;
    let build = &latest_build.build;
    let status = || workspace_status(latest_build.job.status(), build.transition);
    let outdated = build.template_version_id != template.active_version_id;
    wanted.status.is_none_or(|wanted| wanted == status())
        && wanted.dormant.is_none_or(|wanted| wanted == workspace.dormant_at.is_some())
        && wanted.outdated.is_none_or(|wanted| wanted == outdated)
        && wanted.last_used_after.is_none_or(|after| workspace.last_used_at > after)
        && wanted.last_used_before.is_none_or(|before| workspace.last_used_at < before)
        && wanted.parameter.as_ref().is_none_or(|(name, value)| {
            // The query was lowered; names and values are compared without regard to case.
            build.parameters.iter().any(|(known, known_value)| {
                known.eq_ignore_ascii_case(name)
                    && value.as_ref().is_none_or(|value| known_value.eq_ignore_ascii_case(value))
            })
        })
        && (wanted.agents.is_empty()
            || latest_build
                .resources
                .iter()
                .flat_map(|resource| &resource.agents)
                .any(|agent| wanted.agents.contains(&view::agent(state, agent.clone()).status)))
}

#[derive(Deserialize)]
struct CreateWorkspace {
    name: String,
    #[serde(default)]
    template_id: Uuid,
    #[serde(default)]
    template_version_id: Uuid,
    #[serde(default)]
    autostart_schedule: Option<String>,
    #[serde(default)]
    ttl_ms: Option<i64>,
    #[serde(default)]
    rich_parameter_values: Option<Vec<wire::ParameterValue>>,
    #[serde(default)]
    automatic_updates: String,
    #[serde(default)]
    template_version_preset_id: Uuid,
}

async fn create_in_organization(
    state: Shared<State>,
    caller: Caller,
    path: Segments,
    asked: extract::Json<CreateWorkspace>,
) -> Result<Response, ApiError> {
    the_organization(&path)?;
    create(state, caller, path, asked).await
}

async fn create(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    extract::Json(asked): extract::Json<CreateWorkspace>,
) -> Result<Response, ApiError> {
    let owner = caller.user(&state, path.text("user")).await?;
    if owner.id != caller.user.id {
        return Err(ApiError::forbidden("Workspaces can only be made for oneself."));
    }
    names::check("name", &asked.name)?;
    no_schedule(asked.autostart_schedule.as_deref())?;
    let automatic_updates = match asked.automatic_updates.as_str() {
        "" => AutomaticUpdates::Never,
        word => AutomaticUpdates::parse(word).map_err(|error| {
            ApiError::bad_request("Validation failed.")
                .field("automatic_updates", error.to_string())
        })?,
    };
    let (version, default_ttl) = wanted_version(&state, &asked).await?;
    let preset = Some(asked.template_version_preset_id).filter(|id| !id.is_nil());
    if let Some(id) = preset {
        let of_this = match state.store.preset(id).await {
            Ok(preset) => preset.template_version_id == version.id,
            Err(StoreError::NotFound(_)) => false,
            Err(error) => return Err(error.into()),
        };
        if !of_this {
            return Err(ApiError::bad_request("Preset not found.").field(
                "template_version_preset_id",
                "must be a preset of the template's version",
            ));
        }
    }
    let values = asked.rich_parameter_values.unwrap_or_default();
    let request = WorkspaceRequest {
        owner: owner.id,
        name: asked.name,
        version,
        preset,
        parameters: values.into_iter().map(|one| (one.name, one.value)).collect::<BTreeMap<_, _>>(),
        ttl: checked_ttl(asked.ttl_ms)?.or(default_ttl),
        autostart_schedule: None,
        automatic_updates,
        reason: BuildReason::Initiator,
    };
    let made = create::workspace(&state, &request).await.map_err(refused)?;
    let workspace = view::workspace_by_id(&state, made.workspace.id).await?;
    Ok((StatusCode::CREATED, Json(workspace)).into_response())
}

fn refused(error: CreateError) -> ApiError {
    match error {
        CreateError::Template(error) => unfit(error),
        CreateError::Store(StoreError::Conflict(taken @ Conflict::NameTaken(_))) => {
            ApiError::conflict(taken.to_string())
                .field("name", "This value is already in use and should be unique.")
        }
        CreateError::Store(error) => error.into(),
    }
}

/// The version that is asked for, by itself or as a template's active one, and the template's
/// time to live.
async fn wanted_version(
    state: &State,
    asked: &CreateWorkspace,
) -> Result<(TemplateVersion, Option<Duration>), ApiError> {
    const UNKNOWN: &str = "template not found";
    let wrong = |field: &str, why: &str| {
        ApiError::bad_request("Unable to find the template.").field(field, why)
    };
    let missing = |field: &'static str| {
        move |error: StoreError| match error {
            StoreError::NotFound(_) => wrong(field, UNKNOWN),
            error @ (StoreError::Conflict(_)
            | StoreError::Unavailable { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Unusable(_)) => error.into(),
        }
    };
    let by_version = !asked.template_version_id.is_nil();
    let (field, version) = match (asked.template_id.is_nil(), by_version) {
        (true, true) => {
            let version = state.store.template_version(asked.template_version_id).await;
            ("template_version_id", version.map_err(missing("template_version_id"))?)
        }
        (false, false) => {
            let template = state.store.template(asked.template_id).await;
            let template = template.map_err(missing("template_id"))?;
            ("template_id", state.store.template_version(template.active_version_id).await?)
        }
        (true, false) | (false, true) => {
            return Err(ApiError::bad_request("Validation failed.")
                .field("template_id", "either it or template_version_id must be set")
                .field("template_version_id", "either it or template_id must be set"));
        }
    };
    let template = state.store.template(version.template_id).await?;
    if template.deleted {
        return Err(wrong(field, UNKNOWN));
    }
    if template.require_active_version && version.id != template.active_version_id {
        return Err(ApiError::forbidden("The template requires its active version."));
    }
    Ok((version, template.default_ttl))
}

async fn rename(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    extract::Json(asked): extract::Json<Rename>,
) -> Result<StatusCode, ApiError> {
    let workspace = caller.workspace(&state, path.id("workspace")?).await?;
    if asked.name == workspace.name {
        return Ok(StatusCode::NO_CONTENT);
    }
    names::check("name", &asked.name)?;
    let renamed = state.store.rename_workspace(workspace.id, &asked.name, Timestamp::now()).await;
    renamed.map_err(|error| refused(error.into()))?;
    changed(&state, &workspace).await;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Rename {
    name: String,
}

/// Tells those who watch a workspace.
async fn changed(state: &State, workspace: &Workspace) {
    state.publish_workspace(workspace.owner_id, WorkspaceEvent::state_change(workspace.id)).await;
}

#[derive(Default, Deserialize)]
struct Usage {
    #[serde(default)]
    agent_id: Uuid,
    #[serde(default)]
    app_name: String,
}

/// The workspace is in use. What is said of agent and app is checked, as upstream checks it with
/// its experiment; without a body nothing is.
async fn usage(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    MaybeJson(asked): MaybeJson<Usage>,
) -> Result<StatusCode, ApiError> {
    const APPS: [&str; 4] = ["vscode", "jetbrains", "reconnecting-pty", "ssh"];
    let workspace = caller.workspace(&state, path.id("workspace")?).await?;
    let Usage { agent_id, app_name } = asked.unwrap_or_default();
    let invalid =
        |field: &str, why: String| ApiError::bad_request("Invalid request").field(field, why);
    match (agent_id.is_nil(), app_name.as_str()) {
        (true, "") => {}
        (true, _) => {
            return Err(invalid("agent_id", "must be set when app_name is set".to_owned()));
        }
        (false, "") => {
            return Err(invalid("app_name", "must be set when agent_id is set".to_owned()));
        }
        (false, app) if !APPS.contains(&app) => {
            return Err(invalid("app_name", format!("must be one of {}", APPS.join(", "))));
        }
        (false, _) => {
            let (_, of) = caller.agent(&state, agent_id).await?;
            if of.id != workspace.id {
                return Err(ApiError::not_found());
            }
        }
    }
    state.store.touch_workspace(workspace.id, Timestamp::now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Dormant {
    dormant: bool,
}

async fn dormant(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    extract::Json(Dormant { dormant }): extract::Json<Dormant>,
) -> Result<Response, ApiError> {
    let workspace = caller.workspace(&state, path.id("workspace")?).await?;
    if !state.store.set_dormant(workspace.id, dormant, Timestamp::now()).await? {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    }
    changed(&state, &workspace).await;
    let workspace = view::workspace_by_id(&state, workspace.id).await?;
    Ok(Json(workspace).into_response())
}

#[derive(Deserialize)]
struct Extend {
    deadline: Timestamp,
}

async fn extend(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    extract::Json(Extend { deadline }): extract::Json<Extend>,
) -> Result<Json<Value>, ApiError> {
    let workspace = caller.workspace(&state, path.id("workspace")?).await?;
    if workspace.is_prebuild() {
        return Err(ApiError::conflict(
            "Deadline extension is not supported for prebuilt workspaces",
        ));
    }
    let (build, job) = state.store.latest_build(workspace.id).await?;
    if build.transition != Transition::Start {
        let message = format!("Workspace must be started, current status: {}", build.transition);
        return Err(ApiError::conflict(message));
    }
    match job.status() {
        JobStatus::Pending | JobStatus::Running | JobStatus::Canceling => {
            return Err(ApiError::conflict("Workspace is still building!"));
        }
        JobStatus::Succeeded | JobStatus::Canceled | JobStatus::Failed => {}
    }
    if build.deadline.is_none() {
        return Err(ApiError::conflict("Workspace shutdown is manual."));
    }
    if deadline < Timestamp::now().plus(SOONEST_DEADLINE) {
        return Err(ApiError::bad_request(
            "Cannot extend workspace: new deadline must be at least 30 minutes in the future",
        ));
    }
    if build.max_deadline.is_some_and(|max| deadline > max) {
        return Err(ApiError::bad_request("Cannot extend workspace beyond max deadline."));
    }
    state.store.set_deadline(build.id, Some(deadline), Timestamp::now()).await?;
    changed(&state, &workspace).await;
    Ok(Json(json!({"message": format!("Deadline updated to {deadline}.")})))
}

#[derive(Deserialize)]
struct Ttl {
    #[serde(default)]
    ttl_ms: Option<i64>,
}

/// Applies from the next start on, or at once when it is taken away (`coderd/workspaces.go`).
async fn ttl(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    extract::Json(Ttl { ttl_ms }): extract::Json<Ttl>,
) -> Result<StatusCode, ApiError> {
    let workspace = caller.workspace(&state, path.id("workspace")?).await?;
    let ttl = checked_ttl(ttl_ms)?;
    let now = Timestamp::now();
    state.store.set_ttl(workspace.id, ttl, now).await?;
    if ttl.is_none() {
        let (build, _) = state.store.latest_build(workspace.id).await?;
        if build.transition == Transition::Start && build.deadline.is_some() {
            state.store.set_deadline(build.id, None, now).await?;
        }
    }
    changed(&state, &workspace).await;
    Ok(StatusCode::NO_CONTENT)
}

/// A time to live in milliseconds, cut to whole minutes; absent or 0 is none.
fn checked_ttl(millis: Option<i64>) -> Result<Option<Duration>, ApiError> {
    let wrong = |why: &str| {
        ApiError::bad_request("Invalid workspace time to shutdown.").field("ttl_ms", why)
    };
    let Some(millis) = millis.filter(|millis| *millis != 0) else { return Ok(None) };
    let ttl = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    let ttl = Duration::from_secs(ttl.as_secs() / 60 * 60);
    if ttl < SHORTEST_TTL {
        return Err(wrong("time until shutdown must be at least one minute"));
    }
    if ttl > LONGEST_TTL {
        return Err(wrong("time until shutdown must be less than 30 days"));
    }
    Ok(Some(ttl))
}

#[derive(Deserialize)]
struct Autostart {
    #[serde(default)]
    schedule: Option<String>,
}

async fn autostart(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    extract::Json(Autostart { schedule }): extract::Json<Autostart>,
) -> Result<StatusCode, ApiError> {
    let workspace = caller.workspace(&state, path.id("workspace")?).await?;
    no_schedule(schedule.as_deref())?;
    state.store.set_autostart(workspace.id, None, Timestamp::now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A schedule that nobody keeps is not taken.
fn no_schedule(schedule: Option<&str>) -> Result<(), ApiError> {
    if schedule.is_none_or(str::is_empty) {
        return Ok(());
    }
    Err(ApiError::bad_request("This deployment starts no workspaces by a schedule.")
        .field("schedule", "must be empty"))
}

async fn resolve_autostart(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Json<Value>, ApiError> {
    caller.workspace(&state, path.id("workspace")?).await?;
    Ok(Json(json!({"parameter_mismatch": false})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live() {
        let minutes = |count: u64| Ok(Some(Duration::from_secs(60 * count)));
        for (millis, wanted) in [
            (None, Ok(None)),
            (Some(0), Ok(None)),
            (Some(60_000), minutes(1)),
            (Some(119_999), minutes(1)),
            (Some(59_999), Err(())),
            (Some(-60_000), Err(())),
            (Some(30 * 24 * 3_600_000), minutes(30 * 24 * 60)),
            (Some(30 * 24 * 3_600_000 + 60_000), Err(())),
            (Some(i64::MAX), Err(())),
            (Some(i64::MIN), Err(())),
        ] {
            assert_eq!(checked_ttl(millis).map_err(|_| ()), wanted, "{millis:?}");
        }
    }
}
