//! Autostart and `--wait`, as the Go client has them (coder/coder: cli/ssh.go, cli/cliui/agent.go).

use std::time::Duration;

use coderctl_tunneler::{
    Action, AgentRecord, AgentStatus, Agents, Build, BuildNumber, Config, ConnectionId, Deadlines,
    Event, Failure, FailureKind, JobStatus, Lifecycle, Notice, Outcome, Policy, Snapshot, State,
    Step, Timer, Wait,
};

use crate::rig::{
    A, DELETE, Rig, START, STOP, agent, build, one, record, refused, snapshot, started, stopped,
};

const BOTH: [Policy; 2] = [Policy::Follow, Policy::Once];

fn rig(policy: Policy, change: impl FnOnce(&mut Config)) -> Rig {
    let mut config = Config::new(policy);
    change(&mut config);
    Rig::watching(config)
}

/// A rig that waits for agent A of build 5, whose record is this.
fn with_agent(policy: Policy, wait: Wait, record: AgentRecord) -> Rig {
    let mut rig = rig(policy, |config| config.wait = wait);
    rig.feed(snapshot(started(5), Agents::One(record)));
    rig
}

#[test]
fn a_stopped_workspace_is_started_once_and_the_user_told() {
    for policy in BOTH {
        let mut rig = rig(policy, |_| {});
        assert_eq!(rig.feed(build(STOP, JobStatus::Succeeded)), [Action::StartWorkspace]);
        assert_eq!(rig.feed(build(STOP, JobStatus::Succeeded)), []);
        assert_eq!(rig.notices, [Notice::Starting { dormant: false }]);
        assert_eq!(rig.state(), State::WaitForWorkspaceStarted);
    }
}

#[test]
fn a_workspace_that_stops_is_waited_for_and_then_started() {
    for policy in BOTH {
        let mut rig = rig(policy, |_| {});
        assert_eq!(rig.feed(build(STOP, JobStatus::Running)), []);
        assert_eq!(rig.state(), State::WaitToStart);
        assert_eq!(rig.feed(build(STOP, JobStatus::Succeeded)), [Action::StartWorkspace]);
        assert_eq!(rig.notices[0], Notice::WaitingForStop);
    }
}

#[test]
fn without_autostart_a_stopped_or_stopping_workspace_is_the_end() {
    for policy in BOTH {
        for status in [JobStatus::Pending, JobStatus::Running, JobStatus::Succeeded] {
            let mut rig = rig(policy, |config| config.autostart = false);
            rig.feed(build(STOP, status));
            assert_eq!(rig.outcome(), Outcome::WorkspaceStopped);
            assert_eq!(rig.starts, 0);
        }
    }
}

#[test]
fn a_dormant_workspace_is_woken_by_its_start_or_is_the_end() {
    let dormant =
        Event::Snapshot(Snapshot { build: stopped(4), agents: Agents::Untold, dormant: true });
    for policy in BOTH {
        let mut willing = rig(policy, |_| {});
        willing.feed(dormant.clone());
        assert_eq!(willing.notices, [Notice::Starting { dormant: true }]);
        let mut unwilling = rig(policy, |config| config.autostart = false);
        unwilling.feed(dormant.clone());
        assert_eq!(unwilling.outcome(), Outcome::WorkspaceDormant);
    }
}

#[test]
fn a_workspace_that_is_found_failed_is_not_started() {
    for (policy, transition) in [
        (Policy::Follow, START),
        (Policy::Follow, STOP),
        (Policy::Once, START),
        (Policy::Once, STOP),
    ] {
        for status in [JobStatus::Failed, JobStatus::Canceled] {
            let mut rig = rig(policy, |_| {});
            let error = Some("no quota".to_owned());
            let found = Build { error: error.clone(), ..Build::new(transition, status) };
            rig.feed(Event::Build(found));
            assert_eq!(rig.outcome(), Outcome::WorkspaceFailed { status, error });
        }
    }
}

#[test]
fn a_start_that_fails_under_our_eyes_says_why() {
    for policy in BOTH {
        let mut rig = rig(policy, |_| {});
        rig.feed(build(START, JobStatus::Running));
        let error = Some("terraform says no".to_owned());
        let failed = Build { error: error.clone(), ..Build::new(START, JobStatus::Failed) };
        rig.feed(Event::Build(failed));
        assert_eq!(rig.outcome(), Outcome::BuildFailed(error));
        let exit = rig.exit.unwrap();
        assert_eq!((exit.at, exit.was_up), (State::WaitForWorkspaceStarted, false));
    }
}

