//! Answers of the starter, the dialer and the application; news of a tunnel.

use crate::{
    Action, AgentStatus, AppEnd, BuildNumber, ConnectionId, Failure, FailureKind, Notice, Outcome,
    Policy, Step,
    goal::{Goal, goal},
    phase::{AppAsk, Link, Phase, Then, Waiting},
};

use super::{App, Own};

/// The starter.
impl Own {
    pub(super) fn start_accepted(&mut self, number: BuildNumber) {
        if !self.start_answered() {
            return;
        }
        self.start.failures = 0;
        self.spent = true;
        self.memory.learn_start(number);
    }

    /// Another build is active: it is waited for (T4, T10), after a look at which.
    pub(super) fn start_conflict(&mut self, failure: &Failure) {
        if !self.start_answered() {
            return;
        }
        if !self.start_wanted() {
            return;
        }
        self.say(Notice::StartConflict);
        self.resync();
        self.start_again(Outcome::StartRefused, failure);
    }

    pub(super) fn start_failed(&mut self, failure: Failure) {
        if !self.start_answered() {
            return;
        }
        if !self.start_wanted() {
            return;
        }
        match failure.kind {
            FailureKind::Transient => {
                let notice = Notice::Retrying { step: Step::Build, text: failure.text.clone() };
                self.say_once_about(notice);
                self.start_again(Outcome::ServerUnreachable, &failure);
            }
            FailureKind::Login => self.leave(Outcome::NotLoggedIn),
            FailureKind::Access => self.leave(Outcome::AccessLost),
            FailureKind::Gone => self.leave(Outcome::WorkspaceDeleted),
            FailureKind::Protocol => self.leave(Outcome::Protocol(failure.text)),
            FailureKind::Refused | FailureKind::Canceled => {
                self.leave(Outcome::StartRefused(failure.text));
            }
        }
    }

    /// Whether it matters how our start went: somebody else's start, or our end, may have made it
    /// unimportant.
    fn start_wanted(&self) -> bool {
        !self.phase.is_leaving() && goal(&self.memory, &self.config, self.past()) == Goal::Start
    }

    fn start_again(&mut self, enough: impl FnOnce(String) -> Outcome, failure: &Failure) {
        self.start.failures = self.start.failures.saturating_add(1);
        if self.start.failures >= self.config.attempts {
            self.leave(enough(failure.text.clone()));
        } else {
            self.start.pausing = true;
        }
    }

    fn start_answered(&mut self) -> bool {
        let asked = std::mem::take(&mut self.start.asked);
        if !asked {
            self.unexpected();
        }
        asked
    }
}

/// The dialer and its tunnels.
impl Own {
    pub(super) fn dial_up(&mut self, connection: ConnectionId) {
        match self.phase.clone() {
            Phase::Dialling(link) if link.connection == connection => {
                self.app = App::Alive;
                self.phase = Phase::Attaching(link);
                self.out.push(Action::AttachApp(connection));
            }
            Phase::Closing { link, dialling: true, then } if link.connection == connection => {
                self.phase = Phase::Closing { link, dialling: false, then };
                self.out.push(Action::CloseTailnet(connection));
            }
            Phase::Attaching(link)
            | Phase::Up(link)
            | Phase::Parting { link: Some(link), .. }
            | Phase::Closing { link, .. }
                if link.connection == connection =>
            {
                self.unexpected();
            }
            Phase::Idle(_)
            | Phase::Dialling(_)
            | Phase::Attaching(_)
            | Phase::Up(_)
            | Phase::Parting { .. }
            | Phase::Closing { .. }
            | Phase::Exit => {
                self.unexpected();
                if self.extra.insert(connection) {
                    self.out.push(Action::CloseTailnet(connection));
                }
            }
        }
    }

    pub(super) fn dial_failed(&mut self, connection: ConnectionId, failure: Failure) {
        match self.phase.clone() {
            Phase::Dialling(link) if link.connection == connection => {
                self.phase = Phase::Idle(Waiting::Agent);
                self.no_tunnel(link, failure);
            }
            Phase::Closing { link, dialling: true, then } if link.connection == connection => {
                self.down(then);
            }
            Phase::Idle(_)
            | Phase::Dialling(_)
            | Phase::Attaching(_)
            | Phase::Up(_)
            | Phase::Parting { .. }
            | Phase::Closing { .. }
            | Phase::Exit => self.unexpected(),
        }
    }

