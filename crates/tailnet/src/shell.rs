//! A tailnet in use: one task that ties control connection, relays and engine together. This is a
//! client's; the agent's is [`AgentTailnet`].
//!
//! ```text
//!   TcpStream ─┐            ┌─ Control ── coordinate, relay maps
//!   ping ──────┼─ Core ─ driver
//!   reachable ─┘ (engine)   └─ Relays ─── datagrams
//! ```
//!
//! Everything that does not depend on the agent's id starts at once and side by side: the control
//! connection, the relay at the server's own URL, the relay map. [`Tailnet::add_peer`] names the
//! agent when it is known; from its node on the handshake runs by itself.
//!
//! The driver drains the engine into the relays, then waits for the first of: packets, news of
//! control, a stream that wrote, room in a relay, the engine's next deadline. A relay that is full
//! holds one packet back, and the engine makes no more for it until there is room.

mod agent;
mod core;
mod direct;
mod incoming;
mod pump;
mod stream;
mod udp;

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    io,
    net::{Ipv6Addr, SocketAddrV6},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use url::Url;

pub use self::{
    agent::{AGENT_PING_TIMEOUT, AgentOptions, AgentStats, AgentStatus, AgentTailnet},
    incoming::{Ends, Incoming, Request, SynReceived, UdpFlow},
    stream::TcpStream,
};
use self::{
    core::{Core, Shared},
    pump::{Pump, udp_news, until},
};
use crate::{
    control::{Control, ControlEvent, DialError, DialFailure, Refusal, ResumeToken, Settings},
    coordinate::PeerUpdate,
    derp::{dial::Dial, relay::Relays},
    derp_map::DerpMap,
    engine::{self, Engine, Identity},
    ids::{NodeId, PeerId, RegionId, random_client_address},
    keys::{DiscoPrivate, NoEntropy, NodePrivate},
    node::Node,
    paths::{PING_TIMEOUT, Path, PathInfo},
    stack::{Stack, StackConfig},
    wg::{Handshake, NoiseTunnel, TunnelStats},
};

/// A byte stream to the coordinator.
pub trait ControlStream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> ControlStream for T {}

/// What a dial of the coordinator gives.
pub type ControlDial =
    Pin<Box<dyn Future<Output = Result<Pin<Box<dyn ControlStream>>, DialError>> + Send>>;

/// What a server says about the ways to its peers, before a control connection does. Of the three
/// only the map comes over that, too.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConnectionInfo {
    /// The relays, as the server wrote them.
    pub map: DerpMap,
    /// Relays are to be reached over WebSocket only.
    pub force_websockets: bool,
    /// Nothing but relays may be used.
    pub disable_direct: bool,
}

/// The server is asked for that.
pub type InfoRequest = Pin<Box<dyn Future<Output = Result<ConnectionInfo, DialError>> + Send>>;

/// What a tailnet is made with.
pub struct Options {
    /// The URL by which we reach the server.
    pub server: Url,
    /// How relays are reached.
    pub relays: Arc<dyn Dial>,
    /// Opens a stream to the coordinator, for each attempt.
    pub control: Box<dyn FnMut(Option<ResumeToken>) -> ControlDial + Send>,
    /// Asks how peers are reached: beside everything else at first, and again when the coordinator
    /// is back, for a server that was away may want something else.
    pub info: Box<dyn FnMut() -> InfoRequest + Send>,
    /// Whether direct ways to peers may be used, if the server allows them.
    pub direct: bool,
    /// What we are, for people who look at the coordinator.
    pub description: String,
}

/// How a tailnet is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Peers with a tunnel that works, and how long its handshake took.
    pub reachable: BTreeMap<PeerId, Duration>,
    /// Peers whose tunnel is over, and why. A peer that is added again leaves this list.
    pub lost: BTreeMap<PeerId, String>,
    /// Whether the control connection stands.
    pub control: bool,
    /// Whether the home relay has accepted us.
    pub relay: bool,
    /// The short names of the relay regions. Not to be printed unescaped.
    pub regions: BTreeMap<RegionId, String>,
    /// Where we listen.
    pub home: Option<RegionId>,
    /// Round trips to regions, of those that answered when they were measured last. They are
    /// measured where there is a choice, or after [`Handle::measure_relays`].
    pub latencies: BTreeMap<RegionId, Duration>,
    /// The way to each peer, as of its last change; [`Handle::path`] has newer latencies.
    pub paths: BTreeMap<PeerId, PathInfo>,
    /// What went wrong last, for people. Not to be printed unescaped.
    pub problem: Option<String>,
    /// There will be no tailnet: the coordinator refused us for good. What is wrong with us, and
    /// its words, not to be printed unescaped.
    pub refused: Option<(Refusal, String)>,
}

