//! The tailnet of a workspace agent: it is reached, and decides what is to be reached.
//!
//! ```text
//!   Incoming ◄──┐           ┌─ AgentControl ◄── serve(client) · serve(client) · …
//!   TcpStream ──┼─ Core ─ driver
//!   ping, stats ┘ (engine)  └─ Relays
//! ```
//!
//! It is started once the manifest has told who the agent is, and outlives every connection to the
//! server: [`AgentTailnet::coordinate`] is called again with each new one, and in between nothing
//! happens to peers, tunnels and streams. Peers are not looked for; whoever the coordinator names
//! is let in, and told so when the tunnel can answer.
//!
//! What arrives at a port waits in [`Incoming`] for a decision, so that a closed port can be
//! answered as one.

use std::{
    collections::BTreeMap,
    io,
    net::Ipv6Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use coderctl_drpc::Client;
use futures_util::FutureExt as _;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use url::Url;

use super::{
    array,
    core::{Core, Shared},
    identity,
    incoming::Incoming,
    listen, ping,
    pump::{Pump, udp_news, until},
    stream,
};
use crate::{
    control::{AgentControl, CoordinationEnd},
    coordinate::PeerUpdate,
    derp::{dial::Dial, relay, relay::Relays},
    derp_map::DerpMap,
    engine::{self, Engine, PeerInfo, Role, Traffic},
    ids::{NodeId, PeerId, Prefix, RegionId},
    keys::{DiscoPrivate, NoEntropy, NodePrivate},
    node::Node,
    paths::PathInfo,
    stack::{Stack, StackConfig},
    wg::NoiseTunnel,
};

/// How long an agent waits for the answer to a ping when it measures the latency to its peers
/// (coder/coder: agent/stats.go, agent/agent.go).
pub const AGENT_PING_TIMEOUT: Duration = Duration::from_secs(5);

/// What an agent's tailnet is made with.
pub struct AgentOptions {
    /// The agent's own id; its addresses follow from it.
    pub id: PeerId,
    /// The URL by which we reach the server: relay maps are rewritten to it.
    pub server: Url,
    /// How relays are reached.
    pub relays: Arc<dyn Dial>,
    /// The relay map as the server wrote it, from the manifest.
    pub map: DerpMap,
    /// Relays are to be reached over WebSocket only.
    pub force_websockets: bool,
    /// Whether peers may reach us directly.
    pub direct: bool,
    /// The name of the machine, for people who look at the coordinator.
    pub hostname: String,
}

/// How an agent's tailnet is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentStatus {
    /// Whether a coordination stands.
    pub control: bool,
    /// Where we listen.
    pub home: Option<RegionId>,
    /// Whether that relay has accepted us.
    pub relay: bool,
    /// What went wrong last, for people. Not to be printed unescaped.
    pub problem: Option<String>,
}

/// What an agent reports about its tailnet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentStats {
    /// Packets inside the tunnels since the start.
    pub traffic: Traffic,
    /// Established TCP connections by our port.
    pub tcp: BTreeMap<u16, usize>,
    /// Who is connected to us.
    pub peers: Vec<PeerInfo>,
}

impl AgentStats {
    /// Established TCP connections altogether.
    pub fn tcp_connections(&self) -> usize {
        self.tcp.values().sum()
    }
}

/// The tailnet of an agent. Dropping it ends it without a goodbye: prefer [`AgentTailnet::close`].
pub struct AgentTailnet {
    shared: Arc<Shared>,
    control: Arc<AgentControl>,
    orders: mpsc::UnboundedSender<Order>,
    driver: JoinHandle<()>,
    status: watch::Receiver<AgentStatus>,
}

/// What the user asks of the driver.
enum Order {
    BeAgent(PeerId),
    ForceWebsockets(bool),
    Direct(bool),
    Close(oneshot::Sender<()>),
}