#[test]
fn a_start_that_is_canceled_under_our_eyes_is_the_end() {
    for policy in BOTH {
        let mut rig = rig(policy, |_| {});
        rig.feed(build(START, JobStatus::Running));
        rig.feed(build(START, JobStatus::Canceling));
        assert_eq!(rig.state(), State::WaitForWorkspaceStarted);
        rig.feed(build(START, JobStatus::Canceled));
        assert_eq!(rig.outcome(), Outcome::BuildCanceled);
    }
}

#[test]
fn a_deleted_workspace_is_the_end() {
    for policy in BOTH {
        let mut rig = rig(policy, |_| {});
        rig.feed(build(DELETE, JobStatus::Pending));
        assert_eq!(rig.outcome(), Outcome::WorkspaceDeleted);
    }
}

#[test]
fn without_waiting_the_agent_is_dialled_as_soon_as_it_exists() {
    for policy in BOTH {
        let mut rig = rig(policy, |config| config.wait = Wait::No);
        rig.feed(build(START, JobStatus::Succeeded));
        let actions = rig.feed(agent(A, Lifecycle::Created));
        assert!(matches!(actions[..], [Action::Dial { agent: A, .. }]), "{actions:?}");
    }
}

#[test]
fn auto_waits_where_a_script_blocks_the_login_and_nowhere_else() {
    for policy in BOTH {
        let starting = record(A, Lifecycle::Starting);
        let blocking = with_agent(policy, Wait::Auto, starting.clone());
        assert_eq!(blocking.state(), State::WaitForAgent);
        let easy = AgentRecord { blocks_login: false, ..starting };
        let easy = with_agent(policy, Wait::Auto, easy);
        assert_eq!(easy.state(), State::EstablishTailnet);
        assert_eq!(easy.notices, [Notice::ScriptsRunning]);
    }
}

#[test]
fn auto_reads_the_record_of_an_agent_that_the_watch_names() {
    for policy in BOTH {
        let mut rig = rig(policy, |_| {});
        rig.feed(build(START, JobStatus::Succeeded));
        assert_eq!(rig.feed(agent(A, Lifecycle::Starting)), [Action::ReadAgent(A)]);
        let easy = AgentRecord { blocks_login: false, ..record(A, Lifecycle::Starting) };
        rig.feed(Event::AgentRecord(easy));
        assert_eq!(rig.state(), State::EstablishTailnet);
    }
}

#[test]
fn yes_waits_for_scripts_that_block_nothing() {
    for policy in BOTH {
        let easy = AgentRecord { blocks_login: false, ..record(A, Lifecycle::Starting) };
        let mut rig = with_agent(policy, Wait::Yes, easy);
        assert_eq!(rig.state(), State::WaitForAgent);
        rig.feed(agent(A, Lifecycle::Ready));
        assert_eq!(rig.state(), State::EstablishTailnet);
        assert_eq!(rig.notices, []);
    }
}

#[test]
fn failed_scripts_are_the_end_only_where_that_was_asked_for() {
    for (lifecycle, timed_out) in [(Lifecycle::StartError, false), (Lifecycle::StartTimeout, true)]
    {
        let mut rig = rig(Policy::Once, |config| config.fail_on_script_error = true);
        rig.feed(snapshot(started(5), one(A, lifecycle)));
        assert_eq!(rig.outcome(), Outcome::ScriptsFailed { timed_out });
    }
}

#[test]
fn an_agent_that_outlived_a_stop_and_start_is_connected_to_after_a_time_of_grace() {
    for (policy, wait) in [
        (Policy::Follow, Wait::Yes),
        (Policy::Follow, Wait::Auto),
        (Policy::Once, Wait::Yes),
        (Policy::Once, Wait::Auto),
    ] {
        let mut rig = with_agent(policy, wait, record(A, Lifecycle::Created));
        assert_eq!(rig.state(), State::WaitForAgent);
        let actions = rig.fire(Timer::ScriptsGrace);
        assert!(matches!(actions[..], [Action::Dial { agent: A, .. }]), "{actions:?}");
        assert_eq!(rig.notices, [Notice::ScriptsSilent]);
    }
}