    /// A dial that was wanted failed.
    fn no_tunnel(&mut self, link: Link, failure: Failure) {
        match failure.kind {
            FailureKind::Transient | FailureKind::Canceled => {
                self.dial.failures = self.dial.failures.saturating_add(1);
                if self.out_of_patience(self.dial.failures) && !self.is_unborn(link) {
                    return self.leave(Outcome::DialFailed(failure.text));
                }
            }
            FailureKind::Login => return self.leave(Outcome::NotLoggedIn),
            FailureKind::Protocol => return self.leave(Outcome::Protocol(failure.text)),
            // After a session of hours the agent that is refused may just be an old one.
            FailureKind::Access | FailureKind::Gone | FailureKind::Refused
                if self.was_up && self.dial.doubted != Some(link.agent) =>
            {
                self.dial.doubted = Some(link.agent);
                self.dial.failures = self.dial.failures.saturating_add(1);
            }
            FailureKind::Access => return self.leave(Outcome::AccessLost),
            FailureKind::Gone => return self.leave(Outcome::WorkspaceDeleted),
            FailureKind::Refused => return self.leave(Outcome::DialFailed(failure.text)),
        }
        self.say_once_about(Notice::Retrying { step: Step::Dial, text: failure.text });
        self.dial.pausing = true;
        self.resync();
    }

    /// Whether the agent at the other end has never connected: then no dial can succeed, and none
    /// counts.
    fn is_unborn(&self, link: Link) -> bool {
        self.memory.agent.is_some_and(|agent| match agent.status {
            Some(AgentStatus::Connecting | AgentStatus::Timeout) => agent.id == link.agent,
            Some(AgentStatus::Connected | AgentStatus::Disconnected | AgentStatus::Unknown)
            | None => false,
        })
    }

    /// The health watcher's verdict (T12, T13). News of any other tunnel is no news.
    pub(super) fn tunnel_lost(&mut self, connection: ConnectionId, text: String) {
        match self.phase.clone() {
            Phase::Attaching(link) | Phase::Up(link) if link.connection == connection => {
                self.dial.failures = self.dial.failures.saturating_add(1);
                self.dial.pausing = true;
                if self.config.policy == Policy::Follow {
                    self.say(Notice::TunnelLost { text: text.clone() });
                }
                self.drop_link(Outcome::TunnelLost(text));
                self.resync();
            }
            Phase::Idle(_)
            | Phase::Dialling(_)
            | Phase::Attaching(_)
            | Phase::Up(_)
            | Phase::Parting { .. }
            | Phase::Closing { .. }
            | Phase::Exit => {}
        }
    }

    pub(super) fn tailnet_closed(&mut self, connection: ConnectionId) {
        if self.extra.remove(&connection) {
            return;
        }
        match self.phase.clone() {
            Phase::Closing { link, dialling: false, then } if link.connection == connection => {
                self.down(then);
            }
            Phase::Idle(_)
            | Phase::Dialling(_)
            | Phase::Attaching(_)
            | Phase::Up(_)
            | Phase::Parting { .. }
            | Phase::Closing { .. }
            | Phase::Exit => self.unexpected(),
        }
    }
}

/// The application.
impl Own {
    pub(super) fn app_attached(&mut self) {
        match self.phase.clone() {
            Phase::Attaching(link) => {
                self.phase = Phase::Up(link);
                self.dial.failures = 0;
                self.dial.doubted = None;
                self.said.clear();
                if self.was_up {
                    self.out.push(Action::Notice(Notice::TunnelBack));
                }
                (self.was_up, self.spent) = (true, true);
            }
            Phase::Parting { link: Some(link), ask: AppAsk::Attach, then } => {
                self.part(Some(link), then);
            }
            Phase::Idle(_)
            | Phase::Dialling(_)
            | Phase::Up(_)
            | Phase::Parting { .. }
            | Phase::Closing { .. }
            | Phase::Exit => self.unexpected(),
        }
    }

