//! What can happen: facts, answers, reports, timers, the user.

use crate::{
    AgentId, AgentProblem, AgentRecord, Build, BuildNumber, ConnectionId, Failure, Lifecycle,
    Snapshot, Timer,
};

/// Something happened. See the crate's header for what the driver owes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    // ---- facts, from whatever source, in any order, repeated at will -----------------------
    /// The latest build changed or is told again.
    Build(Build),
    /// The chosen agent changed or is told again, as the watch tells it.
    Agent {
        /// Which agent.
        id: AgentId,
        /// What it says of its scripts.
        lifecycle: Lifecycle,
    },
    /// No agent can be chosen (the watch's error codes 1 to 3; its close follows as
    /// [`Event::WatchLost`]).
    AgentProblem(AgentProblem),
    /// The workspace is gone (404 where it was known, or marked deleted).
    WorkspaceGone,
    /// The user may not see the workspace any more.
    AccessLost,
    /// The token is refused.
    LoginRefused,
    /// A watch message that says nothing about build or agent: log lines, members not known.
    OtherMessage,

    // ---- the watch --------------------------------------------------------------------------
    /// Answers `OpenWatch`: it is open.
    WatchUp,
    /// Answers `OpenWatch`: it could not be opened.
    WatchFailed(Failure),
    /// An open watch ended: closed, broken, or after an error message. The kind says whether
    /// another try makes sense.
    WatchLost(Failure),

    // ---- reading again ----------------------------------------------------------------------
    /// A whole read of the workspace. Answers `Resync`; may also come unasked (the first resolve,
    /// the event stream of a server that has no watch).
    Snapshot(Snapshot),
    /// Answers `Resync`: it could not be read.
    ResyncFailed(Failure),
    /// Answers `ReadAgent`; may also come unasked. It tells about that agent, and does not say
    /// that the agent is the chosen one: the record of any other agent is passed over.
    AgentRecord(AgentRecord),
    /// Answers `ReadAgent`: it could not be read.
    AgentReadFailed {
        /// Which agent.
        id: AgentId,
        /// Why not.
        failure: Failure,
    },

    // ---- starting the workspace: one of these answers `StartWorkspace` ----------------------
    /// The server accepted the start build.
    StartAccepted {
        /// The build that it made.
        number: BuildNumber,
    },
    /// Another build is active (409).
    StartConflict(Failure),
    /// The server refused (400, 403 after the starter's retry, 401, 404, …), or could not be asked
    /// (`Transient`).
    StartFailed(Failure),

    // ---- the tunnel --------------------------------------------------------------------------
    /// Answers `Dial`: the tunnel works.
    DialUp(ConnectionId),
    /// Answers `Dial`: there is no tunnel, and nothing is left of the attempt.
    DialFailed {
        /// Which dial.
        connection: ConnectionId,
        /// Why not.
        failure: Failure,
    },
    /// A tunnel that was up does not carry anything any more (the health watcher's verdict). It is
    /// still to be closed.
    TunnelLost {
        /// Which tunnel.
        connection: ConnectionId,
        /// What gave it away.
        text: String,
    },
    /// Answers `CloseTailnet`: nothing is left of the tunnel.
    TailnetClosed(ConnectionId),

    // ---- the application ---------------------------------------------------------------------
    /// Answers `AttachApp`: it works on the tunnel.
    AppAttached,
    /// Answers `AttachApp`: it does not work on this tunnel, and is detached.
    AppAttachFailed(Failure),
    /// Answers `DetachApp`: it has let go of the tunnel, its local ends stay open.
    AppDetached,
    /// Answers `CloseApp`: it has ended.
    AppClosed,
    /// It ended by itself. Stands for the answer to whatever it was asked at that time (attach,
    /// detach, close): no other answer follows.
    AppEnded(AppEnd),

    // ---- time and the user -------------------------------------------------------------------
    /// A timer that was armed ran out.
    TimerFired(Timer),
    /// The user asks for the end (the first signal; the second is the driver's to act on).
    Shutdown,
}

/// How an application ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppEnd {
    /// It is done, with this exit code.
    Done(u8),
    /// It failed. The driver keeps the error itself; this is its text.
    Failed(String),
    /// A session that had begun was lost with its tunnel.
    Lost(String),
}
