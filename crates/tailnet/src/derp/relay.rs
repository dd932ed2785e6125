//! All relays of one client: a connection to the home region for as long as we live, and to others
//! while something is sent there.
//!
//! ```text
//!                        ┌ home   ── outbox ─► connection ┐
//!   try_send ── route ──┤                                ├──► recv_batch
//!                        └ others ── outbox ─► connection ┘
//! ```
//!
//! A packet goes to the region that its sender names, the peer's home. Only when there is no
//! connection to it yet, and the peer was heard in another region that has one, the packet goes
//! back that way. Everything that any relay delivers comes out in one place; a peer answers through
//! our home if it can, and otherwise through where our packet came from.
//!
//! A region that breaks is connected anew, with growing delays; packets for it wait in its outbox.
//! Regions other than home are closed when nothing was sent there for a minute. Where there is more
//! than one region that may be home, they are measured, and home moves to the nearest. All of it
//! happens in tasks that belong to [`Relays`] and end with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use super::carrier::{Carrier, Choice};
use super::dial::Dial;
use super::frame::Frame;
use super::home::{Latencies, Round};
use super::outbox::Outbox;
pub use super::outbox::SendError;
use crate::derp_map::{DerpMap, RelayNode};
use crate::ids::RegionId;
use crate::keys::{NodePrivate, NodePublic};

mod backoff;
mod link;
mod measure;

/// How long nothing is sent to a region before its connection is closed
/// (coder/tailscale: wgengine/magicsock/derp.go).
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How often that is checked (same source).
const IDLE_CHECK: Duration = Duration::from_secs(15);

/// Batches between all readers and the user: about a megabyte.
const QUEUED_BATCHES: usize = 16;

/// Peers remembered for each region; more come only from a hostile relay.
const MAX_HEARD: usize = 4096;

/// A packet that a relay delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Over which region.
    pub region: RegionId,
    /// From whom.
    pub from: NodePublic,
    /// The packet: part of a read buffer, free to be changed in place.
    pub payload: BytesMut,
}

/// How the relays are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Where we listen.
    pub home: Option<RegionId>,
    /// Regions that accepted our login.
    pub connected: BTreeSet<RegionId>,
    /// Why a region is not connected, or what its relay finds wrong with us. Not to be printed
    /// unescaped.
    pub problems: BTreeMap<RegionId, String>,
    /// Regions that are reached by WebSocket, and why. Not to be printed unescaped.
    pub websocket: BTreeMap<RegionId, String>,
    /// How far away the regions are that answered when they were measured last; nothing while
    /// there is no choice, but for [`Relays::measure_always`].
    pub latencies: Round,
}

impl Status {
    /// Whether others can reach us.
    pub fn home_connected(&self) -> bool {
        self.home.is_some_and(|home| self.connected.contains(&home))
    }
}

/// The connections. Dropping it ends them all.
#[derive(Debug)]
pub struct Relays {
    shared: Arc<Shared>,
    incoming: mpsc::Receiver<Vec<Received>>,
    status: watch::Receiver<Status>,
    measuring: JoinHandle<()>,
}

/// What the region tasks share with the user.
#[derive(Debug)]
struct Shared {
    dialer: Arc<dyn Dial>,
    key: NodePrivate,
    runtime: Handle,
    incoming: mpsc::Sender<Vec<Received>>,
    status: watch::Sender<Status>,
    room: Arc<Notify>,
    /// Something happened that may make another region the better home.
    measure: Notify,
    /// Measure a region without rivals, too.
    lone: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    map: DerpMap,
    home: Option<RegionId>,
    links: BTreeMap<RegionId, Link>,
    /// The server wants relays to be reached by WebSocket only.
    force_websocket: bool,
    /// What was learnt of the ways to regions; outlives their links.
    choices: BTreeMap<RegionId, Choice>,
    latencies: Latencies,
    /// Which link is which, so that a task that ends late takes nobody else's place.
    generation: u64,
    closed: bool,
}

/// One region that is, or is to be, connected.
#[derive(Debug)]
struct Link {
    generation: u64,
    outbox: Arc<Outbox>,
    task: JoinHandle<()>,
    connected: bool,
    /// By what it is connected, or was last.
    carrier: Option<Carrier>,
    /// Something was sent since the last look.
    used: bool,
    /// Who was heard here since the connection began.
    heard: BTreeSet<NodePublic>,
}

