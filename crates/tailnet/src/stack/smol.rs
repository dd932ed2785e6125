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
use std::time::{Duration, Instant};

use bytes::BytesMut;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::socket::tcp::State;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint, IpListenEndpoint};

use super::budget::{Budget, Buffers};
use super::connection::{Connection, Tuple, has_peer_closed, is_open};
use super::device::Door;
use super::listener::Listeners;
use super::ping::Pings;
use super::random::Random;
use super::timers::Timers;
use super::udp::{Delivery, Udp};
use super::{
    Admission, CloseReason, ConnectionId, ConnectionStatus, ListenerId, PacketSink, PingId,
    RecvError, SendError, Stack, StackConfig, StackError, StackEvent, StackStats, UdpId,
};
use crate::packet::{self, MAX_UDP_PAYLOAD, Packet, TcpSegment, Upper, build};
use crate::tsmp;

/// Packets made outside of connections that may wait for the sink: acknowledgements of
/// out-of-order segments, answers to pings, UDP.
const ANSWERS: usize = 1024;

/// A finished connection still answers a repeated FIN for this long (smoltcp's own TIME-WAIT).
const TIME_WAIT: Duration = Duration::from_secs(10);

/// Longer than any acknowledgement is delayed, shorter than smoltcp's TIME-WAIT.
const TIME_WAIT_MARGIN: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(1);

/// Finished connections remembered; the oldest is forgotten first.
const TIME_WAITS: usize = 4096;

/// Writers looked at when something was acknowledged. Each gets its turn; one that has room by its
/// own acknowledgements is woken by them.
const WOKEN_AT_ONCE: usize = 4;

/// A connection is dead when this many keep-alive intervals brought no answer.
const KEEP_ALIVES: u32 = 2;

/// TCP, UDP and pings over one address.
pub struct SmolStack {
    config: StackConfig,
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
    /// Connections with something to send, in turn.
    ready: VecDeque<ConnectionId>,
    /// Connections whose writer waits for room, in turn.
    waiting_for_room: VecDeque<ConnectionId>,
    timers: Timers,
    budget: Budget,
    udp: Udp,
    pings: Pings,
    answers: VecDeque<(Ipv6Addr, BytesMut)>,
    events: VecDeque<StackEvent>,
    stats: StackStats,
}

