//! For people who look for a fault (`agent/agent.go`, `HandleHTTPDebug…`).

use std::{fmt::Write as _, sync::Arc};

use http::{Response, StatusCode};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use super::{Answer, Body, Refusal, reply, whole};
use crate::agent::Agent;

/// Bytes of the agent's log that are shown.
const MAX_LOG: u64 = 10 << 20;

/// How the agent's network is, in the shape of `codersdk/healthsdk` (`AgentNetcheckReport`). UDP
/// and addresses are not measured, so there is no `net_info`: clients draw conclusions from it.
pub(super) fn netcheck(agent: &Agent) -> Answer {
    let tailnet = agent.tailnet.borrow().clone();
    let tailnet = tailnet.ok_or_else(no_network)?.report();
    let problem = tailnet.get("problem").and_then(|problem| problem.as_str());
    Ok(reply(
        StatusCode::OK,
        &json!({
            "error": problem,
            "severity": if problem.is_some() { "warning" } else { "ok" },
            "warnings": [],
            "dismissed": false,
            "net_info": null,
            "interfaces": {
                "severity": "ok", "warnings": [], "dismissed": false, "interfaces": [],
            },
        }),
    ))
}

/// The manifest, without secrets.
pub(super) fn manifest(agent: &Agent) -> Answer {
    match &*agent.manifest.borrow() {
        Some(manifest) => Ok(reply(StatusCode::OK, &manifest.to_json())),
        None => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "there is no manifest yet")),
    }
}

/// The tailnet.
pub(super) fn network(agent: &Agent) -> Answer {
    let tailnet = agent.tailnet.borrow().clone();
    Ok(reply(StatusCode::OK, &tailnet.ok_or_else(no_network)?.report()))
}

fn no_network() -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "there is no network yet")
}

/// Numbers in Prometheus' text format.
pub(super) fn metrics(agent: &Agent) -> Response<Body> {
    let counts = agent.sessions.counts();
    let traffic =
        agent.tailnet.borrow().as_ref().map(|tailnet| tailnet.traffic()).unwrap_or_default();
    let mut text = String::from("# TYPE coderctl_agent_sessions gauge\n");
    for (kind, count) in [
        ("ssh", counts.ssh),
        ("vscode", counts.vscode),
        ("jetbrains", counts.jetbrains),
        ("reconnecting_pty", counts.terminal),
    ] {
        line(&mut text, &format!("coderctl_agent_sessions{{kind=\"{kind}\"}} {count}"));
    }
    for (name, kind, value) in [
        ("coderctl_agent_tcp_connections", "gauge", traffic.connections),
        ("coderctl_agent_rx_bytes_total", "counter", traffic.rx_bytes),
        ("coderctl_agent_tx_bytes_total", "counter", traffic.tx_bytes),
    ] {
        line(&mut text, &format!("# TYPE {name} {kind}\n{name} {value}"));
    }
    whole(StatusCode::OK, "text/plain; version=0.0.4", text.into_bytes())
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

/// The agent's own log, where whoever runs it has put it.
pub(super) async fn logs(agent: &Arc<Agent>) -> Answer {
    let path = agent.world.options.log_dir.join("coder-agent.log");
    let name = path.to_string_lossy();
    let file = tokio::fs::File::open(&path).await.map_err(|error| Refusal::of(&error, &name))?;
    let mut text = Vec::new();
    file.take(MAX_LOG).read_to_end(&mut text).await.map_err(|error| Refusal::of(&error, &name))?;
    Ok(whole(StatusCode::OK, "text/plain; charset=utf-8", text))
}
