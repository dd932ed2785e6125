//! Tailnet coordination: who may reach whom, and where (coder/coder: tailnet/coordinator.go,
//! tailnet/service.go, coderd/workspaceagents.go).
//!
//! ```text
//!   client ── WebSocket, yamux ──┐ dRPC calls           ┌── Core (pure): peers, tunnels, mail
//!                                ├── check, Access ─────┤
//!   agent ─── its RPC session ───┘                      └── Permits: what the relay lets pass
//! ```
//!
//! Several processes on one state tell each other of their peers through its notifications (module
//! `replicas`), so that an agent of one and a client of another find each other.
//!
//! A client may reach an agent when [`Access`] says so, at the moment when it asks for the tunnel;
//! an agent never asks, and may only have addresses that follow from its id.

mod access;
mod calls;
mod check;
mod core;
mod derp_map;
mod http;
mod mailbox;
mod replicas;
mod resume;
mod tunnels;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use coderctl_drpc::proto::tailnet as proto;
use coderctl_tailnet::{
    ids::PeerId,
    keys::{NoEntropy, NodePublic},
};
use tokio::sync::{Notify, watch};
use url::Url;
use uuid::Uuid;

use self::{
    core::{Core, Mail, SessionId},
    resume::Resume,
};
pub use self::{
    derp_map::{ConnectionInfo, DerpMap, EMBEDDED_REGION, Node, Region},
    http::routes,
    resume::{LIFE as RESUME_LIFE, ResumeError},
};
use crate::relay::Permits;

/// How often what is over is forgotten.
const EXPIRE: Duration = Duration::from_secs(60);

/// Says who may reach which agent. The store knows.
pub trait Access: Send + Sync + 'static {
    /// Whether a user may open a tunnel to an agent. An agent that does not exist may not be
    /// reached.
    fn may_reach(&self, user: Uuid, agent: Uuid) -> AccessFuture<'_>;
}

/// What [`Access::may_reach`] gives.
pub type AccessFuture<'a> = Pin<Box<dyn Future<Output = Result<bool, AccessError>> + Send + 'a>>;

/// It could not be found out.
#[derive(Debug, thiserror::Error)]
#[error("whether the agent may be reached is not known: {0}")]
pub struct AccessError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// What a coordinator is started with.
pub struct Settings {
    /// The relays that peers are told of.
    pub derp_map: DerpMap,
    /// Who may reach which agent.
    pub access: Arc<dyn Access>,
    /// Signs resume tokens; `None` for a new key, with which a restart makes every client somebody
    /// new. Replicas share one.
    pub resume_key: Option<[u8; 32]>,
}

/// A client of the tailnet API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Its name as a peer: a new random one, or that of its resume token.
    pub peer: PeerId,
    /// Whose it is.
    pub user: Uuid,
    /// The one agent that it may reach, at the endpoint of that agent.
    pub only: Option<Uuid>,
}

/// The coordinator. Cheap to clone; clones are the same one.
#[derive(Clone)]
pub struct Coordinator(Arc<Inner>);

struct Inner {
    access: Arc<dyn Access>,
    resume: Resume,
    derp_map: watch::Sender<DerpMap>,
    state: Mutex<State>,
    /// That of the core, to be read without waiting for it.
    generation: AtomicU64,
    /// Rings when other replicas must know something.
    outgoing: Notify,
    /// Where the relays of other replicas are.
    relays: watch::Sender<BTreeMap<Uuid, Url>>,
}

struct State {
    core: Core,
    /// Rings when there is mail.
    bells: HashMap<SessionId, Arc<Notify>>,
    expired: Instant,
}

impl Coordinator {
    /// A coordinator without peers.
    ///
    /// # Errors
    ///
    /// [`NoEntropy`] when the system has no random numbers for a key.
    pub fn new(settings: Settings) -> Result<Self, NoEntropy> {
        let Settings { derp_map, access, resume_key } = settings;
        let key = resume_key.map_or_else(random, Ok)?;
        let state = State { core: Core::default(), bells: HashMap::new(), expired: now() };
        Ok(Self(Arc::new(Inner {
            access,
            resume: Resume::new(&key),
            derp_map: watch::Sender::new(derp_map),
            state: Mutex::new(state),
            generation: AtomicU64::new(0),
            outgoing: Notify::new(),
            relays: watch::Sender::default(),
        })))
    }

    /// The relays that peers are told of, now and whenever they change.
    #[must_use]
    pub fn derp_map(&self) -> watch::Receiver<DerpMap> {
        self.0.derp_map.subscribe()
    }

