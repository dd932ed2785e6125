//! The tables of `Follow` and `Once`, in the form of upstream's: a row for each event, a column for
//! each state. `UPDATE_GOLDEN=1` writes them anew; a change is then to be read cell by cell.

use std::{fmt::Write as _, path::PathBuf};

use coderctl_tunneler::{
    Action, AgentProblem, AgentRecord, AgentStatus, Agents, AppEnd, Build, BuildNumber, Config,
    ConnectionId, Event, Failure, FailureKind, JobStatus, Lifecycle, Notice, Policy, Snapshot,
    State, Timer, Tunneler,
};

use crate::rig::{
    A, B, DELETE, START, STOP, agent, build, done, one, record, refused, snapshot, started,
    stopped, transient,
};

#[test]
fn follow_does_what_its_table_says() {
    compare("follow", Policy::Follow);
}

#[test]
fn once_does_what_its_table_says() {
    compare("once", Policy::Once);
}

#[test]
fn the_two_tables_have_every_event_and_every_state() {
    for policy in [Policy::Follow, Policy::Once] {
        let states: Vec<State> = columns(policy).iter().map(|(.., state)| *state).collect();
        assert!(State::ALL.iter().all(|state| states.contains(state)));
    }
    let rows = rows();
    let mut kinds: Vec<_> = rows.iter().map(|(_, event)| std::mem::discriminant(event)).collect();
    kinds.sort_by_key(|kind| format!("{kind:?}"));
    kinds.dedup();
    assert_eq!(kinds.len(), 28, "one for each variant of Event");
}

fn compare(name: &str, policy: Policy) {
    let path: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "tests", "golden", &format!("{name}.md")].iter().collect();
    let found = render(policy);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    let cells = |table: &str| -> Vec<Vec<String>> {
        let lines = table.lines().filter(|line| line.starts_with('|'));
        lines.map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
    };
    let (golden, found) = (cells(&golden), cells(&found));
    let head = &found[0];
    for (golden, row) in golden.iter().zip(&found) {
        assert_eq!(golden.len(), row.len(), "columns of row {:?}", row[1]);
        for (column, (golden, found)) in golden.iter().zip(row).enumerate() {
            assert_eq!(golden, found, "row {:?}, column {:?}", row[1], head[column]);
        }
    }
    assert_eq!(golden.len(), found.len(), "rows");
}

fn render(policy: Policy) -> String {
    let columns = columns(policy);
    let mut table = vec![vec!["Event".to_owned()]];
    table[0].extend(columns.iter().map(|(name, ..)| (*name).to_owned()));
    for (name, event) in rows() {
        let mut row = vec![name];
        row.extend(columns.iter().map(|(_, past, state)| {
            let mut tunneler = reach(policy, past);
            assert_eq!(tunneler.state(), *state);
            cell(&columns, *state, &mut tunneler, event.clone())
        }));
        table.push(row);
    }
    let widths: Vec<usize> = (0..table[0].len())
        .map(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap())
        .collect();
    let mut text = LEGEND.replace("POLICY", &format!("{policy:?}"));
    for (index, row) in table.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            write!(text, "| {cell:width$} ").unwrap();
        }
        text.push_str("|\n");
        if index == 0 {
            text.push_str(&"|---".repeat(row.len()));
            text.push_str("|\n");
        }
    }
    text
}

/// What happens, in the table's words.
fn cell(
    columns: &[(&str, Vec<Event>, State)],
    state: State,
    tunneler: &mut Tunneler,
    event: Event,
) -> String {
    let actions = tunneler.handle(event);
    let mut words = Vec::new();
    if tunneler.state() != state {
        words.push(short(columns, tunneler.state()));
    }
    words.extend(actions.iter().filter_map(word));
    if words.is_empty() { "·".to_owned() } else { words.join(" ") }
}

fn short(columns: &[(&str, Vec<Event>, State)], state: State) -> String {
    let (name, ..) = columns.iter().find(|(.., column)| *column == state).unwrap();
    name.trim_end_matches(['?', '<', 'd']).to_owned()
}

fn word(action: &Action) -> Option<String> {
    Some(match action {
        Action::OpenWatch => "W".to_owned(),
        Action::Resync => "R".to_owned(),
        Action::ReadAgent(_) => "G".to_owned(),
        Action::StartWorkspace => "S".to_owned(),
        Action::Dial { agent, .. } => format!("D({})", if *agent == A { "A" } else { "B" }),
        Action::CancelDial(_) => "-D".to_owned(),
        Action::AttachApp(_) => "A".to_owned(),
        Action::CancelAttach => "-A".to_owned(),
        Action::DetachApp => "E".to_owned(),
        Action::CloseApp => "C".to_owned(),
        Action::CloseTailnet(_) => "T".to_owned(),
        Action::Notice(notice) => format!("“{}”", notice_name(notice)),
        Action::Unexpected(_) => "err".to_owned(),
        Action::Exit(exit) => {
            let outcome = format!("{:?}", exit.outcome);
            format!("X({})", outcome.split([' ', '(', '{']).next().unwrap())
        }
        Action::ArmTimer { .. } | Action::DisarmTimer(_) => return None,
    })
}

