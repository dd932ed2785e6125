//! The whole path as it should be: what the faults of the other files are measured against.

use coderctl_drpc::proto::tailnet::coordinate_response::{PeerUpdate, peer_update::Kind};
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    agent::AgentKind,
    coordinator,
    deployment::{AGENT, Deployment, Plan, scripted},
    http::Reply,
};

#[tokio::test]
async fn a_command_runs_after_one_handshake_and_the_agent_is_told_goodbye() {
    let deployment = Deployment::well().await;
    let seen = deployment.run(&["-v", "ssh", "dev", "--", "exit", "7"]).await;
    assert_eq!(seen.code, Some(7), "{seen:?}");
    assert_eq!(seen.stdout, "");
    assert!(seen.stderr.contains("1 handshake in"), "{seen:?}");
    assert!(!seen.stderr.contains("error"), "{seen:?}");
    assert_eq!(deployment.count("disconnect"), 1, "{:?}", deployment.journal());
    assert_eq!(deployment.count("port 1"), 1, "{:?}", deployment.journal());
}

/// A gateway that knows no upgrade to DERP, and one that leaves it unanswered.
#[tokio::test]
async fn where_an_upgrade_does_not_get_through_a_websocket_does() {
    for refusal in [Reply::error(426, "Upgrade Required"), Reply::Bytes(Vec::new())] {
        let refusing = scripted(move |line, asked, _| {
            (line == "GET /derp" && asked == 0).then(|| refusal.clone())
        });
        // A second map would be another relay, of which nothing is known.
        let plan = Plan { coordinator: coordinator::Coordinator::Mapless, ..refusing };
        let deployment = Deployment::start(plan).await;
        let seen = deployment.run(&["ssh", "dev", "--", "exit", "7"]).await;
        assert_eq!(seen.code, Some(7), "{seen:?}");
        assert_eq!(deployment.count("relay by WebSocket"), 1, "{:?}", deployment.journal());
    }
}

#[tokio::test]
async fn the_deployment_may_force_websockets() {
    let plan = scripted(|line, _, _| {
        (line == "GET /api/v2/workspaceagents/connection").then(|| {
            let map = crate::deployment::relay_map();
            let info = serde_json::json!({ "derp_map": map, "derp_force_websockets": true });
            Reply::Json(200, info.to_string())
        })
    });
    let deployment = Deployment::start(plan).await;
    let mut program = deployment.start_program(&["ssh", "dev", "--", "cat"]);
    deployment.until("relay by WebSocket", 1).await;
    program.say(b"x").await;
    assert_eq!(program.hear(1).await, "x");
    assert_eq!(program.end().await.code, Some(0));
}

#[tokio::test]
async fn streams_are_apart_and_input_ends() {
    let deployment = Deployment::well().await;
    let seen = deployment.run(&["ssh", "dev", "--", "split"]).await;
    assert_eq!(
        (seen.code, seen.stdout.as_str(), seen.stderr.as_str()),
        (Some(0), "out\n", "err\n")
    );
    let mut program = deployment.start_program(&["ssh", "dev", "--", "half"]);
    assert_eq!(program.hear(6).await, "ready\n");
    program.say(b"some input").await;
    let seen = program.end().await;
    assert_eq!((seen.code, seen.stdout.as_str()), (Some(0), "done 10\n"), "{seen:?}");
}

#[tokio::test]
async fn usage_is_reported_while_a_session_is_open() {
    let deployment = Deployment::well().await;
    let mut program = deployment.start_program(&["ssh", "dev", "--", "cat"]);
    program.say(b"x").await;
    assert_eq!(program.hear(1).await, "x");
    deployment
        .until(&format!("POST /api/v2/workspaces/{}/usage", crate::deployment::WORKSPACE), 1)
        .await;
    assert_eq!(program.end().await.code, Some(0));
}

#[tokio::test]
async fn stdio_carries_the_agents_ssh_server() {
    let deployment = Deployment::well().await;
    let mut program = deployment.start_program(&["ssh", "--stdio", "dev"]);
    assert_eq!(program.hear(12).await, "SSH-2.0-test");
    let seen = program.end().await;
    assert_eq!(seen.code, Some(0), "{seen:?}");
    deployment.until("disconnect", 1).await;
}

