//! The machine of `Compatibility`: upstream's table as it is (coder/coder:
//! codersdk/workspacesdk/tunneler), gaps included.
//!
//! It remembers nothing but its state and the connection, decides by the order of messages, and
//! does not know what upstream does not know: snapshots, the agent's record, timers. `Wait::Auto`
//! is waiting. Each `on_…` is a block of rows; in each, states are named in the order of the
//! table's columns.

#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm, reason = "a test panics at whatever it does not expect")]
mod tests;

use crate::{
    Action, AgentId, Build, Config, ConnectionId, Event, Exit, JobStatus, Lifecycle, Outcome,
    Severity, State, Transition, Wait,
};

/// The machine of `Compatibility`.
#[derive(Debug)]
pub(crate) struct Upstream {
    config: Config,
    state: State,
    /// The tunnel that is stored.
    connection: Option<ConnectionId>,
    dials: u64,
    /// What ended it first; upstream itself keeps no reason (T18).
    reason: Option<(Outcome, State)>,
    out: Vec<Action>,
}

impl Upstream {
    pub(crate) fn new(config: Config) -> (Self, Vec<Action>) {
        let (state, out) = (State::Init, Vec::new());
        let upstream = Self { config, state, connection: None, dials: 0, reason: None, out };
        (upstream, vec![Action::OpenWatch])
    }

    pub(crate) const fn state(&self) -> State {
        self.state
    }

