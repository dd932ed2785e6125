//! An agent with real WireGuard and TCP: SSH on port 1, on ports 4 and 80 a service that says how much it
//! was sent once it has all of it, nothing elsewhere.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use bytes::BytesMut;
use coderctl_tailnet::{
    engine::{self, Engine, Route, Transmit, TransmitSink},
    ids::{NodeId, PeerId, Prefix, RegionId},
    keys::{DiscoPrivate, NodePrivate, NodePublic},
    node::Node,
    stack::{ConnectionId, ListenerId, RecvError, Stack, StackConfig, StackEvent, TcpEvent},
    wg::{Handshake, NoiseTunnel, OpenError, Tunnel, TunnelStats},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};

use crate::{
    deployment::AGENT,
    relay::{Packets, Relay},
    ssh_server,
};

/// What an agent is like.
#[derive(Clone)]
pub(crate) enum AgentKind {
    Well,
    /// Answers no packet.
    Dead,
    /// Accepts on port 1 and says nothing.
    Mute,
    /// Says these bytes on port 1, and on port 4 once it was asked something.
    Says(Vec<u8>),
    /// Refuses everybody on port 1.
    Refuses,
    /// Sends these datagrams to each client first, then is well.
    Noisy(Vec<Vec<u8>>),
}

pub(crate) struct Agent {
    node: Node,
    packets: Packets,
    peers: mpsc::UnboundedSender<(PeerId, engine::PeerUpdate)>,
    task: JoinHandle<()>,
}

impl Agent {
    pub(crate) fn start(
        kind: AgentKind,
        relay: Arc<Relay>,
        journal: watch::Sender<Vec<String>>,
    ) -> Self {
        let id = PeerId::from(AGENT);
        let key = NodePrivate::random().unwrap();
        let node = Node {
            id: NodeId::from_peer(id),
            as_of: Some(std::time::SystemTime::now()),
            key: key.public(),
            disco: DiscoPrivate::random().unwrap().public(),
            home: RegionId::EMBEDDED,
            derp_latency: BTreeMap::new(),
            derp_forced_websocket: BTreeMap::new(),
            addresses: vec![Prefix::Tailscale.address(id)],
            endpoints: Vec::new(),
            short_description: "agent".to_owned(),
            hostname: String::new(),
        };
        let (packets, incoming) = mpsc::unbounded_channel();
        let (peers, news) = mpsc::unbounded_channel();
        let stack = Stack::new(StackConfig::new(id.agent_address(), 1), Instant::now());
        let private = key.expose_bytes();
        let make = move |peer: &NodePublic, now| -> Box<dyn Tunnel> {
            Box::new(Passive(NoiseTunnel::new(&private, peer.as_bytes(), now)))
        };
        let mut engine = Engine::with_parts(stack, Box::new(make));
        let mut ports = BTreeMap::new();
        for port in [1, 4, 80] {
            if port != 1 || !matches!(kind, AgentKind::Refuses) {
                ports.insert(engine.stack().listen(port, 64).unwrap(), port);
            }
        }
        let (input, inputs) = mpsc::unbounded_channel();
        let work = Work {
            kind,
            key: key.public(),
            engine,
            ports,
            relay,
            journal,
            open: BTreeMap::new(),
            tasks: JoinSet::new(),
            input,
        };
        let task = tokio::spawn(work.run(incoming, news, inputs));
        Self { node, packets, peers, task }
    }

    pub(crate) fn key(&self) -> NodePublic {
        self.node.key
    }

    pub(crate) fn node(&self) -> Node {
        self.node.clone()
    }

    pub(crate) fn packets(&self) -> Packets {
        self.packets.clone()
    }

