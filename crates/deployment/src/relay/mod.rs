//! A DERP relay and STUN (coder/tailscale: derp/derp_server.go).
//!
//! ```text
//!   client A ── session: reader ── Inbox ──┐ runs for B                  ┌── Outbox ── writer ── B
//!                                          ├── route: who is here, ──────┤
//!                                          │   who may (Permits)         └── another replica
//! ```
//!
//! A relay authenticates keys and nothing else, so that it would carry packets between any two
//! programs of the world. This one asks [`Permits`] as well: a packet is passed on only between
//! keys of peers that share a tunnel in the coordinator. To everybody else a peer looks as if it
//! were not connected.
//!
//! The relays of several replicas are one (module `mesh`): each tells the others who is connected to
//! it, and passes packets on to the one that has their receiver.
//!
//! A packet is copied once, from the read buffer of its sender to the write queue of its receiver;
//! consecutive packets for the same receiver travel together, and everything that waits for a
//! client leaves in writes of up to 64 KiB. Queues are bounded and drop their oldest; whoever
//! fills one never waits for whoever empties it, so a slow client holds up nobody.

mod http;
mod inbox;
mod lane;
mod limits;
mod mesh;
mod outbox;
mod session;
pub mod stun;
mod switchboard;
mod talk;
mod wire;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use coderctl_tailnet::keys::{NoEntropy, NodePublic, RelayPrivate, RelayPublic};
use tokio::sync::{Semaphore, watch};

pub use self::{http::routes, limits::Limits, mesh::MeshKey, session::Ended};
use self::{outbox::Outbox, switchboard::Switchboard};

/// Who may use the relay to reach whom. The coordinator knows.
pub trait Permits: Send + Sync + 'static {
    /// Whether the key is a peer's.
    fn knows(&self, key: &NodePublic) -> bool;

    /// Whether packets may go from one key to the other.
    fn permits(&self, from: &NodePublic, to: &NodePublic) -> bool;

    /// A number that changes whenever an answer may have changed: answers are kept until then.
    fn generation(&self) -> u64;
}

/// Everybody may reach everybody, as with upstream's relay. For benchmarks and tests.
#[derive(Debug, Clone, Copy)]
pub struct Everybody;

impl Permits for Everybody {
    fn knows(&self, _key: &NodePublic) -> bool {
        true
    }

    fn permits(&self, _from: &NodePublic, _to: &NodePublic) -> bool {
        true
    }

    fn generation(&self) -> u64 {
        0
    }
}

/// What a relay is started with.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Its key; `None` for a new one. Clients learn it with every connection.
    pub key: Option<RelayPrivate>,
    /// What the relays of one deployment share, and nobody else knows; `None` for one that is
    /// alone.
    pub mesh_key: Option<MeshKey>,
    /// What clients may cost.
    pub limits: Limits,
}

/// A relay. Cheap to clone; clones are the same one.
#[derive(Clone)]
pub struct Relay(Arc<Inner>);

struct Inner {
    key: RelayPrivate,
    mesh_key: Option<MeshKey>,
    limits: Limits,
    permits: Arc<dyn Permits>,
    board: Mutex<Switchboard>,
    /// Changes with `board`.
    generation: AtomicU64,
    /// Places for logins that are under way.
    logins: Semaphore,
    frozen: watch::Sender<bool>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    passed: AtomicU64,
    passed_bytes: AtomicU64,
    overflown: AtomicU64,
    absent: AtomicU64,
    refused: AtomicU64,
}

/// What a relay has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Connections now.
    pub connections: usize,
    /// Clients of other replicas' relays that can be reached from here.
    pub elsewhere: usize,
    /// Packets that were queued for their receiver, or for the relay that has it.
    pub passed: u64,
    /// Their bytes, framing included.
    pub passed_bytes: u64,
    /// Packets that were dropped because a queue was full or a rate exceeded.
    pub overflown: u64,
    /// Packets for keys that were not connected.
    pub absent: u64,
    /// Packets between keys without a tunnel.
    pub refused: u64,
}

impl Relay {
    /// A relay without clients.
    ///
    /// # Errors
    ///
    /// [`NoEntropy`] when the system has no random numbers for a key.
    pub fn new(settings: Settings, permits: Arc<dyn Permits>) -> Result<Self, NoEntropy> {
        let Settings { key, mesh_key, limits } = settings;
        let key = key.map_or_else(RelayPrivate::random, Ok)?;
        Ok(Self(Arc::new(Inner {
            key,
            mesh_key,
            logins: Semaphore::new(limits.logins),
            limits,
            permits,
            board: Mutex::default(),
            generation: AtomicU64::new(0),
            frozen: watch::Sender::new(false),
            counters: Counters::default(),
        })))
    }

    /// The key by which it introduces itself.
    #[must_use]
    pub fn public_key(&self) -> RelayPublic {
        self.0.key.public()
    }

    /// A fault, for tests: a frozen relay keeps its connections and neither reads nor writes.
    pub fn freeze(&self, frozen: bool) {
        self.0.frozen.send_replace(frozen);
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counters = &self.0.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (connections, elsewhere) = {
            let board = self.0.board();
            (board.connections(), board.elsewhere())
        };
        Stats {
            connections,
            elsewhere,
            passed: read(&counters.passed),
            passed_bytes: read(&counters.passed_bytes),
            overflown: read(&counters.overflown),
            absent: read(&counters.absent),
            refused: read(&counters.refused),
        }
    }

    /// Whether a client with this key is connected here.
    #[must_use]
    pub fn has(&self, key: &NodePublic) -> bool {
        self.0.board().find(key).is_some()
    }
}

impl Inner {
    fn board(&self) -> MutexGuard<'_, Switchboard> {
        // Nothing panics while holding it; what it guards is whole in any case.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes who is here, so that routes are looked up anew.
    fn change<T>(&self, change: impl FnOnce(&mut Switchboard) -> T) -> T {
        let changed = change(&mut self.board());
        self.generation.fetch_add(1, Ordering::Release);
        changed
    }

    /// What routes depend on.
    fn generations(&self) -> (u64, u64) {
        (self.generation.load(Ordering::Acquire), self.permits.generation())
    }

    /// Where packets from one key to another go.
    fn route(&self, from: &NodePublic, to: &NodePublic) -> Route {
        if !self.permits.permits(from, to) {
            return Route::Refused;
        }
        match self.local_route(from, to) {
            Route::Absent => self.board().find_there(to).map_or(Route::Absent, Route::There),
            route @ (Route::Here(_) | Route::There(_) | Route::Refused) => route,
        }
    }

    /// Where packets of another relay's client go.
    fn local_route(&self, from: &NodePublic, to: &NodePublic) -> Route {
        let mut board = self.board();
        match board.find(to) {
            Some(outbox) => {
                board.note(*from, *to, self.limits.remembered);
                Route::Here(outbox)
            }
            None => Route::Absent,
        }
    }
}

/// Where packets go.
#[derive(Debug, Clone)]
enum Route {
    /// To a client of this relay.
    Here(Arc<Outbox>),
    /// To a client of another relay.
    There(Arc<Outbox>),
    /// To nobody: their receiver is not connected.
    Absent,
    /// To nobody: there is no tunnel.
    Refused,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("key", &self.public_key()).finish_non_exhaustive()
    }
}
