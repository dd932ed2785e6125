//! Two engines, the links between them, and the clock.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use coderctl_tailnet::engine::{PeerUpdate, Route, Transmit, TransmitSink};

use super::link::{Link, LinkConfig, Rng};
use super::peer::{Kind, SimPeer, region};

/// Two engines, A (0) and B (1).
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) peers: [SimPeer; 2],
    /// From A to B, and from B to A.
    pub(crate) links: [Link; 2],
    pub(crate) rng: Rng,
    /// Everything that was sent, by sender, if wanted.
    pub(crate) wire: Option<Vec<(Instant, usize, BytesMut)>>,
    /// Times at which a timer woke an engine.
    pub(crate) wakeups: [u64; 2],
    /// How many datagrams a carrier takes before its link's queue is full; the rest is refused.
    pub(crate) carrier_room: usize,
}

impl World {
    pub(crate) fn new(seed: u64, link: LinkConfig) -> Self {
        Self::of_kind(seed, link, Kind::Plain)
    }

    pub(crate) fn of_kind(seed: u64, link: LinkConfig, kind: Kind) -> Self {
        let now = Instant::now();
        let peers = [SimPeer::new(1, seed, kind, now), SimPeer::new(2, seed, kind, now)];
        Self::with_peers(seed, link, peers, now)
    }

    pub(crate) fn with_peers(
        seed: u64,
        link: LinkConfig,
        peers: [SimPeer; 2],
        now: Instant,
    ) -> Self {
        Self {
            now,
            start: now,
            peers,
            links: [Link::new(link, now), Link::new(link, now)],
            rng: Rng(seed),
            wire: None,
            wakeups: [0; 2],
            carrier_room: usize::MAX,
        }
    }

    /// Tells each engine about the other.
    pub(crate) fn introduce(&mut self) {
        self.tell(0);
        self.tell(1);
        self.flush();
    }

    /// Tells one engine about the other.
    pub(crate) fn tell(&mut self, who: usize) {
        let other = &self.peers[1 - who];
        let (id, node) = (other.id, other.node.clone());
        let now = self.now;
        self.peers[who].engine.handle_peer(id, PeerUpdate::Node(Box::new(node)), now);
        self.flush();
    }

    pub(crate) fn update(&mut self, who: usize, update: PeerUpdate) {
        let id = self.peers[1 - who].id;
        let now = self.now;
        self.peers[who].engine.handle_peer(id, update, now);
        self.flush();
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Drains both engines.
    pub(crate) fn flush(&mut self) {
        for who in 0..2 {
            self.flush_one(who);
        }
    }

    pub(crate) fn flush_one(&mut self, who: usize) {
        let now = self.now;
        let peer = &mut self.peers[who];
        let mut carrier = Carrier {
            link: &mut self.links[who],
            rng: &mut self.rng,
            now,
            who,
            wire: self.wire.as_mut(),
            room: self.carrier_room,
        };
        peer.engine.poll_transmit(now, &mut carrier);
        while let Some(event) = peer.engine.poll_event() {
            peer.events.push((now, event));
        }
    }

    /// Jumps to the next event and lets it happen; `false` when none is left before `until`.
    pub(crate) fn step(&mut self, until: Instant) -> bool {
        let arrivals = self.links.iter().filter_map(Link::next_arrival);
        let timers = self.peers.iter().filter_map(|peer| peer.engine.next_deadline());
        let Some(next) = arrivals.chain(timers).min().filter(|at| *at <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = self.now.max(next);
        let now = self.now;
        for who in 0..2 {
            while let Some(datagram) = self.links[1 - who].receive(now) {
                let from = self.peers[1 - who].key;
                self.peers[who].engine.handle_relay_packet(region(), &from, datagram, now);
                self.flush_one(who);
            }
            if self.peers[who].engine.next_deadline().is_some_and(|at| at <= now) {
                self.wakeups[who] += 1;
                self.peers[who].engine.handle_timeout(now);
                let again = self.peers[who].engine.next_deadline();
                assert!(again.is_none_or(|at| at > now), "a timer that does not move");
            }
            self.flush_one(who);
        }
        true
    }

    /// Runs for this long.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }

    /// Runs until `done`, for at most `limit`; calls `act` after every step.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        mut act: impl FnMut(&mut World) -> bool,
    ) -> Duration {
        let began = self.now;
        let until = self.now + limit;
        loop {
            if act(self) {
                return self.now - began;
            }
            self.flush();
            assert!(self.step(until), "not done after {limit:?}");
        }
    }
}

struct Carrier<'a> {
    link: &'a mut Link,
    rng: &'a mut Rng,
    now: Instant,
    who: usize,
    wire: Option<&'a mut Vec<(Instant, usize, BytesMut)>>,
    room: usize,
}

impl TransmitSink for Carrier<'_> {
    fn admit(&mut self, _route: &Route) -> bool {
        self.link.queued(self.now) < self.room
    }

    fn send(&mut self, transmit: Transmit) {
        if let Some(wire) = &mut self.wire {
            wire.push((self.now, self.who, transmit.packet.clone()));
        }
        self.link.send(transmit.packet, self.now, self.rng);
    }
}
