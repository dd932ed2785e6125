//! The machine of `Follow` and `Once`.
//!
//! Each event passes three stations: it is *taken* (remembered, or it answers what the phase
//! waits for), the phase is *settled* against what is remembered, and the timers are *synced* with
//! what the phase then needs. Nothing is decided by the order in which facts arrive.

mod answer;
mod leave;
mod settle;
mod time;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Action, AgentId, Config, ConnectionId, Event, Failure, FailureKind, Notice, Outcome, Severity,
    State, Step, Timer,
    goal::Past,
    memory::{Barrier, Memory},
    phase::{Phase, Waiting},
};

/// The machine of `Follow` and `Once`.
#[derive(Debug)]
pub(crate) struct Own {
    config: Config,
    memory: Memory,
    phase: Phase,
    watch: Watch,
    start: Tries,
    dial: Dials,
    app: App,
    /// A whole read is unanswered.
    resyncing: bool,
    /// A whole read failed; the next comes sooner.
    resync_failures: u32,
    /// The agent whose record is being read.
    reading: Option<AgentId>,
    /// How often whose record has been asked for.
    polled: (Option<AgentId>, u32),
    /// This agent has had its time to speak of its scripts.
    given_up: Option<AgentId>,
    /// The application has been up.
    was_up: bool,
    /// The application has been up, or our own start was accepted.
    spent: bool,
    /// Tunnels that nobody asked for, being closed (T14).
    extra: BTreeSet<ConnectionId>,
    /// What is armed, each with what it was armed for.
    timers: BTreeMap<Timer, u128>,
    said: BTreeSet<Notice>,
    out: Vec<Action>,
}

/// The watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Watch {
    life: WatchLife,
    /// Failures in a row.
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WatchLife {
    /// `OpenWatch` is unanswered.
    Opening,
    Open,
    /// The back-off runs.
    Pausing,
    /// Refused for good, as far as is known.
    Dead,
}

/// Requests to start the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Tries {
    /// `StartWorkspace` is unanswered.
    asked: bool,
    /// The back-off runs.
    pausing: bool,
    /// Failures in a row.
    failures: u32,
}

/// Dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Dials {
    /// The last one's name.
    last: u64,
    /// The back-off runs.
    pausing: bool,
    /// Failures in a row.
    failures: u32,
    /// Whom the last one was for.
    agent: Option<AgentId>,
    /// For this agent a dial was refused, which is believed the second time only.
    doubted: Option<AgentId>,
}

/// The application's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum App {
    /// It has not been attached yet.
    Unborn,
    Alive,
    Ended,
}

impl Own {
    pub(crate) fn new(config: Config) -> (Self, Vec<Action>) {
        let mut own = Self {
            config,
            memory: Memory::default(),
            phase: Phase::Idle(Waiting::Facts),
            watch: Watch { life: WatchLife::Opening, failures: 0 },
            start: Tries::default(),
            dial: Dials::default(),
            app: App::Unborn,
            resyncing: false,
            resync_failures: 0,
            reading: None,
            polled: (None, 0),
            given_up: None,
            was_up: false,
            spent: false,
            extra: BTreeSet::new(),
            timers: BTreeMap::new(),
            said: BTreeSet::new(),
            out: vec![Action::OpenWatch],
        };
        own.sync_timers();
        let first = std::mem::take(&mut own.out);
        (own, first)
    }

    pub(crate) const fn state(&self) -> State {
        self.phase.state()
    }