#[tokio::test]
async fn a_forward_keeps_half_closed_connections_and_ends_at_a_signal() {
    for (signal, number) in [(Signal::INT, "INT"), (Signal::TERM, "TERM")] {
        let deployment = Deployment::well().await;
        let mut program = deployment.start_program(&["port-forward", "dev", "--tcp", "0:80"]);
        let address = forwarded(&program.until_said("Forwarding").await);
        program.until_said("Ready!").await;
        let mut connections = Vec::new();
        for size in [0_usize, 1, 300_000] {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.write_all(&vec![b'x'; size]).await.unwrap();
            stream.shutdown().await.unwrap();
            connections.push((size, stream));
        }
        for (size, mut stream) in connections {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, format!("{size} bytes\n"));
        }
        program.signal(signal);
        let seen = program.end().await;
        assert_eq!(seen.code, Some(0), "SIG{number}: {seen:?}");
        assert_eq!(deployment.count("disconnect"), 1, "{:?}", deployment.journal());
    }
}

/// The local address of a line about a forward.
fn forwarded(line: &str) -> String {
    let (_, rest) = line.split_once("tcp://").unwrap();
    rest.split('\'').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_port_where_nobody_listens_resets_its_connection_alone() {
    let deployment = Deployment::well().await;
    let mut program = deployment.start_program(&["port-forward", "dev", "--tcp", "0:81,0:80"]);
    let closed = forwarded(&program.until_said("Forwarding").await);
    program.until_said("Ready!").await;
    let mut stream = TcpStream::connect(&closed).await.unwrap();
    let ended = stream.read_to_end(&mut Vec::new()).await;
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    program.until_said("81").await;
    program.signal(Signal::INT);
    assert_eq!(program.end().await.code, Some(0));
}

#[tokio::test]
async fn the_agent_is_told_goodbye_after_an_error_too() {
    let deployment = Deployment::start(Plan { agent: AgentKind::Refuses, ..Plan::default() }).await;
    deployment.ssh_fails(211, &["SSH server refused the connection", "hint: "]).await;
    assert_eq!(deployment.count("disconnect"), 1, "{:?}", deployment.journal());
}

#[tokio::test]
async fn a_signal_during_a_command_is_passed_on_and_goodbye_is_said() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let deployment = Deployment::well().await;
        let mut program = deployment.start_program(&["ssh", "dev", "--", "signal"]);
        assert_eq!(program.hear(6).await, "ready\n");
        program.signal(signal);
        let seen = program.end().await;
        assert_eq!(seen.code, Some(code), "{seen:?}");
        assert_eq!(deployment.count("disconnect"), 1, "{:?}", deployment.journal());
    }
}

#[tokio::test]
async fn a_signal_while_the_agent_does_not_answer_ends_at_once_and_says_goodbye() {
    let deployment = Deployment::start(Plan { agent: AgentKind::Dead, ..Plan::default() }).await;
    let variables = [("CODERCTL_DIAL_TIMEOUT", "30")];
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        if signal == Signal::HUP && hangup_is_ignored() {
            continue;
        }
        let program = deployment.start_with(&["ssh", "dev", "--", "exit", "0"], &variables);
        let before = deployment.count("disconnect");
        deployment.until("update_self", before + 1).await;
        deployment.until("add_tunnel", before + 1).await;
        program.signal(signal);
        program.end().await.fails(code, &["interrupted before it was done"]);
        assert_eq!(deployment.count("disconnect"), before + 1, "{:?}", deployment.journal());
    }
}

/// Under `nohup` the program leaves SIGHUP ignored, as it should.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

#[tokio::test]
async fn a_closed_stdout_ends_a_command_as_a_broken_pipe_does() {
    let deployment = Deployment::well().await;
    let mut program = deployment.start_program(&["ssh", "dev", "--", "flood", "out", "3000000"]);
    program.close_stdout();
    let seen = program.end().await;
    assert_eq!((seen.code, seen.stderr.as_str()), (Some(141), ""));
    deployment.until("disconnect", 1).await;
    let mut program = deployment.start_program(&["ssh", "--stdio", "dev"]);
    program.close_stdout();
    let seen = program.end().await;
    assert_eq!((seen.code, seen.stderr.as_str()), (Some(0), ""));
    deployment.until("disconnect", 2).await;
}

