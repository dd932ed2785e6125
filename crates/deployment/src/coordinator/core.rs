//! Who is connected, who shares a tunnel, what each is to be told: without I/O, clock or task.
//!
//! ```text
//!   connect · update_self · add_tunnel ─┐            ┌─ mail: what a session is to be told
//!   ready · disconnect · lost ──────────┴── Core ────┤─ woken: sessions with new mail
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

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use coderctl_drpc::proto::tailnet as proto;
use coderctl_tailnet::{ids::PeerId, keys::NodePublic};

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
}

#[derive(Debug)]
struct Peer {
    session: SessionId,
    node: Option<Arc<proto::Node>>,
    key: Option<NodePublic>,
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
    /// `None` when there is no room.
    pub(super) fn connect(&mut self, id: PeerId) -> Option<SessionId> {
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
        let peer = Peer { session, node: None, key: None };
        if let Some(old) = self.peers.insert(id, peer) {
            // Those who know its old node keep it until they hear of the new one.
            self.disown(id, old.key);
            self.close(old.session, Some(OVERWRITTEN.to_owned()));
        }
        self.generation += 1;
        Some(session)
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
        self.set_node(id, &node, key, "node update");
        Ok(())
    }

    fn set_node(
        &mut self,
        id: PeerId,
        node: &Arc<proto::Node>,
        key: NodePublic,
        reason: &'static str,
    ) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.node = Some(node.clone());
        let old = peer.key.replace(key);
        if old != Some(key) {
            self.disown(id, old);
            self.keys.entry(key).or_default().insert(id);
            self.generation += 1;
        }
        for partner in self.tunnels.partners(id) {
            self.tell(partner, |mailbox| mailbox.node(id, node, reason));
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
        self.tell(for_whom, |mailbox| {
            mailbox.ready(id);
            true
        });
        Ok(())
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
        if let Some(Peer { session, .. }) = self.peers.get(&id)
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
