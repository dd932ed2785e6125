//! Ways out: letting go of a link, in order to return or to leave.
//!
//! The order is always the application, then the tunnel, then the end.

use crate::{
    Action, Exit, Outcome, Policy, Transition,
    goal::{Goal, goal},
    phase::{AppAsk, Link, Phase, Then},
};

use super::{App, Own};

impl Own {
    /// Decides the end, unless it has been decided.
    pub(super) fn leave(&mut self, outcome: Outcome) {
        let then = Then::Leave { outcome, at: self.state() };
        match self.phase.clone() {
            Phase::Idle(_) => self.down(then),
            Phase::Dialling(link) => self.cancel_dial(link, then),
            Phase::Attaching(link) => self.cancel_attach(link, then),
            Phase::Up(link) => self.part(Some(link), then),
            Phase::Parting { link, ask, then: Then::Return } => {
                self.phase = Phase::Parting { link, ask, then };
            }
            Phase::Closing { link, dialling, then: Then::Return } => {
                self.phase = Phase::Closing { link, dialling, then };
            }
            Phase::Parting { then: Then::Leave { .. }, .. }
            | Phase::Closing { then: Then::Leave { .. }, .. }
            | Phase::Exit => {}
        }
    }

    /// A link must go, for this reason. Before the application is attached there is nothing to
    /// lose by going back; afterwards the policy speaks.
    pub(super) fn drop_link(&mut self, reason: Outcome) {
        let then = match self.config.policy {
            Policy::Follow => match goal(&self.memory, &self.config, self.past()) {
                Goal::End(outcome) => Then::Leave { outcome, at: self.state() },
                Goal::Learn
                | Goal::AwaitStop
                | Goal::Start
                | Goal::AwaitBuild
                | Goal::AwaitStart
                | Goal::AwaitAgent(_)
                | Goal::Dial(_) => Then::Return,
            },
            Policy::Once | Policy::Compatibility => {
                Then::Leave { outcome: reason, at: self.state() }
            }
        };
        match self.phase.clone() {
            Phase::Dialling(link) => self.cancel_dial(link, Then::Return),
            Phase::Attaching(link) => self.cancel_attach(link, then),
            Phase::Up(link) => self.part(Some(link), then),
            Phase::Idle(_) | Phase::Parting { .. } | Phase::Closing { .. } | Phase::Exit => {}
        }
    }

    /// The application lets go of the link, or ends.
    pub(super) fn part(&mut self, link: Option<Link>, then: Then) {
        let (ask, action) = match then {
            Then::Return => (AppAsk::Detach, Action::DetachApp),
            Then::Leave { .. } => (AppAsk::Close, Action::CloseApp),
        };
        self.phase = Phase::Parting { link, ask, then };
        self.out.push(action);
    }

    /// The application has let go of the link.
    pub(super) fn parted(&mut self, link: Option<Link>, then: Then) {
        match link {
            Some(link) => self.close_tailnet(link, then),
            None => self.down(then),
        }
    }

    pub(super) fn close_tailnet(&mut self, link: Link, then: Then) {
        self.phase = Phase::Closing { link, dialling: false, then };
        self.out.push(Action::CloseTailnet(link.connection));
    }

    fn cancel_dial(&mut self, link: Link, then: Then) {
        self.phase = Phase::Closing { link, dialling: true, then };
        self.out.push(Action::CancelDial(link.connection));
    }

    fn cancel_attach(&mut self, link: Link, then: Then) {
        self.phase = Phase::Parting { link: Some(link), ask: AppAsk::Attach, then };
        self.out.push(Action::CancelAttach);
    }

    /// There is no tunnel (any more).
    pub(super) fn down(&mut self, then: Then) {
        match then {
            Then::Return => self.phase = Phase::Idle(self.waiting()),
            Then::Leave { .. } if self.app == App::Alive => self.part(None, then),
            Then::Leave { outcome, at } => self.exit(outcome, at),
        }
    }

    pub(super) fn exit(&mut self, outcome: Outcome, at: crate::State) {
        let outcome = self.explain(outcome);
        self.phase = Phase::Exit;
        self.out.push(Action::Exit(Exit { outcome, at, was_up: self.was_up }));
    }

    /// A loss is explained by what was learnt of the workspace meanwhile.
    fn explain(&self, outcome: Outcome) -> Outcome {
        let lost = match outcome {
            Outcome::AgentShutDown
            | Outcome::TunnelLost(_)
            | Outcome::AppLost(_)
            | Outcome::WorkspaceReplaced => true,
            Outcome::UserStop
            | Outcome::AppDone(_)
            | Outcome::AppFailed(_)
            | Outcome::WorkspaceStopped
            | Outcome::WorkspaceFailed { .. }
            | Outcome::WorkspaceDormant
            | Outcome::StartRefused(_)
            | Outcome::BuildFailed(_)
            | Outcome::BuildCanceled
            | Outcome::WorkspaceDeleted
            | Outcome::NoAgent
            | Outcome::SeveralAgents(_)
            | Outcome::NoSuchAgent(_)
            | Outcome::AgentNeverConnected
            | Outcome::ScriptsFailed { .. }
            | Outcome::AccessLost
            | Outcome::NotLoggedIn
            | Outcome::WatchUnusable(_)
            | Outcome::ServerUnreachable(_)
            | Outcome::DialFailed(_)
            | Outcome::TimedOut { .. }
            | Outcome::Protocol(_) => false,
        };
        match self.memory.build.as_ref().map(|build| build.transition) {
            Some(Transition::Stop) if lost => Outcome::WorkspaceStopped,
            Some(Transition::Delete) if lost => Outcome::WorkspaceDeleted,
            Some(Transition::Start | Transition::Stop | Transition::Delete) | None => outcome,
        }
    }
}
