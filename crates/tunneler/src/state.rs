//! The ten states, with upstream's names (coder/coder: codersdk/workspacesdk/tunneler).

use std::fmt;

/// Where a tunneler is. What it waits for in each state:
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The first build fact.
    Init,
    /// A running stop to end, so that the workspace can be started.
    WaitToStart,
    /// A start build: running, asked for by us, or (a forward whose workspace somebody stopped)
    /// expected from somebody.
    WaitForWorkspaceStarted,
    /// The agent: to exist, to connect, to end its start scripts where that matters, to be worth
    /// another dial after a failed one.
    WaitForAgent,
    /// The answer to a dial.
    EstablishTailnet,
    /// The application to work on the tunnel that is up.
    TailnetUp,
    /// Nothing: it works.
    ApplicationUp,
    /// The application to let go of the tunnel, or to end.
    ShutdownApplication,
    /// The tunnel to be closed, or the answer to a dial that was canceled.
    ShutdownTailnet,
    /// Nothing, for ever.
    Exit,
}

impl State {
    /// Every state, in the order of the table.
    pub const ALL: [Self; 10] = [
        Self::Init,
        Self::WaitToStart,
        Self::WaitForWorkspaceStarted,
        Self::WaitForAgent,
        Self::EstablishTailnet,
        Self::TailnetUp,
        Self::ApplicationUp,
        Self::ShutdownApplication,
        Self::ShutdownTailnet,
        Self::Exit,
    ];

    /// Upstream's name of the state.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::WaitToStart => "waitToStart",
            Self::WaitForWorkspaceStarted => "waitForWorkspaceStarted",
            Self::WaitForAgent => "waitForAgent",
            Self::EstablishTailnet => "establishTailnet",
            Self::TailnetUp => "tailnetUp",
            Self::ApplicationUp => "applicationUp",
            Self::ShutdownApplication => "shutdownApplication",
            Self::ShutdownTailnet => "shutdownTailnet",
            Self::Exit => "exit",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
