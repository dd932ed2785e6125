//! Who is connected, who shares a tunnel, what each is to be told: without I/O, clock or task.
//!
//! ```text
//!   connect · update_self · add_tunnel ─┐            ┌─ mail: what a session is to be told
//!   ready · disconnect · lost ──────────┤── Core ────┤─ woken: sessions with new mail
//!   the peers of other replicas ────────┘            ├─ outgoing: what other replicas must know
//!                                                    └─ permits: which keys may use the relay
//! ```
//!
//! The rules are those of coder/coder tailnet/coordinator.go: peers that share a tunnel are told
//! each other's nodes, in whatever order tunnel and nodes come; what a peer hears last of another
//! is DISCONNECTED when it left and LOST when its connection broke; a peer that connects again
//! takes the place of its former self.
//!
//! A lost peer's packets still flow, for as long as the other side keeps it: an agent forgets a
//! lost client 15 minutes after the last handshake. So its permission to use the relay outlives
//! its connection as a *ghost*, and is prolonged while it is used.
//!
//! Replicas tell each other all their peers, each with its node and the tunnels that it asked for,
//! so that every one of them can answer every question by itself. A peer that is connected to two
//! of them is where it connected last.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use coderctl_drpc::proto::tailnet as proto;
use coderctl_tailnet::{ids::PeerId, keys::NodePublic};
use uuid::Uuid;

use super::{
    mailbox::{End, Mailbox},
    tunnels::Tunnels,
};

/// How long a lost peer may be used (coder/coder: tailnet/configmaps.go, `lostTimeout`).
const GHOST: Duration = Duration::from_secs(15 * 60);

/// Lost peers that are remembered; beyond that the oldest are forgotten.
const MAX_GHOSTS: usize = 16_384;

/// Peers at a time.
pub(super) const MAX_PEERS: usize = 65_536;

/// Tunnels of one peer.
pub(super) const MAX_TUNNELS: usize = 1024;

/// Upstream's words for a session whose peer connected again.
const OVERWRITTEN: &str = "peer ID overwritten by new connection";

/// Another process of this deployment.
pub(super) type Replica = Uuid;

/// One connection of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SessionId(u64);

/// The state of coordination.
#[derive(Debug, Default)]
pub(super) struct Core {
    peers: HashMap<PeerId, Peer>,
    sessions: HashMap<SessionId, Session>,
    tunnels: Tunnels,
    ghosts: HashMap<PeerId, Ghost>,
    /// Whose key it is. Several peers may claim the same: only its owner can use it.
    keys: HashMap<NodePublic, BTreeSet<PeerId>>,
    next: u64,
    generation: u64,
    woken: Vec<SessionId>,
    /// For other replicas, if there may be some.
    outgoing: Option<Outgoing>,
}

#[derive(Debug)]
struct Peer {
    place: Place,
    /// Larger for each connection of the peer, wherever it is.
    since: u64,
    node: Option<Arc<proto::Node>>,
    key: Option<NodePublic>,
}

/// Where a peer is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Here(SessionId),
    There(Replica),
}

/// What has changed here since it was told last. The state itself is told, so that this is bounded
/// by the number of peers.
#[derive(Debug)]
struct Outgoing {
    me: Replica,
    changed: BTreeSet<PeerId>,
    gone: HashMap<PeerId, (u64, End)>,
    ready: BTreeSet<(PeerId, PeerId)>,
}

/// What replicas tell each other.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Update {
    /// A peer, all of it.
    Peer(PeerState),
    /// A peer is gone, if this was its last connection.
    Gone {
        /// Which.
        id: PeerId,
        /// Which connection of it.
        since: u64,
        /// How.
        end: End,
    },
    /// A peer has configured another.
    Ready {
        /// Which.
        from: PeerId,
        /// The other.
        to: PeerId,
    },
}

/// A peer, as replicas tell it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PeerState {
    pub(super) id: PeerId,
    /// Larger for each connection of the peer.
    pub(super) since: u64,
    pub(super) node: Option<(Arc<proto::Node>, NodePublic)>,
    /// Whom it wants to reach.
    pub(super) tunnels: BTreeSet<PeerId>,
}

#[derive(Debug)]
struct Session {
    peer: PeerId,
    mailbox: Mailbox,
    /// It has ended, for this reason.
    closed: Option<Option<String>>,
}

