//! What arrives at an agent's ports, and waits for a decision.

use std::{
    future::poll_fn,
    io,
    net::SocketAddrV6,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::BytesMut;

use super::{core::Shared, stream, stream::TcpStream};
use crate::{
    ids::PeerId,
    stack::{Arrival, DatagramError, SynId, UdpId},
};

/// Between whom something passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The peer.
    pub peer: PeerId,
    /// Our address that it asks, and the port.
    pub local: SocketAddrV6,
    /// Its address and port.
    pub remote: SocketAddrV6,
}

/// Everything that peers ask of us. To be drained by one task; what nobody takes out waits, and
/// beyond 1024 SYNs (512 of one peer) and 1024 flows further ones are not answered.
#[derive(Debug)]
pub struct Incoming {
    shared: Arc<Shared>,
}

/// Something a peer asks of a port.
#[derive(Debug)]
pub enum Request {
    /// To connect.
    Tcp(SynReceived),
    /// To take its datagrams.
    Udp(UdpFlow),
}

impl Incoming {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The next request; `None` once the tailnet is closed. Cancel safe.
    pub async fn next(&mut self) -> Option<Request> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Incoming::next`].
    pub fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Option<Request>> {
        let mut core = self.shared.lock();
        if core.closed {
            return Poll::Ready(None);
        }
        loop {
            let Some(arrival) = core.engine.stack().poll_arrival() else {
                return core.wait_for_arrival(cx);
            };
            let (Arrival::Tcp { local, remote, .. } | Arrival::Udp { local, remote, .. }) = arrival;
            let peer = core.engine.peer_at(remote.ip());
            let shared = Arc::clone(&self.shared);
            let ends = peer.map(|peer| Ends { peer, local, remote });
            match (arrival, ends) {
                (Arrival::Tcp { id, .. }, Some(ends)) => {
                    let syn = SynReceived { shared, id, ends, answered: false };
                    return Poll::Ready(Some(Request::Tcp(syn)));
                }
                (Arrival::Udp { id, .. }, Some(ends)) => {
                    let flow = UdpFlow { shared, id, ends };
                    return Poll::Ready(Some(Request::Udp(flow)));
                }
                // The peer has left meanwhile.
                (Arrival::Tcp { id, .. }, None) => core.engine.stack().refuse_syn(id),
                (Arrival::Udp { id, .. }, None) => core.engine.stack().udp_close(id),
            }
        }
    }
}

/// A peer's SYN, unanswered: the peer hears nothing until it is accepted or refused, and repeats
/// it meanwhile. Dropping it refuses it.
pub struct SynReceived {
    shared: Arc<Shared>,
    id: SynId,
    ends: Ends,
    answered: bool,
}

impl SynReceived {
    /// Who asks, and for what.
    #[must_use]
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// Lets the handshake go on, and waits until it is done.
    ///
    /// # Errors
    /// `ConnectionReset` when the peer has given up meanwhile, `TimedOut` when it does not go on,
    /// `NotConnected` when it or the tailnet is gone.
    pub async fn accept(mut self) -> io::Result<TcpStream> {
        let id = {
            let mut core = self.shared.lock();
            if core.closed {
                return Err(stream::gone());
            }
            self.answered = true;
            core.engine.stack().accept_syn(self.id, Instant::now())
        };
        let Some(id) = id else {
            let text = "the other side has taken its connection back";
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, text));
        };
        self.shared.changed.notify_one();
        let mut stream = TcpStream::new(Arc::clone(&self.shared), id);
        poll_fn(|cx| stream.poll_connected(cx)).await?;
        Ok(stream)
    }

    /// Answers as a closed port does: the peer sees its connection refused.
    pub fn refuse(self) {
        drop(self);
    }
}

impl Drop for SynReceived {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        self.shared.lock().engine.stack().refuse_syn(self.id);
        self.shared.changed.notify_one();
    }
}

impl std::fmt::Debug for SynReceived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SynReceived").field("ends", &self.ends).finish_non_exhaustive()
    }
}

/// Datagrams between one port of a peer and one of ours. One that the peer began has its first
/// datagram waiting to be received. How long it may be idle is its owner's business; dropping it
/// ends it, and the peer's next datagram begins another.
pub struct UdpFlow {
    shared: Arc<Shared>,
    id: UdpId,
    ends: Ends,
}

impl UdpFlow {
    /// Begins one to a port of this peer, from a free one of ours.
    pub(super) fn open(shared: &Arc<Shared>, peer: PeerId, port: u16) -> io::Result<Self> {
        let mut core = shared.lock();
        if core.closed {
            return Err(stream::gone());
        }
        let stack = core.engine.stack();
        let id = stack.udp_bind(None).map_err(io::Error::other)?;
        let local = SocketAddrV6::new(stack.address(), stack.udp_port(id).unwrap_or(0), 0, 0);
        let remote = SocketAddrV6::new(peer.agent_address(), port, 0, 0);
        Ok(Self { shared: Arc::clone(shared), id, ends: Ends { peer, local, remote } })
    }

    /// Between whom it is.
    #[must_use]
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// The next datagram. Cancel safe; for one task at a time.
    ///
    /// # Errors
    /// `NotConnected` when the tailnet is closed.
    pub async fn recv(&self) -> io::Result<BytesMut> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`UdpFlow::recv`].
    pub fn poll_recv(&self, cx: &Context<'_>) -> Poll<io::Result<BytesMut>> {
        let mut core = self.shared.lock();
        if core.closed {
            return Poll::Ready(Err(stream::gone()));
        }
        // A port that we opened hears whoever sends to it.
        while let Some((from, payload)) = core.engine.stack().udp_recv(self.id) {
            let remote = self.ends.remote;
            if (from.ip(), from.port()) == (remote.ip(), remote.port()) {
                return Poll::Ready(Ok(payload));
            }
        }
        core.wait_for_datagram(self.id, cx)
    }

    /// Sends a datagram back; when too many wait already it is dropped, as networks do.
    ///
    /// # Errors
    /// `InvalidInput` for one that does not fit a packet ([`crate::packet::MAX_UDP_PAYLOAD`]),
    /// `NotConnected` when the tailnet is closed.
    pub fn send(&self, payload: &[u8]) -> io::Result<()> {
        let sent = {
            let mut core = self.shared.lock();
            if core.closed {
                return Err(stream::gone());
            }
            core.engine.stack().udp_send(self.id, self.ends.remote, payload)
        };
        self.shared.changed.notify_one();
        match sent {
            Ok(()) | Err(DatagramError::Full) => Ok(()),
            Err(error @ DatagramError::TooLong(_)) => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, error))
            }
            Err(error @ (DatagramError::Unaddressable | DatagramError::Unknown)) => {
                Err(io::Error::new(io::ErrorKind::NotConnected, error))
            }
        }
    }
}

impl Drop for UdpFlow {
    fn drop(&mut self) {
        let mut core = self.shared.lock();
        core.forget_flow(self.id);
        core.engine.stack().udp_close(self.id);
    }
}

impl std::fmt::Debug for UdpFlow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UdpFlow").field("ends", &self.ends).finish_non_exhaustive()
    }
}
