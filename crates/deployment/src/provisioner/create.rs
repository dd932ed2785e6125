//! Makes templates, workspaces and builds, as whoever asks for them needs them.

use std::{collections::BTreeMap, time::Duration};

use uuid::Uuid;

use super::{
    build_made,
    template::{Template as Source, TemplateError},
};
use crate::{
    model::{
        AutomaticUpdates, Build, BuildReason, Job, JobInput, NewBuild, NewWorkspace,
        PREBUILDS_USER, PrebuildStage, Preset, Template, TemplateVersion, Timestamp, Transition,
        Workspace,
    },
    state::State,
    store::{Claim, Claimed, StoreError},
};

/// Why something was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The template, or the values for its parameters.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The rows of a template's presets.
#[must_use]
pub fn presets(source: &Source, version: Uuid, now: Timestamp) -> Vec<Preset> {
    let row = |preset: &super::template::Preset| Preset {
        id: Uuid::new_v4(),
        template_version_id: version,
        name: preset.name.clone(),
        is_default: preset.default,
        parameters: preset.parameters.clone(),
        desired_prebuilds: u32::try_from(preset.prebuilds).unwrap_or(u32::MAX),
        created_at: now,
    };
    source.presets.iter().map(row).collect()
}

/// Keeps a template with its first version. A template of this name gets a new version, if its
/// active one is another text.
///
/// # Errors
/// When the text is no template, or the store refuses.
pub async fn template(
    state: &State,
    name: &str,
    text: &str,
    by: Uuid,
) -> Result<Template, CreateError> {
    let source = Source::parse(text)?;
    let now = Timestamp::now();
    let version = |template_id, name: String| TemplateVersion {
        id: Uuid::new_v4(),
        template_id,
        name,
        source: text.to_owned(),
        created_by: by,
        created_at: now,
    };
    let store = &state.store;
    match store.template_by_name(name).await {
        Ok(template) => {
            let active = store.template_version(template.active_version_id).await?;
            if active.source != text {
                let count = store.template_versions(template.id).await?.len();
                let version = version(template.id, format!("v{}", count + 1));
                let presets = presets(&source, version.id, now);
                store.add_template_version(&version, &presets, now).await?;
                state.provisioner.wake_prebuilds();
            }
        }
        Err(StoreError::NotFound(_)) => {
            let id = Uuid::new_v4();
            let version = version(id, "v1".to_owned());
            let presets = presets(&source, version.id, now);
            let template = Template {
                id,
                name: name.to_owned(),
                display_name: String::new(),
                active_version_id: version.id,
                allow_user_cancel_workspace_jobs: true,
                require_active_version: false,
                default_ttl: None,
                deleted: false,
                created_at: now,
                updated_at: now,
            };
            store.create_template(&template, &version, &presets).await?;
            state.provisioner.wake_prebuilds();
        }
        Err(error) => return Err(error.into()),
    }
    Ok(store.template_by_name(name).await?)
}

/// A workspace that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceRequest {
    /// Whose it will be, who also asks for it.
    pub owner: Uuid,
    /// Its name.
    pub name: String,
    /// Of which version of which template.
    pub version: TemplateVersion,
    /// With which preset of that version; by default one with the same values.
    pub preset: Option<Uuid>,
    /// Values of parameters. A preset's come before.
    pub parameters: BTreeMap<String, String>,
    /// How long after a start it is stopped.
    pub ttl: Option<Duration>,
    /// When it is started.
    pub autostart_schedule: Option<String>,
    /// Whether a start uses the active version.
    pub automatic_updates: AutomaticUpdates,
    /// Why.
    pub reason: BuildReason,
}

/// A workspace that was made, or claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// It.
    pub workspace: Workspace,
    /// Its build.
    pub build: Build,
    /// And that build's job.
    pub job: Job,
    /// Whether it was built ahead.
    pub claimed: bool,
}

