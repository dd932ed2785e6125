//! What holds after any sequence of events that a driver which keeps its promises can produce.
//! (The rig checks the contract after each event; see there.)

use std::collections::BTreeMap;

use coderctl_tunneler::{
    Action, AgentId, AgentProblem, AgentRecord, AgentStatus, Agents, AppEnd, Build, BuildNumber,
    Config, ConnectionId, Event, Failure, FailureKind, JobStatus, Lifecycle, Policy, Snapshot,
    State, Step, Timer, Transition, Tunneler, Wait,
};
use proptest::{prelude::*, sample::Index, strategy::ValueTree, test_runner::TestRunner};

use crate::rig::{A, App, Rig};

/// Something that can happen to a tunneler in good hands.
#[derive(Debug, Clone)]
enum Stimulus {
    /// A fact, whatever was asked.
    Fact(Event),
    /// The good answer to something that is unanswered.
    Yes(Index),
    /// The bad one.
    No(Index, FailureKind),
    /// An armed timer fires.
    Fire(Index),
    /// The watch, if open, is lost.
    WatchLost(FailureKind),
    /// The tunnel, if up, is lost.
    TunnelLost,
    /// The application, if there is one, ends.
    AppEnds(AppEnd),
    /// The user asks for the end.
    Shutdown,
}

/// Otherwise the properties would speak of little.
#[test]
fn the_sequences_come_everywhere() {
    let mut runner = TestRunner::deterministic();
    let mut reached: BTreeMap<State, usize> = BTreeMap::new();
    for _ in 0..500 {
        let stimuli = prop::collection::vec(past_stimulus(), 0..60);
        let stimuli = stimuli.new_tree(&mut runner).unwrap().current();
        let config = Config { attempts: u32::MAX, ..Config::new(Policy::Follow) };
        *reached.entry(Rig::with_past(&config, stimuli).state()).or_default() += 1;
    }
    for state in State::ALL.into_iter().filter(|state| *state != State::Exit) {
        let times = reached.get(&state).copied().unwrap_or_default();
        assert!(times >= 3, "{state} was reached {times} times: {reached:?}");
    }
}

impl Rig {
    fn apply(&mut self, stimulus: Stimulus) {
        match stimulus {
            Stimulus::Fact(event) => {
                let believed = match &event {
                    Event::Agent { id, .. } => Some(*id),
                    _ => None,
                };
                self.feed(event);
                if let Some(told) = believed {
                    self.holds_no_tunnel_but_to(told);
                }
            }
            Stimulus::Yes(index) => {
                if let Some(action) = self.pick(index) {
                    let event = self.success(&action);
                    self.feed(event);
                }
            }
            Stimulus::No(index, kind) => {
                if let Some(action) = self.pick(index) {
                    let event = self.failure(&action, kind);
                    self.feed(event);
                }
            }
            Stimulus::Fire(index) => {
                let armed: Vec<Timer> = self.armed.iter().copied().collect();
                if !armed.is_empty() {
                    self.fire(*index.get(&armed));
                }
            }
            Stimulus::WatchLost(kind) if self.watch_open => {
                self.feed(Event::WatchLost(Failure::new(kind, "lost")));
            }
            Stimulus::TunnelLost if self.tunnel_open => {
                let connection = self.connection();
                self.feed(Event::TunnelLost { connection, text: "silent".to_owned() });
            }
            Stimulus::AppEnds(end) if self.app != App::Ended => {
                self.feed(Event::AppEnded(end));
            }
            Stimulus::WatchLost(_) | Stimulus::TunnelLost | Stimulus::AppEnds(_) => {}
            Stimulus::Shutdown => {
                self.feed(Event::Shutdown);
            }
        }
    }

    fn pick(&self, index: Index) -> Option<Action> {
        (!self.asked.is_empty()).then(|| index.get(&self.asked).clone())
    }

