//! Two hosts and the path between them, in virtual time.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::BytesMut;
use coderctl_tcp::{
    Admission, CloseReason, Config, Event, Id, PacketSink, RecvError, SendError, Tcp, Time,
    Verdict, WidthNews,
};

mod audit;
mod link;

use audit::Audit;
pub(crate) use link::{Link, Random, Way};

/// Length of an IPv6 header.
pub(crate) const IPV6: usize = 40;

/// The address of one of the two hosts.
pub(crate) fn address(host: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1 + host as u16)
}

/// A sink that keeps all packets.
#[derive(Debug, Default)]
pub(crate) struct Packets(pub Vec<Vec<u8>>);

impl PacketSink for Packets {
    fn admit(&mut self, _destination: Ipv6Addr) -> Admission {
        Admission::Yes
    }

    fn send(&mut self, _destination: Ipv6Addr, packet: BytesMut) {
        assert!(packet.len() <= coderctl_tcp::WIDEST, "{} bytes", packet.len());
        self.0.push(packet.to_vec());
    }
}

/// What an application does with a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Application {
    /// Bytes to send altogether.
    pub(crate) to_send: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// When the last byte came.
    pub(crate) last: Time,
    /// Closes when everything was sent.
    pub(crate) closes: bool,
    pub(crate) ended: Option<CloseReason>,
    pub(crate) peer_closed: bool,
    pub(crate) connected: bool,
    /// Reads nothing.
    pub(crate) asleep: bool,
    /// Sends back what it gets.
    pub(crate) echoes: bool,
    /// Which stream of bytes it sends.
    pub(crate) salt: u64,
    pub(crate) expects: u64,
}

impl Application {
    pub(crate) fn sending(bytes: u64) -> Self {
        Self { to_send: bytes, closes: true, ..Self::default() }
    }
}

/// What is sent repeats after so many bytes: a prime, so that no power of two of them can be lost
/// unseen.
const PERIOD: usize = 65_521;

/// The bytes from a place of a stream on, at most so many.
pub(crate) fn pattern(salt: u64, place: u64, most: usize) -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    let pattern = PATTERN.get_or_init(|| {
        let mut random = Random(1);
        (0..PERIOD).map(|_| random.next() as u8).collect()
    });
    let start = ((place + salt) % PERIOD as u64) as usize;
    &pattern[start..PERIOD.min(start + most)]
}

pub(crate) struct Host {
    pub(crate) tcp: Tcp,
    pub(crate) apps: BTreeMap<Id, Application>,
    /// What those that ask are answered with.
    pub(crate) accepts: Application,
    pub(crate) deaf: bool,
    pub(crate) audit: Audit,
    /// How often a long packet was told to be lost.
    pub(crate) doubts: u64,
}

/// A packet on its way: when it arrives, its number, where.
type Flying = (Time, u64, usize, Vec<u8>);

/// Two hosts and the path between them.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) hosts: [Host; 2],
    pub(crate) links: [Link; 2],
    /// Their shortest delays until now.
    shortest: [Duration; 2],
    flying: BinaryHeap<Reverse<Flying>>,
    count: u64,
    pub(crate) steps: u64,
}

pub(crate) fn config(key: u64) -> Config {
    Config { in_flight: None, intake: None, ..Config::new((key, !key)) }
}

impl World {
    pub(crate) fn new(ways: [Way; 2], configs: [Config; 2], seed: u64) -> Self {
        let accepts = Application { closes: true, ..Application::default() };
        let mut random = Random(seed);
        Self {
            now: Time::from_micros(1_000_000),
            hosts: configs.map(|config| Host::new(config, accepts.clone())),
            shortest: ways.each_ref().map(|way| way.delay),
            links: ways.map(|way| Link::new(way, random.next())),
            flying: BinaryHeap::new(),
            count: 0,
            steps: 0,
        }
    }

    pub(crate) fn same(way: Way, seed: u64) -> Self {
        Self::new([way; 2], [config(seed), config(seed + 1)], seed)
    }

