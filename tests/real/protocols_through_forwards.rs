//! What people use forwards for: databases, HTTP/2, WebSockets, and another client.

use std::process::Command;

use crate::{
    protocols::{ask_http2, ask_postgres, ask_websocket, speak_http2, speak_websocket},
    support::{Running, feed, local_port, noise, service, shared, skipped, variable},
};

#[path = "../../crates/deployment/tests/support/postgres.rs"]
mod postgres;

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        skipped(&format!("{program} is not installed"));
    }
    found
}

#[test]
fn psql_reaches_a_database_behind_a_socket_of_the_workspace() {
    let Some(deployment) = shared() else { return };
    if !has("psql") {
        return;
    }
    let Some(server) = postgres::Postgres::shared("psql") else { return };
    let url = server.url("postgres");
    let directory = url.split_once("?host=").unwrap().1;
    let spec = format!("127.0.0.1:0:{directory}/.s.PGSQL.5432");
    let mut forward = Running::start(deployment.coderctl(&["port-forward", "dev", "-L", &spec]));
    let local = local_port(&forward.wait_for("Forwarding"));
    forward.wait_for("Ready!");
    assert_eq!(ask_postgres(local, "coderctl", "postgres", "select 6 * 7"), "42\n");
    let long = ask_postgres(local, "coderctl", "postgres", "select repeat('x', 3000000)");
    assert_eq!(long.len(), 3_000_001);
}

#[test]
fn http2_and_websockets_through_forwards() {
    let Some(deployment) = shared() else { return };
    let (web, http2) = (service(speak_websocket), service(speak_http2));
    let specs = format!("127.0.0.1:0:{web},127.0.0.1:0:{http2}");
    let mut forward =
        Running::start(deployment.coderctl(&["port-forward", "dev", "--tcp", &specs]));
    let web = local_port(&forward.wait_for("Forwarding"));
    let http2 = local_port(&forward.wait_for("Forwarding"));
    forward.wait_for("Ready!");
    ask_websocket(web, &[0, 1, 70_000, 3_000_000].map(|length| noise(9, length)));
    if has("curl") {
        assert_eq!(ask_http2(http2), "hello over HTTP/2");
    }
}

/// The deployment itself through forwards to it: with TLS by HTTP/2, and with all that a client
/// upgrades to.
#[test]
fn the_deployment_through_forwards_to_it() {
    let Some(deployment) = shared() else { return };
    let port = |url: &str| -> u16 {
        url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap()
    };
    let spec = format!("127.0.0.1:0:{}", port(deployment.url()));
    let mut forward = Running::start(deployment.coderctl(&["port-forward", "dev", "--tcp", &spec]));
    let local = local_port(&forward.wait_for("Forwarding"));
    forward.wait_for("Ready!");
    let mut command = deployment.coderctl(&["ssh", "dev", "--", "echo through; exit 7"]);
    command.env("CODER_URL", format!("http://127.0.0.1:{local}"));
    let output = feed(command, b"");
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(output.stdout, b"through\n");

    let (Some(url), Some(authority)) =
        (variable("CODERCTL_TEST_TLS_URL"), variable("CODERCTL_TEST_CA"))
    else {
        return;
    };
    if !has("curl") {
        return;
    }
    let spec = format!("127.0.0.1:0:{}", port(&url));
    let mut forward = Running::start(deployment.coderctl(&["port-forward", "dev", "--tcp", &spec]));
    let local = local_port(&forward.wait_for("Forwarding"));
    forward.wait_for("Ready!");
    let host = url.split("//").nth(1).unwrap().split(':').next().unwrap();
    let output = Command::new("curl")
        .args(["-sSf", "--noproxy", "*", "--http2", "--cacert", &authority])
        .args(["--resolve", &format!("{host}:{local}:127.0.0.1")])
        .args(["-o", "/dev/null", "-w", "%{http_version} %{http_code}"])
        .arg(format!("https://{host}:{local}/api/v2/buildinfo"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2 200", "{output:?}");
}