/// Makes a workspace, or claims one that was built ahead for its preset, and tells all who should
/// know.
///
/// # Errors
/// When the values do not fit the template, or the store refuses (the name is taken).
pub async fn workspace(state: &State, request: &WorkspaceRequest) -> Result<Made, CreateError> {
    let source = Source::parse(&request.version.source)?;
    let known = state.store.presets(request.version.id).await?;
    let preset = match request.preset {
        Some(id) => Some(state.store.preset(id).await?),
        None => known.into_iter().find(|preset| {
            !preset.parameters.is_empty() && preset.parameters == request.parameters
        }),
    };
    let mut named = request.parameters.clone();
    named.extend(preset.iter().flat_map(|preset| preset.parameters.clone()));
    source.check_parameters(&named)?;
    let now = Timestamp::now();
    let mut build = first_build(&source, request.version.id, preset.as_ref(), &named);
    build.reason = request.reason;
    build.initiator_id = request.owner;
    let claimed = match &preset {
        Some(preset) => claim(state, request, preset.id, &build, now).await?,
        None => None,
    };
    let made = match claimed {
        Some(Claimed { workspace, build, job }) => Made { workspace, build, job, claimed: true },
        None => {
            let new = NewWorkspace {
                id: Uuid::new_v4(),
                owner_id: request.owner,
                template_id: request.version.template_id,
                name: request.name.clone(),
                ttl: request.ttl,
                autostart_schedule: request.autostart_schedule.clone(),
                automatic_updates: request.automatic_updates,
            };
            let (workspace, build, job) = state.store.create_workspace(&new, &build, now).await?;
            Made { workspace, build, job, claimed: false }
        }
    };
    if made.claimed {
        // Another is to be built in its place.
        state.provisioner.wake_prebuilds();
    }
    build_made(state, made.workspace.owner_id, made.workspace.id).await;
    Ok(made)
}

async fn claim(
    state: &State,
    request: &WorkspaceRequest,
    preset_id: Uuid,
    build: &NewBuild,
    now: Timestamp,
) -> Result<Option<Claimed>, StoreError> {
    let input = JobInput { prebuilt_workspace_stage: PrebuildStage::Claim, ..build.input.clone() };
    let claim = Claim {
        preset_id,
        owner_id: request.owner,
        name: request.name.clone(),
        ttl: request.ttl,
        autostart_schedule: request.autostart_schedule.clone(),
        build: NewBuild { input, ..build.clone() },
    };
    state.store.claim_prebuild(&claim, now).await
}

/// A prebuilt workspace and its build; nobody's yet.
pub(super) fn prebuild(
    source: &Source,
    template: Uuid,
    preset: &Preset,
    name: String,
) -> (NewWorkspace, NewBuild) {
    let version = preset.template_version_id;
    let mut build = first_build(source, version, Some(preset), &preset.parameters);
    build.input.prebuilt_workspace_stage = PrebuildStage::Create;
    let workspace = NewWorkspace {
        id: Uuid::new_v4(),
        owner_id: PREBUILDS_USER,
        template_id: template,
        name,
        ttl: None,
        autostart_schedule: None,
        automatic_updates: AutomaticUpdates::Never,
    };
    (workspace, build)
}

/// A start, by the prebuilds user.
fn first_build(
    source: &Source,
    version: Uuid,
    preset: Option<&Preset>,
    named: &BTreeMap<String, String>,
) -> NewBuild {
    let id = Uuid::new_v4();
    NewBuild {
        id,
        template_version_id: version,
        transition: Transition::Start,
        reason: BuildReason::Initiator,
        initiator_id: PREBUILDS_USER,
        preset_id: preset.map(|preset| preset.id),
        parameters: source.parameter_values(named),
        job_id: Uuid::new_v4(),
        input: JobInput { workspace_build_id: Some(id), ..JobInput::default() },
    }
}

/// The build after another one, with the same version and values.
#[must_use]
pub fn next_build(
    latest: &Build,
    transition: Transition,
    initiator: Uuid,
    reason: BuildReason,
) -> NewBuild {
    let id = Uuid::new_v4();
    NewBuild {
        id,
        template_version_id: latest.template_version_id,
        transition,
        reason,
        initiator_id: initiator,
        preset_id: latest.preset_id,
        parameters: latest.parameters.clone(),
        job_id: Uuid::new_v4(),
        input: JobInput { workspace_build_id: Some(id), ..JobInput::default() },
    }
}
