//! A coordinator as upstream's, as far as an agent and its clients can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use coderctl_drpc::proto::rpc::tailnet as rpc;
use coderctl_drpc::proto::tailnet as proto;
use coderctl_drpc::{Receiver, RpcError, Sender, Server};
use coderctl_tailnet::ids::PeerId;
use proto::coordinate_response::PeerUpdate;
use proto::coordinate_response::peer_update::Kind;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// What a peer said, in short.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    Node(Box<proto::Node>),
    Ready(Vec<PeerId>),
    Wants(PeerId),
    Goodbye,
}

/// A coordinator. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Coordinator(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// The relay map that everybody is told.
    map: watch::Sender<proto::DerpMap>,
    /// Counts what was said.
    changed: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    peers: BTreeMap<PeerId, Peer>,
    wants: BTreeSet<(PeerId, PeerId)>,
    said: Vec<(PeerId, Said)>,
    sessions: u64,
}

struct Peer {
    session: u64,
    task: Option<JoinHandle<()>>,
    node: Option<proto::Node>,
    updates: mpsc::UnboundedSender<proto::CoordinateResponse>,
}

impl Coordinator {
    pub(crate) fn new(map: proto::DerpMap) -> Self {
        let (map, changed) = (watch::Sender::new(map), watch::Sender::new(0));
        Self(Arc::new(Inner { state: Mutex::default(), map, changed }))
    }

