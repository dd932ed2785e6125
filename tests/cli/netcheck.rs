//! `netcheck` against deployments where not everything is open. (Where all is: `tests/embedded`.)

use crate::{
    server::{Answer, Server},
    support::{Home, assert_golden},
};

/// A relay inside the control plane whose name plays tricks, and no STUN server.
const MAP: &str = r#"{"derp_map":{"Regions":{"999":{"EmbeddedRelay":true,"RegionID":999,
  "RegionCode":"x\u001b[2J","RegionName":"\u202e","Nodes":[{"Name":"999b","RegionID":999,"STUNPort":-1}]}}},
  "disable_direct_connections":true}"#;

#[test]
fn what_is_closed_is_told_leg_by_leg() {
    let server = Server::http(|line| match line.split('?').next() {
        Some("GET /api/v2/workspaceagents/connection") => Answer::json(200, MAP),
        Some("GET /derp" | "GET /derp/latency-check") => Answer::json(403, "{}"),
        _ => Answer::json(502, "{}"),
    });
    let home = Home::at(&server.url());
    let seen = [&["netcheck"][..], &["netcheck", "-o", "json"]];
    let seen = seen.map(|arguments| home.run(arguments).naming(&address(&server), "SERVER"));
    assert_golden("netcheck-closed", &seen);
}

#[test]
fn a_deployment_that_cannot_be_asked_is_an_error() {
    let answers = [
        (404, r#"{"message":"Route not found."}"#),
        (401, r#"{"message":"You are signed out."}"#),
        (200, r#"{"derp_map":{"Regions":{"-1":{}}}}"#),
        (200, "{}"),
    ];
    let seen = answers.map(|(status, body)| {
        let server = Server::http(move |_| Answer::json(status, body));
        let home = Home::at(&server.url());
        home.run(&["netcheck"]).naming(&address(&server), "SERVER")
    });
    assert_golden("netcheck-refused", &seen);
}

fn address(server: &Server) -> String {
    server.url().trim_start_matches("http://").to_owned()
}