    pub(crate) fn handle(&mut self, event: Event) -> Vec<Action> {
        if self.phase == Phase::Exit {
            return Vec::new();
        }
        self.take(event);
        self.settle();
        self.sync_timers();
        std::mem::take(&mut self.out)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Build(build) => self.memory.learn_build(build),
            Event::Agent { id, lifecycle } => self.memory.learn_agent(id, lifecycle),
            Event::AgentProblem(problem) => self.memory.learn_problem(problem),
            Event::WorkspaceGone => self.bar(Barrier::Gone),
            Event::AccessLost => self.bar(Barrier::Access),
            Event::LoginRefused => self.bar(Barrier::Login),
            Event::OtherMessage => {}
            Event::WatchUp => self.watch_up(),
            Event::WatchFailed(failure) => self.watch_down(failure, WatchLife::Opening),
            Event::WatchLost(failure) => self.watch_down(failure, WatchLife::Open),
            Event::Snapshot(snapshot) => {
                self.resyncing = false;
                self.resync_failures = 0;
                self.memory.learn_snapshot(snapshot);
                if self.watch.life == WatchLife::Dead {
                    self.watch.life = WatchLife::Pausing;
                }
            }
            Event::ResyncFailed(failure) => self.resync_failed(failure),
            Event::AgentRecord(record) => {
                self.reading = self.reading.filter(|id| *id != record.id);
                self.memory.learn_record(&record);
            }
            Event::AgentReadFailed { id, failure } => self.agent_read_failed(id, &failure),
            Event::StartAccepted { number } => self.start_accepted(number),
            Event::StartConflict(failure) => self.start_conflict(&failure),
            Event::StartFailed(failure) => self.start_failed(failure),
            Event::DialUp(connection) => self.dial_up(connection),
            Event::DialFailed { connection, failure } => self.dial_failed(connection, failure),
            Event::TunnelLost { connection, text } => self.tunnel_lost(connection, text),
            Event::TailnetClosed(connection) => self.tailnet_closed(connection),
            Event::AppAttached => self.app_attached(),
            Event::AppAttachFailed(failure) => self.app_attach_failed(failure),
            Event::AppDetached => self.app_detached(),
            Event::AppClosed => self.app_closed(),
            Event::AppEnded(end) => self.app_ended(end),
            Event::TimerFired(timer) => self.timer_fired(timer),
            Event::Shutdown => self.leave(Outcome::UserStop),
        }
    }

    /// Remembers why the server does not let us go on. A tunnel that works is not touched by
    /// what only keeps new ones from being made.
    fn bar(&mut self, barrier: Barrier) {
        if self.memory.barrier == Some(Barrier::Gone) {
            return;
        }
        match (self.has_tunnel(), &barrier) {
            (true, Barrier::Login) => self.say(Notice::LoginRefused),
            (true, Barrier::Access) => self.say(Notice::AccessLost),
            (true, Barrier::Gone | Barrier::Deaf(_)) | (false, _) => {}
        }
        self.memory.barrier = Some(barrier);
    }

    fn watch_up(&mut self) {
        if self.watch.life != WatchLife::Opening {
            return self.unexpected();
        }
        let again = self.watch.failures > 0 || !self.memory.read;
        self.watch = Watch { life: WatchLife::Open, failures: 0 };
        // The watch begins with what is; what it cannot tell (numbers, scripts, status) is read.
        if again {
            self.resync();
        }
    }

    /// The watch could not be opened, or is lost: try again after a pause (T1, T2), or give it up.
    fn watch_down(&mut self, failure: Failure, expected: WatchLife) {
        if self.watch.life != expected {
            return self.unexpected();
        }
        self.watch.failures = self.watch.failures.saturating_add(1);
        self.watch.life = match failure.kind {
            FailureKind::Transient => WatchLife::Pausing,
            FailureKind::Login
            | FailureKind::Access
            | FailureKind::Gone
            | FailureKind::Protocol
            | FailureKind::Refused
            | FailureKind::Canceled => WatchLife::Dead,
        };
        // Where there is no tunnel, a final failure is the end, which speaks for itself.
        if self.watch.life == WatchLife::Pausing || self.has_tunnel() {
            self.say_once_about(Notice::WatchLost { text: failure.text.clone() });
        }
        // Where there is one, reading says what is behind it.
        if self.watch.life == WatchLife::Dead && self.has_tunnel() {
            self.resync();
        }
        match failure.kind {
            FailureKind::Transient if self.out_of_patience(self.watch.failures) => {
                self.bar(Barrier::Deaf(Outcome::ServerUnreachable(failure.text)));
            }
            FailureKind::Transient => {}
            FailureKind::Login => self.bar(Barrier::Login),
            FailureKind::Access => self.bar(Barrier::Access),
            FailureKind::Gone => self.bar(Barrier::Gone),
            FailureKind::Protocol => self.bar(Barrier::Deaf(Outcome::Protocol(failure.text))),
            FailureKind::Refused | FailureKind::Canceled => {
                self.bar(Barrier::Deaf(Outcome::WatchUnusable(failure.text)));
            }
        }
    }

    /// Asks for a whole read, unless one is under way.
    fn resync(&mut self) {
        if !self.resyncing && !self.phase.is_leaving() {
            self.resyncing = true;
            self.out.push(Action::Resync);
        }
    }

    fn resync_failed(&mut self, failure: Failure) {
        if !self.resyncing {
            return self.unexpected();
        }
        self.resyncing = false;
        self.resync_failures = self.resync_failures.saturating_add(1);
        match failure.kind {
            FailureKind::Login => self.bar(Barrier::Login),
            FailureKind::Access => self.bar(Barrier::Access),
            FailureKind::Gone => self.bar(Barrier::Gone),
            FailureKind::Transient
            | FailureKind::Protocol
            | FailureKind::Refused
            | FailureKind::Canceled => {
                self.say_once_about(Notice::Retrying { step: Step::Learn, text: failure.text });
            }
        }
    }

    fn agent_read_failed(&mut self, id: AgentId, failure: &Failure) {
        if self.reading != Some(id) {
            return self.unexpected();
        }
        self.reading = None;
        match failure.kind {
            FailureKind::Login => self.bar(Barrier::Login),
            // Perhaps it is not the workspace's agent any more.
            FailureKind::Access | FailureKind::Gone | FailureKind::Refused => self.resync(),
            FailureKind::Transient | FailureKind::Protocol | FailureKind::Canceled => {}
        }
    }

    const fn past(&self) -> Past {
        Past { spent: self.spent, given_up: self.given_up }
    }

    /// Whether there is a tunnel that is not being let go.
    const fn has_tunnel(&self) -> bool {
        match self.phase {
            Phase::Attaching(_) | Phase::Up(_) => true,
            Phase::Idle(_)
            | Phase::Dialling(_)
            | Phase::Parting { .. }
            | Phase::Closing { .. }
            | Phase::Exit => false,
        }
    }

    /// Whether so many failures in a row are too many.
    const fn out_of_patience(&self, failures: u32) -> bool {
        !self.was_up && failures >= self.config.attempts
    }

    fn say(&mut self, notice: Notice) {
        if !self.phase.is_leaving() && self.said.insert(notice.clone()) {
            self.out.push(Action::Notice(notice));
        }
    }

    /// Says it unless the same was said with another text.
    fn say_once_about(&mut self, notice: Notice) {
        let same = |said: &Notice| match (said, &notice) {
            (Notice::Retrying { step: a, .. }, Notice::Retrying { step: b, .. }) => a == b,
            (said, new) => std::mem::discriminant(said) == std::mem::discriminant(new),
        };
        if !self.said.iter().any(same) {
            self.say(notice);
        }
    }

    fn unexpected(&mut self) {
        self.out.push(Action::Unexpected(Severity::Error));
    }
}