fn notice_name(notice: &Notice) -> String {
    format!("{notice:?}").split([' ', '(', '{']).next().unwrap().to_owned()
}

/// The tunneler in a column.
fn reach(policy: Policy, past: &[Event]) -> Tunneler {
    let (mut tunneler, _) = Tunneler::new(Config::new(policy));
    for event in past {
        let _ = tunneler.handle(event.clone());
    }
    tunneler
}

/// The columns: name, what has happened, the state that this leads to.
fn columns(policy: Policy) -> Vec<(&'static str, Vec<Event>, State)> {
    let after = |past: &[Event], more: &[Event]| [past, more].concat();
    let first = ConnectionId(1);
    let watching = vec![Event::WatchUp, Event::ResyncFailed(transient("not needed"))];
    let stopping = Build::new(STOP, JobStatus::Running).numbered(4);
    let starting = Build::new(START, JobStatus::Running).numbered(5);
    let dialling = after(&watching, &[snapshot(started(5), one(A, Lifecycle::Ready))]);
    let attaching = after(&dialling, &[Event::DialUp(first)]);
    let up = after(&attaching, &[Event::AppAttached]);
    let canceled = after(&dialling, &[build(START, JobStatus::Running)]);
    let lost = Event::TunnelLost { connection: first, text: "silent".to_owned() };
    let leaving = after(&up, &[Event::Shutdown]);
    let closing = after(&leaving, &[Event::AppClosed]);
    let over = after(&closing, &[Event::TailnetClosed(first)]);
    let mut columns = vec![
        ("i", Vec::new(), State::Init),
        ("wS", after(&watching, &[Event::Build(stopping)]), State::WaitToStart),
        ("wW", after(&watching, &[Event::Build(starting)]), State::WaitForWorkspaceStarted),
        ("wW?", after(&watching, &[Event::Build(stopped(4))]), State::WaitForWorkspaceStarted),
        (
            "wA",
            after(&watching, &[snapshot(started(5), one(A, Lifecycle::Created))]),
            State::WaitForAgent,
        ),
        ("eT", dialling, State::EstablishTailnet),
        ("tU", attaching, State::TailnetUp),
        ("aU", up.clone(), State::ApplicationUp),
    ];
    if policy == Policy::Follow {
        let parting = after(&up, &[lost]);
        let down = after(&parting, &[Event::AppDetached]);
        columns.push(("sA<", parting, State::ShutdownApplication));
        columns.push(("sT<", down, State::ShutdownTailnet));
    }
    columns.extend([
        ("sTd<", canceled, State::ShutdownTailnet),
        ("sA", leaving, State::ShutdownApplication),
        ("sT", closing, State::ShutdownTailnet),
        ("ex", over, State::Exit),
    ]);
    columns
}

