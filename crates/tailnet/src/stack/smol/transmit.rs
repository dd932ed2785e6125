//! From what wants to be sent to packets.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use smoltcp::socket::tcp::State;

use super::super::connection::Connection;
use super::super::device::Door;
use super::super::{Admission, ConnectionId, PacketSink};
use super::SmolStack;
use crate::packet::{Packet, TcpSegment, Upper, build};
use crate::tsmp;

impl SmolStack {
    pub(super) fn send_answers(&mut self, sink: &mut dyn PacketSink) -> bool {
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

    pub(super) fn send_pings(&mut self, sink: &mut dyn PacketSink, now: Instant) -> bool {
        for _ in 0..self.pings.unsent() {
            let Some((data, to)) = self.pings.next() else { break };
            match sink.admit(to) {
                Admission::Yes => {
                    self.stats.packets_out += 1;
                    self.pings.sent(data, now);
                    let ping = tsmp::ping(self.first(), to, data);
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
    pub(super) fn send_segments(&mut self, sink: &mut dyn PacketSink, now: Instant) {
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
            if let Some(mut packet) = door.outgoing {
                self.note_sent(id, &mut packet, now);
                sink.send(to, packet);
                self.settle(id, now);
            } else {
                self.settle(id, now);
                self.unqueue(id, now);
            }
        }
    }

    /// smoltcp wanted to be asked and then had nothing to send: ask again a little later.
    pub(super) fn unqueue(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.queued && self.ready.back() == Some(&id) {
            self.ready.pop_back();
            connection.queued = false;
            let soon = now + Duration::from_millis(5);
            self.timers.set(id, &mut connection.timer, Some(soon));
        }
    }

    /// Notes what leaves; the window it offers is ours to decide.
    pub(super) fn note_sent(&mut self, id: ConnectionId, packet: &mut [u8], now: Instant) {
        self.stats.packets_out += 1;
        let share = self.intake.share();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Some(segment) = offer_window(connection, packet, share)
            && connection.said(&segment, now)
        {
            self.stats.retransmitted += 1;
        }
    }

    /// Says that there is room again, if the other end may be waiting for it.
    pub(super) fn tell_room(&mut self, id: ConnectionId) {
        let share = self.intake.share();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let receives = match connection.socket().state() {
            State::Established | State::FinWait1 | State::FinWait2 => connection.ended.is_none(),
            State::Closed
            | State::Listen
            | State::SynSent
            | State::SynReceived
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => false,
        };
        let limit = share.min(connection.socket().recv_capacity());
        let unread = connection.socket().recv_queue();
        // What is owed says it as well.
        if !receives || !connection.owed.is_clear() {
            return;
        }
        let Some(sequence) = connection.sent_up_to else { return };
        let Some(update) = connection.offer.reopens(unread, limit) else { return };
        connection.offer.reopened(update);
        let (acknowledgement, window) = update;
        let tuple = connection.tuple;
        let packet = build::acknowledgement(
            (tuple.local, tuple.port),
            (tuple.remote, tuple.remote_port),
            (sequence, acknowledgement),
            window,
        );
        self.answer(tuple.remote, packet);
    }
}

/// Has a segment of a connection offer no more than its share; what it says.
pub(super) fn offer_window(
    connection: &mut Connection,
    packet: &mut [u8],
    share: usize,
) -> Option<TcpSegment> {
    let Ok(Packet { upper: Upper::Tcp(segment), .. }) = Packet::parse(packet) else { return None };
    let limit = share.min(connection.socket().recv_capacity());
    let unread = connection.socket().recv_queue();
    if let Some(window) = connection.offer.window(&segment, unread, limit) {
        build::set_window(packet, window);
    }
    Some(segment)
}
