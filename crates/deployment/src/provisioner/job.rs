//! One job: the steps of a build, their log, and what comes of it.
//!
//! ```text
//!   acquired ─► held? ─► step: log, time ─► … ─► agents (stop, delete) ─► complete ─► agents (start)
//!       │                   │                                                │
//!       └ lease kept ───────┴─ canceling: stopped ── step fails: failed ─────┴─ events, claim
//! ```

use std::{collections::BTreeMap, time::Duration};

use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use super::{
    agents::{AgentsError, Wanted},
    rows,
    runner::LEASE,
    template::{Kind, Step, Template, TemplateError},
    tend,
};
use crate::{
    decide::Conflict,
    model::{
        AgentToken, Build, Job, JobKind, JobLease, JobLogSource, JobStatus, LogLevel, NewJobLog,
        NewResource, PREBUILDS_USER, PrebuildStage, ReinitEvent, Timestamp, Transition,
    },
    pubsub::{
        Event, Subscription,
        channels::{JobLogsAfter, WorkspaceEvent, workspace_owner},
        claims::publish_claim,
    },
    state::State,
    store::{AcquiredJob, CompletedJob, StoreError},
};

/// The stage of lines that belong to no step.
const STAGE: &str = "Provisioning";

/// How often the lease is renewed, and a cancel looked for that was not heard of: two may fail.
const RENEW: Duration = Duration::from_secs(LEASE.as_secs() / 3);

/// Why a job ends without success.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// It went wrong.
    #[error("{0}")]
    Failed(String),
    /// Somebody asked to cancel it.
    #[error("it was canceled")]
    Canceled,
    /// It is another worker's now.
    #[error("another worker has it")]
    Lost,
    /// This worker ends.
    #[error("this worker ends")]
    GivenBack,
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(Conflict::LeaseLost) => Self::Lost,
            // It may pass, and then somebody tries again.
            StoreError::Unavailable { .. } => {
                tracing::error!(%error, "a job is interrupted");
                Self::GivenBack
            }
            StoreError::Conflict(_)
            | StoreError::NotFound(_)
            | StoreError::Corrupt { .. }
            | StoreError::Unusable(_) => Self::Failed(error.to_string()),
        }
    }
}

impl From<TemplateError> for Ended {
    fn from(error: TemplateError) -> Self {
        Self::Failed(format!("The template cannot be read: {error}"))
    }
}