    pub(super) fn app_attach_failed(&mut self, failure: Failure) {
        match self.phase.clone() {
            Phase::Attaching(link) => {
                let again = match failure.kind {
                    FailureKind::Transient => self.config.policy == Policy::Follow,
                    FailureKind::Login
                    | FailureKind::Access
                    | FailureKind::Gone
                    | FailureKind::Protocol
                    | FailureKind::Refused
                    | FailureKind::Canceled => false,
                };
                self.dial.failures = self.dial.failures.saturating_add(1);
                if !again || self.out_of_patience(self.dial.failures) {
                    let (outcome, at) = (Outcome::AppFailed(failure.text), self.state());
                    return self.part(Some(link), Then::Leave { outcome, at });
                }
                let notice = Notice::Retrying { step: Step::Attach, text: failure.text };
                self.say_once_about(notice);
                self.dial.pausing = true;
                self.close_tailnet(link, Then::Return);
            }
            Phase::Parting { link: Some(link), ask: AppAsk::Attach, then } => match then {
                Then::Return => self.close_tailnet(link, Then::Return),
                Then::Leave { .. } => self.part(Some(link), then),
            },
            Phase::Idle(_)
            | Phase::Dialling(_)
            | Phase::Up(_)
            | Phase::Parting { .. }
            | Phase::Closing { .. }
            | Phase::Exit => self.unexpected(),
        }
    }

    pub(super) fn app_detached(&mut self) {
        match self.phase.clone() {
            Phase::Parting { link: Some(link), ask: AppAsk::Detach, then } => match then {
                Then::Return => self.close_tailnet(link, Then::Return),
                Then::Leave { .. } => self.part(Some(link), then),
            },
            Phase::Idle(_)
            | Phase::Dialling(_)
            | Phase::Attaching(_)
            | Phase::Up(_)
            | Phase::Parting { .. }
            | Phase::Closing { .. }
            | Phase::Exit => self.unexpected(),
        }
    }

    pub(super) fn app_closed(&mut self) {
        match self.phase.clone() {
            Phase::Parting { link, ask: AppAsk::Close, then } => {
                self.app = App::Ended;
                self.parted(link, then);
            }
            Phase::Idle(_)
            | Phase::Dialling(_)
            | Phase::Attaching(_)
            | Phase::Up(_)
            | Phase::Parting { .. }
            | Phase::Closing { .. }
            | Phase::Exit => self.unexpected(),
        }
    }

    /// The application's last word, whatever it was asked.
    pub(super) fn app_ended(&mut self, end: AppEnd) {
        if self.app == App::Ended {
            return self.unexpected();
        }
        self.app = App::Ended;
        let done = match end {
            AppEnd::Done(_) => true,
            AppEnd::Failed(_) | AppEnd::Lost(_) => false,
        };
        let outcome = match end {
            AppEnd::Done(code) => Outcome::AppDone(code),
            AppEnd::Failed(text) => Outcome::AppFailed(text),
            AppEnd::Lost(text) => Outcome::AppLost(text),
        };
        let at = self.state();
        match self.phase.clone() {
            Phase::Idle(_) | Phase::Dialling(_) => self.leave(outcome),
            Phase::Attaching(link) | Phase::Up(link) => {
                self.close_tailnet(link, Then::Leave { outcome, at });
            }
            Phase::Parting { link, then, .. } => {
                let then = match then {
                    Then::Return => Then::Leave { outcome, at },
                    // It was done before it could be interrupted.
                    Then::Leave { outcome: Outcome::UserStop, at } if done => {
                        Then::Leave { outcome, at }
                    }
                    leave @ Then::Leave { .. } => leave,
                };
                self.parted(link, then);
            }
            Phase::Closing { link, dialling, then } => {
                let then = match then {
                    Then::Return => Then::Leave { outcome, at },
                    leave @ Then::Leave { .. } => leave,
                };
                self.phase = Phase::Closing { link, dialling, then };
            }
            Phase::Exit => {}
        }
    }
}
