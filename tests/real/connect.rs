//! Every state that a workspace can be in ends in a connection or in one error with its own code.

use crate::support::{Deployment, alone, shared, variable};

fn fails<G>(deployment: &Deployment<G>, arguments: &[&str], code: i32, needle: &str) {
    let output = deployment.run(arguments, b"");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(said.contains(needle), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
}

#[test]
fn a_hundred_connects_in_a_row_need_one_handshake_each() {
    let Some(deployment) = shared() else { return };
    for round in 0..100 {
        let output = deployment.run(&["-v", "ssh", "dev", "--", "true"], b"");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "round {round}: {said}");
        assert!(said.contains("1 handshake"), "round {round}: {said}");
    }
}

#[test]
fn each_dead_end_has_its_own_code() {
    let Some(deployment) = shared() else { return };
    fails(&deployment, &["ssh", "no-such-workspace", "--", "true"], 201, "no-such-workspace");
    fails(&deployment, &["ssh", "two", "--", "true"], 202, "cpu");
    fails(&deployment, &["ssh", "two.nope", "--", "true"], 202, "cpu, gpu");
    fails(&deployment, &["ssh", "noagent", "--", "true"], 202, "no agent");
    fails(&deployment, &["ssh", "badbuild", "--", "true"], 203, "failed");
    fails(
        &deployment,
        &["ssh", "--disable-autostart", "stopped-one", "--", "true"],
        203,
        "stopped",
    );
    fails(&deployment, &["ssh", "gone", "--", "true"], 201, "gone");
}

#[test]
fn a_named_agent_of_several_is_used() {
    let Some(deployment) = shared() else { return };
    let output = deployment.run(&["ssh", "two.cpu", "--", "echo", "here"], b"");
    assert_eq!(output.stdout, b"here\n", "{output:?}");
}

#[test]
fn failed_and_timed_out_scripts_warn_and_connect() {
    let Some(deployment) = shared() else { return };
    for workspace in ["fails", "timeouts"] {
        let output = deployment.run(&["ssh", workspace, "--", "echo", "here"], b"");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.stdout, b"here\n", "{workspace}: {said}");
        assert!(said.contains("script"), "{workspace}: {said}");
    }
}

#[test]
fn a_stopped_workspace_is_started_shown_and_connected() {
    let Some(deployment) = alone() else { return };
    let Some(stop) = variable("CODERCTL_TEST_STOP") else { return };
    crate::support::host(&stop, "stopped-one");
    let output = deployment.run(&["ssh", "stopped-one", "--", "echo", "here"], b"");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.stdout, b"here\n", "{said}");
    assert!(output.status.success(), "{said}");
    assert!(said.contains("starting"), "{said}");
    crate::support::host(&stop, "stopped-one");
}

#[test]
fn two_commands_that_start_the_same_workspace_both_connect() {
    let Some(deployment) = alone() else { return };
    let Some(stop) = variable("CODERCTL_TEST_STOP") else { return };
    crate::support::host(&stop, "stopped-one");
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| deployment.run(&["ssh", "stopped-one", "--", "echo", "here"], b""))
            })
            .collect();
        for run in runs {
            let output = run.join().unwrap();
            assert_eq!(output.stdout, b"here\n", "{}", String::from_utf8_lossy(&output.stderr));
        }
    });
    crate::support::host(&stop, "stopped-one");
}

#[test]
fn an_agent_that_survived_a_restart_and_reports_nothing_is_said_and_used() {
    let Some(deployment) = alone() else { return };
    let (Some(stop), Some(start)) =
        (variable("CODERCTL_TEST_STOP"), variable("CODERCTL_TEST_START"))
    else {
        return;
    };
    crate::support::host(&stop, "survivor");
    crate::support::host(&start, "survivor");
    let output = deployment.run(&["ssh", "--wait=yes", "survivor", "--", "echo", "here"], b"");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.stdout, b"here\n", "{said}");
    assert!(said.contains("never reported"), "{said}");
}
