//! A tunnel to an agent, begun before it is known which.
//!
//! ```text
//!   at once       connection info (REST) · coordination socket · relay at the server's own URL
//!   agent known   add_peer ─► its node ─► handshake ─► up
//! ```
//!
//! Each of the three has its fallback: servers without the endpoints that need no agent answer
//! 404, and are asked for the agent once it is known; a relay that is not at the server's URL is
//! found in the map.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use coderctl_tailnet::{
    control::{DialError, DialFailure, Refusal},
    derp::dial::TransportDial,
    derp_map::DerpMap,
    ids::{PeerId, RegionId},
    paths,
    shell::{
        ConnectionInfo, ControlDial, ControlStream, Handle, InfoRequest, Options, Status, Tailnet,
        UdpFlow,
    },
};
use coderctl_tunneler::{AgentId, Failure, FailureKind};
use tokio::{net::TcpStream, sync::watch};
use uuid::Uuid;

use super::{facts, world::Dialed};
use crate::{
    api::{self, Client},
    apps::{BoxFuture, Datagrams, Path, Relays, Spliced, Stream, Tunnel},
    config::dial_timeout,
    splice::splice,
};

/// How long a port of the workspace may take to answer. The agent dials it before it answers us,
/// and gives up after a while itself.
const PORT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the coordinator and the relay may be out of reach: twice what one connection to them
/// may take.
const WAY_TIMEOUT: Duration = Duration::from_secs(20);

/// How long an agent that the coordinator knows may leave us without an answer. A loaded one was
/// seen to need more than a second; one that restarts needs some.
const AGENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes tailnets.
pub(super) struct Dialer {
    client: Client,
    /// Whether the user allows direct ways.
    direct: bool,
    /// One that was begun early, until somebody dials.
    early: Mutex<Option<Begun>>,
    /// For each step of a dial, instead of the usual limits: for tests and odd networks.
    limit: Option<Duration>,
    /// Tailnets whose dial was given up; they take their leave at the end.
    given_up: Arc<Mutex<Vec<Tailnet>>>,
}

/// A tailnet that does not know its agent yet.
struct Begun {
    tailnet: Tailnet,
    agent: watch::Sender<Option<Uuid>>,
}

impl Dialer {
    pub(super) fn new(client: Client, direct: bool) -> Self {
        let limit = dial_timeout();
        Self { client, direct, early: Mutex::new(None), limit, given_up: Arc::default() }
    }

    /// Begins what does not depend on the agent.
    pub(super) fn begin_early(&self) {
        match self.begin() {
            Ok(begun) => *lock(&self.early) = Some(begun),
            // The dial tries again and says why not.
            Err(failure) => tracing::debug!(%failure, "no early tailnet"),
        }
    }

    /// A tunnel to `agent`, however long that takes.
    pub(super) async fn dial(&self, agent: AgentId) -> Result<Box<dyn Dialed>, Failure> {
        let early = lock(&self.early).take();
        let begun = match early {
            Some(begun) => begun,
            None => self.begin()?,
        };
        let uuid = Uuid::from_u128(agent.0);
        let peer = PeerId::from(uuid);
        begun.agent.send_replace(Some(uuid));
        begun.tailnet.add_peer(peer);
        let mut status = begun.tailnet.status();
        let mut pending =
            Pending { tailnet: Some(begun.tailnet), given_up: Arc::clone(&self.given_up) };
        // What an earlier dial left behind goes while this one comes.
        let (outcome, ()) = tokio::join!(self.reach(&mut status, peer), self.leave());
        let Some(tailnet) = pending.tailnet.take() else {
            return Err(Failure::new(FailureKind::Transient, "the tailnet ended"));
        };
        match outcome {
            Ok(took) => Ok(Box::new(Connection { handle: tailnet.handle(), tailnet, peer, took })),
            Err(failure) => {
                tailnet.close().await;
                Err(failure)
            }
        }
    }