impl AgentTailnet {
    /// Begins to listen at the relays, with fresh keys. Nobody can reach us before the first
    /// [`AgentTailnet::coordinate`]. To be called within a tokio runtime.
    ///
    /// # Errors
    /// [`NoEntropy`] when the system gives no randomness for keys.
    pub fn start(options: AgentOptions) -> Result<(Self, Incoming), NoEntropy> {
        let AgentOptions {
            id,
            server,
            relays: dialer,
            mut map,
            force_websockets,
            direct,
            hostname,
        } = options;
        let (node_key, disco_key) = (NodePrivate::random()?, DiscoPrivate::random()?);
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|_| NoEntropy)?;

        let now = Instant::now();
        let node = Node {
            id: NodeId::from_peer(id),
            as_of: None,
            key: node_key.public(),
            disco: disco_key.public(),
            home: RegionId::EMBEDDED,
            derp_latency: BTreeMap::new(),
            derp_forced_websocket: BTreeMap::new(),
            addresses: addresses(id).to_vec(),
            endpoints: Vec::new(),
            short_description: String::new(),
            hostname,
        };
        let engine = engine(id, &node_key, disco_key, u64::from_le_bytes(array(&seed)), now);
        map.rewrite(&server);
        let home = map.choose_home();
        let relays = Relays::start(dialer, map.clone(), node_key, home);
        relays.measure_always();
        relays.force_websocket(force_websockets);
        let control = Arc::new(AgentControl::new(server));
        let shared = Arc::new(Shared::new(engine));
        let mut pump = Pump::new(Arc::clone(&shared), relays);
        pump.set_map(map);
        pump.set_direct(direct);
        let (orders, ordered) = mpsc::unbounded_channel();
        let (status_in, status) = watch::channel(AgentStatus::default());
        let driver = Driver { pump, control: Arc::clone(&control), node, status: status_in };
        let driver = tokio::spawn(driver.run(ordered).boxed());
        let incoming = Incoming::new(Arc::clone(&shared));
        Ok((Self { shared, control, orders, driver, status }, incoming))
    }

    /// Coordinates over the agent's connection to its server until that is of no use any more,
    /// and says why. To be called again with the next connection; meanwhile peers stay. A second
    /// call takes over from the first.
    pub async fn coordinate(&self, client: &Client) -> CoordinationEnd {
        self.control.serve(client).await
    }

    /// Is this agent from now on, with its addresses; keys, peers and tunnels stay. Connections to
    /// the old addresses are reset. The coordinator is told at once, and takes it only from a
    /// connection that belongs to this agent: to be called between two of them (coder/coder:
    /// tailnet/conn.go, `SetAddresses`).
    pub fn set_agent(&self, id: PeerId) {
        // Without a driver nobody is reached under any address.
        let _ = self.orders.send(Order::BeAgent(id));
    }

    /// Uses a relay map that came with a newer manifest, as the server wrote it. The coordinator's
    /// own maps are used as they come.
    pub fn set_map(&self, map: DerpMap) {
        self.control.put_map(map);
    }

    /// Reaches relays over WebSocket only, or by what works, as a newer manifest says.
    pub fn force_websockets(&self, force: bool) {
        // Without a driver no relay is reached by any way.
        let _ = self.orders.send(Order::ForceWebsockets(force));
    }

    /// Whether peers may reach us directly from now on, as a newer manifest says.
    pub fn set_direct(&self, direct: bool) {
        // Without a driver nobody is reached in any way.
        let _ = self.orders.send(Order::Direct(direct));
    }

    /// The way that datagrams to a peer take now; `None` for a peer that is not there.
    #[must_use]
    pub fn path(&self, peer: PeerId) -> Option<PathInfo> {
        self.shared.lock().engine.path(peer)
    }

    /// How it is, now and whenever that changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<AgentStatus> {
        self.status.clone()
    }

    /// Counters and connections, as of now.
    #[must_use]
    pub fn stats(&self) -> AgentStats {
        let mut core = self.shared.lock();
        let mut tcp = BTreeMap::new();
        for (port, _) in core.engine.stack().established() {
            *tcp.entry(port).or_default() += 1;
        }
        AgentStats {
            traffic: core.engine.traffic(),
            tcp,
            peers: core.engine.peer_infos(Instant::now()),
        }
    }

    /// One round trip through the tunnel to the peer's own stack.
    ///
    /// # Errors
    /// `NotConnected` for a peer that is not there or when the tailnet is closed, `TimedOut`
    /// without an answer within [`AGENT_PING_TIMEOUT`].
    pub async fn ping(&self, peer: PeerId) -> io::Result<Duration> {
        let address = self.shared.lock().engine.peer_address(peer).ok_or_else(stream::gone)?;
        ping(&self.shared, address).await
    }

    /// Takes leave of the coordinator for good, at most a second, so that no client waits for us.
    /// Streams go on. The current [`AgentTailnet::coordinate`] says the goodbye, so it must still
    /// be running; it ends with [`CoordinationEnd::Left`]. Whether the goodbye was heard.
    pub async fn leave(&self) -> bool {
        self.control.leave().await
    }

    /// Takes leave and ends everything. Connections that were closed meanwhile still get their
    /// last packets out.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        // Without a driver it is closed.
        if self.orders.send(Order::Close(done)).is_ok() {
            let _ = closed.await;
        }
    }
}