impl std::fmt::Debug for SmolStack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmolStack")
            .field("address", &self.config.address)
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
        interface.update_ip_addrs(|addresses| {
            // The list has room for more than one and is empty.
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv6(config.address), 128));
        });
        Self {
            budget: Budget::new(config.in_flight),
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

    fn end(&mut self, id: ConnectionId, reason: CloseReason) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.ended.replace(reason).is_some() {
            return;
        }
        if !connection.released && connection.listener.is_none() {
            self.events.push_back(match reason {
                CloseReason::Refused => StackEvent::Refused(id),
                CloseReason::Reset => StackEvent::Reset(id),
                CloseReason::Finished | CloseReason::TimedOut | CloseReason::PeerGone => {
                    StackEvent::Closed(id, reason)
                }
            });
        }
        // Packets that still come are answered as those of no connection.
        let tuple = connection.tuple;
        if self.by_tuple.get(&tuple) == Some(&id) {
            self.by_tuple.remove(&tuple);
        }
    }

    /// Brings everything that follows from a connection's state up to date.
    fn settle(&mut self, id: ConnectionId, now: Instant) {
        let clock = self.clock(now);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let state = connection.socket().state();
        let before = std::mem::replace(&mut connection.last_state, state);
        let ended = connection.ended.is_some();

        if is_open(state) && !connection.established && !ended {
            connection.established = true;
            match connection.listener {
                Some(listener) => {
                    if self.listeners.established(listener, id) {
                        self.events.push_back(StackEvent::Incoming(listener));
                    }
                }
                None => self.events.push_back(StackEvent::Connected(id)),
            }
        }
        let received = connection.socket().recv_queue();
        if received > connection.seen && connection.listener.is_none() && !connection.released {
            if !std::mem::replace(&mut connection.told.readable, true) {
                self.events.push_back(StackEvent::Readable(id));
            }
        }
        connection.seen = received;
        if has_peer_closed(state) && !connection.peer_closed {
            connection.peer_closed = true;
            if connection.listener.is_none() && !connection.released {
                self.events.push_back(StackEvent::PeerClosed(id));
            }
        }
        match state {
            // A RST brought an arriving connection back to where it began.
            State::Listen => return self.remove(id),
            State::Closed if !ended => {
                let unsent = connection.socket().send_queue() > 0;
                let reason = match before {
                    State::SynSent => CloseReason::Refused,
                    State::LastAck | State::TimeWait | State::Closing if !unsent => {
                        CloseReason::Finished
                    }
                    State::LastAck
                    | State::TimeWait
                    | State::Closing
                    | State::Closed
                    | State::Listen
                    | State::SynReceived
                    | State::Established
                    | State::FinWait1
                    | State::FinWait2
                    | State::CloseWait => CloseReason::Reset,
                };
                if reason == CloseReason::Finished {
                    self.remember(id, now);
                }
                self.end(id, reason);
            }
            State::Closed
            | State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => {}
        }
        self.settle_sending(id, now, clock);
    }

    /// The second half of [`SmolStack::settle`]: what the connection wants to send, and when.
    fn settle_sending(&mut self, id: ConnectionId, now: Instant, clock: smoltcp::time::Instant) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let under_way = connection.under_way();
        self.budget.update(&mut connection.load, under_way);
        let poll_at = self.interface.poll_at(clock, connection.sockets());
        let talks = connection.ended.is_none() || connection.owes_reset;
        let wants_to_send = talks && poll_at.is_some_and(|at| at <= clock);

        // Nothing but the end of TIME-WAIT is far away: the last acknowledgement may be delayed.
        let idle = poll_at.is_none_or(|at| at > clock + TIME_WAIT_MARGIN);
        if connection.ended.is_none() && connection.last_state == State::TimeWait && idle {
            // The last acknowledgement is out. The rest of TIME-WAIT needs no buffers.
            self.remember(id, now);
            self.end(id, CloseReason::Finished);
            return self.settle_sending(id, now, clock);
        }
        if connection.released && connection.ended.is_none() && connection.seen > 0 {
            // Nobody will read this; TCP says so with a RST (RFC 9293, 3.10.4).
            connection.reset(CloseReason::Reset, now);
            return self.settle_sending(id, now, clock);
        }
        if connection.waits() {
            connection.waiting_since.get_or_insert(now);
        } else {
            connection.waiting_since = None;
        }
        let patience = connection.waiting_since.map(|since| since + self.config.user_timeout);
        let silence = self
            .config
            .keep_alive
            .filter(|_| connection.established && connection.ended.is_none())
            .map(|every| connection.last_heard + every * KEEP_ALIVES + self.config.user_timeout);
        let poll_at = poll_at.filter(|_| talks && !wants_to_send);
        let poll_at = poll_at.map(|at| instant(self.started, at));
        let deadline = [patience, silence, poll_at].into_iter().flatten().min();
        self.timers.set(id, &mut connection.timer, deadline);
        if wants_to_send && !std::mem::replace(&mut connection.queued, true) {
            self.ready.push_back(id);
        }
        self.wake_writer(id);
        self.drop_if_done(id, wants_to_send);
    }

    /// Forgets a connection that is over, that nobody names any more, and that has said all.
    fn drop_if_done(&mut self, id: ConnectionId, wants_to_send: bool) {
        let Some(connection) = self.connections.get(&id) else { return };
        let nameless = connection.released || connection.listener.is_some();
        let silent = !wants_to_send || !connection.spoke;
        if connection.ended.is_some() && nameless && silent {
            self.remove(id);
        }
    }

    /// From here on the connection's packets are for [`SmolStack::finished`].
    fn remember(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.connections.get(&id) else { return };
        let tuple = connection.tuple;
        self.forget_finished(now);
        self.finished.insert(tuple, now + TIME_WAIT);
        self.finished_order.push_back((now + TIME_WAIT, tuple));
    }

    fn forget_finished(&mut self, now: Instant) {
        while let Some((until, tuple)) = self.finished_order.front().copied() {
            if until > now && self.finished_order.len() <= TIME_WAITS {
                return;
            }
            self.finished_order.pop_front();
            if self.finished.get(&tuple) == Some(&until) {
                self.finished.remove(&tuple);
            }
        }
    }

    fn wake_writer(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if !connection.told.owes_writable || !connection.socket().may_send() {
            return;
        }
        if connection.room(&self.budget) > self.budget.worth_waking(connection.load) {
            connection.told.owes_writable = false;
            if !std::mem::replace(&mut connection.told.writable, true) {
                self.events.push_back(StackEvent::Writable(id));
            }
        } else if !std::mem::replace(&mut connection.told.waits_for_room, true) {
            self.waiting_for_room.push_back(id);
        }
    }

    /// Something was acknowledged somewhere: others may have room now, in turn.
    fn wake_writers(&mut self) {
        for _ in 0..self.waiting_for_room.len().min(WOKEN_AT_ONCE) {
            let Some(id) = self.waiting_for_room.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.told.waits_for_room = false;
            self.wake_writer(id);
        }
    }

    fn answer(&mut self, to: Ipv6Addr, packet: BytesMut) {
        if self.answers.len() < ANSWERS {
            self.answers.push_back((to, packet));
        } else {
            self.stats.overflow += 1;
        }
    }

    /// Has smoltcp take in a packet for a connection.
    fn feed(&mut self, id: ConnectionId, packet: &Packet<'_>, segment: &TcpSegment, now: Instant) {
        let clock = self.clock(now);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.heard(segment, now);
        let mut door = Door::incoming(packet.bytes);
        self.interface.poll_ingress_single(clock, &mut door, connection.sockets());
        if let Some(answer) = door.outgoing {
            self.answer(packet.source, answer);
        }
        self.settle(id, now);
        self.wake_writers();
    }

    fn ingest_tcp(&mut self, packet: &Packet<'_>, segment: &TcpSegment, now: Instant) {
        let tuple =
            Tuple { port: segment.destination, remote: packet.source, remote_port: segment.source };
        if let Some(id) = self.by_tuple.get(&tuple).copied() {
            return self.feed(id, packet, segment, now);
        }
        let opens = segment.flags.syn() && !segment.flags.ack() && !segment.flags.rst();
        if self.finished.get(&tuple).is_some_and(|until| *until > now) && !opens {
            if segment.flags.fin() && segment.flags.ack() {
                let ack = build::tcp_ack(self.config.address, packet.source, segment);
                self.answer(packet.source, ack);
            }
            return;
        }
        if opens && let Some(listener) = self.listeners.at(segment.destination) {
            if !self.listeners.has_room(listener) {
                self.stats.overflow += 1;
                return;
            }
            return self.incoming(listener, tuple, packet, segment, now);
        }
        if !segment.flags.rst() {
            self.stats.strays += 1;
            let clock = self.clock(now);
            let mut door = Door::incoming(packet.bytes);
            self.interface.poll_ingress_single(clock, &mut door, &mut self.nobody);
            if let Some(answer) = door.outgoing {
                self.answer(packet.source, answer);
            }
        }
    }

    fn incoming(
        &mut self,
        listener: ListenerId,
        tuple: Tuple,
        packet: &Packet<'_>,
        segment: &TcpSegment,
        now: Instant,
    ) {
        let id = self.add(tuple, Some(listener), now);
        self.listeners.arrived(listener, id);
        let here =
            IpListenEndpoint { addr: Some(IpAddress::Ipv6(self.config.address)), port: tuple.port };
        let listening = self
            .connections
            .get_mut(&id)
            .is_some_and(|connection| connection.socket_mut().listen(here).is_ok());
        if listening {
            self.feed(id, packet, segment, now);
        } else {
            self.remove(id);
        }
    }

    fn ingest_tsmp(&mut self, packet: &Packet<'_>, now: Instant) {
        let Ok(message) = tsmp::Packet::parse(packet.bytes) else {
            self.stats.malformed += 1;
            return;
        };
        if let Some(pong) = message.respond() {
            return self.answer(packet.source, BytesMut::from(&pong[..]));
        }
        let pong = match message.message {
            tsmp::Message::Pong { data, .. } => self.pings.pong(data, packet.source, now),
            // A refused connection is told by its RST.
            tsmp::Message::Ping { .. } | tsmp::Message::Rejected { .. } => None,
        };
        match pong {
            Some((id, time)) => self.events.push_back(StackEvent::Pong(id, time)),
            None => self.stats.unwanted += 1,
        }
    }

    fn send_answers(&mut self, sink: &mut dyn PacketSink) -> bool {
        for _ in 0..self.answers.len() {
            let Some((to, packet)) = self.answers.pop_front() else { break };
            match sink.admit(to) {
                Admission::Yes => {
                    self.stats.packets_out += 1;
                    sink.send(to, packet);
                }
                Admission::NotThere => self.answers.push_back((to, packet)),
                Admission::Full => {
                    self.answers.push_front((to, packet));
                    return false;
                }
            }
        }
        true
    }

    fn send_pings(&mut self, sink: &mut dyn PacketSink, now: Instant) -> bool {
        for _ in 0..self.pings.unsent() {
            let Some((data, to)) = self.pings.next() else { break };
            match sink.admit(to) {
                Admission::Yes => {
                    self.stats.packets_out += 1;
                    self.pings.sent(data, now);
                    let ping = tsmp::ping(self.config.address, to, data);
                    sink.send(to, BytesMut::from(&ping[..]));
                }
                Admission::NotThere => self.pings.put_back(data),
                Admission::Full => {
                    self.pings.put_back(data);
                    return false;
                }
            }
        }
        true
    }

    /// One packet of each connection in turn, until none has anything or `sink` is full.
    fn send_segments(&mut self, sink: &mut dyn PacketSink, now: Instant) {
        let clock = self.clock(now);
        let mut refused = 0;
        while refused < self.ready.len() {
            let Some(id) = self.ready.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            let to = connection.tuple.remote;
            match sink.admit(to) {
                Admission::Yes => {}
                Admission::NotThere => {
                    refused += 1;
                    self.ready.push_back(id);
                    continue;
                }
                Admission::Full => return self.ready.push_front(id),
            }
            refused = 0;
            connection.queued = false;
            let mut door = Door::outgoing(sink.buffer());
            self.interface.poll_egress(clock, &mut door, connection.sockets());
            if let Some(packet) = door.outgoing {
                self.note_sent(id, &packet);
                sink.send(to, packet);
                self.settle(id, now);
            } else {
                self.settle(id, now);
                self.unqueue(id, now);
            }
        }
    }

    /// smoltcp wanted to be asked and then had nothing to send: ask again a little later.
    fn unqueue(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.queued && self.ready.back() == Some(&id) {
            self.ready.pop_back();
            connection.queued = false;
            let soon = now + Duration::from_millis(5);
            self.timers.set(id, &mut connection.timer, Some(soon));
        }
    }

    fn note_sent(&mut self, id: ConnectionId, packet: &[u8]) {
        self.stats.packets_out += 1;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Ok(Packet { upper: Upper::Tcp(segment), .. }) = Packet::parse(packet)
            && connection.said(&segment)
        {
            self.stats.retransmitted += 1;
        }
    }

    fn connection_timeout(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let timeout = self.config.user_timeout;
        let waited = connection.waiting_since.is_some_and(|since| since + timeout <= now);
        let silent = connection.established
            && self
                .config
                .keep_alive
                .is_some_and(|every| connection.last_heard + every * KEEP_ALIVES + timeout <= now);
        if connection.ended.is_some() {
            // A RST that could not leave in all that time is of no use any more.
            connection.owes_reset &= !waited;
        } else if waited || silent {
            connection.owes_reset = connection.spoke;
            connection.socket_mut().abort();
            connection.waiting_since = Some(now);
            self.end(id, CloseReason::TimedOut);
        }
        self.settle(id, now);
    }
}