    /// Waits until `peer` can be reached; how long its handshake took.
    async fn reach(
        &self,
        status: &mut watch::Receiver<Status>,
        peer: PeerId,
    ) -> Result<Duration, Failure> {
        let mut limits = Limits::begin(self.limit);
        loop {
            let deadline = match stand(&status.borrow_and_update(), peer) {
                Stand::Up(took) => return Ok(took),
                Stand::Refused(failure) => return Err(failure),
                Stand::Waiting(on) => limits.for_step(on),
            };
            tokio::select! {
                changed = status.changed() => if changed.is_err() {
                    return Err(Failure::new(FailureKind::Transient, "the tailnet ended"));
                },
                () = tokio::time::sleep_until(deadline.at) => {
                    let why = deadline.why(&status.borrow());
                    return Err(Failure::new(FailureKind::Transient, why));
                }
            }
        }
    }

    /// Takes leave of everything that was given up.
    pub(super) async fn leave(&self) {
        let all = std::mem::take(&mut *lock(&self.given_up));
        futures_util::future::join_all(all.into_iter().map(Tailnet::close)).await;
    }

    fn begin(&self) -> Result<Begun, Failure> {
        let (agent, known) = watch::channel(None);
        let client = &self.client;
        let options = Options {
            server: client.url().clone(),
            relays: Arc::new(TransportDial::new(client.transport().clone())),
            control: coordinator(client.clone(), known.clone()),
            info: connection_info(client.clone(), known),
            direct: self.direct,
            description: "coderctl".to_owned(),
        };
        let tailnet = Tailnet::start(options)
            .map_err(|error| Failure::new(FailureKind::Refused, error.to_string()))?;
        Ok(Begun { tailnet, agent })
    }
}

/// Where a dial stands.
enum Stand {
    Up(Duration),
    Refused(Failure),
    Waiting(Step),
}

/// What a dial waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Coordinator,
    Relay,
    Agent,
}

fn stand(status: &Status, peer: PeerId) -> Stand {
    match (status.reachable.get(&peer), &status.refused) {
        (Some(took), _) => Stand::Up(*took),
        (None, Some((refusal, why))) => {
            let kind = match refusal {
                Refusal::Login => FailureKind::Login,
                Refusal::Version => FailureKind::Protocol,
                Refusal::Other => FailureKind::Refused,
            };
            Stand::Refused(Failure::new(kind, why.clone()))
        }
        (None, None) if !status.control => Stand::Waiting(Step::Coordinator),
        (None, None) if !status.relay => Stand::Waiting(Step::Relay),
        (None, None) => Stand::Waiting(Step::Agent),
    }
}

/// How long a dial may wait for each step.
struct Limits {
    limit: Option<Duration>,
    /// When each step was first waited for. A relay that lets us in and drops us again and again
    /// gets no more time than one that does not answer.
    begun: BTreeMap<Step, tokio::time::Instant>,
}

/// When a step has had its time.
struct Deadline {
    step: Step,
    limit: Duration,
    at: tokio::time::Instant,
}

impl Limits {
    fn begin(limit: Option<Duration>) -> Self {
        Self { limit, begun: BTreeMap::new() }
    }

    /// The deadline of `step`, which began when it was first waited for.
    fn for_step(&mut self, step: Step) -> Deadline {
        let since = *self.begun.entry(step).or_insert_with(tokio::time::Instant::now);
        let limit = self.limit.unwrap_or(match step {
            Step::Coordinator | Step::Relay => WAY_TIMEOUT,
            Step::Agent => AGENT_TIMEOUT,
        });
        Deadline { step, limit, at: since + limit }
    }
}

