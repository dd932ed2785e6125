//! Holds the `Compatibility` policy to upstream's table, cell by cell.
//!
//! The adapter: upstream has fewer events than we have, because it lets one event stand for the
//! answers to several actions. Each row of the table stands for every event of ours that means it.

use crate::{
    Action, AgentId, AgentProblem, AgentRecord, AgentStatus, Agents, AppEnd, Build, BuildNumber,
    Config, ConnectionId, Event, Failure, FailureKind, JobStatus, Lifecycle, Policy, Severity,
    Snapshot, State, Step, Timer, Transition, Wait,
};

use super::Upstream;

const TABLE: &str = include_str!("../../tests/golden/compatibility.md");

/// The table's columns.
const COLUMNS: [(&str, State); 10] = [
    ("i", State::Init),
    ("wS", State::WaitToStart),
    ("wW", State::WaitForWorkspaceStarted),
    ("wA", State::WaitForAgent),
    ("eT", State::EstablishTailnet),
    ("tU", State::TailnetUp),
    ("aU", State::ApplicationUp),
    ("sA", State::ShutdownApplication),
    ("sT", State::ShutdownTailnet),
    ("ex", State::Exit),
];

/// The connection that is stored in states that have one.
const STORED: ConnectionId = ConnectionId(1);
const OTHER: ConnectionId = ConnectionId(2);

#[test]
fn every_cell_is_upstreams() {
    let mut cells = 0;
    for (row, expected) in rows() {
        for ((column, state), expected) in COLUMNS.into_iter().zip(expected) {
            for config in configs(&row) {
                for event in events(&row) {
                    let found = cell(&config, state, event.clone());
                    let expected = wanted(&expected, column, &event);
                    assert_eq!(found, expected, "{row}, {column}: {event:?} with {config:?}");
                    cells += 1;
                }
            }
        }
    }
    assert!(cells > 1_000, "{cells} cells were compared");
}

#[test]
fn every_build_and_every_lifecycle_has_a_row() {
    let rows: Vec<Event> = rows().iter().flat_map(|(row, _)| events(row)).collect();
    for transition in TRANSITIONS.map(|(_, transition)| transition) {
        for status in STATUSES.map(|(_, status)| status) {
            assert!(rows.contains(&Event::Build(Build::new(transition, status))));
        }
    }
    for lifecycle in LIFECYCLES.map(|(_, lifecycle)| lifecycle) {
        assert!(rows.contains(&Event::Agent { id: AGENT, lifecycle }));
    }
}

#[test]
fn the_connection_that_came_up_is_the_one_that_is_closed() {
    let mut upstream = at(&Config::new(Policy::Compatibility), State::EstablishTailnet);
    upstream.connection = None;
    assert_eq!(upstream.handle(Event::DialUp(OTHER)), [Action::AttachApp(OTHER)]);
    let down = Event::AppEnded(AppEnd::Done(0));
    assert_eq!(upstream.handle(down), [Action::CloseTailnet(OTHER)]);
}

#[test]
fn what_upstream_does_not_know_changes_nothing() {
    let unknown = [
        Event::WatchUp,
        Event::WatchFailed(failure()),
        Event::StartAccepted { number: BuildNumber(1) },
        Event::AgentProblem(AgentProblem::None),
        Event::WorkspaceGone,
        Event::AccessLost,
        Event::LoginRefused,
        Event::Snapshot(Snapshot {
            build: Build::new(Transition::Delete, JobStatus::Succeeded),
            agents: Agents::Untold,
            dormant: false,
        }),
        Event::ResyncFailed(failure()),
        Event::AgentRecord(AgentRecord {
            id: AGENT,
            lifecycle: Lifecycle::Ready,
            status: AgentStatus::Connected,
            blocks_login: false,
        }),
        Event::AgentReadFailed { id: AGENT, failure: failure() },
        Event::TimerFired(Timer::Deadline(Step::Drain)),
    ];
    for (_, state) in COLUMNS {
        for event in unknown.clone() {
            assert_eq!(cell(&Config::new(Policy::Compatibility), state, event), "·");
        }
    }
}

/// The rows: name and ten cells.
fn rows() -> Vec<(String, Vec<String>)> {
    let lines = TABLE.lines().filter(|line| line.starts_with('|')).skip(2);
    let rows: Vec<(String, Vec<String>)> = lines
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
            (cells.next().unwrap(), cells.collect())
        })
        .collect();
    assert_eq!(rows.len(), 44);
    assert!(rows.iter().all(|(_, cells)| cells.len() == COLUMNS.len()));
    rows
}

/// What the machine does, in the table's words.
fn cell(config: &Config, state: State, event: Event) -> String {
    let mut upstream = at(config, state);
    let mut words = Vec::new();
    let actions = upstream.handle(event);
    if upstream.state() != state {
        words.push(COLUMNS.iter().find(|(_, state)| *state == upstream.state()).unwrap().0);
    }
    words.extend(actions.iter().map(|action| match action {
        Action::StartWorkspace => "S",
        Action::Dial { agent: AGENT, .. } => "D",
        Action::AttachApp(_) => "A",
        Action::CloseApp => "C",
        Action::CloseTailnet(_) => "T",
        Action::Exit(_) => "X",
        Action::Unexpected(Severity::Error) => "err",
        Action::Unexpected(Severity::Critical) => "crit",
        Action::Unexpected(Severity::Fatal) => "fatal",
        other => panic!("upstream has no {other:?}"),
    }));
    if words.is_empty() { "·".to_owned() } else { words.join(" ") }
}

