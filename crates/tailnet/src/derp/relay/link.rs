//! One region: connect, serve, wait, connect anew.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::backoff::Backoff;
use super::{IDLE_CHECK, IDLE_TIMEOUT, Link, MAX_HEARD, Received, Shared, State};
use crate::derp::carrier::{Carrier, refuses_upgrade};
use crate::derp::client::Event;
use crate::derp::connection::{self, CONNECT_TIMEOUT, ConnectionError, Open, Sink};
use crate::derp::frame::PeerGone;
use crate::derp::outbox::Outbox;
use crate::derp_map::RelayNode;
use crate::ids::RegionId;
use crate::keys::NodePublic;

/// Limit for one node of a region that has several, so that one that is down does not use up
/// the time of the others. (Upstream: 1.5 s, for TCP alone.)
const NODE_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest pause that a relay may ask for before it restarts.
const MAX_RESTART_PAUSE: Duration = Duration::from_secs(30);

/// Which link a task is; it stops to matter when another has taken the region.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) region: RegionId,
    pub(super) generation: u64,
}

/// Keeps a region connected until it is idle, or for ever if it is home.
pub(super) async fn serve(
    shared: Arc<Shared>,
    place: Place,
    nodes: Vec<RelayNode>,
    outbox: Arc<Outbox>,
) {
    tokio::select! {
        () = stay_connected(&shared, place, &nodes, &outbox) => {}
        () = idle(&shared, place) => {}
    }
    let mut state = shared.lock();
    if place.link(&mut state).is_some() {
        state.links.remove(&place.region);
        shared.forget(place.region, None);
    }
}

async fn stay_connected(shared: &Shared, place: Place, nodes: &[RelayNode], outbox: &Outbox) {
    let mut backoff = Backoff::default();
    loop {
        outbox.restart();
        let connected = tokio::select! {
            connected = connect(shared, place, nodes) => connected,
            // What was begun on another network may never be answered.
            () = outbox.doubted() => {
                backoff.reset();
                continue;
            }
        };
        let mut sink = Deliver { shared, place, backoff: &mut backoff, pause: None };
        let problem = match connected {
            Ok(open) => connection::run(open, outbox, &mut sink).await.to_string(),
            Err(problem) => problem,
        };
        let pause = sink.pause;
        tracing::debug!(region = %place.region, problem, "relay connection ended");
        place.disconnected(shared, problem);
        tokio::select! {
            () = sleep(pause.unwrap_or_else(|| backoff.next(random()))) => {}
            () = outbox.doubted() => backoff.reset(),
        }
    }
}

/// The first node that answers, or what is to be told of them all. One that refuses the upgrade is
/// asked for a WebSocket at once.
async fn connect(shared: &Shared, place: Place, nodes: &[RelayNode]) -> Result<Open, String> {
    let limit = if nodes.len() > 1 { NODE_TIMEOUT } else { CONNECT_TIMEOUT };
    let carrier = shared.lock().carrier(place.region);
    let mut last = ConnectionError::Timeout;
    for node in nodes {
        let error = match try_node(shared, place, node, carrier, limit).await {
            Ok((open, home)) => {
                place.connected(shared, home, carrier, None);
                return Ok(open);
            }
            Err(error) => error,
        };
        if carrier == Carrier::Upgrade && refuses_upgrade(&error) {
            let instead = Carrier::WebSocket;
            if let Ok((open, home)) = try_node(shared, place, node, instead, limit).await {
                tracing::debug!(region = %place.region, %error, "WebSocket in place of an upgrade");
                place.connected(shared, home, instead, Some(&error));
                return Ok(open);
            }
        }
        last = error;
    }
    Err(shared.lock().choices.entry(place.region).or_default().failed(&last))
}

/// A connection to one node, and whether it was told to be home.
async fn try_node(
    shared: &Shared,
    place: Place,
    node: &RelayNode,
    carrier: Carrier,
    limit: Duration,
) -> Result<(Open, bool), ConnectionError> {
    let open = async {
        let stream = shared.dialer.dial(node, carrier).await?;
        let home = shared.lock().home == Some(place.region);
        let open = connection::welcome(stream, shared.key.clone(), home).await?;
        Ok((open, home))
    };
    timeout(limit, open).await.unwrap_or(Err(ConnectionError::Timeout))
}

/// Ends when nothing was sent for a while and this is not home.
async fn idle(shared: &Shared, place: Place) {
    let mut idle = Duration::ZERO;
    while idle < IDLE_TIMEOUT {
        sleep(IDLE_CHECK).await;
        let mut state = shared.lock();
        let home = state.home == Some(place.region);
        let used = place.link(&mut state).is_some_and(|link| std::mem::take(&mut link.used));
        idle = if home || used { Duration::ZERO } else { idle + IDLE_CHECK };
    }
}

