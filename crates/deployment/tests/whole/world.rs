//! A deployment for a test, and what tests ask of it.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use bytes::Bytes;
use coderctl_deployment::{
    Config, Deployment,
    config::Storage,
    faults::Faults,
    model::{
        Agent, AutomaticUpdates, Build, BuildReason, Job, JobStatus, Lifecycle, Template,
        Timestamp, Transition, User, Workspace,
    },
    provisioner::{
        build_made,
        create::{self, CreateError, Made, WorkspaceRequest},
    },
    state::State,
    store::Store,
};
use coderctl_transport::{Body, Limits, Options, Transport};
use http::{Method, Request, Response};
use tempfile::TempDir;
use uuid::Uuid;

/// Longer than anything takes on a loaded machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A deployment in memory, a user, and the directory of their workspaces.
pub struct World {
    pub deployment: Deployment,
    pub user: User,
    pub directory: TempDir,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::new(Storage::Memory, directory.path());
        change(&mut config);
        Self::start(config, directory).await
    }

    pub async fn start(config: Config, directory: TempDir) -> Self {
        let deployment = Deployment::start_faulty(config, Faults::injector()).await.unwrap();
        let user = deployment.first_user("alice", "alice@example.com").await.unwrap();
        Self { deployment, user, directory }
    }

    pub fn state(&self) -> &State {
        self.deployment.state()
    }

    pub fn store(&self) -> &Store {
        &self.state().store
    }

    pub fn faults(&self) -> &Faults {
        &self.state().faults
    }

    pub async fn template(&self, name: &str, text: &str) -> Template {
        create::template(self.state(), name, text, self.user.id).await.unwrap()
    }

    /// Asks for a workspace; `preset` by its name.
    pub async fn try_create(
        &self,
        owner: &User,
        name: &str,
        template: &Template,
        preset: Option<&str>,
    ) -> Result<Made, CreateError> {
        let presets = self.store().presets(template.active_version_id).await.unwrap();
        let preset =
            preset.map(|name| presets.iter().find(|preset| preset.name == name).unwrap().id);
        let request = WorkspaceRequest {
            owner: owner.id,
            name: name.to_owned(),
            version: self.store().template_version(template.active_version_id).await.unwrap(),
            preset,
            parameters: BTreeMap::new(),
            ttl: None,
            autostart_schedule: None,
            automatic_updates: AutomaticUpdates::Never,
            reason: BuildReason::Initiator,
        };
        create::workspace(self.state(), &request).await
    }

    pub async fn create(&self, name: &str, template: &Template) -> Made {
        self.try_create(&self.user, name, template, None).await.unwrap()
    }

    /// Makes the next build of a workspace.
    pub async fn build(&self, workspace: Uuid, transition: Transition) -> (Build, Job) {
        let (latest, _) = self.store().latest_build(workspace).await.unwrap();
        let owner = self.store().workspace(workspace).await.unwrap().owner_id;
        let build = create::next_build(&latest, transition, owner, BuildReason::Initiator);
        let made = self.store().insert_build(workspace, &build, Timestamp::now()).await.unwrap();
        build_made(self.state(), owner, workspace).await;
        made
    }

    /// Waits until a job is over.
    pub async fn over(&self, job: Uuid) -> Job {
        until("the job is over", async || {
            let job = self.store().job(job).await.unwrap();
            (!job.status().is_active()).then_some(job)
        })
        .await
    }

    /// Waits until a job has succeeded.
    pub async fn succeeded(&self, job: Uuid) -> Job {
        let job = self.over(job).await;
        assert_eq!(job.status(), JobStatus::Succeeded, "{job:?}");
        job
    }

    /// Waits until a job runs.
    pub async fn running(&self, job: Uuid) {
        until("the job runs", async || {
            let job = self.store().job(job).await.unwrap();
            (job.status() == JobStatus::Running).then_some(())
        })
        .await;
    }

    /// The only agent of a build, once it has this lifecycle.
    pub async fn agent(&self, build: Uuid, lifecycle: Lifecycle) -> Agent {
        until(&format!("the agent is {lifecycle}"), async || {
            let agents = self.store().agents_of_build(build).await.unwrap();
            agents.into_iter().find(|agent| agent.lifecycle == lifecycle)
        })
        .await
    }

    /// A file of a workspace, once it is there and says as much.
    pub async fn file(&self, workspace: &Workspace, name: &str, contains: &str) -> String {
        let path = self.home(workspace).join(name);
        until(&format!("{name} says {contains:?}"), async || {
            let text = std::fs::read_to_string(&path).ok()?;
            text.contains(contains).then_some(text)
        })
        .await
    }

    pub fn home(&self, workspace: &Workspace) -> PathBuf {
        self.directory.path().join(workspace.id.to_string())
    }

    /// The text of a job's log, a line each: level, stage, output.
    pub async fn log(&self, job: Uuid) -> Vec<String> {
        let lines = self.store().job_logs(job, 0, 1000).await.unwrap();
        lines.iter().map(|line| format!("{} {}: {}", line.level, line.stage, line.output)).collect()
    }

    /// A request with an agent's token, and its whole answer.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: &str,
    ) -> Response<Bytes> {
        let request = self.request(method, path, token, body);
        transport().request(request, Limits::default()).await.unwrap()
    }

    /// A request whose answer goes on.
    pub async fn follow(&self, path: &str, token: &str) -> Response<Body> {
        let request = self.request(Method::GET, path, token, "");
        transport().stream(request, LIMIT).await.unwrap()
    }

    pub fn request(&self, method: Method, path: &str, token: &str, body: &str) -> Request<Bytes> {
        Request::builder()
            .method(method)
            .uri(self.deployment.url().join(path).unwrap().as_str())
            .header("Coder-Session-Token", token)
            .body(Bytes::copy_from_slice(body.as_bytes()))
            .unwrap()
    }
}

pub fn transport() -> Transport {
    Transport::new(Options::default()).unwrap()
}

/// An agent's token as it sends it.
pub fn token(agent: &Agent) -> String {
    agent.auth_token.expose().to_string()
}

/// Looks again and again until there is something.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut again = tokio::time::interval(Duration::from_millis(10));
    let found = tokio::time::timeout(LIMIT, async {
        loop {
            again.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"))
}
