//! A deployment for one test: an owner and two members, each with a token and a workspace.

use std::time::Duration;

use bytes::Bytes;
use coderctl_deployment::{
    Config, Deployment,
    config::{AgentMode, Storage},
    faults::{Fault, Faults},
    model::{Agent, Build, Job, JobStatus, Lifecycle, NewUser, Role, Timestamp, User, Workspace},
    provisioner::create,
    pubsub::channels::{WorkspaceEvent, WorkspaceEventKind},
    state::State,
    store::Store,
};
use coderctl_transport::{Limits, Message, WebSocket, WebSocketOptions};
use http::{Method, Request};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::client::{Answer, PATIENCE, soon, transport};

/// The template of all workspaces here: something of everything.
pub const TEMPLATE: &str = r#"
    description = "For tests"
    icon = "/icon/test.svg"

    [[agents]]
    name = "main"
    directory = "work"
    environment = { EDITOR = "vi" }
    connection_timeout = "1h"

    [[agents.scripts]]
    name = "install"
    run = "true"
    blocks_login = true
    timeout = "30s"

    [[agents.apps]]
    slug = "web"
    url = "http://localhost:8080"
    healthcheck = { url = "http://localhost:8080/healthz", interval = "5s", threshold = 3 }

    [[start]]
    stage = "Planning"
    log = ["first", { level = "warn", text = "second" }]

    [[parameters]]
    name = "size"
    description = "How large"
    default = "small"
    options = ["small", "large"]
    mutable = true

    [[parameters]]
    name = "zone"
    default = "here"

    [[presets]]
    name = "big"
    default = true
    parameters = { size = "large" }
"#;

/// Somebody with a token and a workspace.
pub struct Someone {
    pub user: User,
    pub token: String,
    pub workspace: Workspace,
    pub build: Build,
    pub agent: Agent,
}

pub struct World {
    pub deployment: Deployment,
    /// Has the role of an owner.
    pub admin: Someone,
    pub alice: Someone,
    pub bob: Someone,
    _directory: TempDir,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::new(Storage::Memory, directory.path());
        config.agents = AgentMode::ByHand;
        change(&mut config);
        let deployment = Deployment::start_faulty(config, Faults::injector()).await.unwrap();
        let admin = deployment.first_user("admin", "admin@example.com").await.unwrap();
        create::template(deployment.state(), "test", TEMPLATE, admin.id).await.unwrap();
        let alice = member(&deployment, "alice").await;
        let bob = member(&deployment, "bob").await;
        Self {
            admin: someone(&deployment, admin).await,
            alice: someone(&deployment, alice).await,
            bob: someone(&deployment, bob).await,
            deployment,
            _directory: directory,
        }
    }

    pub fn state(&self) -> &State {
        self.deployment.state()
    }

    pub fn store(&self) -> &Store {
        &self.state().store
    }

    /// One call; `path` is below `/api/v2`.
    pub async fn call(&self, method: Method, path: &str, token: &str, body: Value) -> Answer {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        self.send(method, path, token, body).await
    }

    pub async fn send(&self, method: Method, path: &str, token: &str, body: Bytes) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}api/v2{path}", self.deployment.url()))
            .header("coder-session-token", token)
            .body(body)
            .unwrap();
        self.answer(request).await
    }

    pub async fn answer(&self, request: Request<Bytes>) -> Answer {
        let transport = transport();
        let response = soon(transport.request(request, Limits::default())).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.call(Method::GET, path, token, Value::Null).await
    }

    pub async fn try_socket(
        &self,
        path: &str,
        token: &str,
    ) -> Result<WebSocket, coderctl_transport::Error> {
        let request = Request::get(format!("{}api/v2{path}", self.deployment.url()))
            .header("coder-session-token", token)
            .body(())
            .unwrap();
        soon(transport().websocket(request, WebSocketOptions::default())).await
    }

    pub async fn socket(&self, path: &str, token: &str) -> WebSocket {
        self.try_socket(path, token).await.unwrap()
    }

    /// Jobs wait from now on; gives what lets them go on.
    pub fn hold_jobs(&self) -> u64 {
        self.state().faults.arm(Fault::HoldJob { workspace: None, transition: None }).unwrap()
    }

    pub fn release_jobs(&self, held: u64) {
        assert_eq!(self.state().faults.disarm(Some(held)), 1);
    }

    /// Waits until the job of a build is so far.
    pub async fn job(&self, build: Uuid, status: JobStatus) -> Job {
        let build = self.store().build(build).await.unwrap();
        until(&format!("the job is {status}"), async || {
            let job = self.store().job(build.job_id).await.unwrap();
            (job.status() == status).then_some(job)
        })
        .await
    }

    /// An agent reports, as its RPC session would.
    pub async fn report(&self, of: &Someone, agent: Uuid, lifecycle: Lifecycle) {
        let now = Timestamp::now();
        self.store().update_lifecycle(agent, lifecycle, None, now).await.unwrap();
        let kind = WorkspaceEventKind::AgentLifecycleUpdate;
        let event = WorkspaceEvent::agent(kind, of.workspace.id, agent);
        self.state().publish_workspace(of.user.id, event).await;
    }

    /// The agents of a workspace's latest build.
    pub async fn agents(&self, workspace: Uuid) -> Vec<Agent> {
        let (build, _) = self.store().latest_build(workspace).await.unwrap();
        self.store().agents_of_build(build.id).await.unwrap()
    }
}

async fn member(deployment: &Deployment, name: &str) -> User {
    let new = NewUser {
        id: Uuid::new_v4(),
        username: name.to_owned(),
        email: format!("{name}@example.com"),
        name: String::new(),
        role: Role::Member,
    };
    deployment.state().store.create_user(&new, Timestamp::now()).await.unwrap()
}

async fn someone(deployment: &Deployment, user: User) -> Someone {
    let lifetime = Duration::from_secs(3600);
    let token = deployment.new_token(user.id, "test", lifetime).await.unwrap();
    let made = deployment.create_workspace(user.id, "dev", Some("test")).await.unwrap();
    let mut agents = deployment.built(&made).await.unwrap();
    Someone {
        token: token.expose().to_string(),
        user,
        workspace: made.workspace,
        build: made.build,
        agent: agents.remove(0),
    }
}

/// Looks again and again until there is something.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut again = tokio::time::interval(Duration::from_millis(5));
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            again.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// The next message of a socket.
pub async fn heard(socket: &mut WebSocket) -> Value {
    loop {
        match soon(socket.next()).await.unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Alive => {}
            Message::Binary(bytes) => panic!("{bytes:?}"),
        }
    }
}

/// How a socket ends: code and reason.
pub async fn farewell(socket: &mut WebSocket) -> (u16, String) {
    loop {
        match soon(socket.next()).await {
            Ok(Message::Alive) => {}
            Ok(other) => panic!("{other:?} instead of the end"),
            Err(coderctl_transport::Error::Closed { code, reason, .. }) => return (code, reason),
            Err(other) => panic!("{other}"),
        }
    }
}
