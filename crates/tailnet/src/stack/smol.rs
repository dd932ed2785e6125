//! The stack in use: smoltcp's TCP core, and everything it lacks around it.
//!
//! smoltcp keeps the state of each connection and makes its segments. Here are the table that finds
//! the connection of a packet, the queue of connections with something to send (served in turn,
//! one packet each), the timers, listening (smoltcp's own has no backlog), the states after a
//! connection's end, UDP, pings and echo.
//!
//! Every step that touches a connection ends in [`SmolStack::settle`], which compares the socket's
//! state with what was last told and derives everything else from it: events, budget, timers.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Instant;

use bytes::BytesMut;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::socket::tcp::State;
use smoltcp::wire::{HardwareAddress, IpAddress, IpEndpoint};

use super::budget::{Budget, Buffers};
use super::connection::{Connection, Tuple};
use super::device::Door;
use super::forwarder::Forwarder;
use super::intake::Intake;
use super::listener::Listeners;
use super::ping::Pings;
use super::random::Random;
use super::timers::Timers;
use super::udp::Udp;
use super::{
    Arrival, CloseReason, ConnectionId, ConnectionStatus, ListenerId, PacketSink, PingId,
    RecvError, SendError, Stack, StackConfig, StackError, StackEvent, StackStats, SynId, UdpId,
};
use crate::packet::{self, MAX_UDP_PAYLOAD, Packet, Upper, build};

/// Packets made outside of connections that may wait for the sink: acknowledgements of
/// out-of-order segments, answers to pings, UDP.
const ANSWERS: usize = 1024;

mod forward;
mod ingest;
mod settle;
mod transmit;

/// TCP, UDP and pings.
pub struct SmolStack {
    config: StackConfig,
    addresses: Vec<Ipv6Addr>,
    interface: Interface,
    /// Answers on behalf of no connection are made with no socket.
    nobody: SocketSet<'static>,
    started: Instant,
    random: Random,
    next_id: u64,
    connections: BTreeMap<ConnectionId, Connection>,
    by_tuple: BTreeMap<Tuple, ConnectionId>,
    finished: BTreeMap<Tuple, Instant>,
    finished_order: VecDeque<(Instant, Tuple)>,
    listeners: Listeners,
    forwarder: Forwarder,
    /// Connections with something to send, in turn.
    ready: VecDeque<ConnectionId>,
    /// Connections whose writer waits for room, in turn.
    waiting_for_room: VecDeque<ConnectionId>,
    timers: Timers,
    budget: Budget,
    intake: Intake,
    udp: Udp,
    pings: Pings,
    answers: VecDeque<(Ipv6Addr, BytesMut)>,
    events: VecDeque<StackEvent>,
    stats: StackStats,
}

impl std::fmt::Debug for SmolStack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmolStack")
            .field("addresses", &self.addresses)
            .field("connections", &self.connections.len())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl SmolStack {
    /// A stack at `now`; times before it do not exist for it.
    pub fn new(config: StackConfig, now: Instant) -> Self {
        let mut random = Random::new(config.seed);
        let mut interface_config = Config::new(HardwareAddress::Ip);
        interface_config.random_seed = random.next();
        let mut interface =
            Interface::new(interface_config, &mut Door::default(), smoltcp::time::Instant::ZERO);
        forward::set_addresses(&mut interface, &[config.address]);
        Self {
            budget: Budget::new(config.in_flight, now),
            intake: Intake::new(now),
            addresses: vec![config.address],
            config,
            interface,
            nobody: SocketSet::new(Vec::new()),
            started: now,
            random,
            next_id: 1,
            connections: BTreeMap::new(),
            by_tuple: BTreeMap::new(),
            finished: BTreeMap::new(),
            finished_order: VecDeque::new(),
            listeners: Listeners::default(),
            forwarder: Forwarder::default(),
            ready: VecDeque::new(),
            waiting_for_room: VecDeque::new(),
            timers: Timers::default(),
            udp: Udp::default(),
            pings: Pings::default(),
            answers: VecDeque::new(),
            events: VecDeque::new(),
            stats: StackStats::default(),
        }
    }

    /// Our first address.
    fn first(&self) -> Ipv6Addr {
        self.addresses.first().copied().unwrap_or(self.config.address)
    }

    fn id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// smoltcp counts from a start of its own; not from zero, which it uses for "at once".
    fn clock(&self, now: Instant) -> smoltcp::time::Instant {
        let elapsed = now.saturating_duration_since(self.started);
        smoltcp::time::Instant::from_micros(1_000_000 + elapsed.as_micros() as i64)
    }

    /// A connection that the application may still name.
    fn named(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(&id).filter(|it| !it.released && it.listener.is_none())
    }

    fn named_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(&id).filter(|it| !it.released && it.listener.is_none())
    }

    fn add(&mut self, tuple: Tuple, listener: Option<ListenerId>, now: Instant) -> ConnectionId {
        let id = ConnectionId(self.id());
        let buffers = Buffers::beside(self.connections.len());
        let connection = Connection::new(tuple, listener, buffers, &self.config, now);
        self.connections.insert(id, connection);
        self.by_tuple.insert(tuple, id);
        id
    }

    fn remove(&mut self, id: ConnectionId) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        self.budget.update(&mut connection.load, 0);
        if self.by_tuple.get(&connection.tuple) == Some(&id) {
            self.by_tuple.remove(&connection.tuple);
        }
        if let Some(listener) = connection.listener {
            self.listeners.forget(listener, id);
        }
    }

    fn ephemeral_port(&mut self, free: impl Fn(&Self, u16) -> bool) -> Result<u16, StackError> {
        // IANA's dynamic range, searched from a random place on.
        const FIRST: u32 = 49_152;
        const COUNT: u32 = 65_536 - FIRST;
        let offset = self.random.below(COUNT);
        (0..COUNT)
            .map(|i| (FIRST + (offset + i) % COUNT) as u16)
            .find(|port| free(self, *port))
            .ok_or(StackError::NoPort)
    }
}

