//! What the user sees while the tunneler works: stages, notices, the logs of builds and scripts.
//!
//! A stage lasts as long as the state that it stands for. What a notice says is said once, in
//! words for people; what the logs say is followed by a task that ends with its stage.

use std::{sync::Arc, time::Instant};

use coderctl_tunneler::{AgentStatus, Agents, Event, Lifecycle, Notice, State, Step, Transition};
use futures_util::FutureExt as _;
use tokio::task::JoinHandle;

use crate::{
    api::LogLine,
    apps::BoxFuture,
    ui::{Stage, Ui},
};

/// Follows the logs of the latest build, or of the agent's scripts, until dropped.
pub(super) trait Logs: Send + Sync {
    /// Says the lines of the latest build's log as they come, until it is complete.
    fn follow_build(&self) -> BoxFuture<'static, ()>;

    /// Says the lines of the agent's start scripts as they come, until dropped.
    fn follow_scripts(&self) -> BoxFuture<'static, ()>;
}

/// Says the lines of a build's log: each stage once, its lines beneath it.
pub(crate) fn build_lines(ui: &Ui) -> impl FnMut(LogLine) + Send + use<> {
    let ui = ui.clone();
    let mut stage = String::new();
    move |line| {
        if matches!(line.level.as_str(), "debug" | "trace") && !ui.is_verbose() {
            return;
        }
        if line.source != stage {
            ui.log("build", &line.source);
            stage.clone_from(&line.source);
        }
        if !line.output.is_empty() {
            ui.log("build", &format!("  {}", line.output));
        }
    }
}

/// What a stage is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Learn,
    Stop,
    Build,
    Agent,
    Lost,
    Scripts,
    Connect,
}

pub(super) struct Progress {
    ui: Ui,
    workspace: String,
    logs: Arc<dyn Logs>,
    begun: Instant,
    phase: Option<(Phase, Stage)>,
    follower: Option<JoinHandle<()>>,
    agent: Option<(AgentStatus, Lifecycle)>,
    /// The agent is dialled and has not connected yet, not even when it was looked at once more.
    agent_away: bool,
    /// The app has been up: from then on it owns the terminal, and only notices are said.
    app_was_up: bool,
}

impl Progress {
    pub(super) fn new(ui: &Ui, workspace: &str, logs: Arc<dyn Logs>) -> Self {
        Self {
            ui: ui.clone(),
            workspace: workspace.to_owned(),
            logs,
            begun: Instant::now(),
            phase: None,
            follower: None,
            agent: None,
            agent_away: false,
            app_was_up: false,
        }
    }

    /// Keeps what a stage's words depend on.
    pub(super) fn saw(&mut self, event: &Event) {
        if let Event::Snapshot(snapshot) = event
            && let Agents::One(agent) = &snapshot.agents
        {
            self.agent = Some((agent.status, agent.lifecycle));
        } else if let Event::AgentRecord(agent) = event {
            self.agent = Some((agent.status, agent.lifecycle));
            let away = matches!(agent.status, AgentStatus::Connecting | AgentStatus::Timeout);
            let dialled = self.phase.as_ref().is_some_and(|(phase, _)| *phase == Phase::Connect);
            self.agent_away = away && (dialled || self.agent_away);
        } else if let Event::Agent { lifecycle, .. } = event {
            let status = self.agent.map_or(AgentStatus::Unknown, |(status, _)| status);
            self.agent = Some((status, *lifecycle));
        } else if let Event::Build(build) = event
            && build.transition != Transition::Start
        {
            self.agent = None;
        }
    }

    /// The tunneler is in this state now.
    pub(super) fn entered(&mut self, state: State) {
        let phase = match state {
            State::Init => Some(Phase::Learn),
            State::WaitToStart => Some(Phase::Stop),
            State::WaitForWorkspaceStarted => Some(Phase::Build),
            State::WaitForAgent => Some(self.waiting_for()),
            State::EstablishTailnet if self.agent_away => Some(Phase::Agent),
            State::EstablishTailnet | State::TailnetUp => Some(Phase::Connect),
            State::ApplicationUp
            | State::ShutdownApplication
            | State::ShutdownTailnet
            | State::Exit => None,
        };
        if phase == self.phase.as_ref().map(|(phase, _)| *phase) {
            return;
        }
        self.leave();
        if let Some(phase) = phase.filter(|_| !self.app_was_up) {
            self.enter(phase);
        }
    }

    fn waiting_for(&self) -> Phase {
        match self.agent {
            Some((AgentStatus::Disconnected, _)) => Phase::Lost,
            Some((AgentStatus::Connected, Lifecycle::Created | Lifecycle::Starting)) => {
                Phase::Scripts
            }
            Some((_, Lifecycle::Starting)) => Phase::Scripts,
            // It is there; a dial failed, and the next is due.
            Some((AgentStatus::Connected, _)) => Phase::Connect,
            Some(_) | None => Phase::Agent,
        }
    }