impl Drop for AgentTailnet {
    fn drop(&mut self) {
        self.driver.abort();
        self.shared.lock().close();
    }
}

impl std::fmt::Debug for AgentTailnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentTailnet")
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}

/// An agent's addresses: the one that clients dial, and its other.
fn addresses(id: PeerId) -> [Ipv6Addr; 2] {
    [Prefix::Tailscale.address(id), Prefix::Coder.address(id)]
}

fn engine(id: PeerId, key: &NodePrivate, disco: DiscoPrivate, seed: u64, now: Instant) -> Engine {
    let [address, _] = addresses(id);
    let config =
        StackConfig { ping_timeout: AGENT_PING_TIMEOUT, ..StackConfig::new(address, seed) };
    let private = key.expose_bytes();
    let make = move |peer: &crate::keys::NodePublic, now| -> Box<dyn crate::wg::Tunnel> {
        Box::new(NoiseTunnel::new(&private, peer.as_bytes(), now))
    };
    let mut engine = Engine::with_parts(Stack::new(config, now), Box::new(make));
    engine.set_role(Role::Agent);
    engine.set_identity(identity(key, disco));
    be_at(&mut engine, id, now);
    engine.stack().forward();
    engine
}

fn be_at(engine: &mut Engine, id: PeerId, now: Instant) {
    if let Err(error) = engine.set_addresses(&addresses(id), now) {
        // Two addresses of the two service networks always can be used.
        tracing::error!(%id, %error, "the agent's addresses cannot be used");
    }
}

/// The task.
struct Driver {
    pump: Pump,
    control: Arc<AgentControl>,
    node: Node,
    status: watch::Sender<AgentStatus>,
}