impl Stack for SmolStack {
    fn address(&self) -> Ipv6Addr {
        self.first()
    }

    fn addresses(&self) -> &[Ipv6Addr] {
        &self.addresses
    }

    fn set_addresses(&mut self, addresses: &[Ipv6Addr], now: Instant) -> Result<(), StackError> {
        self.change_addresses(addresses, now)
    }

    fn connect(&mut self, remote: SocketAddrV6, now: Instant) -> Result<ConnectionId, StackError> {
        let (address, remote_port) = (*remote.ip(), remote.port());
        if !packet::is_tunnel_address(&address) || remote_port == 0 {
            return Err(StackError::Unaddressable);
        }
        let local = self.first();
        let tuple = |port| Tuple { local, port, remote: address, remote_port };
        self.forget_finished(now);
        let port = self.ephemeral_port(|stack, port| {
            !stack.by_tuple.contains_key(&tuple(port))
                && !stack.finished.contains_key(&tuple(port))
                && stack.listeners.at(port).is_none()
        })?;
        let id = self.add(tuple(port), None, now);
        let there = IpEndpoint::new(IpAddress::Ipv6(address), remote_port);
        let here = IpEndpoint::new(IpAddress::Ipv6(local), port);
        let context = self.interface.context();
        let Some(connection) = self.connections.get_mut(&id) else {
            return Err(StackError::Unaddressable);
        };
        if connection.socket_mut().connect(context, there, here).is_err() {
            self.remove(id);
            return Err(StackError::Unaddressable);
        }
        self.settle(id, now);
        Ok(id)
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
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.listener = None;
            // What happened before it had an owner.
            if connection.socket().recv_queue() > 0 {
                connection.told.readable = true;
                self.events.push_back(StackEvent::Readable(id));
            }
            if connection.peer_closed {
                self.events.push_back(StackEvent::PeerClosed(id));
            }
            return Some((id, connection.remote()));
        }
    }

    fn unlisten(&mut self, listener: ListenerId, now: Instant) {
        for id in self.listeners.remove(listener) {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.listener = None;
                self.abort(id, now);
            }
        }
    }

    fn forward(&mut self) {
        self.forwarder.start();
    }

    fn poll_arrival(&mut self) -> Option<Arrival> {
        self.forwarder.poll()
    }

    fn has_arrivals(&self) -> bool {
        self.forwarder.has_arrivals()
    }

    fn accept_syn(&mut self, id: SynId, now: Instant) -> Option<ConnectionId> {
        self.accept_held(id, now)
    }

    fn refuse_syn(&mut self, id: SynId, now: Instant) {
        self.refuse_held(id, now);
    }

    fn recv(
        &mut self,
        id: ConnectionId,
        read: &mut dyn FnMut(&[u8]) -> usize,
        now: Instant,
    ) -> Result<usize, RecvError> {
        let Some(connection) = self.named_mut(id) else { return Err(RecvError::Unknown) };
        let socket = connection.socket_mut();
        if !socket.can_recv() {
            return Err(match (connection.peer_closed, connection.ended) {
                (true, _) | (_, Some(CloseReason::Finished)) => RecvError::Finished,
                (false, Some(reason)) => RecvError::Ended(reason),
                (false, None) => RecvError::Empty,
            });
        }
        let mut taken = 0;
        while socket.can_recv() {
            let step = socket.recv(|bytes| {
                let count = read(bytes).min(bytes.len());
                (count, (count, count < bytes.len()))
            });
            let Ok((count, enough)) = step else { break };
            taken += count;
            if enough {
                break;
            }
        }
        connection.seen = connection.socket().recv_queue();
        self.settle(id, now);
        self.tell_room(id);
        Ok(taken)
    }

    fn send(
        &mut self,
        id: ConnectionId,
        write: &mut dyn FnMut(&mut [u8]) -> usize,
        now: Instant,
    ) -> Result<usize, SendError> {
        let Some(connection) =
            self.connections.get_mut(&id).filter(|it| !it.released && it.listener.is_none())
        else {
            return Err(SendError::Unknown);
        };
        if let Some(reason) = connection.ended {
            return Err(SendError::Ended(reason));
        }
        if connection.closed {
            return Err(SendError::Closed);
        }
        let room = connection.room(&self.budget);
        let mut written = 0;
        let mut declined = false;
        while written < room && !declined {
            let step = connection.socket_mut().send(|bytes| {
                let len = bytes.len().min(room - written);
                let count = write(&mut bytes[..len]).min(len);
                (count, (count, count < len))
            });
            let Ok((count, enough)) = step else { break };
            written += count;
            declined = enough;
        }
        // Only a writer that had more to say wants to hear of room.
        connection.told.owes_writable |= !declined;
        if written == 0 && !declined {
            self.wake_writer(id);
            return Err(SendError::Full);
        }
        self.settle(id, now);
        Ok(written)
    }

    fn close(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.named_mut(id) else { return };
        if connection.ended.is_some() || std::mem::replace(&mut connection.closed, true) {
            return;
        }
        if connection.established {
            connection.socket_mut().close();
            self.settle(id, now);
        } else {
            // Nothing was opened, so nothing is to be ended.
            connection.owes_reset = connection.spoke;
            connection.socket_mut().abort();
            self.end(id, CloseReason::Finished);
            self.settle(id, now);
        }
    }

    fn abort(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.named_mut(id) else { return };
        connection.released = true;
        if connection.ended.is_none() {
            connection.reset(CloseReason::Reset, now);
        }
        self.settle(id, now);
    }

    fn release(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.named(id) else { return };
        if connection.ended.is_none() && connection.socket().can_recv() {
            return self.abort(id, now);
        }
        self.close(id, now);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.released = true;
            self.settle(id, now);
        }
    }

    fn status(&self, id: ConnectionId) -> Option<ConnectionStatus> {
        self.named(id).map(|connection| connection.status(&self.budget))
    }

    fn fail_remote(&mut self, remote: Ipv6Addr, now: Instant) {
        self.forwarder.forget(|tuple| tuple.has(remote));
        let gone: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.tuple.remote == remote)
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            let nameless = connection.released || connection.listener.is_some();
            if nameless {
                self.remove(id);
                continue;
            }
            // No RST: whoever has that address now does not know the connection.
            connection.socket_mut().abort();
            connection.last_state = State::Closed;
            self.end(id, CloseReason::PeerGone);
            self.settle(id, now);
        }
        self.answers.retain(|(to, _)| *to != remote);
        for id in self.pings.lost(now, Some(remote)) {
            self.events.push_back(StackEvent::PingLost(id));
        }
        self.wake_writers();
    }

    fn udp_bind(&mut self, port: Option<u16>) -> Result<UdpId, StackError> {
        let port = match port {
            Some(0) => return Err(StackError::Unaddressable),
            Some(port) => port,
            None => self.ephemeral_port(|stack, port| stack.udp.is_free(port))?,
        };
        let id = UdpId(self.id());
        self.udp.bind(id, port)?;
        Ok(id)
    }

    fn udp_port(&self, id: UdpId) -> Option<u16> {
        self.udp.port(id)
    }

    fn udp_send(
        &mut self,
        id: UdpId,
        remote: SocketAddrV6,
        payload: &[u8],
    ) -> Result<(), SendError> {
        let Some((local, port)) = self.udp.local(id) else { return Err(SendError::Unknown) };
        let local = local.unwrap_or_else(|| self.first());
        if payload.len() > MAX_UDP_PAYLOAD {
            return Err(SendError::TooLong(payload.len()));
        }
        if !packet::is_tunnel_address(remote.ip()) || remote.port() == 0 {
            return Err(SendError::Unaddressable);
        }
        if self.answers.len() >= ANSWERS {
            self.stats.overflow += 1;
            return Err(SendError::Full);
        }
        let to = (*remote.ip(), remote.port());
        let packet = build::udp((local, port), to, payload);
        self.answers.push_back((to.0, packet));
        Ok(())
    }

    fn udp_recv(&mut self, id: UdpId) -> Option<(SocketAddrV6, BytesMut)> {
        self.udp.recv(id)
    }

    fn udp_close(&mut self, id: UdpId) {
        self.udp.close(id);
    }

    fn ping(&mut self, remote: Ipv6Addr, now: Instant) -> Result<PingId, StackError> {
        if !packet::is_tunnel_address(&remote) {
            return Err(StackError::Unaddressable);
        }
        if !self.pings.has_room() {
            return Err(StackError::TooMany);
        }
        let id = PingId(self.id());
        let data = self.random.next().to_be_bytes();
        self.pings.start(id, data, remote, now + self.config.ping_timeout);
        Ok(id)
    }

    fn ingest(&mut self, bytes: &[u8], now: Instant) {
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
            Upper::Tcp(segment) => self.ingest_tcp(&packet, &segment, now),
            Upper::Udp { source, destination, payload } => {
                let from = SocketAddrV6::new(packet.source, source, 0, 0);
                let at = SocketAddrV6::new(packet.destination, destination, 0, 0);
                self.ingest_udp(at, from, payload);
            }
            Upper::EchoRequest(body) => {
                let reply = build::echo_reply(packet.destination, packet.source, body);
                self.answer(packet.source, reply);
            }
            Upper::Tsmp(_) => self.ingest_tsmp(&packet, now),
            Upper::EchoReply(_) | Upper::Icmp { .. } | Upper::Other(_) => {
                self.stats.unwanted += 1;
            }
        }
    }

    fn poll_transmit(&mut self, sink: &mut dyn PacketSink, now: Instant) {
        if self.send_answers(sink) && self.send_pings(sink, now) {
            self.send_segments(sink, now);
        }
    }

    fn wants_transmit(&self) -> bool {
        !self.answers.is_empty() || self.pings.unsent() > 0 || !self.ready.is_empty()
    }

    fn handle_timeout(&mut self, now: Instant) {
        for id in self.pings.lost(now, None) {
            self.events.push_back(StackEvent::PingLost(id));
        }
        self.forget_finished(now);
        while let Some((entry, id)) = self.timers.pop(now) {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            if self.timers.fired(id, &mut connection.timer, entry, now) {
                self.connection_timeout(id, now);
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        [self.timers.next(), self.pings.deadline()].into_iter().flatten().min()
    }

    fn poll_event(&mut self) -> Option<StackEvent> {
        loop {
            let event = self.events.pop_front()?;
            let of = match event {
                StackEvent::Connected(id)
                | StackEvent::Readable(id)
                | StackEvent::Writable(id)
                | StackEvent::PeerClosed(id)
                | StackEvent::Refused(id)
                | StackEvent::Reset(id)
                | StackEvent::Closed(id, _) => id,
                StackEvent::UdpReadable(id) => {
                    self.udp.told(id);
                    return Some(event);
                }
                StackEvent::Incoming(id) => {
                    self.listeners.told(id);
                    return Some(event);
                }
                StackEvent::Pong(..) | StackEvent::PingLost(_) => return Some(event),
            };
            // Events of a connection that was released meanwhile have nobody to go to.
            let Some(connection) = self.named_mut(of) else { continue };
            if matches!(event, StackEvent::Readable(_)) {
                connection.told.readable = false;
            }
            if matches!(event, StackEvent::Writable(_)) {
                connection.told.writable = false;
            }
            return Some(event);
        }
    }

    fn connections(&self) -> usize {
        self.connections.len()
    }

    fn established(&self) -> Vec<(u16, SocketAddrV6)> {
        self.open_connections()
    }

    fn stats(&self) -> StackStats {
        self.stats
    }
}
