//! TCP, UDP and pings inside the tunnel, in user space.
//!
//! A [`Stack`] has one or two IPv6 addresses and speaks IP packets on one side and connections on
//! the other. It is pure: packets go in with [`Stack::ingest`], time with
//! [`Stack::handle_timeout`], the application's wishes with the other methods; what comes out waits
//! in [`Stack::poll_transmit`] and [`Stack::poll_event`], and [`Stack::next_deadline`] says when time
//! matters again.
//!
//! ```text
//!   connect, send, recv, close ──► ┌───────┐ ──► poll_transmit(sink): IP packets
//!               poll_event ◄────── │ Stack │
//!                                  └───────┘ ◄── ingest: IP packets
//! ```
//!
//! The connections are those of [`coderctl_tcp`]. Here is everything around them: the ports that
//! listen and the SYNs that wait for a decision (`streams`), datagrams, pings and echo
//! (`datagrams`).
//!
//! **Nothing that was built is dropped.** A packet is only made when the [`PacketSink`] has
//! agreed to take it. A connection to a peer whose tunnel is not up yet therefore waits: its SYN is
//! made in the moment it can leave.
//!
//! **No wakeup is lost.** Events are edges, at most one of a kind pending per connection, and
//! [`Stack::status`] gives the level at any time. [`TcpEvent::Readable`] follows every arrival
//! of data, [`TcpEvent::Writable`] follows every [`Stack::send`] that had to be cut short.
//!
//! **What is under way is bounded.** A relay holds 512 packets for a client and forgets the rest,
//! so all streams that take it together may have only so much unacknowledged
//! ([`StackConfig::in_flight`], [`Stack::set_lane`]); each gets a fair share. What others may have under way to us is bounded as well, by the windows that
//! we offer.
//!
//! **A port may be decided on as it is asked for.** With [`Stack::forward`] a SYN to a port where
//! nobody listens is held back and told by [`Stack::poll_arrival`]; only [`Stack::accept_syn`] lets
//! the handshake go on, and [`Stack::refuse_syn`] answers as a closed port does. So a forwarder can
//! dial first, and its client sees a refused connection where there is nothing. (coder/tailscale:
//! wgengine/netstack/netstack.go, `acceptTCP`.)

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use coderctl_tcp::{Config, Tcp, Time};

mod datagrams;
mod forwarder;
mod id;
mod listener;
mod ping;
mod random;
mod streams;
mod udp;

pub use coderctl_tcp::{
    Admission, CloseReason, Event as TcpEvent, Id as ConnectionId, Lane, PacketSink, RecvError,
    SendError, Status as ConnectionStatus, WidthNews,
};
pub use id::{ListenerId, PingId, SynId, UdpId};

use forwarder::Forwarder;
use listener::Listeners;
use ping::Pings;
use random::Random;
use udp::Udp;

use crate::packet::{self, Packet, Upper};

/// What a [`Stack`] is made with.
#[derive(Debug, Clone)]
pub struct StackConfig {
    /// Our address, a `/128`.
    pub address: Ipv6Addr,
    /// Seed of everything random here: initial sequence numbers, ephemeral ports, ping contents.
    /// Must be unpredictable in use, and may be fixed in a simulation.
    pub seed: u64,
    /// Bytes that all TCP streams of a lane together may have in queues on their way, beyond what
    /// the way itself holds.
    pub in_flight: usize,
    /// How long a connection may wait for its other end, to be opened or to have data or the end
    /// acknowledged, while nothing at all arrives; then it fails with [`CloseReason::TimedOut`].
    /// The time without a tunnel counts.
    pub user_timeout: Duration,
    /// How long a pong is waited for.
    pub ping_timeout: Duration,
    /// Idle time after which a keep-alive probe asks whether the other end is still there.
    pub keep_alive: Option<Duration>,
}

impl StackConfig {
    /// Upstream drops the callback of a ping after 10 s (coder/tailscale: wgengine/userspace.go).
    pub const PING_TIMEOUT: Duration = Duration::from_secs(10);

    /// A configuration for `address` with the usual limits.
    pub fn new(address: Ipv6Addr, seed: u64) -> Self {
        Self {
            address,
            seed,
            in_flight: Config::IN_FLIGHT,
            user_timeout: Config::USER_TIMEOUT,
            ping_timeout: Self::PING_TIMEOUT,
            keep_alive: Some(Config::KEEP_ALIVE),
        }
    }
}

/// TCP, UDP and ping inside the tunnel.
#[derive(Debug)]
pub struct Stack {
    config: StackConfig,
    addresses: Vec<Ipv6Addr>,
    started: Instant,
    random: Random,
    next_id: u64,
    tcp: Tcp,
    listeners: Listeners,
    /// Connections that arrived at a port and were not accepted yet.
    arriving: BTreeMap<ConnectionId, ListenerId>,
    forwarder: Forwarder,
    udp: Udp,
    pings: Pings,
    /// Packets that are no connection's: datagrams, answers to pings.
    answers: VecDeque<(Ipv6Addr, BytesMut)>,
    events: VecDeque<StackEvent>,
    stats: StackStats,
}

