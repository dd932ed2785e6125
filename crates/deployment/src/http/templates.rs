//! Templates, their versions, and how a file becomes one.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    extract::{Request, State as Shared},
    response::{IntoResponse, Response},
    routing::{get, patch, post},
};
use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    auth::Caller,
    error::ApiError,
    extract::{self, Query, Segments},
    json as wire, names,
    search::Terms,
    sockets::{self, Close},
    users::the_organization,
};
use crate::{
    model::{
        self, Job, JobInput, JobKind, TemplateDraft, TemplateFile, TemplateVersion, Timestamp,
    },
    provisioner::{
        create::presets,
        template::{MAX_TEMPLATE, Template as Source, TemplateError},
    },
    state::State,
    store::StoreError,
};

pub(super) fn routes() -> Router<State> {
    let organization = "/api/v2/organizations/{organization}";
    let version = "/api/v2/templateversions/{version}";
    Router::new()
        .route("/api/v2/files", post(upload))
        .route("/api/v2/templates", get(list))
        .route("/api/v2/templates/{template}", get(template))
        .route("/api/v2/templates/{template}/versions", get(versions).patch(activate))
        .route("/api/v2/templates/{template}/versions/{name}", get(version_by_name))
        .route(&format!("{organization}/templates"), get(list_of_organization).post(create))
        .route(&format!("{organization}/templates/{{name}}"), get(template_by_name))
        .route(&format!("{organization}/templateversions"), post(create_version))
        .route(version, get(self::version))
        .route(&format!("{version}/rich-parameters"), get(parameters))
        .route(&format!("{version}/presets"), get(list_presets))
        .route(&format!("{version}/external-auth"), get(nothing))
        .route(&format!("{version}/variables"), get(nothing))
        .route(&format!("{version}/logs"), get(version_logs))
        .route(&format!("{version}/dry-run"), post(dry_run))
        .route(&format!("{version}/dry-run/{{job}}"), get(dry_run_job))
        .route(&format!("{version}/dry-run/{{job}}/matched-provisioners"), get(dry_run_matched))
        .route(&format!("{version}/dry-run/{{job}}/resources"), get(dry_run_resources))
        .route(&format!("{version}/dry-run/{{job}}/logs"), get(dry_run_logs))
        .route(&format!("{version}/dry-run/{{job}}/cancel"), patch(dry_run_cancel))
}

/// Templates are made of files that run as the user who runs the deployment.
fn may_make(caller: &Caller) -> Result<(), ApiError> {
    if caller.is_owner() {
        return Ok(());
    }
    Err(ApiError::forbidden("Only owners of the deployment may make templates."))
}

