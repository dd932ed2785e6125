//! Who does not answer is named, in time; what can be done without is done without.

use futures_util::future::join_all;
use rustix::process::Signal;

use crate::{
    agent::AgentKind,
    coordinator::Coordinator,
    deployment::{Deployment, Plan, agent, scripted, workspace},
    http::Reply,
    program::SHORT,
    relay::RelayKind,
};

#[tokio::test]
async fn a_relay_that_throws_us_out_again_and_again_is_given_up() {
    let deployment = Deployment::start(Plan { relay: RelayKind::Leaves, ..Plan::default() }).await;
    deployment.ssh_gives_up(209, &["no tunnel", "0.2 s"]).await;
}

/// Does not answer calls that end like this.
fn silent(end: &'static str) -> Plan {
    scripted(move |line, _, _| line.ends_with(end).then_some(Reply::Silence))
}

/// Begins answers to calls that end like this, and no more.
fn stalling(end: &'static str, bytes: &'static [u8]) -> Plan {
    scripted(move |line, _, _| line.ends_with(end).then_some(Reply::Stall(bytes)))
}

#[tokio::test]
async fn a_server_that_does_not_answer_the_first_call_is_named() {
    let plans = [
        silent("/workspace/dev"),
        stalling("/workspace/dev", b"HTTP/1.1 20"),
        stalling("/workspace/dev", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
    ];
    join_all(plans.map(|plan| async move {
        let deployment = Deployment::start(plan).await;
        let url = deployment.url();
        let arguments = ["ssh", "dev", "--", "exit", "0"];
        let program = deployment.start_with(&arguments, &[("CODERCTL_HTTP_TIMEOUT", "100ms")]);
        let words = [url.trim_start_matches("http://"), "0.1 s", "hint: "];
        program.end().await.fails(207, &words);
    }))
    .await;
}

#[tokio::test]
async fn a_start_that_is_not_answered_is_given_up_in_time() {
    let stopped = workspace("stop", "succeeded", &[agent("main", "off")]);
    let deployment = Deployment::start(Plan { workspace: stopped, ..silent("/builds") }).await;
    let variables = [("CODERCTL_HTTP_TIMEOUT", "500ms"), SHORT[0]];
    let program = deployment.start_with(&["ssh", "dev", "--", "exit", "0"], &variables);
    program.end().await.fails(208, &["0.5 s"]);
}

#[tokio::test]
async fn a_build_log_that_is_silent_does_not_keep_the_workspace_from_starting() {
    let plan = scripted(|line, _, state| {
        line.ends_with("/logs").then(|| {
            state.turn(Plan::default().workspace);
            Reply::Silence
        })
    });
    let stopped = workspace("stop", "succeeded", &[agent("main", "off")]);
    Deployment::start(Plan { workspace: stopped, ..plan }).await.ssh_works().await;
}

#[tokio::test]
async fn a_forward_to_an_agent_that_does_not_answer_ends_with_its_error_alone() {
    let deployment = Deployment::start(Plan { agent: AgentKind::Dead, ..Plan::default() }).await;
    let arguments = ["-q", "port-forward", "dev", "--tcp", "0:80"];
    let seen = deployment.start_with(&arguments, &SHORT).end().await;
    let seen = seen.fails(209, &["agent did not answer"]);
    assert_eq!(seen.stderr.lines().count(), 1, "{seen:?}");
    deployment.assert_left();
}

/// These only save time, or tell what is known from elsewhere too.
#[tokio::test]
async fn calls_that_can_be_done_without_are_done_without() {
    let calls = ["/connection", "/agent-connection-watch", "/usage"];
    join_all(calls.map(|call| async move {
        Deployment::start(silent(call)).await.ssh_works().await;
    }))
    .await;
}

#[tokio::test]
async fn each_step_of_a_tunnel_that_gets_no_answer_is_named() {
    let rows = [
        (silent("/api/v2/tailnet"), ["coordinator", "0.2 s"]),
        (stalling("/api/v2/tailnet", b"HTTP/1.1 101 Sw"), ["coordinator", "0.2 s"]),
        (stalling("/derp", b"HTTP/1.1 101 Sw"), ["relay", "0.2 s"]),
        (Plan { coordinator: Coordinator::Bytes(Vec::new()), ..Plan::default() }, ["", "0.2 s"]),
        (Plan { coordinator: Coordinator::Leaves, ..Plan::default() }, ["coordinat", "0.2 s"]),
        (Plan { coordinator: Coordinator::Secretive, ..Plan::default() }, ["agent", "0.2 s"]),
        (Plan { coordinator: Coordinator::Mapless, ..silent("/connection") }, ["agent", "0.2 s"]),
        (silent("/derp"), ["relay", "0.2 s"]),
        (Plan { relay: RelayKind::Closes, ..Plan::default() }, ["relay", "closed the connection"]),
        (Plan { relay: RelayKind::Mute, ..Plan::default() }, ["relay", "0.2 s"]),
        (Plan { relay: RelayKind::Deaf, ..Plan::default() }, ["relay", "0.2 s"]),
        (Plan { agent: AgentKind::Dead, ..Plan::default() }, ["agent did not answer", "0.2 s"]),
    ];
    join_all(rows.map(|(plan, words)| async move {
        let deployment = Deployment::start(plan).await;
        deployment.ssh_gives_up(209, &["no tunnel to workspace `dev`", words[0], words[1]]).await;
    }))
    .await;
}

#[tokio::test]
async fn an_agent_that_does_not_speak_ssh_is_left_in_time() {
    let deployment = Deployment::start(Plan { agent: AgentKind::Mute, ..Plan::default() }).await;
    deployment.ssh_gives_up(207, &["SSH session", "0.2 s", "hint: "]).await;
    deployment.assert_left();
}

/// A build takes as long as it takes.
#[tokio::test]
async fn a_build_that_does_not_end_is_no_error_until_somebody_is_tired_of_it() {
    for (signal, code) in [(Signal::HUP, 129), (Signal::INT, 130), (Signal::TERM, 143)] {
        let log = vec![serde_json::json!({"id": 1, "stage": "Planning", "output": "one"})];
        let plan = Plan {
            workspace: workspace("stop", "succeeded", &[agent("main", "off")]),
            build: (log, None),
            ..Plan::default()
        };
        let deployment = Deployment::start(plan).await;
        let variables = [("CODERCTL_DIAL_TIMEOUT", "0.1"), ("CODERCTL_HTTP_TIMEOUT", "2s")];
        let mut program = deployment.start_with(&["ssh", "dev", "--", "exit", "0"], &variables);
        program.until_said("build |   one").await;
        program.signal(signal);
        let seen = program.end().await.fails(code, &["interrupted before it was done"]);
        assert!(!seen.stderr.contains("within"), "{seen:?}");
        deployment.assert_left();
    }
}