impl Deadline {
    /// Who did not answer, and what is known of why.
    fn why(&self, status: &Status) -> String {
        let after = self.limit.as_secs_f32();
        let cause = status.problem.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
        match self.step {
            Step::Coordinator => {
                format!("no connection to the coordinator within {after} s{cause}")
            }
            Step::Relay => format!("no connection to the relay within {after} s{cause}"),
            Step::Agent => format!("the agent did not answer within {after} s{cause}"),
        }
    }
}

/// A tailnet that is being dialled. Dropped, it is kept for its goodbye: the agent may know us
/// already, and would keep a peer that just disappears for a quarter of an hour.
struct Pending {
    tailnet: Option<Tailnet>,
    given_up: Arc<Mutex<Vec<Tailnet>>>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(tailnet) = self.tailnet.take() {
            lock(&self.given_up).push(tailnet);
        }
    }
}

/// Opens the coordination socket: the one for all agents, or the agent's own where a server (or
/// what stands before it) does not have that.
fn coordinator(
    client: Client,
    agent: watch::Receiver<Option<Uuid>>,
) -> Box<dyn FnMut(Option<coderctl_tailnet::control::ResumeToken>) -> ControlDial + Send> {
    let for_all = Arc::new(AtomicBool::new(true));
    Box::new(move |resume| {
        let (client, mut agent) = (client.clone(), agent.clone());
        let for_all = Arc::clone(&for_all);
        Box::pin(async move {
            use std::sync::atomic::Ordering::Relaxed;
            let token = resume.as_ref().map(|token| token.expose());
            if for_all.load(Relaxed) {
                match open(&client, None, token).await {
                    Err(error) if error.failure == DialFailure::Refused => {
                        tracing::debug!(%error, "no coordination without an agent");
                        for_all.store(false, Relaxed);
                    }
                    outcome => return outcome,
                }
            }
            let known = agent.wait_for(Option::is_some).await.ok().and_then(|known| *known);
            let Some(known) = known else {
                return Err(DialError::transient("the tunnel was given up"));
            };
            open(&client, Some(known), token).await
        })
    })
}

async fn open(
    client: &Client,
    agent: Option<Uuid>,
    resume_token: Option<&str>,
) -> Result<std::pin::Pin<Box<dyn ControlStream>>, DialError> {
    let request = client.coordinate_request(agent, resume_token).map_err(DialError::transient)?;
    match client.transport().websocket(request, Default::default()).await {
        Ok(socket) => Ok(Box::pin(socket.into_stream())),
        Err(coderctl_transport::Error::Status { parts, body, .. }) => {
            Err(DialError::from_response(parts.status.as_u16(), &body))
        }
        Err(error) => Err(DialError::transient(facts::chain(&error))),
    }
}

/// Asks how peers are reached: without an agent, and with it where that is refused.
fn connection_info(
    client: Client,
    agent: watch::Receiver<Option<Uuid>>,
) -> Box<dyn FnMut() -> InfoRequest + Send> {
    Box::new(move || {
        let (client, mut agent) = (client.clone(), agent.clone());
        Box::pin(async move {
            let info = match client.connection_info(None).await {
                Err(error) if error.status().is_some() => {
                    let known = agent.wait_for(Option::is_some).await.ok().and_then(|known| *known);
                    client.connection_info(known).await
                }
                outcome => outcome,
            };
            let info =
                info.map_err(|error: api::Error| DialError::transient(facts::chain(&error)))?;
            Ok(ConnectionInfo {
                map: DerpMap::from_value(&info.derp_map).map_err(DialError::transient)?,
                force_websockets: info.derp_force_websockets,
                disable_direct: info.disable_direct_connections,
            })
        })
    })
}

/// A tunnel that is up.
struct Connection {
    tailnet: Tailnet,
    handle: Handle,
    peer: PeerId,
    took: Duration,
}

impl Dialed for Connection {
    fn tunnel(&self) -> Arc<dyn Tunnel> {
        Arc::new(AgentTunnel {
            handle: self.handle.clone(),
            measuring: AtomicBool::new(false),
            status: self.tailnet.status(),
            peer: self.peer,
        })
    }