    fn enter(&mut self, phase: Phase) {
        let name = &self.workspace;
        let stage = match phase {
            Phase::Learn => self.ui.brief(format_args!("Looking up workspace {name}")),
            Phase::Stop => self.ui.stage(format_args!("Waiting for workspace {name} to stop")),
            Phase::Build => self.ui.stage(format_args!("Starting workspace {name}")),
            Phase::Agent => self.ui.stage("Waiting for the workspace agent to connect"),
            Phase::Lost => self.ui.stage("Waiting for the workspace agent to come back"),
            Phase::Scripts => self.ui.stage("Running workspace agent startup scripts"),
            Phase::Connect => self.ui.brief(format_args!("Connecting to {name}")),
        };
        self.phase = Some((phase, stage));
        match phase {
            Phase::Build => self.follow(self.logs.follow_build()),
            Phase::Scripts => self.follow(self.logs.follow_scripts()),
            Phase::Learn | Phase::Stop | Phase::Agent | Phase::Lost | Phase::Connect => {}
        }
    }

    fn follow(&mut self, follow: BoxFuture<'static, ()>) {
        if !self.ui.is_quiet() {
            self.follower = Some(tokio::spawn(follow.boxed()));
        }
    }

    fn leave(&mut self) {
        if let Some(follower) = self.follower.take() {
            follower.abort();
        }
        if let Some((_, stage)) = self.phase.take() {
            stage.finish();
        }
    }

    /// A tunnel came up.
    pub(super) fn connected(&self, how: &str) {
        self.ui.verbose(format_args!("tunnel up: {how}"), self.begun.elapsed());
    }

    /// The app works for the first time, or again.
    pub(super) fn app_up(&mut self) {
        self.leave();
        self.app_was_up = true;
    }

    /// It is over: what still runs was broken off.
    pub(super) fn over(&mut self) {
        if let Some(follower) = self.follower.take() {
            follower.abort();
        }
        if let Some((_, stage)) = self.phase.take() {
            drop(stage);
        }
    }

    /// Says what the tunneler wants to be said.
    pub(super) fn notice(&self, notice: &Notice) {
        let (ui, name) = (&self.ui, &self.workspace);
        match notice {
            Notice::Starting { dormant: false } => ui.line(format_args!(
                "Workspace was stopped, starting workspace to allow connecting to {name}..."
            )),
            Notice::Starting { dormant: true } => {
                ui.line(format_args!("Activating and starting dormant workspace {name}..."));
            }
            Notice::StartConflict => {
                ui.line("Another build of the workspace is active, waiting for it");
            }
            Notice::WaitingForStop => ui.line(format_args!(
                "Workspace {name} is being stopped; waiting for that, then starting it"
            )),
            Notice::Stopping => ui.line(format_args!("Workspace {name} is being stopped")),
            Notice::WaitingForStart => ui.line(format_args!(
                "Workspace {name} was stopped; waiting for somebody to start it"
            )),
            Notice::Rebuilding => {
                ui.line(format_args!("A new build of workspace {name} is running; waiting for it"));
            }
            Notice::ScriptFailed => {
                ui.warn("a startup script exited with an error, the workspace may be incomplete");
            }
            Notice::ScriptTimedOut => {
                ui.warn("a startup script timed out, the workspace may be incomplete");
            }
            Notice::ScriptsRunning => {
                ui.line("Startup scripts are still running and the workspace may be incomplete")
            }
            Notice::ScriptsSilent => ui.warn(
                "the agent is connected but never reported its startup scripts \
                 (it has outlived a stop and start of the workspace); connecting anyway",
            ),
            Notice::AgentSlow => ui.warn(
                "the workspace agent is having trouble connecting; wait for it, or restart the \
                 workspace if it does not start",
            ),
            Notice::AgentLost => {
                ui.warn("the workspace agent lost connection, waiting for it to come back");
            }
            Notice::AgentShutDown => {
                ui.line("The workspace agent is shutting down; waiting for it to come back");
            }
            Notice::TunnelLost { text } => {
                ui.warn(format_args!("tunnel to {name} lost ({text}), reconnecting"));
            }
            // The app says so itself, in its own words.
            Notice::TunnelBack => tracing::info!("the tunnel is back"),
            // The tunnel is untouched: of interest only to somebody who looks for trouble.
            Notice::WatchLost { text } => {
                tracing::info!(%text, "lost the connection watch");
            }
            Notice::LoginRefused => ui.warn(
                "the session token is refused now; the tunnel stays up, but cannot be made again",
            ),
            Notice::AccessLost => ui.warn(format_args!(
                "access to workspace {name} is lost; the tunnel stays up, but cannot be made again"
            )),
            Notice::Retrying { step, text } => match step {
                Step::Learn | Step::Build | Step::Agent | Step::Scripts | Step::Dial => {
                    ui.line(format_args!("{text}; trying again"));
                }
                Step::Attach | Step::Drain => tracing::info!(%text, %step, "trying again"),
            },
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.over();
    }
}
