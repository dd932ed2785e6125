//! A driver that performs nothing, keeps account of everything and holds the tunneler to its
//! contract after every event.

use std::collections::BTreeSet;

use coderctl_tunneler::{
    Action, AgentId, AgentRecord, AgentStatus, Agents, AppEnd, Build, BuildNumber, Config,
    ConnectionId, Event, Exit, Failure, FailureKind, JobStatus, Lifecycle, Notice, Outcome, Policy,
    Snapshot, State, Step, Timer, Transition, Tunneler,
};

/// A tunneler and the account of what it has asked for.
pub(crate) struct Rig {
    pub(crate) tunneler: Tunneler,
    /// Unanswered, in the order in which it was asked.
    pub(crate) asked: Vec<Action>,
    pub(crate) armed: BTreeSet<Timer>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) exit: Option<Exit>,
    pub(crate) watch_open: bool,
    /// The dial that is unanswered or the tunnel that is up.
    pub(crate) dialled: Option<(ConnectionId, AgentId)>,
    pub(crate) tunnel_open: bool,
    pub(crate) app: App,
    pub(crate) starts: u32,
    pub(crate) dials: u32,
    /// It ended because draining took too long: what is left then is the driver's to end.
    pub(crate) drained: bool,
    pub(crate) next_build: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum App {
    Unborn,
    Detached,
    Attached,
    Ended,
}

impl Rig {
    pub(crate) fn new(config: Config) -> Self {
        let (tunneler, first) = Tunneler::new(config);
        let mut rig = Self {
            tunneler,
            asked: Vec::new(),
            armed: BTreeSet::new(),
            notices: Vec::new(),
            exit: None,
            watch_open: false,
            dialled: None,
            tunnel_open: false,
            app: App::Unborn,
            starts: 0,
            dials: 0,
            drained: false,
            next_build: 100,
        };
        rig.perform(first);
        rig
    }

    /// A rig whose watch is open.
    pub(crate) fn watching(config: Config) -> Self {
        let mut rig = Self::new(config);
        rig.feed(Event::WatchUp);
        rig.asked.retain(|action| *action != Action::Resync);
        rig.feed(Event::ResyncFailed(transient("not needed here")));
        rig.notices.clear();
        rig
    }

    pub(crate) fn follow() -> Self {
        Self::watching(Config::new(Policy::Follow))
    }

    pub(crate) fn once() -> Self {
        Self::watching(Config::new(Policy::Once))
    }

    /// A rig whose application is up on a tunnel to agent A of build 5.
    pub(crate) fn up(config: Config) -> Self {
        let mut rig = Self::watching(config);
        rig.feed(snapshot(started(5), one(A, Lifecycle::Ready)));
        rig.feed(Event::DialUp(rig.connection()));
        rig.feed(Event::AppAttached);
        assert_eq!(rig.state(), State::ApplicationUp);
        rig
    }

    pub(crate) fn state(&self) -> State {
        self.tunneler.state()
    }

    pub(crate) fn connection(&self) -> ConnectionId {
        self.dialled.expect("something is dialled").0
    }

    /// What it ended with.
    pub(crate) fn outcome(&self) -> Outcome {
        self.exit.clone().expect("it has ended").outcome
    }

    pub(crate) fn is_asked(&self, wanted: fn(&Action) -> bool) -> bool {
        self.asked.iter().any(wanted)
    }

    /// Feeds one event and returns what came of it, timers and notices apart.
    pub(crate) fn feed(&mut self, event: Event) -> Vec<Action> {
        self.account(&event);
        let actions = self.tunneler.handle(event);
        self.perform(actions.clone());
        actions
            .into_iter()
            .filter(|action| {
                !matches!(
                    action,
                    Action::ArmTimer { .. } | Action::DisarmTimer(_) | Action::Notice(_)
                )
            })
            .collect()
    }

    /// Lets an armed timer fire.
    pub(crate) fn fire(&mut self, timer: Timer) -> Vec<Action> {
        assert!(self.armed.contains(&timer), "{timer:?} is not armed: {:?}", self.armed);
        self.feed(Event::TimerFired(timer))
    }

    /// Answers everything that is unanswered, and what that asks for, until nothing is.
    pub(crate) fn answer_all(&mut self, mut answer: impl FnMut(&mut Self, &Action) -> Event) {
        for _ in 0..100 {
            let Some(action) = self.asked.first().cloned() else { return };
            let event = answer(self, &action);
            self.feed(event);
        }
        panic!("there is no end to what it asks for: {:?}", self.asked);
    }

