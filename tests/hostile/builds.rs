//! Workspaces in every state, and builds that end in every way.

use serde_json::{Value, json};

use crate::{
    deployment::{AGENT, Deployment, Plan, WORKSPACE, agent, scripted, workspace},
    http::{Reply, Say},
};

fn stopped() -> Value {
    workspace("stop", "succeeded", &[agent("main", "ready")])
}

fn at(workspace: Value) -> Plan {
    Plan { workspace, ..Plan::default() }
}

#[tokio::test]
async fn a_stopped_workspace_is_started_and_connected_to() {
    let lines = [
        json!({"id": 1, "stage": "Planning", "log_level": "info", "output": "a plan"}),
        json!({"id": 2, "stage": "Planning", "log_level": "debug", "output": "a detail"}),
        json!({"id": 3, "stage": "Applying", "log_level": "info", "output": "done"}),
    ];
    let ends = Some(("succeeded", ""));
    let deployment =
        Deployment::start(Plan { build: (lines.to_vec(), ends), ..at(stopped()) }).await;
    let seen = deployment.ssh_works().await;
    for line in ["starting workspace", "build | Planning", "build |   a plan", "build | Applying"] {
        assert!(seen.stderr.contains(line), "no {line:?} in {}", seen.stderr);
    }
    assert!(!seen.stderr.contains("a detail"), "{}", seen.stderr);
    deployment.assert_left();
}

#[tokio::test]
async fn a_build_that_fails_or_is_canceled_is_told_as_such() {
    for status in ["failed", "canceled"] {
        let plan = Plan { build: (Vec::new(), Some((status, ""))), ..at(stopped()) };
        let deployment = Deployment::start(plan).await;
        deployment
            .ssh_fails(204, &[&format!("`dev` {status}").replace("` canceled", "` was canceled")])
            .await;
        deployment.assert_left();
    }
}

#[tokio::test]
async fn a_build_that_fails_is_told_with_its_reason() {
    let build = (Vec::new(), Some(("failed", "no\u{1b}[31m quota\nhint: run rm")));
    let deployment = Deployment::start(Plan { build, ..at(stopped()) }).await;
    let seen = deployment.ssh_fails(204, &["failed", "no\\x1b[31m quota"]).await;
    assert!(!seen.stderr.lines().any(|line| line.starts_with("hint: run rm")), "{seen:?}");
}

/// One that failed before is told with its reason.
#[tokio::test]
async fn a_workspace_that_failed_is_told_with_its_reason() {
    let mut failed = workspace("start", "failed", &[]);
    failed["latest_build"]["job"]["error"] = json!("no\u{1b}[31m quota\nhint: run rm");
    let deployment = Deployment::start(at(failed)).await;
    let seen = deployment.ssh_fails(203, &["failed", "no\\x1b[31m quota"]).await;
    assert!(!seen.stderr.lines().any(|line| line.starts_with("hint: run rm")), "{seen:?}");
}

#[tokio::test]
async fn a_start_that_is_refused_is_told_with_the_servers_words() {
    for (status, code, words) in [
        (400, 203, ["could not be started", "Template \\x1b[2Jis gone"]),
        (401, 200, ["token is refused", "coderctl login"]),
        (403, 203, ["could not be started", "Template \\x1b[2Jis gone"]),
    ] {
        let plan = scripted(move |line, _, _| {
            let body = "Template \u{1b}[2Jis gone";
            line.ends_with("/builds").then(|| Reply::error(status, body))
        });
        let deployment = Deployment::start(Plan { workspace: stopped(), ..plan }).await;
        deployment.ssh_fails(code, &words).await;
    }
}

#[tokio::test]
async fn somebody_elses_build_is_waited_for() {
    let plan = scripted(|line, _, state| {
        line.ends_with("/builds").then(|| {
            state.turn(workspace("start", "running", &[]));
            state.turn(workspace("start", "succeeded", &[agent("main", "ready")]));
            Reply::error(409, "A workspace build is already active.")
        })
    });
    let deployment = Deployment::start(Plan { workspace: stopped(), ..plan }).await;
    let seen = deployment.ssh_works().await;
    assert!(!seen.stderr.contains("error"), "{seen:?}");
}

/// The server says that a build is active, and shows none.
#[tokio::test]
async fn a_build_that_only_the_server_knows_of_is_not_waited_for_without_end() {
    let plan = scripted(|line, _, _| {
        line.ends_with("/builds").then(|| Reply::error(409, "A workspace build is already active."))
    });
    let deployment = Deployment::start(Plan { workspace: stopped(), ..plan }).await;
    deployment.ssh_gives_up(203, &["could not be started", "already active"]).await;
}

#[tokio::test]
async fn what_may_not_be_started_is_not() {
    let mut dormant = stopped();
    dormant["dormant_at"] = json!("2026-11-01T00:00:00Z");
    let rows = [
        (stopped(), ["is stopped", "--disable-autostart"]),
        (dormant, ["is dormant", "--disable-autostart"]),
        (workspace("start", "failed", &[]), ["failed", "build the workspace again"]),
    ];
    for (workspace, words) in rows {
        let deployment = Deployment::start(at(workspace)).await;
        let arguments = ["ssh", "dev", "--disable-autostart", "--", "exit", "0"];
        deployment.run(&arguments).await.fails(203, &words);
        assert!(!deployment.journal().iter().any(|entry| entry.ends_with("/builds")));
    }
}

