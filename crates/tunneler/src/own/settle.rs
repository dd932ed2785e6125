//! Bringing the phase in line with what is remembered.

use crate::{
    Action, AgentId, AgentStatus, ConnectionId, JobStatus, Lifecycle, Notice, Outcome, Policy,
    Transition,
    goal::{Autostart, Goal, Missing, Verdict, autostart, goal, verdict, waits},
    phase::{Link, Phase, Waiting},
};

use super::Own;

impl Own {
    pub(super) fn settle(&mut self) {
        match self.phase.clone() {
            Phase::Idle(_) => self.settle_idle(),
            Phase::Dialling(link) => {
                match verdict(&self.memory, link, true) {
                    Verdict::Keep => self.say_agent_slow(),
                    Verdict::Drop(reason) => self.drop_link(reason),
                };
            }
            Phase::Attaching(link) | Phase::Up(link) => {
                match verdict(&self.memory, link, false) {
                    Verdict::Keep => self.say_stopping(),
                    Verdict::Drop(reason) => {
                        self.say_loss(&reason);
                        self.drop_link(reason);
                    }
                };
            }
            // A drain is finished first.
            Phase::Parting { .. } | Phase::Closing { .. } | Phase::Exit => {}
        }
    }

    fn settle_idle(&mut self) {
        let goal = goal(&self.memory, &self.config, self.past());
        if goal != Goal::Start {
            (self.start.pausing, self.start.failures) = (false, 0);
        }
        match goal {
            Goal::End(outcome) => return self.leave(outcome),
            Goal::Dial(agent) if !self.is_pausing_for(agent) => return self.make_link(agent),
            Goal::Start if !self.start.asked && !self.start.pausing => {
                self.say(Notice::Starting { dormant: self.memory.dormant });
                self.start.asked = true;
                self.out.push(Action::StartWorkspace);
            }
            Goal::AwaitStop => match autostart(&self.config, self.past()) {
                Autostart::Now => self.say(Notice::WaitingForStop),
                Autostart::BySomebody | Autostart::Never => self.say_stopping(),
            },
            Goal::AwaitStart => self.say(Notice::WaitingForStart),
            Goal::AwaitAgent(missing) => self.await_agent(missing),
            Goal::Learn | Goal::AwaitBuild | Goal::Dial(_) | Goal::Start => {}
        }
        self.phase = Phase::Idle(self.waiting());
    }

    /// The waiting state that fits what is remembered.
    pub(super) fn waiting(&self) -> Waiting {
        match goal(&self.memory, &self.config, self.past()) {
            Goal::Learn => Waiting::Facts,
            Goal::AwaitStop => Waiting::Stop,
            Goal::Start | Goal::AwaitBuild | Goal::AwaitStart => Waiting::Build,
            Goal::AwaitAgent(_) | Goal::Dial(_) | Goal::End(_) => Waiting::Agent,
        }
    }

    /// Whether the back-off keeps this agent from being dialled. It is for the agent that could
    /// not be reached, not for another.
    fn is_pausing_for(&mut self, agent: AgentId) -> bool {
        if self.dial.agent != Some(agent) {
            self.dial.pausing = false;
        }
        self.dial.pausing
    }

    fn make_link(&mut self, agent: AgentId) {
        if self.dial.agent != Some(agent) {
            (self.dial.agent, self.dial.failures) = (Some(agent), 0);
        }
        self.say_scripts();
        self.dial.last += 1;
        let connection = ConnectionId(self.dial.last);
        self.phase = Phase::Dialling(Link { connection, agent });
        self.out.push(Action::Dial { connection, agent });
        self.say_agent_slow();
    }

    fn await_agent(&mut self, missing: Missing) {
        match missing {
            Missing::Name => {}
            Missing::Connection => self.say(Notice::AgentLost),
            Missing::Life => self.say(Notice::AgentShutDown),
            Missing::Record | Missing::Scripts => self.say_agent_slow(),
        }
        let Some(agent) = self.memory.current() else { return };
        let (id, known) = (agent.id, agent.status.is_some());
        if self.polled.0 != Some(id) {
            self.polled = (Some(id), 0);
        }
        // What the watch does not tell is read at once; later reads are the timer's.
        if !known && self.polled.1 == 0 {
            self.read_agent(id);
        }
    }

    pub(super) fn read_agent(&mut self, id: AgentId) {
        if self.reading.is_none() {
            self.reading = Some(id);
            self.polled.1 = self.polled.1.saturating_add(1);
            self.out.push(Action::ReadAgent(id));
        }
    }
}

/// What the user is told on the way.
impl Own {
    fn say_agent_slow(&mut self) {
        if self.memory.current().is_some_and(|agent| agent.status == Some(AgentStatus::Timeout)) {
            self.say(Notice::AgentSlow);
        }
    }

    /// How the scripts of the agent stand that is about to be dialled.
    fn say_scripts(&mut self) {
        let Some(agent) = self.memory.current() else { return };
        let waited = waits(self.config.wait, agent) == Some(true);
        match agent.lifecycle {
            Lifecycle::StartError => self.say(Notice::ScriptFailed),
            Lifecycle::StartTimeout => self.say(Notice::ScriptTimedOut),
            Lifecycle::Created | Lifecycle::Starting | Lifecycle::Unknown if waited => {
                self.say(Notice::ScriptsSilent);
            }
            Lifecycle::Starting => self.say(Notice::ScriptsRunning),
            Lifecycle::Created
            | Lifecycle::Unknown
            | Lifecycle::Ready
            | Lifecycle::ShuttingDown
            | Lifecycle::ShutdownTimeout
            | Lifecycle::ShutdownError
            | Lifecycle::Off => {}
        }
    }

    fn say_stopping(&mut self) {
        let stopping = self.memory.build.as_ref().is_some_and(|build| {
            build.transition == Transition::Stop
                && match build.status {
                    JobStatus::Pending | JobStatus::Running => true,
                    JobStatus::Succeeded
                    | JobStatus::Failed
                    | JobStatus::Canceling
                    | JobStatus::Canceled
                    | JobStatus::Unknown => false,
                }
        });
        if stopping {
            self.say(Notice::Stopping);
        }
    }

    /// Why a forward loses its tunnel. (A session says so with its end.)
    fn say_loss(&mut self, reason: &Outcome) {
        if self.config.policy != Policy::Follow {
            return;
        }
        self.say_stopping();
        match reason {
            Outcome::WorkspaceReplaced => self.say(Notice::Rebuilding),
            Outcome::AgentShutDown => self.say(Notice::AgentShutDown),
            Outcome::UserStop
            | Outcome::AppDone(_)
            | Outcome::AppFailed(_)
            | Outcome::AppLost(_)
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
            | Outcome::TunnelLost(_)
            | Outcome::TimedOut { .. }
            | Outcome::Protocol(_) => {}
        }
    }
}
