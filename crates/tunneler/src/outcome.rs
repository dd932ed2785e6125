//! Why it is over.

use crate::{AgentProblem, JobStatus, State, Step};

/// The end of a tunneler's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Why.
    pub outcome: Outcome,
    /// The state in which that was decided.
    pub at: State,
    /// Whether the application has been up at any time: what a stop by the user then means
    /// success, and a loss the loss of a session that had begun.
    pub was_up: bool,
}

/// Why it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The user asked for it.
    UserStop,
    /// The application is done, with this exit code.
    AppDone(u8),
    /// The application failed.
    AppFailed(String),
    /// The application's session was lost with its tunnel.
    AppLost(String),
    /// The workspace is stopped or being stopped, and may not be started; or it was stopped while
    /// the application was up.
    WorkspaceStopped,
    /// The workspace was found with a latest build that did not succeed: nothing can be started.
    WorkspaceFailed {
        /// Failed or canceled.
        status: JobStatus,
        /// The job's error, if known.
        error: Option<String>,
    },
    /// The workspace is dormant and may not be started.
    WorkspaceDormant,
    /// The server refused to start the workspace.
    StartRefused(String),
    /// The start build failed while we waited for it.
    BuildFailed(Option<String>),
    /// The start build was canceled while we waited for it.
    BuildCanceled,
    /// A newer build replaced the workspace that the application was up in.
    WorkspaceReplaced,
    /// The workspace is deleted or being deleted.
    WorkspaceDeleted,
    /// The workspace has no agents.
    NoAgent,
    /// No agent was named and there are several: their names.
    SeveralAgents(Vec<String>),
    /// No agent has that name: the names that there are.
    NoSuchAgent(Vec<String>),
    /// The agent is shutting down or off.
    AgentShutDown,
    /// The agent did not connect within its deadline.
    AgentNeverConnected,
    /// The agent's start scripts failed, where that matters.
    ScriptsFailed {
        /// They took too long (otherwise: one failed).
        timed_out: bool,
    },
    /// No such workspace, or no access to it (any more).
    AccessLost,
    /// The token is refused.
    NotLoggedIn,
    /// The server refuses the watch for good.
    WatchUnusable(String),
    /// The server cannot be reached, or is unwell, after the tries that there are.
    ServerUnreachable(String),
    /// There is no tunnel to be had.
    DialFailed(String),
    /// The tunnel was lost.
    TunnelLost(String),
    /// A step's deadline passed.
    TimedOut {
        /// Which step.
        step: Step,
    },
    /// The other side broke the protocol, or is too old or too new.
    Protocol(String),
}

impl From<&AgentProblem> for Outcome {
    fn from(problem: &AgentProblem) -> Self {
        match problem {
            AgentProblem::None => Self::NoAgent,
            AgentProblem::Several(names) => Self::SeveralAgents(names.clone()),
            AgentProblem::NoSuchName(names) => Self::NoSuchAgent(names.clone()),
        }
    }
}
