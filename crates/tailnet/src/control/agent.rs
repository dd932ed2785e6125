//! Coordination of an agent: two calls among others on a connection that somebody else keeps.
//!
//! An agent has one connection to its server, for its manifest, its logs and all the rest, and
//! makes a new one when that breaks (coder/coder: agent/agent.go). Coordination is lent each of
//! them for as long as it lasts ([`AgentControl::serve`]), and keeps what it knows in between:
//! while there is none, peers are lost, not gone.
//!
//! What is heard is not handed out in events but waits to be looked at
//! ([`AgentControl::poll_update`], [`AgentControl::take_map`]), so that nothing is missed when a
//! call ends in the middle of something.

use std::sync::{Mutex, MutexGuard, PoisonError};

use coderctl_drpc::proto::rpc::tailnet as rpc;
use coderctl_drpc::proto::tailnet as proto;
use coderctl_drpc::{Client, Receiver, RpcError, Sender};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use url::Url;

use super::CLOSE_TIMEOUT;
use crate::coordinate::{Coordination, PeerUpdate};
use crate::derp_map::DerpMap;
use crate::ids::PeerId;
use crate::node::Node;

/// Why coordination over one connection ended.
#[derive(Debug, thiserror::Error)]
pub enum CoordinationEnd {
    /// A call failed: the connection is of no use any more.
    #[error("coordination failed: {0}")]
    Failed(#[from] RpcError),
    /// The server ended one of the calls, which it does not do while all is well.
    #[error("the server ended coordination")]
    Ended,
    /// Another connection has taken the place of this one.
    #[error("coordination goes on over another connection")]
    Replaced,
    /// We took our leave.
    #[error("we have left the tailnet")]
    Left,
}

/// An agent's coordination.
#[derive(Debug)]
pub struct AgentControl {
    /// The URL by which we reach the server: relay maps are rewritten to it.
    server: Url,
    state: Mutex<State>,
    /// There may be something to say.
    wanted: Notify,
    /// There is something to look at. For one task.
    heard: Notify,
    /// Which connection serves, counted from 1; 0 before the first.
    turn: watch::Sender<u64>,
    connected: watch::Sender<bool>,
}

/// What is said, what is heard, and relay maps.
type Calls = (
    Sender<proto::CoordinateRequest>,
    Receiver<proto::CoordinateResponse>,
    Receiver<proto::DerpMap>,
);

#[derive(Debug, Default)]
struct State {
    coordination: Coordination,
    /// The newest relay map that nobody has looked at.
    map: Option<DerpMap>,
    left: bool,
}

impl AgentControl {
    /// Nobody is known, and there is no connection.
    pub fn new(server: Url) -> Self {
        AgentControl {
            server,
            state: Mutex::default(),
            wanted: Notify::new(),
            heard: Notify::new(),
            turn: watch::Sender::new(0),
            connected: watch::Sender::new(false),
        }
    }

    /// Coordinates over this connection until that ends, and says why. Another call of it takes
    /// over from this one; dropping it loses sight of all peers, but forgets nobody.
    pub async fn serve(&self, client: &Client) -> CoordinationEnd {
        let opened = self.open(client).await;
        if self.lock().left {
            return CoordinationEnd::Left;
        }
        let (requests, responses, maps) = match opened {
            Ok(calls) => calls,
            Err(error) => return error.into(),
        };
        let present = Present::begin(self);
        let end = tokio::select! {
            end = self.say(requests) => end,
            end = self.hear(responses) => end,
            end = self.hear_maps(maps) => end,
            () = present.replaced() => CoordinationEnd::Replaced,
        };
        drop(present);
        let broke = matches!(end, CoordinationEnd::Failed(_) | CoordinationEnd::Ended);
        if broke && self.lock().left { CoordinationEnd::Left } else { end }
    }

    async fn open(&self, client: &Client) -> Result<Calls, RpcError> {
        let (requests, responses) = client.stream(rpc::COORDINATE).await?;
        let request = proto::StreamDerpMapsRequest {};
        let maps = client.server_stream(rpc::STREAM_DERP_MAPS, &request).await?;
        Ok((requests, responses, maps))
    }