    /// The good answer.
    pub(crate) fn success(&mut self, action: &Action) -> Event {
        match action {
            Action::OpenWatch => Event::WatchUp,
            Action::Resync => Event::ResyncFailed(transient("nothing new")),
            Action::ReadAgent(id) => {
                Event::AgentReadFailed { id: *id, failure: transient("later") }
            }
            Action::StartWorkspace => {
                self.next_build += 1;
                Event::StartAccepted { number: BuildNumber(self.next_build) }
            }
            Action::Dial { connection, .. } => Event::DialUp(*connection),
            Action::AttachApp(_) => Event::AppAttached,
            Action::DetachApp => Event::AppDetached,
            Action::CloseApp => Event::AppClosed,
            Action::CloseTailnet(connection) => Event::TailnetClosed(*connection),
            other => panic!("{other:?} has no answer"),
        }
    }

    /// The bad answer, or the only one.
    pub(crate) fn failure(&mut self, action: &Action, kind: FailureKind) -> Event {
        let failure = Failure::new(kind, "the rig says no");
        match action {
            Action::OpenWatch => Event::WatchFailed(failure),
            Action::Resync => Event::ResyncFailed(failure),
            Action::ReadAgent(id) => Event::AgentReadFailed { id: *id, failure },
            Action::StartWorkspace if kind == FailureKind::Transient => {
                Event::StartConflict(failure)
            }
            Action::StartWorkspace => Event::StartFailed(failure),
            Action::Dial { connection, .. } => {
                Event::DialFailed { connection: *connection, failure }
            }
            Action::AttachApp(_) => Event::AppAttachFailed(failure),
            Action::DetachApp | Action::CloseApp | Action::CloseTailnet(_) => self.success(action),
            other => panic!("{other:?} has no answer"),
        }
    }

    /// What an event says about what was asked and what there is.
    fn account(&mut self, event: &Event) {
        let mut answered = |wanted: &dyn Fn(&Action) -> bool| {
            if let Some(index) = self.asked.iter().position(wanted) {
                self.asked.remove(index);
            }
        };
        match event {
            Event::WatchUp => {
                answered(&|action| *action == Action::OpenWatch);
                self.watch_open = true;
            }
            Event::WatchFailed(_) => answered(&|action| *action == Action::OpenWatch),
            Event::WatchLost(_) => self.watch_open = false,
            Event::Snapshot(_) | Event::ResyncFailed(_) => {
                answered(&|action| *action == Action::Resync);
            }
            Event::AgentRecord(AgentRecord { id, .. }) | Event::AgentReadFailed { id, .. } => {
                answered(&|action| *action == Action::ReadAgent(*id));
            }
            Event::StartAccepted { .. } | Event::StartConflict(_) | Event::StartFailed(_) => {
                answered(&|action| *action == Action::StartWorkspace);
            }
            Event::DialUp(_) => {
                answered(&|action| matches!(action, Action::Dial { .. }));
                self.tunnel_open = true;
            }
            Event::DialFailed { .. } => {
                answered(&|action| matches!(action, Action::Dial { .. }));
                self.dialled = None;
            }
            Event::TailnetClosed(_) => {
                answered(&|action| matches!(action, Action::CloseTailnet(_)));
                (self.dialled, self.tunnel_open) = (None, false);
            }
            Event::AppAttached => {
                answered(&|action| matches!(action, Action::AttachApp(_)));
                self.app = App::Attached;
            }
            Event::AppAttachFailed(_) => {
                answered(&|action| matches!(action, Action::AttachApp(_)));
                self.app = App::Detached;
            }
            Event::AppDetached => {
                answered(&|action| *action == Action::DetachApp);
                self.app = App::Detached;
            }
            Event::AppClosed | Event::AppEnded(_) => {
                answered(&is_app_ask);
                self.app = App::Ended;
            }
            Event::TimerFired(timer) => {
                self.armed.remove(timer);
                self.drained |= *timer == Timer::Deadline(Step::Drain);
            }
            _ => {}
        }
    }

