//! Time limits and what a loss means, each with its exit code.

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Options, Server, reverse, run, service};

#[test]
fn a_limit_for_everything_names_what_was_waited_for() {
    let server = Options::default().dev().external().start();
    let forward = ["port-forward", "dev", "--tcp", "0:80", "--timeout", "3s"];
    server.run(&forward).ends(207).says(
        "workspace `dev`: not ready after 3 s, waiting for the agent to connect for the last ",
    );
    server
        .run(&["ssh", "dev", "--timeout", "1s", "--", "true"])
        .ends(207)
        .says("not ready after 1 s");
}

#[test]
fn a_build_and_a_tunnel_have_limits_of_their_own() {
    let server = Options::default().dev().faults().start();
    let mut faults = server.faults();
    let mut command = server.command(&["ssh", "dev", "--connect-timeout", "1s", "--", "true"]);
    command.env("CODER_DISABLE_DIRECT_CONNECTIONS", "true");
    faults.say(&json!({"freeze_relay": true}));
    run(&mut command)
        .ends(207)
        .says("workspace `dev`: timed out after 1 s, waiting for the tunnel to come up\n");
    faults.say(&json!({"freeze_relay": false}));
    server.run(&["stop", "dev", "-y"]).ends(0);
    let held = faults.hold("start");
    server
        .run(&["ssh", "dev", "--start-timeout", "1s", "--", "true"])
        .ends(207)
        .says("workspace `dev`: timed out after 1 s, waiting for the workspace to start\n");
    faults.disarm(held);
}

#[test]
fn an_agent_that_never_connects_has_its_own_limit() {
    let server = Options::default().dev().external().start();
    let forward = ["port-forward", "dev", "--tcp", "0:80", "--agent-timeout", "1s"];
    server
        .run(&forward)
        .ends(206)
        .says("the agent of workspace `dev` never connected, though it had 1 s\n");
}

#[test]
fn a_forward_that_is_not_back_in_time_says_so() {
    let server = Options::default().dev().external().start();
    let token = server.ready.agent_token.clone().unwrap();
    let (agent, _home) = server.agent(&token);
    let forward = ["port-forward", "dev", "--tcp", "0:80", "--reconnect-timeout", "1s"];
    let mut forward = server.background(&forward);
    forward.wait_for("Ready!");
    agent.signal(Signal::TERM);
    let (code, said) = forward.finish();
    assert_eq!(code, Some(207), "{said}");
    // Its tunnel, or itself.
    let line =
        said.lines().find(|line| line.contains("`dev`: not back after 1 s, waiting for the "));
    assert!(line.is_some_and(|line| line.contains(" for the last ")), "{said}");
}

#[test]
fn a_forward_that_nobody_uses_ends_when_it_is_told_to() {
    let server = Server::with_dev();
    let spec = format!("0:{}", service(reverse));
    let forward = ["port-forward", "dev", "--tcp", &spec, "--idle-timeout", "1s"];
    server.run(&forward).ends(0).says("Ready!\nNothing was open for 1 s, ending\n");
}

#[test]
fn once_means_that_a_stop_is_the_end() {
    let server = Server::with_dev();
    let mut forward = server.background(&["port-forward", "dev", "--tcp", "0:80", "--once"]);
    forward.wait_for("Ready!");
    server.run(&["stop", "dev", "-y"]).ends(0);
    let (code, said) = forward.finish();
    assert_eq!(code, Some(203), "{said}");
}

#[test]
fn a_stopped_workspace_is_started_again_only_when_that_was_said() {
    let server = Server::with_dev();
    let mut follows = server.background(&["port-forward", "dev", "--tcp", "0:80"]);
    let mut restarts = server.background(&["port-forward", "dev", "--tcp", "0:80", "--restart"]);
    follows.wait_for("Ready!");
    restarts.wait_for("Ready!");
    server.run(&["stop", "dev", "-y"]).ends(0);
    restarts.wait_for("Ready again");
    // The other has waited, and takes what has come.
    follows.wait_for("Ready again");
    assert!(!follows.seen().contains("starting workspace"), "{}", follows.seen());
}
