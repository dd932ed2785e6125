//! The stack with the TCP core of our own (`coderctl-tcp`).
//!
//! The core has the connections. Here are the ports that listen, the SYNs that wait for a decision,
//! and the translation between the core's words and those of [`Stack`]. UDP, pings and everything
//! else that is not TCP is [`SmolStack`]'s, which sees no TCP segment here.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use coderctl_tcp as core;
use coderctl_tcp::{Tcp, Time, Verdict};

use super::connection::Tuple;
use super::forwarder::{Forwarder, Kept};
use super::listener::Listeners;
use super::random::Random;
use super::smol::SmolStack;
use super::{
    Admission, Arrival, CloseReason, ConnectionId, ConnectionStatus, ListenerId, PacketSink,
    PingId, RecvError, SendError, Stack, StackConfig, StackError, StackEvent, StackStats, SynId,
    UdpId,
};
use crate::packet::{self, IPV6_HEADER, Packet, Upper};

/// TCP by the core of our own, everything else by [`SmolStack`].
#[derive(Debug)]
pub struct OwnStack {
    tcp: Tcp,
    rest: SmolStack,
    started: Instant,
    next_id: u64,
    listeners: Listeners,
    /// Connections that arrived at a port and were not accepted yet.
    arriving: BTreeMap<core::Id, ListenerId>,
    forwarder: Forwarder,
    events: VecDeque<StackEvent>,
    stats: StackStats,
}

impl OwnStack {
    /// A stack at `now`; times before it do not exist for it.
    pub fn new(config: StackConfig, now: Instant) -> Self {
        let mut random = Random::new(!config.seed);
        let tcp = core::Config {
            user_timeout: config.user_timeout,
            keep_alive: config.keep_alive,
            in_flight: Some(config.in_flight),
            ..core::Config::new((random.next(), random.next()))
        };
        Self {
            tcp: Tcp::new(tcp),
            rest: SmolStack::new(config, now),
            started: now,
            next_id: 1,
            listeners: Listeners::default(),
            arriving: BTreeMap::new(),
            forwarder: Forwarder::default(),
            events: VecDeque::new(),
            stats: StackStats::default(),
        }
    }

