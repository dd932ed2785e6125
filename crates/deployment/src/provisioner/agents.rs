//! The agents that this process runs: one set for each workspace that is started here.
//!
//! ```text
//!   <workspaces>/<workspace id>        the workspace: its agents' HOME
//!   <workspaces>/<workspace id>.lock   held by the process that runs them
//! ```
//!
//! The lock is the system's: it goes with the process, however that ends, and another replica that
//! shares the directory may take over then.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use coderctl_agent::{Options, Token, TokenSource};
use futures_util::FutureExt as _;
use tokio::{process::Command, sync::oneshot, task::JoinHandle};
use uuid::Uuid;

use super::Settings;
use crate::{
    config::AgentMode,
    model::{Agent, AgentToken},
};

/// Time for an agent to end, its stop scripts included; then it is ended. Stop scripts have their
/// own limits where the template sets them.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// The same when the server itself ends: somebody waits for that.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// Pause before an agent's process that ended by itself is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Runs `coderctl agent` and ends it when standard input does, which happens when the server asks
/// for it and also when the server is gone. Its own standard input is the pipe, as 3.
const KEEPER: &str = r#"exec 3<&0
"$0" agent </dev/null &
agent=$!
{ read -r _; kill -TERM "$agent"; } <&3 >/dev/null 2>&1 &
reader=$!
exec 3<&-
wait "$agent"
status=$?
kill "$reader" 2>/dev/null
exit "$status""#;

/// Why the agents of a workspace do not run.
#[derive(Debug, thiserror::Error)]
pub enum AgentsError {
    /// The workspace's directory cannot be used.
    #[error("the workspace's directory {path} cannot be {what}: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// `made`, `locked` or `removed`.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// An agent to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its name.
    pub(super) name: String,
    /// Its token.
    pub(super) token: AgentToken,
}

impl Wanted {
    /// An agent of a build; none for a sub-agent, which its parent runs.
    pub(super) fn of(agent: &Agent) -> Option<Self> {
        let wanted = || Self { name: agent.spec.name.clone(), token: agent.auth_token };
        agent.parent_id.is_none().then(wanted)
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Started {
    /// They run here.
    Here,
    /// Another process runs them, or they are run by hand.
    Elsewhere,
}

/// The agents that this process runs. Cheap to clone.
#[derive(Clone)]
pub(super) struct Agents(Arc<Inner>);

struct Inner {
    settings: Settings,
    homes: Mutex<HashMap<Uuid, Arc<tokio::sync::Mutex<Home>>>>,
}

/// A workspace, while something is done about its agents.
#[derive(Default)]
struct Home {
    /// `Some` while they run here.
    lock: Option<Lock>,
    agents: BTreeMap<String, Running>,
}

/// The lock of a workspace. It is given back, not only closed: a child process that is just being
/// started has a copy of the file for a moment, which would keep it.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the lock of a workspace is not given back");
        }
    }
}

/// An agent that runs here.
struct Running {
    token: AgentToken,
    leave: oneshot::Sender<()>,
    task: Owned,
}

