//! `codersdk/workspacebuilds.go`, `codersdk/provisionerdaemons.go`.

use serde::Serialize;
use uuid::Uuid;

use super::{Agent, ORGANIZATION_ID};
use crate::{
    decide,
    model::{
        self, BuildReason, JobKind, JobLog, JobLogSource, JobStatus, LogLevel, ResourceMetadata,
        Timestamp, Transition, WorkspaceStatus,
    },
    store::{AgentDetails, BuildDetails},
};

/// A build.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Build {
    pub id: Uuid,
    created_at: Timestamp,
    updated_at: Timestamp,
    workspace_id: Uuid,
    workspace_name: String,
    workspace_owner_id: Uuid,
    workspace_owner_name: String,
    template_version_id: Uuid,
    template_version_name: String,
    build_number: i32,
    transition: Transition,
    initiator_id: Uuid,
    initiator_name: String,
    job: Job,
    reason: BuildReason,
    pub resources: Vec<Resource>,
    deadline: Option<Timestamp>,
    max_deadline: Option<Timestamp>,
    status: WorkspaceStatus,
    daily_cost: i32,
    matched_provisioners: MatchedProvisioners,
    template_version_preset_id: Option<Uuid>,
    has_ai_task: bool,
    has_external_agent: bool,
}

/// The workspace that a build is of, as the build shows it.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct OfWorkspace<'a> {
    pub name: &'a str,
    pub owner_id: Uuid,
    pub owner_name: &'a str,
}

impl Build {
    /// `queue`: its job's place in the queue from 1, and the queue's length; 0 and 0 when it is
    /// in none.
    pub(in crate::http) fn new(
        details: BuildDetails,
        of: OfWorkspace<'_>,
        queue: (i64, i64),
        agent: impl Fn(AgentDetails) -> Agent,
    ) -> Self {
        let BuildDetails { build, job, template_version_name, initiator_name, resources } = details;
        let status = job.status();
        let resources = resources
            .into_iter()
            .map(|one| Resource::new(one.resource, one.agents.into_iter().map(&agent).collect()));
        Self {
            id: build.id,
            created_at: build.created_at,
            // Whatever happens to a build happens to its job.
            updated_at: build.updated_at.max(job.updated_at),
            workspace_id: build.workspace_id,
            workspace_name: of.name.to_owned(),
            workspace_owner_id: of.owner_id,
            workspace_owner_name: of.owner_name.to_owned(),
            template_version_id: build.template_version_id,
            template_version_name,
            build_number: build.number,
            transition: build.transition,
            initiator_id: build.initiator_id,
            initiator_name,
            job: Job::new(job, queue, build.template_version_id),
            reason: build.reason,
            resources: resources.collect(),
            deadline: build.deadline,
            max_deadline: build.max_deadline,
            status: decide::builds::workspace_status(status, build.transition),
            daily_cost: 0,
            matched_provisioners: MatchedProvisioners::one_if(status == JobStatus::Pending),
            template_version_preset_id: build.preset_id,
            has_ai_task: false,
            has_external_agent: false,
        }
    }
}

/// Who could do a job that waits: the provisioner in this process, always.
#[derive(Debug, Serialize)]
pub(in crate::http) struct MatchedProvisioners {
    count: u32,
    available: u32,
    most_recently_seen: Option<Timestamp>,
}

impl MatchedProvisioners {
    pub(in crate::http) fn one_if(pending: bool) -> Self {
        let count = u32::from(pending);
        Self { count, available: count, most_recently_seen: pending.then(Timestamp::now) }
    }
}

/// A job.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Job {
    pub id: Uuid,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    canceled_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    status: JobStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_id: Option<Uuid>,
    file_id: Uuid,
    tags: Tags,
    queue_position: i64,
    queue_size: i64,
    organization_id: Uuid,
    initiator_id: Uuid,
    input: JobInput,
    r#type: JobKind,
    metadata: JobMetadata,
    logs_overflowed: bool,
}

#[derive(Debug, Serialize)]
struct Tags {
    owner: &'static str,
    scope: &'static str,
}

#[derive(Debug, Serialize)]
struct JobInput {
    #[serde(skip_serializing_if = "Option::is_none")]
    template_version_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace_build_id: Option<Uuid>,
}

/// Empty, as upstream's is where the job is part of something else.
#[derive(Debug, Default, Serialize)]
struct JobMetadata {
    template_version_name: &'static str,
    template_id: Uuid,
    template_name: &'static str,
    template_display_name: &'static str,
    template_icon: &'static str,
}

impl Job {
    /// `version`: whose source it works with.
    pub(in crate::http) fn new(job: model::Job, queue: (i64, i64), version: Uuid) -> Self {
        let status = job.status();
        Self {
            id: job.id,
            created_at: job.created_at,
            started_at: job.started_at,
            completed_at: job.completed_at,
            canceled_at: job.canceled_at,
            error: job.error.filter(|error| !error.is_empty()),
            error_code: job.error_code,
            status,
            worker_id: job.worker_id,
            file_id: version,
            tags: Tags { owner: "", scope: "organization" },
            queue_position: queue.0,
            queue_size: queue.1,
            organization_id: ORGANIZATION_ID,
            initiator_id: job.initiator_id,
            input: JobInput {
                template_version_id: job.input.template_version_id,
                workspace_build_id: job.input.workspace_build_id,
            },
            r#type: job.kind,
            metadata: JobMetadata::default(),
            logs_overflowed: job.logs_overflowed,
        }
    }
}

/// What a build made.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Resource {
    id: Uuid,
    created_at: Timestamp,
    job_id: Uuid,
    workspace_transition: Transition,
    r#type: String,
    name: String,
    hide: bool,
    icon: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<Agent>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metadata: Vec<ResourceMetadata>,
    daily_cost: i32,
}

impl Resource {
    pub(in crate::http) fn new(resource: model::Resource, agents: Vec<Agent>) -> Self {
        Self {
            id: resource.id,
            created_at: resource.created_at,
            job_id: resource.job_id,
            workspace_transition: resource.transition,
            r#type: resource.kind,
            name: resource.name,
            hide: resource.hide,
            icon: resource.icon,
            agents,
            metadata: resource.metadata,
            daily_cost: 0,
        }
    }
}

/// A line of a job's log.
#[derive(Debug, Serialize)]
pub(in crate::http) struct JobLogLine {
    id: i64,
    created_at: Timestamp,
    log_source: JobLogSource,
    log_level: LogLevel,
    stage: String,
    output: String,
}

impl From<JobLog> for JobLogLine {
    fn from(log: JobLog) -> Self {
        Self {
            id: log.id,
            created_at: log.created_at,
            log_source: log.source,
            log_level: log.level,
            stage: log.stage,
            output: log.output,
        }
    }
}

/// A value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(in crate::http) struct ParameterValue {
    pub name: String,
    pub value: String,
}
