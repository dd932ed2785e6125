//! The tunneler: what should happen next between a command and a working tunnel.
//!
//! ```text
//!   watch · REST ──── facts ────►┐
//!   timers ── TimerFired ───────►│             ┌─► starter   (start the workspace)
//!   user ──── Shutdown ─────────►│  Tunneler   ├─► dialer    (a tunnel to the agent)
//!   answers ────────────────────►│  ─ Action ─►├─► app       (attach, detach, close)
//!                                │             ├─► watch, REST reads, timers
//!                                └─────────────┴─► user      (Notice, Exit)
//! ```
//!
//! # A life of a connection
//!
//! It begins in `Init`, knowing nothing, with the watch being opened. The first fact about the
//! latest build moves it: a running stop to `WaitToStart`, a stopped workspace to
//! `WaitForWorkspaceStarted` with a request to start it, an active start build there without one,
//! a finished start to `WaitForAgent`. There it stays until the agent may be dialled: at once
//! where start scripts need not be waited for, otherwise when they have ended, well or badly.
//!
//! The dial (`EstablishTailnet`) is answered by a tunnel (`TailnetUp`), the application is
//! attached to it, and says so (`ApplicationUp`). Now what counts is whether the agent that was
//! dialled is still the workspace's agent. News that does not touch this (a queued build, a
//! canceled one, a watch that is lost) does not touch the tunnel.
//!
//! When the agent goes, is replaced, or the tunnel dies, the policy speaks. `Follow` detaches the
//! application, closes the tunnel (`ShutdownApplication`, `ShutdownTailnet`) and looks again at what
//! it knows: perhaps a build is running, perhaps there is another agent to dial. `Once` closes
//! the application and the tunnel, and ends with the reason. Before the application is attached
//! there is nothing to lose, and `Once` too goes back and waits.
//!
//! Whatever happens, it ends in `Exit`, with the [`Outcome`]: first the application is closed, then
//! the tunnel, then it is over.
//!
//! # How it must be driven
//!
//! One event in, then perform every action that comes out, in order, before the next event.
//!
//! Every action that starts something is answered by exactly one event, success or failure, also
//! when it is overtaken by events. Nothing is asked for twice while its answer is outstanding.
//!
//! | action | answered by one of |
//! | --- | --- |
//! | `OpenWatch` | `WatchUp`, `WatchFailed` (later, once, `WatchLost` for each `WatchUp`) |
//! | `Resync` | `Snapshot`, `ResyncFailed` |
//! | `ReadAgent` | `AgentRecord`, `AgentReadFailed` |
//! | `StartWorkspace` | `StartAccepted`, `StartConflict`, `StartFailed` |
//! | `Dial` (hurried by `CancelDial`) | `DialUp` (later, at most once, `TunnelLost`), `DialFailed` |
//! | `AttachApp` (hurried by `CancelAttach`) | `AppAttached`, `AppAttachFailed`, `AppEnded` |
//! | `DetachApp` | `AppDetached`, `AppEnded` |
//! | `CloseApp` | `AppClosed`, `AppEnded` |
//! | `CloseTailnet` | `TailnetClosed` |
//!
//! `AppEnded` comes at most once and is the last word of the application. Timers are armed by
//! `ArmTimer` and fire once, unless disarmed or armed again before. The application lives from the
//! first `AttachApp` on (a driver may begin it earlier, detached) until `AppClosed` or `AppEnded`.
//! `Exit` comes once and last: what is still running then, timers and the watch too, is for the
//! driver to end, and no event is looked at any more.
//!
//! Facts (`Build`, `Agent`, `Snapshot`, …) may come from any source, in any order, any number of
//! times. A driver that has resolved the workspace by REST feeds that `Snapshot` first. For
//! `Snapshot` and `AgentRecord` once an agent was chosen by name or because it was the only one,
//! keep choosing it by name: a second agent that appears later is no reason to lose the first.
//!
//! # Where to look
//!
//! `tests/golden/` has what each policy does, a row for each event and a column for each state:
//! `follow.md`, `once.md`, and upstream's `compatibility.md` to hold them against. `memory` says
//! which news is believed, `goal` what should be, `own` how to get there, `upstream` what upstream
//! does instead.
//!
//! There is no clock, randomness, task or socket in here; jitter, if wanted, is the driver's.

mod action;
mod config;
mod event;
mod fact;
mod failure;
mod goal;
mod id;
mod memory;
mod notice;
mod outcome;
mod own;
mod phase;
mod state;
mod timer;
mod tunneler;
mod upstream;

pub use action::{Action, Severity};
pub use config::{Config, Policy, Wait};
pub use event::{AppEnd, Event};
pub use fact::{
    AgentProblem, AgentRecord, AgentStatus, Agents, Build, JobStatus, Lifecycle, Snapshot,
    Transition,
};
pub use failure::{Failure, FailureKind};
pub use id::{AgentId, BuildNumber, ConnectionId};
pub use notice::Notice;
pub use outcome::{Exit, Outcome};
pub use state::State;
pub use timer::{Backoff, Deadlines, Step, Timer};
pub use tunneler::Tunneler;
