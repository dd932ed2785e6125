//! What is no TCP: datagrams, pings and their answers.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Instant;

use bytes::BytesMut;

use super::udp::Delivery;
use super::{Admission, DatagramError, PacketSink, PingId, Stack, StackError, StackEvent, UdpId};
use crate::packet::{self, MAX_UDP_PAYLOAD, Packet, build};
use crate::tsmp;

/// Packets made outside of connections that may wait for the sink.
const ANSWERS: usize = 1024;

impl Stack {
    /// Binds a UDP socket, to a random free port if none is asked for.
    ///
    /// # Errors
    ///
    /// [`StackError::PortInUse`], [`StackError::NoPort`], or [`StackError::Unaddressable`] for
    /// port 0.
    pub fn udp_bind(&mut self, port: Option<u16>) -> Result<UdpId, StackError> {
        let port = match port {
            Some(0) => return Err(StackError::Unaddressable),
            Some(port) => port,
            None => self.free_port().ok_or(StackError::NoPort)?,
        };
        let id = UdpId(self.id());
        self.udp.bind(id, port)?;
        Ok(id)
    }

    /// IANA's dynamic range (RFC 6335, 6), searched from a random place on.
    fn free_port(&mut self) -> Option<u16> {
        const FIRST: u32 = 49_152;
        const COUNT: u32 = 65_536 - FIRST;
        let offset = self.random.below(COUNT);
        let mut ports = (0..COUNT).map(|at| (FIRST + (offset + at) % COUNT) as u16);
        ports.find(|port| self.udp.is_free(*port))
    }

    /// The socket's own port, `None` for an id that is not in force.
    pub fn udp_port(&self, id: UdpId) -> Option<u16> {
        self.udp.port(id)
    }

    /// Sends one datagram. A flow ([`Arrival::Udp`](super::Arrival::Udp)) sends from the address it
    /// was asked at.
    ///
    /// # Errors
    ///
    /// [`DatagramError`]; datagrams over [`MAX_UDP_PAYLOAD`] bytes do not fit.
    pub fn udp_send(
        &mut self,
        id: UdpId,
        remote: SocketAddrV6,
        payload: &[u8],
    ) -> Result<(), DatagramError> {
        let (local, port) = self.udp.local(id).ok_or(DatagramError::Unknown)?;
        let local = local.unwrap_or_else(|| self.address());
        if payload.len() > MAX_UDP_PAYLOAD {
            return Err(DatagramError::TooLong(payload.len()));
        }
        if !packet::is_tunnel_address(remote.ip()) || remote.port() == 0 {
            return Err(DatagramError::Unaddressable);
        }
        let to = (*remote.ip(), remote.port());
        match self.answer(to.0, || build::udp((local, port), to, payload)) {
            true => Ok(()),
            false => Err(DatagramError::Full),
        }
    }

    /// The next datagram received.
    pub fn udp_recv(&mut self, id: UdpId) -> Option<(SocketAddrV6, BytesMut)> {
        self.udp.recv(id)
    }

    /// Unbinds a UDP socket.
    pub fn udp_close(&mut self, id: UdpId) {
        self.udp.close(id);
    }

    /// Sends an in-tunnel ping; [`StackEvent::Pong`] or [`StackEvent::PingLost`] follows.
    ///
    /// # Errors
    ///
    /// [`StackError::Unaddressable`], or [`StackError::TooMany`] when too many are unanswered.
    pub fn ping(&mut self, remote: Ipv6Addr, now: Instant) -> Result<PingId, StackError> {
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

    /// Gives up the pings that waited for too long, and those to `gone`.
    pub(super) fn lose_pings(&mut self, now: Instant, gone: Option<Ipv6Addr>) {
        let lost = self.pings.lost(now, gone);
        self.events.extend(lost.into_iter().map(StackEvent::PingLost));
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

    pub(super) fn ingest_echo(&mut self, packet: &Packet<'_>, body: &[u8]) {
        let (here, there) = (packet.destination, packet.source);
        self.answer(there, || build::echo_reply(here, there, body));
    }

    pub(super) fn ingest_tsmp(&mut self, packet: &Packet<'_>, now: Instant) {
        let Ok(message) = tsmp::Packet::parse(packet.bytes) else {
            self.stats.malformed += 1;
            return;
        };
        if let Some(pong) = message.respond() {
            self.answer(packet.source, || BytesMut::from(&pong[..]));
            return;
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

    /// Queues a packet if there is room for one more.
    fn answer(&mut self, to: Ipv6Addr, packet: impl FnOnce() -> BytesMut) -> bool {
        let fits = self.answers.len() < ANSWERS;
        if fits {
            self.answers.push_back((to, packet()));
        } else {
            self.stats.overflow += 1;
        }
        fits
    }

    /// Hands out the packets that wait; whether `sink` may take more.
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

    /// Hands out the pings that wait; whether `sink` may take more.
    pub(super) fn send_pings(&mut self, sink: &mut dyn PacketSink, now: Instant) -> bool {
        for _ in 0..self.pings.unsent() {
            let Some((data, to)) = self.pings.next() else { break };
            match sink.admit(to) {
                Admission::Yes => {
                    self.stats.packets_out += 1;
                    self.pings.sent(data, now);
                    let ping = tsmp::ping(self.address(), to, data);
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
}
