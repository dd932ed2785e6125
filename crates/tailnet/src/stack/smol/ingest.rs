//! From a packet to the connection it belongs to.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Instant;

use bytes::BytesMut;
use smoltcp::wire::{IpAddress, IpListenEndpoint};

use super::super::connection::{Tuple, is_open};
use super::super::device::Door;
use super::super::udp::Delivery;
use super::super::{ConnectionId, ListenerId, StackEvent, UdpId};
use super::transmit::offer_window;
use super::{ANSWERS, SmolStack};
use crate::packet::{Packet, TcpSegment, build};
use crate::tsmp;

impl SmolStack {
    pub(super) fn answer(&mut self, to: Ipv6Addr, packet: BytesMut) {
        if self.answers.len() < ANSWERS {
            self.answers.push_back((to, packet));
        } else {
            self.stats.overflow += 1;
        }
    }

    /// Has smoltcp take in a packet for a connection.
    pub(super) fn feed(
        &mut self,
        id: ConnectionId,
        packet: &Packet<'_>,
        segment: &TcpSegment,
        now: Instant,
    ) {
        let clock = self.clock(now);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.heard(segment, now);
        let queued = connection.socket().send_queue();
        let unread = connection.socket().recv_queue();
        let mut door = Door::incoming(packet.bytes);
        self.interface.poll_ingress_single(clock, &mut door, connection.sockets());
        let taken = connection.socket().recv_queue().saturating_sub(unread);
        let flags = segment.flags;
        let plain = flags.ack() && !flags.syn() && !flags.fin() && !flags.rst();
        connection.owed.received(segment.payload_len, taken, plain, now);
        if connection.offer.heard(segment, taken) {
            self.intake.lost(now);
        }
        if taken > 0 {
            self.intake.received(&mut connection.part, taken, now);
        }
        let acknowledged = queued.saturating_sub(connection.socket().send_queue());
        if is_open(connection.socket().state())
            && let Some(sent) = connection.syn_sent.take()
        {
            let took = now.saturating_duration_since(sent);
            self.budget.round_trip(took, now);
            self.intake.round_trip(took, now);
        }
        if acknowledged > 0 {
            self.budget.acknowledged(acknowledged, now);
        }
        if let Some(mut answer) = door.outgoing {
            let share = self.intake.share();
            offer_window(connection, &mut answer, share);
            self.answer(packet.source, answer);
        }
        self.settle(id, now);
        self.wake_writers();
    }

    pub(super) fn ingest_tcp(&mut self, packet: &Packet<'_>, segment: &TcpSegment, now: Instant) {
        let tuple = Tuple {
            local: packet.destination,
            port: segment.destination,
            remote: packet.source,
            remote_port: segment.source,
        };
        if let Some(id) = self.by_tuple.get(&tuple).copied() {
            return self.feed(id, packet, segment, now);
        }
        let opens = segment.flags.syn() && !segment.flags.ack() && !segment.flags.rst();
        if self.finished.get(&tuple).is_some_and(|until| *until > now) && !opens {
            if segment.flags.fin() && segment.flags.ack() {
                let ack = build::tcp_ack(tuple.local, packet.source, segment);
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
        if opens && self.forwarder.is_on() && tuple.port != 0 {
            return self.hold_syn(tuple, packet.bytes);
        }
        if segment.flags.rst() {
            return self.forwarder.cancel(&tuple);
        }
        self.stats.strays += 1;
        self.refuse(packet, now);
    }

    pub(super) fn incoming(
        &mut self,
        listener: ListenerId,
        tuple: Tuple,
        packet: &Packet<'_>,
        segment: &TcpSegment,
        now: Instant,
    ) {
        let id = self.add(tuple, Some(listener), now);
        self.listeners.arrived(listener, id);
        let here = IpListenEndpoint { addr: Some(IpAddress::Ipv6(tuple.local)), port: tuple.port };
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

    pub(super) fn ingest_udp(&mut self, at: SocketAddrV6, from: SocketAddrV6, payload: &[u8]) {
        match self.udp.deliver(at, from, payload) {
            Delivery::Tell(id) => self.events.push_back(StackEvent::UdpReadable(id)),
            Delivery::Queued => {}
            Delivery::Overflow => self.stats.overflow += 1,
            Delivery::NoSocket if self.forwarder.is_on() && at.port() != 0 => {
                let id = UdpId(self.id());
                if self.udp.begin(id, at, from, payload) {
                    self.forwarder.flow(id, at, from);
                } else {
                    self.stats.overflow += 1;
                }
            }
            Delivery::NoSocket => self.stats.unwanted += 1,
        }
    }

    pub(super) fn ingest_tsmp(&mut self, packet: &Packet<'_>, now: Instant) {
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
            Some((id, time)) => {
                self.budget.round_trip(time, now);
                self.intake.round_trip(time, now);
                self.events.push_back(StackEvent::Pong(id, time));
            }
            None => self.stats.unwanted += 1,
        }
    }
}
