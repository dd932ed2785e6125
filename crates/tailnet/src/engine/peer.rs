//! One peer in the engine's table.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Instant;

use super::{Event, LOST_AFTER, PeerInfo, Route, Traffic};
use crate::disco::DiscoBox;
use crate::ids::PeerId;
use crate::node::Node;
use crate::packet::MTU;
use crate::paths::{Path, PeerPaths, Way};
use crate::stack::{Lane, Stack};
use crate::wg::{Handshake, Tunnel};

/// A peer, its tunnel, and what was reported about it.
pub(super) struct Peer {
    pub(super) node: Node,
    pub(super) tunnel: Box<dyn Tunnel>,
    made: Instant,
    reached: bool,
    silent: bool,
    lost: bool,
    /// The last moment at which the peer is known to have been there.
    last_handshake: Instant,
    pub(super) traffic: Traffic,
    pub(super) paths: PeerPaths,
    /// What its packets share with those of others, as it was told last.
    lane: Option<Lane>,
    /// The longest packet that its way carries, as it was told last.
    width: usize,
    /// Its datagrams take a direct path and nothing else.
    direct: bool,
    /// The box of its disco messages, once one was needed.
    pub(super) sealed: Option<DiscoBox>,
}

impl Peer {
    pub(super) fn new(node: Node, tunnel: Box<dyn Tunnel>, now: Instant) -> Self {
        Self {
            node,
            tunnel,
            made: now,
            reached: false,
            silent: false,
            lost: false,
            last_handshake: now,
            traffic: Traffic::default(),
            paths: PeerPaths::new(now),
            lane: None,
            width: MTU,
            direct: false,
            sealed: None,
        }
    }

    /// A path, as carriers know it.
    pub(super) fn route(&self, path: Path) -> Route {
        match path {
            Path::Relay(region) => Route::Relay { region, key: self.node.key },
            Path::Direct(address) => Route::Direct(address),
        }
    }

    /// Takes a newer node with the same key; gives the addresses it no longer has.
    pub(super) fn replace_node(&mut self, node: Node) -> Vec<Ipv6Addr> {
        self.lost = false;
        // It may have other addresses, and another home.
        (self.lane, self.width) = (None, MTU);
        let mut gone = std::mem::replace(&mut self.node, node).addresses;
        gone.retain(|address| !self.node.addresses.contains(address));
        gone
    }

    /// What its packets share with those of others, if that is news.
    fn take_lane(&mut self) -> Option<Lane> {
        let lane = match self.paths.is_direct() {
            true => Lane::Own,
            false => Lane::Shared(self.node.home.get().unsigned_abs()),
        };
        (self.lane.replace(lane) != Some(lane)).then_some(lane)
    }

    /// How long its packets may be, if that is news.
    fn take_width(&mut self, now: Instant) -> Option<usize> {
        let width = self.paths.width(now);
        (std::mem::replace(&mut self.width, width) != width).then_some(width)
    }

    /// Whether its datagrams have just begun to take another way than the direct path alone.
    fn take_doubt(&mut self, now: Instant) -> bool {
        let direct = matches!(self.paths.way(now), Way::Direct(_));
        std::mem::replace(&mut self.direct, direct) && !direct
    }

    /// Has the stack follow the way that its packets take.
    pub(super) fn lead(
        &mut self,
        id: PeerId,
        by_address: &BTreeMap<Ipv6Addr, PeerId>,
        stack: &mut Stack,
        now: Instant,
    ) {
        let (lane, width, doubt) = (self.take_lane(), self.take_width(now), self.take_doubt(now));
        if lane.is_none() && width.is_none() && !doubt {
            return;
        }
        let has = |address: &&Ipv6Addr| by_address.get(*address) == Some(&id);
        for address in self.node.addresses.iter().filter(has) {
            if let Some(lane) = lane {
                stack.set_lane(*address, lane, now);
            }
            if let Some(width) = width {
                stack.set_width(*address, width, now);
            }
            if doubt {
                stack.doubt(*address, now);
            }
        }
    }

    /// The coordinator lost sight of the peer.
    pub(super) fn lost(&mut self, now: Instant) {
        self.note_handshake(now);
        self.lost = true;
    }

    /// Whether the coordinator sees the peer.
    pub(super) fn is_there(&self) -> bool {
        !self.lost
    }

    pub(super) fn info(&self, id: PeerId, now: Instant) -> PeerInfo {
        PeerInfo {
            id,
            addresses: self.node.addresses.clone(),
            last_handshake: self.tunnel.since_handshake(now),
            lost: self.lost,
            traffic: self.traffic,
        }
    }

    /// When a lost peer is to be removed.
    pub(super) fn removal_at(&self) -> Option<Instant> {
        self.lost.then(|| self.last_handshake + LOST_AFTER)
    }

    /// Whether a lost peer's time is over; a handshake in the meantime starts it anew.
    pub(super) fn lost_for_good(&mut self, now: Instant) -> bool {
        if self.removal_at().is_none_or(|at| at > now) {
            return false;
        }
        self.note_handshake(now);
        self.removal_at().is_some_and(|at| at <= now)
    }

    /// What is to be reported about the tunnel since the last time.
    pub(super) fn note(&mut self, id: PeerId, now: Instant) -> Option<Event> {
        let silent = match self.tunnel.handshake() {
            Handshake::Established if !self.reached => {
                self.reached = true;
                self.silent = false;
                return Some(Event::PeerReachable(id, now.saturating_duration_since(self.made)));
            }
            Handshake::Expired => true,
            Handshake::Established => false,
            Handshake::Idle | Handshake::InProgress => self.silent,
        };
        let reported = std::mem::replace(&mut self.silent, silent);
        (silent && !reported).then_some(Event::PeerSilent(id))
    }

    fn note_handshake(&mut self, now: Instant) {
        if let Some(at) = self.tunnel.since_handshake(now).and_then(|age| now.checked_sub(age)) {
            self.last_handshake = self.last_handshake.max(at);
        }
    }
}