impl Relays {
    /// Starts with the connection to `home`; packets may be sent at once. To be called within a
    /// tokio runtime.
    pub fn start(
        dialer: Arc<dyn Dial>,
        map: DerpMap,
        key: NodePrivate,
        home: Option<RegionId>,
    ) -> Relays {
        let (sender, incoming) = mpsc::channel(QUEUED_BATCHES);
        let (status_sender, status) = watch::channel(Status { home, ..Status::default() });
        let shared = Arc::new(Shared {
            dialer,
            key,
            runtime: Handle::current(),
            incoming: sender,
            status: status_sender,
            room: Arc::new(Notify::new()),
            measure: Notify::new(),
            lone: AtomicBool::new(false),
            state: Mutex::new(State { map, home, ..State::default() }),
        });
        if let Some(home) = home {
            shared.open(&mut shared.lock(), home);
        }
        let measuring = tokio::spawn(measure::keep_home(shared.clone()).boxed());
        Relays { shared, incoming, status, measuring }
    }

    /// Sends a packet to a peer whose home is `region`.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`]: try again after [`Relays::writable`]. [`SendError::NoRelay`]: the map
    /// has no such region.
    pub fn try_send(
        &self,
        region: RegionId,
        to: &NodePublic,
        packet: &[u8],
    ) -> Result<(), SendError> {
        let mut state = self.shared.lock();
        let route = state.route(region, to);
        if !state.links.contains_key(&route) {
            self.shared.open(&mut state, route);
        }
        let link = state.links.get_mut(&route).ok_or(SendError::NoRelay)?;
        link.used = true;
        link.outbox.try_send(to, packet)
    }

    /// Waits until a region that refused a packet has room again. For one waiting task.
    pub async fn writable(&self) {
        self.shared.room.notified().await;
    }

    /// What [`Relays::writable`] waits for, for a task that receives at the same time.
    pub fn room(&self) -> Arc<Notify> {
        self.shared.room.clone()
    }

    /// Waits for packets and appends all there are, up to a few hundred at once. Cancel safe.
    pub async fn recv_batch(&mut self, batch: &mut Vec<Received>) {
        std::future::poll_fn(|cx| self.poll_recv_batch(cx, batch)).await;
    }

