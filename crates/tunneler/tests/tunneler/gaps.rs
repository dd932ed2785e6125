//! The gaps of upstream's machine (T1 to T21), each closed in `Follow` and `Once`. T3 (logs) is
//! the driver's: log messages change nothing here. T22 is a misleading label in a log line.

use std::time::Duration;

use coderctl_tunneler::{
    Action, AgentProblem, AgentStatus, Agents, AppEnd, Build, BuildNumber, Config, ConnectionId,
    Event, Failure, FailureKind, JobStatus, Lifecycle, Notice, Outcome, Policy, State, Step, Timer,
    Tunneler,
};

use crate::rig::{
    A, App, B, Rig, START, STOP, agent, build, done, one, record, refused, snapshot, started,
    stopped, transient,
};

const BOTH: [Policy; 2] = [Policy::Follow, Policy::Once];

fn up(policy: Policy) -> Rig {
    Rig::up(Config::new(policy))
}

#[test]
fn t1_a_watch_that_cannot_be_opened_is_tried_again_with_growing_pauses() {
    let (mut tunneler, _) = Tunneler::new(Config::new(Policy::Once));
    let mut pauses = Vec::new();
    for _ in 0..9 {
        for action in tunneler.handle(Event::WatchFailed(transient("unwell"))) {
            if let Action::ArmTimer { timer: Timer::WatchBackoff, after } = action {
                pauses.push(after.as_secs());
            }
        }
        let again = tunneler.handle(Event::TimerFired(Timer::WatchBackoff));
        assert_eq!(again, [Action::OpenWatch]);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 15, 15, 15, 15, 15]);
    let last = tunneler.handle(Event::WatchFailed(transient("unwell")));
    let unreachable = Outcome::ServerUnreachable("unwell".to_owned());
    assert!(matches!(&last[..], [.., Action::Exit(exit)] if exit.outcome == unreachable));
}

#[test]
fn t1_a_watch_that_is_refused_is_the_end_with_the_reason() {
    let ends = [
        (FailureKind::Login, Outcome::NotLoggedIn),
        (FailureKind::Access, Outcome::AccessLost),
        (FailureKind::Gone, Outcome::WorkspaceDeleted),
        (FailureKind::Protocol, Outcome::Protocol("no".to_owned())),
        (FailureKind::Refused, Outcome::WatchUnusable("no".to_owned())),
    ];
    for policy in BOTH {
        for (kind, outcome) in ends.clone() {
            let mut rig = Rig::new(Config::new(policy));
            rig.feed(Event::WatchFailed(Failure::new(kind, "no")));
            assert_eq!(rig.outcome(), outcome);
        }
    }
}

#[test]
fn t2_a_lost_watch_leaves_the_tunnel_alone_and_is_opened_and_read_again() {
    for policy in BOTH {
        let mut rig = up(policy);
        rig.feed(Event::WatchLost(transient("server restarts")));
        assert_eq!(rig.state(), State::ApplicationUp);
        assert_eq!(rig.notices, [Notice::WatchLost { text: "server restarts".to_owned() }]);
        assert_eq!(rig.fire(Timer::WatchBackoff), [Action::OpenWatch]);
        assert_eq!(rig.feed(Event::WatchUp), [Action::Resync]);
        assert_eq!(rig.feed(snapshot(started(5), one(A, Lifecycle::Ready))), []);
        assert_eq!(rig.state(), State::ApplicationUp);
    }
}

#[test]
fn t2_a_watch_that_ends_for_good_ends_nothing_while_connected() {
    for policy in BOTH {
        for kind in [FailureKind::Refused, FailureKind::Access, FailureKind::Login] {
            let mut rig = up(policy);
            assert_eq!(rig.feed(Event::WatchLost(Failure::new(kind, "no"))), [Action::Resync]);
            assert_eq!(rig.state(), State::ApplicationUp);
            // A read that succeeds gives the watch another chance.
            rig.feed(snapshot(started(5), one(A, Lifecycle::Ready)));
            assert_eq!(rig.fire(Timer::WatchBackoff), [Action::OpenWatch]);
        }
    }
}

#[test]
fn t2_a_token_that_expires_under_a_tunnel_ends_at_the_next_dial() {
    let mut rig = up(Policy::Follow);
    rig.feed(Event::LoginRefused);
    rig.feed(Event::LoginRefused);
    assert_eq!(rig.notices, [Notice::LoginRefused]);
    assert_eq!(rig.state(), State::ApplicationUp);
    let text = "silent".to_owned();
    rig.feed(Event::TunnelLost { connection: rig.connection(), text });
    rig.answer_all(Rig::success);
    assert_eq!(rig.outcome(), Outcome::NotLoggedIn);
}