impl Stack {
    /// A stack at `now`; times before it do not exist for it.
    pub fn new(config: StackConfig, now: Instant) -> Self {
        let mut random = Random::new(config.seed);
        let tcp = Config {
            user_timeout: config.user_timeout,
            keep_alive: config.keep_alive,
            in_flight: Some(config.in_flight),
            ..Config::new((random.next(), random.next()))
        };
        Self {
            addresses: vec![config.address],
            config,
            started: now,
            random,
            next_id: 1,
            tcp: Tcp::new(tcp),
            listeners: Listeners::default(),
            arriving: BTreeMap::new(),
            forwarder: Forwarder::default(),
            udp: Udp::default(),
            pings: Pings::default(),
            answers: VecDeque::new(),
            events: VecDeque::new(),
            stats: StackStats::default(),
        }
    }

    /// Our first address: the source of what we begin.
    pub fn address(&self) -> Ipv6Addr {
        self.addresses.first().copied().unwrap_or(self.config.address)
    }

    /// All our addresses, the first one first.
    pub fn addresses(&self) -> &[Ipv6Addr] {
        &self.addresses
    }

    /// Has other addresses from now on, at most [`MAX_OWN_ADDRESSES`]. Connections of addresses
    /// that are gone are reset.
    ///
    /// # Errors
    ///
    /// [`StackError::Unaddressable`] for none and for one that cannot be inside the tunnel,
    /// [`StackError::TooMany`]; then nothing changes.
    pub fn set_addresses(
        &mut self,
        addresses: &[Ipv6Addr],
        now: Instant,
    ) -> Result<(), StackError> {
        if addresses.is_empty() || !addresses.iter().all(packet::is_tunnel_address) {
            return Err(StackError::Unaddressable);
        }
        if addresses.len() > MAX_OWN_ADDRESSES {
            return Err(StackError::TooMany);
        }
        self.addresses = addresses.to_vec();
        let kept = |address: &Ipv6Addr| addresses.contains(address);
        self.forwarder.forget(|local, _| !kept(local.ip()));
        let clock = self.clock(now);
        self.tcp.reset_local(|address| !kept(address), clock);
        Ok(())
    }

    /// Ends every connection with `remote` and every ping to it: its peer is gone. No RST is sent.
    pub fn fail_remote(&mut self, remote: Ipv6Addr, now: Instant) {
        self.forwarder.forget(|_, from| *from.ip() == remote);
        let clock = self.clock(now);
        self.tcp.forget_remote(remote, clock);
        self.answers.retain(|(to, _)| *to != remote);
        self.lose_pings(now, Some(remote));
    }

    /// Packets to `remote` share a queue with those of others, or with nobody's.
    pub fn set_lane(&mut self, remote: Ipv6Addr, lane: Lane, now: Instant) {
        self.tcp.set_lane(remote, lane, self.clock(now));
    }

    /// The way to `remote` carries packets of so many bytes from now on; those of connections may be
    /// longer than the MTU by that.
    pub fn set_width(&mut self, remote: Ipv6Addr, packet: usize, now: Instant) {
        self.tcp.set_width(remote, packet, self.clock(now));
    }

    /// What connections have to say about the length of packets; to be called until `None`, after
    /// [`Stack::poll_transmit`].
    pub fn poll_width(&mut self) -> Option<WidthNews> {
        self.tcp.poll_width()
    }

    /// The way to `remote` may have failed, and packets take another one as well: what should have
    /// been answered is repeated at once.
    pub fn doubt(&mut self, remote: Ipv6Addr, now: Instant) {
        self.tcp.doubt(remote, self.clock(now));
    }

    /// Takes one IP packet from the tunnel. The caller vouches for its source; packets that are
    /// malformed or not for us are dropped and counted.
    pub fn ingest(&mut self, bytes: &[u8], now: Instant) {
        self.stats.packets_in += 1;
        let Ok(packet) = Packet::parse(bytes) else {
            self.stats.malformed += 1;
            return;
        };
        let foreign = !self.addresses.contains(&packet.destination);
        if foreign || !packet::is_tunnel_address(&packet.source) {
            self.stats.unwanted += 1;
            return;
        }
        match packet.upper {
            Upper::Tcp(segment) => self.ingest_tcp(&packet, segment, now),
            Upper::Udp { source, destination, payload } => {
                let from = SocketAddrV6::new(packet.source, source, 0, 0);
                let at = SocketAddrV6::new(packet.destination, destination, 0, 0);
                self.ingest_udp(at, from, payload);
            }
            Upper::EchoRequest(body) => self.ingest_echo(&packet, body),
            Upper::Tsmp(_) => self.ingest_tsmp(&packet, now),
            Upper::EchoReply(_) | Upper::Icmp { .. } | Upper::Other(_) => {
                self.stats.unwanted += 1;
            }
        }
    }