    /// A connection of this peer; an earlier one of it is closed.
    pub(crate) fn connect(&self, id: PeerId) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let mut state = self.0.state.lock().unwrap();
        state.sessions += 1;
        let session = state.sessions;
        let (updates, told) = mpsc::unbounded_channel();
        let this = self.clone();
        let task = tokio::spawn(async move {
            let _ = this.serve(id, session, Server::connect(theirs), told).await;
            this.left(id, session, Kind::Lost);
        });
        let peer = Peer { session, task: Some(task), node: None, updates };
        if let Some(old) = state.peers.insert(id, peer) {
            old.task.unwrap().abort();
        }
        ours
    }

    /// Breaks a peer's connection; the others are told that it is lost.
    pub(crate) fn cut(&self, id: PeerId) {
        let (session, task) = {
            let mut state = self.0.state.lock().unwrap();
            let peer = state.peers.get_mut(&id).unwrap();
            (peer.session, peer.task.take())
        };
        self.left(id, session, Kind::Lost);
        if let Some(task) = task {
            task.abort();
        }
    }

    pub(crate) fn set_map(&self, map: proto::DerpMap) {
        self.0.map.send_replace(map);
    }

    /// What this peer said so far.
    pub(crate) fn said(&self, id: PeerId) -> Vec<Said> {
        let state = self.0.state.lock().unwrap();
        state.said.iter().filter(|(who, _)| *who == id).map(|(_, said)| said.clone()).collect()
    }

    /// Waits until something is true of what a peer said.
    pub(crate) async fn until_said(&self, id: PeerId, mut done: impl FnMut(&[Said]) -> bool) {
        let mut changed = self.0.changed.subscribe();
        while !done(&self.said(id)) {
            changed.changed().await.unwrap();
        }
    }

    /// Says something to a peer.
    pub(crate) fn tell(&self, to: PeerId, about: PeerId, kind: Kind, node: Option<proto::Node>) {
        self.0.state.lock().unwrap().tell(to, about, kind, node);
    }

    async fn serve(
        &self,
        id: PeerId,
        session: u64,
        mut server: Server,
        told: mpsc::UnboundedReceiver<proto::CoordinateResponse>,
    ) -> Result<(), RpcError> {
        let mut told = Some(told);
        let mut coordination = None;
        loop {
            tokio::select! {
                call = server.accept() => {
                    let Some(call) = call else { return Ok(()) };
                    match call.rpc() {
                        rpc::COORDINATE => {
                            let this = self.clone();
                            let (requests, responses) = call.stream();
                            let told = told.take().unwrap();
                            coordination = Some(Box::pin(async move {
                                this.coordinate(id, session, requests, responses, told).await
                            }));
                        }
                        rpc::STREAM_DERP_MAPS => {
                            let (proto::StreamDerpMapsRequest {}, maps) =
                                call.server_stream().await?;
                            tokio::spawn(tell_maps(maps, self.0.map.subscribe()));
                        }
                        other => {
                            let error = RpcError::unimplemented(other);
                            let none = async |_: proto::RefreshResumeTokenRequest| {
                                Err::<proto::RefreshResumeTokenResponse, _>(error)
                            };
                            call.unary(none).await?;
                        }
                    }
                }
                ended = async { coordination.as_mut().unwrap().await }, if coordination.is_some() => {
                    coordination = None;
                    ended?;
                }
            }
        }
    }

    async fn coordinate(
        &self,
        id: PeerId,
        session: u64,
        mut requests: Receiver<proto::CoordinateRequest>,
        mut responses: Sender<proto::CoordinateResponse>,
        mut told: mpsc::UnboundedReceiver<proto::CoordinateResponse>,
    ) -> Result<(), RpcError> {
        loop {
            tokio::select! {
                request = requests.recv() => {
                    let Some(request) = request? else { return Ok(()) };
                    let goodbye = request.disconnect.is_some();
                    self.heard(id, request);
                    if goodbye {
                        self.left(id, session, Kind::Disconnected);
                        return Ok(());
                    }
                }
                update = told.recv() => match update {
                    Some(update) => responses.send(&update).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    fn heard(&self, id: PeerId, request: proto::CoordinateRequest) {
        let mut state = self.0.state.lock().unwrap();
        if let Some(update) = request.update_self {
            let node = update.node.unwrap();
            state.said.push((id, Said::Node(Box::new(node.clone()))));
            state.peers.get_mut(&id).unwrap().node = Some(node.clone());
            for to in state.partners(id) {
                state.tell(to, id, Kind::Node, Some(node.clone()));
            }
        }
        if let Some(tunnel) = request.add_tunnel {
            let to = PeerId::from_slice(&tunnel.id).unwrap();
            state.said.push((id, Said::Wants(to)));
            state.wants.insert((id, to));
            state.introduce(id, to);
            state.introduce(to, id);
        }
        if !request.ready_for_handshake.is_empty() {
            let ready = request.ready_for_handshake.iter();
            let ready: Vec<_> = ready.map(|it| PeerId::from_slice(&it.id).unwrap()).collect();
            for to in &ready {
                state.tell(*to, id, Kind::ReadyForHandshake, None);
            }
            state.said.push((id, Said::Ready(ready)));
        }
        if request.disconnect.is_some() {
            state.said.push((id, Said::Goodbye));
        }
        drop(state);
        self.0.changed.send_modify(|count| *count += 1);
    }

    fn left(&self, id: PeerId, session: u64, kind: Kind) {
        let mut state = self.0.state.lock().unwrap();
        if state.peers.get(&id).is_none_or(|peer| peer.session != session) {
            return;
        }
        for to in state.partners(id) {
            state.tell(to, id, kind, None);
        }
        state.wants.retain(|(who, _)| *who != id);
        state.peers.remove(&id);
    }
}

impl State {
    fn partners(&self, id: PeerId) -> BTreeSet<PeerId> {
        let pairs = self.wants.iter().filter(|(a, b)| *a == id || *b == id);
        pairs.map(|(a, b)| if *a == id { *b } else { *a }).collect()
    }

    fn introduce(&mut self, about: PeerId, to: PeerId) {
        let node = self.peers.get(&about).and_then(|peer| peer.node.clone());
        if node.is_some() {
            self.tell(to, about, Kind::Node, node);
        }
    }

    fn tell(&mut self, to: PeerId, about: PeerId, kind: Kind, node: Option<proto::Node>) {
        let Some(peer) = self.peers.get(&to) else { return };
        let id = about.to_bytes().to_vec();
        let update = PeerUpdate { id, node, kind: kind.into(), reason: String::new() };
        let response =
            proto::CoordinateResponse { peer_updates: vec![update], ..Default::default() };
        // One whose connection is ending misses it, as it would.
        let _ = peer.updates.send(response);
    }
}

async fn tell_maps(mut maps: Sender<proto::DerpMap>, mut map: watch::Receiver<proto::DerpMap>) {
    loop {
        let now = map.borrow_and_update().clone();
        if maps.send(&now).await.is_err() || map.changed().await.is_err() {
            return;
        }
    }
}
