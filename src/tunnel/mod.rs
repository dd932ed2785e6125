//! The driver: performs the tunneler's actions, owns every task, feeds it events.

mod deployment;
mod dialer;
mod driver;
mod facts;
mod limits;
mod outcome;
mod progress;
#[cfg(test)]
mod tests;
mod world;

pub use self::limits::Limits;
pub(crate) use self::{facts::choose, progress::build_lines};

use std::{sync::Arc, time::Duration};

use coderctl_tunneler::{Config, Deadlines, Exit, Outcome, Policy, State, Step};
use http::StatusCode;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use self::{
    deployment::Deployment,
    dialer::Dialer,
    driver::{Driver, at},
    limits::{Clock, Over, Waited},
    outcome::conclude,
    progress::Progress,
};
use crate::{
    api::{self, Client, Workspace},
    apps::App,
    cli::{Session, target::Target},
    config::dial_timeout,
    error::{CommandError, Kind},
    signal::Signals,
    ui::{Ui, quoted},
};

/// Tries in a row of watch, start and dial before the app was up. Each has its own limits and the
/// calls beneath are tried again by themselves, so three take about a minute.
const ATTEMPTS: u32 = 3;

/// How long an agent may take to connect for the first time after its workspace has started. The
/// Go client waits for ever, which no CI job wants; a slow machine boots in a few minutes.
const AGENT_DEADLINE: Duration = Duration::from_secs(600);

/// How long the reason for the loss of a session may be asked for: as long as somebody waits gladly
/// for a better word than "lost".
const WHY: Duration = Duration::from_secs(2);

/// What a command asks the driver for.
pub struct Request {
    /// The name as resolved by `crate::cli::target`.
    pub target: Target,
    /// Whether to wait for start scripts.
    pub wait: Wait,
    /// Whether a stopped workspace may be started.
    pub autostart: bool,
    /// Whether to go on after a loss (forwards) or to end with the reason (sessions).
    pub follow: bool,
    /// Whether a workspace that somebody stopped meanwhile may be started again; without, its start
    /// is waited for.
    pub restart: bool,
    /// How long things may take.
    pub limits: Limits,
    /// The app name for usage reports while something is open; `None` reports nothing. A forward
    /// reports without a name (`Some("")`).
    pub usage_app: Option<String>,
    /// What runs on the tunnel.
    pub app: Box<dyn App>,
}

impl Request {
    /// For an app that looks at a running workspace, once: nothing is started or waited for, and
    /// nothing counts as use.
    #[must_use]
    pub fn look(target: Target, app: Box<dyn App>) -> Self {
        Self {
            target,
            wait: Wait::No,
            autostart: false,
            follow: false,
            restart: false,
            limits: Limits::default(),
            usage_app: None,
            app,
        }
    }
}

/// `--wait`: whether to wait for the workspace's start scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wait {
    /// Wait.
    Yes,
    /// Do not wait.
    No,
    /// Wait if a script is marked as blocking login.
    #[default]
    Auto,
}

