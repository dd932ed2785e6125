//! The deployment that this program carries, as `demo` and `server` use it.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use coderctl_deployment::{
    Config, Deployment,
    decide::tokens::api_key_valid,
    deployment::{AskError, StartError},
    http::serve::ListenError,
    model::{Agent, Lifecycle, SessionToken, Timestamp, Transition, User},
    provisioner::create,
    pubsub::channels::workspace_owner,
    store::StoreError,
};
use url::Url;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::template_file::TemplateFile;
use crate::{
    error::{CommandError, Kind},
    ui::quoted,
    whole::{self, Access},
};

/// The first user.
const USER: (&str, &str) = ("admin", "admin@localhost");

/// How long a token is good that a start gives: use prolongs it.
const LIFETIME: Duration = Duration::from_hours(7 * 24);

/// How often a workspace is looked at without being told of it.
const LOOK: Duration = Duration::from_secs(1);

/// Where a deployment keeps its files.
pub(super) struct Home {
    path: PathBuf,
    /// Removes it at the end, where nothing is to be kept.
    _temporary: Option<tempfile::TempDir>,
}

impl Home {
    /// This directory, or one that goes with the process.
    pub(super) fn at(directory: Option<&Path>, prefix: &str) -> Result<Self, CommandError> {
        let failed = |path: &Path, error: io::Error| {
            let context = format!("the directory {} cannot be used", path.display());
            CommandError::new(Kind::Local, anyhow::Error::new(error).context(context))
        };
        let Some(directory) = directory else {
            let temporary = tempfile::Builder::new()
                .prefix(&format!("{prefix}-"))
                .tempdir()
                .map_err(|error| failed(&std::env::temp_dir(), error))?;
            let path = temporary.path().to_owned();
            return Ok(Self { path, _temporary: Some(temporary) });
        };
        // Absolute, because agents change their directory.
        let path = std::path::absolute(directory).map_err(|error| failed(directory, error))?;
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|error| failed(&path, error))?;
        Ok(Self { path, _temporary: None })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn workspaces(&self) -> PathBuf {
        self.path.join("workspaces")
    }
}

/// A deployment that runs, and its first user.
pub(super) struct Running {
    deployment: Deployment,
    user: User,
}

/// Starts one.
pub(super) async fn start(config: Config) -> Result<Running, CommandError> {
    let deployment = Deployment::start(config).await.map_err(not_started)?;
    let (name, email) = USER;
    let user = deployment.first_user(name, email).await.map_err(asked)?;
    Ok(Running { deployment, user })
}

fn not_started(error: StartError) -> CommandError {
    let kind = match &error {
        StartError::Listen(ListenError::Config(_)) => Kind::Usage,
        StartError::Listen(ListenError::Bind { .. }) => Kind::Local,
        StartError::Store(_)
        | StartError::Pubsub(_)
        | StartError::Control(_)
        | StartError::Transport(_)
        | StartError::Other(_) => Kind::Other,
    };
    CommandError::new(kind, anyhow::Error::new(error).context("the deployment cannot start"))
}

fn asked(error: AskError) -> CommandError {
    let kind = match &error {
        AskError::Build { .. } => Kind::Build,
        AskError::Create(_) => Kind::Usage,
        AskError::Store(_) | AskError::Pubsub(_) | AskError::NoEntropy => Kind::Other,
    };
    CommandError::new(kind, error)
}

fn stored(error: StoreError) -> CommandError {
    CommandError::new(Kind::Other, error)
}

impl Running {
    pub(super) fn url(&self) -> &Url {
        self.deployment.url()
    }

