//! Peers of a coordinator in this process.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use coderctl_deployment::coordinator::{
    Access, AccessError, AccessFuture, Client, Coordinator, DerpMap, Settings,
};
use coderctl_drpc::{
    Receiver, Sender, Server,
    proto::{
        rpc::tailnet as rpc,
        tailnet::{
            self as proto,
            coordinate_request::{Disconnect, ReadyForHandshake, Tunnel, UpdateSelf},
            coordinate_response::peer_update::Kind,
        },
    },
};
use coderctl_tailnet::{
    ids::{NodeId, PeerId, RegionId},
    keys::{DiscoPublic, NodePublic},
    node::Node,
};
use tokio::{
    io::DuplexStream,
    task::{JoinHandle, JoinSet},
};
use url::Url;
use uuid::Uuid;

use crate::support::soon;

pub(crate) const ALICE: Uuid = Uuid::from_bytes([0xa1; 16]);
pub(crate) const BOB: Uuid = Uuid::from_bytes([0xb0; 16]);
/// Alice's agent, and Bob's.
pub(crate) const AGENT: Uuid = Uuid::from_bytes([0xae; 16]);
pub(crate) const BOBS: Uuid = Uuid::from_bytes([0xbe; 16]);

/// Who may reach what.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    allowed: Mutex<BTreeSet<(Uuid, Uuid)>>,
    pub(crate) down: AtomicBool,
}

impl Access for Rules {
    fn may_reach(&self, user: Uuid, agent: Uuid) -> AccessFuture<'_> {
        let answer = if self.down.load(Ordering::Relaxed) {
            Err(AccessError("the database is gone".into()))
        } else {
            Ok(self.allowed.lock().unwrap().contains(&(user, agent)))
        };
        Box::pin(async { answer })
    }
}

pub(crate) fn derp_map(url: &str) -> DerpMap {
    DerpMap::embedded(&Url::parse(url).unwrap(), Some(3478))
}

/// A coordinator for Alice and Bob, each of whom has an agent.
pub(crate) fn coordinator() -> (Coordinator, Arc<Rules>) {
    let rules = Arc::new(Rules::default());
    rules.allowed.lock().unwrap().extend([(ALICE, AGENT), (BOB, BOBS)]);
    let settings = Settings {
        derp_map: derp_map("http://coder.test"),
        access: rules.clone(),
        resume_key: Some([7; 32]),
    };
    (Coordinator::new(settings).unwrap(), rules)
}

pub(crate) fn key(number: u8) -> NodePublic {
    NodePublic::from_bytes([number; 32])
}

/// How a peer can be reached.
pub(crate) fn node(peer: PeerId, number: u8) -> Node {
    Node {
        id: NodeId::new(number.into()),
        as_of: None,
        key: key(number),
        disco: DiscoPublic::from_bytes([number; 32]),
        home: RegionId::EMBEDDED,
        derp_latency: [].into(),
        derp_forced_websocket: [].into(),
        addresses: vec![peer.agent_address()],
        endpoints: Vec::new(),
        short_description: String::new(),
        hostname: String::new(),
    }
}

/// A byte stream to a coordinator, as a client's.
pub(crate) fn dial(coordinator: &Coordinator, client: Client) -> (DuplexStream, JoinHandle<()>) {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let coordinator = coordinator.clone();
    let task = tokio::spawn(async move {
        coordinator.serve_client(theirs, client, std::future::pending()).await;
    });
    (ours, task)
}

/// The session of an agent, whose calls are the coordinator's.
pub(crate) fn dial_agent(coordinator: &Coordinator, agent: Uuid) -> (DuplexStream, JoinHandle<()>) {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let coordinator = coordinator.clone();
    let task = tokio::spawn(async move {
        let mut server = Server::connect(theirs);
        let mut calls = JoinSet::new();
        while let Some(call) = server.accept().await {
            let coordinator = coordinator.clone();
            calls.spawn(async move { coordinator.serve_agent_call(call, agent).await });
        }
    });
    (ours, task)
}