#[test]
fn t3_log_messages_change_nothing() {
    for policy in BOTH {
        assert_eq!(up(policy).feed(Event::OtherMessage), []);
    }
}

#[test]
fn t4_a_start_that_fails_for_a_while_is_tried_again_and_one_that_is_refused_is_the_end() {
    for policy in BOTH {
        let mut rig = Rig::watching(Config::new(policy));
        rig.feed(build(STOP, JobStatus::Succeeded));
        assert_eq!(rig.feed(Event::StartFailed(transient("502"))), []);
        assert_eq!(rig.fire(Timer::StartBackoff), [Action::StartWorkspace]);
        rig.feed(Event::StartFailed(refused("no")));
        assert_eq!(rig.outcome(), Outcome::StartRefused("no".to_owned()));
    }
}

#[test]
fn t4_a_conflict_waits_for_the_build_that_is_active() {
    for policy in BOTH {
        let mut rig = Rig::watching(Config::new(policy));
        rig.feed(build(STOP, JobStatus::Succeeded));
        assert_eq!(rig.feed(Event::StartConflict(refused("active"))), [Action::Resync]);
        let theirs = Build::new(START, JobStatus::Running).numbered(6);
        assert_eq!(rig.feed(snapshot(theirs, Agents::Untold)), []);
        assert_eq!((rig.state(), rig.starts), (State::WaitForWorkspaceStarted, 1));
        assert!(!rig.armed.contains(&Timer::StartBackoff));
        rig.feed(build(START, JobStatus::Succeeded));
        rig.feed(agent(A, Lifecycle::Ready));
        assert_eq!(rig.state(), State::EstablishTailnet);
    }
}

#[test]
fn t4_conflicts_and_failures_do_not_go_on_for_ever() {
    let mut rig = Rig::watching(Config { attempts: 3, ..Config::new(Policy::Once) });
    rig.feed(build(STOP, JobStatus::Succeeded));
    for _ in 0..2 {
        rig.feed(Event::StartConflict(refused("active")));
        rig.feed(Event::ResyncFailed(transient("unwell")));
        rig.fire(Timer::StartBackoff);
    }
    rig.feed(Event::StartConflict(refused("active")));
    assert_eq!(rig.outcome(), Outcome::StartRefused("active".to_owned()));
}

#[test]
fn t4_a_failed_start_matters_no_more_once_somebody_else_has_started() {
    let mut rig = Rig::once();
    rig.feed(build(STOP, JobStatus::Succeeded));
    rig.feed(build(START, JobStatus::Running));
    rig.feed(Event::StartFailed(refused("no")));
    assert_eq!(rig.state(), State::WaitForWorkspaceStarted);
}

#[test]
fn t5_another_agent_takes_the_tunnel_over_even_if_no_build_was_seen() {
    let mut rig = up(Policy::Follow);
    assert_eq!(rig.feed(agent(B, Lifecycle::Ready)), [Action::DetachApp]);
    assert_eq!(rig.feed(Event::AppDetached), [Action::CloseTailnet(ConnectionId(1))]);
    let dial = Action::Dial { connection: ConnectionId(2), agent: B };
    assert_eq!(rig.feed(Event::TailnetClosed(ConnectionId(1))), [dial]);

    let mut rig = up(Policy::Once);
    assert_eq!(rig.feed(agent(B, Lifecycle::Ready)), [Action::CloseApp]);
    rig.answer_all(Rig::success);
    assert_eq!(rig.outcome(), Outcome::WorkspaceReplaced);
}

#[test]
fn t5_a_read_that_jumps_over_a_build_shows_the_other_agent_too() {
    let mut rig = up(Policy::Follow);
    rig.feed(snapshot(started(7), one(B, Lifecycle::Ready)));
    rig.answer_all(Rig::success);
    assert_eq!(rig.dialled.map(|(_, agent)| agent), Some(B));
    assert_eq!(rig.state(), State::ApplicationUp);
}