/// Spreads delays; without random numbers they are not spread.
fn random() -> u16 {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_or(u16::MAX / 2, |()| u16::from_be_bytes(bytes))
}

impl Place {
    fn link(self, state: &mut State) -> Option<&mut Link> {
        state.links.get_mut(&self.region).filter(|link| link.generation == self.generation)
    }

    /// The relay named its key and has our login. `refusal` is what became of the upgrade that a
    /// WebSocket takes the place of.
    fn connected(
        self,
        shared: &Shared,
        said_home: bool,
        carrier: Carrier,
        refusal: Option<&ConnectionError>,
    ) {
        let mut state = shared.lock();
        let home = state.home == Some(self.region);
        let Some(link) = self.link(&mut state) else { return };
        link.connected = true;
        link.carrier = Some(carrier);
        if home != said_home {
            // Home moved while we introduced ourselves.
            link.outbox.put_frame(&crate::derp::Frame::NotePreferred(home));
        }
        if carrier == Carrier::WebSocket {
            let forced = state.force_websocket;
            let choice = state.choices.entry(self.region).or_default();
            choice.works(refusal);
            let why = choice.why().filter(|_| !forced).unwrap_or("the deployment asks for it");
            shared.status.send_modify(|status| {
                status.websocket.insert(self.region, why.to_owned());
            });
        }
    }

    fn disconnected(self, shared: &Shared, problem: String) {
        let mut state = shared.lock();
        let Some(link) = self.link(&mut state) else { return };
        link.connected = false;
        link.heard.clear();
        shared.forget(self.region, Some(problem));
        if state.home == Some(self.region) {
            // Others may be there.
            shared.measure.notify_one();
        }
    }
}

/// Takes what one relay sends.
struct Deliver<'a> {
    shared: &'a Shared,
    place: Place,
    backoff: &'a mut Backoff,
    /// The relay restarts, and asked us to wait.
    pause: Option<Duration>,
}

impl Sink for &mut Deliver<'_> {
    async fn deliver(&mut self, batch: &mut Vec<Event>) {
        let mut packets = Vec::with_capacity(batch.len());
        let mut senders = Senders::default();
        for event in batch.drain(..) {
            match event {
                Event::Packet { from, payload } => {
                    senders.add(from);
                    packets.push(Received { region: self.place.region, from, payload });
                }
                Event::PeerGone { peer, reason } => self.peer_gone(&peer, reason),
                Event::LoggedIn(_) => self.logged_in(),
                Event::Health(problem) => self.health(problem),
                Event::Restarting { reconnect_in, try_for: _ } => {
                    self.pause = Some(reconnect_in.min(MAX_RESTART_PAUSE));
                }
                Event::Welcome(_) | Event::Pong(_) | Event::Pinged | Event::Other => {}
            }
        }
        if packets.is_empty() {
            return;
        }
        self.heard(senders);
        // It fails when the relays are being dropped, and then nobody misses the packets.
        let _dropped = self.shared.incoming.send(packets).await;
    }
}

impl Deliver<'_> {
    fn logged_in(&mut self) {
        self.backoff.reset();
        let region = self.place.region;
        let mut state = self.shared.lock();
        if self.place.link(&mut state).is_some() {
            self.shared.status.send_modify(|status| {
                status.connected.insert(region);
                status.problems.remove(&region);
            });
        }
    }

    fn health(&self, problem: Option<String>) {
        let region = self.place.region;
        if let Some(problem) = &problem {
            tracing::warn!(%region, ?problem, "the relay reports a problem");
        }
        self.shared.status.send_modify(|status| {
            match problem {
                Some(problem) => status.problems.insert(region, problem),
                None => status.problems.remove(&region),
            };
        });
    }

    fn peer_gone(&self, peer: &NodePublic, reason: PeerGone) {
        tracing::debug!(region = %self.place.region, ?peer, ?reason, "peer gone from relay");
        let mut state = self.shared.lock();
        if let Some(link) = self.place.link(&mut state) {
            link.heard.remove(peer);
        }
    }

    fn heard(&self, senders: Senders) {
        let mut state = self.shared.lock();
        let Some(link) = self.place.link(&mut state) else { return };
        for from in senders.0 {
            if link.heard.len() >= MAX_HEARD && !link.heard.contains(&from) {
                link.heard.clear();
            }
            link.heard.insert(from);
        }
    }
}

/// Those who sent the packets of a batch; most batches come from one peer.
#[derive(Default)]
struct Senders(Vec<NodePublic>);

impl Senders {
    fn add(&mut self, from: NodePublic) {
        if self.0.last() != Some(&from) {
            self.0.push(from);
        }
    }
}