    /// The first host opens a connection.
    pub(crate) fn connect(&mut self, app: Application) -> Id {
        let remote = SocketAddrV6::new(address(1), 22, 0, 0);
        let tcp = &mut self.hosts[0].tcp;
        let id = tcp.connect(address(0), remote, |_| true, self.now).unwrap();
        self.hosts[0].apps.insert(id, app);
        id
    }

    pub(crate) fn app(&self, host: usize) -> &Application {
        self.hosts[host].apps.values().next().unwrap()
    }

    /// Lets time pass until `done`, or the time is up; whether it was done.
    pub(crate) fn run(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let until = self.now + limit;
        loop {
            self.work();
            if done(self) {
                return true;
            }
            let Some(next) = self.next() else { return done(self) };
            if next > until {
                self.now = until;
                return false;
            }
            self.now = self.now.max(next);
            self.deliver();
            self.steps += 1;
            assert!(self.steps < 200_000_000, "no progress");
        }
    }

    /// When something happens next.
    pub(crate) fn next(&self) -> Option<Time> {
        let timers = self.hosts.iter().filter_map(|host| host.tcp.next_deadline());
        let arrival = self.flying.peek().map(|Reverse((at, ..))| *at);
        timers.chain(arrival).min()
    }

    fn deliver(&mut self) {
        while self.flying.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
            let Some(Reverse((_, _, to, packet))) = self.flying.pop() else { return };
            self.hosts[to].ingest(&packet, self.now);
        }
        for host in &mut self.hosts {
            if host.tcp.next_deadline().is_some_and(|at| at <= self.now) {
                host.tcp.handle_timeout(self.now);
            }
        }
    }

    fn work(&mut self) {
        for (shortest, link) in self.shortest.iter_mut().zip(&self.links) {
            *shortest = link.way.delay.min(*shortest);
        }
        for at in 0..2 {
            let host = &mut self.hosts[at];
            host.audit.round_trip = self.shortest.iter().sum();
            host.serve(self.now);
            while self.hosts[at].tcp.wants_transmit() {
                for packet in self.hosts[at].transmit(self.now) {
                    for (when, packet) in self.links[at].carry(packet, self.now) {
                        self.count += 1;
                        self.flying.push(Reverse((when, self.count, 1 - at, packet)));
                    }
                }
                self.hear_of_width(at);
            }
            self.hosts[at].audit.rests(self.now);
        }
    }

    /// Does what whoever knows the way does: finds out what it carries when that is wanted, and again
    /// when something long was lost.
    fn hear_of_width(&mut self, at: usize) {
        let carried = self.links[at].way.mtu;
        let host = &mut self.hosts[at];
        while let Some(news) = host.tcp.poll_width() {
            let (WidthNews::Wanted(remote) | WidthNews::Lost(remote)) = news;
            host.doubts += u64::from(matches!(news, WidthNews::Lost(_)));
            host.tcp.set_width(remote, carried, self.now);
        }
    }
}

impl Host {
    pub(crate) fn new(config: Config, accepts: Application) -> Self {
        let (apps, audit) = (BTreeMap::new(), Audit::default());
        Self { tcp: Tcp::new(config), apps, accepts, deaf: false, audit, doubts: 0 }
    }

    /// What it has to say now.
    pub(crate) fn transmit(&mut self, now: Time) -> Vec<Vec<u8>> {
        let mut packets = Packets::default();
        self.tcp.poll_transmit(&mut packets, now);
        packets.0.iter().for_each(|packet| self.audit.sent(packet, now));
        packets.0
    }

