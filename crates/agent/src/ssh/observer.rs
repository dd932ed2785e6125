//! What the agent hears about its sessions: connection reports and counters.

use std::{fmt, net::SocketAddr};

use uuid::Uuid;

/// What a session is for, as the client says by `CODER_SSH_SESSION_TYPE`
/// (`agent/agentssh/agentssh.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionKind {
    /// A terminal or a command.
    Ssh,
    /// Visual Studio Code's remote extension.
    VsCode,
    /// A JetBrains gateway, told by the port that is forwarded.
    JetBrains,
    /// Another name that this agent does not know.
    Unknown,
}

/// One session, from its beginning to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Random; the same in both reports of the session.
    pub id: Uuid,
    /// What it is for.
    pub kind: SessionKind,
    /// Whence the client comes, inside the tunnel.
    pub peer: SocketAddr,
}

/// Is told when sessions begin and end. Called from the sessions' own tasks: it must not block.
pub trait SessionObserver: fmt::Debug + Send + Sync + 'static {
    /// A session has begun: report CONNECT, count it.
    fn connected(&self, connection: Connection);

    /// The session is over: report DISCONNECT with this exit status and these words (empty when
    /// it ended by itself with success), and count it no more.
    fn disconnected(&self, connection: Connection, code: i32, reason: &str);
}

/// Nobody wants to know.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl SessionObserver for NoObserver {
    fn connected(&self, _: Connection) {}

    fn disconnected(&self, _: Connection, _: i32, _: &str) {}
}
