//! The control connection: coordination and relay maps over one byte stream, kept alive
//! (coder/coder: tailnet/controllers.go).
//!
//! ```text
//!                     ┌ Coordinate ◄──► Coordination ──► Peer(update)
//!   dial ── stream ──┤ StreamDERPMaps ───────────────► DerpMap(map)
//!                     └ RefreshResumeToken ──► the token for the next dial
//! ```
//!
//! One task dials, opens the calls, says what is wanted and hands out what is heard. The calls
//! share their fate: when one ends, the connection is closed and dialled anew, after 81 ms, then
//! 1.618 times as long each time, at most 10 s. Meanwhile peers are lost, not gone, and the data
//! path goes on. After a reconnect everything that is wanted is said again; with a resume token
//! the server recognises us and nobody notices.
//!
//! Leaving matters: a peer that just disappears stays on the agent for 15 minutes. [`Control::close`]
//! says goodbye and waits until the server has heard it (measured: without waiting it was lost in 4
//! of 5 runs).
//!
//! An agent has its control connection already, for its own calls: see [`AgentControl`].
//!
//! How to dial is the caller's business, including which of two endpoints to use and what to make
//! of a refusal: see [`DialError`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use url::Url;

use crate::coordinate::{Coordination, PeerUpdate};
use crate::derp_map::DerpMap;
use crate::ids::PeerId;
use crate::node::Node;

mod agent;
mod backoff;
mod dial;
mod resume;
mod session;

pub use agent::{AgentControl, CoordinationEnd};
pub use dial::{DialError, DialFailure, Refusal};
pub use resume::ResumeToken;
pub use session::Down;

/// How long leaving may take (coder/coder: tailnet/controllers.go, 1 s).
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Limit on one dial, whatever the caller's own are.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the server may take to answer when the network has changed; the relays' limit.
const DOUBT_TIMEOUT: Duration = crate::derp::client::DOUBT_TIMEOUT;

/// Events that wait for the user; beyond that the server's messages wait.
const QUEUED_EVENTS: usize = 256;

/// What to begin with.
#[derive(Debug)]
pub struct Settings {
    /// The URL by which we reach the server: relay maps are rewritten to it.
    pub server: Url,
    /// How we can be reached, if that is known yet.
    pub node: Option<Node>,
    /// From an earlier connection.
    pub resume: Option<ResumeToken>,
}

/// What the control connection tells.
#[derive(Debug)]
pub enum ControlEvent {
    /// It is there (again).
    Connected,
    /// News of a peer.
    Peer(PeerUpdate),
    /// The relay map, rewritten and ready for use; again whenever it changes.
    DerpMap(DerpMap),
    /// It ended, or a dial failed; it is dialled anew.
    Down(Down),
    /// The first dial was refused for good. The last event.
    Refused(DialError),
}

/// The control connection. Dropping it ends it without a goodbye: prefer [`Control::close`].
#[derive(Debug)]
pub struct Control {
    shared: Arc<Shared>,
    leave: watch::Sender<bool>,
    task: JoinHandle<Ended>,
}

/// How the task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The server has heard our goodbye.
    Left,
    /// There was nobody to say it to.
    NotConnected,
}

/// What the user changes while the task works.
#[derive(Debug)]
struct Shared {
    coordination: Mutex<Coordination>,
    changed: Notify,
    /// The network is another one.
    doubt: Notify,
}

impl Control {
    /// Starts dialling. `dial` is called for each attempt, with the resume token if there is one
    /// that has not expired; what it gives is closed by dropping it. To be called within a tokio
    /// runtime.
    pub fn start<D, F, S>(settings: Settings, dial: D) -> (Control, mpsc::Receiver<ControlEvent>)
    where
        D: FnMut(Option<ResumeToken>) -> F + Send + 'static,
        F: Future<Output = Result<S, DialError>> + Send + 'static,
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
    {
        let Settings { server, node, resume } = settings;
        let mut coordination = Coordination::new();
        if let Some(node) = node {
            coordination.set_node(node);
        }
        let shared = Arc::new(Shared {
            coordination: Mutex::new(coordination),
            changed: Notify::new(),
            doubt: Notify::new(),
        });
        let (leave, leaving) = watch::channel(false);
        let (events, receiver) = mpsc::channel(QUEUED_EVENTS);
        let task = session::Task { shared: shared.clone(), server, resume, leaving, events };
        let task = tokio::spawn(task.run(dial).boxed());
        (Control { shared, leave, task }, receiver)
    }

    /// Wants to reach this peer, now and after every reconnect. Nothing was said of it before.
    pub fn add_tunnel(&self, peer: PeerId) {
        self.shared.change(|coordination| coordination.add_tunnel(peer));
    }

    /// Does not want to reach this peer any more.
    pub fn remove_tunnel(&self, peer: PeerId) {
        self.shared.change(|coordination| coordination.remove_tunnel(peer));
    }

    /// This is how we can be reached; an equal node is not said again.
    pub fn set_node(&self, node: Node) {
        self.shared.change(|coordination| coordination.set_node(node));
    }

    /// The network is another one: a connection that does not prove at once that it lives is made
    /// anew, and one that could not be made is tried again.
    pub fn network_changed(&self) {
        self.shared.doubt.notify_one();
    }

    /// Takes leave: says so and waits until the server has ended the call, at most
    /// [`CLOSE_TIMEOUT`]. Whether the server has heard it (or there was no connection at all).
    pub async fn close(mut self) -> bool {
        self.shared.change(Coordination::disconnect);
        self.leave.send_replace(true);
        match timeout(CLOSE_TIMEOUT, &mut self.task).await {
            Ok(Ok(Ended::Left | Ended::NotConnected)) => true,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the control task ended early");
                false
            }
            Err(_) => {
                tracing::debug!("the server did not confirm our goodbye in time");
                false
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Coordination> {
        // Nothing panics while holding it; what it guards is whole in any case.
        self.coordination.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Coordination)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }
}