fn instant(started: Instant, clock: smoltcp::time::Instant) -> Instant {
    let micros = u64::try_from(clock.total_micros() - 1_000_000).unwrap_or(0);
    started + Duration::from_micros(micros)
}

impl Stack for SmolStack {
    fn address(&self) -> Ipv6Addr {
        self.config.address
    }

    fn connect(&mut self, remote: SocketAddrV6, now: Instant) -> Result<ConnectionId, StackError> {
        let (address, remote_port) = (*remote.ip(), remote.port());
        if !packet::is_tunnel_address(&address) || remote_port == 0 {
            return Err(StackError::Unaddressable);
        }
        let tuple = |port| Tuple { port, remote: address, remote_port };
        self.forget_finished(now);
        let port = self.ephemeral_port(|stack, port| {
            !stack.by_tuple.contains_key(&tuple(port))
                && !stack.finished.contains_key(&tuple(port))
                && stack.listeners.at(port).is_none()
        })?;
        let id = self.add(tuple(port), None, now);
        let there = IpEndpoint::new(IpAddress::Ipv6(address), remote_port);
        let here = IpEndpoint::new(IpAddress::Ipv6(self.config.address), port);
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
        let Some(port) = self.udp.port(id) else { return Err(SendError::Unknown) };
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
        let packet = build::udp((self.config.address, port), to, payload);
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
        let foreign = packet.destination != self.config.address;
        if foreign || !packet::is_tunnel_address(&packet.source) {
            self.stats.unwanted += 1;
            return;
        }
        match packet.upper {
            Upper::Tcp(segment) => self.ingest_tcp(&packet, &segment, now),
            Upper::Udp { source, destination, payload } => {
                let from = SocketAddrV6::new(packet.source, source, 0, 0);
                match self.udp.deliver(destination, from, payload) {
                    Delivery::Tell(id) => self.events.push_back(StackEvent::UdpReadable(id)),
                    Delivery::Queued => {}
                    Delivery::Overflow => self.stats.overflow += 1,
                    Delivery::NoSocket => self.stats.unwanted += 1,
                }
            }
            Upper::EchoRequest(body) => {
                let reply = build::echo_reply(self.config.address, packet.source, body);
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

    fn stats(&self) -> StackStats {
        self.stats
    }
}