/// The machine in a state, reachable with this configuration or not, as upstream's own tests have
/// it.
fn at(config: &Config, state: State) -> Upstream {
    let (mut upstream, _) = Upstream::new(config.clone());
    upstream.state = state;
    upstream.connection = match state {
        State::Init
        | State::WaitToStart
        | State::WaitForWorkspaceStarted
        | State::WaitForAgent
        | State::EstablishTailnet => None,
        State::TailnetUp
        | State::ApplicationUp
        | State::ShutdownApplication
        | State::ShutdownTailnet
        | State::Exit => Some(STORED),
    };
    upstream
}

/// What a cell wants of this event. A cell that names its own column names no change.
fn wanted(cell: &str, column: &str, event: &Event) -> String {
    let cell = cell.replace(" (store conn)", "");
    let cell = match cell.strip_prefix(column) {
        Some("") => "·".to_owned(),
        Some(actions) if actions.starts_with(' ') => actions.trim().to_owned(),
        Some(_) | None => cell,
    };
    match cell.split_once("; different conn → ") {
        Some((_, different)) if *event == Event::DialUp(OTHER) => different.to_owned(),
        Some((same, _)) => same.to_owned(),
        None => cell,
    }
}

/// The configurations that a row is about.
fn configs(row: &str) -> Vec<Config> {
    let autostart: &[bool] = match () {
        () if row.ends_with("NoAutostart off") => &[true],
        () if row.ends_with("NoAutostart on") => &[false],
        () => &[true, false],
    };
    let wait: &[Wait] = match () {
        () if row.ends_with("NoWaitForScripts") => &[Wait::No],
        () if row.ends_with("wait") || row.ends_with("wait for scripts") => {
            &[Wait::Yes, Wait::Auto]
        }
        () => &[Wait::Yes, Wait::No],
    };
    let base = Config::new(Policy::Compatibility);
    let config = |&autostart, &wait| Config { autostart, wait, ..base.clone() };
    autostart.iter().flat_map(|start| wait.iter().map(move |wait| config(start, wait))).collect()
}

/// The events that mean a row.
fn events(row: &str) -> Vec<Event> {
    let (name, _) = row.split_once(',').unwrap_or((row, ""));
    if let Some(build) = name.strip_prefix("build ") {
        let (transition, status) = build.split_once('/').unwrap();
        return vec![Event::Build(Build::new(
            word(&TRANSITIONS, transition),
            word(&STATUSES, status),
        ))];
    }
    if let Some(lifecycle) = name.strip_prefix("agent ") {
        let lifecycle = word(&LIFECYCLES, lifecycle.trim_end_matches(" (either)"));
        return vec![Event::Agent { id: AGENT, lifecycle }];
    }
    match row {
        "shutdown signal" => vec![Event::Shutdown, Event::WatchLost(failure())],
        "agent, unknown lifecycle text" => {
            vec![Event::Agent { id: AGENT, lifecycle: Lifecycle::Unknown }]
        }
        "app up" => vec![Event::AppAttached],
        "app down" => vec![
            Event::AppAttachFailed(failure()),
            Event::AppDetached,
            Event::AppClosed,
            Event::AppEnded(AppEnd::Done(0)),
            Event::StartConflict(failure()),
            Event::StartFailed(failure()),
        ],
        "tailnet up (conn)" => vec![Event::DialUp(STORED), Event::DialUp(OTHER)],
        "tailnet down" => vec![
            Event::DialFailed { connection: STORED, failure: failure() },
            Event::TunnelLost { connection: STORED, text: String::new() },
            Event::TailnetClosed(STORED),
        ],
        "provisioner job log, agent log" | "event with no variant set" => {
            vec![Event::OtherMessage]
        }
        other => panic!("no event for the row {other:?}"),
    }
}

fn failure() -> Failure {
    Failure::new(FailureKind::Transient, "a test")
}

fn word<T: Copy>(words: &[(&str, T)], wanted: &str) -> T {
    words.iter().find(|(word, _)| *word == wanted).unwrap_or_else(|| panic!("{wanted:?}")).1
}

const AGENT: AgentId = AgentId(7);

const TRANSITIONS: [(&str, Transition); 3] =
    [("start", Transition::Start), ("stop", Transition::Stop), ("delete", Transition::Delete)];

const STATUSES: [(&str, JobStatus); 7] = [
    ("pending", JobStatus::Pending),
    ("running", JobStatus::Running),
    ("succeeded", JobStatus::Succeeded),
    ("failed", JobStatus::Failed),
    ("canceling", JobStatus::Canceling),
    ("canceled", JobStatus::Canceled),
    ("unknown", JobStatus::Unknown),
];

const LIFECYCLES: [(&str, Lifecycle); 9] = [
    ("created", Lifecycle::Created),
    ("starting", Lifecycle::Starting),
    ("start_timeout", Lifecycle::StartTimeout),
    ("start_error", Lifecycle::StartError),
    ("ready", Lifecycle::Ready),
    ("shutting_down", Lifecycle::ShuttingDown),
    ("shutdown_timeout", Lifecycle::ShutdownTimeout),
    ("shutdown_error", Lifecycle::ShutdownError),
    ("off", Lifecycle::Off),
];
