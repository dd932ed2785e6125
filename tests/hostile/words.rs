//! Words of strangers reach nobody's terminal as they are.

use serde_json::json;

use crate::{
    deployment::{Deployment, Plan, scripted, workspace},
    http::{Reply, Say},
};

const EVIL: &str = "\u{1b}]0;title\u{7}\u{9b}31m\u{202e}\r";
const SEEN: &str = "\\x1b]0;title\\x07\\u{9b}31m\\u{202e}";

#[tokio::test]
async fn build_logs_are_shown_harmlessly() {
    let line = |id: u32, stage: &str, output: &str| json!({"id": id, "stage": stage, "log_level": "info", "output": output});
    let lines = vec![
        line(1, EVIL, &format!("{EVIL}x")),
        line(2, "Applying\nerror: fake", "two\nerror: fake"),
    ];
    let mut stopped = Plan::default().workspace;
    stopped["latest_build"]["transition"] = json!("stop");
    let plan =
        Plan { workspace: stopped, build: (lines, Some(("succeeded", ""))), ..Plan::default() };
    let seen = Deployment::start(plan).await.ssh_works().await;
    assert!(seen.stderr.contains(SEEN), "{seen:?}");
    assert!(!seen.stderr.lines().any(|line| line.starts_with("error: fake")), "{seen:?}");
}

#[tokio::test]
async fn what_a_server_says_of_its_errors_is_shown_harmlessly() {
    let plan = scripted(|line, _, _| {
        let body = json!({
            "message": EVIL, "detail": format!("{EVIL}\nhint: rm"),
            "validations": [{"field": EVIL, "detail": EVIL}],
        });
        line.ends_with("/workspace/dev").then(|| Reply::Json(400, body.to_string()))
    });
    let seen = Deployment::start(plan).await.ssh_fails(1, &[SEEN]).await;
    assert!(!seen.stderr.lines().any(|line| line.starts_with("hint: rm")), "{seen:?}");
}

#[tokio::test]
async fn what_a_watch_says_of_its_errors_is_shown_harmlessly() {
    let plan = scripted(|line, _, _| {
        let error = json!({"error": {"code": 6, "retryable": false, "message": EVIL}});
        let watch = line.ends_with("/agent-connection-watch");
        watch.then(|| Reply::Socket(vec![Say::Text(error.to_string())]))
    });
    let plan = Plan { workspace: workspace("start", "running", &[]), ..plan };
    Deployment::start(plan).await.ssh_fails(212, &[SEEN]).await;
}

#[tokio::test]
async fn words_of_states_that_nobody_knows_are_shown_harmlessly_or_not_at_all() {
    let mut odd = Plan::default().workspace;
    odd["latest_build"]["job"]["status"] = json!(EVIL);
    odd["latest_build"]["transition"] = json!(EVIL);
    odd["name"] = json!(EVIL);
    let deployment = Deployment::start(Plan { workspace: odd, ..Plan::default() }).await;
    let program = deployment.start_program(&["ssh", "dev", "--", "exit", "0"]);
    deployment
        .until(
            &format!(
                "GET /api/v2/workspaces/{}/agent-connection-watch",
                crate::deployment::WORKSPACE
            ),
            1,
        )
        .await;
    program.signal(rustix::process::Signal::INT);
    program.end().await.fails(130, &[]);
}

/// The debug log is asked for, and told to people as well.
#[tokio::test]
async fn the_debug_log_is_harmless_and_without_the_token() {
    let mut stopped = Plan::default().workspace;
    stopped["latest_build"]["transition"] = json!("stop");
    let log = vec![json!({"id": 1, "stage": EVIL, "output": EVIL})];
    let plan = Plan { workspace: stopped, build: (log, Some(("failed", EVIL))), ..Plan::default() };
    let deployment = Deployment::start(plan).await;
    let seen = deployment.run(&["-vv", "ssh", "dev", "--", "exit", "0"]).await;
    assert_eq!(seen.code, Some(204), "{seen:?}");
    assert!(seen.stderr.contains(SEEN), "{seen:?}");
}

/// Everything that the libraries beneath log, too.
#[tokio::test]
async fn no_log_shows_the_token() {
    let deployment = Deployment::well().await;
    let arguments = ["-vv", "ssh", "dev", "--", "exit", "3"];
    let seen = deployment.start_with(&arguments, &[("CODERCTL_LOG", "trace")]).end().await;
    assert_eq!(seen.code, Some(3), "{seen:?}");
    assert!(seen.stderr.contains("DEBUG"), "{seen:?}");
}
