//! One TCP connection: a smoltcp socket in a set of its own, and what smoltcp does not tell.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Instant;

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};

use super::budget::{Budget, Buffers};
use super::intake::{Offer, Part};
use super::owed::Owed;
use super::timers::Timer;
use super::{CloseReason, ConnectionStatus, ListenerId, StackConfig};
use crate::packet::{MSS, TcpSegment};

/// What tells connections apart: our end, and the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tuple {
    pub(super) local: Ipv6Addr,
    pub(super) port: u16,
    pub(super) remote: Ipv6Addr,
    pub(super) remote_port: u16,
}

/// Events that a connection has pending or owes.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Told {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// A `send` was cut short.
    pub(super) owes_writable: bool,
    /// The connection is in the queue of those that wait for room.
    pub(super) waits_for_room: bool,
}

/// A connection.
pub(super) struct Connection {
    pub(super) tuple: Tuple,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// Where it arrived, if it was not opened by us; until it is accepted.
    pub(super) listener: Option<ListenerId>,
    pub(super) established: bool,
    pub(super) peer_closed: bool,
    pub(super) closed: bool,
    pub(super) released: bool,
    pub(super) ended: Option<CloseReason>,
    /// It is over, and the other end is still to be told so.
    pub(super) owes_reset: bool,
    pub(super) told: Told,
    pub(super) timer: Timer,
    /// In the queue of those that have something to send.
    pub(super) queued: bool,
    /// What it has under way, as counted by the [`Budget`].
    pub(super) load: usize,
    /// Bytes in the receive buffer when last looked at.
    pub(super) seen: usize,
    pub(super) last_state: State,
    /// Since when the other end owes us an answer and nothing has arrived.
    pub(super) waiting_since: Option<Instant>,
    pub(super) last_heard: Instant,
    /// What it received and has not acknowledged.
    pub(super) owed: Owed,
    /// What the other end may send, and what it has of all that may be sent to us.
    pub(super) offer: Offer,
    pub(super) part: Part,
    /// Whether any packet was sent.
    pub(super) spoke: bool,
    /// When the SYN left, as long as its answer measures the round trip.
    pub(super) syn_sent: Option<Instant>,
    /// The highest sequence number sent.
    pub(super) sent_up_to: Option<u32>,
    /// The end of the segment sent last, and what of it all was acknowledged.
    sent_last: u32,
    acknowledged: u32,
    window: usize,
    window_shift: u8,
}

impl Connection {
    pub(super) fn new(
        tuple: Tuple,
        listener: Option<ListenerId>,
        buffers: Buffers,
        config: &StackConfig,
        now: Instant,
    ) -> Self {
        // `vec![0; n]` asks the system for zeroed pages, which cost nothing until they are used.
        let receive = SocketBuffer::new(vec![0; buffers.receive]);
        let send = SocketBuffer::new(vec![0; buffers.send]);
        let mut socket = Socket::new(receive, send);
        socket.set_nagle_enabled(false);
        socket.set_congestion_control(CongestionControl::Cubic);
        let keep_alive = config.keep_alive.map(|interval| interval.into());
        socket.set_keep_alive(keep_alive);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self {
            tuple,
            sockets,
            handle,
            listener,
            established: false,
            peer_closed: false,
            closed: false,
            released: false,
            ended: None,
            owes_reset: false,
            told: Told::default(),
            timer: Timer::default(),
            queued: false,
            load: 0,
            seen: 0,
            last_state: State::Closed,
            waiting_since: None,
            last_heard: now,
            owed: Owed::default(),
            offer: Offer::default(),
            part: Part::default(),
            spoke: false,
            syn_sent: None,
            sent_up_to: None,
            sent_last: 0,
            acknowledged: 0,
            window: 0,
            window_shift: 0,
        }
    }