async fn upload(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<Response, ApiError> {
    may_make(&caller)?;
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind != Some("application/toml") {
        let kind: String = kind.unwrap_or_default().chars().take(64).collect();
        return Err(ApiError::bad_request(format!("Unsupported content type header {kind:?}."))
            .detail("The templates of this deployment are TOML files: application/toml."));
    }
    let bytes = extract::body(request, &state).await?;
    if bytes.len() > MAX_TEMPLATE {
        let message = format!("A template has at most {MAX_TEMPLATE} bytes.");
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    let source = String::from_utf8(bytes.into()).map_err(|error| {
        ApiError::bad_request("The file is not UTF-8.").detail(error.to_string())
    })?;
    let file = TemplateFile {
        id: Uuid::new_v4(),
        source,
        created_by: caller.user.id,
        created_at: Timestamp::now(),
    };
    state.store.keep_template_file(&file).await?;
    Ok((StatusCode::CREATED, Json(json!({"hash": file.id}))).into_response())
}

async fn list(
    Shared(state): Shared<State>,
    _: Caller,
    query: Query,
) -> Result<Json<Vec<wire::Template>>, ApiError> {
    let found = search(&state, query.text("q").unwrap_or_default()).await?;
    Ok(Json(found))
}

async fn list_of_organization(
    Shared(state): Shared<State>,
    _: Caller,
    path: Segments,
    query: Query,
) -> Result<Json<Vec<wire::Template>>, ApiError> {
    the_organization(&path)?;
    let found = search(&state, query.text("q").unwrap_or_default()).await?;
    Ok(Json(found))
}

/// `coderd/searchquery/search.go`, as far as there is something to be searched.
async fn search(state: &State, query: &str) -> Result<Vec<wire::Template>, ApiError> {
    const WRONG: &str = "Invalid template search query.";
    let mut terms = Terms::parse(query).map_err(|error| error.into_api(WRONG))?;
    let exact = terms.take("exact_name");
    let part = terms.take("fuzzy_name").or_else(|| terms.take(Terms::BARE));
    let deprecated = terms.take("deprecated").as_deref() == Some("true");
    let organization = terms.take("organization");
    terms.finish().map_err(|error| error.into_api(WRONG))?;
    let elsewhere = organization.is_some_and(|name| {
        name != wire::ORGANIZATION && Uuid::parse_str(&name) != Ok(wire::ORGANIZATION_ID)
    });
    if deprecated || elsewhere {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for template in state.store.templates().await? {
        let name = template.name.to_lowercase();
        let fits = exact.as_ref().is_none_or(|wanted| *wanted == name)
            && part.as_ref().is_none_or(|part| name.contains(part.as_str()));
        if fits {
            found.push(describe(state, template).await?);
        }
    }
    Ok(found)
}

async fn describe(state: &State, template: model::Template) -> Result<wire::Template, ApiError> {
    let active = state.store.template_version(template.active_version_id).await?;
    let author = state.store.user(active.created_by).await?;
    let source = Source::parse(&active.source).ok();
    Ok(wire::Template::new(template, (author.id, author.username), source))
}

/// A template that is not deleted.
async fn find(state: &State, path: &Segments) -> Result<model::Template, ApiError> {
    let template = state.store.template(path.id("template")?).await?;
    if template.deleted { Err(ApiError::not_found()) } else { Ok(template) }
}

async fn template(
    Shared(state): Shared<State>,
    _: Caller,
    path: Segments,
) -> Result<Json<wire::Template>, ApiError> {
    let template = find(&state, &path).await?;
    describe(&state, template).await.map(Json)
}

async fn template_by_name(
    Shared(state): Shared<State>,
    _: Caller,
    path: Segments,
) -> Result<Json<wire::Template>, ApiError> {
    the_organization(&path)?;
    let template = state.store.template_by_name(path.text("name")).await?;
    describe(&state, template).await.map(Json)
}

async fn versions(
    Shared(state): Shared<State>,
    _: Caller,
    path: Segments,
) -> Result<Json<Vec<wire::TemplateVersion>>, ApiError> {
    let template = find(&state, &path).await?;
    let mut all = Vec::new();
    for version in state.store.template_versions(template.id).await? {
        all.push(stored_version(&state, version).await?);
    }
    Ok(Json(all))
}

async fn version_by_name(
    Shared(state): Shared<State>,
    _: Caller,
    path: Segments,
) -> Result<Json<wire::TemplateVersion>, ApiError> {
    let template = find(&state, &path).await?;
    let versions = state.store.template_versions(template.id).await?;
    let found = versions.into_iter().find(|version| version.name == path.text("name"));
    let version = found.ok_or_else(ApiError::not_found)?;
    stored_version(&state, version).await.map(Json)
}

/// A version that a template has; its import is over.
async fn stored_version(
    state: &State,
    version: TemplateVersion,
) -> Result<wire::TemplateVersion, ApiError> {
    let author = state.store.user(version.created_by).await?;
    let job = import(version.id, author.id, version.created_at, None);
    let template = Some(version.template_id);
    Ok(wire::TemplateVersion::new(version, template, author, job))
}

/// A version that no template has yet.
fn drafted_version(draft: TemplateDraft, author: model::User) -> wire::TemplateVersion {
    let error = Source::parse(&draft.source).err().map(|error| error.to_string());
    let job = import(draft.id, author.id, draft.created_at, error);
    let template = draft.template_id;
    let version = draft.into_version(template.unwrap_or_default());
    wire::TemplateVersion::new(version, template, author, job)
}

/// A version that the caller made and no template has yet.
async fn draft(
    state: &State,
    caller: &Caller,
    id: Uuid,
) -> Result<Option<TemplateDraft>, StoreError> {
    state.store.template_draft(id, caller.user.id, Timestamp::now()).await
}

/// The job that a version is read by: it is over as soon as it begins, so that no row is kept.
fn import(version: Uuid, by: Uuid, at: Timestamp, error: Option<String>) -> wire::Job {
    let input = JobInput { template_version_id: Some(version), ..JobInput::default() };
    over(JobKind::TemplateVersionImport, input, version, by, at, error)
}

fn over(
    kind: JobKind,
    input: JobInput,
    id: Uuid,
    by: Uuid,
    at: Timestamp,
    error: Option<String>,
) -> wire::Job {
    let job = Job {
        id,
        kind,
        initiator_id: by,
        input,
        created_at: at,
        updated_at: at,
        started_at: Some(at),
        canceled_at: None,
        completed_at: Some(at),
        error,
        error_code: None,
        worker_id: None,
        lease_until: None,
        attempt: 1,
        logs_overflowed: false,
    };
    wire::Job::new(job, (0, 0), id)
}

#[derive(Deserialize)]
struct CreateVersion {
    #[serde(default)]
    name: String,
    #[serde(default)]
    template_id: Option<Uuid>,
    #[serde(default)]
    file_id: Uuid,
}

async fn create_version(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    extract::Json(asked): extract::Json<CreateVersion>,
) -> Result<Response, ApiError> {
    the_organization(&path)?;
    may_make(&caller)?;
    let template_id = asked.template_id.filter(|id| !id.is_nil());
    let count = match template_id {
        None => 0,
        Some(id) => {
            state.store.template(id).await?;
            state.store.template_versions(id).await?.len()
        }
    };
    let name = if asked.name.is_empty() {
        format!("v{}", count + 1)
    } else {
        names::check("name", &asked.name)?;
        asked.name
    };
    let now = Timestamp::now();
    let file = state.store.template_file(asked.file_id, caller.user.id, now).await?;
    let file = file.ok_or_else(|| {
        ApiError::bad_request("The file is not known.")
            .detail("Uploaded files are kept for some minutes: upload it again.")
            .field("file_id", "must be an uploaded file")
    })?;
    let draft = TemplateDraft {
        id: Uuid::new_v4(),
        template_id,
        name,
        source: file.source,
        created_by: caller.user.id,
        created_at: now,
    };
    state.store.keep_template_draft(&draft).await?;
    let version = drafted_version(draft, caller.user);
    Ok((StatusCode::CREATED, Json(version)).into_response())
}

#[derive(Deserialize)]
struct CreateTemplate {
    name: String,
    #[serde(default)]
    display_name: String,
    template_version_id: Uuid,
    /// Milliseconds; 0 for ever.
    #[serde(default)]
    default_ttl_ms: Option<i64>,
    #[serde(default)]
    allow_user_cancel_workspace_jobs: Option<bool>,
    #[serde(default)]
    require_active_version: bool,
}

async fn create(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    extract::Json(asked): extract::Json<CreateTemplate>,
) -> Result<Response, ApiError> {
    the_organization(&path)?;
    may_make(&caller)?;
    names::check("name", &asked.name)?;
    let default_ttl = match u64::try_from(asked.default_ttl_ms.unwrap_or(0)) {
        Ok(0) => None,
        Ok(ms) => Some(std::time::Duration::from_millis(ms)),
        Err(_) => {
            return Err(ApiError::bad_request("Invalid create template request.")
                .field("default_ttl_ms", "must be 0 or more"));
        }
    };
    let (draft, source) = usable(&state, &caller, asked.template_version_id).await?;
    let now = Timestamp::now();
    let template = model::Template {
        id: Uuid::new_v4(),
        name: asked.name,
        display_name: asked.display_name,
        active_version_id: draft.id,
        allow_user_cancel_workspace_jobs: asked.allow_user_cancel_workspace_jobs.unwrap_or(true),
        require_active_version: asked.require_active_version,
        default_ttl,
        deleted: false,
        created_at: now,
        updated_at: now,
    };
    let version = draft.into_version(template.id);
    let presets = presets(&source, version.id, now);
    state.store.create_template(&template, &version, &presets).await?;
    state.provisioner.wake_prebuilds();
    let described = describe(&state, template).await?;
    Ok((StatusCode::CREATED, Json(described)).into_response())
}

/// A draft of the caller that is a template.
async fn usable(
    state: &State,
    caller: &Caller,
    id: Uuid,
) -> Result<(TemplateDraft, Source), ApiError> {
    let draft = draft(state, caller, id).await?.ok_or_else(|| {
        ApiError::bad_request("The template version is not known, or a template has it already.")
            .field("template_version_id", "must be a version without a template")
    })?;
    let source = Source::parse(&draft.source).map_err(|error| {
        ApiError::bad_request("The template version cannot be used.").detail(error.to_string())
    })?;
    Ok((draft, source))
}

#[derive(Deserialize)]
struct Activate {
    id: Uuid,
}

/// Makes a version the active one: one that was just made for this template.
async fn activate(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    extract::Json(Activate { id }): extract::Json<Activate>,
) -> Result<Json<Value>, ApiError> {
    may_make(&caller)?;
    let template = find(&state, &path).await?;
    let done = Json(json!({"message": "Updated the active template version!"}));
    if template.active_version_id == id {
        return Ok(done);
    }
    match state.store.template_version(id).await {
        Ok(_) => {
            return Err(ApiError::bad_request("The version is not the latest.")
                .detail("Upload the old file again to go back to it.")
                .field("id", "must be a new version"));
        }
        Err(StoreError::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let (draft, source) = usable(&state, &caller, id).await?;
    if draft.template_id != Some(template.id) {
        return Err(ApiError::bad_request("The template version is of another template.")
            .field("id", "must be a version of this template"));
    }
    let now = Timestamp::now();
    let presets = presets(&source, draft.id, now);
    let version = draft.into_version(template.id);
    state.store.add_template_version(&version, &presets, now).await?;
    state.provisioner.wake_prebuilds();
    Ok(done)
}

async fn version(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Json<wire::TemplateVersion>, ApiError> {
    let id = path.id("version")?;
    if let Some(draft) = draft(&state, &caller, id).await? {
        return Ok(Json(drafted_version(draft, caller.user)));
    }
    let version = state.store.template_version(id).await?;
    stored_version(&state, version).await.map(Json)
}

/// A version that a template has, and what it says.
async fn source(state: &State, path: &Segments) -> Result<(TemplateVersion, Source), ApiError> {
    let version = state.store.template_version(path.id("version")?).await?;
    let source = Source::parse(&version.source)
        .map_err(|error| ApiError::internal("The template version cannot be read.", error))?;
    Ok((version, source))
}

async fn parameters(
    Shared(state): Shared<State>,
    _: Caller,
    path: Segments,
) -> Result<Json<Vec<wire::Parameter>>, ApiError> {
    let (_, source) = source(&state, &path).await?;
    Ok(Json(source.parameters.into_iter().map(wire::Parameter::from).collect()))
}

async fn list_presets(
    Shared(state): Shared<State>,
    _: Caller,
    path: Segments,
) -> Result<Json<Vec<wire::Preset>>, ApiError> {
    let version = state.store.template_version(path.id("version")?).await?;
    let presets = state.store.presets(version.id).await?;
    Ok(Json(presets.into_iter().map(wire::Preset::from).collect()))
}

/// A list of what the templates here never have: external services, variables.
async fn nothing(
    Shared(state): Shared<State>,
    _: Caller,
    path: Segments,
) -> Result<Json<Value>, ApiError> {
    state.store.template_version(path.id("version")?).await?;
    Ok(Json(json!([])))
}

/// The log of an import, which says nothing.
async fn version_logs(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    query: Query,
    request: Request,
) -> Result<Response, ApiError> {
    let id = path.id("version")?;
    if draft(&state, &caller, id).await?.is_none() {
        state.store.template_version(id).await?;
    }
    empty_log(&query, request)
}

fn empty_log(query: &Query, request: Request) -> Result<Response, ApiError> {
    if !query.has("follow") {
        return Ok(Json(json!([])).into_response());
    }
    let (response, upgrade) = sockets::upgrade_events(request)?;
    upgrade.run(|_, _| async { Close::new(1000, "done") });
    Ok(response)
}

#[derive(Deserialize)]
struct DryRun {
    #[serde(default)]
    rich_parameter_values: Option<Vec<wire::ParameterValue>>,
}

/// A build that only says what it would make. What that is depends on the version alone, so that
/// the job is over at once and named like the version.
async fn dry_run(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    extract::Json(asked): extract::Json<DryRun>,
) -> Result<Response, ApiError> {
    let (version, source) = source(&state, &path).await?;
    let values = asked.rich_parameter_values.unwrap_or_default();
    let named: BTreeMap<_, _> = values.into_iter().map(|one| (one.name, one.value)).collect();
    source.check_parameters(&named).map_err(unfit)?;
    Ok((StatusCode::CREATED, Json(rehearsal(&version, &caller))).into_response())
}

/// Values that do not fit a template.
pub(super) fn unfit(error: TemplateError) -> ApiError {
    let why = error.to_string();
    ApiError::bad_request("Unable to validate parameters.")
        .detail(why.clone())
        .field("rich_parameter_values", why)
}

fn rehearsal(version: &TemplateVersion, caller: &Caller) -> wire::Job {
    let input = JobInput { template_version_id: Some(version.id), ..JobInput::default() };
    let at = version.created_at;
    over(JobKind::TemplateVersionDryRun, input, version.id, caller.user.id, at, None)
}

/// The version of a dry run.
async fn rehearsed(state: &State, path: &Segments) -> Result<(TemplateVersion, Source), ApiError> {
    let (version, source) = source(state, path).await?;
    if path.id("job")? == version.id { Ok((version, source)) } else { Err(ApiError::not_found()) }
}

async fn dry_run_job(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Json<wire::Job>, ApiError> {
    let (version, _) = rehearsed(&state, &path).await?;
    Ok(Json(rehearsal(&version, &caller)))
}

async fn dry_run_matched(
    Shared(state): Shared<State>,
    _: Caller,
    path: Segments,
) -> Result<Json<wire::MatchedProvisioners>, ApiError> {
    rehearsed(&state, &path).await?;
    Ok(Json(wire::MatchedProvisioners::one_if(true)))
}

async fn dry_run_resources(
    Shared(state): Shared<State>,
    _: Caller,
    path: Segments,
) -> Result<Json<Value>, ApiError> {
    let (version, source) = rehearsed(&state, &path).await?;
    let agents: Vec<_> = source
        .agents
        .iter()
        .map(|agent| {
            json!({
                "id": Uuid::nil(),
                "parent_id": null,
                "name": agent.name.as_str(),
                "status": "connecting",
                "lifecycle_state": "created",
                "operating_system": std::env::consts::OS,
                "architecture": std::env::consts::ARCH,
                "apps": [],
                "scripts": [],
            })
        })
        .collect();
    Ok(Json(json!([{
        "id": Uuid::nil(),
        "created_at": version.created_at,
        "job_id": version.id,
        "workspace_transition": "start",
        "type": "workspace_directory",
        "name": "workspace",
        "hide": false,
        "icon": source.icon,
        "agents": agents,
        "daily_cost": 0,
    }])))
}

async fn dry_run_logs(
    Shared(state): Shared<State>,
    _: Caller,
    path: Segments,
    query: Query,
    request: Request,
) -> Result<Response, ApiError> {
    rehearsed(&state, &path).await?;
    empty_log(&query, request)
}

async fn dry_run_cancel(
    Shared(state): Shared<State>,
    _: Caller,
    path: Segments,
) -> Result<Json<Value>, ApiError> {
    rehearsed(&state, &path).await?;
    Err(ApiError::bad_request("Job has already completed!"))
}