#[test]
fn grace_ends_when_the_agent_speaks_and_does_not_begin_before_it_connects() {
    let connecting =
        AgentRecord { status: AgentStatus::Connecting, ..record(A, Lifecycle::Created) };
    let mut rig = with_agent(Policy::Once, Wait::Yes, connecting);
    assert!(!rig.armed.contains(&Timer::ScriptsGrace));
    rig.feed(Event::AgentRecord(record(A, Lifecycle::Created)));
    assert!(rig.armed.contains(&Timer::ScriptsGrace));
    rig.feed(agent(A, Lifecycle::Starting));
    assert!(!rig.armed.contains(&Timer::ScriptsGrace));
    assert_eq!(rig.state(), State::WaitForAgent);
}

#[test]
fn an_agent_that_the_server_lost_is_waited_for() {
    for policy in BOTH {
        let lost = AgentRecord { status: AgentStatus::Disconnected, ..record(A, Lifecycle::Ready) };
        let mut rig = with_agent(policy, Wait::Auto, lost);
        assert_eq!(
            (rig.state(), &rig.notices[..]),
            (State::WaitForAgent, &[Notice::AgentLost][..])
        );
        assert_eq!(rig.fire(Timer::AgentPoll), [Action::ReadAgent(A)]);
        rig.feed(Event::AgentRecord(record(A, Lifecycle::Ready)));
        assert_eq!(rig.state(), State::EstablishTailnet);
    }
}

#[test]
fn an_agent_that_never_connects_is_waited_for_for_ever_or_until_a_deadline() {
    let slow = AgentRecord { status: AgentStatus::Timeout, ..record(A, Lifecycle::Created) };
    let patient = with_agent(Policy::Once, Wait::Yes, slow.clone());
    assert_eq!(patient.notices, [Notice::AgentSlow]);
    assert!(!patient.armed.iter().any(|timer| matches!(timer, Timer::Deadline(_))));

    for wait in [Wait::Yes, Wait::No] {
        let mut rig = rig(Policy::Once, |config| {
            config.wait = wait;
            config.deadlines.agent = Some(Duration::from_secs(60));
        });
        rig.feed(snapshot(started(5), Agents::One(slow.clone())));
        rig.fire(Timer::Deadline(Step::Agent));
        rig.answer_all(Rig::success);
        assert_eq!(rig.outcome(), Outcome::AgentNeverConnected);
    }
}

#[test]
fn the_deadline_of_an_agent_that_never_connected_goes_on_while_dials_fail() {
    let unborn = AgentRecord { status: AgentStatus::Connecting, ..record(A, Lifecycle::Created) };
    let mut rig = rig(Policy::Once, |config| {
        config.wait = Wait::No;
        config.deadlines.agent = Some(Duration::from_secs(60));
    });
    let deadline = Timer::Deadline(Step::Agent);
    rig.feed(snapshot(started(5), Agents::One(unborn)));
    let failure = Failure::new(FailureKind::Transient, "nobody there");
    let failed = Event::DialFailed { connection: ConnectionId(1), failure };
    let actions = rig.feed(failed);
    assert!(!actions.contains(&Action::DisarmTimer(deadline)), "{actions:?}");
    assert!(rig.armed.contains(&deadline) && rig.armed.contains(&Timer::DialBackoff));
    rig.fire(deadline);
    assert_eq!(rig.outcome(), Outcome::AgentNeverConnected);
}

#[test]
fn every_step_can_be_given_a_deadline_and_names_it() {
    let limit = Some(Duration::from_secs(60));
    let deadlines = Deadlines {
        learn: limit,
        build: limit,
        agent: limit,
        scripts: limit,
        dial: limit,
        attach: limit,
        drain: limit,
    };
    let ready = snapshot(started(5), one(A, Lifecycle::Ready));
    let pasts: [(Step, Vec<Event>); 6] = [
        (Step::Learn, vec![]),
        (Step::Build, vec![build(START, JobStatus::Running)]),
        (Step::Agent, vec![build(START, JobStatus::Succeeded)]),
        (Step::Scripts, vec![snapshot(started(5), one(A, Lifecycle::Starting))]),
        (Step::Dial, vec![ready.clone()]),
        (Step::Attach, vec![ready, Event::DialUp(ConnectionId(1))]),
    ];
    for (step, past) in pasts {
        let mut rig = rig(Policy::Once, |config| config.deadlines = deadlines);
        for event in past {
            rig.feed(event);
        }
        let at = rig.state();
        rig.fire(Timer::Deadline(step));
        rig.answer_all(Rig::success);
        assert_eq!(rig.outcome(), Outcome::TimedOut { step });
        assert_eq!(rig.exit.unwrap().at, at);
    }
}