#[test]
fn t6_scripts_that_failed_or_timed_out_are_a_warning() {
    for policy in BOTH {
        for (lifecycle, notice) in [
            (Lifecycle::StartError, Notice::ScriptFailed),
            (Lifecycle::StartTimeout, Notice::ScriptTimedOut),
        ] {
            let mut rig = Rig::watching(Config::new(policy));
            rig.feed(snapshot(started(5), one(A, Lifecycle::Starting)));
            assert_eq!(rig.state(), State::WaitForAgent);
            rig.feed(agent(A, lifecycle));
            assert_eq!(rig.state(), State::EstablishTailnet);
            assert_eq!(rig.notices, [notice]);
        }
    }
}

#[test]
fn t7_an_agent_that_goes_takes_its_tunnel_along() {
    for lifecycle in [
        Lifecycle::ShuttingDown,
        Lifecycle::ShutdownTimeout,
        Lifecycle::ShutdownError,
        Lifecycle::Off,
    ] {
        let mut follow = up(Policy::Follow);
        follow.feed(agent(A, lifecycle));
        follow.answer_all(Rig::success);
        assert_eq!((follow.state(), follow.app), (State::WaitForAgent, App::Detached));

        let mut once = up(Policy::Once);
        once.feed(agent(A, lifecycle));
        once.answer_all(Rig::success);
        assert_eq!(once.outcome(), Outcome::AgentShutDown);
    }
}

#[test]
fn t7_a_stop_that_is_learnt_of_during_the_drain_explains_the_agents_end() {
    let mut rig = up(Policy::Once);
    rig.feed(agent(A, Lifecycle::ShuttingDown));
    rig.feed(build(STOP, JobStatus::Running));
    rig.answer_all(Rig::success);
    assert_eq!(rig.outcome(), Outcome::WorkspaceStopped);
}

#[test]
fn t8_a_forward_outlives_a_restart_with_one_application() {
    let mut rig = up(Policy::Follow);
    for event in [
        build(STOP, JobStatus::Pending),
        build(STOP, JobStatus::Running),
        build(STOP, JobStatus::Succeeded),
        build(START, JobStatus::Pending),
        build(START, JobStatus::Running),
        build(START, JobStatus::Succeeded),
        agent(B, Lifecycle::Ready),
    ] {
        rig.feed(event);
        rig.answer_all(Rig::success);
    }
    assert_eq!(rig.state(), State::ApplicationUp);
    assert_eq!((rig.dials, rig.starts, rig.app), (2, 0, App::Attached));
}

#[test]
fn t9_a_queued_or_canceled_build_leaves_a_tunnel_alone() {
    for policy in BOTH {
        let mut rig = up(policy);
        for transition in [START, STOP] {
            for status in [JobStatus::Pending, JobStatus::Canceling, JobStatus::Canceled] {
                assert_eq!(rig.feed(build(transition, status)), []);
            }
        }
        assert_eq!(rig.state(), State::ApplicationUp);
    }
}

#[test]
fn t9_a_build_that_runs_does_not() {
    let mut rig = up(Policy::Follow);
    rig.feed(build(START, JobStatus::Pending));
    assert_eq!(rig.feed(build(START, JobStatus::Running)), [Action::DetachApp]);
    rig.answer_all(Rig::success);
    assert_eq!(rig.state(), State::WaitForWorkspaceStarted);
}

#[test]
fn t10_news_of_the_old_stop_after_our_start_starts_nothing_again() {
    for policy in BOTH {
        let mut rig = Rig::watching(Config::new(policy));
        rig.feed(build(STOP, JobStatus::Succeeded));
        rig.feed(Event::StartAccepted { number: BuildNumber(6) });
        for late in [
            build(STOP, JobStatus::Running),
            build(STOP, JobStatus::Succeeded),
            Event::Build(stopped(5)),
            snapshot(stopped(5), Agents::Untold),
        ] {
            assert_eq!(rig.feed(late), []);
            assert_eq!(rig.state(), State::WaitForWorkspaceStarted);
        }
        assert_eq!(rig.starts, 1);
    }
}

#[test]
fn t10_a_stop_that_begins_while_our_request_is_unanswered_asks_for_no_second_start() {
    let mut rig = Rig::follow();
    rig.feed(build(STOP, JobStatus::Succeeded));
    rig.feed(build(STOP, JobStatus::Pending));
    rig.feed(build(STOP, JobStatus::Succeeded));
    assert_eq!(rig.starts, 1);
}

