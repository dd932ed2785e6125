//! Two hosts behind NATs, two STUN servers, and relays of two regions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use coderctl_tailnet::endpoints::Ports;
use coderctl_tailnet::engine::{Event, Identity, PeerUpdate, Route, Transmit, TransmitSink};
use coderctl_tailnet::ids::RegionId;
use coderctl_tailnet::keys::DiscoPrivate;
use coderctl_tailnet::paths::Path;
use coderctl_tailnet::stun;

use crate::faults::Fault;
use crate::nat::Nat;
use crate::sim;
use crate::sim::link::Rng;
use crate::sim::nat::Kind;
use crate::sim::peer::SimPeer;
use crate::sim::traffic::{Drain, Source};

const RELAY_DELAY: Duration = Duration::from_millis(40);
const UDP_DELAY: Duration = Duration::from_millis(10);
const JITTER_NANOS: u64 = 2_000_000;
/// What a network carries: Ethernet's 1,500 bytes, without the headers of IPv4 and UDP.
const USUAL: usize = 1472;
/// The application's port.
const PORT: u16 = 80;
/// Bytes that may be in the relay at once are bounded by the stack, so it has no queue here.
const STUN_SERVERS: [&str; 2] = ["192.0.2.1:3478", "192.0.2.2:3478"];

enum Arrival {
    /// Through a region.
    Relay(RegionId, usize, BytesMut),
    Fault(Fault),
    /// More may be sent from here on.
    Release(u64),
    /// From the public address to the public address.
    Udp(SocketAddr, SocketAddr, BytesMut),
}

pub(crate) struct Internet {
    seed: u64,
    now: Instant,
    start: Instant,
    peers: [SimPeer; 2],
    nats: [Nat; 2],
    under_way: BTreeMap<(Instant, u64), Arrival>,
    rng: Rng,
    /// Chance that a datagram by UDP is lost, in parts of a million.
    loss: u32,
    pub(crate) udp_blocked: bool,
    /// The longest datagram that passes by UDP.
    pub(crate) udp_carries: usize,
    /// Longer ones are refused by the sender's own system, and not lost on their way.
    pub(crate) refuses: bool,
    /// The longest datagram that passed by UDP, and by relay.
    pub(crate) longest: [usize; 2],
    /// Regions that lose everything.
    dead: BTreeSet<RegionId>,
    /// Regions that hold everything back, and what they hold.
    frozen: BTreeMap<RegionId, Vec<Arrival>>,
    pub(crate) delivered: u64,
    received: u64,
    released: u64,
}

