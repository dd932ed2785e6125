//! TCP: connections, the ports that listen for them, and SYNs that wait for a decision.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Instant;

use coderctl_tcp::{NoPort, Time, Verdict};

use super::forwarder::Kept;
use super::{
    Arrival, ConnectionId, ConnectionStatus, ListenerId, RecvError, SendError, Stack, StackError,
    StackEvent, SynId, TcpEvent,
};
use crate::packet::{self, Packet, Upper};

impl Stack {
    /// Opens a TCP connection. [`TcpEvent::Connected`] or [`TcpEvent::Ended`] follows.
    ///
    /// # Errors
    ///
    /// [`StackError::Unaddressable`] for a destination that cannot be inside the tunnel,
    /// [`StackError::NoPort`] when all ephemeral ports towards it are taken.
    pub fn connect(
        &mut self,
        remote: SocketAddrV6,
        now: Instant,
    ) -> Result<ConnectionId, StackError> {
        if !packet::is_tunnel_address(remote.ip()) || remote.port() == 0 {
            return Err(StackError::Unaddressable);
        }
        let (local, clock) = (self.address(), self.clock(now));
        let free = |port| self.listeners.at(port).is_none();
        self.tcp.connect(local, remote, free, clock).map_err(|NoPort| StackError::NoPort)
    }

    /// Accepts TCP connections on `port`; at most `backlog` wait for [`Stack::accept`], further
    /// SYNs are not answered.
    ///
    /// # Errors
    ///
    /// [`StackError::PortInUse`], or [`StackError::Unaddressable`] for port 0.
    pub fn listen(&mut self, port: u16, backlog: usize) -> Result<ListenerId, StackError> {
        if port == 0 {
            return Err(StackError::Unaddressable);
        }
        let id = ListenerId(self.id());
        self.listeners.add(id, port, backlog)?;
        Ok(id)
    }

    /// The next connection that arrived, already established. Its id is in force from here on, and
    /// events for it begin.
    pub fn accept(&mut self, listener: ListenerId) -> Option<(ConnectionId, SocketAddrV6)> {
        loop {
            let id = self.listeners.accept(listener)?;
            self.arriving.remove(&id);
            let Some(status) = self.tcp.status(id) else { continue };
            // What happened before it had an owner.
            if status.readable > 0 {
                self.events.push_back(StackEvent::Tcp(TcpEvent::Readable(id)));
            }
            if status.peer_closed {
                self.events.push_back(StackEvent::Tcp(TcpEvent::PeerClosed(id)));
            }
            return Some((id, status.remote));
        }
    }

    /// Stops accepting; connections that wait are reset.
    pub fn unlisten(&mut self, listener: ListenerId, now: Instant) {
        let clock = self.clock(now);
        for id in self.listeners.remove(listener) {
            self.arriving.remove(&id);
            self.tcp.abort(id, clock);
        }
    }

    /// Holds SYNs and datagrams to ports that nobody has for [`Stack::poll_arrival`] from now on,
    /// instead of refusing them.
    pub fn forward(&mut self) {
        self.forwarder.start();
    }

    /// The next SYN or flow of datagrams that waits for a decision.
    pub fn poll_arrival(&mut self) -> Option<Arrival> {
        self.forwarder.poll()
    }

    /// Whether [`Stack::poll_arrival`] may have something.
    pub fn has_arrivals(&self) -> bool {
        self.forwarder.has_arrivals()
    }

    /// Lets the handshake of a held SYN go on. [`TcpEvent::Connected`] or [`TcpEvent::Ended`]
    /// follows. `None` when the SYN is gone: its sender took it back, or its peer left.
    pub fn accept_syn(&mut self, id: SynId, now: Instant) -> Option<ConnectionId> {
        let packet = self.forwarder.take(id)?;
        let (source, destination, segment) = syn(&packet)?;
        self.tcp.answer(source, destination, segment, self.clock(now))
    }

    /// Answers a held SYN with a RST, as a closed port does.
    pub fn refuse_syn(&mut self, id: SynId) {
        let packet = self.forwarder.take(id);
        if let Some((source, destination, segment)) = packet.as_deref().and_then(syn) {
            self.tcp.refuse(source, destination, segment);
        }
    }

    /// Lets `read` look at received bytes, in order, until it takes less than it was given; it
    /// returns how many it took. The result is what was taken altogether.
    ///
    /// # Errors
    ///
    /// [`RecvError`] when there is nothing to read now, or never again.
    pub fn recv(
        &mut self,
        id: ConnectionId,
        read: &mut dyn FnMut(&[u8]) -> usize,
        now: Instant,
    ) -> Result<usize, RecvError> {
        self.tcp.recv(id, read, self.clock(now))
    }

