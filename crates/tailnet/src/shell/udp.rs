//! The UDP sockets of a tailnet: one for each address family, used for STUN, disco and WireGuard
//! alike, because a NAT gives each socket another address.
//!
//! Datagrams of one length for one address are gathered and leave in one system call (GSO), and
//! come in the same way (GRO). A socket that would block keeps what it has gathered and takes no
//! more, so that nothing that was sealed is lost here.

use std::{
    io::{self, IoSliceMut},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    task::{Context, Poll},
};

use bytes::BytesMut;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

use crate::{endpoints::Ports, wg::MAX_DATAGRAM};

/// Wanted of the kernel for each direction; it gives what its limits allow.
const SOCKET_BUFFER: usize = 4 << 20;

/// Most datagrams in one system call: 64 is the kernel's limit, and 48 of the largest we make stay
/// below the 64 KiB that one IP packet may have.
const MAX_BATCH: usize = 48;

/// Bytes that one received batch may have, the largest that GRO makes.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// Batches received at once.
const RECEIVE_BATCHES: usize = 8;

/// Times that batches are received before others have their turn.
const RECEIVE_TURNS: usize = 4;

/// Received datagrams are cut from blocks of this size.
const BLOCK: usize = 32 * MAX_DATAGRAM;

/// The sockets.
pub(super) struct Udp {
    v4: Option<Carrier>,
    v6: Option<Carrier>,
    received: Vec<Vec<u8>>,
    block: BytesMut,
}

/// One socket and what waits for it.
struct Carrier {
    socket: UdpSocket,
    state: UdpSocketState,
    batch: Batch,
    /// A datagram that does not belong to the batch, which could not leave.
    held: Option<(SocketAddr, BytesMut)>,
}

/// Datagrams for one address: all of one length, but for the last, which may be shorter.
#[derive(Debug, Default)]
struct Batch {
    to: Option<SocketAddr>,
    length: usize,
    count: usize,
    closed: bool,
    bytes: Vec<u8>,
}

impl Udp {
    /// Sockets of both families, as far as this machine has them, on ports of the system's choice.
    pub(super) fn bind() -> Self {
        let bind = |address: SocketAddr| match Carrier::bind(address) {
            Ok(carrier) => Some(carrier),
            Err(error) => {
                tracing::debug!(%address, %error, "no UDP socket");
                None
            }
        };
        Self {
            v4: bind((Ipv4Addr::UNSPECIFIED, 0).into()),
            v6: bind((Ipv6Addr::UNSPECIFIED, 0).into()),
            received: vec![vec![0; RECEIVE_BUFFER]; RECEIVE_BATCHES],
            block: BytesMut::new(),
        }
    }

    /// The ports they have.
    pub(super) fn ports(&self) -> Ports {
        let port = |carrier: &Option<Carrier>| {
            carrier
                .as_ref()
                .and_then(|carrier| carrier.socket.local_addr().ok())
                .map(|at| at.port())
        };
        Ports { v4: port(&self.v4), v6: port(&self.v6) }
    }

    /// Whether one more datagram can be taken for this address. What no socket can carry is taken,
    /// and lost as on the way.
    pub(super) fn admit(&self, to: &SocketAddr) -> bool {
        self.carrier(to).is_none_or(|carrier| carrier.held.is_none())
    }

    /// Takes a datagram that was just admitted.
    pub(super) fn send(&mut self, to: SocketAddr, datagram: BytesMut) {
        let carrier = if to.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        if let Some(carrier) = carrier {
            carrier.send(to, datagram);
        }
    }

    /// Sends what was gathered.
    pub(super) fn flush(&mut self) {
        for carrier in self.carriers() {
            carrier.flush();
        }
    }

