//! What must be done, by somebody else.

use std::time::Duration;

use crate::{AgentId, ConnectionId, Exit, Notice, Timer};

/// Something must be done. Those that start something are answered once, as the crate's header
/// lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Open the watch. Answer: `WatchUp` or `WatchFailed`.
    OpenWatch,
    /// Read the workspace by REST. Answer: `Snapshot` or `ResyncFailed`.
    Resync,
    /// Read the agent's record. Answer: `AgentRecord` or `AgentReadFailed`.
    ReadAgent(AgentId),
    /// Ask for a start build (waking the workspace first if it is dormant, on the active template
    /// version if the server wants that). Answer: `StartAccepted`, `StartConflict` or
    /// `StartFailed`.
    StartWorkspace,
    /// Make a tunnel to the agent. It may take as long as it takes: an agent that is not there yet
    /// is no failure. Answer: `DialUp` or `DialFailed`.
    Dial {
        /// The name of the dial and of the tunnel.
        connection: ConnectionId,
        /// To whom.
        agent: AgentId,
    },
    /// Hurry: the dial is not wanted any more. It has no answer of its own; the dial's answer is
    /// awaited (a tunnel that came up all the same is then closed).
    CancelDial(ConnectionId),
    /// Let the application work on the tunnel, beginning it if this is the first time. Answer:
    /// `AppAttached`, `AppAttachFailed` or `AppEnded`.
    AttachApp(ConnectionId),
    /// Hurry: the attachment is not wanted any more. It has no answer of its own; the answer to
    /// `AttachApp` is awaited (`AppAttachFailed` with `Canceled`, at best at once).
    CancelAttach,
    /// Let the application let go of its tunnel and keep its local ends. Answer: `AppDetached` or
    /// `AppEnded`.
    DetachApp,
    /// Let the application end. Answer: `AppClosed` or `AppEnded`.
    CloseApp,
    /// Take leave and close the tunnel. Answer: `TailnetClosed`.
    CloseTailnet(ConnectionId),
    /// Feed `TimerFired(timer)` once this much time has passed. Replaces the timer if armed.
    ArmTimer {
        /// Which.
        timer: Timer,
        /// From now on.
        after: Duration,
    },
    /// Forget the timer.
    DisarmTimer(Timer),
    /// Tell the user.
    Notice(Notice),
    /// An event came that the driver's promises rule out; nothing was changed by it. To be logged.
    Unexpected(Severity),
    /// It is over. Whatever is still running is abandoned and no event is wanted any more.
    Exit(Exit),
}

/// How wrong an unexpected event is. `Follow` and `Once` only know `Error`; the others are
/// upstream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A mistake.
    Error,
    /// A mistake that upstream does not expect to be possible.
    Critical,
    /// A mistake that ends upstream's process.
    Fatal,
}