#[test]
fn t11_a_stop_that_failed_leaves_a_tunnel_and_an_agent_alone() {
    for policy in BOTH {
        for status in [JobStatus::Failed, JobStatus::Canceled] {
            let mut connected = up(policy);
            connected.feed(build(STOP, JobStatus::Pending));
            assert_eq!(connected.feed(build(STOP, status)), []);
            assert_eq!(connected.state(), State::ApplicationUp);

            let mut waiting = Rig::watching(Config::new(policy));
            let stop = Build::new(STOP, status).numbered(6);
            waiting.feed(snapshot(stop, one(A, Lifecycle::Ready)));
            assert_eq!(waiting.state(), State::EstablishTailnet);
        }
    }
}

#[test]
fn t12_a_tunnel_that_is_lost_is_made_again_after_a_pause() {
    let mut rig = up(Policy::Follow);
    let lost = Event::TunnelLost { connection: rig.connection(), text: "silent".to_owned() };
    assert_eq!(rig.feed(lost), [Action::DetachApp, Action::Resync]);
    rig.answer_all(Rig::success);
    assert_eq!(rig.state(), State::WaitForAgent);
    rig.fire(Timer::DialBackoff);
    rig.answer_all(Rig::success);
    assert_eq!((rig.state(), rig.dials), (State::ApplicationUp, 2));
    let lost = Notice::TunnelLost { text: "silent".to_owned() };
    let unread = Notice::Retrying { step: Step::Learn, text: "nothing new".to_owned() };
    assert_eq!(rig.notices, [lost, unread, Notice::TunnelBack]);
}

#[test]
fn t12_a_session_whose_tunnel_is_lost_ends() {
    let mut rig = up(Policy::Once);
    rig.feed(Event::TunnelLost { connection: rig.connection(), text: "silent".to_owned() });
    rig.answer_all(Rig::success);
    assert_eq!(rig.outcome(), Outcome::TunnelLost("silent".to_owned()));
    assert!(rig.exit.unwrap().was_up);
}

#[test]
fn t12_news_of_a_tunnel_that_is_gone_does_not_touch_its_successor() {
    let mut rig = up(Policy::Follow);
    let old = rig.connection();
    rig.feed(agent(B, Lifecycle::Ready));
    rig.answer_all(Rig::success);
    assert_eq!(rig.feed(Event::TunnelLost { connection: old, text: "silent".to_owned() }), []);
    assert_eq!(rig.state(), State::ApplicationUp);
}

#[test]
fn t13_an_application_that_ends_by_itself_is_the_end_with_its_code() {
    for policy in BOTH {
        let mut rig = up(policy);
        assert_eq!(rig.feed(done(3)), [Action::CloseTailnet(ConnectionId(1))]);
        rig.answer_all(Rig::success);
        assert_eq!(rig.outcome(), Outcome::AppDone(3));
    }
}

#[test]
fn t13_a_session_that_is_lost_because_its_workspace_stops_says_so() {
    let mut rig = up(Policy::Once);
    rig.feed(build(STOP, JobStatus::Pending));
    rig.feed(Event::AppEnded(AppEnd::Lost("eof".to_owned())));
    rig.answer_all(Rig::success);
    assert_eq!(rig.outcome(), Outcome::WorkspaceStopped);
}

#[test]
fn t14_a_connection_that_nobody_asked_for_is_closed() {
    let (mut tunneler, _) = Tunneler::new(Config::new(Policy::Follow));
    let actions = tunneler.handle(Event::DialUp(ConnectionId(9)));
    assert!(actions.contains(&Action::CloseTailnet(ConnectionId(9))));
    assert_eq!(tunneler.handle(Event::TailnetClosed(ConnectionId(9))), []);
    assert_eq!(tunneler.state(), State::Init);
}

#[test]
fn t15_shutdown_cancels_the_dial_and_gives_up_on_it_after_a_while() {
    for policy in BOTH {
        let mut rig = Rig::watching(Config::new(policy));
        rig.feed(snapshot(started(5), one(A, Lifecycle::Ready)));
        assert_eq!(rig.feed(Event::Shutdown), [Action::CancelDial(ConnectionId(1))]);
        rig.fire(Timer::Deadline(Step::Drain));
        assert_eq!(rig.outcome(), Outcome::UserStop);
    }
}

#[test]
fn t16_a_tunnel_that_comes_up_after_all_is_closed() {
    for policy in BOTH {
        let mut rig = Rig::watching(Config::new(policy));
        rig.feed(snapshot(started(5), one(A, Lifecycle::Ready)));
        rig.feed(Event::Shutdown);
        let late = rig.feed(Event::DialUp(ConnectionId(1)));
        assert_eq!(late, [Action::CloseTailnet(ConnectionId(1))]);
        rig.answer_all(Rig::success);
        assert_eq!(rig.outcome(), Outcome::UserStop);
    }
}

