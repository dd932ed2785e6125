//! What went wrong, as a person and a script can tell it apart.
//!
//! A [`CommandError`] has a [`Kind`] (which is the exit code), a cause and hints. One function,
//! [`Kind::code`], maps kinds to exit codes; nothing else in the program chooses an exit code.

use std::fmt;

/// Why a command ended without having done what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Failed without a cause below.
    Other,
    /// Wrong usage.
    Usage,
    /// A command to be run under a forward cannot be executed.
    CannotRun,
    /// A command to be run under a forward is not found.
    NoCommand,
    /// Ended by this signal (its number) before it was done.
    Signal(u8),
    /// Not logged in, or the token is refused.
    Login,
    /// No such workspace, or no access to it.
    Workspace,
    /// Which agent: none, several, no such name.
    Agent,
    /// The workspace is stopped (or failed, dormant) and may not or could not be started.
    Stopped,
    /// The build failed or was canceled.
    Build,
    /// The workspace was deleted.
    Deleted,
    /// The agent never connected, shut down, or its start scripts failed where that matters.
    AgentState,
    /// A deadline passed; the message names the step.
    Timeout,
    /// The server cannot be reached, or is unwell after retries.
    Server,
    /// No tunnel: coordination, relay or handshake failed.
    Tunnel,
    /// A local end cannot be opened: port in use, socket path.
    Local,
    /// The remote end does not answer where its readiness was asked for.
    Remote,
    /// The other side broke the protocol, or is too old or too new.
    Protocol,
    /// A session that had begun was lost.
    Lost,
}

impl Kind {
    /// One of each.
    #[cfg(test)]
    pub(crate) const NAMED: [Self; 19] = [
        Self::Other,
        Self::Usage,
        Self::CannotRun,
        Self::NoCommand,
        Self::Signal(15),
        Self::Login,
        Self::Workspace,
        Self::Agent,
        Self::Stopped,
        Self::Build,
        Self::Deleted,
        Self::AgentState,
        Self::Timeout,
        Self::Server,
        Self::Tunnel,
        Self::Local,
        Self::Remote,
        Self::Protocol,
        Self::Lost,
    ];

    /// Its name for programs, which stays.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Usage => "usage",
            Self::CannotRun => "cannot_run",
            Self::NoCommand => "no_command",
            Self::Signal(_) => "signal",
            Self::Login => "login",
            Self::Workspace => "workspace",
            Self::Agent => "agent",
            Self::Stopped => "stopped",
            Self::Build => "build",
            Self::Deleted => "deleted",
            Self::AgentState => "agent_state",
            Self::Timeout => "timeout",
            Self::Server => "server",
            Self::Tunnel => "tunnel",
            Self::Local => "local",
            Self::Remote => "remote",
            Self::Protocol => "protocol",
            Self::Lost => "lost",
        }
    }

    /// The process's exit code for this kind.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Usage => 2,
            Self::CannotRun => 126,
            Self::NoCommand => 127,
            Self::Signal(number) => 128 + (number & 127),
            Self::Login => 200,
            Self::Workspace => 201,
            Self::Agent => 202,
            Self::Stopped => 203,
            Self::Build => 204,
            Self::Deleted => 205,
            Self::AgentState => 206,
            Self::Timeout => 207,
            Self::Server => 208,
            Self::Tunnel => 209,
            Self::Local => 210,
            Self::Remote => 211,
            Self::Protocol => 212,
            Self::Lost => 255,
        }
    }
}

/// An error that ends a command: its kind, its cause and what to do next.
#[derive(Debug)]
pub struct CommandError {
    /// Decides the exit code.
    pub kind: Kind,
    /// What happened, with its causes.
    pub source: anyhow::Error,
    /// What the user can do next, a sentence each.
    pub hints: Vec<String>,
}

impl CommandError {
    /// An error of this kind with this message or cause.
    pub fn new(kind: Kind, source: impl Into<anyhow::Error>) -> Self {
        Self { kind, source: source.into(), hints: Vec::new() }
    }

    /// An error of this kind with this message.
    pub fn msg(
        kind: Kind,
        message: impl fmt::Display + fmt::Debug + Send + Sync + 'static,
    ) -> Self {
        Self { kind, source: anyhow::Error::msg(message), hints: Vec::new() }
    }

    /// Adds what the user can do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.source)
    }
}

impl std::error::Error for CommandError {}
