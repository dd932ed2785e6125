//! Upstream's own scenarios (coder/coder: codersdk/workspacesdk/tunneler,
//! `tunneler_internal_test.go`), here as sentences. Those that name a single cell hold in
//! `Compatibility`; the coverage matrices of builds and agents are the golden table. What a user
//! sees of them holds in `Once`, too.

use coderctl_tunneler::{
    Action, AgentId, Config, ConnectionId, Event, Exit, Failure, FailureKind, JobStatus, Lifecycle,
    Policy, State, Tunneler, Wait,
};

use crate::rig::{A, START, STOP, agent, build, one, snapshot, started};

const DIALLED: ConnectionId = ConnectionId(1);

/// Upstream's machine, or ours in its place, after these events.
fn after(policy: Policy, events: &[Event]) -> Tunneler {
    let wait = Wait::Yes;
    let (mut tunneler, _) = Tunneler::new(Config { wait, ..Config::new(policy) });
    for event in events {
        let _ = tunneler.handle(event.clone());
    }
    tunneler
}

/// What comes of an event, timers and notices apart, and of all exits only that it is one.
fn next(tunneler: &mut Tunneler, event: Event) -> Vec<Action> {
    let actions = tunneler.handle(event).into_iter();
    actions
        .filter(|action| {
            !matches!(action, Action::ArmTimer { .. } | Action::DisarmTimer(_) | Action::Notice(_))
        })
        .collect()
}

fn is_exit(actions: &[Action]) -> bool {
    matches!(actions, [Action::Exit(Exit { .. })])
}

fn dial(agent: AgentId) -> Action {
    Action::Dial { connection: DIALLED, agent }
}

fn failure() -> Failure {
    Failure::new(FailureKind::Refused, "no")
}

const BOTH: [Policy; 2] = [Policy::Compatibility, Policy::Once];

fn succeeded() -> Event {
    build(START, JobStatus::Succeeded)
}

fn ready() -> Event {
    agent(A, Lifecycle::Ready)
}

/// `TestBuildUpdatesStoppedWorkspace`
#[test]
fn a_workspace_that_stops_is_started_when_it_has_stopped_and_dialled_when_it_is_ready() {
    for policy in BOTH {
        let mut tunneler = after(policy, &[]);
        assert_eq!(next(&mut tunneler, build(STOP, JobStatus::Pending)), []);
        assert_eq!(tunneler.state(), State::WaitToStart);
        assert_eq!(next(&mut tunneler, build(STOP, JobStatus::Running)), []);
        let start = next(&mut tunneler, build(STOP, JobStatus::Succeeded));
        assert_eq!(start, [Action::StartWorkspace]);
        assert_eq!(tunneler.state(), State::WaitForWorkspaceStarted);
        assert_eq!(next(&mut tunneler, build(STOP, JobStatus::Succeeded)), []);
        for status in [JobStatus::Pending, JobStatus::Running] {
            assert_eq!(next(&mut tunneler, build(START, status)), []);
            assert_eq!(tunneler.state(), State::WaitForWorkspaceStarted);
        }
        assert_eq!(next(&mut tunneler, succeeded()), []);
        assert_eq!(tunneler.state(), State::WaitForAgent);
        assert_eq!(next(&mut tunneler, ready()), [dial(A)]);
    }
}

/// `TestBuildUpdatesNewBuildWhileWaiting`
#[test]
fn a_new_start_while_the_agent_is_waited_for_is_waited_for() {
    for policy in BOTH {
        for status in [JobStatus::Pending, JobStatus::Running] {
            let mut tunneler = after(policy, &[succeeded()]);
            assert_eq!(next(&mut tunneler, build(START, status)), []);
            assert_eq!(tunneler.state(), State::WaitForWorkspaceStarted);
        }
    }
}

/// `TestBuildUpdatesNewBuildWhileWaiting`
#[test]
fn a_stop_while_the_agent_is_waited_for_is_waited_for_too() {
    for policy in BOTH {
        let mut tunneler = after(policy, &[succeeded()]);
        assert_eq!(next(&mut tunneler, build(STOP, JobStatus::Running)), []);
        assert_eq!(tunneler.state(), State::WaitToStart);
    }
}

/// `TestBuildUpdatesBadJobs`; of these only `unknown` and `canceling` are gaps (T20, and a start that is being
/// canceled is not over).
#[test]
fn a_start_that_goes_wrong_is_the_end_before_there_is_a_tunnel() {
    for status in [JobStatus::Failed, JobStatus::Canceled] {
        for policy in BOTH {
            for past in [vec![], vec![build(START, JobStatus::Running)], vec![succeeded()]] {
                let mut tunneler = after(policy, &past);
                assert!(is_exit(&next(&mut tunneler, build(START, status))));
            }
        }
    }
    for status in [JobStatus::Canceling, JobStatus::Unknown] {
        let mut upstream = after(Policy::Compatibility, &[]);
        assert!(is_exit(&next(&mut upstream, build(START, status))));
        let mut ours = after(Policy::Once, &[]);
        assert_eq!(next(&mut ours, build(START, status)), []);
    }
}

/// `TestBuildUpdatesNoAutostart`
#[test]
fn without_autostart_a_stop_is_the_end_and_nothing_is_started() {
    for policy in BOTH {
        for status in [JobStatus::Pending, JobStatus::Running, JobStatus::Succeeded] {
            let config = Config { autostart: false, ..Config::new(policy) };
            let (mut tunneler, _) = Tunneler::new(config);
            assert!(is_exit(&next(&mut tunneler, build(STOP, status))));
        }
    }
}

/// `TestAgentUpdateReady`
#[test]
fn a_ready_agent_is_dialled() {
    for policy in BOTH {
        let mut tunneler = after(policy, &[succeeded()]);
        assert_eq!(next(&mut tunneler, ready()), [dial(A)]);
        assert_eq!(tunneler.state(), State::EstablishTailnet);
    }
}