/// A tailnet in use. Dropping it ends it without a goodbye: prefer [`Tailnet::close`].
pub struct Tailnet {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    driver: JoinHandle<()>,
    status: watch::Receiver<Status>,
}

/// What the user asks of the driver.
#[derive(Debug)]
enum Command {
    AddPeer(PeerId),
    MeasureRelays,
    Leave,
}

impl Tailnet {
    /// Starts everything that does not depend on a peer. To be called within a tokio runtime.
    ///
    /// # Errors
    /// [`NoEntropy`] when the system gives no randomness for keys.
    pub fn start(options: Options) -> Result<Self, NoEntropy> {
        let Options { server, relays: dialer, control: dial, mut info, direct, description } =
            options;
        let (node_key, disco_key) = (NodePrivate::random()?, DiscoPrivate::random()?);
        let mut entropy = [0_u8; 32];
        getrandom::fill(&mut entropy).map_err(|_| NoEntropy)?;
        let (address, rest) = entropy.split_at(16);
        let (id, seed) = rest.split_at(8);
        let address = random_client_address(array(address));

        let now = Instant::now();
        let stack = Stack::new(StackConfig::new(address, u64::from_le_bytes(array(seed))), now);
        let private = node_key.expose_bytes();
        let make = move |peer: &crate::keys::NodePublic, now| -> Box<dyn crate::wg::Tunnel> {
            Box::new(NoiseTunnel::new(&private, peer.as_bytes(), now))
        };
        let mut engine = Engine::with_parts(stack, Box::new(make));
        let node = Node {
            id: NodeId::random(array(id)),
            as_of: None,
            key: node_key.public(),
            disco: disco_key.public(),
            home: RegionId::EMBEDDED,
            derp_latency: BTreeMap::new(),
            derp_forced_websocket: BTreeMap::new(),
            addresses: vec![address],
            endpoints: Vec::new(),
            short_description: description,
            hostname: String::new(),
        };
        engine.set_identity(identity(&node_key, disco_key));

        let guess = DerpMap::embedded_at(&server);
        let relays = Relays::start(dialer, guess, node_key, Some(RegionId::EMBEDDED));
        let settings = Settings { server: server.clone(), node: None, resume: None };
        let (control, news) = Control::start(settings, dial);
        let (commands, orders) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::new(engine));
        let (status_in, status) = watch::channel(Status::default());
        let driver = Driver {
            pump: Pump::new(Arc::clone(&shared), relays),
            node,
            server,
            mapped: false,
            direct,
            asking: Some(info()),
            info,
            met: false,
            status: status_in,
        };
        let driver = tokio::spawn(driver.run(control, news, orders).boxed());
        Ok(Self { shared, commands, driver, status })
    }

    /// Wants to reach this peer from now on.
    pub fn add_peer(&self, peer: PeerId) {
        // Without a driver there is nobody to reach anybody.
        let _ = self.commands.send(Command::AddPeer(peer));
    }

    /// How it is, now and whenever that changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// A handle that opens connections and pings, and does not keep the tailnet alive.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared), commands: self.commands.downgrade() }
    }

    /// Takes leave of the coordinator, at most a second, and ends everything. Connections that
    /// were closed meanwhile still get their last packets out.
    pub async fn close(mut self) {
        let _ = self.commands.send(Command::Leave);
        if let Err(error) = (&mut self.driver).await {
            tracing::debug!(%error, "the tailnet ended early");
        }
    }

    fn end(&self) {
        self.driver.abort();
        self.shared.lock().close();
    }
}

impl Drop for Tailnet {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Tailnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tailnet").field("status", &*self.status.borrow()).finish_non_exhaustive()
    }
}

/// Opens connections in a tailnet. Fails with `NotConnected` once it is closed.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    commands: mpsc::WeakUnboundedSender<Command>,
}

impl Handle {
    /// Has the relays measured from now on, even where there is no choice; [`Status::latencies`]
    /// follow.
    pub fn measure_relays(&self) {
        // An error is a tailnet that has ended.
        let _ = self.commands.upgrade().map(|commands| commands.send(Command::MeasureRelays));
    }

