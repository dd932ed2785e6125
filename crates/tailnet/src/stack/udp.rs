//! UDP sockets, and flows: sockets for the datagrams of one other end.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv6Addr, SocketAddrV6};

use bytes::BytesMut;

use super::{StackError, UdpId};

/// Bytes that may wait in one socket; about what a kernel's default socket holds.
const QUEUE_BYTES: usize = 256 * 1024;

/// What an empty datagram still costs.
const OVERHEAD: usize = 64;

/// Flows at once; further ones are dropped, as by a full table of any NAT.
const MOST_FLOWS: usize = 1024;

/// All UDP sockets of a stack.
#[derive(Debug, Default)]
pub(super) struct Udp {
    ports: BTreeMap<u16, UdpId>,
    /// By our end and the other.
    flows: BTreeMap<(SocketAddrV6, SocketAddrV6), UdpId>,
    sockets: BTreeMap<UdpId, Socket>,
}

#[derive(Debug)]
struct Socket {
    port: u16,
    /// Our end and the other, if it is a flow.
    flow: Option<(SocketAddrV6, SocketAddrV6)>,
    queue: VecDeque<(SocketAddrV6, BytesMut)>,
    queued: usize,
    /// An event for this socket is pending.
    pub(super) told: bool,
}

/// What became of an arriving datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The first since the socket's owner was told: tell it.
    Tell(UdpId),
    /// Queued, and its owner knows of others already.
    Queued,
    /// The queue is full.
    Overflow,
    /// No socket has this port.
    NoSocket,
}

impl Udp {
    pub(super) fn is_free(&self, port: u16) -> bool {
        !self.ports.contains_key(&port)
    }

    pub(super) fn bind(&mut self, id: UdpId, port: u16) -> Result<(), StackError> {
        if !self.is_free(port) {
            return Err(StackError::PortInUse);
        }
        self.ports.insert(port, id);
        self.sockets.insert(id, Socket::new(port, None));
        Ok(())
    }

    /// Begins a flow with its first datagram; whether there is room for one more.
    pub(super) fn begin(
        &mut self,
        id: UdpId,
        at: SocketAddrV6,
        from: SocketAddrV6,
        payload: &[u8],
    ) -> bool {
        if self.flows.len() >= MOST_FLOWS {
            return false;
        }
        self.flows.insert((at, from), id);
        let socket = self.sockets.entry(id).or_insert(Socket::new(at.port(), Some((at, from))));
        socket.put(from, payload)
    }

    pub(super) fn port(&self, id: UdpId) -> Option<u16> {
        self.sockets.get(&id).map(|socket| socket.port)
    }

    /// The address, if it is bound to one, and the port from which a socket sends.
    pub(super) fn local(&self, id: UdpId) -> Option<(Option<Ipv6Addr>, u16)> {
        let socket = self.sockets.get(&id)?;
        Some((socket.flow.map(|(here, _)| *here.ip()), socket.port))
    }

    pub(super) fn deliver(
        &mut self,
        at: SocketAddrV6,
        from: SocketAddrV6,
        payload: &[u8],
    ) -> Delivery {
        let id = self.ports.get(&at.port()).or_else(|| self.flows.get(&(at, from)));
        let Some(id) = id.copied() else { return Delivery::NoSocket };
        let Some(socket) = self.sockets.get_mut(&id) else { return Delivery::NoSocket };
        if !socket.put(from, payload) {
            return Delivery::Overflow;
        }
        if std::mem::replace(&mut socket.told, true) {
            Delivery::Queued
        } else {
            Delivery::Tell(id)
        }
    }

    /// The event was taken; the next datagram is worth another.
    pub(super) fn told(&mut self, id: UdpId) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.told = false;
        }
    }

    pub(super) fn recv(&mut self, id: UdpId) -> Option<(SocketAddrV6, BytesMut)> {
        let socket = self.sockets.get_mut(&id)?;
        let (from, payload) = socket.queue.pop_front()?;
        socket.queued -= payload.len() + OVERHEAD;
        Some((from, payload))
    }

    pub(super) fn close(&mut self, id: UdpId) {
        if let Some(socket) = self.sockets.remove(&id) {
            match socket.flow {
                Some(flow) => self.flows.remove(&flow),
                None => self.ports.remove(&socket.port),
            };
        }
    }
}

impl Socket {
    fn new(port: u16, flow: Option<(SocketAddrV6, SocketAddrV6)>) -> Self {
        Self { port, flow, queue: VecDeque::new(), queued: 0, told: false }
    }

    /// Queues a datagram if there is room.
    fn put(&mut self, from: SocketAddrV6, payload: &[u8]) -> bool {
        let cost = payload.len() + OVERHEAD;
        let fits = self.queued + cost <= QUEUE_BYTES;
        if fits {
            self.queued += cost;
            self.queue.push_back((from, BytesMut::from(payload)));
        }
        fits
    }
}
