//! What is forwarded: both ends of each forward, and how they are written.
//!
//! | flag | grammar |
//! |---|---|
//! | `--tcp`, `--udp` | that of the `coder` client (coder/coder: cli/portforward.go) |
//! | `-L`, `-R`, `-D` | that of OpenSSH (ssh(1)), with ranges |
//!
//! The local end comes first (with `-R`, the end in the workspace), and port 0 of a listener takes
//! a free one. A [`Forward`] prints as the value of its flag.

mod ends;
mod ports;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

pub use self::ends::EndError;
pub(super) use self::ends::is_name;
pub use self::ports::RangeError;
use crate::ui::quoted;

/// Where something listens: which addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bind {
    /// Both loopbacks, of which IPv6 may be missing.
    Loopback,
    /// Every address of the host; only when it was written out.
    Any,
    /// This one.
    Address(IpAddr),
}

/// A port that somebody listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// On which addresses.
    pub bind: Bind,
    /// 0 asks for a free one.
    pub port: u16,
}

/// Where connections come in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listen {
    /// At a TCP port.
    Port(Port),
    /// At a Unix socket.
    Socket(PathBuf),
}

/// Where connections go to, as seen from the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// 127.0.0.1 and this port, never 0.
    Port(u16),
    /// A name or an address, and a port, never 0.
    Host(String, u16),
    /// A Unix socket.
    Socket(PathBuf),
}

/// One forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forward {
    /// `--tcp` and `-L`: connections from here to there.
    Local(Listen, Place),
    /// `--udp`: datagrams from here to a port of the workspace.
    Udp(Port, u16),
    /// `-D`: connections from here to wherever SOCKS asks.
    Socks(Port),
    /// `-R`: connections from the workspace to here.
    Remote(Listen, Place),
}

/// The specifications of a command line, flag by flag.
#[derive(Debug, Clone, Default)]
pub struct Specs {
    /// `--tcp`; each may be a list.
    pub tcp: Vec<String>,
    /// `--udp`; each may be a list.
    pub udp: Vec<String>,
    /// `-L`.
    pub local: Vec<String>,
    /// `-R`.
    pub remote: Vec<String>,
    /// `-D`.
    pub dynamic: Vec<String>,
}

/// A specification that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// It does not follow the grammar of ports.
    #[error("invalid port specification {0}")]
    Syntax(String),
    /// It follows the grammar, but not the meaning of its numbers.
    #[error("invalid port specification {spec}: {cause}")]
    Range {
        /// The specification, quoted.
        spec: String,
        /// What is wrong with it.
        cause: RangeError,
    },
    /// It does not follow the grammar of `-L`, `-R` and `-D`.
    #[error("invalid forward {flag} {spec}: {cause}")]
    End {
        /// The flag.
        flag: &'static str,
        /// The specification, quoted.
        spec: String,
        /// What is wrong with it.
        cause: EndError,
    },
    /// Two specifications ask for the same listener.
    #[error("{0} is specified twice")]
    Twice(String),
    /// No specification at all.
    #[error("no port-forwards requested")]
    Nothing,
}

/// Reads all specifications of a command.
///
/// # Errors
/// The first specification that cannot be used, or that there is none.
pub fn parse(specs: &Specs) -> Result<Vec<Forward>, SpecError> {
    let mut forwards = Vec::new();
    for (from, to) in ports::parse(&specs.tcp)? {
        forwards.push(Forward::Local(Listen::Port(from), Place::Port(to)));
    }
    for (from, to) in ports::parse(&specs.udp)? {
        forwards.push(Forward::Udp(from, to));
    }
    for spec in &specs.local {
        let pairs = ends::parse_pair(spec).map_err(|cause| end_error("-L", spec, cause))?;
        forwards.extend(pairs.into_iter().map(|(from, to)| Forward::Local(from, to)));
    }
    for spec in &specs.remote {
        let pairs = ends::parse_pair(spec).map_err(|cause| end_error("-R", spec, cause))?;
        forwards.extend(pairs.into_iter().map(|(from, to)| Forward::Remote(from, to)));
    }
    for spec in &specs.dynamic {
        let port = ends::parse_port(spec).map_err(|cause| end_error("-D", spec, cause))?;
        forwards.push(Forward::Socks(port));
    }
    if forwards.is_empty() {
        return Err(SpecError::Nothing);
    }
    refuse_twice(&forwards)?;
    Ok(forwards)
}

