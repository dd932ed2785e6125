//! A command under a forward.

use rustix::process::Signal;

use crate::{
    agent::AgentKind,
    deployment::{Deployment, Plan},
    program::SHORT,
};

/// `port-forward dev --tcp 0:80 -- WORDS`.
fn under<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["port-forward", "dev", "--tcp", "0:80", "--"], words].concat()
}

/// Connects to the port in the environment with bash alone: curl and nc need not be there.
const ASK: &str = "exec 3<>/dev/tcp/127.0.0.1/$CODERCTL_PORT";

#[tokio::test]
async fn a_command_reaches_the_port_and_its_status_is_ours() {
    let deployment = Deployment::well().await;
    let script = format!("{ASK}; test $CODERCTL_PORT = $CODERCTL_PORT_80; echo asked; exit 41");
    let seen = deployment.run(&under(&["bash", "-c", &script])).await;
    assert_eq!((seen.code, seen.stdout.as_str()), (Some(41), "asked\n"), "{seen:?}");
    assert_eq!(deployment.count("disconnect"), 1, "{:?}", deployment.journal());
}

#[tokio::test]
async fn a_command_gets_our_input_and_our_signals() {
    let deployment = Deployment::well().await;
    let seen = {
        let mut program = deployment.start_program(&under(&["cat"]));
        program.say(b"through\n").await;
        assert_eq!(program.hear(8).await, "through\n");
        program.end().await
    };
    assert_eq!(seen.code, Some(0), "{seen:?}");

    for (signal, name) in [(Signal::INT, "INT"), (Signal::TERM, "TERM")] {
        let script =
            format!("trap 'echo got; exit 5' {name}; echo ready; while read x; do :; done");
        let mut program = deployment.start_program(&under(&["bash", "-c", &script]));
        assert_eq!(program.hear(6).await, "ready\n");
        program.signal(signal);
        assert_eq!(program.hear(4).await, "got\n");
        assert_eq!(program.end().await.code, Some(5));
    }
}

#[tokio::test]
async fn a_command_that_dies_of_a_signal_is_128_and_its_number() {
    let deployment = Deployment::well().await;
    let seen = deployment.run(&under(&["sh", "-c", "kill -KILL $$"])).await;
    assert_eq!(seen.code, Some(137), "{seen:?}");
}

#[tokio::test]
async fn a_command_that_cannot_run_is_named() {
    let deployment = Deployment::well().await;
    let missing = deployment.run(&under(&["/nowhere/at/all"])).await;
    missing.fails(127, &["the command `/nowhere/at/all` cannot be run: No such file"]);
    let refused = deployment.run(&under(&["/dev/null"])).await;
    refused.fails(126, &["the command `/dev/null` cannot be run: Permission denied"]);
}

#[tokio::test]
async fn without_a_tunnel_no_command_runs() {
    let plan = Plan { agent: AgentKind::Dead, ..Plan::default() };
    let deployment = Deployment::start(plan).await;
    let program = deployment.start_with(&under(&["echo", "ran"]), &SHORT);
    let seen = program.end().await;
    assert_eq!(seen.stdout, "", "{seen:?}");
    assert_ne!(seen.code, Some(0), "{seen:?}");
}