    pub(crate) fn ingest(&mut self, packet: &[u8], now: Time) -> Option<Verdict> {
        // A damaged IP header is not TCP's business.
        let source = Ipv6Addr::from(<[u8; 16]>::try_from(&packet[8..24]).unwrap());
        let destination = Ipv6Addr::from(<[u8; 16]>::try_from(&packet[24..40]).unwrap());
        let length = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
        if packet[0] >> 4 != 6 || packet[6] != 6 || length + IPV6 != packet.len() {
            return None;
        }
        let verdict = self.tcp.ingest(source, destination, &packet[IPV6..], now);
        if verdict != Verdict::Malformed {
            self.audit.arrived(packet, now);
        }
        match verdict {
            Verdict::Asks { .. } if !self.deaf => {
                let id = self.tcp.answer(source, destination, &packet[IPV6..], now);
                if let Some(id) = id {
                    self.apps.insert(id, self.accepts.clone());
                }
            }
            Verdict::Asks { .. } => self.tcp.refuse(source, destination, &packet[IPV6..]),
            Verdict::Taken | Verdict::TakesBack { .. } | Verdict::Stray | Verdict::Malformed => {}
        }
        Some(verdict)
    }

    /// The applications hear what happened, and do something about it.
    pub(crate) fn serve(&mut self, now: Time) {
        while let Some(event) = self.tcp.poll_event() {
            let id = event.connection();
            let Some(app) = self.apps.get_mut(&id) else { continue };
            match event {
                Event::Connected(_) => app.connected = true,
                Event::PeerClosed(_) => app.peer_closed = true,
                Event::Ended(_, reason) => app.ended = Some(reason),
                Event::Readable(_) | Event::Writable(_) => {}
            }
            if !app.asleep {
                app.read(&mut self.tcp, id, now);
            }
            app.write(&mut self.tcp, id, now);
        }
    }
}

impl Application {
    pub(crate) fn read(&mut self, tcp: &mut Tcp, id: Id, now: Time) {
        let before = self.received;
        let mut check = |bytes: &[u8]| {
            let mut rest = bytes;
            while !rest.is_empty() {
                let expected = pattern(self.expects, self.received, rest.len());
                let (found, behind) = rest.split_at(expected.len());
                assert!(found == expected, "other bytes behind {}", self.received);
                self.received += found.len() as u64;
                rest = behind;
            }
            bytes.len()
        };
        match tcp.recv(id, &mut check, now) {
            Ok(_) => self.last = now,
            Err(RecvError::Empty | RecvError::Finished | RecvError::Ended(_)) => {}
            Err(RecvError::Unknown) => panic!("the connection is named"),
        }
        if self.echoes {
            self.to_send += self.received - before;
        }
    }

    pub(crate) fn write(&mut self, tcp: &mut Tcp, id: Id, now: Time) {
        if self.sent < self.to_send {
            let mut fill = |room: &mut [u8]| {
                let count = (self.to_send - self.sent).min(room.len() as u64) as usize;
                let mut rest = &mut room[..count];
                while !rest.is_empty() {
                    let bytes = pattern(self.salt, self.sent, rest.len());
                    rest[..bytes.len()].copy_from_slice(bytes);
                    self.sent += bytes.len() as u64;
                    rest = &mut rest[bytes.len()..];
                }
                count
            };
            match tcp.send(id, &mut fill, now) {
                Ok(_) | Err(SendError::Full | SendError::Ended(_)) => {}
                Err(error @ (SendError::Closed | SendError::Unknown)) => panic!("{error}"),
            }
        }
        let through = self.sent == self.to_send && (!self.echoes || self.peer_closed);
        if self.closes && through && self.connected {
            tcp.close(id, now);
        }
    }
}

/// How many seeds a property is tried with: `CODERCTL_TCP_SEEDS` if it is set, otherwise as many as a
/// debug build has time for.
pub(crate) fn seeds(otherwise: u64) -> u64 {
    let asked = std::env::var("CODERCTL_TCP_SEEDS").ok().and_then(|it| it.parse().ok());
    asked.unwrap_or(otherwise)
}

/// Sends so many bytes from the first host to the second; the goodput in bit/s.
pub(crate) fn upload(world: &mut World, bytes: u64, limit: Duration) -> f64 {
    let began = world.now;
    world.connect(Application::sending(bytes));
    let done =
        world.run(limit, |world| world.hosts[1].apps.values().any(|app| app.received == bytes));
    assert!(done, "{:?} {:?}", world.app(0), world.hosts[1].apps);
    let took = world.app(1).last.since(began).as_secs_f64();
    bytes as f64 * 8.0 / took
}