#[tokio::test]
async fn a_server_that_is_restarted_interrupts_neither_sessions_nor_forwards() {
    let deployment = Deployment::well().await;
    let mut session = deployment.start_program(&["ssh", "dev", "--", "cat"]);
    let mut forward = deployment.start_program(&["port-forward", "dev", "--tcp", "0:80"]);
    session.say(b"one").await;
    assert_eq!(session.hear(3).await, "one");
    let address = forwarded(&forward.until_said("Forwarding").await);
    forward.until_said("Ready!").await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(b"12345").await.unwrap();
    deployment.state.cut();
    stream.write_all(b"67890").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "10 bytes\n");
    session.say(b"two").await;
    assert_eq!(session.hear(3).await, "two");
    let seen = session.end().await;
    assert_eq!((seen.code, seen.stderr.as_str()), (Some(0), ""));
    forward.signal(Signal::INT);
    assert_eq!(forward.end().await.code, Some(0));
}

/// The coordinator says that the agent has left.
fn agent_leaves(deployment: &Deployment) {
    let update = PeerUpdate {
        id: AGENT.as_bytes().to_vec(),
        kind: Kind::Disconnected.into(),
        ..PeerUpdate::default()
    };
    deployment.state.coordinators.send(coordinator::news(update)).unwrap();
}

#[tokio::test]
async fn an_agent_that_leaves_ends_a_session_with_the_reason() {
    let deployment = Deployment::well().await;
    let mut session = deployment.start_program(&["ssh", "dev", "--", "hold"]);
    assert_eq!(session.hear(6).await, "ready\n");
    agent_leaves(&deployment);
    session.end().await.fails(255, &["connection lost", "the agent has left"]);
    deployment.assert_left();
}

#[tokio::test]
async fn an_agent_that_comes_back_is_forwarded_to_again() {
    let deployment = Deployment::well().await;
    let mut program = deployment.start_program(&["port-forward", "dev", "--tcp", "0:80"]);
    let address = forwarded(&program.until_said("Forwarding").await);
    program.until_said("Ready!").await;
    agent_leaves(&deployment);
    program.until_said("lost (the agent has left), reconnecting").await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(b"early").await.unwrap();
    stream.shutdown().await.unwrap();
    program.until_said("Ready again").await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "5 bytes\n");
    program.signal(Signal::INT);
    assert_eq!(program.end().await.code, Some(0));
    deployment.assert_left();
}

#[tokio::test]
async fn a_stdout_that_nobody_reads_does_not_keep_a_command_from_ending_at_signals() {
    let deployment = Deployment::well().await;
    let mut program = deployment.start_program(&["ssh", "dev", "--", "flood", "out", "90000000"]);
    program.hear(1).await;
    // One is passed on, the other ends it; which is which is the system's choice.
    program.signal(Signal::TERM);
    program.signal(Signal::INT);
    let seen = program.end_unread().await;
    assert!(matches!(seen.code, Some(130 | 143)), "{seen:?}");
    deployment.assert_left();
}

/// Servers before mid-2026, and what stands before a server.
#[tokio::test]
async fn a_server_without_watch_and_early_endpoints_is_served_by_the_older_ones() {
    let deployment = Deployment::start(scripted(|line, _, _| {
        let lacks = line.ends_with("/agent-connection-watch")
            || line.ends_with("/api/v2/tailnet")
            || line.ends_with("/workspaceagents/connection");
        lacks.then(|| Reply::error(404, "Route not found."))
    }))
    .await;
    let seen = deployment.run(&["ssh", "dev", "--", "exit", "3"]).await;
    assert_eq!((seen.code, seen.stderr.as_str()), (Some(3), ""), "{seen:?}");
    let journal = deployment.journal();
    for path in ["/watch", "/coordinate", "/connection"] {
        assert!(journal.iter().any(|entry| entry.ends_with(path)), "{path}: {journal:?}");
    }
    assert_eq!(deployment.count("disconnect"), 1, "{journal:?}");
}