/// Takes the workspace from whatever state it is in to a working tunnel, runs the app on it, and
/// answers with the program's exit code.
///
/// # Errors
/// The one reason why it could not, or why it ended.
pub async fn run(session: &Session, ui: &Ui, request: Request) -> Result<u8, CommandError> {
    let Request { target, wait, autostart, follow, restart, limits, usage_app, mut app } = request;
    let begun = Instant::now();
    let mut signals = Signals::new().map_err(|error| {
        CommandError::new(Kind::Other, error).hint("signals cannot be received")
    })?;
    app.prepare(ui).await?;
    let client = session.api();
    let dialer = Arc::new(Dialer::new(client.clone(), session.direct()));
    dialer.begin_early();
    let name = target.workspace.clone();
    let workspace = tokio::select! {
        workspace = resolve(client, &target) => workspace?,
        signal = signals.next() => {
            let kind = Kind::Signal(signal.number());
            return Err(CommandError::msg(kind, "interrupted before it was done"));
        }
        () = at(limits.total.map(|limit| begun + limit)) => {
            let over = Over::Total(limits.total.unwrap_or_default());
            let waited = Waited { step: Step::Learn, time: begun.elapsed() };
            return over.conclude(&quoted(&name), waited, ui);
        }
    };
    let id = workspace.id;
    let report = usage_app.is_some();
    let (deployment, first) =
        Deployment::new(client.clone(), dialer, ui, workspace, target.agent, usage_app);
    let progress = Progress::new(ui, &name, Arc::new(deployment.clone()));
    let mut config = Config::new(if follow { Policy::Follow } else { Policy::Once });
    config.autostart = autostart;
    config.restart = restart;
    config.wait = match wait {
        Wait::Yes => coderctl_tunneler::Wait::Yes,
        Wait::No => coderctl_tunneler::Wait::No,
        Wait::Auto => coderctl_tunneler::Wait::Auto,
    };
    config.attempts = ATTEMPTS;
    config.backoff.first =
        dial_timeout().map_or(config.backoff.first, |limit| limit.min(config.backoff.first));
    config.deadlines.build = limits.start;
    config.deadlines.agent = limits.agent.or(dial_timeout()).or(Some(AGENT_DEADLINE));
    config.deadlines.dial = limits.connect;
    let deadlines = config.deadlines;
    let clock = Clock::begin(limits, begun);
    let driver = Driver::new(Arc::new(deployment), ui, progress, config, clock, app, report);
    let ended = driver.run(first, &mut signals).await?;
    let result = match ended.app_error {
        Some(error) => Err(error),
        None => match ended.over {
            Some((over, waited)) => over.conclude(&quoted(&name), waited, ui),
            None => {
                let signal = ended.signal.map(|signal| signal.number());
                conclude(ended.exit, &quoted(&name), signal, &deadlines)
            }
        },
    };
    match result {
        Err(error) if error.kind == Kind::Lost => {
            Err(why_lost(client, id, &name).await.unwrap_or(error))
        }
        result => result,
    }
}

/// Why a session was lost, where its workspace knows: an agent whose workspace is stopped breaks
/// its sessions off, perhaps before the watch has told us of the stop.
async fn why_lost(client: &Client, workspace: Uuid, name: &str) -> Option<CommandError> {
    let outcome = match timeout(WHY, client.workspace(workspace)).await.ok()? {
        Ok(workspace) => {
            let build = &workspace.latest_build;
            let effective =
                matches!(build.job.status.as_str(), "pending" | "running" | "succeeded");
            match build.transition.as_str() {
                "stop" if effective => Outcome::WorkspaceStopped,
                "delete" if effective => Outcome::WorkspaceDeleted,
                _ => return None,
            }
        }
        Err(error) if error.is(StatusCode::GONE) => Outcome::WorkspaceDeleted,
        Err(_) => return None,
    };
    why_over(outcome, name)
}

/// What this outcome means to somebody who waited for this workspace.
pub(crate) fn why_over(outcome: Outcome, name: &str) -> Option<CommandError> {
    let exit = Exit { outcome, at: State::ApplicationUp, was_up: true };
    conclude(exit, &quoted(name), None, &Deadlines::default()).err()
}

/// Finds the workspace by name, or by id where the name is one.
///
/// # Errors
/// There is none, or the deployment cannot be asked.
pub(crate) async fn resolve(client: &Client, target: &Target) -> Result<Workspace, CommandError> {
    if let Ok(id) = Uuid::parse_str(&target.workspace) {
        match client.workspace(id).await {
            Err(error) if error.is(StatusCode::NOT_FOUND) => {}
            outcome => return Ok(outcome?),
        }
    }
    let found = client.workspace_by_name(&target.owner, &target.workspace).await;
    found.map_err(|error: api::Error| {
        if !error.is(StatusCode::NOT_FOUND) {
            return error.into();
        }
        let whose = match target.owner.as_str() {
            "me" => String::new(),
            owner => format!(" of {}", quoted(owner)),
        };
        let name = quoted(&target.workspace);
        let said = format!("there is no workspace {name}{whose}, or you have no access to it");
        CommandError::msg(Kind::Workspace, said)
            .hint("`coderctl list` shows your workspaces, `coderctl list -a` all that you may see")
    })
}