#[test]
fn one_deadline_holds_for_a_stop_and_the_start_after_it() {
    let mut rig = rig(Policy::Once, |config| {
        config.deadlines.build = Some(Duration::from_secs(60));
    });
    let deadline = Timer::Deadline(Step::Build);
    rig.feed(build(STOP, JobStatus::Running));
    let armed = |actions: &[Action]| {
        actions
            .iter()
            .any(|action| matches!(action, Action::ArmTimer { timer, .. } if *timer == deadline))
    };
    assert!(rig.armed.contains(&deadline));
    assert!(!armed(&rig.tunneler.handle(build(STOP, JobStatus::Succeeded))));
}

#[test]
fn after_the_first_time_up_a_forward_waits_without_deadlines() {
    let limit = Some(Duration::from_secs(60));
    let mut rig = Rig::up(Config {
        deadlines: Deadlines { build: limit, agent: limit, ..Deadlines::default() },
        ..Config::new(Policy::Follow)
    });
    rig.feed(build(STOP, JobStatus::Succeeded));
    rig.answer_all(Rig::success);
    assert_eq!(rig.state(), State::WaitForWorkspaceStarted);
    assert!(!rig.armed.iter().any(|timer| matches!(timer, Timer::Deadline(_))));
}

#[test]
fn what_somebody_stops_is_not_started_again_but_waited_for() {
    let mut rig = Rig::up(Config::new(Policy::Follow));
    rig.feed(build(STOP, JobStatus::Running));
    rig.answer_all(Rig::success);
    assert_eq!(rig.state(), State::WaitToStart);
    rig.feed(build(STOP, JobStatus::Succeeded));
    assert_eq!((rig.state(), rig.starts), (State::WaitForWorkspaceStarted, 0));
    assert_eq!(rig.notices, [Notice::Stopping, Notice::WaitingForStart]);

    rig.feed(build(START, JobStatus::Running));
    rig.feed(build(START, JobStatus::Succeeded));
    rig.feed(agent(crate::rig::B, Lifecycle::Ready));
    rig.answer_all(Rig::success);
    assert_eq!(rig.state(), State::ApplicationUp);
    assert_eq!(rig.notices.last(), Some(&Notice::TunnelBack));
}

#[test]
fn what_somebody_stops_is_started_again_where_that_is_configured() {
    let mut rig = Rig::up(Config { restart: true, ..Config::new(Policy::Follow) });
    rig.feed(build(STOP, JobStatus::Succeeded));
    rig.answer_all(Rig::success);
    assert_eq!(rig.starts, 1);
}

#[test]
fn a_session_whose_workspace_is_stopped_ends_with_that_reason() {
    for status in [JobStatus::Running, JobStatus::Succeeded] {
        let mut rig = Rig::up(Config::new(Policy::Once));
        assert_eq!(rig.feed(build(STOP, status)), [Action::CloseApp]);
        rig.answer_all(Rig::success);
        assert_eq!(rig.outcome(), Outcome::WorkspaceStopped);
        assert!(rig.exit.unwrap().was_up);
    }
}

#[test]
fn somebody_who_stops_what_we_just_started_is_respected() {
    let past = |policy| {
        let mut rig = rig(policy, |_| {});
        rig.feed(snapshot(stopped(4), Agents::Untold));
        rig.feed(Event::StartAccepted { number: BuildNumber(5) });
        rig.feed(build(START, JobStatus::Running));
        rig.feed(build(STOP, JobStatus::Succeeded));
        rig
    };
    let follow = past(Policy::Follow);
    assert_eq!((follow.state(), follow.starts), (State::WaitForWorkspaceStarted, 1));
    assert_eq!(past(Policy::Once).outcome(), Outcome::WorkspaceStopped);
}

#[test]
fn an_agent_that_shuts_down_is_an_error_for_a_session_and_a_wait_for_a_forward() {
    let going = || snapshot(started(5), one(A, Lifecycle::ShuttingDown));
    let mut once = rig(Policy::Once, |_| {});
    once.feed(going());
    assert_eq!(once.outcome(), Outcome::AgentShutDown);
    let mut follow = rig(Policy::Follow, |_| {});
    follow.feed(going());
    assert_eq!(follow.state(), State::WaitForAgent);
    assert_eq!(follow.notices, [Notice::AgentShutDown]);
}

#[test]
fn the_servers_reason_is_kept_when_it_refuses_to_start() {
    let mut rig = rig(Policy::Once, |_| {});
    rig.feed(build(STOP, JobStatus::Succeeded));
    rig.feed(Event::StartFailed(refused("quota exceeded")));
    assert_eq!(rig.outcome(), Outcome::StartRefused("quota exceeded".to_owned()));
}
