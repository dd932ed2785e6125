//! `list`: the table, the JSON, and where the token goes.

use crate::{
    server::{Answer, Server},
    support::{Home, TOKEN, assert_golden},
};

/// Two workspaces: one ordinary, one whose owner plays tricks.
pub const WORKSPACES: &str = r#"{"count":2,"workspaces":[
  {"id":"0199d2c3-7f4a-7c1e-9a60-2f1c5b8d3e4f","name":"dev","owner_name":"bob","owner_id":"5b7e1b5c-9c0f-4a60-8d39-7a1c9c1b2f10",
   "template_name":"docker","outdated":true,"dormant_at":null,"health":{"healthy":true,"failing_agents":[]},
   "latest_build":{"id":"0199d2c3-0000-7c1e-9a60-2f1c5b8d3e4f","build_number":3,"transition":"start","status":"running",
     "template_version_id":"0199d2c3-2222-7c1e-9a60-2f1c5b8d3e4f",
     "created_at":"2026-11-20T08:30:12.123456789Z","deadline":"2026-11-20T17:30:00+01:00","reason":"initiator",
     "job":{"id":"0199d2c3-1111-7c1e-9a60-2f1c5b8d3e4f","status":"succeeded","completed_at":"2026-11-20T08:31:00Z"},
     "resources":[{"agents":[{"id":"0199d2c3-3333-7c1e-9a60-2f1c5b8d3e4f","name":"main","status":"connected","lifecycle_state":"ready","parent_id":null,"operating_system":"linux","architecture":"amd64","version":"v2.35.0","expanded_directory":"/home/bob","log_sources":[{"id":"0199d2c3-4444-7c1e-9a60-2f1c5b8d3e4f","display_name":"Startup Script"}]}]}]}},
  {"id":"0199d2c3-7f4a-7c1e-9a60-2f1c5b8d3e50","name":"x\u001b]0;owned\u0007\u202e","owner_name":"eve\n","owner_id":"5b7e1b5c-9c0f-4a60-8d39-7a1c9c1b2f10",
   "template_name":"","outdated":false,"dormant_at":"2026-11-01T00:00:00Z","health":{"healthy":false,"failing_agents":[]},
   "latest_build":{"id":"0199d2c3-0000-7c1e-9a60-2f1c5b8d3e50","build_number":1,"transition":"stop","status":"stopped",
     "template_version_id":"0199d2c3-2222-7c1e-9a60-2f1c5b8d3e4f",
     "created_at":"2026-10-01T00:00:00Z","deadline":null,"reason":"dormancy",
     "job":{"id":"0199d2c3-1111-7c1e-9a60-2f1c5b8d3e50","status":"succeeded","completed_at":"2026-10-01T00:00:05Z"},
     "resources":[]}}]}"#;

fn deployment() -> Server {
    Server::http(|line| match line.split('?').next() {
        Some("GET /api/v2/workspaces") => Answer::json(200, WORKSPACES),
        _ => Answer::json(404, r#"{"message":"Route not found."}"#),
    })
}

#[test]
fn a_table_for_people_and_an_array_for_scripts() {
    let server = deployment();
    let home = Home::at(&server.url());
    let seen = [
        &["list"][..],
        &["ls", "-a", "-c", "name, last built,agents"],
        &["list", "-o", "json"],
        &["list", "-c", "cost"],
    ];
    assert_golden("list", &seen.map(|arguments| home.run(arguments)));
}

#[test]
fn nothing_found_is_said_apart_from_the_data() {
    let server = Server::http(|_| Answer::json(200, r#"{"workspaces":[],"count":0}"#));
    let home = Home::at(&server.url());
    let seen = [&["list"][..], &["list", "-o", "json"], &["-q", "list"]];
    assert_golden("list-nothing", &seen.map(|arguments| home.run(arguments)));
}

#[test]
fn the_search_reaches_the_server() {
    let server = deployment();
    let home = Home::at(&server.url());
    home.run(&["list"]);
    home.run(&["list", "--search", "status:running a&b"]);
    let lines: Vec<_> = server.requests().into_iter().map(|request| request.line).collect();
    assert!(lines[0].contains("q=owner%3Ame"), "{lines:?}");
    assert!(lines[1].contains("a%26b"), "{lines:?}");
}

#[test]
fn token_and_headers_go_with_each_request() {
    let server = deployment();
    let home = Home::at(&server.url())
        .with("CODER_HEADER", "X-One=1,X-Two=2")
        .with("CODER_HEADER_COMMAND", "echo X-Url=$CODER_URL");
    let seen = home.run(&["--header", "X-Three=3", "list", "--header", "X-Four=4"]);
    assert_eq!(seen.code, Some(0), "{seen:?}");
    let request = &server.requests()[0];
    assert_eq!(request.header("Coder-Session-Token"), Some(TOKEN));
    for (name, value) in [
        ("X-One", "1"),
        ("X-Two", "2"),
        ("X-Three", "3"),
        ("X-Four", "4"),
        ("X-Url", &server.url()),
    ] {
        assert_eq!(request.header(name), Some(value), "{request:?}");
    }
}

#[test]
fn a_stored_token_goes_only_to_the_url_that_it_was_stored_for() {
    let server = deployment();
    let home = Home::new().logged_in("https://elsewhere.example.com");
    let seen = home.run(&["--url", &server.url(), "list"]);
    assert_eq!(seen.code, Some(200), "{seen:?}");
    assert!(seen.stderr.contains("https://elsewhere.example.com"), "{seen:?}");
    assert!(server.requests().is_empty());
    // Case and a slash at the end make no other deployment.
    let home = Home::new().logged_in(&format!("{}/", server.url().to_uppercase()));
    let seen = home.run(&["--url", &server.url(), "list"]);
    assert_eq!(seen.code, Some(0), "{seen:?}");
}
