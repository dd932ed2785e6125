//! What the driver reaches for: the deployment, behind one small trait, so that tests can script it.

use std::sync::Arc;

use coderctl_tunneler::{AgentId, Event, Failure};
use tokio::sync::mpsc;

use crate::apps::{BoxFuture, Tunnel};

/// The deployment and the way to an agent. Each method does one of the tunneler's actions and
/// gives the one event that answers it.
pub(super) trait World: Send + Sync {
    /// Opens the watch, or waits for it to come back: `WatchUp` or `WatchFailed`. What it tells
    /// from then on goes into `facts`, its loss included.
    fn open_watch(&self, facts: mpsc::UnboundedSender<Event>) -> BoxFuture<'static, Event>;

    /// Reads the workspace again: `Snapshot` or `ResyncFailed` (or a fact that ends everything).
    fn resync(&self) -> BoxFuture<'static, Event>;

    /// Reads the agent's record: `AgentRecord` or `AgentReadFailed`.
    fn read_agent(&self, agent: AgentId) -> BoxFuture<'static, Event>;

    /// Asks for a start build: `StartAccepted`, `StartConflict` or `StartFailed`.
    fn start_workspace(&self) -> BoxFuture<'static, Event>;

    /// Makes a tunnel to the agent, however long that takes. Dropping the future gives up.
    fn dial(&self, agent: AgentId) -> BoxFuture<'static, Result<Box<dyn Dialed>, Failure>>;

    /// Reports that the workspace is in use. Never fatal: a failure is logged.
    fn report_usage(&self, agent: AgentId) -> BoxFuture<'static, ()>;

    /// Resolves when this machine is in another network than now, or has slept.
    fn network_changed(&self) -> BoxFuture<'static, ()>;

    /// Takes leave of what was dialled and given up; at most about a second.
    fn leave(&self) -> BoxFuture<'static, ()>;
}

/// A tunnel that came up.
pub(super) trait Dialed: Send + Sync {
    /// What apps see of it.
    fn tunnel(&self) -> Arc<dyn Tunnel>;

    /// Resolves when nothing gets through any more, with what gave it away.
    fn lost(&self) -> BoxFuture<'static, String>;

    /// Takes leave and closes; at most about a second.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;

    /// How it came about, for `-v`: "relay coder, 1 handshake".
    fn describe(&self) -> String;
}