impl Driver {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let (mut relays, room) = (self.pump.relays.status(), self.pump.relays.room());
        let mut connected = self.control.connected();
        let status = relays.borrow_and_update().clone();
        self.relays_changed(&status);
        let mut batch = Vec::new();
        let mut closing: Option<oneshot::Sender<()>> = None;
        let control = Arc::clone(&self.control);
        let goodbye = async {
            control.leave().await;
        };
        let mut goodbye = std::pin::pin!(goodbye);
        loop {
            let deadline = self.drain();
            let full = self.pump.is_full();
            tokio::select! {
                () = self.pump.relays.recv_batch(&mut batch) => self.pump.take_in(&mut batch),
                news = udp_news(&mut self.pump.direct) => self.pump.take_news(news),
                addresses = self.pump.addresses.next() => self.pump.moved(addresses),
                () = self.pump.shared.changed.notified() => {}
                () = room.notified(), if full => {}
                () = until(deadline) => self.pump.tick(),
                () = self.control.heard() => self.heard(),
                Ok(()) = relays.changed() => {
                    let status = relays.borrow_and_update().clone();
                    self.relays_changed(&status);
                }
                Ok(()) = connected.changed() => {
                    let connected = *connected.borrow_and_update();
                    self.status.send_modify(|status| status.control = connected);
                }
                order = orders.recv(), if closing.is_none() => match order {
                    Some(Order::BeAgent(id)) => self.be_agent(id),
                    Some(Order::ForceWebsockets(force)) => {
                        self.pump.relays.force_websocket(force);
                    }
                    Some(Order::Direct(direct)) => self.pump.set_direct(direct),
                    Some(Order::Close(done)) => closing = Some(done),
                    // The tailnet was dropped, which aborts this task.
                    None => return,
                },
                () = &mut goodbye, if closing.is_some() => break,
            }
        }
        self.drain();
        self.pump.flush().await;
        self.pump.shared.lock().close();
        if let Some(done) = closing {
            // The caller may have stopped waiting.
            let _ = done.send(());
        }
    }

    /// Hands out everything the engine has, and tells the coordinator where we are.
    fn drain(&mut self) -> Option<Instant> {
        let node = &mut self.node;
        let mut moved = false;
        let deadline = self.pump.drain(|core, event| {
            if event == engine::Event::EndpointsChanged {
                node.endpoints = core.engine.endpoints().to_vec();
                moved = true;
            }
            note(core, event);
        });
        if moved {
            self.tell_node();
        }
        deadline
    }

    /// Looks at what the coordinator told.
    fn heard(&mut self) {
        if let Some(map) = self.control.take_map() {
            self.pump.set_map(map);
            self.tell_node();
        }
        while let Some(update) = self.control.poll_update() {
            self.peer(update);
        }
    }

    fn peer(&mut self, update: PeerUpdate) {
        let mut core = self.pump.shared.lock();
        let now = Instant::now();
        match update {
            PeerUpdate::Node(id, node) if node.key == self.node.key => {
                tracing::warn!(peer = %id, "a peer claims our own key");
            }
            PeerUpdate::Node(id, node) => {
                core.engine.handle_peer(id, engine::PeerUpdate::Node(node), now);
                drop(core);
                // Only now it is true; upstream says so before, and loses first handshakes.
                self.control.ready(id);
            }
            // Clients do not say that.
            PeerUpdate::Ready(_) => {}
            PeerUpdate::Gone(id) => core.engine.handle_peer(id, engine::PeerUpdate::Gone, now),
            PeerUpdate::Lost(id) => core.engine.handle_peer(id, engine::PeerUpdate::Lost, now),
        }
    }

    fn be_agent(&mut self, id: PeerId) {
        self.node.id = NodeId::from_peer(id);
        self.node.addresses = addresses(id).to_vec();
        be_at(&mut self.pump.shared.lock().engine, id, Instant::now());
        self.tell_node();
    }

    /// Tells the coordinator where we listen, if that is known.
    fn tell_node(&mut self) {
        if listen(&mut self.node, &self.pump.relays.status().borrow()) {
            self.control.set_node(self.node.clone());
        } else {
            self.status.send_modify(|status| {
                status.problem = Some("the deployment has no relay".to_owned());
            });
        }
    }

    fn relays_changed(&mut self, relays: &relay::Status) {
        let problem = relays.home.and_then(|home| relays.problems.get(&home).cloned());
        self.status.send_modify(|status| {
            status.home = relays.home;
            status.relay = relays.home_connected();
            status.problem = problem;
        });
        self.tell_node();
    }
}

/// Nobody waits for a client to be reachable.
fn note(core: &Core, event: engine::Event) {
    match event {
        // Whoever waits for it was woken.
        engine::Event::Stack(_) | engine::Event::DiscoPong(..) => {}
        // The driver tells the coordinator.
        engine::Event::EndpointsChanged => {}
        engine::Event::PathChanged(peer) => {
            tracing::debug!(%peer, path = ?core.engine.path(peer), "another way");
        }
        engine::Event::PeerReachable(peer, _) => tracing::debug!(%peer, "peer connected"),
        engine::Event::PeerSilent(peer) => tracing::debug!(%peer, "peer silent"),
        engine::Event::PeerRemoved(peer) => tracing::debug!(%peer, "peer removed"),
    }
}