    /// As [`Relays::recv_batch`].
    pub fn poll_recv_batch(&mut self, cx: &mut Context<'_>, batch: &mut Vec<Received>) -> Poll<()> {
        // The sender lives in `self`, so that the channel never ends.
        match self.incoming.poll_recv(cx) {
            Poll::Ready(Some(mut packets)) if batch.is_empty() => {
                std::mem::swap(batch, &mut packets);
                Poll::Ready(())
            }
            Poll::Ready(Some(mut packets)) => {
                batch.append(&mut packets);
                Poll::Ready(())
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Uses another map: regions whose relays changed are connected anew, those that are gone are
    /// left. When home is gone (or there was none) another is chosen; the [`Status`] says which.
    pub fn set_map(&self, map: DerpMap) {
        let mut state = self.shared.lock();
        let changed = state.map.changed_regions(&map);
        let had = std::mem::replace(&mut state.map, map).regions.len();
        // What was learnt of a region holds for its relays.
        for region in &changed {
            state.choices.remove(region);
        }
        let cut = self.shared.cut(&mut state, changed);
        if !state.home.is_some_and(|home| state.has_relay(home)) {
            let home = state.map.choose_home();
            tracing::debug!(
                ?home,
                regions = state.map.regions.len(),
                had,
                "home relay chosen anew"
            );
            self.shared.move_home(&mut state, home);
        }
        self.shared.reopen(&mut state, cut);
        drop(state);
        self.measure();
    }

    /// Reaches every region by WebSocket only, or (`false`) by what works; connections by another
    /// way are made anew.
    pub fn force_websocket(&self, force: bool) {
        let mut state = self.shared.lock();
        if std::mem::replace(&mut state.force_websocket, force) || !force {
            return;
        }
        let upgraded = |(region, link): (&RegionId, &Link)| {
            (link.carrier != Some(Carrier::WebSocket)).then_some(*region)
        };
        let wrong = state.links.iter().filter_map(upgraded).collect();
        let cut = self.shared.cut(&mut state, wrong);
        self.shared.reopen(&mut state, cut);
    }

    /// Measures the regions soon, because the network may have changed, and moves home where
    /// another is better.
    pub fn measure(&self) {
        self.shared.measure.notify_one();
    }

    /// Measures from now on where there is no choice, too, for those whom the latency is told.
    pub fn measure_always(&self) {
        self.shared.lone.store(true, Ordering::Relaxed);
        self.measure();
    }

    /// The network is another one: connections that do not prove at once that they live are made
    /// anew, those that could not be made are tried again, and the regions are measured.
    pub fn network_changed(&self) {
        for link in self.shared.lock().links.values() {
            link.outbox.doubt();
        }
        self.measure();
    }

    /// Listens in another region from now on.
    pub fn set_home(&self, home: RegionId) {
        let mut state = self.shared.lock();
        if state.home != Some(home) {
            self.shared.move_home(&mut state, Some(home));
        }
    }

    /// How the relays are, now and whenever it changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits until everything sent so far was given to the operating system. What waits for a
    /// region that cannot be reached waits for ever: to be used with a limit.
    pub async fn flushed(&self) {
        let outboxes: Vec<Arc<Outbox>> =
            self.shared.lock().links.values().map(|link| link.outbox.clone()).collect();
        for outbox in outboxes {
            outbox.flushed().await;
        }
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        self.measuring.abort();
        let mut state = self.shared.lock();
        state.closed = true;
        for link in state.links.values() {
            link.task.abort();
        }
        state.links.clear();
    }
}

impl State {
    fn route(&self, region: RegionId, to: &NodePublic) -> RegionId {
        let connected = |region| self.links.get(region).is_some_and(|link| link.connected);
        if connected(&region) || self.home == Some(region) {
            return region;
        }
        let heard = |(region, link): (&RegionId, &Link)| {
            (link.connected && link.heard.contains(to)).then_some(*region)
        };
        self.links.iter().find_map(heard).unwrap_or(region)
    }

    /// By what a region is to be reached next.
    fn carrier(&self, region: RegionId) -> Carrier {
        if self.force_websocket {
            return Carrier::WebSocket;
        }
        self.choices.get(&region).map_or(Carrier::Upgrade, Choice::carrier)
    }

    fn has_relay(&self, region: RegionId) -> bool {
        self.map.regions.get(&region).is_some_and(|region| region.has_relay())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it; what it guards is whole in any case.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to connect a region, if the map has it.
    fn open(self: &Arc<Self>, state: &mut State, region: RegionId) {
        let outbox = Arc::new(Outbox::new(self.room.clone()));
        self.open_with(state, region, outbox);
    }

    fn open_with(self: &Arc<Self>, state: &mut State, region: RegionId, outbox: Arc<Outbox>) {
        if state.closed {
            return;
        }
        let nodes: Vec<RelayNode> = match state.map.regions.get(&region) {
            Some(region) if region.has_relay() => region.relays().cloned().collect(),
            Some(_) | None => return,
        };
        state.generation += 1;
        let generation = state.generation;
        let task = self.runtime.spawn(
            link::serve(self.clone(), link::Place { region, generation }, nodes, outbox.clone())
                .boxed(),
        );
        let link = Link {
            generation,
            outbox,
            task,
            connected: false,
            carrier: None,
            used: true,
            heard: BTreeSet::new(),
        };
        if let Some(replaced) = state.links.insert(region, link) {
            replaced.task.abort();
        }
    }

    /// Ends connections; what waits for them is given back, for [`Shared::reopen`].
    fn cut(&self, state: &mut State, regions: BTreeSet<RegionId>) -> Vec<(RegionId, Arc<Outbox>)> {
        let mut cut = Vec::new();
        for region in regions {
            if let Some(link) = state.links.remove(&region) {
                link.task.abort();
                self.forget(region, None);
                cut.push((region, link.outbox));
            }
        }
        cut
    }

    /// Connects regions anew, those that still are in the map, with what waited for them.
    fn reopen(self: &Arc<Self>, state: &mut State, cut: Vec<(RegionId, Arc<Outbox>)>) {
        for (region, outbox) in cut {
            if state.has_relay(region) && !state.links.contains_key(&region) {
                outbox.restart();
                self.open_with(state, region, outbox);
            }
        }
    }

    fn move_home(self: &Arc<Self>, state: &mut State, home: Option<RegionId>) {
        let old = std::mem::replace(&mut state.home, home);
        for (region, preferred) in [(old, false), (home, true)] {
            // One that is not connected yet says so when it is.
            if let Some(link) = region.and_then(|region| state.links.get(&region))
                && link.connected
            {
                link.outbox.put_frame(&Frame::NotePreferred(preferred));
            }
        }
        if let Some(home) = home
            && !state.links.contains_key(&home)
        {
            self.open(state, home);
        }
        self.status.send_modify(|status| status.home = home);
    }

    /// A region is not connected (any more).
    fn forget(&self, region: RegionId, problem: Option<String>) {
        self.status.send_if_modified(|status| {
            let was = status.connected.remove(&region);
            status.websocket.remove(&region);
            let before = match &problem {
                Some(problem) => status.problems.insert(region, problem.clone()),
                None => status.problems.remove(&region),
            };
            was || before != problem
        });
    }
}