/// `TestAgentUpdateNoWait`
#[test]
fn without_waiting_an_agent_whose_scripts_run_or_went_wrong_is_dialled() {
    for policy in BOTH {
        for lifecycle in [Lifecycle::Starting, Lifecycle::StartTimeout, Lifecycle::StartError] {
            let config = Config { wait: Wait::No, ..Config::new(policy) };
            let (mut tunneler, _) = Tunneler::new(config);
            let _ = tunneler.handle(succeeded());
            assert_eq!(next(&mut tunneler, agent(A, lifecycle)), [dial(A)]);
        }
    }
}

/// `TestAppUpdate/mainline_up`, `TestTailnetUpdate/mainline_up`
#[test]
fn a_tunnel_that_is_up_gets_its_application_and_the_application_says_so() {
    for policy in BOTH {
        let mut tunneler = after(policy, &[succeeded(), ready()]);
        assert_eq!(next(&mut tunneler, Event::DialUp(DIALLED)), [Action::AttachApp(DIALLED)]);
        assert_eq!(tunneler.state(), State::TailnetUp);
        assert_eq!(next(&mut tunneler, Event::AppAttached), []);
        assert_eq!(tunneler.state(), State::ApplicationUp);
    }
}

/// `TestAppUpdate/mainline_down`, `/graceful_shutdown_of_app`, `TestTailnetUpdate/mainline_down`,
/// `TestTunneler_EventLoop_Signal`
#[test]
fn a_signal_closes_the_application_then_the_tunnel_and_then_it_is_over() {
    for policy in BOTH {
        let up = [succeeded(), ready(), Event::DialUp(DIALLED), Event::AppAttached];
        let mut tunneler = after(policy, &up);
        assert_eq!(next(&mut tunneler, Event::Shutdown), [Action::CloseApp]);
        assert_eq!(tunneler.state(), State::ShutdownApplication);
        assert_eq!(next(&mut tunneler, Event::AppClosed), [Action::CloseTailnet(DIALLED)]);
        assert_eq!(tunneler.state(), State::ShutdownTailnet);
        assert!(is_exit(&next(&mut tunneler, Event::TailnetClosed(DIALLED))));
        assert_eq!(tunneler.state(), State::Exit);
    }
}

/// `TestAppUpdate/failed_app_start`. Upstream does not close what failed to start; ours ends.
#[test]
fn an_application_that_does_not_start_ends_with_its_tunnel_closed() {
    let past = [succeeded(), ready(), Event::DialUp(DIALLED)];
    let mut upstream = after(Policy::Compatibility, &past);
    let actions = next(&mut upstream, Event::AppAttachFailed(failure()));
    assert_eq!(actions, [Action::CloseTailnet(DIALLED)]);
    let mut ours = after(Policy::Once, &past);
    assert_eq!(next(&mut ours, Event::AppAttachFailed(failure())), [Action::CloseApp]);
    for tunneler in [&mut upstream, &mut ours] {
        if tunneler.state() == State::ShutdownApplication {
            let actions = next(tunneler, Event::AppClosed);
            assert_eq!(actions, [Action::CloseTailnet(DIALLED)]);
        }
        assert!(is_exit(&next(tunneler, Event::TailnetClosed(DIALLED))));
    }
}

/// `TestAppUpdate/graceful_shutdown_while_starting`
#[test]
fn a_signal_while_the_application_starts_closes_it_when_it_has_started() {
    for policy in BOTH {
        let mut tunneler = after(policy, &[succeeded(), ready(), Event::DialUp(DIALLED)]);
        let actions = next(&mut tunneler, Event::Shutdown);
        let hurry: &[Action] = match policy {
            Policy::Compatibility => &[],
            Policy::Once | Policy::Follow => &[Action::CancelAttach],
        };
        assert_eq!(actions, hurry);
        assert_eq!(tunneler.state(), State::ShutdownApplication);
        assert_eq!(next(&mut tunneler, Event::AppAttached), [Action::CloseApp]);
    }
}

/// `TestTailnetUpdate/failed_tailnet_start`
#[test]
fn a_dial_that_is_refused_is_the_end() {
    for policy in BOTH {
        let mut tunneler = after(policy, &[succeeded(), ready()]);
        let failed = Event::DialFailed { connection: DIALLED, failure: failure() };
        assert!(is_exit(&next(&mut tunneler, failed)));
    }
}

/// `TestTailnetUpdate/graceful_shutdown_while_starting`
#[test]
fn a_signal_while_dialling_closes_the_tunnel_that_comes_of_it() {
    for policy in BOTH {
        let mut tunneler = after(policy, &[succeeded(), ready()]);
        let _ = next(&mut tunneler, Event::Shutdown);
        assert_eq!(tunneler.state(), State::ShutdownTailnet);
        let up = next(&mut tunneler, Event::DialUp(DIALLED));
        assert_eq!(up, [Action::CloseTailnet(DIALLED)]);
        assert!(is_exit(&next(&mut tunneler, Event::TailnetClosed(DIALLED))));
    }
}

#[test]
fn upstream_is_deaf_to_an_agent_that_comes_before_its_build_and_ours_is_not() {
    let past = [build(START, JobStatus::Running), ready(), succeeded()];
    assert_eq!(after(Policy::Compatibility, &past).state(), State::WaitForAgent);
    assert_eq!(after(Policy::Once, &past).state(), State::EstablishTailnet);
}

#[test]
fn upstream_knows_no_snapshots() {
    let event = snapshot(started(5), one(A, Lifecycle::Ready));
    assert_eq!(after(Policy::Compatibility, &[event]).state(), State::Init);
}
