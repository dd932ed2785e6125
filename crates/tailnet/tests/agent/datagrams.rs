//! Flows of datagrams. Our client has none, so an engine and its relay are driven by hand.

use std::collections::BTreeMap;
use std::net::SocketAddrV6;
use std::sync::Arc;
use std::time::Instant;

use coderctl_drpc::proto::tailnet::coordinate_response::peer_update::Kind;
use coderctl_tailnet::derp::relay::Relays;
use coderctl_tailnet::derp_map::DerpMap;
use coderctl_tailnet::engine::{Engine, EngineConfig, PeerUpdate, Route, Transmit, TransmitSink};
use coderctl_tailnet::ids::{NodeId, RegionId};
use coderctl_tailnet::keys::{DiscoPrivate, NodePrivate};
use coderctl_tailnet::node::Node;
use coderctl_tailnet::packet::MAX_UDP_PAYLOAD;
use coderctl_tailnet::shell::Request;
use coderctl_tailnet::stack::{StackConfig, UdpId};

use crate::coordinator::Said;
use crate::world::{AGENT, OneRelay, World, client_id, map, soon};

struct ByHand {
    engine: Engine,
    relays: Relays,
    socket: UdpId,
}

impl ByHand {
    /// A client that the agent knows and that knows the agent.
    async fn start(world: &World) -> Self {
        soon(world.coordinator.until_said(AGENT, |said| !said.is_empty())).await;
        let said = world.coordinator.said(AGENT);
        let Said::Node(agent) = &said[0] else { panic!("{said:?}") };
        let key = NodePrivate::new([1; 32]);
        let node = Node {
            id: NodeId::new(1),
            as_of: None,
            key: key.public(),
            disco: DiscoPrivate::new([1; 32]).public(),
            home: RegionId::EMBEDDED,
            derp_latency: BTreeMap::new(),
            derp_forced_websocket: BTreeMap::new(),
            addresses: vec![client_id(1).client_address()],
            endpoints: Vec::new(),
            short_description: String::new(),
            hostname: String::new(),
        };
        let stack = StackConfig::new(client_id(1).client_address(), 1);
        let mut engine = Engine::new(EngineConfig { key: key.clone(), stack }, Instant::now());
        let socket = engine.stack().udp_bind(Some(5000)).unwrap();
        let update = PeerUpdate::Node(Box::new(Node::parse((**agent).clone()).unwrap()));
        engine.handle_peer(AGENT, update, Instant::now());
        let map = DerpMap::from_proto(map(&[999])).unwrap();
        let dial = Arc::new(OneRelay(world.relay.clone()));
        let relays = Relays::start(dial, map, key, Some(RegionId::EMBEDDED));
        world.coordinator.tell(AGENT, client_id(1), Kind::Node, Some(node.to_proto()));
        Self { engine, relays, socket }
    }

    fn send(&mut self, port: u16, payload: &[u8]) {
        let to = SocketAddrV6::new(AGENT.agent_address(), port, 0, 0);
        self.engine.stack().udp_send(self.socket, to, payload).unwrap();
    }

    /// Runs until a datagram has come back.
    async fn recv(&mut self) -> (SocketAddrV6, Vec<u8>) {
        loop {
            if let Some((from, payload)) = self.engine.stack().udp_recv(self.socket) {
                return (from, payload.to_vec());
            }
            self.turn().await;
        }
    }

    /// Runs until nothing is to be waited for any more.
    async fn run(&mut self) {
        loop {
            self.turn().await;
        }
    }

    async fn turn(&mut self) {
        self.engine.poll_transmit(Instant::now(), &mut ToRelay(&self.relays));
        while self.engine.poll_event().is_some() {}
        let deadline = self.engine.next_deadline().unwrap();
        let mut batch = Vec::new();
        tokio::select! {
            () = self.relays.recv_batch(&mut batch) => {
                for packet in batch {
                    let now = Instant::now();
                    self.engine.handle_relay_packet(packet.region, &packet.from, packet.payload, now);
                }
            }
            () = tokio::time::sleep_until(deadline.into()) => {
                self.engine.handle_timeout(Instant::now());
            }
        }
    }
}

struct ToRelay<'a>(&'a Relays);

impl TransmitSink for ToRelay<'_> {
    fn admit(&mut self, _: &Route) -> bool {
        true
    }

    fn send(&mut self, transmit: Transmit) {
        let Route::Relay { region, key } = transmit.route else { panic!("no relay") };
        self.0.try_send(region, &key, &transmit.packet).unwrap();
    }
}

#[tokio::test]
async fn a_flow_goes_there_and_back() {
    let (mut world, _session) = World::with_agent();
    let mut client = ByHand::start(&world).await;
    client.send(53, b"question");
    let mut incoming = world.incoming.take().unwrap();
    let flow = tokio::select! {
        flow = incoming.next() => match flow { Some(Request::Udp(flow)) => flow, it => panic!("{it:?}") },
        () = soon(client.run()) => panic!("nothing arrived"),
    };
    assert_eq!(
        (flow.ends().local.port(), flow.ends().peer, flow.ends().remote.port()),
        (53, client_id(1), 5000)
    );
    assert_eq!(&soon(flow.recv()).await.unwrap()[..], b"question");
    flow.send(b"answer").unwrap();
    let (from, answer) = soon(client.recv()).await;
    assert_eq!((from, &answer[..]), (flow.ends().local, &b"answer"[..]));
    // One that comes while its owner waits wakes it.
    client.send(53, &[7; MAX_UDP_PAYLOAD]);
    let got = tokio::select! {
        got = flow.recv() => got.unwrap(),
        () = soon(client.run()) => panic!("nothing arrived"),
    };
    assert_eq!(got, [7; MAX_UDP_PAYLOAD][..]);
    let error = flow.send(&[0; MAX_UDP_PAYLOAD + 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    // A flow that was ended begins anew.
    drop(flow);
    client.send(53, b"again");
    let flow = tokio::select! {
        flow = incoming.next() => match flow { Some(Request::Udp(flow)) => flow, it => panic!("{it:?}") },
        () = soon(client.run()) => panic!("nothing arrived"),
    };
    assert_eq!(&soon(flow.recv()).await.unwrap()[..], b"again");
    soon(world.agent.close()).await;
    assert!(soon(flow.recv()).await.is_err());
}
