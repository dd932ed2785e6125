//! Servers that say no.

use futures_util::future::join_all;
use serde_json::json;

use crate::{
    deployment::{CUT, Deployment, Plan, WORKSPACE, scripted, workspace},
    http::Reply,
    program::SHORT,
};

/// Answers calls that end like one of these with an error.
fn refusing(ends: &'static [&'static str], status: u16, body: serde_json::Value) -> Plan {
    scripted(move |line, _, _| {
        let refused = ends.iter().any(|end| line.ends_with(end));
        refused.then(|| Reply::Json(status, body.to_string()))
    })
}

const COORDINATION: &[&str] = &["/api/v2/tailnet", "/coordinate"];

#[tokio::test]
async fn a_coordinator_that_refuses_the_token_or_the_version_has_their_exit_codes() {
    let version = json!({
        "message": "Unknown or unsupported API version",
        "detail": "server is at version 3.1, behind requested major version 2.0",
        "validations": [{"field": "version", "detail": "3.1"}],
    });
    let signed_out = json!({"message": "You are signed out", "detail": "API key is invalid."});
    let rows = [
        (400, version, 212, ["3.1", "2.0"]),
        (401, signed_out, 200, ["refused", "coderctl login"]),
    ];
    join_all(rows.map(|(status, body, code, words)| async move {
        let deployment = Deployment::start(refusing(COORDINATION, status, body)).await;
        deployment.ssh_gives_up(code, &words).await;
    }))
    .await;
}

#[tokio::test]
async fn a_coordinator_that_refuses_says_why() {
    let rows = [
        (404, json!({"message": "Resource not found"}), 209, ["404", "Resource not found"]),
        (
            409,
            json!({"message": "Agent is in an\u{1b}[2J odd state"}),
            209,
            ["409", "\\x1b[2J odd"],
        ),
        (500, json!({"message": "Internal error"}), 209, ["500", "Internal error"]),
    ];
    join_all(rows.map(|(status, body, code, words)| async move {
        let deployment = Deployment::start(refusing(COORDINATION, status, body)).await;
        deployment.ssh_gives_up(code, &words).await;
    }))
    .await;
}

#[tokio::test]
async fn a_coordinator_that_is_unwell_is_dialled_again() {
    let plan = scripted(|line, before, _| {
        (line.ends_with("/tailnet") && before < 3).then(|| Reply::error(502, "bad gateway"))
    });
    let comes_back = async { Deployment::start(plan).await.ssh_works().await };
    let stays_away = async {
        let plan = refusing(COORDINATION, 503, json!({"message": "going down"}));
        let deployment = Deployment::start(plan).await;
        deployment.ssh_gives_up(209, &["coordinator", "503", "going down"]).await
    };
    tokio::join!(comes_back, stays_away);
}

#[tokio::test]
async fn a_relay_that_refuses_is_named_with_its_answer() {
    let rows = [404, 502].map(|status| async move {
        let plan = refusing(&["/derp"], status, json!({"message": "no"}));
        let deployment = Deployment::start(plan).await;
        deployment.ssh_gives_up(209, &["relay", &status.to_string()]).await;
    });
    let plan = scripted(|line, before, _| {
        (line.ends_with("/derp") && before < 3).then(|| Reply::error(502, "bad gateway"))
    });
    let comes_back = async { Deployment::start(plan).await.ssh_works().await };
    tokio::join!(join_all(rows), comes_back);
}

#[tokio::test]
async fn a_deployment_without_relays_is_told_as_such() {
    let plan = Plan {
        coordinator: crate::coordinator::Coordinator::Maps(Default::default()),
        ..scripted(|line, _, _| {
            let map = json!({"derp_map": {"Regions": {}}});
            line.ends_with("/connection").then(|| Reply::Json(200, map.to_string()))
        })
    };
    Deployment::start(plan).await.ssh_gives_up(209, &["the deployment has no relay"]).await;
}

#[tokio::test]
async fn a_watch_that_is_refused_ends_the_wait_for_a_build() {
    let rows = [
        (401, 200, "coderctl login"),
        (403, 212, "refuses to tell about workspace `dev`"),
        (410, 205, "deleted"),
    ];
    join_all(rows.map(|(status, code, words)| async move {
        let plan = refusing(&["/agent-connection-watch"], status, json!({"message": "No."}));
        let plan = Plan { workspace: workspace("start", "running", &[]), ..plan };
        Deployment::start(plan).await.ssh_fails(code, &[words]).await;
    }))
    .await;
}

#[tokio::test]
async fn access_that_is_lost_ends_the_wait_for_a_build() {
    let plan = scripted(|line, _, _| {
        let known = !line.contains("/workspaces/");
        (!known).then(|| Reply::error(404, "Resource not found or you do not have access"))
    });
    let plan = Plan { workspace: workspace("start", "running", &[]), ..plan };
    Deployment::start(plan).await.ssh_fails(201, &["`dev`", "no access"]).await;
}

/// Neither the token nor anything else goes there.
#[tokio::test]
async fn a_server_that_sends_us_elsewhere_is_not_followed() {
    let rows = [
        ("/workspace/dev", 208, "redirects"),
        ("/api/v2/tailnet", 209, "302"),
        ("/derp", 209, "302"),
    ];
    join_all(rows.map(|(end, code, words)| async move {
        let elsewhere = Deployment::well().await;
        let target = elsewhere.url().replace("127.0.0.1", "localhost");
        let head = format!(
            "HTTP/1.1 302 Found\r\nLocation: {target}{end}\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        );
        let plan = scripted(move |line, _, _| {
            line.ends_with(end).then(|| Reply::Bytes(head.clone().into_bytes()))
        });
        Deployment::start(plan).await.ssh_gives_up(code, &[words]).await;
        assert_eq!(elsewhere.journal(), [""; 0], "{end}");
    }))
    .await;
}

#[tokio::test]
async fn a_token_that_is_refused_under_a_live_session_ends_nothing() {
    let refuse = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let refused = std::sync::Arc::clone(&refuse);
    let deployment = Deployment::start(scripted(move |_, _, _| {
        let refused = refused.load(std::sync::atomic::Ordering::SeqCst);
        refused.then(|| Reply::error(401, "API key is invalid."))
    }))
    .await;
    let mut program = deployment.start_program(&["ssh", "dev", "--", "cat"]);
    program.say(b"one").await;
    assert_eq!(program.hear(3).await, "one");
    deployment
        .until(&format!("GET /api/v2/workspaces/{WORKSPACE}/agent-connection-watch"), 1)
        .await;
    refuse.store(true, std::sync::atomic::Ordering::SeqCst);
    deployment.state.tell(CUT);
    program.until_said("the session token is refused now").await;
    program.say(b"two").await;
    assert_eq!(program.hear(3).await, "two");
    let seen = program.end().await;
    assert_eq!(seen.code, Some(0), "{seen:?}");
    assert_eq!(seen.stderr.matches("token").count(), 1, "{seen:?}");
}

#[tokio::test]
async fn a_token_that_is_refused_in_mid_flight_ends_what_has_not_begun() {
    let deployment = Deployment::start(scripted(|line, _, _| {
        (!line.ends_with("/workspace/dev")).then(|| Reply::error(401, "API key is invalid."))
    }))
    .await;
    let program = deployment.start_with(&["ssh", "dev", "--", "exit", "0"], &SHORT);
    program.end().await.fails(200, &["token is refused", "coderctl login"]);
}