    fn clock(&self, now: Instant) -> Time {
        let elapsed = now.saturating_duration_since(self.started).as_micros();
        Time::from_micros(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn ingest_tcp(&mut self, packet: &Packet<'_>, now: Instant) {
        let clock = self.clock(now);
        let segment = &packet.bytes[IPV6_HEADER..];
        match self.tcp.ingest(packet.source, packet.destination, segment, clock) {
            Verdict::Taken => {}
            Verdict::Asks { local, remote } => self.asked(local, remote, packet, clock),
            Verdict::TakesBack { local, remote } => self.forwarder.cancel(&tuple(local, remote)),
            Verdict::Stray => self.stats.strays += 1,
            Verdict::Malformed => self.stats.malformed += 1,
        }
    }

    /// Somebody asks for a connection.
    fn asked(&mut self, local: SocketAddrV6, remote: SocketAddrV6, packet: &Packet<'_>, now: Time) {
        let segment = &packet.bytes[IPV6_HEADER..];
        let (source, destination) = (packet.source, packet.destination);
        if let Some(listener) = self.listeners.at(local.port()) {
            if !self.listeners.has_room(listener) {
                self.stats.overflow += 1;
            } else if let Some(id) = self.tcp.answer(source, destination, segment, now) {
                self.arriving.insert(id, listener);
                self.listeners.arrived(listener, outer(id));
            }
        } else if self.forwarder.is_on() {
            let id = SynId(self.id());
            match self.forwarder.hold(id, tuple(local, remote), packet.bytes) {
                Kept::New | Kept::Again => {}
                Kept::Overflow => self.stats.overflow += 1,
            }
        } else {
            self.stats.strays += 1;
            self.tcp.refuse(source, destination, segment);
        }
    }

    /// What an event of the core means outside; nothing for a connection that nobody has yet.
    fn translate(&mut self, event: core::Event) -> Option<StackEvent> {
        let (core::Event::Connected(id)
        | core::Event::Readable(id)
        | core::Event::Writable(id)
        | core::Event::PeerClosed(id)
        | core::Event::Ended(id, _)) = event;
        if let Some(listener) = self.arriving.get(&id).copied() {
            return self.arrives(id, listener, event);
        }
        let id = outer(id);
        Some(match event {
            core::Event::Connected(_) => StackEvent::Connected(id),
            core::Event::Readable(_) => StackEvent::Readable(id),
            core::Event::Writable(_) => StackEvent::Writable(id),
            core::Event::PeerClosed(_) => StackEvent::PeerClosed(id),
            core::Event::Ended(_, reason) => match close_reason(reason) {
                CloseReason::Refused => StackEvent::Refused(id),
                CloseReason::Reset => StackEvent::Reset(id),
                reason
                @ (CloseReason::Finished | CloseReason::TimedOut | CloseReason::PeerGone) => {
                    StackEvent::Closed(id, reason)
                }
            },
        })
    }

    fn arrives(
        &mut self,
        id: core::Id,
        listener: ListenerId,
        event: core::Event,
    ) -> Option<StackEvent> {
        match event {
            core::Event::Connected(_) => {
                let tells = self.listeners.established(listener, outer(id));
                tells.then_some(StackEvent::Incoming(listener))
            }
            core::Event::Ended(..) => {
                self.arriving.remove(&id);
                self.listeners.forget(listener, outer(id));
                // It is over, so the time does not matter.
                self.tcp.release(id, Time::default());
                None
            }
            core::Event::Readable(_) | core::Event::Writable(_) | core::Event::PeerClosed(_) => {
                None
            }
        }
    }

    fn pop_event(&mut self) -> Option<StackEvent> {
        while let Some(event) = self.tcp.poll_event() {
            if let Some(event) = self.translate(event) {
                return Some(event);
            }
        }
        self.events.pop_front().or_else(|| self.rest.poll_event())
    }
}

impl Stack for OwnStack {
    fn address(&self) -> Ipv6Addr {
        self.rest.address()
    }

    fn addresses(&self) -> &[Ipv6Addr] {
        self.rest.addresses()
    }

    fn set_addresses(&mut self, addresses: &[Ipv6Addr], now: Instant) -> Result<(), StackError> {
        self.rest.set_addresses(addresses, now)?;
        let kept = |address: &Ipv6Addr| addresses.contains(address);
        self.forwarder.forget(|tuple| !kept(&tuple.local));
        let clock = self.clock(now);
        self.tcp.reset_all(|status| !kept(status.local.ip()), clock);
        Ok(())
    }

    fn connect(&mut self, remote: SocketAddrV6, now: Instant) -> Result<ConnectionId, StackError> {
        if !packet::is_tunnel_address(remote.ip()) || remote.port() == 0 {
            return Err(StackError::Unaddressable);
        }
        let (local, clock) = (self.address(), self.clock(now));
        let free = |port| self.listeners.at(port).is_none();
        let id = self.tcp.connect(local, remote, free, clock);
        id.map(outer).map_err(|core::NoPort| StackError::NoPort)
    }

    fn listen(&mut self, port: u16, backlog: usize) -> Result<ListenerId, StackError> {
        if port == 0 {
            return Err(StackError::Unaddressable);
        }
        let id = ListenerId(self.id());
        self.listeners.add(id, port, backlog)?;
        Ok(id)
    }

    fn accept(&mut self, listener: ListenerId) -> Option<(ConnectionId, SocketAddrV6)> {
        loop {
            let id = self.listeners.accept(listener)?;
            self.arriving.remove(&inner(id));
            let Some(status) = self.tcp.status(inner(id)) else { continue };
            // What happened before it had an owner.
            if status.readable > 0 {
                self.events.push_back(StackEvent::Readable(id));
            }
            if status.peer_closed {
                self.events.push_back(StackEvent::PeerClosed(id));
            }
            return Some((id, status.remote));
        }
    }

    fn unlisten(&mut self, listener: ListenerId, now: Instant) {
        let clock = self.clock(now);
        for id in self.listeners.remove(listener) {
            self.arriving.remove(&inner(id));
            self.tcp.abort(inner(id), clock);
        }
    }

    fn forward(&mut self) {
        self.forwarder.start();
        self.rest.forward();
    }

    fn poll_arrival(&mut self) -> Option<Arrival> {
        self.forwarder.poll().or_else(|| self.rest.poll_arrival())
    }

    fn has_arrivals(&self) -> bool {
        self.forwarder.has_arrivals() || self.rest.has_arrivals()
    }

    fn accept_syn(&mut self, id: SynId, now: Instant) -> Option<ConnectionId> {
        let (_, bytes) = self.forwarder.take(id)?;
        let packet = Packet::parse(&bytes).ok()?;
        let segment = &packet.bytes[IPV6_HEADER..];
        let clock = self.clock(now);
        self.tcp.answer(packet.source, packet.destination, segment, clock).map(outer)
    }

    fn refuse_syn(&mut self, id: SynId, _now: Instant) {
        let Some((_, bytes)) = self.forwarder.take(id) else { return };
        if let Ok(packet) = Packet::parse(&bytes) {
            let segment = &packet.bytes[IPV6_HEADER..];
            self.tcp.refuse(packet.source, packet.destination, segment);
        }
    }

    fn recv(
        &mut self,
        id: ConnectionId,
        read: &mut dyn FnMut(&[u8]) -> usize,
        now: Instant,
    ) -> Result<usize, RecvError> {
        let clock = self.clock(now);
        self.tcp.recv(inner(id), read, clock).map_err(|error| match error {
            core::RecvError::Empty => RecvError::Empty,
            core::RecvError::Finished => RecvError::Finished,
            core::RecvError::Ended(reason) => RecvError::Ended(close_reason(reason)),
            core::RecvError::Unknown => RecvError::Unknown,
        })
    }

    fn send(
        &mut self,
        id: ConnectionId,
        write: &mut dyn FnMut(&mut [u8]) -> usize,
        now: Instant,
    ) -> Result<usize, SendError> {
        let clock = self.clock(now);
        self.tcp.send(inner(id), write, clock).map_err(|error| match error {
            core::SendError::Full => SendError::Full,
            core::SendError::Closed => SendError::Closed,
            core::SendError::Ended(reason) => SendError::Ended(close_reason(reason)),
            core::SendError::Unknown => SendError::Unknown,
        })
    }

    fn close(&mut self, id: ConnectionId, now: Instant) {
        let clock = self.clock(now);
        self.tcp.close(inner(id), clock);
    }

    fn abort(&mut self, id: ConnectionId, now: Instant) {
        let clock = self.clock(now);
        self.tcp.abort(inner(id), clock);
    }

    fn release(&mut self, id: ConnectionId, now: Instant) {
        let clock = self.clock(now);
        self.tcp.release(inner(id), clock);
    }

    fn status(&self, id: ConnectionId) -> Option<ConnectionStatus> {
        self.tcp.status(inner(id)).map(|status| ConnectionStatus {
            remote: status.remote,
            local_port: status.local.port(),
            established: is_open(&status),
            readable: status.readable,
            writable: status.writable,
            unsent: status.unsent,
            peer_closed: status.peer_closed,
            closed: status.closed,
            ended: status.ended.map(close_reason),
        })
    }

    fn fail_remote(&mut self, remote: Ipv6Addr, now: Instant) {
        self.forwarder.forget(|tuple| tuple.has(remote));
        let clock = self.clock(now);
        self.tcp.forget_all(|status| *status.remote.ip() == remote, clock);
        self.rest.fail_remote(remote, now);
    }

    fn udp_bind(&mut self, port: Option<u16>) -> Result<UdpId, StackError> {
        self.rest.udp_bind(port)
    }

    fn udp_port(&self, id: UdpId) -> Option<u16> {
        self.rest.udp_port(id)
    }

    fn udp_send(
        &mut self,
        id: UdpId,
        remote: SocketAddrV6,
        payload: &[u8],
    ) -> Result<(), SendError> {
        self.rest.udp_send(id, remote, payload)
    }

    fn udp_recv(&mut self, id: UdpId) -> Option<(SocketAddrV6, BytesMut)> {
        self.rest.udp_recv(id)
    }

    fn udp_close(&mut self, id: UdpId) {
        self.rest.udp_close(id);
    }

    fn ping(&mut self, remote: Ipv6Addr, now: Instant) -> Result<PingId, StackError> {
        self.rest.ping(remote, now)
    }

    fn ingest(&mut self, bytes: &[u8], now: Instant) {
        match Packet::parse(bytes) {
            Ok(packet)
                if matches!(packet.upper, Upper::Tcp(_))
                    && self.addresses().contains(&packet.destination)
                    && packet::is_tunnel_address(&packet.source) =>
            {
                self.stats.packets_in += 1;
                self.ingest_tcp(&packet, now);
            }
            Ok(_) | Err(_) => self.rest.ingest(bytes, now),
        }
    }

    fn poll_transmit(&mut self, sink: &mut dyn PacketSink, now: Instant) {
        let clock = self.clock(now);
        self.rest.poll_transmit(sink, now);
        self.tcp.poll_transmit(&mut Through(sink), clock);
    }

    fn wants_transmit(&self) -> bool {
        self.rest.wants_transmit() || self.tcp.wants_transmit()
    }

    fn handle_timeout(&mut self, now: Instant) {
        let clock = self.clock(now);
        self.rest.handle_timeout(now);
        self.tcp.handle_timeout(clock);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let own = self.tcp.next_deadline();
        let own = own.map(|at| self.started + Duration::from_micros(at.micros()));
        [own, self.rest.next_deadline()].into_iter().flatten().min()
    }

    fn poll_event(&mut self) -> Option<StackEvent> {
        let event = self.pop_event()?;
        if let StackEvent::Incoming(id) = event {
            self.listeners.told(id);
        }
        Some(event)
    }

    fn connections(&self) -> usize {
        self.tcp.connections()
    }

    fn established(&self) -> Vec<(u16, SocketAddrV6)> {
        let all = self.tcp.ids().filter_map(|id| self.tcp.status(id));
        all.filter(is_open).map(|status| (status.local.port(), status.remote)).collect()
    }

    fn stats(&self) -> StackStats {
        let (rest, tcp) = (self.rest.stats(), self.tcp.stats());
        StackStats {
            packets_in: rest.packets_in + self.stats.packets_in,
            packets_out: rest.packets_out + tcp.segments_out,
            malformed: rest.malformed + self.stats.malformed,
            unwanted: rest.unwanted,
            overflow: rest.overflow + self.stats.overflow + tcp.overflow,
            retransmitted: tcp.retransmitted,
            strays: self.stats.strays,
        }
    }
}

/// The core's packets go where ours go.
struct Through<'a>(&'a mut dyn PacketSink);

impl core::PacketSink for Through<'_> {
    fn admit(&mut self, destination: Ipv6Addr) -> core::Admission {
        match self.0.admit(destination) {
            Admission::Yes => core::Admission::Yes,
            Admission::NotThere => core::Admission::NotThere,
            Admission::Full => core::Admission::Full,
        }
    }