    /// Opens a TCP connection to a port of an agent. May be called before the agent is reachable:
    /// the SYN then waits for the tunnel.
    ///
    /// # Errors
    /// `ConnectionRefused` when the agent resets it, `TimedOut` when nothing answers,
    /// `NotConnected` when the peer or the tailnet is gone.
    pub async fn connect(&self, peer: PeerId, port: u16) -> io::Result<TcpStream> {
        let remote = SocketAddrV6::new(peer.agent_address(), port, 0, 0);
        let id = {
            let mut core = self.shared.lock();
            if core.closed {
                return Err(stream::gone());
            }
            core.engine.stack().connect(remote, Instant::now()).map_err(io::Error::other)?
        };
        self.shared.changed.notify_one();
        let mut stream = TcpStream::new(Arc::clone(&self.shared), id);
        poll_fn(|cx| stream.poll_connected(cx)).await?;
        Ok(stream)
    }

    /// Datagrams between a port of our own and one of an agent. May be asked for before the agent
    /// is reachable: what is sent then waits for the tunnel, as far as there is room.
    ///
    /// # Errors
    /// `NotConnected` when the tailnet is gone, and what the stack says when it has no port left.
    pub fn datagrams(&self, peer: PeerId, port: u16) -> io::Result<UdpFlow> {
        UdpFlow::open(&self.shared, peer, port)
    }

    /// One round trip through the tunnel to the peer's own stack.
    ///
    /// # Errors
    /// `TimedOut` without an answer, `NotConnected` when the tailnet is gone.
    pub async fn ping(&self, peer: PeerId) -> io::Result<Duration> {
        ping(&self.shared, peer.agent_address()).await
    }