/// The rows: every event, and of each what makes a difference.
fn rows() -> Vec<(String, Event)> {
    let mut rows = vec![("shutdown signal".to_owned(), Event::Shutdown)];
    for (transition, name) in [(START, "start"), (STOP, "stop"), (DELETE, "delete")] {
        for status in [
            JobStatus::Pending,
            JobStatus::Running,
            JobStatus::Succeeded,
            JobStatus::Failed,
            JobStatus::Canceling,
            JobStatus::Canceled,
            JobStatus::Unknown,
        ] {
            let words = format!("build {name}/{}", format!("{status:?}").to_lowercase());
            rows.push((words, build(transition, status)));
        }
    }
    for (lifecycle, name) in [
        (Lifecycle::Created, "created"),
        (Lifecycle::Starting, "starting"),
        (Lifecycle::StartTimeout, "start_timeout"),
        (Lifecycle::StartError, "start_error"),
        (Lifecycle::Ready, "ready"),
        (Lifecycle::ShuttingDown, "shutting_down"),
        (Lifecycle::ShutdownTimeout, "shutdown_timeout"),
        (Lifecycle::ShutdownError, "shutdown_error"),
        (Lifecycle::Off, "off"),
        (Lifecycle::Unknown, "unknown"),
    ] {
        rows.push((format!("agent A {name}"), agent(A, lifecycle)));
    }
    rows.push(("agent B created".to_owned(), agent(B, Lifecycle::Created)));
    rows.push(("agent B ready".to_owned(), agent(B, Lifecycle::Ready)));
    for (status, name) in [
        (AgentStatus::Connecting, "connecting"),
        (AgentStatus::Connected, "connected"),
        (AgentStatus::Disconnected, "disconnected"),
        (AgentStatus::Timeout, "timeout"),
    ] {
        let record = AgentRecord { status, ..record(A, Lifecycle::Ready) };
        rows.push((format!("record A ready, {name}"), Event::AgentRecord(record)));
    }
    let easy = AgentRecord { blocks_login: false, ..record(A, Lifecycle::Starting) };
    let dormant =
        Event::Snapshot(Snapshot { build: stopped(9), agents: Agents::Untold, dormant: true });
    let several = AgentProblem::Several(vec!["a".to_owned(), "b".to_owned()]);
    let first = ConnectionId(1);
    let named = [
        ("record A starting, nothing blocks", Event::AgentRecord(easy)),
        ("record A unreadable", Event::AgentReadFailed { id: A, failure: transient("unwell") }),
        ("no agents", Event::AgentProblem(AgentProblem::None)),
        ("several agents", Event::AgentProblem(several)),
        ("no such agent", Event::AgentProblem(AgentProblem::NoSuchName(Vec::new()))),
        ("read: started, A ready", snapshot(started(9), one(A, Lifecycle::Ready))),
        ("read: started, B ready", snapshot(started(9), one(B, Lifecycle::Ready))),
        ("read: started, B starting", snapshot(started(9), one(B, Lifecycle::Starting))),
        ("read: stopped", snapshot(stopped(9), Agents::Untold)),
        ("read: stopped, dormant", dormant),
        ("read: an older build", snapshot(stopped(3), Agents::Untold)),
        ("read failed", Event::ResyncFailed(transient("unwell"))),
        ("workspace gone", Event::WorkspaceGone),
        ("access lost", Event::AccessLost),
        ("login refused", Event::LoginRefused),
        ("other message", Event::OtherMessage),
        ("watch up", Event::WatchUp),
        ("watch cannot be opened now", Event::WatchFailed(transient("unwell"))),
        ("watch refused", Event::WatchFailed(refused("no"))),
        ("watch lost", Event::WatchLost(transient("closed"))),
        ("watch ended for good", Event::WatchLost(refused("no"))),
        ("start accepted", Event::StartAccepted { number: BuildNumber(6) }),
        ("start conflict", Event::StartConflict(refused("active"))),
        ("start failed, transient", Event::StartFailed(transient("unwell"))),
        ("start refused", Event::StartFailed(refused("quota"))),
        ("tunnel up", Event::DialUp(first)),
        ("another tunnel up", Event::DialUp(ConnectionId(7))),
        (
            "dial failed, transient",
            Event::DialFailed { connection: first, failure: transient("relay") },
        ),
        ("dial refused", Event::DialFailed { connection: first, failure: refused("no") }),
        (
            "dial broke the protocol",
            Event::DialFailed {
                connection: first,
                failure: Failure::new(FailureKind::Protocol, "too old"),
            },
        ),
        ("tunnel lost", Event::TunnelLost { connection: first, text: "silent".to_owned() }),
        ("tunnel closed", Event::TailnetClosed(first)),
        ("app attached", Event::AppAttached),
        ("app cannot attach now", Event::AppAttachFailed(transient("silent"))),
        ("app cannot attach", Event::AppAttachFailed(refused("no"))),
        ("app detached", Event::AppDetached),
        ("app closed", Event::AppClosed),
        ("app done", done(3)),
        ("app failed", Event::AppEnded(AppEnd::Failed("no port".to_owned()))),
        ("app lost its session", Event::AppEnded(AppEnd::Lost("eof".to_owned()))),
        ("time to resync", Event::TimerFired(Timer::Resync)),
        ("time to poll the agent", Event::TimerFired(Timer::AgentPoll)),
        ("time for scripts to speak is over", Event::TimerFired(Timer::ScriptsGrace)),
        ("a timer that is not armed", Event::TimerFired(Timer::StartBackoff)),
    ];
    rows.extend(named.map(|(name, event)| (name.to_owned(), event)));
    rows
}

const LEGEND: &str = "\
# The table of `POLICY`

Written by `tests/tunneler/table.rs` (`UPDATE_GOLDEN=1 cargo test -p coderctl-tunneler`) with the
policy's defaults: autostart on, `Wait::Auto`, and an agent A whose scripts block the login.

i = init (the watch is being opened), wS = waitToStart (stop 4 runs), wW = waitForWorkspaceStarted
(start 5 runs), wW? = the same with our start request unanswered, wA = waitForAgent (A of build 5,
connected, created), eT = establishTailnet (A, ready), tU = tailnetUp, aU = applicationUp,
sA = shutdownApplication, sT = shutdownTailnet, ex = exit. `<` = will go back and wait (the tunnel
was lost; in sTd< the dial was canceled because a start runs), without it: will exit (the user
asked for it).

W = open the watch, R = read the workspace, G = read the agent's record, S = request workspace
start, D = dial, -D = cancel the dial, A = attach app, -A = cancel the attachment, E = detach app,
C = close app, T = close tailnet, X = exit with this outcome, “…” = tell the user; timers are left
out. \"·\" = no change, no action; \"err\" = the driver broke its promise, no change.

";