    async fn say(&self, mut requests: Sender<proto::CoordinateRequest>) -> CoordinationEnd {
        loop {
            let request = self.lock().coordination.poll_request();
            match request {
                Some(request) => {
                    if let Err(error) = requests.send(&request).await {
                        return error.into();
                    }
                }
                None => self.wanted.notified().await,
            }
        }
    }

    async fn hear(&self, mut responses: Receiver<proto::CoordinateResponse>) -> CoordinationEnd {
        loop {
            match responses.recv().await {
                Ok(Some(response)) => self.lock().coordination.handle_response(response),
                Ok(None) => return CoordinationEnd::Ended,
                Err(error) => return error.into(),
            }
            self.heard.notify_one();
        }
    }

    async fn hear_maps(&self, mut maps: Receiver<proto::DerpMap>) -> CoordinationEnd {
        loop {
            match maps.recv().await {
                Ok(Some(message)) => match DerpMap::from_proto(message) {
                    Ok(map) => self.put_map(map),
                    Err(error) => tracing::warn!(%error, "relay map ignored"),
                },
                Ok(None) => return CoordinationEnd::Ended,
                Err(error) => return error.into(),
            }
        }
    }

    /// Has a relay map used that came another way, as the server wrote it.
    pub fn put_map(&self, mut map: DerpMap) {
        map.rewrite(&self.server);
        self.lock().map = Some(map);
        self.heard.notify_one();
    }

    /// This is how we can be reached; an equal node is not said again.
    pub fn set_node(&self, node: Node) {
        self.change(|coordination| coordination.set_node(node));
    }

    /// Our tunnel can answer this peer's handshake.
    pub fn ready(&self, peer: PeerId) {
        self.change(|coordination| coordination.ready(peer));
    }

    /// Waits until there may be an update or a map. For one task; cancel safe.
    pub async fn heard(&self) {
        self.heard.notified().await;
    }

    /// What became of a peer.
    pub fn poll_update(&self) -> Option<PeerUpdate> {
        self.lock().coordination.poll_update()
    }

    /// The newest relay map, if it was not taken yet; rewritten and ready for use.
    pub fn take_map(&self) -> Option<DerpMap> {
        self.lock().map.take()
    }

    /// Whether a connection serves, now and whenever that changes.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }

    /// Takes leave for good: says so and waits until the server has ended the call, at most
    /// [`CLOSE_TIMEOUT`]. Whether the server has heard it (or there was no connection at all).
    /// Peers that are not told stay for 15 minutes on the other side.
    pub async fn leave(&self) -> bool {
        self.lock().left = true;
        self.change(Coordination::disconnect);
        let mut connected = self.connected.subscribe();
        let gone = connected.wait_for(|connected| !connected);
        let heard = timeout(CLOSE_TIMEOUT, gone).await.is_ok();
        if !heard {
            tracing::debug!("the server did not confirm our goodbye in time");
        }
        heard
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it; what it guards is whole in any case.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Coordination)) {
        change(&mut self.lock().coordination);
        self.wanted.notify_one();
    }
}

/// A connection that serves; dropped when it does no more, however that comes about.
struct Present<'a> {
    control: &'a AgentControl,
    turn: u64,
}

impl<'a> Present<'a> {
    fn begin(control: &'a AgentControl) -> Self {
        let mut turn = 0;
        control.turn.send_modify(|now| {
            *now += 1;
            turn = *now;
        });
        control.change(|coordination| {
            // What the one before us saw, we do not see yet.
            coordination.handle_disconnected();
            coordination.handle_connected();
        });
        control.connected.send_replace(true);
        control.heard.notify_one();
        Present { control, turn }
    }

    /// Waits until another connection has taken over.
    async fn replaced(&self) {
        let mut turn = self.control.turn.subscribe();
        // It cannot fail: the sender lives in `control`.
        let _ = turn.wait_for(|now| *now != self.turn).await;
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        // One that was replaced has nothing to say about its successor's peers.
        if *self.control.turn.borrow() == self.turn {
            self.control.lock().coordination.handle_disconnected();
            self.control.connected.send_replace(false);
            self.control.heard.notify_one();
        }
    }
}