#[test]
fn t17_the_application_then_the_tunnel_are_closed_before_the_end() {
    for policy in BOTH {
        let mut rig = up(policy);
        assert_eq!(rig.feed(Event::Shutdown), [Action::CloseApp]);
        assert_eq!(rig.feed(Event::Shutdown), []);
        assert_eq!(rig.feed(Event::AppClosed), [Action::CloseTailnet(ConnectionId(1))]);
        rig.feed(Event::TailnetClosed(ConnectionId(1)));
        assert_eq!(rig.outcome(), Outcome::UserStop);
    }
}

#[test]
fn t17_a_detached_application_is_closed_too() {
    let mut rig = up(Policy::Follow);
    rig.feed(build(STOP, JobStatus::Succeeded));
    rig.answer_all(Rig::success);
    assert_eq!(rig.feed(Event::Shutdown), [Action::CloseApp]);
    rig.feed(Event::AppClosed);
    assert_eq!(rig.outcome(), Outcome::UserStop);
}

#[test]
fn t18_every_end_has_one_reason_the_first() {
    let mut rig = up(Policy::Once);
    rig.feed(build(STOP, JobStatus::Running));
    rig.feed(Event::Shutdown);
    rig.feed(Event::WorkspaceGone);
    rig.answer_all(Rig::success);
    assert_eq!(rig.outcome(), Outcome::WorkspaceStopped);
}

#[test]
fn t18_no_agent_to_choose_is_told_with_the_names_there_are() {
    let names = vec!["main".to_owned(), "db".to_owned()];
    for (problem, outcome) in [
        (AgentProblem::None, Outcome::NoAgent),
        (AgentProblem::Several(names.clone()), Outcome::SeveralAgents(names.clone())),
        (AgentProblem::NoSuchName(names.clone()), Outcome::NoSuchAgent(names)),
    ] {
        for policy in BOTH {
            let mut rig = Rig::watching(Config::new(policy));
            rig.feed(build(START, JobStatus::Succeeded));
            rig.feed(Event::AgentProblem(problem.clone()));
            assert_eq!(rig.outcome(), outcome);
        }
    }
}

#[test]
fn t19_the_cause_of_a_failure_is_kept() {
    let mut rig = Rig::watching(Config { attempts: 1, ..Config::new(Policy::Once) });
    rig.feed(snapshot(started(5), one(A, Lifecycle::Ready)));
    let failure = transient("relay: connection refused");
    rig.feed(Event::DialFailed { connection: ConnectionId(1), failure });
    assert_eq!(rig.outcome(), Outcome::DialFailed("relay: connection refused".to_owned()));
}

#[test]
fn t20_words_that_are_not_known_change_nothing() {
    for policy in BOTH {
        let mut rig = up(policy);
        assert_eq!(rig.feed(build(START, JobStatus::Unknown)), []);
        assert_eq!(rig.feed(build(STOP, JobStatus::Unknown)), []);
        assert_eq!(rig.feed(agent(A, Lifecycle::Unknown)), []);
        assert_eq!(rig.state(), State::ApplicationUp);
    }
}

#[test]
fn t21_what_the_watch_never_tells_a_timed_read_finds() {
    let mut rig = up(Policy::Follow);
    assert_eq!(rig.fire(Timer::Resync), [Action::Resync]);
    rig.feed(snapshot(started(6), one(B, Lifecycle::Ready)));
    rig.answer_all(Rig::success);
    assert_eq!(rig.dialled.map(|(_, agent)| agent), Some(B));
    assert!(rig.armed.contains(&Timer::Resync));
}

#[test]
fn a_failed_read_is_repeated_sooner_than_the_next_one_is_due() {
    let (mut tunneler, _) = Tunneler::new(Config::new(Policy::Follow));
    let _ = tunneler.handle(Event::WatchUp);
    let actions = tunneler.handle(Event::ResyncFailed(transient("unwell")));
    let soon = Action::ArmTimer { timer: Timer::Resync, after: Duration::from_secs(1) };
    assert!(actions.contains(&soon), "{actions:?}");
}

