//! What people use forwards for: databases, HTTP/2, WebSockets, and another client.

use crate::{
    protocols::{ask_http2, ask_postgres, ask_websocket, speak_http2, speak_websocket},
    support::{Server, has, local_port, noise, postgres, service},
};

#[test]
fn psql_reaches_a_database_behind_a_socket_of_the_workspace() {
    if !has("psql") {
        return;
    }
    let Some(database) = postgres::database() else { return };
    let server = Server::with_dev();
    let (socket, name) = database.socket_and_name();
    let spec = format!("127.0.0.1:0:{}", socket.display());
    let mut forward =
        server.background(&["port-forward", "dev", "-L", &spec, "--wait-remote", "1m"]);
    let local = local_port(&forward.wait_for("Forwarding"));
    forward.wait_for("Ready!");
    assert_eq!(ask_postgres(local, "coderctl", &name, "select 6 * 7"), "42\n");
    let long = ask_postgres(local, "coderctl", &name, "select repeat('x', 3000000)");
    assert_eq!(long.len(), 3_000_001);
}

#[test]
fn http2_and_websockets_through_forwards() {
    let server = Server::with_dev();
    let (_forward, local) = server.forward("dev", service(speak_websocket));
    ask_websocket(local, &[0, 1, 70_000, 3_000_000].map(|length| noise(9, length)));
    if has("curl") {
        let (_forward, local) = server.forward("dev", service(speak_http2));
        assert_eq!(ask_http2(local), "hello over HTTP/2");
    }
}

/// The server of the workspace through a forward to it, with all that it upgrades to.
#[test]
fn a_client_reaches_its_deployment_through_a_forward() {
    let server = Server::with_dev();
    let port = server.url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    let (_forward, local) = server.forward("dev", port);
    let client = server.by(&format!("http://127.0.0.1:{local}"));
    let mut command = client.command(&["ssh", "dev", "--", "echo through; exit 7"]);
    command.env("CODER_DISABLE_DIRECT_CONNECTIONS", "true");
    crate::support::run(&mut command).ends(7).prints("through\n");
}