    /// Performs nothing, and looks whether it may be asked for.
    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            assert_eq!(self.exit, None, "{action:?} after the end");
            let twice = self
                .asked
                .iter()
                .any(|asked| std::mem::discriminant(asked) == std::mem::discriminant(&action));
            assert!(!twice, "{action:?} while it is unanswered");
            match &action {
                Action::OpenWatch => assert!(!self.watch_open),
                Action::Resync | Action::ReadAgent(_) => {}
                Action::StartWorkspace => self.starts += 1,
                Action::Dial { connection, agent } => {
                    assert_eq!(self.dialled, None, "a second tunnel");
                    assert_ne!(self.app, App::Ended, "a tunnel for nobody");
                    self.dialled = Some((*connection, *agent));
                    self.dials += 1;
                }
                Action::CancelDial(connection) => {
                    assert_eq!(*connection, self.connection());
                    assert!(self.is_asked(|action| matches!(action, Action::Dial { .. })));
                }
                Action::AttachApp(connection) => {
                    assert_eq!(*connection, self.connection());
                    assert!(self.tunnel_open);
                    assert!(matches!(self.app, App::Unborn | App::Detached), "{:?}", self.app);
                    assert!(!self.is_asked(is_app_ask));
                    self.app = App::Detached;
                }
                Action::CancelAttach => {
                    assert!(self.is_asked(|action| matches!(action, Action::AttachApp(_))));
                }
                Action::DetachApp => {
                    assert_eq!(self.app, App::Attached);
                    assert!(!self.is_asked(is_app_ask));
                }
                Action::CloseApp => {
                    assert!(matches!(self.app, App::Attached | App::Detached), "{:?}", self.app);
                    assert!(!self.is_asked(is_app_ask));
                }
                Action::CloseTailnet(connection) => {
                    assert_eq!(*connection, self.connection());
                    assert!(self.tunnel_open);
                    assert_ne!(self.app, App::Attached, "closed under the application");
                    assert!(!self.is_asked(is_app_ask));
                }
                Action::ArmTimer { timer, .. } => {
                    self.armed.insert(*timer);
                    continue;
                }
                Action::DisarmTimer(timer) => {
                    assert!(self.armed.remove(timer), "{timer:?} is not armed");
                    continue;
                }
                Action::Notice(notice) => self.notices.push(notice.clone()),
                Action::Unexpected(severity) => panic!("unexpected: {severity:?}"),
                Action::Exit(exit) => self.exit = Some(exit.clone()),
            }
            if starts_something(&action) {
                self.asked.push(action);
            }
        }
        assert_eq!(self.exit.is_some(), self.state() == State::Exit);
        self.look_for_hangs();
    }

    /// Whatever it waits for must be able to come.
    fn look_for_hangs(&self) {
        let (state, asked) = (self.state(), &self.asked);
        let waits = match state {
            State::EstablishTailnet => self.is_asked(|a| matches!(a, Action::Dial { .. })),
            State::TailnetUp => self.is_asked(|a| matches!(a, Action::AttachApp(_))),
            State::ShutdownApplication => self.is_asked(is_app_ask),
            State::ShutdownTailnet => {
                self.is_asked(|a| matches!(a, Action::Dial { .. } | Action::CloseTailnet(_)))
            }
            _ => true,
        };
        assert!(waits, "{state} waits for nothing: {asked:?}");
        let draining = self.armed.contains(&Timer::Deadline(Step::Drain));
        let looks = self.is_asked(|a| *a == Action::Resync) || self.armed.contains(&Timer::Resync);
        assert!(looks || draining || state == State::Exit, "{state} has gone deaf: {asked:?}");
    }
}

fn is_app_ask(action: &Action) -> bool {
    matches!(action, Action::AttachApp(_) | Action::DetachApp | Action::CloseApp)
}

fn starts_something(action: &Action) -> bool {
    match action {
        Action::OpenWatch
        | Action::Resync
        | Action::ReadAgent(_)
        | Action::StartWorkspace
        | Action::Dial { .. }
        | Action::AttachApp(_)
        | Action::DetachApp
        | Action::CloseApp
        | Action::CloseTailnet(_) => true,
        Action::CancelDial(_)
        | Action::CancelAttach
        | Action::ArmTimer { .. }
        | Action::DisarmTimer(_)
        | Action::Notice(_)
        | Action::Unexpected(_)
        | Action::Exit(_) => false,
    }
}

// ---- short words for facts ---------------------------------------------------------------------

pub(crate) const A: AgentId = AgentId(0xa);
pub(crate) const B: AgentId = AgentId(0xb);

pub(crate) const START: Transition = Transition::Start;
pub(crate) const STOP: Transition = Transition::Stop;
pub(crate) const DELETE: Transition = Transition::Delete;

/// A build as the watch tells it.
pub(crate) fn build(transition: Transition, status: JobStatus) -> Event {
    Event::Build(Build::new(transition, status))
}

/// An agent as the watch tells it.
pub(crate) fn agent(id: AgentId, lifecycle: Lifecycle) -> Event {
    Event::Agent { id, lifecycle }
}

/// A whole read.
pub(crate) fn snapshot(build: Build, agents: Agents) -> Event {
    Event::Snapshot(Snapshot { build, agents, dormant: false })
}

pub(crate) fn started(number: u64) -> Build {
    Build::new(START, JobStatus::Succeeded).numbered(number)
}

pub(crate) fn stopped(number: u64) -> Build {
    Build::new(STOP, JobStatus::Succeeded).numbered(number)
}

/// A connected agent with scripts that block the login.
pub(crate) fn record(id: AgentId, lifecycle: Lifecycle) -> AgentRecord {
    AgentRecord { id, lifecycle, status: AgentStatus::Connected, blocks_login: true }
}

pub(crate) fn one(id: AgentId, lifecycle: Lifecycle) -> Agents {
    Agents::One(record(id, lifecycle))
}

pub(crate) fn transient(text: &str) -> Failure {
    Failure::new(FailureKind::Transient, text)
}

pub(crate) fn refused(text: &str) -> Failure {
    Failure::new(FailureKind::Refused, text)
}

pub(crate) fn done(code: u8) -> Event {
    Event::AppEnded(AppEnd::Done(code))
}
