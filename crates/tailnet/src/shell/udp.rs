//! The UDP sockets of a tailnet: one for each address family, used for STUN, disco and WireGuard
//! alike, because a NAT gives each socket another address.
//!
//! Datagrams of one length for one address are gathered and leave in one system call (GSO), and
//! come in the same way (GRO). A socket that would block keeps what it has gathered and takes no
//! more, so that nothing that was sealed is lost here.
//!
//! A socket wakes us for what comes in, and for room only while something waits for it: it tells of
//! room for each datagram that is through, which on a path within the machine is each one that was
//! sent.

use std::{
    io::{self, IoSliceMut},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    endpoints::Ports,
    packet::WIDEST,
    wg::{MAX_DATAGRAM, OVERHEAD},
};

/// Wanted of the kernel for each direction; it gives what its limits allow.
const SOCKET_BUFFER: usize = 4 << 20;

/// Most datagrams in one system call: 64 is the kernel's limit, and 48 of those that every way carries
/// stay below the 64 KiB that one IP packet may have.
const MAX_BATCH: usize = 48;

/// Most bytes in one system call, if it is more than one datagram.
const BATCH_BYTES: usize = MAX_BATCH * MAX_DATAGRAM;

/// Bytes that one received batch may have, the largest that GRO makes.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// Batches received at once.
const RECEIVE_BATCHES: usize = 8;

/// Times that batches are received before others have their turn.
const RECEIVE_TURNS: usize = 4;

/// Received datagrams are cut from blocks of this size.
const BLOCK: usize = 4 * (WIDEST + OVERHEAD);

/// The sockets.
pub(super) struct Udp {
    v4: Option<Carrier>,
    v6: Option<Carrier>,
    received: Vec<Vec<u8>>,
    block: BytesMut,
}

/// One socket and what waits for it.
struct Carrier {
    socket: AsyncFd<Socket>,
    /// The same, while something waits for room.
    room: Option<AsyncFd<Socket>>,
    state: UdpSocketState,
    batch: Batch,
    /// A datagram that does not belong to the batch, which could not leave.
    held: Option<(SocketAddr, BytesMut)>,
    /// The last datagram that our own system found too long for its way, by its length.
    too_long: Option<(SocketAddr, usize)>,
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
            let address = carrier.as_ref()?.socket.get_ref().local_addr().ok()?;
            address.as_socket().map(|at| at.port())
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

    /// A datagram that our own system has refused since the last call, for it is too long for its way:
    /// where it was to go, and its length.
    pub(super) fn too_long(&mut self) -> Option<(SocketAddr, usize)> {
        self.carriers().find_map(|carrier| carrier.too_long.take())
    }

    /// Ready when datagrams have come, or when there is room again for those that wait.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ready = Poll::Pending;
        for carrier in self.carriers() {
            let readable = carrier.socket.poll_read_ready(cx).is_ready();
            if readable || carrier.poll_room(cx).is_ready() {
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
                let Some((count, more)) = carrier.receive(received, &mut metas) else { break };
                for (meta, bytes) in metas.iter().zip(received.iter()).take(count) {
                    let bytes = bytes.get(..meta.len).unwrap_or_default();
                    for datagram in bytes.chunks(meta.stride.max(1)) {
                        take(meta.addr, cut(block, datagram));
                    }
                }
                if !more {
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

/// Has the runtime watch a socket for this alone.
#[expect(
    deprecated,
    reason = "what takes its place is unsafe, for descriptors of types that may not own what they \
              name; a socket owns its own"
)]
fn watch(socket: Socket, interest: Interest) -> io::Result<AsyncFd<Socket>> {
    AsyncFd::with_interest(socket, interest)
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
        socket.set_nonblocking(true)?;
        let socket = watch(socket, Interest::READABLE)?;
        Ok(Self { socket, room: None, state, batch: Batch::default(), held: None, too_long: None })
    }

    /// Ready when what waits for room may try again.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(room) = &self.room else { return Poll::Pending };
        let ready = room.poll_write_ready(cx).is_ready();
        if ready {
            self.room = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Has us woken when there is room.
    fn wait_for_room(&mut self) -> io::Result<()> {
        if self.room.is_none() {
            let same = self.socket.get_ref().try_clone()?;
            self.room = Some(watch(same, Interest::WRITABLE)?);
        }
        Ok(())
    }

    fn send(&mut self, to: SocketAddr, datagram: BytesMut) {
        if datagram.len() > MAX_DATAGRAM && self.state.may_fragment() {
            // In parts it would pass, and each part could be lost.
            self.too_long = Some((to, datagram.len()));
            return;
        }
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
        let mut sent = self.state.try_send(self.socket.get_ref().into(), &transmit);
        if matches!(&sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            match self.wait_for_room() {
                Ok(()) => return false,
                Err(error) => sent = Err(error),
            }
        }
        if let Err(error) = sent {
            // As lost on the way: no route, no permission. The peer is asked whether it hears us.
            tracing::trace!(%destination, %error, "datagrams not sent");
            self.note_length(&error);
        }
        self.batch.clear();
        true
    }

    /// Notes that a batch was too long for the way, if that is what was wrong with it. Of several
    /// datagrams at once older kernels say so as of an argument that they do not know (Linux before
    /// 6.14: `udp_send_skb`), which is taken for a lack of GSO.
    fn note_length(&mut self, error: &io::Error) {
        let long = self.batch.length > MAX_DATAGRAM;
        let unclear = long && self.batch.count > 1 && error.kind() == io::ErrorKind::InvalidInput;
        if unclear {
            match UdpSocketState::new(self.socket.get_ref().into()) {
                Ok(state) => self.state = state,
                Err(error) => tracing::debug!(%error, "a UDP socket as it is"),
            }
        }
        if unclear || quinn_udp::is_msg_size_err(error) {
            self.too_long = self.batch.to.map(|to| (to, self.batch.length));
        }
    }

    /// Receives batches: how many, and whether there may be more; `None` when there is none.
    fn receive(
        &self,
        buffers: &mut [Vec<u8>],
        metas: &mut [RecvMeta; RECEIVE_BATCHES],
    ) -> Option<(usize, bool)> {
        // Whoever waits asks again before it waits.
        let mut nobody = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(mut ready)) = self.socket.poll_read_ready(&mut nobody) else {
            return None;
        };
        let mut slices = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer));
        let mut slices: [IoSliceMut<'_>; RECEIVE_BATCHES] =
            std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        match self.state.recv(self.socket.get_ref().into(), &mut slices, metas) {
            Ok(count) => {
                // Where as many as asked for come in one call, fewer of them are all there are.
                let more = count >= RECEIVE_BATCHES.min(quinn_udp::BATCH_SIZE);
                if !more {
                    ready.clear_ready();
                }
                Some((count, more))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready.clear_ready();
                None
            }
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
                let fits = self.count < most && self.bytes.len() + length <= BATCH_BYTES;
                other == to && !self.closed && length <= self.length && fits
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
