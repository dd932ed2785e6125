//! `codersdk/templates.go`, `codersdk/templateversions.go`, `codersdk/presets.go`.

use serde::Serialize;
use uuid::Uuid;

use super::{Job, ORGANIZATION, ORGANIZATION_ID};
use crate::{
    model::{self, Timestamp},
    provisioner::template,
};

/// A template.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Template {
    id: Uuid,
    created_at: Timestamp,
    updated_at: Timestamp,
    organization_id: Uuid,
    organization_name: &'static str,
    organization_display_name: &'static str,
    organization_icon: &'static str,
    name: String,
    display_name: String,
    provisioner: &'static str,
    active_version_id: Uuid,
    active_user_count: i32,
    build_time_stats: BuildTimes,
    description: String,
    deprecated: bool,
    deprecation_message: &'static str,
    deleted: bool,
    icon: String,
    default_ttl_ms: u64,
    activity_bump_ms: u64,
    time_til_autostop_notify_ms: u64,
    autostop_requirement: AutostopRequirement,
    autostart_requirement: AutostartRequirement,
    created_by_id: Uuid,
    created_by_name: String,
    allow_user_autostart: bool,
    allow_user_autostop: bool,
    allow_user_cancel_workspace_jobs: bool,
    failure_ttl_ms: u64,
    time_til_dormant_ms: u64,
    time_til_dormant_autodelete_ms: u64,
    require_active_version: bool,
    max_port_share_level: &'static str,
    cors_behavior: &'static str,
    use_classic_parameter_flow: bool,
    disable_module_cache: bool,
}

/// How long builds take; not recorded here.
#[derive(Debug, Default, Serialize)]
struct BuildTimes {
    delete: Percentiles,
    start: Percentiles,
    stop: Percentiles,
}

#[derive(Debug, Default, Serialize)]
struct Percentiles {
    #[serde(rename = "P50")]
    p50: Option<u64>,
    #[serde(rename = "P95")]
    p95: Option<u64>,
}

#[derive(Debug, Serialize)]
struct AutostopRequirement {
    days_of_week: [&'static str; 0],
    weeks: u32,
}

#[derive(Debug, Serialize)]
struct AutostartRequirement {
    days_of_week: [&'static str; 7],
}

const EVERY_DAY: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

impl Template {
    /// `version`: the active one, who made it, and what it says.
    pub(in crate::http) fn new(
        template: model::Template,
        author: (Uuid, String),
        source: Option<template::Template>,
    ) -> Self {
        let (description, icon) =
            source.map_or_else(Default::default, |source| (source.description, source.icon));
        let default_ttl_ms = template
            .default_ttl
            .map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        Self {
            id: template.id,
            created_at: template.created_at,
            updated_at: template.updated_at,
            organization_id: ORGANIZATION_ID,
            organization_name: ORGANIZATION,
            organization_display_name: "Coder",
            organization_icon: "",
            name: template.name,
            display_name: template.display_name,
            provisioner: "echo",
            active_version_id: template.active_version_id,
            active_user_count: 0,
            build_time_stats: BuildTimes::default(),
            description,
            deprecated: false,
            deprecation_message: "",
            deleted: template.deleted,
            icon,
            default_ttl_ms,
            activity_bump_ms: 0,
            time_til_autostop_notify_ms: 0,
            autostop_requirement: AutostopRequirement { days_of_week: [], weeks: 1 },
            autostart_requirement: AutostartRequirement { days_of_week: EVERY_DAY },
            created_by_id: author.0,
            created_by_name: author.1,
            allow_user_autostart: true,
            allow_user_autostop: true,
            allow_user_cancel_workspace_jobs: template.allow_user_cancel_workspace_jobs,
            failure_ttl_ms: 0,
            time_til_dormant_ms: 0,
            time_til_dormant_autodelete_ms: 0,
            require_active_version: template.require_active_version,
            max_port_share_level: "owner",
            cors_behavior: "simple",
            use_classic_parameter_flow: true,
            disable_module_cache: false,
        }
    }
}

/// A version of a template.
#[derive(Debug, Serialize)]
pub(in crate::http) struct TemplateVersion {
    id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    template_id: Option<Uuid>,
    organization_id: Uuid,
    created_at: Timestamp,
    updated_at: Timestamp,
    name: String,
    message: &'static str,
    job: Job,
    readme: &'static str,
    created_by: MinimalUser,
    archived: bool,
    has_external_agent: bool,
}

#[derive(Debug, Serialize)]
struct MinimalUser {
    id: Uuid,
    username: String,
    name: String,
}

impl TemplateVersion {
    /// `template_id`: none as long as no template has it.
    pub(in crate::http) fn new(
        version: model::TemplateVersion,
        template_id: Option<Uuid>,
        author: model::User,
        job: Job,
    ) -> Self {
        Self {
            id: version.id,
            template_id,
            organization_id: ORGANIZATION_ID,
            created_at: version.created_at,
            updated_at: version.created_at,
            name: version.name,
            message: "",
            job,
            readme: "",
            created_by: MinimalUser { id: author.id, username: author.username, name: author.name },
            archived: false,
            has_external_agent: false,
        }
    }
}

/// A parameter of a template version.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Parameter {
    name: String,
    description: String,
    description_plaintext: String,
    r#type: &'static str,
    form_type: &'static str,
    mutable: bool,
    default_value: String,
    icon: &'static str,
    options: Vec<ParameterOption>,
    required: bool,
    ephemeral: bool,
}

#[derive(Debug, Serialize)]
struct ParameterOption {
    name: String,
    description: &'static str,
    value: String,
    icon: &'static str,
}

impl From<template::Parameter> for Parameter {
    fn from(parameter: template::Parameter) -> Self {
        let options = parameter.options.into_iter().map(|value| ParameterOption {
            name: value.clone(),
            description: "",
            value,
            icon: "",
        });
        let options: Vec<_> = options.collect();
        Self {
            name: parameter.name,
            description_plaintext: parameter.description.clone(),
            description: parameter.description,
            r#type: "string",
            form_type: if options.is_empty() { "input" } else { "radio" },
            mutable: parameter.mutable,
            required: parameter.default.is_none(),
            default_value: parameter.default.unwrap_or_default(),
            icon: "",
            options,
            ephemeral: false,
        }
    }
}

/// A preset; upstream's type has no names for JSON, so Go's own are used.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::http) struct Preset {
    #[serde(rename = "ID")]
    id: Uuid,
    name: String,
    parameters: Vec<PresetParameter>,
    default: bool,
    desired_prebuild_instances: Option<u32>,
    description: &'static str,
    icon: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PresetParameter {
    name: String,
    value: String,
}

impl From<model::Preset> for Preset {
    fn from(preset: model::Preset) -> Self {
        let parameters = preset.parameters.into_iter();
        Self {
            id: preset.id,
            name: preset.name,
            parameters: parameters.map(|(name, value)| PresetParameter { name, value }).collect(),
            default: preset.is_default,
            desired_prebuild_instances: Some(preset.desired_prebuilds).filter(|count| *count > 0),
            description: "",
            icon: "",
        }
    }
}