    /// A new agent id never keeps the old tunnel.
    fn holds_no_tunnel_but_to(&self, told: AgentId) {
        match self.state() {
            State::EstablishTailnet | State::TailnetUp | State::ApplicationUp => {
                assert_eq!(self.dialled.map(|(_, agent)| agent), Some(told), "{}", self.state());
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_breaks_the_contract_and_shutdown_always_reaches_exit(
        config in config(),
        stimuli in prop::collection::vec(stimulus(), 0..60),
        yes in prop::collection::vec(any::<bool>(), 8),
    ) {
        let mut rig = Rig::new(config);
        for stimulus in stimuli {
            rig.apply(stimulus);
        }
        rig.feed(Event::Shutdown);
        let mut turn = 0;
        rig.answer_all(|rig, action| {
            turn += 1;
            if yes[turn % yes.len()] {
                rig.success(action)
            } else {
                rig.failure(action, FailureKind::Transient)
            }
        });
        prop_assert_eq!(rig.state(), State::Exit);
        if !rig.drained {
            prop_assert_eq!(rig.dialled, None, "a tunnel is left");
            prop_assert!(matches!(rig.app, App::Unborn | App::Ended), "the application is left");
        }
    }

    #[test]
    fn shutdown_reaches_exit_even_if_no_answer_ever_comes(
        config in config(),
        stimuli in prop::collection::vec(stimulus(), 0..60),
    ) {
        let mut rig = Rig::new(config);
        for stimulus in stimuli {
            rig.apply(stimulus);
        }
        rig.feed(Event::Shutdown);
        if rig.state() != State::Exit {
            rig.fire(Timer::Deadline(Step::Drain));
        }
        prop_assert_eq!(rig.state(), State::Exit);
    }

    #[test]
    fn a_driver_that_breaks_every_promise_breaks_nothing(
        config in config(),
        events in prop::collection::vec(any_event(), 0..60),
    ) {
        let (mut tunneler, _) = Tunneler::new(config);
        let mut exits = 0;
        for event in events {
            let over = tunneler.state() == State::Exit;
            let actions = tunneler.handle(event);
            prop_assert!(!over || actions.is_empty());
            exits += actions.iter().filter(|action| matches!(action, Action::Exit(_))).count();
        }
        prop_assert_eq!(exits, usize::from(tunneler.state() == State::Exit));
    }

    /// The one thing that a past may change: a tunnel that works outlives all that does not say
    /// that its agent goes: a build of which it is not known yet, or never will be, that it touches the
    /// workspace (T9, T11); an agent that has lost its server, or runs its scripts once more.
    #[test]
    fn a_full_resync_settles_where_the_resync_alone_would(
        wait in wait(),
        restart in any::<bool>(),
        stimuli in prop::collection::vec(past_stimulus(), 0..60),
        truth in truth(),
    ) {
        let config = Config {
            wait, restart, attempts: u32::MAX,
            ..Config::new(Policy::Follow)
        };
        let mut alone = Rig::new(config.clone());
        alone.feed(Event::Snapshot(truth.clone()));
        alone.settle(&truth);

        let mut rig = Rig::with_past(&config, stimuli);
        let kept = rig.dialled.filter(|(_, agent)| outlives(rig.state(), *agent, &truth));
        rig.feed(Event::Snapshot(truth.clone()));
        rig.settle(&truth);

        if kept.is_some() {
            prop_assert_eq!(rig.state(), State::ApplicationUp);
            prop_assert_eq!(rig.dialled, kept);
        } else {
            prop_assert_eq!(rig.state(), alone.state());
            let agent = |rig: &Rig| rig.dialled.map(|(_, agent)| agent);
            prop_assert_eq!(agent(&rig), agent(&alone));
        }
    }
}

/// Whether a tunnel, or a dial, to this agent outlives this truth.
fn outlives(state: State, agent: AgentId, truth: &Snapshot) -> bool {
    let undecided = match (truth.build.transition, truth.build.status) {
        (Transition::Start, JobStatus::Succeeded) => false,
        (Transition::Start | Transition::Stop, JobStatus::Running | JobStatus::Succeeded)
        | (Transition::Delete, _) => return false,
        (Transition::Start | Transition::Stop, _) => true,
    };
    let is_up = matches!(state, State::TailnetUp | State::ApplicationUp);
    let is_dialling = state == State::EstablishTailnet;
    match &truth.agents {
        Agents::One(record) => {
            (is_up || is_dialling) && record.id == agent && !record.lifecycle.is_shutdown()
        }
        Agents::Problem(AgentProblem::Several(_)) => is_up,
        Agents::Problem(_) | Agents::Untold => is_up && undecided,
    }
}

impl Rig {
    /// A rig that has this behind it, but for what decided its end.
    fn with_past(config: &Config, stimuli: Vec<Stimulus>) -> Self {
        let mut rig = Self::new(config.clone());
        let mut past: Vec<Stimulus> = Vec::new();
        for stimulus in stimuli {
            rig.apply(stimulus.clone());
            if rig.exit.is_some() || rig.armed.contains(&Timer::Deadline(Step::Drain)) {
                rig = Self::new(config.clone());
                past.iter().cloned().for_each(|stimulus| rig.apply(stimulus));
            } else {
                past.push(stimulus);
            }
        }
        rig
    }

    /// Gives every answer, the good one and the true one, and ends the pauses, until nothing more
    /// comes of it.
    fn settle(&mut self, truth: &Snapshot) {
        self.next_build = 1_000;
        let is_stopped = truth.build.transition == Transition::Stop
            && truth.build.status == JobStatus::Succeeded;
        for _ in 0..100 {
            self.answer_all(|rig, action| match (action, &truth.agents) {
                (Action::Resync, _) => Event::Snapshot(truth.clone()),
                (Action::ReadAgent(id), Agents::One(record)) if record.id == *id => {
                    Event::AgentRecord(record.clone())
                }
                // Asked for before the truth was known: the server builds nothing on top of it.
                (Action::StartWorkspace, _) if !is_stopped => {
                    rig.failure(action, FailureKind::Transient)
                }
                _ => rig.success(action),
            });
            let pauses = [Timer::DialBackoff, Timer::StartBackoff, Timer::WatchBackoff];
            match pauses.into_iter().find(|timer| self.armed.contains(timer)) {
                Some(timer) => self.fire(timer),
                None => return,
            };
        }
        panic!("it does not settle");
    }
}

// ---- generators --------------------------------------------------------------------------------

fn stimulus() -> impl Strategy<Value = Stimulus> {
    prop_oneof![
        10 => past_stimulus(),
        1 => app_end().prop_map(Stimulus::AppEnds),
        1 => Just(Stimulus::Shutdown),
        1 => any::<Index>().prop_map(Stimulus::Fire),
    ]
}

/// What a tunneler can have behind it without having come to its end by it.
fn past_stimulus() -> impl Strategy<Value = Stimulus> {
    prop_oneof![
        10 => fact().prop_map(Stimulus::Fact),
        14 => any::<Index>().prop_map(Stimulus::Yes),
        3 => (any::<Index>(), Just(FailureKind::Transient)).prop_map(|(i, k)| Stimulus::No(i, k)),
        1 => (any::<Index>(), kind()).prop_map(|(i, kind)| Stimulus::No(i, kind)),
        1 => kind().prop_map(Stimulus::WatchLost),
        1 => Just(Stimulus::TunnelLost),
    ]
}

fn fact() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (build(), prop::option::of(1..5u64)).prop_map(|(build, number)| {
            Event::Build(Build { number: number.map(BuildNumber), ..build })
        }),
        // The kind of build that lets it come far.
        4 => Just(Event::Build(Build::new(Transition::Start, JobStatus::Succeeded))),
        4 => (agent_id(), lifecycle()).prop_map(|(id, lifecycle)| Event::Agent { id, lifecycle }),
        2 => agent_id().prop_map(|id| Event::Agent { id, lifecycle: Lifecycle::Ready }),
        1 => problem().prop_map(Event::AgentProblem),
        2 => record().prop_map(Event::AgentRecord),
        2 => (build(), 1..5u64, agents(), any::<bool>()).prop_map(|(build, number, agents, dormant)| {
            Event::Snapshot(Snapshot { build: build.numbered(number), agents, dormant })
        }),
        1 => Just(Event::OtherMessage),
        1 => prop_oneof![
            Just(Event::AccessLost), Just(Event::LoginRefused), Just(Event::WorkspaceGone)
        ],
    ]
}

/// A whole read as a server can give it: agents where the build has some.
fn truth() -> impl Strategy<Value = Snapshot> {
    (build(), agents(), any::<bool>())
        .prop_filter("unknown is no truth", |(build, agents, _)| {
            let unknown = match agents {
                Agents::One(record) => record.lifecycle == Lifecycle::Unknown,
                Agents::Untold | Agents::Problem(_) => false,
            };
            build.status != JobStatus::Unknown && !unknown
        })
        .prop_map(|(build, agents, dormant)| {
            let has_agents = matches!(
                (build.transition, build.status),
                (Transition::Start, JobStatus::Succeeded)
                    | (Transition::Stop, JobStatus::Failed | JobStatus::Canceled)
            );
            let agents = match agents {
                _ if !has_agents => Agents::Untold,
                Agents::Untold => Agents::Problem(AgentProblem::None),
                told => told,
            };
            Snapshot { build: build.numbered(1_000), agents, dormant }
        })
}

fn any_event() -> impl Strategy<Value = Event> {
    let failure = || kind().prop_map(|kind| Failure::new(kind, "no"));
    let connection = || (0..4u64).prop_map(ConnectionId);
    prop_oneof![
        8 => fact(),
        1 => Just(Event::WatchUp),
        1 => failure().prop_map(Event::WatchFailed),
        1 => failure().prop_map(Event::WatchLost),
        1 => failure().prop_map(Event::ResyncFailed),
        1 => (agent_id(), failure()).prop_map(|(id, failure)| Event::AgentReadFailed { id, failure }),
        1 => (0..9u64).prop_map(|n| Event::StartAccepted { number: BuildNumber(n) }),
        1 => failure().prop_map(Event::StartConflict),
        1 => failure().prop_map(Event::StartFailed),
        3 => connection().prop_map(Event::DialUp),
        1 => (connection(), failure())
            .prop_map(|(connection, failure)| Event::DialFailed { connection, failure }),
        1 => connection()
            .prop_map(|connection| Event::TunnelLost { connection, text: String::new() }),
        2 => connection().prop_map(Event::TailnetClosed),
        3 => Just(Event::AppAttached),
        1 => failure().prop_map(Event::AppAttachFailed),
        1 => Just(Event::AppDetached),
        1 => Just(Event::AppClosed),
        1 => app_end().prop_map(Event::AppEnded),
        2 => timer().prop_map(Event::TimerFired),
        1 => Just(Event::Shutdown),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    let policy = prop_oneof![Just(Policy::Follow), Just(Policy::Once)];
    (policy, any::<[bool; 3]>(), wait(), 1..4u32).prop_map(
        |(policy, [autostart, restart, fail_on_script_error], wait, attempts)| Config {
            autostart,
            restart,
            wait,
            fail_on_script_error,
            attempts,
            ..Config::new(policy)
        },
    )
}

fn wait() -> impl Strategy<Value = Wait> {
    prop_oneof![Just(Wait::Yes), Just(Wait::No), Just(Wait::Auto)]
}

fn build() -> impl Strategy<Value = Build> {
    let transition = prop_oneof![
        8 => Just(Transition::Start), 6 => Just(Transition::Stop), 1 => Just(Transition::Delete)
    ];
    let status = prop_oneof![
        3 => Just(JobStatus::Pending),
        3 => Just(JobStatus::Running),
        4 => Just(JobStatus::Succeeded),
        1 => Just(JobStatus::Failed),
        1 => Just(JobStatus::Canceling),
        1 => Just(JobStatus::Canceled),
        1 => Just(JobStatus::Unknown),
    ];
    (transition, status).prop_map(|(transition, status)| Build::new(transition, status))
}

fn agent_id() -> impl Strategy<Value = AgentId> {
    (0..3u128).prop_map(|offset| AgentId(A.0 + offset))
}

fn lifecycle() -> impl Strategy<Value = Lifecycle> {
    prop_oneof![
        3 => Just(Lifecycle::Created),
        3 => Just(Lifecycle::Starting),
        1 => Just(Lifecycle::StartTimeout),
        1 => Just(Lifecycle::StartError),
        6 => Just(Lifecycle::Ready),
        1 => Just(Lifecycle::ShuttingDown),
        1 => Just(Lifecycle::ShutdownTimeout),
        1 => Just(Lifecycle::ShutdownError),
        1 => Just(Lifecycle::Off),
        1 => Just(Lifecycle::Unknown),
    ]
}

fn record() -> impl Strategy<Value = AgentRecord> {
    let status = prop_oneof![
        1 => Just(AgentStatus::Connecting),
        4 => Just(AgentStatus::Connected),
        1 => Just(AgentStatus::Disconnected),
        1 => Just(AgentStatus::Timeout),
    ];
    (agent_id(), lifecycle(), status, any::<bool>()).prop_map(
        |(id, lifecycle, status, blocks_login)| AgentRecord { id, lifecycle, status, blocks_login },
    )
}

fn agents() -> impl Strategy<Value = Agents> {
    prop_oneof![
        1 => Just(Agents::Untold),
        6 => record().prop_map(Agents::One),
        1 => problem().prop_map(Agents::Problem),
    ]
}

fn problem() -> impl Strategy<Value = AgentProblem> {
    prop_oneof![
        Just(AgentProblem::None),
        Just(AgentProblem::Several(vec!["a".to_owned(), "b".to_owned()])),
        Just(AgentProblem::NoSuchName(vec!["a".to_owned()])),
    ]
}

fn kind() -> impl Strategy<Value = FailureKind> {
    prop_oneof![
        6 => Just(FailureKind::Transient),
        1 => Just(FailureKind::Login),
        1 => Just(FailureKind::Access),
        1 => Just(FailureKind::Gone),
        1 => Just(FailureKind::Protocol),
        1 => Just(FailureKind::Refused),
        1 => Just(FailureKind::Canceled),
    ]
}

fn app_end() -> impl Strategy<Value = AppEnd> {
    prop_oneof![
        any::<u8>().prop_map(AppEnd::Done),
        Just(AppEnd::Failed("no port".to_owned())),
        Just(AppEnd::Lost("gone".to_owned())),
    ]
}

fn timer() -> impl Strategy<Value = Timer> {
    prop_oneof![
        Just(Timer::Resync),
        Just(Timer::WatchBackoff),
        Just(Timer::StartBackoff),
        Just(Timer::DialBackoff),
        Just(Timer::AgentPoll),
        Just(Timer::ScriptsGrace),
        Just(Timer::Deadline(Step::Dial)),
        Just(Timer::Deadline(Step::Drain)),
    ]
}
