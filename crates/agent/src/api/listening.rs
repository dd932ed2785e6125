//! Which ports of the workspace are listened on (`agent/ports_supported.go`), from Linux's
//! `/proc/net` (proc_pid_net(5)).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Mutex,
    sync::PoisonError,
};

use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use tokio::time::{Duration, Instant};

use super::{Answer, Refusal, reply};

/// How long an answer is good: dashboards ask often.
const CACHED: Duration = Duration::from_secs(1);

/// Ports below are the agent's own inside the tunnel
/// (`codersdk/workspacesdk/workspacesdk.go`, `AgentMinimumListeningPort`).
const LEAST: u16 = 9;

/// The kernel's number of the state LISTEN (`include/net/tcp_states.h`).
const LISTEN: &str = "0A";

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Port {
    /// Empty when it is not ours to see.
    process_name: String,
    network: &'static str,
    port: u16,
}

/// The machine's ports are everybody's in this process.
static CACHE: Mutex<Option<(Instant, Vec<Port>)>> = Mutex::new(None);

pub(super) async fn answer() -> Answer {
    let cached = CACHE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let ports = match cached {
        Some((at, ports)) if at.elapsed() < CACHED => ports,
        Some(_) | None => {
            let scanned = tokio::task::spawn_blocking(scan).await;
            let ports = scanned.map_err(std::io::Error::other).flatten().map_err(|error| {
                let message = format!("Could not scan for listening ports: {error}");
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message)
            })?;
            let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
            *cache = Some((Instant::now(), ports.clone()));
            ports
        }
    };
    Ok(reply(StatusCode::OK, &json!({ "ports": ports })))
}

fn scan() -> std::io::Result<Vec<Port>> {
    let mut sockets = parse(&fs::read_to_string("/proc/net/tcp")?);
    // Missing where IPv6 is switched off.
    sockets.extend(parse(&fs::read_to_string("/proc/net/tcp6").unwrap_or_default()));
    let inodes: BTreeSet<u64> = sockets.iter().map(|(_, inode)| *inode).collect();
    let owners = owners(&inodes);
    let mut ports = BTreeMap::new();
    for (port, inode) in sockets {
        let process_name = owners.get(&inode).cloned().unwrap_or_default();
        ports.entry(port).or_insert(Port { process_name, network: "tcp", port });
    }
    Ok(ports.into_values().collect())
}

/// Ports and inodes of sockets that listen, from `/proc/net/tcp` or `tcp6`.
fn parse(text: &str) -> Vec<(u16, u64)> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        let wanted = *state == LISTEN && port >= LEAST;
        wanted.then_some((port, inode.parse().ok()?))
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// Names of the processes that hold these sockets, as far as they are ours to see.
fn owners(inodes: &BTreeSet<u64>) -> BTreeMap<u64, String> {
    let mut owners = BTreeMap::new();
    let Ok(processes) = fs::read_dir("/proc") else { return owners };
    for process in processes.flatten() {
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let Ok(target) = fs::read_link(descriptor.path()) else { continue };
            if let Some(inode) = socket(&target.to_string_lossy())
                && inodes.contains(&inode)
                && let Ok(name) = fs::read_to_string(process.path().join("comm"))
            {
                owners.entry(inode).or_insert_with(|| name.trim().to_owned());
            }
        }
    }
    owners
}

/// The inode in `socket:[12345]`.
fn socket(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn sockets_that_listen_are_found() {
        let text = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 111 1
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1
   2: 0100007F:1F91 0100007F:ABCD 01 00000000:00000000 00:00000000 00000000     0        0 333 1
   3: 00000000:0004 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 444 1
   4: short
";
        assert_eq!(parse(text), [(8080, 111), (22, 222)]);
        assert_eq!(
            (socket("socket:[7]"), socket("pipe:[7]"), socket("/dev/null")),
            (Some(7), None, None)
        );
    }

    #[test]
    fn our_own_listener_is_seen_by_its_name() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ports = scan().unwrap();
        let ours = ports.iter().find(|found| found.port == port).unwrap();
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!((ours.process_name.as_str(), ours.network), (name.trim(), "tcp"));
    }
}