    pub(crate) fn peer(&self, id: PeerId, update: engine::PeerUpdate) {
        // The agent ends with the test.
        let _ = self.peers.send((id, update));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a service writes; `None` at its end.
type Written = (ConnectionId, Option<Vec<u8>>);

struct Work {
    kind: AgentKind,
    key: NodePublic,
    engine: Engine,
    ports: BTreeMap<ListenerId, u16>,
    relay: Arc<Relay>,
    journal: watch::Sender<Vec<String>>,
    open: BTreeMap<ConnectionId, Open>,
    tasks: JoinSet<()>,
    input: mpsc::UnboundedSender<Written>,
}

/// A connection and its service.
struct Open {
    /// To the service; `None` after the end.
    received: Option<mpsc::UnboundedSender<Vec<u8>>>,
    to_send: VecDeque<u8>,
    ended: bool,
}

impl Work {
    async fn run(
        mut self,
        mut packets: mpsc::UnboundedReceiver<(NodePublic, BytesMut)>,
        mut peers: mpsc::UnboundedReceiver<(PeerId, engine::PeerUpdate)>,
        mut written: mpsc::UnboundedReceiver<Written>,
    ) {
        loop {
            self.drain();
            let deadline = self.engine.next_deadline();
            let timer = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some((from, packet)) = packets.recv() => {
                    if !matches!(self.kind, AgentKind::Dead) {
                        let now = Instant::now();
                        self.engine.handle_relay_packet(RegionId::EMBEDDED, &from, packet, now);
                    }
                }
                Some((id, update)) = peers.recv() => {
                    if let (AgentKind::Noisy(noise), engine::PeerUpdate::Node(node)) =
                        (&self.kind, &update)
                    {
                        for datagram in noise {
                            self.relay.deliver(&self.key, &node.key, datagram);
                        }
                    }
                    self.engine.handle_peer(id, update, Instant::now());
                }
                Some((id, bytes)) = written.recv() => self.write(id, bytes),
                Some(ended) = self.tasks.join_next() => ended.unwrap(),
                () = timer => self.engine.handle_timeout(Instant::now()),
            }
        }
    }

    fn drain(&mut self) {
        loop {
            let mut sink = ToRelay { relay: &self.relay, key: self.key };
            self.engine.poll_transmit(Instant::now(), &mut sink);
            let Some(event) = self.engine.poll_event() else { return };
            if let engine::Event::Stack(event) = event {
                self.handle(event);
            }
        }
    }

    fn handle(&mut self, event: StackEvent) {
        match event {
            StackEvent::Incoming(listener) => {
                while let Some((id, _)) = self.engine.stack().accept(listener) {
                    self.begin(id, self.ports[&listener]);
                }
            }
            StackEvent::Tcp(TcpEvent::Readable(id) | TcpEvent::PeerClosed(id)) => self.read(id),
            StackEvent::Tcp(TcpEvent::Writable(id)) => self.send(id),
            StackEvent::Tcp(TcpEvent::Ended(id, _)) => {
                self.open.remove(&id);
                self.engine.stack().release(id, Instant::now());
            }
            StackEvent::Tcp(TcpEvent::Connected(_))
            | StackEvent::UdpReadable(_)
            | StackEvent::Pong(..)
            | StackEvent::PingLost(_) => {}
        }
    }

    fn begin(&mut self, id: ConnectionId, port: u16) {
        self.journal.send_modify(|all| all.push(format!("port {port}")));
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (received, mut arriving) = mpsc::unbounded_channel::<Vec<u8>>();
        let open = Open { received: Some(received), to_send: VecDeque::new(), ended: false };
        self.open.insert(id, open);
        let (mut reader, mut writer) = tokio::io::split(ours);
        self.tasks.spawn(async move {
            while let Some(bytes) = arriving.recv().await {
                if writer.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            let _ = writer.shutdown().await;
        });
        let input = self.input.clone();
        self.tasks.spawn(async move {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                let _ = input.send((id, Some(buffer[..count].to_vec())));
            }
            let _ = input.send((id, None));
        });
        self.tasks.spawn(service(self.kind.clone(), port, theirs));
        // Data may have come with the connection.
        self.read(id);
    }

    fn read(&mut self, id: ConnectionId) {
        let Some(open) = self.open.get_mut(&id) else { return };
        loop {
            let mut bytes = Vec::new();
            let mut take = |part: &[u8]| {
                bytes.extend_from_slice(part);
                part.len()
            };
            match self.engine.stack().recv(id, &mut take, Instant::now()) {
                Ok(_) => {
                    if let Some(received) = &open.received {
                        // A service that is done reads no more.
                        let _ = received.send(bytes);
                    }
                }
                Err(RecvError::Empty) => return,
                Err(RecvError::Finished | RecvError::Ended(_) | RecvError::Unknown) => {
                    open.received = None;
                    return;
                }
            }
        }
    }

    fn write(&mut self, id: ConnectionId, bytes: Option<Vec<u8>>) {
        if let Some(open) = self.open.get_mut(&id) {
            match bytes {
                Some(bytes) => open.to_send.extend(bytes),
                None => open.ended = true,
            }
            self.send(id);
        }
    }

    fn send(&mut self, id: ConnectionId) {
        let Some(open) = self.open.get_mut(&id) else { return };
        while !open.to_send.is_empty() {
            let mut fill = |room: &mut [u8]| {
                let count = room.len().min(open.to_send.len());
                for (place, byte) in room.iter_mut().zip(open.to_send.drain(..count)) {
                    *place = byte;
                }
                count
            };
            if self.engine.stack().send(id, &mut fill, Instant::now()).is_err() {
                return;
            }
        }
        if std::mem::take(&mut open.ended) {
            self.engine.stack().close(id, Instant::now());
        }
    }
}

async fn service(kind: AgentKind, port: u16, mut stream: DuplexStream) {
    match (port, kind) {
        (1, AgentKind::Mute) => {
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
        (1 | 4, AgentKind::Says(bytes)) => {
            if port == 4 {
                let _ = stream.read_u8().await;
            }
            let _ = stream.write_all(&bytes).await;
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
        (1, _) => {
            // Clients are cut off in many of the tests.
            let _ = ssh_server::serve(stream, ssh_server::Config::default()).await;
        }
        _ => {
            let mut all = Vec::new();
            if stream.read_to_end(&mut all).await.is_ok() {
                let _ = stream.write_all(format!("{} bytes\n", all.len()).as_bytes()).await;
            }
        }
    }
}

struct ToRelay<'a> {
    relay: &'a Relay,
    key: NodePublic,
}

impl TransmitSink for ToRelay<'_> {
    fn admit(&mut self, _: &Route) -> bool {
        true
    }

    fn send(&mut self, transmit: Transmit) {
        // It has no identity, and so no other way.
        let Route::Relay { key, .. } = transmit.route else { panic!("a datagram past the relay") };
        self.relay.deliver(&self.key, &key, &transmit.packet);
    }
}

/// A tunnel that lets the other side begin, as an agent's does.
struct Passive(NoiseTunnel);

impl Tunnel for Passive {
    fn connect(&mut self, _: Instant) {}

    fn is_ready(&self) -> bool {
        self.0.is_ready()
    }

    fn seal(&mut self, packet: BytesMut, now: Instant) -> Option<BytesMut> {
        self.0.seal(packet, now)
    }

    fn open(&mut self, datagram: BytesMut, now: Instant) -> Result<Option<BytesMut>, OpenError> {
        self.0.open(datagram, now)
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<BytesMut> {
        self.0.poll_transmit(now)
    }

    fn wants_transmit(&self) -> bool {
        self.0.wants_transmit()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.0.handle_timeout(now);
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.0.next_deadline()
    }

    fn set_keepalive(&mut self, _: Option<std::time::Duration>) {}

    fn handshake(&self) -> Handshake {
        self.0.handshake()
    }

    fn since_handshake(&self, now: Instant) -> Option<std::time::Duration> {
        self.0.since_handshake(now)
    }

    fn stats(&self) -> TunnelStats {
        self.0.stats()
    }
}
