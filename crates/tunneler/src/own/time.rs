//! Timers: which the phase needs, for how long, and what each means when it fires.
//!
//! Which timers are armed follows from what is remembered, as everything does: after each event
//! the set that is wanted is compared with the set that is armed.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Action, AgentStatus, Lifecycle, Outcome, Step, Timer,
    goal::{Goal, Missing, goal},
    memory::Agent,
    phase::{Phase, Then, Waiting},
};

use super::{Own, WatchLife};

/// A timer's need: what it is for (a change means a fresh start) and how long it takes.
type Need = (u128, Duration);

impl Own {
    pub(super) fn timer_fired(&mut self, timer: Timer) {
        // One that was disarmed may already have been on its way.
        if self.timers.remove(&timer).is_none() {
            return;
        }
        match timer {
            Timer::Resync => self.resync(),
            Timer::WatchBackoff => {
                self.watch.life = WatchLife::Opening;
                self.out.push(Action::OpenWatch);
            }
            Timer::StartBackoff => self.start.pausing = false,
            Timer::DialBackoff => self.dial.pausing = false,
            Timer::AgentPoll => {
                if let Some(agent) = self.memory.current() {
                    self.read_agent(agent.id);
                }
            }
            Timer::ScriptsGrace => self.given_up = self.memory.current().map(|agent| agent.id),
            Timer::Deadline(step) => self.expired(step),
        }
    }

    fn expired(&mut self, step: Step) {
        match (step, self.phase.clone()) {
            (
                Step::Drain,
                Phase::Parting { then: Then::Leave { outcome, at }, .. }
                | Phase::Closing { then: Then::Leave { outcome, at }, .. },
            ) => self.exit(outcome, at),
            (Step::Agent, _) if self.memory.current().is_some_and(never_connected) => {
                self.leave(Outcome::AgentNeverConnected);
            }
            (
                Step::Learn
                | Step::Build
                | Step::Agent
                | Step::Scripts
                | Step::Dial
                | Step::Attach
                | Step::Drain,
                _,
            ) => self.leave(Outcome::TimedOut { step }),
        }
    }

    pub(super) fn sync_timers(&mut self) {
        if self.phase == Phase::Exit {
            self.timers.clear();
            return;
        }
        let wanted = self.wanted();
        for timer in self.timers.keys().copied().collect::<Vec<_>>() {
            if !wanted.contains_key(&timer) {
                self.timers.remove(&timer);
                self.out.push(Action::DisarmTimer(timer));
            }
        }
        for (timer, (purpose, after)) in wanted {
            if self.timers.insert(timer, purpose) != Some(purpose) {
                self.out.push(Action::ArmTimer { timer, after });
            }
        }
    }

    fn wanted(&self) -> BTreeMap<Timer, Need> {
        let mut wanted = BTreeMap::new();
        if self.phase.is_leaving() {
            if let Some(drain) = self.config.deadlines.drain {
                wanted.insert(Timer::Deadline(Step::Drain), (0, drain));
            }
            return wanted;
        }
        if !self.resyncing {
            let after = match self.resync_failures {
                0 => self.config.resync,
                failures => self.config.backoff.after(failures).min(self.config.resync),
            };
            wanted.insert(Timer::Resync, (u128::from(self.resync_failures), after));
        }
        let mut pause = |timer, pausing: bool, failures: u32| {
            if pausing {
                let after = self.config.backoff.after(failures);
                wanted.insert(timer, (u128::from(failures), after));
            }
        };
        pause(Timer::WatchBackoff, self.watch.life == WatchLife::Pausing, self.watch.failures);
        pause(Timer::StartBackoff, self.start.pausing, self.start.failures);
        pause(Timer::DialBackoff, self.dial.pausing, self.dial.failures);
        if let Some(agent) = self.memory.current() {
            self.wanted_for(agent, &mut wanted);
        }
        if let Some((step, purpose)) = self.step().filter(|_| !self.was_up)
            && let Some(after) = self.deadline(step)
        {
            wanted.insert(Timer::Deadline(step), (purpose, after));
        }
        wanted
    }