#[test]
fn a_dial_that_fails_is_tried_again_and_another_agent_is_not_made_to_wait_for_that() {
    let mut rig = Rig::once();
    rig.feed(snapshot(started(5), one(A, Lifecycle::Ready)));
    let failed = |connection| Event::DialFailed { connection, failure: transient("relay") };
    rig.feed(failed(ConnectionId(1)));
    assert_eq!(rig.state(), State::WaitForAgent);
    rig.fire(Timer::DialBackoff);
    assert_eq!(rig.state(), State::EstablishTailnet);
    rig.feed(failed(ConnectionId(2)));
    rig.feed(agent(B, Lifecycle::Ready));
    assert_eq!(rig.dialled, Some((ConnectionId(3), B)));
}

#[test]
fn dials_of_an_agent_that_has_never_connected_do_not_count() {
    let config =
        Config { attempts: 2, wait: coderctl_tunneler::Wait::No, ..Config::new(Policy::Once) };
    let mut rig = Rig::watching(config);
    let mut unborn = record(A, Lifecycle::Created);
    unborn.status = AgentStatus::Connecting;
    rig.feed(snapshot(started(5), Agents::One(unborn)));
    for number in 1..20 {
        let connection = ConnectionId(number);
        rig.feed(Event::DialFailed { connection, failure: transient("nobody there") });
        rig.fire(Timer::DialBackoff);
    }
    assert_eq!(rig.state(), State::EstablishTailnet);
}

#[test]
fn after_a_session_of_hours_a_refused_dial_is_believed_the_second_time() {
    let mut rig = up(Policy::Follow);
    rig.feed(Event::TunnelLost { connection: rig.connection(), text: "silent".to_owned() });
    rig.answer_all(Rig::success);
    rig.fire(Timer::DialBackoff);
    let gone = |rig: &Rig| Event::DialFailed {
        connection: rig.connection(),
        failure: Failure::new(FailureKind::Access, "404"),
    };
    rig.feed(gone(&rig));
    assert_eq!(rig.state(), State::WaitForAgent);
    rig.fire(Timer::DialBackoff);
    rig.feed(gone(&rig));
    rig.answer_all(Rig::success);
    assert_eq!(rig.outcome(), Outcome::AccessLost);
}

#[test]
fn a_read_that_the_watch_overtook_is_not_believed() {
    let mut rig = up(Policy::Follow);
    rig.feed(build(START, JobStatus::Running));
    rig.answer_all(Rig::success);
    assert_eq!(rig.feed(snapshot(started(5), one(A, Lifecycle::Ready))), []);
    assert_eq!((rig.state(), rig.dials), (State::WaitForWorkspaceStarted, 1));
}

#[test]
fn a_record_that_the_watch_overtook_is_not_believed() {
    let mut rig = Rig::once();
    rig.feed(snapshot(started(5), one(A, Lifecycle::Starting)));
    assert_eq!(rig.fire(Timer::AgentPoll), [Action::ReadAgent(A)]);
    rig.feed(agent(A, Lifecycle::Ready));
    let failed = Event::DialFailed { connection: ConnectionId(1), failure: transient("relay") };
    rig.feed(failed);
    rig.feed(Event::AgentRecord(record(A, Lifecycle::Starting)));
    rig.fire(Timer::DialBackoff);
    assert_eq!(rig.state(), State::EstablishTailnet);
}

#[test]
fn an_agent_that_is_ready_before_its_build_has_finished_is_dialled_all_the_same() {
    let mut rig = Rig::once();
    rig.feed(build(START, JobStatus::Running));
    rig.feed(agent(A, Lifecycle::Ready));
    assert_eq!(rig.state(), State::WaitForWorkspaceStarted);
    rig.feed(build(START, JobStatus::Succeeded));
    assert_eq!(rig.dialled.map(|(_, agent)| agent), Some(A));
}

#[test]
fn the_agent_of_an_older_build_is_not_dialled_after_a_newer_one() {
    let mut rig = up(Policy::Follow);
    rig.feed(build(START, JobStatus::Running));
    rig.answer_all(Rig::success);
    // The watch may still tell of the old agent in this window.
    rig.feed(agent(A, Lifecycle::Ready));
    rig.feed(build(START, JobStatus::Succeeded));
    assert_eq!((rig.state(), rig.dials), (State::WaitForAgent, 1));
    rig.feed(agent(B, Lifecycle::Ready));
    assert_eq!(rig.dialled.map(|(_, agent)| agent), Some(B));
}

#[test]
fn a_command_that_ends_while_the_user_interrupts_keeps_its_status() {
    let mut rig = up(Policy::Once);
    rig.feed(Event::Shutdown);
    rig.feed(done(3));
    rig.answer_all(Rig::success);
    assert_eq!(rig.outcome(), Outcome::AppDone(3));
}