#[tokio::test]
async fn a_dormant_workspace_is_started() {
    let mut dormant = stopped();
    dormant["dormant_at"] = json!("2026-11-01T00:00:00Z");
    let deployment = Deployment::start(at(dormant)).await;
    let seen = deployment.ssh_works().await;
    assert!(seen.stderr.contains("dormant workspace dev"), "{seen:?}");
}

#[tokio::test]
async fn a_workspace_that_is_deleted_while_it_is_waited_for_is_told_as_such() {
    let deployment = Deployment::start(Plan { build: (Vec::new(), None), ..at(stopped()) }).await;
    let mut program = deployment.start_program(&["ssh", "dev", "--", "exit", "0"]);
    program.until_said("starting workspace").await;
    let log = format!("GET /api/v2/workspacebuilds/{}/logs", crate::deployment::BUILD);
    deployment.until(&log, 1).await;
    deployment.state.turn(workspace("delete", "running", &[]));
    program.end().await.fails(205, &["`dev` is deleted"]);
    deployment.assert_left();

    let gone = scripted(|line, _, _| {
        line.ends_with("/workspace/dev").then(|| Reply::error(410, "Workspace was deleted"))
    });
    Deployment::start(gone).await.ssh_fails(205, &["deleted"]).await;
}

#[tokio::test]
async fn a_workspace_that_is_stopped_under_a_session_ends_it_with_the_reason() {
    let deployment = Deployment::well().await;
    let mut program = deployment.start_program(&["ssh", "dev", "--", "hold"]);
    assert_eq!(program.hear(6).await, "ready\n");
    let watch = format!("GET /api/v2/workspaces/{WORKSPACE}/agent-connection-watch");
    deployment.until(&watch, 1).await;
    deployment.state.turn(workspace("stop", "running", &[]));
    deployment.state.turn(stopped());
    program.end().await.fails(203, &["`dev` was stopped"]);
    deployment.assert_left();
}

#[tokio::test]
async fn agents_that_cannot_be_chosen_are_listed_harmlessly() {
    let two = [agent("main", "ready"), agent("evil\u{1b}]0;x\u{7}\u{202e}", "ready")];
    let rows = [
        (workspace("start", "succeeded", &[]), "dev", ["no agents", ""]),
        (workspace("start", "succeeded", &two), "dev", ["several agents", "evil\\x1b]0;x\\x07"]),
        (workspace("start", "succeeded", &two), "dev.x", ["no agent of that name", "\\u{202e}"]),
    ];
    for (workspace, name, words) in rows {
        let deployment = Deployment::start(at(workspace)).await;
        deployment.run(&["ssh", name, "--", "exit", "0"]).await.fails(202, &words);
    }
}

#[tokio::test]
async fn blocking_scripts_are_waited_for_and_what_they_say_is_shown_harmlessly() {
    let mut running = agent("main", "starting");
    let source = "11111111-2222-4333-8444-555555555555";
    running["scripts"] = json!([{"run_on_start": true, "start_blocks_login": true}]);
    running["log_sources"] = json!([{"id": source, "display_name": "set\u{1b}[2Jup\nx"}]);
    let line = |id: u32, output: &str| json!({"id": id, "source_id": source, "output": output});
    let lines = json!([line(1, "\u{1b}[1;32mgreen\u{1b}[0m"), line(2, "\u{1b}]52;c;eA==\u{7}\rx")]);
    let log = lines.to_string();
    let mut ready = running.clone();
    ready["lifecycle_state"] = json!("ready");
    let plan = scripted(move |path, _, _| {
        let logs = path.ends_with(&format!("/workspaceagents/{AGENT}/logs"));
        logs.then(|| Reply::Socket(vec![Say::Text(log.clone())]))
    });
    let starting = workspace("start", "succeeded", std::slice::from_ref(&running));
    let deployment = Deployment::start(Plan { workspace: starting, ..plan }).await;
    let mut program = deployment.start_program(&["ssh", "dev", "--", "exit", "3"]);
    let line = program.until_said("green").await;
    assert_eq!(line, "set\\x1b[2Jup\\nx | green");
    program.until_said("\\x1b]52;c;eA==\\x07\\rx").await;
    deployment.state.turn(workspace("start", "succeeded", &[ready]));
    deployment.state.tell(json!({"agent_update": {"id": AGENT, "lifecycle": "ready"}}).to_string());
    assert_eq!(program.end().await.code, Some(3));
}

#[tokio::test]
async fn scripts_that_failed_are_a_warning() {
    for (lifecycle, words) in
        [("start_error", "exited with an error"), ("start_timeout", "timed out")]
    {
        let mut failed = agent("main", lifecycle);
        failed["scripts"] = json!([{"run_on_start": true, "start_blocks_login": true}]);
        let deployment = Deployment::start(at(workspace("start", "succeeded", &[failed]))).await;
        let seen = deployment.ssh_works().await;
        assert!(seen.stderr.contains(words), "{seen:?}");
    }
}