/// A task that ends with its owner.
struct Owned(JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Agents {
    pub(super) fn new(settings: Settings) -> Self {
        Self(Arc::new(Inner { settings, homes: Mutex::default() }))
    }

    /// Makes these the agents of a workspace: starts those that do not run, leaves those that run
    /// with the same token alone (a claim's agents find out by themselves), ends all others.
    pub(super) async fn start(
        &self,
        workspace: Uuid,
        wanted: &[Wanted],
    ) -> Result<Started, AgentsError> {
        let directory = self.make_directory(workspace)?;
        let started = match &self.0.settings.mode {
            AgentMode::ByHand => return Ok(Started::Elsewhere),
            AgentMode::InProcess | AgentMode::Process(_) => Started::Here,
        };
        let home = self.home(workspace);
        let mut home = home.lock().await;
        if home.lock.is_none() {
            let Some(lock) = self.lock(workspace)? else { return Ok(Started::Elsewhere) };
            home.lock = Some(lock);
        }
        let keep = |name: &str, running: &Running| {
            !running.task.0.is_finished()
                && wanted.iter().any(|agent| agent.name == name && agent.token == running.token)
        };
        let others: Vec<Running> = home
            .agents
            .extract_if(.., |name, running| !keep(name, running))
            .map(|(_, r)| r)
            .collect();
        leave(others, STOP_LIMIT).await;
        for agent in wanted {
            if !home.agents.contains_key(&agent.name) {
                let running = self.spawn(&directory, agent);
                home.agents.insert(agent.name.clone(), running);
            }
        }
        Ok(started)
    }

    /// Ends the agents of a workspace, their stop scripts included. Says whether any ran here.
    pub(super) async fn stop(&self, workspace: Uuid) -> bool {
        let home = self.homes().get(&workspace).cloned();
        let Some(home) = home else { return false };
        let mut home = home.lock().await;
        leave(std::mem::take(&mut home.agents).into_values(), STOP_LIMIT).await;
        home.lock.take().is_some()
    }

    /// Whether no other process runs the agents of a workspace, as far as can be told from here.
    pub(super) fn gone(&self, workspace: Uuid) -> Result<bool, AgentsError> {
        if !self.directory(workspace).exists() {
            return Ok(true);
        }
        // Dropped at once: it was to be tried only.
        Ok(self.lock(workspace)?.is_some())
    }

    /// Whether the agents of a workspace run here.
    pub(super) fn runs(&self, workspace: Uuid) -> bool {
        let homes = self.homes();
        // One that is being worked on is as good as running.
        homes
            .get(&workspace)
            .is_some_and(|home| home.try_lock().is_ok_and(|home| home.lock.is_some()))
    }

    /// Removes a workspace's directory, with all that is in it and nothing else.
    pub(super) async fn remove(&self, workspace: Uuid) -> Result<(), AgentsError> {
        self.stop(workspace).await;
        self.homes().remove(&workspace);
        let (directory, lock) = (self.directory(workspace), self.lock_path(workspace));
        let path = directory.clone();
        let removed = tokio::task::spawn_blocking(move || {
            remove_directory(&directory)?;
            match fs::remove_file(&lock) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                done => done,
            }
        });
        let done = removed.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|source| AgentsError::Directory { path, what: "removed", source })
    }

    /// Ends all agents, in order but soon.
    pub(super) async fn shutdown(&self) {
        let homes: Vec<_> = self.homes().drain().map(|(_, home)| home).collect();
        let mut agents = Vec::new();
        for home in homes {
            agents.extend(std::mem::take(&mut home.lock().await.agents).into_values());
        }
        leave(agents, SHUTDOWN_LIMIT).await;
    }

    /// The directory of a workspace.
    fn directory(&self, workspace: Uuid) -> PathBuf {
        self.0.settings.workspaces.join(workspace.to_string())
    }

    fn lock_path(&self, workspace: Uuid) -> PathBuf {
        self.0.settings.workspaces.join(format!("{workspace}.lock"))
    }

    fn make_directory(&self, workspace: Uuid) -> Result<PathBuf, AgentsError> {
        let path = self.directory(workspace);
        match fs::DirBuilder::new().recursive(true).mode(0o700).create(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(AgentsError::Directory { path, what: "made", source }),
        }
    }

    /// Takes the lock; `None` when another process has it.
    fn lock(&self, workspace: Uuid) -> Result<Option<Lock>, AgentsError> {
        let path = self.lock_path(workspace);
        let open = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .and_then(|file| match file.try_lock() {
                Ok(()) => Ok(Some(Lock(file))),
                Err(fs::TryLockError::WouldBlock) => Ok(None),
                Err(fs::TryLockError::Error(error)) => Err(error),
            });
        open.map_err(|source| AgentsError::Directory { path, what: "locked", source })
    }

    fn home(&self, workspace: Uuid) -> Arc<tokio::sync::Mutex<Home>> {
        Arc::clone(self.homes().entry(workspace).or_default())
    }

    fn homes(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Arc<tokio::sync::Mutex<Home>>>> {
        self.0.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, directory: &Path, agent: &Wanted) -> Running {
        let (leave, left) = oneshot::channel();
        let token = agent.token;
        let name = agent.name.clone();
        let task = match &self.0.settings.mode {
            AgentMode::Process(program) => {
                let mut command = self.command(program, directory, token);
                tokio::spawn(async move { keep(&mut command, &name, left).await }.boxed())
            }
            AgentMode::InProcess | AgentMode::ByHand => {
                let options = self.options(directory, token);
                tokio::spawn(
                    async move {
                        let left = async {
                            // The sender gone means the same.
                            let _ = left.await;
                        };
                        if let Err(error) = coderctl_agent::run(options, left).await {
                            tracing::error!(agent = name, %error, "an agent could not begin");
                        }
                    }
                    .boxed(),
                )
            }
        };
        Running { token, leave, task: Owned(task) }
    }

    fn options(&self, directory: &Path, token: AgentToken) -> Options {
        let text = token.expose().to_string();
        let token = TokenSource::Fixed(Token::new(text));
        let mut options =
            Options::new(self.0.settings.server.clone(), token, self.0.settings.transport.clone());
        options.log_dir = directory.join(".coder");
        options.script_data_dir = options.log_dir.clone();
        options.environment.extend([("HOME".into(), directory.as_os_str().to_owned())]);
        options.services = self.0.settings.services.clone();
        options
    }

    fn command(&self, program: &Path, directory: &Path, token: AgentToken) -> Command {
        let own: [(&str, OsString); 5] = [
            ("HOME", directory.into()),
            ("CODER_AGENT_URL", self.0.settings.server.as_str().into()),
            ("CODER_AGENT_TOKEN", token.expose().to_string().into()),
            ("CODER_AGENT_LOG_DIR", directory.join(".coder").into()),
            ("CODER_AGENT_SCRIPT_DATA_DIR", directory.join(".coder").into()),
        ];
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(KEEPER)
            .arg(program)
            .envs(own)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // A Ctrl-C in the server's terminal is for the server.
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

/// Runs an agent's process until it is to leave, again when it ends by itself.
async fn keep(command: &mut Command, name: &str, mut left: oneshot::Receiver<()>) {
    loop {
        match command.spawn() {
            Ok(mut child) => {
                let stdin = child.stdin.take();
                tokio::select! {
                    _ = &mut left => {
                        drop(stdin);
                        if let Err(error) = child.wait().await {
                            tracing::warn!(agent = name, %error, "an agent's process is lost");
                        }
                        return;
                    }
                    ended = child.wait() => {
                        tracing::warn!(agent = name, ?ended, "an agent's process ended by itself");
                    }
                }
            }
            Err(error) => tracing::error!(agent = name, %error, "no process for an agent"),
        }
        tokio::select! {
            _ = &mut left => return,
            () = tokio::time::sleep(RESTART_PAUSE) => {}
        }
    }
}

/// Ends agents, all at once, and waits for them; after the limit they are ended.
async fn leave(agents: impl IntoIterator<Item = Running>, limit: Duration) {
    let deadline = tokio::time::Instant::now() + limit;
    let tasks: Vec<_> = agents
        .into_iter()
        .map(|Running { leave, task, .. }| {
            // One that has ended already need not be told.
            let _ = leave.send(());
            task
        })
        .collect();
    for mut task in tasks {
        match tokio::time::timeout_at(deadline, &mut task.0).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "an agent's task panicked"),
            // It ends with its handle.
            Err(_) => tracing::warn!(?limit, "an agent did not end in time and is ended"),
        }
    }
}

/// Removes a directory and all that is in it. A link in its place is not followed.
fn remove_directory(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::NotADirectory, "it is no directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl std::fmt::Debug for Agents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agents")
            .field("workspaces", &self.0.settings.workspaces)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
