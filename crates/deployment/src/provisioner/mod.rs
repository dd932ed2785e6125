//! Templates, builds, prebuilds, claims, and the agents of workspaces.
//!
//! ```text
//!   a job waits ─► runner ─► job: steps, log, cancel, lease ─► complete ─► rows, events, claim
//!                                                                │
//!   presets ─► prebuilds: keep N ready ─► builds               agents: run, stop, take over
//! ```
//!
//! Several processes may share a state: each job has one worker at a time, and each workspace's
//! agents run in one process at a time.

mod agents;
pub mod create;
mod job;
mod names;
mod prebuilds;
mod rows;
mod runner;
pub mod template;
mod tend;

use std::{path::PathBuf, sync::Arc};

use coderctl_transport::Transport;
use tokio::sync::Notify;
use url::Url;
use uuid::Uuid;

use self::agents::Agents;
pub use self::{agents::AgentsError, create::CreateError};
use crate::{
    config::AgentMode,
    http::tasks::Stopping,
    pubsub::channels::{JobPosted, WorkspaceEvent},
    state::State,
};

/// Runs builds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Provisioner(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    agents: Agents,
    /// There may be a job.
    jobs: Notify,
    /// There may be too few prebuilt workspaces.
    prebuilds: Notify,
}

/// What the agents that a provisioner runs are told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The URL by which they reach the deployment.
    pub server: Url,
    /// The way there.
    pub transport: Transport,
    /// Where the workspaces' directories are.
    pub workspaces: PathBuf,
    /// Where they run.
    pub mode: AgentMode,
    /// Ports that they serve themselves.
    pub services: coderctl_agent::Services,
}

impl Provisioner {
    /// One that does nothing yet; see [`run`].
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let agents = Agents::new(settings);
        Self(Arc::new(Inner { agents, jobs: Notify::new(), prebuilds: Notify::new() }))
    }

    /// A job was made, in this process.
    fn wake(&self) {
        self.0.jobs.notify_one();
    }

    /// Presets or prebuilt workspaces have changed, in this process.
    pub fn wake_prebuilds(&self) {
        self.0.prebuilds.notify_one();
    }

    fn agents(&self) -> &Agents {
        &self.0.agents
    }
}

/// Runs jobs, keeps prebuilt workspaces and runs agents until the server stops; then gives jobs
/// back and ends the agents.
pub async fn run(state: State, stopping: Stopping) {
    let stop = |mut stopping: Stopping| async move { stopping.requested().await };
    tokio::join!(
        runner::run(&state, stop(stopping.clone())),
        prebuilds::run(&state, stop(stopping.clone())),
        tend::run(&state, stop(stopping)),
    );
    state.provisioner.agents().shutdown().await;
}

/// Tells all that a build was made: those who watch the workspace, and those who run jobs. Whoever
/// makes a build calls this once it is stored.
pub async fn build_made(state: &State, owner: Uuid, workspace: Uuid) {
    state.provisioner.wake();
    state.publish_workspace(owner, WorkspaceEvent::state_change(workspace)).await;
    let posted = JobPosted {
        organization_id: Uuid::nil(),
        provisioner: PROVISIONER.to_owned(),
        tags: std::collections::BTreeMap::new(),
    };
    if let Err(error) = state.pubsub.publish_job_posted(&posted).await {
        tracing::warn!(%error, "other workers could not be told of a job; they look for jobs anyway");
    }
}

/// The kind of provisioner, where Coder's is `terraform` or `echo`.
const PROVISIONER: &str = "echo";
