//! `ssh`: commands, shells, bytes and statuses.

use crate::support::{feed, noise, shared, variable};

#[test]
fn list_names_the_workspaces_as_json() {
    let Some(deployment) = shared() else { return };
    let output = deployment.run(&["list", "-o", "json"], b"");
    assert!(output.status.success(), "{output:?}");
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&str> =
        list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"dev"), "{names:?}");
}

#[test]
fn a_command_keeps_stdout_stderr_and_its_status_apart() {
    let Some(deployment) = shared() else { return };
    let output = deployment
        .run(&["ssh", "dev", "--", "echo out; echo err >&2; cat; exit 7"], b"in\n\x00\xff");
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(output.stdout, b"out\nin\n\x00\xff");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
}

#[test]
fn flags_before_the_first_word_are_ours_and_after_it_the_commands() {
    let Some(deployment) = shared() else { return };
    let output = deployment.run(&["ssh", "dev", "-e", "GREETING=hi", "printenv", "GREETING"], b"");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hi\n", "{output:?}");
    let output = deployment.run(&["ssh", "dev", "ls", "-d", "/"], b"");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "/\n", "{output:?}");
}

#[test]
fn a_quarter_gibibyte_each_way_arrives_with_equal_hashes() {
    let Some(deployment) = shared() else { return };
    let data = noise(7, 256 << 20);
    let local = feed(std::process::Command::new("sha256sum"), &data).stdout;
    let up = deployment.run(&["ssh", "dev", "--", "sha256sum"], &data);
    assert!(up.status.success(), "{:?}", String::from_utf8_lossy(&up.stderr));
    assert_eq!(up.stdout, local);
    let both = deployment.run(&["ssh", "dev", "--", "cat"], &data);
    assert!(both.status.success(), "{:?}", String::from_utf8_lossy(&both.stderr));
    assert!(both.stdout == data, "what came back differs ({} bytes)", both.stdout.len());
}

#[test]
fn a_tar_pipe_ends_when_its_input_ends() {
    let Some(deployment) = shared() else { return };
    let from = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    std::fs::write(from.path().join("one"), noise(1, 3_000_001)).unwrap();
    std::fs::write(from.path().join("two"), b"").unwrap();
    let archive = std::process::Command::new("tar")
        .args(["-c", "-C", from.path().to_str().unwrap(), "."])
        .output()
        .unwrap()
        .stdout;
    let target = to.path().to_str().unwrap();
    let output = deployment.run(&["ssh", "dev", "--", "tar", "x", "-C", target], &archive);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(std::fs::read(to.path().join("one")).unwrap(), noise(1, 3_000_001));
    assert!(to.path().join("two").exists());
}

#[test]
fn a_shell_on_a_pipe_has_a_terminal_and_runs_what_it_reads() {
    let Some(deployment) = shared() else { return };
    let output = deployment.run(&["ssh", "dev"], b"test -t 0 && echo a-$((40+2))-tty\nexit 3\n");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("a-42-tty"), "{text}");
    assert_eq!(output.status.code(), Some(3), "{text}");
}

#[test]
fn a_signal_reaches_the_command() {
    let Some(deployment) = shared() else { return };
    let mut running = crate::support::Running::start(deployment.coderctl(&[
        "ssh",
        "dev",
        "--",
        "trap 'echo caught >&2; exit 9' TERM; echo set >&2; while :; do sleep 0.05; done",
    ]));
    running.wait_for("set");
    running.signal("TERM");
    running.wait_for("caught");
    assert_eq!(running.finish().0, Some(9));
}

#[test]
fn output_into_a_closed_pipe_ends_quietly() {
    let Some(deployment) = shared() else { return };
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "\"$0\" ssh dev -- yes | head -n 1", crate::support::binary()]);
    deployment.equip(&mut command);
    let output = feed(command, b"");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "y\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// `CODERCTL_TEST_CONTAINER` names a workspace and a container there, `WORKSPACE/CONTAINER`.
#[test]
fn a_session_in_a_container() {
    let Some(deployment) = shared() else { return };
    let Some(place) = variable("CODERCTL_TEST_CONTAINER") else { return };
    let (workspace, container) = place.split_once('/').unwrap();
    // A Go agent gives `docker exec` a terminal, and so it needs one.
    let line = ["ssh", workspace, "-t", "-c", container, "--", "echo in; exit 7"];
    let output = deployment.run(&line, b"");
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "in\r\n", "{output:?}");
    let output = deployment.run(&["ssh", workspace, "-c", "nowhere", "--", "echo never"], b"");
    assert_eq!(output.status.code(), Some(211), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("there is no container `nowhere` in the workspace"), "{said}");
    assert!(said.contains(&format!("`{container}`")), "{said}");
    assert!(output.stdout.is_empty());
}
