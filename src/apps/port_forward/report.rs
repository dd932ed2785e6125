//! What programs are told about forwards: JSON, and the variables of a command under them.
//!
//! | variable | |
//! |---|---|
//! | `CODERCTL_PORT` | the first forward's local port |
//! | `CODERCTL_PORT_<remote>` | the local port that leads to this one; the first wins |
//! | `CODERCTL_SOCKS` | the first SOCKS listener, as a URL that curl's `ALL_PROXY` takes |
//! | `CODERCTL_FORWARDS` | all of them, as in [`Ready::forwards`] |

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use serde::Serialize;

use super::{
    bind::{Bound, Local, To},
    reverse::Reverse,
};
use crate::apps::forward_spec::{Bind, Listen, Place, Port};

/// The version of the JSON texts: it changes when something is taken away or changes its meaning.
pub(super) const VERSION: u32 = 1;

/// What a ready forward writes, on one line.
#[derive(Debug, Serialize)]
pub(super) struct Ready<'a> {
    pub(super) version: u32,
    /// `ready`
    pub(super) event: &'static str,
    /// The workspace, as it was named on the command line.
    pub(super) workspace: &'a str,
    /// One element for each listener: two where both loopbacks are bound.
    pub(super) forwards: &'a [Forwarded],
}

/// One listener and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Forwarded {
    kind: Kind,
    /// The listener; for `reverse` the place that is connected to.
    local: End,
    /// The place that is connected to, absent for `socks`; for `reverse` the listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Tcp,
    Udp,
    Socks,
    Reverse,
}

/// A port of a host, or a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum End {
    Port { host: String, port: u16 },
    Socket { socket: String },
}

impl End {
    fn port(host: impl ToString, port: u16) -> Self {
        Self::Port { host: host.to_string(), port }
    }

    fn socket(path: &Path) -> Self {
        Self::Socket { socket: path.to_string_lossy().into_owned() }
    }

    fn number(&self) -> Option<u16> {
        match self {
            Self::Port { port, .. } => Some(*port),
            Self::Socket { .. } => None,
        }
    }
}

impl From<&Local> for End {
    fn from(local: &Local) -> Self {
        match local {
            Local::Tcp(address) => Self::port(address.ip(), address.port()),
            Local::Unix(path) => Self::socket(path),
        }
    }
}

impl From<&Place> for End {
    fn from(place: &Place) -> Self {
        match place {
            Place::Port(port) => Self::port("127.0.0.1", *port),
            Place::Host(host, port) => Self::port(host, *port),
            Place::Socket(path) => Self::socket(path),
        }
    }
}

impl From<&Listen> for End {
    fn from(listen: &Listen) -> Self {
        match listen {
            Listen::Port(Port { bind, port }) => match bind {
                Bind::Loopback => Self::port("localhost", *port),
                Bind::Any => Self::port("*", *port),
                Bind::Address(address) => Self::port(address, *port),
            },
            Listen::Socket(path) => Self::socket(path),
        }
    }
}

/// What listens here, in the order that it was asked for.
pub(super) fn local(bound: &Bound) -> Vec<Forwarded> {
    let tcp = bound.listeners.iter().map(|listener| {
        let (kind, remote) = match &listener.to {
            To::Place(place) => (Kind::Tcp, Some(place.into())),
            To::Socks => (Kind::Socks, None),
        };
        Forwarded { kind, local: (&listener.local).into(), remote }
    });
    let udp = bound.datagrams.iter().map(|one| Forwarded {
        kind: Kind::Udp,
        local: End::port(one.local.ip(), one.local.port()),
        remote: Some(End::port("127.0.0.1", one.to)),
    });
    tcp.chain(udp).collect()
}

/// What listens in the workspace.
pub(super) fn reverse(forwards: &[Reverse]) -> impl Iterator<Item = Forwarded> {
    forwards.iter().map(|Reverse { listen, to }| Forwarded {
        kind: Kind::Reverse,
        local: to.into(),
        remote: Some(listen.into()),
    })
}

/// The variables of a command under these forwards.
pub(super) fn variables(forwards: &[Forwarded]) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for forward in forwards.iter().filter(|forward| forward.kind != Kind::Reverse) {
        let End::Port { host, port } = &forward.local else { continue };
        if forward.kind == Kind::Socks {
            variables.entry("CODERCTL_SOCKS".to_owned()).or_insert_with(|| socks_url(host, *port));
            continue;
        }
        let local = port.to_string();
        variables.entry("CODERCTL_PORT".to_owned()).or_insert_with(|| local.clone());
        if let Some(remote) = forward.remote.as_ref().and_then(End::number) {
            variables.entry(format!("CODERCTL_PORT_{remote}")).or_insert(local);
        }
    }
    variables.insert("CODERCTL_FORWARDS".to_owned(), json(&forwards));
    variables
}

/// A listener as a proxy that resolves names, too.
fn socks_url(host: &str, port: u16) -> String {
    let at = match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        Ok(ip) => SocketAddr::new(ip, port),
        Err(_) => return format!("socks5h://{host}:{port}"),
    };
    format!("socks5h://{at}")
}

/// JSON on one line, harmless on a terminal.
pub(super) fn json(value: &impl Serialize) -> String {
    // Strings and numbers only: there is nothing that could fail.
    crate::ui::escape_json(&serde_json::to_string(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(kind: Kind, local: End, remote: Option<End>) -> Forwarded {
        Forwarded { kind, local, remote }
    }

    fn port(port: u16) -> End {
        End::port("127.0.0.1", port)
    }

    #[test]
    fn a_command_finds_every_forward() {
        let forwards = [
            forward(Kind::Socks, port(4000), None),
            forward(Kind::Tcp, port(4001), Some(port(80))),
            forward(Kind::Tcp, port(4002), Some(End::port("db", 81))),
            forward(Kind::Tcp, port(4003), Some(port(80))),
            forward(Kind::Tcp, port(4004), Some(End::socket(Path::new("/run/s\u{9b}")))),
            forward(Kind::Udp, port(4005), Some(port(53))),
            forward(Kind::Reverse, port(3000), Some(End::port("localhost", 9000))),
        ];
        let mut found = variables(&forwards);
        let all = found.remove("CODERCTL_FORWARDS").unwrap();
        let found: Vec<_> = found.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            found,
            [
                "CODERCTL_PORT=4001",
                "CODERCTL_PORT_53=4005",
                "CODERCTL_PORT_80=4001",
                "CODERCTL_PORT_81=4002",
                "CODERCTL_SOCKS=socks5h://127.0.0.1:4000",
            ]
        );
        let all: serde_json::Value = serde_json::from_str(&all).unwrap();
        assert_eq!(
            all[0],
            serde_json::json!({
                "kind": "socks", "local": {"host": "127.0.0.1", "port": 4000}
            })
        );
        assert_eq!(all[4]["remote"], serde_json::json!({ "socket": "/run/s\u{9b}" }));
        assert_eq!(
            all[6],
            serde_json::json!({
                "kind": "reverse",
                "local": {"host": "127.0.0.1", "port": 3000},
                "remote": {"host": "localhost", "port": 9000},
            })
        );
    }
}
