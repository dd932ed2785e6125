//! A deployment that stays.

use std::{os::unix::fs::PermissionsExt, process::Stdio};

use crate::support::{Server, coderctl};

#[test]
fn a_workspace_lives_from_start_to_deletion() {
    let server = Server::with_dev();
    let seen = server.run(&["ssh", "dev", "--", "cat >kept; echo out; exit 3"]).ends(3);
    assert_eq!(seen.stdout, "out\n");
    server.run(&["stop", "dev", "-y"]).ends(0);
    server.run(&["ssh", "--disable-autostart", "dev", "--", "true"]).ends(203);
    let seen = server.run(&["ssh", "dev", "--", "test -e kept && echo there"]).ends(0);
    assert_eq!(seen.stdout, "there\n", "started again, with what it kept");
    server.run(&["restart", "dev", "-y"]).ends(0);
    server.run(&["ssh", "dev", "--", "true"]).ends(0);
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
    let token = server.ready.token.clone();
    let server = server.crash_and_restart(&["--workspace", "dev"]);
    // Another port, and the old token is as good as the new one.
    let mut command = server.command(&["ssh", "dev", "--", "cat kept"]);
    command.env("CODER_SESSION_TOKEN", token);
    let seen = crate::support::run(&mut command).ends(0);
    assert_eq!(seen.stdout, "here\n");
    let (code, said) = server.stop();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn an_agent_may_be_started_by_hand() {
    let server = Server::start(&["--workspace", "dev", "--external-agent"]);
    let home = tempfile::TempDir::new().unwrap();
    let mut agent = coderctl(home.path())
        .arg("agent")
        .env("CODER_AGENT_URL", &server.ready.url)
        .env("CODER_AGENT_TOKEN", server.ready.agent_token.as_ref().unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let seen = server.run(&["ssh", "dev", "--", "cd; pwd"]).ends(0);
    assert_eq!(seen.stdout.trim_end(), home.path().to_str().unwrap());
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[test]
fn other_than_loopback_wants_encryption() {
    let home = tempfile::TempDir::new().unwrap();
    let seen = crate::support::run(coderctl(home.path()).args(["server", "--listen", "0.0.0.0:0"]));
    let seen = seen.ends(2);
    assert!(seen.stderr.contains("--insecure"), "{seen:?}");
}