impl Internet {
    pub(crate) fn new(seed: u64, kinds: [Kind; 2], loss: u32) -> Self {
        let now = Instant::now();
        let mut peers = [1, 2].map(|number| SimPeer::new(number, seed, sim::Kind::Plain, now));
        let nats = [Nat::new(kinds[0], 1), Nat::new(kinds[1], 2)];
        for (number, (peer, nat)) in peers.iter_mut().zip(&nats).enumerate() {
            let mut random = Rng(seed ^ (number as u64 + 1) << 32);
            peer.engine.set_identity(Identity {
                node: peer.key,
                disco: DiscoPrivate::new([number as u8 + 1; 32]),
                entropy: Box::new(move |bytes| {
                    bytes.fill_with(|| random.next() as u8);
                    Ok(())
                }),
            });
            peer.engine.set_direct(true, now);
            peer.engine.set_local(ports(nat), vec![nat.host.ip()], now);
            let servers = STUN_SERVERS.map(|server| server.parse().unwrap());
            peer.engine.set_stun_servers(servers.to_vec(), now);
        }
        let mut net = Self {
            seed,
            now,
            start: now,
            peers,
            nats,
            under_way: BTreeMap::new(),
            rng: Rng(seed),
            loss,
            udp_blocked: false,
            udp_carries: USUAL,
            refuses: false,
            longest: [0; 2],
            dead: BTreeSet::new(),
            frozen: BTreeMap::new(),
            delivered: 0,
            received: 0,
            released: u64::MAX,
        };
        net.tell(0);
        net.tell(1);
        net.flush();
        net
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Whether each end reaches the other directly.
    pub(crate) fn is_direct(&self) -> [bool; 2] {
        [0, 1].map(|who| {
            let path = self.peers[who].engine.path(self.peers[1 - who].id).unwrap().path;
            matches!(path, Path::Direct(_))
        })
    }

    /// Has this happen after so much time.
    pub(crate) fn plan(&mut self, after: Duration, fault: Fault) {
        self.put(after, Arrival::Fault(fault));
    }

    /// Has the first send steadily for this long, instead of as fast as it can.
    pub(crate) fn pace(&mut self, total: u64, time: Duration) {
        const STEPS: u32 = 60;
        self.released = 0;
        for step in 0..STEPS {
            let released = total * u64::from(step + 1) / u64::from(STEPS);
            self.put(time * step / STEPS, Arrival::Release(released));
        }
    }

    fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::BlockUdp => self.udp_blocked = true,
            Fault::UnblockUdp => self.udp_blocked = false,
            Fault::KillRelay(region) => drop(self.dead.insert(region)),
            Fault::FreezeRelay(region) => drop(self.frozen.entry(region).or_default()),
            Fault::RepairRelay(region) => {
                self.dead.remove(&region);
                for arrival in self.frozen.remove(&region).into_iter().flatten() {
                    self.put(Duration::ZERO, arrival);
                }
            }
            Fault::MoveHost(who) => {
                self.nats[who].move_host();
                let (nat, now) = (&self.nats[who], self.now);
                let engine = &mut self.peers[who].engine;
                engine.set_local(ports(nat), vec![nat.host.ip()], now);
                engine.network_changed(now);
            }
            Fault::MoveHome(who, region) => {
                self.peers[who].node.home = region;
                self.tell(who);
            }
        }
    }

    /// Sends so many bytes from the first to the second; `watch` may interfere. The longest time
    /// without progress.
    pub(crate) fn transfer(
        &mut self,
        total: u64,
        limit: Duration,
        mut watch: impl FnMut(&mut Self),
    ) -> Duration {
        let listener = self.peers[1].engine.stack().listen(PORT, 8).unwrap();
        let to = self.peers[1].at(PORT);
        let id = self.peers[0].engine.stack().connect(to, self.now).unwrap();
        let mut source = Source::new(id, 1, total);
        let mut drain: Option<Drain> = None;
        let until = self.now + limit;
        let (mut progress, mut gap) = (self.now, Duration::ZERO);
        loop {
            let now = self.now;
            source.released = self.released;
            let sent = source.pump(self.peers[0].engine.stack(), now);
            sent.unwrap_or_else(|error| panic!("seed {}: {error} for the sender", self.seed));
            if drain.is_none() {
                let accepted = self.peers[1].engine.stack().accept(listener);
                drain = accepted.map(|(id, _)| Drain::new(id, 1));
            }
            let mut over = false;
            if let Some(drain) = &mut drain {
                let drained = drain.pump(self.peers[1].engine.stack(), now);
                over = drained
                    .unwrap_or_else(|error| panic!("seed {}: {error} for the receiver", self.seed));
                if drain.received > self.received {
                    self.received = drain.received;
                    gap = gap.max(now - progress);
                    progress = now;
                }
            }
            watch(self);
            self.flush();
            // The search for a way may take longer than a short transfer.
            if over && now > self.start + Duration::from_secs(3) {
                assert_eq!(self.received, total);
                return gap;
            }
            let Self { seed, received, .. } = *self;
            assert!(self.step(until), "seed {seed}: {received} of {total} bytes in {limit:?}");
        }
    }

    fn tell(&mut self, who: usize) {
        let mut node = self.peers[who].node.clone();
        node.endpoints = self.peers[who].engine.endpoints().to_vec();
        let (id, now) = (self.peers[who].id, self.now);
        self.peers[1 - who].engine.handle_peer(id, PeerUpdate::Node(Box::new(node)), now);
    }

    fn flush(&mut self) {
        for who in 0..2 {
            let mut out = Out::default();
            self.peers[who].engine.poll_transmit(self.now, &mut out);
            for Transmit { route, packet } in out.0 {
                self.send(who, route, packet);
            }
            let mut moved = false;
            while let Some(event) = self.peers[who].engine.poll_event() {
                moved |= event == Event::EndpointsChanged;
            }
            if moved {
                self.tell(who);
            }
        }
    }

    fn send(&mut self, who: usize, route: Route, packet: BytesMut) {
        let jitter = Duration::from_nanos(self.rng.below(JITTER_NANOS));
        match route {
            Route::Relay { region, .. } if self.dead.contains(&region) => {}
            Route::Relay { region, .. } => {
                self.longest[1] = self.longest[1].max(packet.len());
                self.put(RELAY_DELAY, Arrival::Relay(region, 1 - who, packet));
            }
            Route::Direct(to) if packet.len() > self.udp_carries => {
                if self.refuses {
                    self.peers[who].engine.handle_too_long(to, packet.len(), self.now);
                }
            }
            Route::Direct(to) => {
                let from = self.nats[who].out(to);
                if !self.udp_blocked && !self.rng.chance(self.loss) {
                    self.longest[0] = self.longest[0].max(packet.len());
                    self.put(UDP_DELAY + jitter, Arrival::Udp(from, to, packet));
                }
            }
        }
    }

    fn put(&mut self, delay: Duration, arrival: Arrival) {
        self.delivered += 1;
        self.under_way.insert((self.now + delay, self.delivered), arrival);
    }

    /// Jumps to the next event; `false` when none is left before `until`.
    fn step(&mut self, until: Instant) -> bool {
        let arrival = self.under_way.keys().next().map(|(at, _)| *at);
        let timers = self.peers.iter().filter_map(|peer| peer.engine.next_deadline());
        let Some(next) = timers.chain(arrival).min().filter(|at| *at <= until) else {
            return false;
        };
        self.now = self.now.max(next);
        while let Some(entry) = self.under_way.first_entry().filter(|it| it.key().0 <= self.now) {
            match entry.remove() {
                Arrival::Relay(region, who, packet) => match self.frozen.get_mut(&region) {
                    Some(held) => held.push(Arrival::Relay(region, who, packet)),
                    None => {
                        let (from, now) = (self.peers[1 - who].key, self.now);
                        self.peers[who].engine.handle_relay_packet(region, &from, packet, now);
                    }
                },
                Arrival::Fault(fault) => self.suffer(fault),
                Arrival::Release(released) => self.released = released,
                Arrival::Udp(from, to, packet) => self.arrive(from, to, packet),
            }
        }
        for peer in &mut self.peers {
            if peer.engine.next_deadline().is_some_and(|at| at <= self.now) {
                peer.engine.handle_timeout(self.now);
            }
        }
        self.flush();
        true
    }

    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, packet: BytesMut) {
        if STUN_SERVERS.iter().any(|server| server.parse() == Ok(to)) {
            if let Some(answer) = answer(&packet, from) {
                self.put(UDP_DELAY, Arrival::Udp(to, from, answer));
            }
            return;
        }
        let there = self.nats.iter().position(|nat| nat.is_at(&to) && nat.lets_in(from, to));
        if let Some(who) = there {
            self.peers[who].engine.handle_udp(from, packet, self.now);
        }
    }
}

fn ports(nat: &Nat) -> Ports {
    Ports { v4: Some(nat.host.port()), v6: None }
}

/// A STUN server's answer.
fn answer(request: &[u8], from: SocketAddr) -> Option<BytesMut> {
    let SocketAddr::V4(from) = from else { return None };
    if !stun::is_stun(request) {
        return None;
    }
    let mut answer = BytesMut::from(&[1, 1, 0, 12][..]);
    answer.extend_from_slice(&request[4..20]);
    answer.extend_from_slice(&[0, 1, 0, 8, 0, 1]);
    answer.extend_from_slice(&from.port().to_be_bytes());
    answer.extend_from_slice(&from.ip().octets());
    Some(answer)
}

#[derive(Default)]
struct Out(Vec<Transmit>);

impl TransmitSink for Out {
    fn admit(&mut self, _: &Route) -> bool {
        true
    }

    fn send(&mut self, transmit: Transmit) {
        self.0.push(transmit);
    }
}
