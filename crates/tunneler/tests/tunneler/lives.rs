//! Two lives, told as a driver would see them: every event with what it leads to.

use std::fmt::Write as _;

use coderctl_tunneler::{
    Action, Agents, BuildNumber, Config, ConnectionId, Event, JobStatus, Lifecycle, Policy,
    Tunneler,
};

use crate::rig::{A, B, START, STOP, agent, build, one, snapshot, started, stopped};

/// The life of a tunneler to which this happens.
fn tell(policy: Policy, events: Vec<(&str, Event)>) -> String {
    let (mut tunneler, first) = Tunneler::new(Config::new(policy));
    let mut story = format!("{:<24} {:<24} {}\n", "new", tunneler.state().name(), list(&first));
    for (name, event) in events {
        let actions = tunneler.handle(event);
        let state = tunneler.state().name();
        writeln!(story, "{name:<24} {state:<24} {}", list(&actions)).unwrap();
    }
    story.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// The actions, but for the arming of the resynchronisation, which is always there.
fn list(actions: &[Action]) -> String {
    let words = actions.iter().map(|action| match action {
        Action::ArmTimer { timer, after } => format!("arm {timer:?} {after:?}"),
        Action::DisarmTimer(timer) => format!("disarm {timer:?}"),
        Action::Notice(notice) => format!("say {notice:?}"),
        Action::Dial { connection, agent } => {
            format!("Dial {} to {}", connection.0, if *agent == A { "A" } else { "B" })
        }
        Action::Exit(exit) => format!("Exit {:?}", exit.outcome),
        other => format!("{other:?}"),
    });
    words.filter(|word| !word.starts_with("arm Resync")).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_session_in_a_stopped_workspace() {
    let life = tell(
        Policy::Once,
        vec![
            ("resolved: stopped", snapshot(stopped(4), Agents::Untold)),
            ("watch up", Event::WatchUp),
            ("start accepted", Event::StartAccepted { number: BuildNumber(5) }),
            ("start/running", build(START, JobStatus::Running)),
            ("start/succeeded", build(START, JobStatus::Succeeded)),
            ("agent A created", agent(A, Lifecycle::Created)),
            ("A's record", Event::AgentRecord(crate::rig::record(A, Lifecycle::Starting))),
            ("agent A ready", agent(A, Lifecycle::Ready)),
            ("tunnel up", Event::DialUp(ConnectionId(1))),
            ("app attached", Event::AppAttached),
            ("app done", crate::rig::done(0)),
            ("tunnel closed", Event::TailnetClosed(ConnectionId(1))),
        ],
    );
    insta::assert_snapshot!(life, @r"
    new                      init                     OpenWatch
    resolved: stopped        waitForWorkspaceStarted  say Starting { dormant: false }, StartWorkspace
    watch up                 waitForWorkspaceStarted
    start accepted           waitForWorkspaceStarted
    start/running            waitForWorkspaceStarted
    start/succeeded          waitForAgent
    agent A created          waitForAgent             ReadAgent(AgentId(10))
    A's record               waitForAgent             arm AgentPoll 500ms
    agent A ready            establishTailnet         Dial 1 to A, disarm AgentPoll
    tunnel up                tailnetUp                AttachApp(ConnectionId(1))
    app attached             applicationUp
    app done                 shutdownTailnet          CloseTailnet(ConnectionId(1)), disarm Resync, arm Deadline(Drain) 10s
    tunnel closed            exit                     Exit AppDone(0)
    ");
}

#[test]
fn a_forward_whose_workspace_is_restarted() {
    let (first, second) = (ConnectionId(1), ConnectionId(2));
    let life = tell(
        Policy::Follow,
        vec![
            ("resolved: A ready", snapshot(started(5), one(A, Lifecycle::Ready))),
            ("watch up", Event::WatchUp),
            ("tunnel up", Event::DialUp(first)),
            ("app attached", Event::AppAttached),
            ("stop/pending", build(STOP, JobStatus::Pending)),
            ("stop/running", build(STOP, JobStatus::Running)),
            ("app detached", Event::AppDetached),
            ("tunnel closed", Event::TailnetClosed(first)),
            ("stop/succeeded", build(STOP, JobStatus::Succeeded)),
            ("start/pending", build(START, JobStatus::Pending)),
            ("start/succeeded", build(START, JobStatus::Succeeded)),
            ("agent B ready", agent(B, Lifecycle::Ready)),
            ("tunnel up", Event::DialUp(second)),
            ("app attached", Event::AppAttached),
            ("Ctrl-C", Event::Shutdown),
            ("app closed", Event::AppClosed),
            ("tunnel closed", Event::TailnetClosed(second)),
        ],
    );
    insta::assert_snapshot!(life, @r"
    new                      init                     OpenWatch
    resolved: A ready        establishTailnet         Dial 1 to A
    watch up                 establishTailnet
    tunnel up                tailnetUp                AttachApp(ConnectionId(1))
    app attached             applicationUp
    stop/pending             applicationUp            say Stopping
    stop/running             shutdownApplication      DetachApp
    app detached             shutdownTailnet          CloseTailnet(ConnectionId(1))
    tunnel closed            waitToStart
    stop/succeeded           waitForWorkspaceStarted  say WaitingForStart
    start/pending            waitForWorkspaceStarted
    start/succeeded          waitForAgent
    agent B ready            establishTailnet         Dial 2 to B
    tunnel up                tailnetUp                AttachApp(ConnectionId(2))
    app attached             applicationUp            say TunnelBack
    Ctrl-C                   shutdownApplication      CloseApp, disarm Resync, arm Deadline(Drain) 10s
    app closed               shutdownTailnet          CloseTailnet(ConnectionId(2))
    tunnel closed            exit                     Exit UserStop
    ");
}
