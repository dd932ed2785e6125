//! A coordinator, a relay, an agent, and clients as many as a test wants.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use coderctl_drpc::Client;
use coderctl_drpc::proto::tailnet as proto;
use coderctl_tailnet::control::CoordinationEnd;
use coderctl_tailnet::derp::dial::{BoxStream, DialFuture, MeasureFuture};
use coderctl_tailnet::derp::login::ServerInfo;
use coderctl_tailnet::derp::{Carrier, Dial};
use coderctl_tailnet::derp_map::{DerpMap, RelayNode};
use coderctl_tailnet::ids::PeerId;
use coderctl_tailnet::shell::{
    AgentOptions, AgentTailnet, ConnectionInfo, ControlStream, Incoming, InfoRequest, Options,
    Request, SynReceived, Tailnet, TcpStream,
};
use tokio::task::JoinHandle;
use url::Url;

use crate::coordinator::Coordinator;
use crate::relay::Relay;

/// Nothing here takes nearly as long, on the busiest machine.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, what).await.unwrap()
}

pub(crate) const AGENT: PeerId = PeerId::from_bytes([0xa9; 16]);

pub(crate) fn client_id(number: u8) -> PeerId {
    PeerId::from_bytes([number; 16])
}

/// Every node of every map is this relay.
pub(crate) struct OneRelay(pub(crate) Relay);

impl Dial for OneRelay {
    fn dial<'a>(&'a self, _: &'a RelayNode, _: Carrier) -> DialFuture<'a> {
        let (ours, theirs) = tokio::io::duplex(256 << 10);
        self.0.serve(theirs);
        Box::pin(async { Ok(Box::new(ours) as BoxStream) })
    }

    /// Never done: a latency would be news of the agent's that these tests do not count.
    fn measure<'a>(&'a self, _: &'a RelayNode) -> MeasureFuture<'a> {
        Box::pin(std::future::pending())
    }
}

/// A map of regions with one relay each.
pub(crate) fn map(regions: &[i32]) -> proto::DerpMap {
    let regions = regions.iter().map(|id| {
        let region_id = i64::from(*id);
        let node = proto::derp_map::region::Node {
            name: format!("{id}a"),
            region_id,
            host_name: "relay.test".to_owned(),
            stun_port: -1,
            force_http: true,
            ..Default::default()
        };
        let region = proto::derp_map::Region {
            region_id,
            region_code: format!("r{id}"),
            nodes: vec![node],
            ..Default::default()
        };
        (region_id, region)
    });
    proto::DerpMap { regions: regions.collect(), ..Default::default() }
}

pub(crate) struct World {
    pub(crate) coordinator: Coordinator,
    pub(crate) relay: Relay,
    pub(crate) agent: Arc<AgentTailnet>,
    pub(crate) incoming: Option<Incoming>,
}

impl World {
    /// An agent that is not connected to its coordinator yet.
    pub(crate) fn new() -> Self {
        let coordinator = Coordinator::new(map(&[999]));
        let relay = Relay::new(5, ServerInfo::default());
        let options = AgentOptions {
            id: AGENT,
            server: server(),
            relays: Arc::new(OneRelay(relay.clone())),
            map: DerpMap::from_proto(map(&[999])).unwrap(),
            force_websockets: false,
            direct: false,
            hostname: "agent".to_owned(),
        };
        let (agent, incoming) = AgentTailnet::start(options).unwrap();
        Self { coordinator, relay, agent: Arc::new(agent), incoming: Some(incoming) }
    }

    /// An agent that coordinates.
    pub(crate) fn with_agent() -> (Self, Session) {
        let world = Self::new();
        let session = world.session(AGENT);
        (world, session)
    }

    /// A connection of the agent to its coordinator, in use.
    pub(crate) fn session(&self, id: PeerId) -> Session {
        let client = Client::connect(self.coordinator.connect(id));
        let agent = Arc::clone(&self.agent);
        Session(tokio::spawn(async move { agent.coordinate(&client).await }))
    }

    /// Answers every connection with this service, on all ports but 9.
    pub(crate) fn serve<F>(&mut self, service: impl Fn(Service) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut incoming = self.incoming.take().unwrap();
        tokio::spawn(async move {
            while let Some(request) = incoming.next().await {
                match request {
                    Request::Tcp(syn) if syn.ends().local.port() == 9 => syn.refuse(),
                    Request::Tcp(syn) => drop(tokio::spawn(service(Service(syn)))),
                    Request::Udp(flow) => drop(flow),
                }
            }
        });
    }

    pub(crate) async fn syn(&mut self) -> SynReceived {
        match soon(self.incoming.as_mut().unwrap().next()).await {
            Some(Request::Tcp(syn)) => syn,
            other => panic!("{other:?}"),
        }
    }

    /// A connection, both ends of it.
    pub(crate) async fn open(&mut self, client: &Tailnet, port: u16) -> (TcpStream, TcpStream) {
        let handle = client.handle();
        let accept = async { self.syn().await.accept().await };
        let (theirs, ours) =
            soon(async { tokio::join!(handle.connect(AGENT, port), accept) }).await;
        (theirs.unwrap(), ours.unwrap())
    }

    /// A client that wants to reach the agent.
    pub(crate) fn client(&self, number: u8) -> Tailnet {
        self.client_of(number, AGENT)
    }

    pub(crate) fn client_of(&self, number: u8, agent: PeerId) -> Tailnet {
        let map = DerpMap::from_proto(map(&[999])).unwrap();
        let info = move || -> InfoRequest {
            let map = map.clone();
            Box::pin(async { Ok(ConnectionInfo { map, ..ConnectionInfo::default() }) })
        };
        self.client_with(number, agent, Box::new(info))
    }

    /// One that asks for the ways to its peers by this.
    pub(crate) fn client_with(
        &self,
        number: u8,
        agent: PeerId,
        info: Box<dyn FnMut() -> InfoRequest + Send>,
    ) -> Tailnet {
        let coordinator = self.coordinator.clone();
        let client = Tailnet::start(Options {
            server: server(),
            relays: Arc::new(OneRelay(self.relay.clone())),
            control: Box::new(move |_| {
                let stream = coordinator.connect(client_id(number));
                Box::pin(async { Ok(Box::pin(stream) as std::pin::Pin<Box<dyn ControlStream>>) })
            }),
            info,
            direct: false,
            description: String::new(),
        })
        .unwrap();
        client.add_peer(agent);
        client
    }
}

/// What a service answers.
pub(crate) struct Service(pub(crate) SynReceived);

/// One connection of the agent to its coordinator.
pub(crate) struct Session(JoinHandle<CoordinationEnd>);

impl Session {
    /// Waits until it ends.
    pub(crate) async fn ended(self) -> CoordinationEnd {
        soon(self.0).await.unwrap()
    }

    /// Ends it from our side, without a word.
    pub(crate) async fn abandon(self) {
        self.0.abort();
        assert!(soon(self.0).await.unwrap_err().is_cancelled());
    }
}

fn server() -> Url {
    Url::parse("http://coder.test").unwrap()
}