/// A lost peer.
#[derive(Debug)]
struct Ghost {
    key: NodePublic,
    /// With whom it shared a tunnel.
    tunnels: BTreeSet<PeerId>,
    until: Instant,
}

/// What is next for a session.
#[derive(Debug, PartialEq)]
pub(super) enum Mail {
    /// To be told.
    Response(proto::CoordinateResponse),
    /// Nothing for now.
    Empty,
    /// The session has ended; this is the last thing to be told, if anything.
    Closed(Option<String>),
}

/// The session has ended; what it does has no effect any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

impl Core {
    /// A peer has connected. If it was already, this connection takes the place of that one.
    /// `None` when there is no room. `stamp` is larger the later it is, by any clock that other
    /// replicas have, too.
    pub(super) fn connect(&mut self, id: PeerId, stamp: u64) -> Option<SessionId> {
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&id) {
            return None;
        }
        self.next += 1;
        let session = SessionId(self.next);
        let mut mailbox = Mailbox::default();
        for partner in self.tunnels.partners(id) {
            if let Some(node) = self.peers.get(&partner).and_then(|partner| partner.node.as_ref()) {
                mailbox.node(partner, node, "init");
            }
        }
        self.sessions.insert(session, Session { peer: id, mailbox, closed: None });
        self.woken.push(session);
        let since = self.peers.get(&id).map_or(stamp, |old| stamp.max(old.since + 1));
        self.replace(id, Place::Here(session), since);
        self.changed(id);
        Some(session)
    }

    /// A peer is here or there from now on.
    fn replace(&mut self, id: PeerId, place: Place, since: u64) {
        let peer = Peer { place, since, node: None, key: None };
        if let Some(old) = self.peers.insert(id, peer) {
            // Those who know its old node keep it until they hear of the new one.
            self.disown(id, old.key);
            if let Place::Here(session) = old.place {
                self.close(session, Some(OVERWRITTEN.to_owned()));
            }
        }
        self.generation += 1;
    }

    /// The session's peer, unless the session has ended.
    fn peer_of(&self, session: SessionId) -> Result<PeerId, Gone> {
        match self.sessions.get(&session) {
            Some(Session { peer, closed: None, .. }) => Ok(*peer),
            Some(_) | None => Err(Gone),
        }
    }

    /// The session's peer can be reached like this.
    pub(super) fn update_self(
        &mut self,
        session: SessionId,
        node: proto::Node,
        key: NodePublic,
    ) -> Result<(), Gone> {
        let id = self.peer_of(session)?;
        let node = Arc::new(node);
        self.set_node(id, &node, key);
        self.changed(id);
        Ok(())
    }

    fn set_node(&mut self, id: PeerId, node: &Arc<proto::Node>, key: NodePublic) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.node = Some(node.clone());
        let old = peer.key.replace(key);
        if old != Some(key) {
            self.disown(id, old);
            self.keys.entry(key).or_default().insert(id);
            self.generation += 1;
        }
        for partner in self.tunnels.partners(id) {
            self.tell(partner, |mailbox| mailbox.node(id, node, "node update"));
        }
    }

    /// The session's peer wants to reach another. Whether it may was asked before. Says whether
    /// there was room.
    pub(super) fn add_tunnel(&mut self, session: SessionId, to: PeerId) -> Result<bool, Gone> {
        let from = self.peer_of(session)?;
        if self.tunnels.count(from) >= MAX_TUNNELS && !self.tunnels.joins(from, to) {
            return Ok(false);
        }
        self.set_tunnel(from, to);
        self.changed(from);
        Ok(true)
    }

    fn set_tunnel(&mut self, from: PeerId, to: PeerId) {
        // Everybody reaches oneself.
        if from == to {
            return;
        }
        if self.tunnels.add(from, to) {
            self.generation += 1;
        }
        for (one, other) in [(from, to), (to, from)] {
            if let Some(node) = self.peers.get(&other).and_then(|peer| peer.node.clone()) {
                self.tell(one, |mailbox| mailbox.node(other, &node, "add tunnel"));
            }
        }
    }

    /// The session's peer does not want to reach another any more.
    pub(super) fn remove_tunnel(&mut self, session: SessionId, to: PeerId) -> Result<(), Gone> {
        let from = self.peer_of(session)?;
        self.unset_tunnel(from, to);
        self.changed(from);
        Ok(())
    }

    fn unset_tunnel(&mut self, from: PeerId, to: PeerId) {
        for (one, other) in [(from, to), (to, from)] {
            if let Some(ghost) = self.ghosts.get_mut(&one) {
                ghost.tunnels.remove(&other);
            }
        }
        self.generation += 1;
        // The other may want to reach this one, too.
        if !self.tunnels.remove(from, to) || self.tunnels.joins(from, to) {
            return;
        }
        for (one, other) in [(from, to), (to, from)] {
            self.tell(one, |mailbox| mailbox.gone(other, End::Disconnected, "remove tunnel"));
        }
    }

    /// The session's peer has configured another.
    pub(super) fn ready(&mut self, session: SessionId, for_whom: PeerId) -> Result<(), Gone> {
        let id = self.peer_of(session)?;
        if !self.tunnels.joins(id, for_whom) {
            // No reason to end the call: the other may have left meanwhile. Upstream's words.
            let error =
                format!("ready for handshake error: you do not share a tunnel with \"{for_whom}\"");
            self.tell(id, |mailbox| {
                mailbox.error(error);
                true
            });
            return Ok(());
        }
        match self.peers.get(&for_whom).map(|peer| peer.place) {
            Some(Place::Here(_)) => self.tell_ready(id, for_whom),
            Some(Place::There(_)) => {
                if let Some(outgoing) = &mut self.outgoing {
                    outgoing.ready.insert((id, for_whom));
                }
            }
            None => {}
        }
        Ok(())
    }

    fn tell_ready(&mut self, id: PeerId, for_whom: PeerId) {
        self.tell(for_whom, |mailbox| {
            mailbox.ready(id);
            true
        });
    }

    /// The session's peer leaves.
    pub(super) fn disconnect(&mut self, session: SessionId) -> Result<(), Gone> {
        let id = self.peer_of(session)?;
        self.forget(id);
        self.remove(id, End::Disconnected, "graceful disconnect");
        self.close(session, None);
        Ok(())
    }

    /// The session's connection broke, or is to be broken: then this is the last it hears.
    pub(super) fn lost(&mut self, session: SessionId, why: Option<String>, now: Instant) {
        if let Ok(id) = self.peer_of(session) {
            self.haunt(id, now);
            self.remove(id, End::Lost, "lost");
            self.close(session, why);
        }
    }

    /// Nobody asks for the session's mail any more.
    pub(super) fn leave(&mut self, session: SessionId, now: Instant) {
        self.lost(session, None, now);
        self.sessions.remove(&session);
    }

    /// Removes a peer; those with whom it shares a tunnel hear of it.
    fn remove(&mut self, id: PeerId, end: End, reason: &'static str) {
        let partners = self.tunnels.partners(id);
        self.tunnels.remove_from(id);
        if let Some(peer) = self.peers.remove(&id) {
            self.disown(id, peer.key);
            if let (Place::Here(_), Some(outgoing)) = (peer.place, &mut self.outgoing) {
                outgoing.changed.remove(&id);
                outgoing.gone.insert(id, (peer.since, end));
            }
        }
        for partner in partners {
            self.tell(partner, |mailbox| mailbox.gone(id, end, reason));
        }
        self.generation += 1;
    }

    fn close(&mut self, session: SessionId, why: Option<String>) {
        if let Some(ended) = self.sessions.get_mut(&session)
            && ended.closed.is_none()
        {
            ended.closed = Some(why);
            self.woken.push(session);
        }
    }

    fn tell(&mut self, id: PeerId, change: impl FnOnce(&mut Mailbox) -> bool) {
        if let Some(Peer { place: Place::Here(session), .. }) = self.peers.get(&id)
            && let Some(told) = self.sessions.get_mut(session)
            && change(&mut told.mailbox)
        {
            self.woken.push(*session);
        }
    }

    /// What is next for a session.
    pub(super) fn mail(&mut self, session: SessionId) -> Mail {
        let Some(session) = self.sessions.get_mut(&session) else { return Mail::Closed(None) };
        if let Some(why) = &mut session.closed {
            return Mail::Closed(why.take());
        }
        session.mailbox.take().map_or(Mail::Empty, Mail::Response)
    }

    /// Sessions for which there is something new.
    pub(super) fn take_woken(&mut self) -> Vec<SessionId> {
        std::mem::take(&mut self.woken)
    }

    /// A number that changes with every answer of [`permits`](Self::permits) and
    /// [`knows`](Self::knows).
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The node of a peer, when it is connected.
    pub(super) fn node(&self, id: PeerId) -> Option<&Arc<proto::Node>> {
        self.peers.get(&id)?.node.as_ref()
    }

    /// Peers and tunnels, now.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.peers.len(), self.tunnels.iter().count())
    }

    // Other replicas.

    /// From now on there may be other replicas. Everything that is here is to be told.
    pub(super) fn share(&mut self, me: Replica) {
        let outgoing =
            Outgoing { me, changed: BTreeSet::new(), gone: HashMap::new(), ready: BTreeSet::new() };
        self.outgoing = Some(outgoing);
        let all: Vec<PeerId> = self.peers.keys().copied().collect();
        all.into_iter().for_each(|id| self.changed(id));
    }

    fn changed(&mut self, id: PeerId) {
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.changed.insert(id);
        }
    }

    /// Whether there is something that other replicas must know.
    pub(super) fn has_outgoing(&self) -> bool {
        self.outgoing.as_ref().is_some_and(|outgoing| {
            !outgoing.changed.is_empty() || !outgoing.gone.is_empty() || !outgoing.ready.is_empty()
        })
    }

    /// What other replicas must know.
    pub(super) fn take_outgoing(&mut self) -> Vec<Update> {
        let Some(outgoing) = &mut self.outgoing else { return Vec::new() };
        let gone = std::mem::take(&mut outgoing.gone);
        let changed = std::mem::take(&mut outgoing.changed);
        let ready = std::mem::take(&mut outgoing.ready);
        let gone = gone.into_iter().map(|(id, (since, end))| Update::Gone { id, since, end });
        let changed = changed.into_iter().filter_map(|id| self.state(id)).map(Update::Peer);
        let ready = ready.into_iter().map(|(from, to)| Update::Ready { from, to });
        gone.chain(changed).chain(ready).collect()
    }

    /// All peers that are here.
    pub(super) fn here(&self) -> Vec<PeerState> {
        self.peers.keys().filter_map(|id| self.state(*id)).collect()
    }

    /// A peer that is here.
    fn state(&self, id: PeerId) -> Option<PeerState> {
        let peer = self.peers.get(&id)?;
        let Place::Here(_) = peer.place else { return None };
        let node = peer.node.clone().zip(peer.key);
        Some(PeerState { id, since: peer.since, node, tunnels: self.tunnels.of(id) })
    }

    /// Another replica tells something.
    pub(super) fn hear(&mut self, replica: Replica, update: Update, now: Instant) {
        match update {
            Update::Peer(state) => self.hear_peer(replica, state),
            Update::Gone { id, since, end } => match self.peers.get(&id) {
                Some(Peer { place: Place::There(_), since: known, .. }) if *known <= since => {
                    self.remove_there(id, end, now);
                }
                // It has connected there since, and left: this connection is a dead one.
                Some(Peer { place: Place::Here(session), since: known, .. }) if *known < since => {
                    let session = *session;
                    self.remove_there(id, end, now);
                    self.close(session, Some(OVERWRITTEN.to_owned()));
                }
                Some(_) | None => {}
            },
            Update::Ready { from, to } => {
                if self.tunnels.joins(from, to) {
                    self.tell_ready(from, to);
                }
            }
        }
    }

    fn hear_peer(&mut self, replica: Replica, state: PeerState) {
        let PeerState { id, since, node, tunnels } = state;
        let known = match self.peers.get(&id) {
            None => self.peers.len() < MAX_PEERS,
            Some(known) => match known.place {
                Place::There(there) => (known.since, there) <= (since, replica),
                // Both connected at the same moment: the same one gives way everywhere.
                Place::Here(_) => {
                    let me = self.outgoing.as_ref().map(|outgoing| outgoing.me);
                    (Some(known.since), me) < (Some(since), Some(replica))
                }
            },
        };
        if !known {
            return;
        }
        let there = Place::There(replica);
        let before = self.peers.get(&id).map(|peer| (peer.place, peer.since));
        if before != Some((there, since)) {
            self.replace(id, there, since);
            // A replica that hears of our connection only now must not believe in it.
            if let (Some((Place::Here(_), since)), Some(outgoing)) = (before, &mut self.outgoing) {
                outgoing.changed.remove(&id);
                outgoing.gone.insert(id, (since, End::Lost));
            }
        }
        let before = self.tunnels.of(id);
        for to in before.difference(&tunnels) {
            self.unset_tunnel(id, *to);
        }
        for to in tunnels.difference(&before) {
            self.set_tunnel(id, *to);
        }
        if let Some((node, key)) = node
            && self.peers.get(&id).is_some_and(|peer| peer.node.as_ref() != Some(&node))
        {
            self.set_node(id, &node, key);
        }
    }

    fn remove_there(&mut self, id: PeerId, end: End, now: Instant) {
        match end {
            End::Lost => {
                self.haunt(id, now);
                self.remove(id, end, "lost");
            }
            End::Disconnected => {
                self.forget(id);
                self.remove(id, end, "graceful disconnect");
            }
        }
    }

    /// These are all peers of another replica; it has lost those that it does not name.
    pub(super) fn hear_all(&mut self, replica: Replica, all: &BTreeSet<PeerId>, now: Instant) {
        let missing: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(id, peer)| peer.place == Place::There(replica) && !all.contains(id))
            .map(|(id, _)| *id)
            .collect();
        missing.into_iter().for_each(|id| self.remove_there(id, End::Lost, now));
    }

    // The relay's questions.

    /// Whether the key is a peer's, or was until a while ago.
    pub(super) fn knows(&self, key: &NodePublic) -> bool {
        self.keys.contains_key(key)
    }

    /// Whether packets may go between two keys: they are of peers that share a tunnel, or did
    /// when they were lost.
    pub(super) fn permits(&mut self, one: &NodePublic, other: &NodePublic, now: Instant) -> bool {
        let (Some(ones), Some(others)) = (self.keys.get(one), self.keys.get(other)) else {
            return false;
        };
        let pairs = ones.iter().flat_map(|one| others.iter().map(move |other| (*one, *other)));
        let wanted = |from: &PeerId, to: &PeerId| {
            self.ghosts.get(from).is_some_and(|ghost| ghost.tunnels.contains(to))
        };
        let joined = pairs.clone().find(|(one, other)| {
            self.tunnels.joins(*one, *other) || wanted(one, other) || wanted(other, one)
        });
        let Some((one, other)) = joined else { return false };
        for id in [one, other] {
            if let Some(ghost) = self.ghosts.get_mut(&id) {
                ghost.until = now + GHOST;
            }
        }
        true
    }

    /// Remembers a peer that is being lost.
    fn haunt(&mut self, id: PeerId, now: Instant) {
        let Some(key) = self.peers.get(&id).and_then(|peer| peer.key) else { return };
        if self.ghosts.len() >= MAX_GHOSTS
            && let Some(oldest) =
                self.ghosts.iter().min_by_key(|(_, ghost)| ghost.until).map(|(id, _)| *id)
        {
            self.forget(oldest);
        }
        self.forget(id);
        let tunnels = self.tunnels.partners(id);
        self.ghosts.insert(id, Ghost { key, tunnels, until: now + GHOST });
    }

    fn forget(&mut self, id: PeerId) {
        if let Some(ghost) = self.ghosts.remove(&id) {
            self.disown(id, Some(ghost.key));
            self.generation += 1;
        }
    }

    /// Forgets lost peers whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        let over: Vec<PeerId> =
            self.ghosts.iter().filter(|(_, ghost)| ghost.until <= now).map(|(id, _)| *id).collect();
        for id in over {
            self.forget(id);
        }
    }

    /// A key is no longer this peer's, unless it still is.
    fn disown(&mut self, id: PeerId, key: Option<NodePublic>) {
        let Some(key) = key else { return };
        let live = self.peers.get(&id).is_some_and(|peer| peer.key == Some(key));
        let ghost = self.ghosts.get(&id).is_some_and(|ghost| ghost.key == key);
        if !live
            && !ghost
            && let Some(owners) = self.keys.get_mut(&key)
        {
            owners.remove(&id);
            if owners.is_empty() {
                self.keys.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
