//! What goes wrong in the middle: the server restarts, the agent restarts, the workspace stops.

use std::{
    io::{Read, Write},
    process::Stdio,
};

use crate::support::{Running, alone, host, variable};

#[test]
fn a_session_outlives_a_restart_of_the_server() {
    let Some(deployment) = alone() else { return };
    let Some(restart) = variable("CODERCTL_TEST_RESTART_SERVER") else { return };
    let mut command = deployment.coderctl(&["ssh", "dev", "--", "cat"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut echo = |text: &[u8]| {
        stdin.write_all(text).unwrap();
        let mut answer = vec![0; text.len()];
        stdout.read_exact(&mut answer).unwrap();
        assert_eq!(answer, text);
    };
    echo(b"before");
    host(&restart, "");
    echo(b"after");
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_session_ends_with_255_when_its_agent_restarts() {
    let Some(deployment) = alone() else { return };
    let Some(restart) = variable("CODERCTL_TEST_RESTART_AGENT") else { return };
    let mut running =
        Running::start(deployment.coderctl(&["ssh", "dev", "--", "echo set >&2; sleep 1000"]));
    running.wait_for("set");
    host(&restart, "dev");
    let (code, said) = running.finish();
    assert_eq!(code, Some(255), "{said}");
    assert!(said.contains("lost"), "{said}");
}

#[test]
fn a_session_in_a_workspace_that_is_stopped_ends_with_the_reason() {
    let Some(deployment) = alone() else { return };
    let (Some(stop), Some(start)) =
        (variable("CODERCTL_TEST_STOP"), variable("CODERCTL_TEST_START"))
    else {
        return;
    };
    let mut running =
        Running::start(deployment.coderctl(&["ssh", "dev", "--", "echo set >&2; sleep 1000"]));
    running.wait_for("set");
    host(&stop, "dev");
    let (code, said) = running.finish();
    host(&start, "dev");
    assert!(said.contains("stop"), "{said}");
    assert!(matches!(code, Some(203 | 255)), "{code:?}: {said}");
}

#[test]
fn a_forward_outlives_a_restart_of_the_workspace() {
    let Some(deployment) = alone() else { return };
    let (Some(stop), Some(start)) =
        (variable("CODERCTL_TEST_STOP"), variable("CODERCTL_TEST_START"))
    else {
        return;
    };
    let remote = crate::support::service(|mut connection| {
        connection.write_all(b"hello").unwrap();
    });
    let mut forward = Running::start(deployment.coderctl(&[
        "port-forward",
        "dev",
        "--tcp",
        &format!("127.0.0.1:0:{remote}"),
    ]));
    let local = crate::support::local_port(&forward.wait_for("Forwarding"));
    forward.wait_for("Ready!");
    host(&stop, "dev");
    host(&start, "dev");
    let mut connection =
        std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, local)).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "hello");
    forward.signal("INT");
    assert_eq!(forward.finish().0, Some(0));
}