    /// One disco round trip, through the peer's relay and on the direct way if there is one: which
    /// answered first, and how long it took. It needs no tunnel.
    ///
    /// # Errors
    /// `TimedOut` without an answer within [`PING_TIMEOUT`], `NotConnected` for a peer that is not
    /// known (yet) or when the tailnet is gone.
    pub async fn disco_ping(&self, peer: PeerId) -> io::Result<(Path, Duration)> {
        let (answer, pong) = oneshot::channel();
        self.shared.lock().await_disco(peer, answer);
        self.shared.changed.notify_one();
        match tokio::time::timeout(PING_TIMEOUT, pong).await {
            Ok(Ok(pong)) => Ok(pong),
            Ok(Err(_)) => Err(stream::gone()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// The way that datagrams to a peer take now; `None` for a peer that is not known (yet). Its
    /// changes are in [`Tailnet::status`].
    #[must_use]
    pub fn path(&self, peer: PeerId) -> Option<PathInfo> {
        self.shared.lock().engine.path(peer)
    }

    /// Handshakes and packets of all tunnels so far.
    #[must_use]
    pub fn tunnel_stats(&self) -> TunnelStats {
        self.shared.lock().engine.tunnel_stats()
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// One round trip to an address inside the tunnel.
async fn ping(shared: &Shared, address: Ipv6Addr) -> io::Result<Duration> {
    let (answer, pong) = oneshot::channel();
    {
        let mut core = shared.lock();
        if core.closed {
            return Err(stream::gone());
        }
        let ping = core.engine.stack().ping(address, Instant::now());
        core.await_pong(ping.map_err(io::Error::other)?, answer);
    }
    shared.changed.notify_one();
    match pong.await {
        Ok(Some(took)) => Ok(took),
        Ok(None) => Err(io::ErrorKind::TimedOut.into()),
        Err(_) => Err(stream::gone()),
    }
}

/// The task.
struct Driver {
    pump: Pump,
    node: Node,
    server: Url,
    /// Whether a relay map of the server's is in use.
    mapped: bool,
    /// Whether the user allows direct ways.
    direct: bool,
    info: Box<dyn FnMut() -> InfoRequest + Send>,
    /// The question under way.
    asking: Option<InfoRequest>,
    /// Whether there was a control connection.
    met: bool,
    status: watch::Sender<Status>,
}

impl Driver {
    async fn run(
        mut self,
        control: Control,
        news: mpsc::Receiver<ControlEvent>,
        mut orders: mpsc::UnboundedReceiver<Command>,
    ) {
        let (mut relay_status, room) = (self.pump.relays.status(), self.pump.relays.room());
        let mut news = Some(news);
        let mut batch = Vec::new();
        loop {
            let deadline = self.drain(Some(&control));
            if self.pump.take_network_change() {
                control.network_changed();
            }
            let full = self.pump.is_full();
            tokio::select! {
                () = self.pump.relays.recv_batch(&mut batch) => self.pump.take_in(&mut batch),
                news = udp_news(&mut self.pump.direct) => self.pump.take_news(news),
                addresses = self.pump.addresses.next() => self.pump.moved(addresses),
                () = self.pump.shared.changed.notified() => {}
                () = room.notified(), if full => {}
                () = until(deadline) => self.pump.tick(),
                event = told(&mut news) => self.heard(&control, event),
                answer = asked(&mut self.asking) => self.informed(&control, answer),
                Ok(()) = relay_status.changed() => {
                    let status = relay_status.borrow_and_update().clone();
                    self.relays_changed(&control, &status);
                }
                order = orders.recv() => match order {
                    Some(Command::AddPeer(peer)) => control.add_tunnel(peer),
                    Some(Command::MeasureRelays) => self.pump.relays.measure_always(),
                    Some(Command::Leave) | None => return self.leave(control).await,
                },
            }
        }
    }

    /// Says goodbye while the last packets leave.
    async fn leave(mut self, control: Control) {
        let mut goodbye = std::pin::pin!(control.close());
        let (mut batch, room) = (Vec::new(), self.pump.relays.room());
        loop {
            let deadline = self.drain(None);
            let full = self.pump.is_full();
            tokio::select! {
                _ = &mut goodbye => break,
                () = self.pump.relays.recv_batch(&mut batch) => self.pump.take_in(&mut batch),
                news = udp_news(&mut self.pump.direct) => self.pump.take_news(news),
                addresses = self.pump.addresses.next() => self.pump.moved(addresses),
                () = self.pump.shared.changed.notified() => {}
                () = room.notified(), if full => {}
                () = until(deadline) => self.pump.tick(),
            }
        }
        self.drain(None);
        self.pump.flush().await;
        self.pump.shared.lock().close();
    }

    /// Hands out everything the engine has; a coordinator that still listens is told where we are.
    fn drain(&mut self, control: Option<&Control>) -> Option<Instant> {
        let (status, node) = (&self.status, &mut self.node);
        let mut moved = false;
        let deadline = self.pump.drain(|core, event| {
            if event == engine::Event::EndpointsChanged {
                node.endpoints = core.engine.endpoints().to_vec();
                moved = true;
            }
            note(status, core, event);
        });
        if let Some(control) = control.filter(|_| moved && self.mapped) {
            let relays = self.pump.relays.status().borrow().clone();
            self.tell_node(control, &relays);
        }
        deadline
    }

    fn heard(&mut self, control: &Control, event: ControlEvent) {
        match event {
            ControlEvent::Connected => {
                if std::mem::replace(&mut self.met, true) {
                    self.asking = Some((self.info)());
                }
                self.change(|status| {
                    status.control = true;
                    status.problem = None;
                });
                // What keeps us from the relay is as true as before, and not told twice.
                let relays = self.pump.relays.status().borrow().clone();
                self.relays_changed(control, &relays);
            }
            ControlEvent::Down(down) => {
                let text = down.to_string();
                tracing::debug!(%text, "control connection down");
                self.change(|status| {
                    status.control = false;
                    status.problem = Some(text);
                });
            }
            ControlEvent::Refused(error) => {
                self.change(|status| status.refused = Some((error.refusal, error.to_string())));
            }
            ControlEvent::DerpMap(map) => self.use_map(control, map),
            ControlEvent::Peer(update) => self.peer(update),
        }
    }

    fn peer(&mut self, update: PeerUpdate) {
        let mut core = self.pump.shared.lock();
        let now = Instant::now();
        match update {
            PeerUpdate::Node(id, node) => {
                let before = core.engine.peer_key(id);
                if before.is_some_and(|key| key != node.key) {
                    drop(core);
                    self.change(|status| {
                        status.reachable.remove(&id);
                        status.lost.insert(id, "the agent was restarted".to_owned());
                    });
                    core = self.pump.shared.lock();
                }
                core.engine.handle_peer(id, engine::PeerUpdate::Node(node), now);
            }
            // The handshake began with the node: see the engine.
            PeerUpdate::Ready(_) => {}
            PeerUpdate::Gone(id) => core.engine.handle_peer(id, engine::PeerUpdate::Gone, now),
            PeerUpdate::Lost(id) => core.engine.handle_peer(id, engine::PeerUpdate::Lost, now),
        }
    }

    fn informed(&mut self, control: &Control, answer: Result<ConnectionInfo, DialError>) {
        match answer {
            Ok(mut info) => {
                info.map.rewrite(&self.server);
                self.pump.relays.force_websocket(info.force_websockets);
                self.use_map(control, info.map);
                self.pump.set_direct(self.direct && !info.disable_direct);
            }
            // The control connection tells the map as well, and is refused for the same reasons.
            Err(error) => {
                tracing::debug!(%error, "no relay map ahead of the control connection");
                if error.failure != DialFailure::Refused {
                    self.change(|status| status.problem = Some(error.to_string()));
                }
            }
        }
    }

    /// Uses a relay map, and tells the coordinator where we listen.
    fn use_map(&mut self, control: &Control, map: DerpMap) {
        let names = map.regions.values().map(|region| (region.id, region.code.clone()));
        let names = names.collect();
        self.change(|status| status.regions = names);
        self.pump.set_map(map);
        self.mapped = true;
        let relays = self.pump.relays.status().borrow().clone();
        if relays.home.is_none() {
            self.change(|status| status.problem = Some("the deployment has no relay".to_owned()));
        }
        self.tell_node(control, &relays);
    }

    fn relays_changed(&mut self, control: &Control, relays: &crate::derp::relay::Status) {
        let connected = relays.home_connected();
        let problem = relays.home.and_then(|home| relays.problems.get(&home).cloned());
        self.change(|status| {
            status.relay = connected;
            status.home = relays.home;
            status.latencies.clone_from(&relays.latencies);
            if problem.is_some() {
                status.problem = problem;
            }
        });
        // Before the map is known the home is a guess, which is nobody else's business.
        if self.mapped {
            self.tell_node(control, relays);
        }
    }

    /// Tells the coordinator where we listen, if that is known.
    fn tell_node(&mut self, control: &Control, relays: &crate::derp::relay::Status) {
        if listen(&mut self.node, relays) {
            control.set_node(self.node.clone());
        }
    }

    fn change(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_modify(change);
    }
}

/// Says in a node where we listen, and how; whether that is anywhere.
fn listen(node: &mut Node, relays: &crate::derp::relay::Status) -> bool {
    let Some(home) = relays.home else { return false };
    node.home = home;
    node.as_of = Some(std::time::SystemTime::now());
    // Which family a relay answered by is not known; the key wants one.
    let latencies = relays.latencies.iter();
    node.derp_latency =
        latencies.map(|(id, took)| (format!("{}-v4", id.get()), took.as_secs_f64())).collect();
    let websocket = relays.websocket.iter();
    node.derp_forced_websocket = websocket.map(|(id, why)| (id.get(), why.clone())).collect();
    true
}

/// Tells what happened to a peer.
fn note(status: &watch::Sender<Status>, core: &Core, event: engine::Event) {
    match event {
        // Woken already.
        engine::Event::Stack(_) | engine::Event::DiscoPong(..) => {}
        engine::Event::PeerReachable(peer, took) => status.send_modify(|status| {
            status.lost.remove(&peer);
            status.reachable.insert(peer, took);
        }),
        engine::Event::PeerSilent(peer) => {
            let reached = status.borrow().control && status.borrow().relay;
            let silent = core.engine.handshake(peer) != Some(Handshake::Established);
            // Without a relay the silence is ours.
            if reached && silent {
                status.send_modify(|status| {
                    status.reachable.remove(&peer);
                    status.lost.insert(peer, "the agent does not answer".to_owned());
                });
            }
        }
        engine::Event::PeerRemoved(peer) => status.send_modify(|status| {
            status.paths.remove(&peer);
            if status.reachable.remove(&peer).is_some() {
                status.lost.insert(peer, "the agent has left".to_owned());
            }
        }),
        engine::Event::PathChanged(peer) => {
            let path = core.engine.path(peer);
            tracing::debug!(%peer, ?path, "another way");
            status.send_modify(|status| match path {
                Some(path) => {
                    status.paths.insert(peer, path);
                }
                None => {
                    status.paths.remove(&peer);
                }
            });
        }
        // The driver tells the coordinator.
        engine::Event::EndpointsChanged => {}
    }
}

/// The answer to a question; pending once it has been given.
async fn asked(info: &mut Option<InfoRequest>) -> Result<ConnectionInfo, DialError> {
    match info {
        Some(request) => {
            let answer = request.await;
            *info = None;
            answer
        }
        None => std::future::pending().await,
    }
}

/// News of the control connection; pending once it was refused for good, which it has told.
async fn told(news: &mut Option<mpsc::Receiver<ControlEvent>>) -> ControlEvent {
    loop {
        let Some(receiver) = news else { return std::future::pending().await };
        match receiver.recv().await {
            Some(event) => return event,
            None => *news = None,
        }
    }
}

/// Who we are to peers that look for a way to us.
fn identity(node: &NodePrivate, disco: DiscoPrivate) -> Identity {
    Identity {
        node: node.public(),
        disco,
        entropy: Box::new(|bytes| getrandom::fill(bytes).map_err(|_| NoEntropy)),
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[..N]);
    array
}
