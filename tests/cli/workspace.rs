//! `show`, `logs` and `wait`, of one workspace.

use crate::{
    list::WORKSPACES,
    server::{Answer, Server},
    support::{Home, assert_golden},
};

const BUILD_LOG: &str = r#"[
  {"id":1,"created_at":"2026-11-20T08:30:12.5Z","log_level":"info","stage":"Planning","output":"\u001b[32mfine\u001b[0m \u001b[2J"},
  {"id":2,"created_at":"2026-11-20T08:30:14Z","log_level":"error","stage":"Cleaning Up","output":""}]"#;

const AGENT_LOG: &str = r#"[
  {"id":7,"created_at":"2026-11-20T08:30:13.25Z","level":"info","source_id":"0199d2c3-4444-7c1e-9a60-2f1c5b8d3e4f","output":"hello\r\n"},
  {"id":8,"created_at":"2026-11-20T08:31:00Z","level":"warn","source_id":"00000000-0000-0000-0000-000000000000","output":"whose?"}]"#;

/// A deployment with two workspaces: `dev`, and one whose owner plays tricks.
fn deployment() -> Server {
    let all: serde_json::Value = serde_json::from_str(WORKSPACES).unwrap();
    Server::http(move |line| {
        let one = |index: usize| Answer::json(200, all["workspaces"][index].to_string());
        match line.split('?').next().unwrap_or_default() {
            "GET /api/v2/users/me/workspace/dev" => one(0),
            "GET /api/v2/users/eve/workspace/x" => one(1),
            "GET /api/v2/workspacebuilds/0199d2c3-0000-7c1e-9a60-2f1c5b8d3e4f/logs" => {
                Answer::json(200, BUILD_LOG)
            }
            "GET /api/v2/workspaceagents/0199d2c3-3333-7c1e-9a60-2f1c5b8d3e4f/logs" => {
                Answer::json(200, AGENT_LOG)
            }
            "GET /api/v2/workspacebuilds/0199d2c3-0000-7c1e-9a60-2f1c5b8d3e50/logs" => {
                Answer::json(200, "null")
            }
            _ => Answer::json(404, r#"{"message":"Resource not found."}"#),
        }
    })
}

#[test]
fn one_workspace_for_people_and_for_scripts() {
    let server = deployment();
    let home = Home::at(&server.url());
    let seen = [
        &["show", "dev"][..],
        &["show", "dev", "-o", "json"],
        &["show", "eve/x"],
        &["show", "nowhere"],
    ];
    assert_golden("show", &seen.map(|arguments| home.run(arguments)));
}

#[test]
fn logs_are_in_the_order_in_which_they_were_written() {
    let server = deployment();
    let home = Home::at(&server.url());
    let seen = [
        &["logs", "dev"][..],
        &["logs", "dev", "-o", "json"],
        &["logs", "dev.main"],
        &["logs", "dev.other"],
        &["logs", "eve/x"],
        &["logs", "dev", "-n", "-3"],
        &["logs", "dev", "-n", "2"],
    ];
    assert_golden("logs", &seen.map(|arguments| home.run(arguments)));
}

#[test]
fn what_is_so_already_is_not_waited_for_and_what_cannot_come_neither() {
    let server = deployment();
    let home = Home::at(&server.url());
    // How long it took is different each time.
    let run = |arguments: &[&str]| {
        let mut seen = home.run(arguments);
        let without_time = |line: &str| match line.rsplit_once(" [") {
            Some((stage, _)) if line.starts_with("===") => format!("{stage} [$TIME]\n"),
            Some(_) | None => format!("{line}\n"),
        };
        seen.stderr = seen.stderr.lines().map(without_time).collect();
        seen
    };
    let seen = [
        run(&["wait", "dev"]),
        run(&["wait", "dev", "--for", "started"]),
        run(&["-q", "wait", "eve/x", "--for", "stopped", "-o", "json"]),
        run(&["wait", "dev.other", "--for", "connected"]),
        run(&["wait", "nowhere"]),
        run(&["wait", "nowhere", "--for", "deleted"]),
        run(&["wait", "dev", "--for", "happiness"]),
    ];
    assert_golden("wait", &seen);
    let late = home.run(&["wait", "dev", "--for", "stopped", "--timeout", "10ms"]);
    assert_eq!(late.code, Some(207), "{late:?}");
    assert!(late.stderr.contains("workspace `dev` was not stopped within 10ms: "), "{late:?}");
}