    pub(crate) fn handle(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Shutdown => self.on_signal(Outcome::UserStop),
            // T2: any end of the watch is a signal.
            Event::WatchLost(failure) => self.on_signal(Outcome::WatchUnusable(failure.text)),
            Event::Build(build) => self.on_build(&build),
            Event::Agent { id, lifecycle } => self.on_agent(id, lifecycle),
            Event::AppAttached => self.on_app_up(),
            // T4: a start that failed is told as an application that is down.
            Event::AppAttachFailed(_)
            | Event::AppDetached
            | Event::AppClosed
            | Event::AppEnded(_)
            | Event::StartConflict(_)
            | Event::StartFailed(_) => self.on_app_down(),
            Event::DialUp(connection) => self.on_tailnet_up(connection),
            Event::DialFailed { .. } | Event::TunnelLost { .. } | Event::TailnetClosed(_) => {
                self.on_tailnet_down();
            }
            // T1: a watch that cannot be opened is not told at all.
            Event::WatchUp
            | Event::WatchFailed(_)
            | Event::StartAccepted { .. }
            | Event::AgentProblem(_)
            | Event::WorkspaceGone
            | Event::AccessLost
            | Event::LoginRefused
            | Event::OtherMessage
            | Event::Snapshot(_)
            | Event::ResyncFailed(_)
            | Event::AgentRecord(_)
            | Event::AgentReadFailed { .. }
            | Event::TimerFired(_) => {}
        }
        std::mem::take(&mut self.out)
    }

    fn on_signal(&mut self, reason: Outcome) {
        match self.state {
            State::Init
            | State::WaitToStart
            | State::WaitForWorkspaceStarted
            | State::WaitForAgent => {
                self.remember(reason);
                self.exit();
            }
            State::EstablishTailnet | State::TailnetUp | State::ApplicationUp => {
                self.tear_down(reason);
            }
            State::ShutdownApplication | State::ShutdownTailnet | State::Exit => {}
        }
    }

    fn on_build(&mut self, build: &Build) {
        match (build.transition, build.status) {
            (Transition::Delete, _) => self.on_signal(Outcome::WorkspaceDeleted),
            (
                Transition::Start | Transition::Stop,
                JobStatus::Failed | JobStatus::Canceling | JobStatus::Canceled | JobStatus::Unknown,
            ) => {
                let (status, error) = (build.status, build.error.clone());
                self.on_signal(Outcome::WorkspaceFailed { status, error });
            }
            (Transition::Start, JobStatus::Pending | JobStatus::Running) => {
                self.on_start_active();
            }
            (Transition::Start, JobStatus::Succeeded) => self.on_start_succeeded(),
            (Transition::Stop, status) => self.on_stop(status),
        }
    }

    fn on_start_active(&mut self) {
        match self.state {
            State::Init
            | State::WaitToStart
            | State::WaitForWorkspaceStarted
            | State::WaitForAgent => self.state = State::WaitForWorkspaceStarted,
            State::EstablishTailnet | State::TailnetUp | State::ApplicationUp => {
                self.tear_down(Outcome::WorkspaceReplaced);
            }
            State::ShutdownApplication | State::ShutdownTailnet | State::Exit => {}
        }
    }

    fn on_start_succeeded(&mut self) {
        match self.state {
            State::Init
            | State::WaitToStart
            | State::WaitForWorkspaceStarted
            | State::WaitForAgent => self.state = State::WaitForAgent,
            State::EstablishTailnet
            | State::TailnetUp
            | State::ApplicationUp
            | State::ShutdownApplication
            | State::ShutdownTailnet
            | State::Exit => {}
        }
    }

    fn on_stop(&mut self, status: JobStatus) {
        match self.state {
            State::EstablishTailnet | State::TailnetUp | State::ApplicationUp => {
                self.tear_down(Outcome::WorkspaceStopped);
            }
            State::ShutdownApplication | State::ShutdownTailnet | State::Exit => {}
            State::Init
            | State::WaitToStart
            | State::WaitForWorkspaceStarted
            | State::WaitForAgent
                if !self.config.autostart =>
            {
                self.remember(Outcome::WorkspaceStopped);
                self.exit();
            }
            State::WaitForWorkspaceStarted if status == JobStatus::Succeeded => {}
            State::Init
            | State::WaitToStart
            | State::WaitForWorkspaceStarted
            | State::WaitForAgent => {
                if status == JobStatus::Succeeded {
                    self.state = State::WaitForWorkspaceStarted;
                    self.out.push(Action::StartWorkspace);
                } else {
                    self.state = State::WaitToStart;
                }
            }
        }
    }

    fn on_agent(&mut self, agent: AgentId, lifecycle: Lifecycle) {
        match self.state {
            State::WaitForAgent => {}
            State::Init
            | State::WaitToStart
            | State::WaitForWorkspaceStarted
            | State::EstablishTailnet
            | State::TailnetUp
            | State::ApplicationUp
            | State::ShutdownApplication
            | State::ShutdownTailnet
            | State::Exit => return,
        }
        match lifecycle {
            Lifecycle::Ready => self.dial(agent),
            Lifecycle::Starting | Lifecycle::StartTimeout | Lifecycle::StartError => {
                if self.config.wait == Wait::No {
                    self.dial(agent);
                }
            }
            Lifecycle::Created
            | Lifecycle::ShuttingDown
            | Lifecycle::ShutdownTimeout
            | Lifecycle::ShutdownError
            | Lifecycle::Off => {}
            Lifecycle::Unknown => self.out.push(Action::Unexpected(Severity::Critical)),
        }
    }

    fn on_app_up(&mut self) {
        match self.state {
            State::TailnetUp => self.state = State::ApplicationUp,
            State::ShutdownApplication => self.out.push(Action::CloseApp),
            State::Init
            | State::WaitToStart
            | State::WaitForWorkspaceStarted
            | State::WaitForAgent
            | State::EstablishTailnet
            | State::ApplicationUp
            | State::ShutdownTailnet => self.out.push(Action::Unexpected(Severity::Error)),
            State::Exit => {}
        }
    }

    fn on_app_down(&mut self) {
        match self.state {
            State::TailnetUp | State::ApplicationUp | State::ShutdownApplication => {
                self.remember(Outcome::AppFailed("the application is down".to_owned()));
                self.state = State::ShutdownTailnet;
                self.out.extend(self.connection.map(Action::CloseTailnet));
            }
            State::Init
            | State::WaitToStart
            | State::WaitForWorkspaceStarted
            | State::WaitForAgent
            | State::EstablishTailnet
            | State::ShutdownTailnet => self.out.push(Action::Unexpected(Severity::Error)),
            State::Exit => {}
        }
    }

    fn on_tailnet_up(&mut self, connection: ConnectionId) {
        match self.state {
            State::EstablishTailnet => {
                self.connection = Some(connection);
                self.state = State::TailnetUp;
                self.out.push(Action::AttachApp(connection));
            }
            // T14
            State::TailnetUp if self.connection != Some(connection) => {
                self.out.push(Action::Unexpected(Severity::Fatal));
            }
            State::ShutdownTailnet => {
                self.connection = Some(connection);
                self.out.push(Action::CloseTailnet(connection));
            }
            // T12
            State::ApplicationUp => self.out.push(Action::Unexpected(Severity::Critical)),
            State::Init
            | State::WaitToStart
            | State::WaitForWorkspaceStarted
            | State::WaitForAgent
            | State::TailnetUp
            | State::ShutdownApplication => self.out.push(Action::Unexpected(Severity::Error)),
            State::Exit => {}
        }
    }

    fn on_tailnet_down(&mut self) {
        match self.state {
            State::EstablishTailnet | State::ShutdownTailnet => {
                self.remember(Outcome::DialFailed("the tunnel is down".to_owned()));
                self.exit();
            }
            // T12
            State::ApplicationUp => self.out.push(Action::Unexpected(Severity::Critical)),
            State::Init
            | State::WaitToStart
            | State::WaitForWorkspaceStarted
            | State::WaitForAgent
            | State::TailnetUp
            | State::ShutdownApplication => self.out.push(Action::Unexpected(Severity::Error)),
            State::Exit => {}
        }
    }

    fn dial(&mut self, agent: AgentId) {
        self.dials += 1;
        self.state = State::EstablishTailnet;
        let connection = ConnectionId(self.dials);
        self.out.push(Action::Dial { connection, agent });
    }

    /// What a signal does to the three states that have or make a tunnel.
    fn tear_down(&mut self, reason: Outcome) {
        self.remember(reason);
        self.state = match self.state {
            State::EstablishTailnet => State::ShutdownTailnet,
            State::TailnetUp => State::ShutdownApplication,
            State::ApplicationUp => {
                self.out.push(Action::CloseApp);
                State::ShutdownApplication
            }
            other @ (State::Init
            | State::WaitToStart
            | State::WaitForWorkspaceStarted
            | State::WaitForAgent
            | State::ShutdownApplication
            | State::ShutdownTailnet
            | State::Exit) => other,
        };
    }

    fn remember(&mut self, reason: Outcome) {
        let at = self.state;
        self.reason.get_or_insert((reason, at));
    }

    fn exit(&mut self) {
        self.state = State::Exit;
        if let Some((outcome, at)) = self.reason.clone() {
            self.out.push(Action::Exit(Exit { outcome, at, was_up: false }));
        }
    }
}