/// One peer's Coordinate call. Dropping it breaks its connection.
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) client: coderctl_drpc::Client,
    requests: Sender<proto::CoordinateRequest>,
    responses: Receiver<proto::CoordinateResponse>,
    task: JoinHandle<()>,
}

/// What a peer hears.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    /// Of whom, what, and the number of a node.
    Of(PeerId, Kind, Option<i64>),
    Error(String),
    /// The call has ended.
    Closed,
}

impl Peer {
    pub(crate) async fn client(coordinator: &Coordinator, user: Uuid, only: Option<Uuid>) -> Self {
        let peer = coordinator.new_peer().unwrap();
        Self::resumed(coordinator, Client { peer, user, only }).await
    }

    pub(crate) async fn resumed(coordinator: &Coordinator, client: Client) -> Self {
        let (stream, task) = dial(coordinator, client);
        Self::open(client.peer, stream, task).await
    }

    pub(crate) async fn agent(coordinator: &Coordinator, agent: Uuid) -> Self {
        let (stream, task) = dial_agent(coordinator, agent);
        Self::open(agent.into(), stream, task).await
    }

    async fn open(id: PeerId, stream: DuplexStream, task: JoinHandle<()>) -> Self {
        let client = coderctl_drpc::Client::connect(stream);
        let (requests, responses) = client.stream(rpc::COORDINATE).await.unwrap();
        Self { id, client, requests, responses, task }
    }

    /// Says something; whether it is heard is another matter.
    pub(crate) async fn say(&mut self, request: proto::CoordinateRequest) {
        let _ = soon(self.requests.send(&request)).await;
    }

    pub(crate) async fn update(&mut self, number: u8) {
        self.update_with(node(self.id, number).to_proto()).await;
    }

    pub(crate) async fn update_with(&mut self, node: proto::Node) {
        let update_self = Some(UpdateSelf { node: Some(node) });
        self.say(proto::CoordinateRequest { update_self, ..Default::default() }).await;
    }

    pub(crate) async fn tunnel(&mut self, to: Uuid) {
        let add_tunnel = Some(Tunnel { id: to.as_bytes().to_vec() });
        self.say(proto::CoordinateRequest { add_tunnel, ..Default::default() }).await;
    }

    pub(crate) async fn ready(&mut self, for_whom: PeerId) {
        let ready = ReadyForHandshake { id: for_whom.to_bytes().to_vec() };
        let ready_for_handshake = vec![ready];
        self.say(proto::CoordinateRequest { ready_for_handshake, ..Default::default() }).await;
    }

    pub(crate) async fn disconnect(&mut self) {
        let disconnect = Some(Disconnect {});
        self.say(proto::CoordinateRequest { disconnect, ..Default::default() }).await;
    }

    /// What it hears next; all of one message.
    pub(crate) async fn hear(&mut self) -> Vec<Heard> {
        match soon(self.responses.recv()).await {
            Ok(Some(response)) if !response.error.is_empty() => vec![Heard::Error(response.error)],
            Ok(Some(response)) => response
                .peer_updates
                .into_iter()
                .map(|update| {
                    let kind = update.kind();
                    let peer = PeerId::from_slice(&update.id).unwrap();
                    Heard::Of(peer, kind, update.node.map(|node| node.id))
                })
                .collect(),
            Ok(None) | Err(_) => vec![Heard::Closed],
        }
    }

    /// Hears until it has heard this.
    pub(crate) async fn until(&mut self, wanted: Heard) {
        loop {
            let heard = self.hear().await;
            if heard.contains(&wanted) {
                return;
            }
            assert!(!heard.contains(&Heard::Closed), "closed before {wanted:?}");
        }
    }

    /// Whether nothing is heard, and the call goes on.
    pub(crate) async fn is_silent(&mut self) -> bool {
        let limit = std::time::Duration::from_millis(50);
        tokio::time::timeout(limit, self.responses.recv()).await.is_err()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