    fn lost(&self) -> BoxFuture<'static, String> {
        let (mut status, peer) = (self.tailnet.status(), self.peer);
        Box::pin(async move {
            loop {
                if let Some(why) = status.borrow_and_update().lost.get(&peer) {
                    return why.clone();
                }
                if status.changed().await.is_err() {
                    return "the tunnel ended".to_owned();
                }
            }
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(self.tailnet.close())
    }

    fn describe(&self) -> String {
        let handshakes = self.handle.tunnel_stats().handshakes_initiated;
        let plural = if handshakes == 1 { "" } else { "s" };
        format!("by relay, {handshakes} handshake{plural} in {} ms", self.took.as_millis())
    }
}

/// What apps see.
struct AgentTunnel {
    handle: Handle,
    /// Whether the relays' latencies are asked for.
    measuring: AtomicBool,
    status: watch::Receiver<Status>,
    peer: PeerId,
}

impl AgentTunnel {
    async fn connect(&self, port: u16) -> io::Result<coderctl_tailnet::shell::TcpStream> {
        match tokio::time::timeout(PORT_TIMEOUT, self.handle.connect(self.peer, port)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer within {} s", PORT_TIMEOUT.as_secs()),
            )),
        }
    }
}

impl Tunnel for AgentTunnel {
    fn dial(&self, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move { Ok(Box::new(self.connect(port).await?) as Box<dyn Stream>) })
    }

    fn splice(&self, mut local: TcpStream, port: u16) -> BoxFuture<'_, io::Result<Spliced>> {
        Box::pin(async move {
            let mut remote = match self.connect(port).await {
                Ok(remote) => remote,
                Err(error) => {
                    reset(&local);
                    return Err(error);
                }
            };
            if let Err(error) = local.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY");
            }
            match splice(&mut local, &mut remote).await {
                Ok((sent, received)) => Ok(Spliced { sent, received }),
                Err(error) => {
                    // Whoever is left must not take a broken transfer for a finished one.
                    reset(&local);
                    Err(io::Error::new(io::ErrorKind::ConnectionAborted, error))
                }
            }
        })
    }

    fn datagrams(&self, port: u16) -> io::Result<Box<dyn Datagrams>> {
        Ok(Box::new(AgentDatagrams(self.handle.datagrams(self.peer, port)?)))
    }

    fn ping(&self) -> BoxFuture<'_, io::Result<Duration>> {
        Box::pin(self.handle.ping(self.peer))
    }

    fn path(&self) -> Path {
        match self.handle.path(self.peer).map(|info| info.path) {
            Some(paths::Path::Direct(address)) => Path::Direct(address),
            Some(paths::Path::Relay(region)) => {
                let name = self.status.borrow().regions.get(&region).cloned();
                Path::Relay(name.unwrap_or_else(|| region.to_string()))
            }
            None => Path::None,
        }
    }

    fn relays(&self) -> Relays {
        if !self.measuring.swap(true, Ordering::Relaxed) {
            self.handle.measure_relays();
        }
        let status = self.status.borrow();
        let name = |region: &RegionId| status.regions.get(region).cloned();
        let latencies = status.latencies.iter();
        Relays {
            home: status.home.as_ref().and_then(name),
            latencies: latencies.filter_map(|(id, took)| Some((name(id)?, *took))).collect(),
        }
    }
}

/// What apps see of a flow of datagrams.
struct AgentDatagrams(UdpFlow);

impl Datagrams for AgentDatagrams {
    fn send(&self, payload: &[u8]) -> io::Result<()> {
        self.0.send(payload)
    }

    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<BytesMut>> {
        self.0.poll_recv(cx)
    }
}

/// Has the socket answer with a reset when it is dropped.
fn reset(local: &TcpStream) {
    if let Err(error) = local.set_zero_linger() {
        tracing::debug!(%error, "SO_LINGER");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