impl From<AgentsError> for Ended {
    fn from(error: AgentsError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Runs a job to its end.
pub(super) async fn run(state: State, acquired: AcquiredJob, ending: watch::Receiver<bool>) {
    let AcquiredJob { lease, job, taken_over } = acquired;
    let id = job.id;
    if job.kind != JobKind::WorkspaceBuild {
        let error = format!("There is no provisioner for jobs of the kind {}.", job.kind);
        if let Err(error) = state.store.fail_job(lease, &error, None, Timestamp::now()).await {
            tracing::error!(job = %id, %error, "a job's end could not be kept");
        }
        return;
    }
    match Work::new(state, lease, job).await {
        Ok(work) => work.run(taken_over, ending).await,
        // The lease runs out, and it is tried again.
        Err(error) => tracing::error!(job = %id, %error, "a job could not be begun"),
    }
}

struct Work {
    state: State,
    lease: JobLease,
    job: Job,
    build: Build,
    owner: Uuid,
}

impl Work {
    async fn new(state: State, lease: JobLease, job: Job) -> Result<Self, StoreError> {
        let build = state.store.build_of_job(job.id).await?;
        let owner = state.store.workspace(build.workspace_id).await?.owner_id;
        Ok(Self { state, lease, job, build, owner })
    }

    fn stage(&self) -> PrebuildStage {
        self.job.input.prebuilt_workspace_stage
    }

    async fn run(self, taken_over: bool, mut ending: watch::Receiver<bool>) {
        let (id, workspace) = (self.job.id, self.build.workspace_id);
        tracing::debug!(job = %id, %workspace, transition = %self.build.transition, "job begins");
        // Before the first look at its state, so that no cancel is missed.
        let news = self.state.pubsub.subscribe(&workspace_owner(self.owner)).await;
        if let Err(error) = &news {
            tracing::warn!(%error, "a job's cancel is only looked for, not heard of");
        }
        self.tell().await;
        let ended = tokio::select! {
            ended = self.perform(taken_over) => ended,
            ended = self.keep(news.ok()) => Err(ended),
            // The sender is gone when the runner is.
            _ = ending.wait_for(|ending| *ending) => Err(Ended::GivenBack),
        };
        // Not to be interrupted: it is done, or it is not.
        let ended = match ended {
            Ok(resources) => {
                let now = Timestamp::now();
                let completed = self.state.store.complete_job(self.lease, &resources, now).await;
                completed.map_err(Ended::from)
            }
            Err(ended) => Err(ended),
        };
        let kept = match ended {
            Ok(completed) => {
                self.completed(&completed).await;
                return;
            }
            Err(Ended::Failed(error)) => self.failed(&error).await,
            Err(Ended::Canceled) => {
                self.state.store.job_stopped(self.lease, Timestamp::now()).await.map(|_| ())
            }
            Err(Ended::GivenBack) => {
                let released = self.state.store.release_job(self.lease, Timestamp::now()).await;
                if let Err(error) = released {
                    tracing::warn!(job = %id, %error, "a job could not be given back");
                }
                return;
            }
            Err(Ended::Lost) => {
                tracing::warn!(job = %id, "another worker has taken a job over");
                return;
            }
        };
        match kept {
            Ok(()) => self.over().await,
            Err(error) => tracing::error!(job = %id, %error, "a job's end could not be kept"),
        }
    }

    /// Keeps the lease; ends when the job is to be stopped.
    async fn keep(&self, mut news: Option<Subscription>) -> Ended {
        let mut deadline = Instant::now() + LEASE;
        loop {
            tokio::select! {
                () = tokio::time::sleep(RENEW) => {}
                () = changed(news.as_mut(), self.build.workspace_id) => {}
            }
            match self.state.store.renew_job(self.lease, LEASE, Timestamp::now()).await {
                Ok(JobStatus::Canceling) => return Ended::Canceled,
                Ok(_) => deadline = Instant::now() + LEASE,
                Err(StoreError::Conflict(_)) => return Ended::Lost,
                // It may pass while the lease lasts.
                Err(error) if Instant::now() < deadline => {
                    tracing::warn!(job = %self.job.id, %error, "a job's lease is not renewed");
                }
                Err(_) => return Ended::Lost,
            }
        }
    }

    async fn perform(&self, taken_over: bool) -> Result<Vec<NewResource>, Ended> {
        let (store, build) = (&self.state.store, &self.build);
        if self.job.canceled_at.is_some() {
            // Its worker was lost before it could stop.
            return Err(Ended::Canceled);
        }
        let version = store.template_version(build.template_version_id).await?;
        let template = Template::parse(&version.source)?;
        self.state.faults.held(build.workspace_id, build.transition).await;
        if taken_over {
            let text = "The provisioner that had this job is gone; it begins again.";
            self.log(STAGE, &[(LogLevel::Warn, text)]).await?;
        }
        let kind = Kind::from(self.stage());
        let failure = template.failure(build.transition, kind, build.number);
        for (number, step) in template.steps(build.transition).iter().enumerate() {
            let fails = failure.filter(|(at, _)| *at == number).map(|(_, error)| error);
            self.step(step, fails).await?;
        }
        if let Some((_, error)) = failure {
            return Err(Ended::Failed(error.to_owned()));
        }
        match build.transition {
            Transition::Start => self.started(&template).await,
            Transition::Stop => {
                self.leave().await?;
                Ok(Vec::new())
            }
            Transition::Delete => {
                self.leave().await?;
                self.state.provisioner.agents().remove(build.workspace_id).await?;
                Ok(Vec::new())
            }
        }
    }

    async fn step(&self, step: &Step, fails: Option<&str>) -> Result<(), Ended> {
        let lines: Vec<_> = step.log.iter().map(|line| (line.level, line.text.as_str())).collect();
        self.log(&step.stage, &lines).await?;
        if let Some(error) = fails {
            self.log(&step.stage, &[(LogLevel::Error, error)]).await?;
            return Err(Ended::Failed(error.to_owned()));
        }
        if !step.duration.get().is_zero() {
            tokio::time::sleep(step.duration.get()).await;
        }
        Ok(())
    }

    /// What a start makes. A claim's agents have the tokens of the first build's, so that those
    /// that run need not be told new ones.
    async fn started(&self, template: &Template) -> Result<Vec<NewResource>, Ended> {
        let known: BTreeMap<String, AgentToken> = match self.stage() {
            PrebuildStage::Claim => {
                let tokens = self.state.store.first_agent_tokens(self.build.workspace_id).await?;
                tokens.into_iter().collect()
            }
            PrebuildStage::None | PrebuildStage::Create => BTreeMap::new(),
        };
        Ok(rows::started(template, &self.build.parameters, |name| {
            known.get(name).copied().unwrap_or_else(AgentToken::generate)
        }))
    }

    /// Ends the workspace's agents, wherever they run.
    async fn leave(&self) -> Result<(), Ended> {
        let workspace = self.build.workspace_id;
        if !self.state.provisioner.agents().stop(workspace).await {
            tend::elsewhere(&self.state, workspace).await?;
        }
        Ok(())
    }

    async fn completed(&self, completed: &CompletedJob) {
        let CompletedJob { job, build, workspace } = completed;
        let succeeded = job.status() == JobStatus::Succeeded;
        self.over().await;
        if !succeeded || build.transition != Transition::Start {
            return;
        }
        if let Err(error) = self.start_agents().await {
            tracing::error!(workspace = %workspace.id, %error, "a workspace's agents do not run");
        }
        if self.stage() == PrebuildStage::Claim {
            let claim = ReinitEvent::claimed(workspace.id, workspace.owner_id);
            if let Err(error) = publish_claim(&self.state.pubsub, &claim).await {
                tracing::error!(workspace = %workspace.id, %error, "a claim could not be told");
            }
        }
    }

    async fn start_agents(&self) -> Result<(), Ended> {
        let agents = self.state.store.agents_of_build(self.build.id).await?;
        let wanted: Vec<_> = agents.iter().filter_map(Wanted::of).collect();
        self.state.provisioner.agents().start(self.build.workspace_id, &wanted).await?;
        Ok(())
    }

    async fn failed(&self, error: &str) -> Result<(), StoreError> {
        tracing::debug!(job = %self.job.id, error, "job failed");
        self.state.store.fail_job(self.lease, error, None, Timestamp::now()).await.map(|_| ())
    }

    /// Tells that the job is over, in upstream's order
    /// (coder/coder: coderd/provisionerdserver/provisionerdserver.go): first those who watch the
    /// workspace, then those who follow the log.
    async fn over(&self) {
        self.tell().await;
        let end = JobLogsAfter { created_after: 0, end_of_logs: true };
        if let Err(error) = self.state.pubsub.publish_job_logs(self.job.id, end).await {
            tracing::warn!(job = %self.job.id, %error, "the end of a log could not be told");
        }
        if self.build.initiator_id == PREBUILDS_USER || self.stage() == PrebuildStage::Claim {
            self.state.provisioner.wake_prebuilds();
        }
    }

    /// Tells those who watch the workspace. Some of those who watch a claimed one have subscribed
    /// when it had no owner yet.
    async fn tell(&self) {
        let event = WorkspaceEvent::state_change(self.build.workspace_id);
        self.state.publish_workspace(self.owner, event).await;
        if self.stage() == PrebuildStage::Claim && self.owner != PREBUILDS_USER {
            self.state.publish_workspace(PREBUILDS_USER, event).await;
        }
    }

    async fn log(&self, stage: &str, lines: &[(LogLevel, &str)]) -> Result<(), Ended> {
        if lines.is_empty() {
            return Ok(());
        }
        let created_at = Timestamp::now();
        let logs: Vec<_> = lines
            .iter()
            .map(|(level, text)| NewJobLog {
                created_at,
                source: JobLogSource::Provisioner,
                level: *level,
                stage: stage.to_owned(),
                output: (*text).to_owned(),
            })
            .collect();
        let appended = self.state.store.append_job_logs(self.lease, &logs).await?;
        if let Some(created_after) = appended.created_after() {
            let after = JobLogsAfter { created_after, end_of_logs: false };
            if let Err(error) = self.state.pubsub.publish_job_logs(self.job.id, after).await {
                tracing::warn!(job = %self.job.id, %error, "a log's lines could not be told");
            }
        }
        Ok(())
    }
}

/// Waits until something may have happened to the workspace.
async fn changed(news: Option<&mut Subscription>, workspace: Uuid) {
    let Some(news) = news else { return std::future::pending().await };
    loop {
        match news.recv().await {
            Some(Event::Resync) => return,
            Some(Event::Message(payload)) => match WorkspaceEvent::parse(&payload) {
                Ok(event) if event.workspace_id == workspace => return,
                Ok(_) | Err(_) => {}
            },
            None => return std::future::pending().await,
        }
    }
}