    /// Lets `write` fill free room of the send buffer, until it writes less than there was; it
    /// returns how many bytes it wrote. The result is what was written altogether.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] without room ([`TcpEvent::Writable`] follows); other kinds when
    /// nothing can be sent any more.
    pub fn send(
        &mut self,
        id: ConnectionId,
        write: &mut dyn FnMut(&mut [u8]) -> usize,
        now: Instant,
    ) -> Result<usize, SendError> {
        self.tcp.send(id, write, self.clock(now))
    }

    /// Ends our direction: FIN after everything that was sent. Receiving goes on (half-close).
    pub fn close(&mut self, id: ConnectionId, now: Instant) {
        self.tcp.close(id, self.clock(now));
    }

    /// Ends the connection at once with a RST and forgets it.
    pub fn abort(&mut self, id: ConnectionId, now: Instant) {
        self.tcp.abort(id, self.clock(now));
    }

    /// The application needs the connection no more: as [`Stack::close`], but nobody reads any
    /// longer. Sent data still reaches the peer; data that arrives is answered by a RST. The id is
    /// invalid afterwards.
    pub fn release(&mut self, id: ConnectionId, now: Instant) {
        self.tcp.release(id, self.clock(now));
    }

    /// The connection's present state, `None` for an id that is not in force.
    pub fn status(&self, id: ConnectionId) -> Option<ConnectionStatus> {
        self.tcp.status(id)
    }

    /// How many TCP connections exist, those that end in the background included.
    pub fn connections(&self) -> usize {
        self.tcp.connections()
    }

    /// The TCP connections that are established and not over: our port and the other end of each.
    pub fn established(&self) -> Vec<(u16, SocketAddrV6)> {
        let all = self.tcp.ids().filter_map(|id| self.tcp.status(id));
        let open = all.filter(ConnectionStatus::is_open);
        open.map(|status| (status.local.port(), status.remote)).collect()
    }

    pub(super) fn ingest_tcp(&mut self, packet: &Packet<'_>, segment: &[u8], now: Instant) {
        let clock = self.clock(now);
        match self.tcp.ingest(packet.source, packet.destination, segment, clock) {
            // What is malformed is counted there.
            Verdict::Taken | Verdict::Malformed => {}
            Verdict::Asks { local, remote } => self.asked(local, remote, packet, segment, clock),
            Verdict::TakesBack { local, remote } => self.forwarder.cancel(local, remote),
            Verdict::Stray => self.stats.strays += 1,
        }
    }

    /// Somebody asks for a connection.
    fn asked(
        &mut self,
        local: SocketAddrV6,
        remote: SocketAddrV6,
        packet: &Packet<'_>,
        segment: &[u8],
        now: Time,
    ) {
        let (source, destination) = (packet.source, packet.destination);
        if let Some(listener) = self.listeners.at(local.port()) {
            if !self.listeners.has_room(listener) {
                self.stats.overflow += 1;
            } else if let Some(id) = self.tcp.answer(source, destination, segment, now) {
                self.arriving.insert(id, listener);
                self.listeners.arrived(listener, id);
            }
        } else if self.forwarder.is_on() {
            let id = SynId(self.id());
            match self.forwarder.hold(id, local, remote, packet.bytes) {
                Kept::New | Kept::Again => {}
                Kept::Overflow => self.stats.overflow += 1,
            }
        } else {
            self.stats.strays += 1;
            self.tcp.refuse(source, destination, segment);
        }
    }

    /// What an event of a connection means outside; nothing while nobody has accepted it.
    pub(super) fn translate(&mut self, event: TcpEvent) -> Option<StackEvent> {
        let id = event.connection();
        let Some(listener) = self.arriving.get(&id).copied() else {
            return Some(StackEvent::Tcp(event));
        };
        match event {
            TcpEvent::Connected(_) => {
                // More than one may come before somebody asks.
                let tells = self.listeners.established(listener, id);
                self.events.extend(tells.then_some(StackEvent::Incoming(listener)));
                None
            }
            TcpEvent::Ended(..) => {
                self.arriving.remove(&id);
                self.listeners.forget(listener, id);
                // It is over, so the time does not matter.
                self.tcp.release(id, Time::default());
                None
            }
            TcpEvent::Readable(_) | TcpEvent::Writable(_) | TcpEvent::PeerClosed(_) => None,
        }
    }
}

/// Source, destination and segment of a SYN that was held.
fn syn(packet: &[u8]) -> Option<(Ipv6Addr, Ipv6Addr, &[u8])> {
    match Packet::parse(packet).ok()? {
        Packet { source, destination, upper: Upper::Tcp(segment), .. } => {
            Some((source, destination, segment))
        }
        Packet { .. } => None,
    }
}