    /// Tells all peers of other relays.
    pub fn set_derp_map(&self, map: DerpMap) {
        self.0.derp_map.send_if_modified(|known| {
            let changed = *known != map;
            *known = map;
            changed
        });
    }

    /// What a client has to know before it connects.
    #[must_use]
    pub fn connection_info(&self) -> ConnectionInfo {
        ConnectionInfo {
            derp_map: self.0.derp_map.borrow().clone(),
            derp_force_websockets: false,
            disable_direct_connections: false,
            hostname_suffix: "coder".to_owned(),
        }
    }

    /// The name of a new client.
    ///
    /// # Errors
    ///
    /// [`NoEntropy`] when the system has no random numbers for it.
    pub fn new_peer(&self) -> Result<PeerId, NoEntropy> {
        random().map(PeerId::random)
    }

    /// The name of a client that comes back.
    ///
    /// # Errors
    ///
    /// [`ResumeError`]: the client is to be told, and comes again without the token.
    pub fn resume(&self, token: &str, user: Uuid) -> Result<PeerId, ResumeError> {
        self.0.resume.verify(token, user, SystemTime::now())
    }

    /// How a peer can be reached, when it is connected and has said so.
    #[must_use]
    pub fn node(&self, peer: PeerId) -> Option<proto::Node> {
        self.0.with(|core, _| core.node(peer).map(|node| (**node).clone()))
    }

    /// Where the relays of other replicas are, now and whenever that changes.
    #[must_use]
    pub fn relays(&self) -> watch::Receiver<BTreeMap<Uuid, Url>> {
        self.0.relays.subscribe()
    }

    /// How many peers are connected, and how many tunnels there are.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        self.0.with(|core, _| core.size())
    }
}

impl Permits for Coordinator {
    fn knows(&self, key: &NodePublic) -> bool {
        self.0.with(|core, _| core.knows(key))
    }

    fn permits(&self, from: &NodePublic, to: &NodePublic) -> bool {
        self.0.with(|core, now| core.permits(from, to, now))
    }

    fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it; what it guards is whole in any case.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the core and sees to what follows from it.
    fn with<T>(&self, change: impl FnOnce(&mut Core, Instant) -> T) -> T {
        let now = now();
        let mut state = self.lock();
        let result = change(&mut state.core, now);
        if now.saturating_duration_since(state.expired) >= EXPIRE {
            state.expired = now;
            state.core.expire(now);
        }
        self.generation.store(state.core.generation(), Ordering::Release);
        for session in state.core.take_woken() {
            if let Some(bell) = state.bells.get(&session) {
                bell.notify_one();
            }
        }
        if state.core.has_outgoing() {
            self.outgoing.notify_one();
        }
        result
    }
}

/// A peer's place in the coordinator; dropping it loses the peer.
struct Seat {
    inner: Arc<Inner>,
    session: SessionId,
    bell: Arc<Notify>,
}

impl Seat {
    /// Takes a place; that of an earlier connection of the same peer, if there is one. `None` when
    /// there is no room.
    fn take(inner: Arc<Inner>, peer: PeerId) -> Option<Self> {
        let bell = Arc::new(Notify::new());
        let session = inner.with(|core, _| core.connect(peer, stamp()))?;
        inner.lock().bells.insert(session, bell.clone());
        Some(Self { inner, session, bell })
    }

    /// Waits for what is to be said next.
    async fn mail(&self) -> Mail {
        loop {
            match self.inner.with(|core, _| core.mail(self.session)) {
                Mail::Empty => self.bell.notified().await,
                mail @ (Mail::Response(_) | Mail::Closed(_)) => return mail,
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.inner.with(|core, now| core.leave(self.session, now));
        self.inner.lock().bells.remove(&self.session);
    }
}

fn now() -> Instant {
    // The runtime's clock, which tests may turn.
    tokio::time::Instant::now().into_std()
}

/// Larger the later it is, in all replicas as far as their clocks agree: microseconds since 1970.
fn stamp() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_micros().try_into().unwrap_or(u64::MAX)
}

fn random<const N: usize>() -> Result<[u8; N], NoEntropy> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| NoEntropy)?;
    Ok(bytes)
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (peers, tunnels) = self.size();
        f.debug_struct("Coordinator")
            .field("peers", &peers)
            .field("tunnels", &tunnels)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("derp_map", &self.derp_map).finish_non_exhaustive()
    }
}