    /// Waiting for an agent means looking at it again and again.
    fn wanted_for(&self, agent: &Agent, wanted: &mut BTreeMap<Timer, Need>) {
        let looks = match self.phase {
            Phase::Idle(Waiting::Agent) => true,
            Phase::Dialling(link) => link.agent == agent.id && never_connected(agent),
            Phase::Idle(Waiting::Facts | Waiting::Stop | Waiting::Build)
            | Phase::Attaching(_)
            | Phase::Up(_)
            | Phase::Parting { .. }
            | Phase::Closing { .. }
            | Phase::Exit => false,
        };
        if looks && self.reading.is_none() {
            let polls = if self.polled.0 == Some(agent.id) { self.polled.1 } else { 0 };
            wanted.insert(Timer::AgentPoll, (agent.id.0, poll_interval(polls)));
        }
        let silent = match agent.lifecycle {
            Lifecycle::Created | Lifecycle::Unknown => true,
            Lifecycle::Starting
            | Lifecycle::StartTimeout
            | Lifecycle::StartError
            | Lifecycle::Ready
            | Lifecycle::ShuttingDown
            | Lifecycle::ShutdownTimeout
            | Lifecycle::ShutdownError
            | Lifecycle::Off => false,
        };
        if silent && agent.status == Some(AgentStatus::Connected) && self.waits_for_scripts() {
            wanted.insert(Timer::ScriptsGrace, (agent.id.0, self.config.scripts_grace));
        }
    }

    fn waits_for_scripts(&self) -> bool {
        self.phase == Phase::Idle(Waiting::Agent)
            && goal(&self.memory, &self.config, self.past()) == Goal::AwaitAgent(Missing::Scripts)
    }

    pub(crate) fn waiting_for(&self) -> Option<Step> {
        self.step().map(|(step, _)| step)
    }

    /// The step that a deadline may be set for, and whose it is.
    fn step(&self) -> Option<(Step, u128)> {
        let agent = self.memory.current();
        let id = agent.map_or(0, |agent| agent.id.0);
        match self.phase {
            Phase::Idle(Waiting::Facts) => Some((Step::Learn, 0)),
            Phase::Idle(Waiting::Stop | Waiting::Build) => Some((Step::Build, 0)),
            Phase::Idle(Waiting::Agent) if self.waits_for_scripts() => match agent {
                Some(agent) if !never_connected(agent) => Some((Step::Scripts, id)),
                Some(_) | None => Some((Step::Agent, id)),
            },
            // One that never connected is waited for as long as it takes: in dials and in the
            // pauses between them.
            Phase::Idle(Waiting::Agent) | Phase::Dialling(_)
                if agent.is_some_and(never_connected) =>
            {
                Some((Step::Agent, id))
            }
            Phase::Idle(Waiting::Agent) if self.dial.pausing => {
                Some((Step::Dial, u128::from(self.dial.last)))
            }
            Phase::Idle(Waiting::Agent) => Some((Step::Agent, id)),
            Phase::Dialling(link) => Some((Step::Dial, u128::from(link.connection.0))),
            Phase::Attaching(link) => Some((Step::Attach, u128::from(link.connection.0))),
            Phase::Up(_) | Phase::Parting { .. } | Phase::Closing { .. } | Phase::Exit => None,
        }
    }

    const fn deadline(&self, step: Step) -> Option<Duration> {
        self.config.deadlines.of(step)
    }
}

fn never_connected(agent: &Agent) -> bool {
    match agent.status {
        Some(AgentStatus::Connecting | AgentStatus::Timeout) => true,
        Some(AgentStatus::Connected | AgentStatus::Disconnected | AgentStatus::Unknown) | None => {
            false
        }
    }
}

/// The pause before an agent's record is read again, after so many reads: the Go client's steps
/// (coder/coder: cli/cliui/agent.go), which are 500 ms in the first minute, 1 s until two, 2 s
/// until five, 4 s until ten, then 8 s, counted in reads because there is no clock in here.
const fn poll_interval(reads: u32) -> Duration {
    Duration::from_millis(match reads {
        0..120 => 500,
        120..180 => 1_000,
        180..270 => 2_000,
        270..345 => 4_000,
        345.. => 8_000,
    })
}