    fn buffer(&mut self) -> BytesMut {
        self.0.buffer()
    }

    fn send(&mut self, destination: Ipv6Addr, packet: BytesMut) {
        self.0.send(destination, packet);
    }
}

fn outer(id: core::Id) -> ConnectionId {
    ConnectionId(id.number())
}

fn inner(id: ConnectionId) -> core::Id {
    core::Id::from_number(id.0)
}

fn tuple(local: SocketAddrV6, remote: SocketAddrV6) -> Tuple {
    Tuple {
        local: *local.ip(),
        port: local.port(),
        remote: *remote.ip(),
        remote_port: remote.port(),
    }
}

fn close_reason(reason: core::CloseReason) -> CloseReason {
    match reason {
        core::CloseReason::Finished => CloseReason::Finished,
        core::CloseReason::Refused => CloseReason::Refused,
        core::CloseReason::Reset => CloseReason::Reset,
        core::CloseReason::TimedOut => CloseReason::TimedOut,
        core::CloseReason::PeerGone => CloseReason::PeerGone,
    }
}

/// Whether the handshake is done and the connection not over.
fn is_open(status: &core::Status) -> bool {
    match status.state {
        core::State::SynSent | core::State::SynReceived | core::State::Closed => false,
        core::State::Established
        | core::State::FinWait1
        | core::State::FinWait2
        | core::State::CloseWait
        | core::State::Closing
        | core::State::LastAck => true,
    }
}