    pub(super) fn socket(&self) -> &Socket<'static> {
        self.sockets.get(self.handle)
    }

    pub(super) fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    pub(super) fn sockets(&mut self) -> &mut SocketSet<'static> {
        &mut self.sockets
    }

    pub(super) fn remote(&self) -> SocketAddrV6 {
        SocketAddrV6::new(self.tuple.remote, self.tuple.remote_port, 0, 0)
    }

    /// Ends the connection from our side, at once.
    pub(super) fn reset(&mut self, reason: CloseReason, now: Instant) {
        self.ended = Some(reason);
        self.owes_reset = self.spoke;
        self.waiting_since = Some(now);
        self.socket_mut().abort();
        self.last_state = State::Closed;
    }

    /// Notes what an arriving segment says about the peer's window.
    pub(super) fn heard(&mut self, segment: &TcpSegment, now: Instant) {
        self.last_heard = now;
        self.waiting_since = None;
        if segment.flags.ack() {
            self.acknowledged = segment.acknowledgement;
        }
        if segment.flags.syn() {
            // Both or neither scale (RFC 7323); we always offer it.
            self.window_shift = segment.window_scale.unwrap_or(0);
            self.window = usize::from(segment.window);
        } else if segment.flags.ack() {
            self.window = usize::from(segment.window) << self.window_shift;
        }
    }

    /// Notes a segment that was sent; says whether it was sent before.
    pub(super) fn said(&mut self, segment: &TcpSegment, now: Instant) -> bool {
        // A SYN that was sent twice does not say which of them is answered.
        let first_syn = segment.flags.syn() && !segment.flags.ack() && !self.spoke;
        self.syn_sent = first_syn.then_some(now);
        self.spoke = true;
        self.owed.paid();
        let occupied = segment.payload_len as u32
            + u32::from(segment.flags.syn())
            + u32::from(segment.flags.fin());
        let end = segment.sequence.wrapping_add(occupied);
        if occupied > 0 {
            self.sent_last = end;
        }
        let ahead = |than: u32| end.wrapping_sub(than) as i32;
        let again = occupied > 0 && self.sent_up_to.is_some_and(|highest| ahead(highest) <= 0);
        if self.sent_up_to.is_none_or(|highest| ahead(highest) > 0) {
            self.sent_up_to = Some(end);
        }
        again
    }

    /// Bytes that may still be sent or must be sent again, no more than the peer takes.
    pub(super) fn under_way(&self) -> usize {
        match self.ended {
            Some(_) => 0,
            None => self.socket().send_queue().min(self.window),
        }
    }

    /// Bytes that the application may add now: whole segments, for a relay counts packets and not
    /// bytes, and room that opens in crumbs would be sent in crumbs.
    pub(super) fn room(&self, budget: &Budget) -> usize {
        let socket = self.socket();
        if !socket.may_send() {
            return 0;
        }
        let limit = budget.limit(self.load).min(socket.send_capacity());
        let room = limit.saturating_sub(socket.send_queue());
        room - room % MSS
    }

    /// Lets smoltcp send a partial segment only when it is the last one.
    ///
    /// Without Nagle's algorithm smoltcp fills the congestion window to the byte, and every
    /// acknowledgement opens it by some more: a third of all packets would carry 30 bytes. With it,
    /// the end of a message would wait for a round trip. So it is on while a full segment waits.
    pub(super) fn avoid_crumbs(&mut self) {
        let travelling = self.sent_last.wrapping_sub(self.acknowledged) as i32;
        let travelling = usize::try_from(travelling).unwrap_or(0);
        let socket = self.socket_mut();
        socket.set_nagle_enabled(socket.send_queue().saturating_sub(travelling) >= MSS);
    }

    /// Whether the other end owes us something: the handshake, or an acknowledgement.
    pub(super) fn waits(&self) -> bool {
        if self.ended.is_some() {
            return self.owes_reset;
        }
        match self.socket().state() {
            State::SynSent | State::SynReceived => true,
            State::FinWait1 | State::Closing | State::LastAck => true,
            // Nobody waits for more of a connection that was given up, so it must end soon.
            State::FinWait2 => self.released,
            State::Established | State::CloseWait => self.socket().send_queue() > 0,
            State::Closed | State::Listen | State::TimeWait => false,
        }
    }

    pub(super) fn status(&self, budget: &Budget) -> ConnectionStatus {
        let socket = self.socket();
        ConnectionStatus {
            remote: self.remote(),
            local_port: self.tuple.port,
            established: self.established && self.ended.is_none(),
            readable: socket.recv_queue(),
            writable: if self.ended.is_some() { 0 } else { self.room(budget) },
            unsent: if self.ended.is_some() { 0 } else { socket.send_queue() },
            peer_closed: self.peer_closed,
            closed: self.closed,
            ended: self.ended,
        }
    }
}

/// Whether the other side's FIN has been taken in this state.
pub(super) fn has_peer_closed(state: State) -> bool {
    match state {
        State::CloseWait | State::Closing | State::LastAck | State::TimeWait => true,
        State::Closed
        | State::Listen
        | State::SynSent
        | State::SynReceived
        | State::Established
        | State::FinWait1
        | State::FinWait2 => false,
    }
}

/// Whether the handshake is done in this state.
pub(super) fn is_open(state: State) -> bool {
    match state {
        State::Established
        | State::CloseWait
        | State::FinWait1
        | State::FinWait2
        | State::Closing
        | State::LastAck
        | State::TimeWait => true,
        State::Closed | State::Listen | State::SynSent | State::SynReceived => false,
    }
}