fn end_error(flag: &'static str, spec: &str, cause: EndError) -> SpecError {
    SpecError::End { flag, spec: quoted(spec), cause }
}

fn refuse_twice(forwards: &[Forward]) -> Result<(), SpecError> {
    let mut taken = BTreeSet::new();
    let mut take = |what: String| match taken.insert(what.clone()) {
        true => Ok(()),
        false => Err(SpecError::Twice(what)),
    };
    for forward in forwards {
        let (side, listen) = match forward {
            Forward::Local(listen, _) => ("local tcp", listen.clone()),
            Forward::Socks(port) => ("local tcp", Listen::Port(*port)),
            Forward::Udp(port, _) => ("local udp", Listen::Port(*port)),
            Forward::Remote(listen, _) => ("remote tcp", listen.clone()),
        };
        match listen {
            Listen::Port(Port { port: 0, .. }) => {}
            Listen::Port(Port { bind, port }) => {
                for host in bind.hosts() {
                    take(format!("{side} host:{host} port:{port}"))?;
                }
            }
            Listen::Socket(path) => {
                let side = side.trim_end_matches(" tcp");
                take(format!("{side} socket {}", quoted(&path.to_string_lossy())))?;
            }
        }
    }
    Ok(())
}

impl Forward {
    /// Whether its listener is to have a free port.
    #[must_use]
    pub fn wants_free_port(&self) -> bool {
        match self {
            Self::Local(Listen::Port(port), _)
            | Self::Remote(Listen::Port(port), _)
            | Self::Udp(port, _)
            | Self::Socks(port) => port.port == 0,
            Self::Local(Listen::Socket(_), _) | Self::Remote(Listen::Socket(_), _) => false,
        }
    }
}

impl Bind {
    /// The addresses that it means, the one that is required first.
    #[must_use]
    pub fn hosts(self) -> Vec<IpAddr> {
        match self {
            Self::Loopback => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            Self::Any => vec![Ipv6Addr::UNSPECIFIED.into()],
            Self::Address(address) => vec![address],
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match self.bind {
            Bind::Loopback => write!(f, "{port}"),
            Bind::Any => write!(f, "*:{port}"),
            Bind::Address(address) => write!(f, "{}", std::net::SocketAddr::new(address, port)),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => port.fmt(f),
            Self::Socket(path) => ends::write_path(f, path),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "{port}"),
            Self::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Socket(path) => ends::write_path(f, path),
        }
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(from, to) | Self::Remote(from, to) => write!(f, "{from}:{to}"),
            Self::Udp(from, to) => write!(f, "{from}:{to}"),
            Self::Socks(from) => from.fmt(f),
        }
    }
}

impl Listen {
    /// The listener as a URL, for people.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Port(Port { bind, port }) => {
                let host = bind.hosts().first().copied().unwrap_or(Ipv4Addr::LOCALHOST.into());
                format!("tcp://{}", std::net::SocketAddr::new(host, *port))
            }
            Self::Socket(path) => format!("unix://{}", path.display()),
        }
    }
}

impl Place {
    /// The place as a URL, for people.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Port(port) => format!("tcp://127.0.0.1:{port}"),
            Self::Host(..) => format!("tcp://{self}"),
            Self::Socket(path) => format!("unix://{}", path.display()),
        }
    }

    /// Its port, if it is not a socket.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Port(port) | Self::Host(_, port) => Some(*port),
            Self::Socket(_) => None,
        }
    }

    /// Whether it is the host itself that the connection is made from.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Port(_) => true,
            Self::Host(host, _) => {
                host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
            }
            Self::Socket(_) => false,
        }
    }
}