    /// Makes packets and hands them to `sink` until there is nothing to send or `sink` is full.
    pub fn poll_transmit(&mut self, sink: &mut dyn PacketSink, now: Instant) {
        if self.send_answers(sink) && self.send_pings(sink, now) {
            self.tcp.poll_transmit(sink, self.clock(now));
        }
    }

    /// Whether something waits for [`Stack::poll_transmit`].
    pub fn wants_transmit(&self) -> bool {
        !self.answers.is_empty() || self.pings.unsent() > 0 || self.tcp.wants_transmit()
    }

    /// Lets timers fire that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.lose_pings(now, None);
        self.tcp.handle_timeout(self.clock(now));
    }

    /// When [`Stack::handle_timeout`] is wanted next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let tcp = self.tcp.next_deadline();
        let tcp = tcp.map(|at| self.started + Duration::from_micros(at.micros()));
        [tcp, self.pings.deadline()].into_iter().flatten().min()
    }

    /// The next event; to be called until `None`.
    pub fn poll_event(&mut self) -> Option<StackEvent> {
        while let Some(event) = self.tcp.poll_event() {
            if let Some(event) = self.translate(event) {
                return Some(event);
            }
        }
        let event = self.events.pop_front()?;
        match event {
            StackEvent::Incoming(id) => self.listeners.told(id),
            StackEvent::UdpReadable(id) => self.udp.told(id),
            StackEvent::Tcp(_) | StackEvent::Pong(..) | StackEvent::PingLost(_) => {}
        }
        Some(event)
    }

    /// Counters.
    pub fn stats(&self) -> StackStats {
        let tcp = self.tcp.stats();
        StackStats {
            packets_out: self.stats.packets_out + tcp.segments_out,
            malformed: self.stats.malformed + tcp.malformed,
            overflow: self.stats.overflow + tcp.overflow,
            retransmitted: tcp.retransmitted,
            ..self.stats
        }
    }

    fn clock(&self, now: Instant) -> Time {
        let elapsed = now.saturating_duration_since(self.started).as_micros();
        Time::from_micros(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    /// A number that nothing else here has.
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// Addresses that a stack has at most; an agent has two.
pub const MAX_OWN_ADDRESSES: usize = 2;

/// Something that waits for a decision; see [`Stack::forward`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// A SYN. It waits until [`Stack::accept_syn`] or [`Stack::refuse_syn`].
    Tcp {
        /// To answer it with.
        id: SynId,
        /// Our address and the port that is asked for.
        local: SocketAddrV6,
        /// Who asks.
        remote: SocketAddrV6,
    },
    /// The first datagram of a flow: of one port of one peer to one of ours. The flow is a UDP
    /// socket, whose first datagram waits; it lasts until [`Stack::udp_close`].
    Udp {
        /// The flow.
        id: UdpId,
        /// Our address and port.
        local: SocketAddrV6,
        /// The other end.
        remote: SocketAddrV6,
    },
}

/// What happened in a [`Stack`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StackEvent {
    /// To a connection.
    Tcp(TcpEvent),
    /// A connection waits to be accepted.
    Incoming(ListenerId),
    /// A datagram arrived.
    UdpReadable(UdpId),
    /// A ping was answered after this time.
    Pong(PingId, Duration),
    /// A ping was not answered in time, or its peer is gone.
    PingLost(PingId),
}

/// Why something could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StackError {
    /// An address or port that cannot be used inside the tunnel.
    #[error("not an address inside the tunnel")]
    Unaddressable,
    /// The port has another user.
    #[error("the port is in use")]
    PortInUse,
    /// All ephemeral ports are taken.
    #[error("no free port is left")]
    NoPort,
    /// Too many at once.
    #[error("too many at once")]
    TooMany,
}

/// Why a datagram was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// Too many wait already. The datagram is best forgotten, as networks do.
    #[error("too many datagrams wait already")]
    Full,
    /// It does not fit a packet.
    #[error("a datagram of {0} bytes does not fit a packet")]
    TooLong(usize),
    /// Not an address inside the tunnel.
    #[error("not an address inside the tunnel")]
    Unaddressable,
    /// No such socket.
    #[error("no such socket")]
    Unknown,
}

/// Counters of a [`Stack`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StackStats {
    /// Packets taken in.
    pub packets_in: u64,
    /// Packets handed out.
    pub packets_out: u64,
    /// Packets dropped because they were malformed.
    pub malformed: u64,
    /// Packets dropped because they were not for us, or of a protocol we do not speak.
    pub unwanted: u64,
    /// Packets dropped because a queue was full (a backlog, a UDP socket, our answers).
    pub overflow: u64,
    /// TCP segments sent again.
    pub retransmitted: u64,
    /// RSTs sent to segments for no connection.
    pub strays: u64,
}
