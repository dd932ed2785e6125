//! UDP sockets.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV6;

use bytes::BytesMut;

use super::{StackError, UdpId};

/// Bytes that may wait in one socket; about what a kernel's default socket holds.
const QUEUE_BYTES: usize = 256 * 1024;

/// What an empty datagram still costs.
const OVERHEAD: usize = 64;

/// All UDP sockets of a stack.
#[derive(Debug, Default)]
pub(super) struct Udp {
    ports: BTreeMap<u16, UdpId>,
    sockets: BTreeMap<UdpId, Socket>,
}

#[derive(Debug)]
struct Socket {
    port: u16,
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
        let socket = Socket { port, queue: VecDeque::new(), queued: 0, told: false };
        self.sockets.insert(id, socket);
        Ok(())
    }

    pub(super) fn port(&self, id: UdpId) -> Option<u16> {
        self.sockets.get(&id).map(|socket| socket.port)
    }

    pub(super) fn deliver(&mut self, port: u16, from: SocketAddrV6, payload: &[u8]) -> Delivery {
        let Some(id) = self.ports.get(&port).copied() else { return Delivery::NoSocket };
        let Some(socket) = self.sockets.get_mut(&id) else { return Delivery::NoSocket };
        let cost = payload.len() + OVERHEAD;
        if socket.queued + cost > QUEUE_BYTES {
            return Delivery::Overflow;
        }
        socket.queued += cost;
        socket.queue.push_back((from, BytesMut::from(payload)));
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
            self.ports.remove(&socket.port);
        }
    }
}