    /// A token for the first user: the one in the file while it is good, otherwise a new one, which
    /// the file gets.
    pub(super) async fn token(&self, file: &Path) -> Result<Zeroizing<String>, CommandError> {
        if let Some(kept) = self.kept(file).await? {
            return Ok(kept);
        }
        let name = format!("server-{}", Uuid::new_v4().simple());
        let token =
            self.deployment.new_token(self.user.id, &name, LIFETIME).await.map_err(asked)?;
        let token = token.expose();
        whole::keep(file, token.as_bytes(), Access::Private).map_err(|error| {
            let context = format!("the token cannot be written to {}", file.display());
            CommandError::new(Kind::Local, anyhow::Error::new(error).context(context))
        })?;
        Ok(token)
    }

    async fn kept(&self, file: &Path) -> Result<Option<Zeroizing<String>>, CommandError> {
        // A file that is missing or holds something else gets a new token.
        let Ok(text) = fs::read_to_string(file).map(Zeroizing::new) else { return Ok(None) };
        let Ok(token) = SessionToken::parse(text.trim()) else { return Ok(None) };
        let store = &self.deployment.state().store;
        let found = store.api_key(token.id()).await.map_err(stored)?;
        let found = found.as_ref().map(|(key, user)| (key, user));
        let valid = api_key_valid(&token, found, Timestamp::now());
        Ok(valid.is_ok_and(|user| user.id == self.user.id).then(|| token.expose()))
    }

    /// Sees to it that there is a workspace of this name; a new one is of this template. Answers its
    /// first agent's token.
    ///
    /// With `ready`, waits until the agents of a started workspace are done with their scripts.
    pub(super) async fn workspace(
        &self,
        name: &str,
        template: Option<TemplateFile>,
        ready: bool,
    ) -> Result<Option<String>, CommandError> {
        let state = self.deployment.state();
        let found = state.store.workspace_by_name(self.user.id, name, false).await;
        let build = match found {
            Ok(workspace) => {
                let (build, _) = state.store.latest_build(workspace.id).await.map_err(stored)?;
                build
            }
            Err(StoreError::NotFound(_)) => {
                let of = match &template {
                    Some(TemplateFile { name, text }) => {
                        let made = create::template(state, name, text, self.user.id).await;
                        made.map_err(|error| {
                            let context = format!("the template {} cannot be used", quoted(name));
                            CommandError::new(
                                Kind::Usage,
                                anyhow::Error::new(error).context(context),
                            )
                        })?;
                        Some(name.as_str())
                    }
                    None => None,
                };
                let made = self.deployment.create_workspace(self.user.id, name, of).await;
                let made = made.map_err(asked)?;
                self.deployment.built(&made).await.map_err(asked)?;
                made.build
            }
            Err(error) => return Err(stored(error)),
        };
        let agents = state.store.agents_of_build(build.id).await.map_err(stored)?;
        if ready && build.transition == Transition::Start {
            self.ready(build.id).await?;
        }
        Ok(agents.first().map(|agent| agent.auth_token.expose().to_string()))
    }

    async fn ready(&self, build: Uuid) -> Result<(), CommandError> {
        let state = self.deployment.state();
        let channel = workspace_owner(self.user.id);
        let failed = |error| CommandError::new(Kind::Other, error);
        let mut news = state.pubsub.subscribe(&channel).await.map_err(failed)?;
        loop {
            let agents = state.store.agents_of_build(build).await.map_err(stored)?;
            if agents.iter().all(has_started) {
                return Ok(());
            }
            // Told or not, it is looked at again.
            let _ = tokio::time::timeout(LOOK, news.recv()).await;
        }
    }

    /// Ends it in order.
    pub(super) async fn shutdown(self) {
        self.deployment.shutdown().await;
    }
}

fn has_started(agent: &Agent) -> bool {
    match agent.lifecycle {
        Lifecycle::Created | Lifecycle::Starting => false,
        Lifecycle::StartTimeout
        | Lifecycle::StartError
        | Lifecycle::Ready
        | Lifecycle::ShuttingDown
        | Lifecycle::ShutdownTimeout
        | Lifecycle::ShutdownError
        | Lifecycle::Off => true,
    }
}
