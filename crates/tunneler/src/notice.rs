//! What the user should be told, once.

use crate::Step;

/// Something the user should be told. Each is said once until the application is up again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Notice {
    /// The workspace was stopped (dormant, even) and is being started.
    Starting {
        /// It was dormant.
        dormant: bool,
    },
    /// Another build is active; it is waited for (409).
    StartConflict,
    /// A stop is under way; its end is waited for, then the workspace is started.
    WaitingForStop,
    /// Somebody stops the workspace that the tunnel is up to.
    Stopping,
    /// Somebody stopped the workspace; the local ends stay open until somebody starts it.
    WaitingForStart,
    /// A newer build replaces the workspace that the tunnel was up to.
    Rebuilding,
    /// A start script failed; connecting anyway.
    ScriptFailed,
    /// A start script timed out; connecting anyway.
    ScriptTimedOut,
    /// Start scripts still run; connecting anyway, as asked.
    ScriptsRunning,
    /// The agent is connected but has said nothing of its scripts (it has outlived a stop and
    /// start of its workspace); connecting anyway.
    ScriptsSilent,
    /// The agent takes longer to connect than its template allows; still waiting.
    AgentSlow,
    /// The server lost the agent; waiting for it to come back.
    AgentLost,
    /// The agent shuts down; waiting for it, or another, to come.
    AgentShutDown,
    /// The tunnel was lost; it will be made again.
    TunnelLost {
        /// What gave it away.
        text: String,
    },
    /// The tunnel works again.
    TunnelBack,
    /// News from the server stopped; the tunnel is not touched by that.
    WatchLost {
        /// Why.
        text: String,
    },
    /// The token is refused; the tunnel lives on, the next dial will not.
    LoginRefused,
    /// The user may not see the workspace any more; the tunnel lives on, the next dial will not.
    AccessLost,
    /// A step failed and is tried again.
    Retrying {
        /// Which step.
        step: Step,
        /// Why it failed.
        text: String,
    },
}
