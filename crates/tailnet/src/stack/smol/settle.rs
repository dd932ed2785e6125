//! What follows from a connection's state: events, its share of the budget, its timers, its end.

use std::time::{Duration, Instant};

use smoltcp::socket::tcp::State;

use super::super::connection::{has_peer_closed, is_open};
use super::super::{CloseReason, ConnectionId, StackEvent};
use super::SmolStack;

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

impl SmolStack {
    pub(super) fn end(&mut self, id: ConnectionId, reason: CloseReason) {
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
    pub(super) fn settle(&mut self, id: ConnectionId, now: Instant) {
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
        let has_reader = connection.listener.is_none() && !connection.released;
        if received > connection.seen
            && has_reader
            && !std::mem::replace(&mut connection.told.readable, true)
        {
            self.events.push_back(StackEvent::Readable(id));
        }
        connection.seen = received;
        if has_peer_closed(state) && !connection.peer_closed {
            connection.peer_closed = true;
            if connection.listener.is_none() && !connection.released {
                self.events.push_back(StackEvent::PeerClosed(id));
            }
        }
        match state {
            // A RST brought an arriving connection back to where it began. One that was accepted
            // already has somebody to be told.
            State::Listen if connection.listener.is_none() && !connection.released => {
                connection.socket_mut().abort();
                connection.last_state = State::Closed;
                self.end(id, CloseReason::Reset);
            }
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
    pub(super) fn settle_sending(
        &mut self,
        id: ConnectionId,
        now: Instant,
        clock: smoltcp::time::Instant,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let under_way = connection.under_way();
        self.budget.update(&mut connection.load, under_way);
        connection.avoid_crumbs();
        let poll_at = self.interface.poll_at(clock, connection.sockets());
        let talks = connection.ended.is_none() || connection.owes_reset;
        let wants_to_send = talks && poll_at.is_some_and(|at| at <= clock);
        // Only an acknowledgement, and it may wait for more to acknowledge.
        let held = connection.owed.may_wait(now).filter(|_| {
            wants_to_send
                && connection.socket().state() == State::Established
                && connection.socket().send_queue() == 0
        });
        let wants_to_send = wants_to_send && held.is_none();

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
        let poll_at = held.or(poll_at);
        let deadline = [patience, silence, poll_at].into_iter().flatten().min();
        self.timers.set(id, &mut connection.timer, deadline);
        if wants_to_send && !std::mem::replace(&mut connection.queued, true) {
            self.ready.push_back(id);
        }
        self.wake_writer(id);
        self.drop_if_done(id, wants_to_send);
    }

    /// Forgets a connection that is over, that nobody names any more, and that has said all.
    pub(super) fn drop_if_done(&mut self, id: ConnectionId, wants_to_send: bool) {
        let Some(connection) = self.connections.get(&id) else { return };
        let nameless = connection.released || connection.listener.is_some();
        let silent = !wants_to_send || !connection.spoke;
        if connection.ended.is_some() && nameless && silent {
            self.remove(id);
        }
    }

    /// From here on the connection's packets are for [`SmolStack::finished`].
    pub(super) fn remember(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.connections.get(&id) else { return };
        let tuple = connection.tuple;
        self.forget_finished(now);
        self.finished.insert(tuple, now + TIME_WAIT);
        self.finished_order.push_back((now + TIME_WAIT, tuple));
    }

    pub(super) fn forget_finished(&mut self, now: Instant) {
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

    pub(super) fn wake_writer(&mut self, id: ConnectionId) {
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
    pub(super) fn wake_writers(&mut self) {
        for _ in 0..self.waiting_for_room.len().min(WOKEN_AT_ONCE) {
            let Some(id) = self.waiting_for_room.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.told.waits_for_room = false;
            self.wake_writer(id);
        }
    }

    pub(super) fn connection_timeout(&mut self, id: ConnectionId, now: Instant) {
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
            return self.fail(id, CloseReason::TimedOut, now);
        }
        self.settle(id, now);
    }

    /// Ends a connection for a reason of ours; its other end is told by a RST.
    pub(super) fn fail(&mut self, id: ConnectionId, reason: CloseReason, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.ended.is_none() {
            connection.owes_reset = connection.spoke;
            connection.socket_mut().abort();
            connection.last_state = State::Closed;
            connection.waiting_since = Some(now);
            self.end(id, reason);
        }
        self.settle(id, now);
    }
}

fn instant(started: Instant, clock: smoltcp::time::Instant) -> Instant {
    let micros = u64::try_from(clock.total_micros() - 1_000_000).unwrap_or(0);
    started + Duration::from_micros(micros)
}