    /// Ready when datagrams have come, or when there is room again for those that wait.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ready = Poll::Pending;
        for carrier in self.carriers() {
            let readable = carrier.socket.poll_recv_ready(cx).is_ready();
            let writable = carrier.waits() && carrier.socket.poll_send_ready(cx).is_ready();
            if readable || writable {
                ready = Poll::Ready(());
            }
        }
        ready
    }

    /// Hands out what has come, up to a few hundred datagrams; the rest stays for the next turn.
    pub(super) fn receive(&mut self, mut take: impl FnMut(SocketAddr, BytesMut)) {
        let Self { v4, v6, received, block } = self;
        for carrier in [v4, v6].into_iter().flatten() {
            for _ in 0..RECEIVE_TURNS {
                let mut metas = [RecvMeta::default(); RECEIVE_BATCHES];
                let Some(count) = carrier.receive(received, &mut metas) else { break };
                for (meta, bytes) in metas.iter().zip(received.iter()).take(count) {
                    let bytes = bytes.get(..meta.len).unwrap_or_default();
                    for datagram in bytes.chunks(meta.stride.max(1)) {
                        take(meta.addr, cut(block, datagram));
                    }
                }
                if count < RECEIVE_BATCHES {
                    break;
                }
            }
        }
    }

    fn carrier(&self, to: &SocketAddr) -> Option<&Carrier> {
        if to.is_ipv4() { self.v4.as_ref() } else { self.v6.as_ref() }
    }

    fn carriers(&mut self) -> impl Iterator<Item = &mut Carrier> {
        [&mut self.v4, &mut self.v6].into_iter().flatten()
    }
}

/// A copy that can be opened in place, cut from a block: datagrams are used up one by one, so one
/// block serves for ever.
fn cut(block: &mut BytesMut, datagram: &[u8]) -> BytesMut {
    if block.capacity() < datagram.len() {
        block.reserve(BLOCK.max(datagram.len()));
    }
    block.extend_from_slice(datagram);
    block.split()
}

impl Carrier {
    fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        let state = UdpSocketState::new((&socket).into())?;
        for set in [UdpSocketState::set_send_buffer_size, UdpSocketState::set_recv_buffer_size] {
            if let Err(error) = set(&state, (&socket).into(), SOCKET_BUFFER) {
                tracing::debug!(%error, "a UDP socket with the system's own buffers");
            }
        }
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Self { socket, state, batch: Batch::default(), held: None })
    }

    /// Whether something waits for the socket.
    fn waits(&self) -> bool {
        self.held.is_some() || self.batch.count > 0
    }

    fn send(&mut self, to: SocketAddr, datagram: BytesMut) {
        let most = self.state.max_gso_segments().min(MAX_BATCH);
        if self.batch.takes(to, datagram.len(), most) || self.send_batch() {
            self.batch.push(to, &datagram);
        } else {
            self.held = Some((to, datagram));
        }
    }

    fn flush(&mut self) {
        if !self.send_batch() {
            return;
        }
        if let Some((to, datagram)) = self.held.take() {
            self.batch.push(to, &datagram);
            self.send_batch();
        }
    }

    /// Sends the batch; `false` when the socket would block.
    fn send_batch(&mut self) -> bool {
        let Some(destination) = self.batch.to else { return true };
        let transmit = Transmit {
            destination,
            ecn: None,
            contents: &self.batch.bytes,
            segment_size: Some(self.batch.length),
            src_ip: None,
        };
        let sent = self
            .socket
            .try_io(Interest::WRITABLE, || self.state.try_send((&self.socket).into(), &transmit));
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            // As lost on the way: no route, no permission, too long for the path. The peer is
            // asked whether it hears us.
            Err(error) => tracing::trace!(%destination, %error, "datagrams not sent"),
            Ok(()) => {}
        }
        self.batch.clear();
        true
    }

    /// Receives batches; `None` when there is none.
    fn receive(
        &self,
        buffers: &mut [Vec<u8>],
        metas: &mut [RecvMeta; RECEIVE_BATCHES],
    ) -> Option<usize> {
        let mut slices = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer));
        let mut slices: [IoSliceMut<'_>; RECEIVE_BATCHES] =
            std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        let received = self.socket.try_io(Interest::READABLE, || {
            self.state.recv((&self.socket).into(), &mut slices, metas)
        });
        match received {
            Ok(count) => Some(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => {
                // What an earlier datagram met on its way; there may be others behind it.
                tracing::trace!(%error, "no datagram");
                None
            }
        }
    }
}

impl Batch {
    /// Whether a datagram can leave together with those that are here.
    fn takes(&self, to: SocketAddr, length: usize, most: usize) -> bool {
        match self.to {
            None => true,
            Some(other) => {
                other == to && !self.closed && length <= self.length && self.count < most
            }
        }
    }

    fn push(&mut self, to: SocketAddr, datagram: &[u8]) {
        if self.to.is_none() {
            self.to = Some(to);
            self.length = datagram.len();
        }
        self.closed = datagram.len() < self.length;
        self.count += 1;
        self.bytes.extend_from_slice(datagram);
    }

    fn clear(&mut self) {
        self.to = None;
        self.count = 0;
        self.closed = false;
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests;
