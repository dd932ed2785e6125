//! A deployment that stays.

use std::os::unix::fs::PermissionsExt;

use crate::support::{Options, Server, agents, coderctl, run, until};

#[test]
fn a_workspace_lives_from_start_to_deletion() {
    let server = Server::with_dev();
    server.run(&["ssh", "dev", "--", "echo here >kept; echo out; exit 3"]).ends(3).prints("out\n");
    server.run(&["stop", "dev", "-y"]).ends(0);
    server.run(&["ssh", "--disable-autostart", "dev", "--", "true"]).ends(203).says("is stopped");
    // It is started again, with what it kept.
    let seen = server.run(&["ssh", "dev", "--", "cat kept"]).ends(0).prints("here\n");
    seen.says("Workspace was stopped, starting workspace");
    server.run(&["restart", "dev", "-y"]).ends(0);
    server.run(&["ssh", "dev", "--", "true"]).ends(0);
    server.run(&["stop", "dev", "-y"]).ends(0);
    server.run(&["start", "dev", "-y"]).ends(0);
    server.run(&["ssh", "dev", "--", "true"]).ends(0).says_not("starting");
    server.run(&["delete", "dev", "-y"]).ends(0);
    server.run(&["ssh", "dev", "--", "true"]).ends(201);
}

#[test]
fn state_outlives_the_server_and_secrets_are_for_their_owner_alone() {
    let server = Server::with_dev();
    server.run(&["ssh", "dev", "--", "echo here >kept"]).ends(0);
    for entry in std::fs::read_dir(&server.state).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.path());
    }
    let token = server.token.clone();
    let server = server.crash_and_restart(Options::default().dev());
    // Another port; the old token is as good as the new one.
    server.as_user(&token).run(&["ssh", "dev", "--", "cat kept"]).ends(0).prints("here\n");
    let log = server.said();
    assert!(!log.contains(&token) && !log.contains(&server.token), "{log}");
    let (code, said) = server.stop();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn an_agent_tells_how_far_its_relay_is() {
    let server = Server::with_dev();
    let api = server.api();
    let latency = until("the agent has measured its relay", || {
        let workspace = api.workspace("dev");
        let known = agents(&workspace)[0]["latency"].as_object()?.clone();
        known.into_values().next()
    });
    assert_eq!(latency["preferred"], true, "{latency}");
    assert!(latency["latency_ms"].as_f64().is_some_and(|took| took > 0.0), "{latency}");
}

#[test]
fn an_agent_may_be_started_by_hand() {
    let server = Options::default().dev().external().start();
    let token = server.ready.agent_token.clone().unwrap();
    let (agent, home) = server.agent(&token);
    let home = format!("{}\n", home.path().display());
    server.run(&["ssh", "dev", "--", "cd; pwd"]).ends(0).prints(&home);
    agent.signal(rustix::process::Signal::TERM);
    let (code, said) = agent.finish();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains(&token), "the token was shown: {said}");
}

#[test]
fn login_stores_what_later_commands_use() {
    let server = Server::with_dev();
    let url = server.url.clone();
    let with = |arguments: &[&str]| run(coderctl(server.home.path()).args(arguments));
    with(&["list"]).ends(200);
    with(&["login", &url, "--token", &server.token]).ends(0);
    with(&["ssh", "dev", "--", "echo in"]).ends(0).prints("in\n");
    // What `server` says about logging in is true.
    let said = server.said();
    let line = said.lines().find_map(|line| line.strip_prefix("Log in:  coderctl ")).unwrap();
    let line = format!("exec \"$0\" {line}");
    let mut shell = server.program("sh", &["-c", &line, crate::support::binary()]);
    run(&mut shell).ends(0);
}

#[test]
fn other_than_loopback_wants_encryption() {
    let home = tempfile::TempDir::new().unwrap();
    let seen = run(coderctl(home.path()).args(["server", "--listen", "0.0.0.0:0"]));
    seen.ends(2).says("--insecure");
}
