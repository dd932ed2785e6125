//! TCP, UDP and pings inside the tunnel, in user space.
//!
//! A [`Stack`] has one IPv6 address and speaks IP packets on one side and connections on the
//! other. It is pure: packets go in with [`Stack::ingest`], time with [`Stack::handle_timeout`],
//! the application's wishes with the other methods; what comes out waits in
//! [`Stack::poll_transmit`] and [`Stack::poll_event`], and [`Stack::next_deadline`] says when time
//! matters again.
//!
//! ```text
//!   connect, send, recv, close ──► ┌───────┐ ──► poll_transmit(sink): IP packets
//!               poll_event ◄────── │ Stack │
//!                                  └───────┘ ◄── ingest: IP packets
//! ```
//!
//! **Nothing that was built is dropped.** A packet is only made when the [`PacketSink`] has
//! agreed to take it. A connection to a peer whose tunnel is not up yet therefore waits inside
//! its own socket: its SYN is made in the moment it can leave.
//!
//! **No wakeup is lost.** Events are edges, at most one of a kind pending per connection, and
//! [`Stack::status`] gives the level at any time. [`StackEvent::Readable`] follows every arrival
//! of data, [`StackEvent::Writable`] follows every [`Stack::send`] that had to be cut short.
//!
//! **What is under way is bounded.** A relay holds 512 packets for a client and forgets the rest,
//! so all streams together may have only so much unacknowledged ([`StackConfig::in_flight`]); each
//! gets a fair share. [`Stack::send`] hands out no more room than that. What others may have under
//! way to us is bounded as well, by the windows that we offer (the private `intake` module).
//!
//! **A port may be decided on as it is asked for.** With [`Stack::forward`] a SYN to a port where
//! nobody listens is held back and told by [`Stack::poll_arrival`]; only [`Stack::accept_syn`] lets
//! the handshake go on, and [`Stack::refuse_syn`] answers as a closed port does. So a forwarder can
//! dial first, and its client sees a refused connection where there is nothing. (coder/tailscale:
//! wgengine/netstack/netstack.go, `acceptTCP`.)
//!
//! [`SmolStack`] is the implementation in use: the TCP core of smoltcp, one socket set for each
//! connection, found through our own table and woken by our own timers, because smoltcp would scan
//! every socket for every packet.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::{Duration, Instant};

use bytes::BytesMut;

mod budget;
mod connection;
mod device;
mod forwarder;
mod id;
mod intake;
mod listener;
mod owed;
#[cfg(feature = "own-tcp")]
mod own;
mod ping;
mod random;
mod smol;
mod timers;
mod udp;
mod way;

pub use id::{ConnectionId, ListenerId, PingId, SynId, UdpId};
#[cfg(feature = "own-tcp")]
pub use own::OwnStack;
pub use smol::SmolStack;

/// The implementation in use.
#[cfg(not(feature = "own-tcp"))]
pub type UserStack = SmolStack;

/// The implementation in use.
#[cfg(feature = "own-tcp")]
pub type UserStack = OwnStack;

/// What a [`Stack`] is made with.
#[derive(Debug, Clone)]
pub struct StackConfig {
    /// Our address, a `/128`.
    pub address: Ipv6Addr,
    /// Seed of everything random here: initial sequence numbers, ephemeral ports, ping contents.
    /// Must be unpredictable in use, and may be fixed in a simulation.
    pub seed: u64,
    /// Bytes that all TCP streams together may have in queues on their way, beyond what the way
    /// itself holds.
    pub in_flight: usize,
    /// How long a connection may wait for its other end, to be opened or to have data or the end
    /// acknowledged, while nothing at all arrives; then it fails with [`CloseReason::TimedOut`].
    /// The time without a tunnel counts.
    pub user_timeout: Duration,
    /// How long a pong is waited for.
    pub ping_timeout: Duration,
    /// Idle time after which a keep-alive probe asks whether the other end is still there.
    pub keep_alive: Option<Duration>,
}

impl StackConfig {
    /// Most that may be in queues: 400 full segments. The embedded relay queues 512 packets for a
    /// client (measured: one MiB under way collapsed an upload to 13 Mbit/s, 256 KiB kept 640 and
    /// more).
    pub const IN_FLIGHT: usize = 400 * crate::packet::MSS;

    /// Upstream gives up after five retransmissions, 15 to 30 s (coder/coder: tailnet/conn.go);
    /// a restarted relay takes up to 10 s to be reached again, so the upper end.
    pub const USER_TIMEOUT: Duration = Duration::from_secs(30);

    /// Upstream drops the callback of a ping after 10 s (coder/tailscale: wgengine/userspace.go).
    pub const PING_TIMEOUT: Duration = Duration::from_secs(10);

    /// Upstream's interval on SSH ports (coder/coder: agent/agent.go).
    pub const KEEP_ALIVE: Duration = Duration::from_secs(72);

    /// A configuration for `address` with the usual limits.
    pub fn new(address: Ipv6Addr, seed: u64) -> Self {
        Self {
            address,
            seed,
            in_flight: Self::IN_FLIGHT,
            user_timeout: Self::USER_TIMEOUT,
            ping_timeout: Self::PING_TIMEOUT,
            keep_alive: Some(Self::KEEP_ALIVE),
        }
    }
}

/// TCP, UDP and ping inside the tunnel.
pub trait Stack: Send {
    /// Our first address: the source of what we begin.
    fn address(&self) -> Ipv6Addr;

    /// All our addresses, the first one first.
    fn addresses(&self) -> &[Ipv6Addr];

    /// Has other addresses from now on, at most [`MAX_OWN_ADDRESSES`]. Connections of addresses
    /// that are gone are reset.
    ///
    /// # Errors
    ///
    /// [`StackError::Unaddressable`] for none and for one that cannot be inside the tunnel,
    /// [`StackError::TooMany`]; then nothing changes.
    fn set_addresses(&mut self, addresses: &[Ipv6Addr], now: Instant) -> Result<(), StackError>;

    /// Opens a TCP connection. [`StackEvent::Connected`], [`StackEvent::Refused`] or
    /// [`StackEvent::Closed`] follows.
    ///
    /// # Errors
    ///
    /// [`StackError::Unaddressable`] for a destination that cannot be inside the tunnel,
    /// [`StackError::NoPort`] when all ephemeral ports towards it are taken.
    fn connect(&mut self, remote: SocketAddrV6, now: Instant) -> Result<ConnectionId, StackError>;

    /// Accepts TCP connections on `port`; at most `backlog` wait for [`Stack::accept`], further
    /// SYNs are not answered.
    ///
    /// # Errors
    ///
    /// [`StackError::PortInUse`], or [`StackError::Unaddressable`] for port 0.
    fn listen(&mut self, port: u16, backlog: usize) -> Result<ListenerId, StackError>;

    /// The next connection that arrived, already established. Its id is in force from here on, and
    /// events for it begin.
    fn accept(&mut self, listener: ListenerId) -> Option<(ConnectionId, SocketAddrV6)>;

    /// Stops accepting; connections that wait are reset.
    fn unlisten(&mut self, listener: ListenerId, now: Instant);

    /// Holds SYNs and datagrams to ports that nobody has for [`Stack::poll_arrival`] from now on,
    /// instead of refusing them.
    fn forward(&mut self);

    /// The next SYN or flow of datagrams that waits for a decision.
    fn poll_arrival(&mut self) -> Option<Arrival>;

    /// Whether [`Stack::poll_arrival`] may have something.
    fn has_arrivals(&self) -> bool;

    /// Lets the handshake of a held SYN go on. [`StackEvent::Connected`] follows, or one of the
    /// events that end a connection. `None` when the SYN is gone: its sender took it back, or its
    /// peer left.
    fn accept_syn(&mut self, id: SynId, now: Instant) -> Option<ConnectionId>;

    /// Answers a held SYN with a RST, as a closed port does.
    fn refuse_syn(&mut self, id: SynId, now: Instant);

    /// Lets `read` look at received bytes, in order, until it takes less than it was given; it
    /// returns how many it took. The result is what was taken altogether.
    ///
    /// # Errors
    ///
    /// [`RecvError`] when there is nothing to read now, or never again.
    fn recv(
        &mut self,
        id: ConnectionId,
        read: &mut dyn FnMut(&[u8]) -> usize,
        now: Instant,
    ) -> Result<usize, RecvError>;

    /// Lets `write` fill free room of the send buffer, until it writes less than there was; it
    /// returns how many bytes it wrote. The result is what was written altogether.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] without room ([`StackEvent::Writable`] follows); other kinds when
    /// nothing can be sent any more.
    fn send(
        &mut self,
        id: ConnectionId,
        write: &mut dyn FnMut(&mut [u8]) -> usize,
        now: Instant,
    ) -> Result<usize, SendError>;

    /// Ends our direction: FIN after everything that was sent. Receiving goes on (half-close).
    fn close(&mut self, id: ConnectionId, now: Instant);

    /// Ends the connection at once with a RST and forgets it.
    fn abort(&mut self, id: ConnectionId, now: Instant);

    /// The application needs the connection no more: as [`Stack::close`], but nobody reads any
    /// longer. Sent data still reaches the peer; data that arrives is answered by a RST. The id is
    /// invalid afterwards.
    fn release(&mut self, id: ConnectionId, now: Instant);

    /// The connection's present state, `None` for an id that is not in force.
    fn status(&self, id: ConnectionId) -> Option<ConnectionStatus>;

    /// Ends every connection with `remote` and every ping to it: its peer is gone. No RST is sent.
    fn fail_remote(&mut self, remote: Ipv6Addr, now: Instant);

    /// Binds a UDP socket, to a random free port if none is asked for.
    ///
    /// # Errors
    ///
    /// [`StackError::PortInUse`] or [`StackError::NoPort`].
    fn udp_bind(&mut self, port: Option<u16>) -> Result<UdpId, StackError>;

    /// The socket's own port, `None` for an id that is not in force.
    fn udp_port(&self, id: UdpId) -> Option<u16>;

    /// Sends one datagram. A flow ([`Arrival::Udp`]) sends from the address it was asked at.
    ///
    /// # Errors
    ///
    /// [`SendError`]; datagrams over [`crate::packet::MAX_UDP_PAYLOAD`] bytes do not fit. After
    /// [`SendError::Full`] the datagram is best forgotten, as networks do.
    fn udp_send(
        &mut self,
        id: UdpId,
        remote: SocketAddrV6,
        payload: &[u8],
    ) -> Result<(), SendError>;

    /// The next datagram received.
    fn udp_recv(&mut self, id: UdpId) -> Option<(SocketAddrV6, BytesMut)>;

    /// Unbinds a UDP socket.
    fn udp_close(&mut self, id: UdpId);

    /// Sends an in-tunnel ping; [`StackEvent::Pong`] or [`StackEvent::PingLost`] follows.
    ///
    /// # Errors
    ///
    /// [`StackError::Unaddressable`], or [`StackError::TooMany`] when too many are unanswered.
    fn ping(&mut self, remote: Ipv6Addr, now: Instant) -> Result<PingId, StackError>;

    /// Takes one IP packet from the tunnel. The caller vouches for its source; packets that are
    /// malformed or not for us are dropped and counted.
    fn ingest(&mut self, packet: &[u8], now: Instant);

    /// Makes packets and hands them to `sink` until there is nothing to send or `sink` is full.
    fn poll_transmit(&mut self, sink: &mut dyn PacketSink, now: Instant);

    /// Whether something waits for [`Stack::poll_transmit`].
    fn wants_transmit(&self) -> bool;

    /// Lets timers fire that are due.
    fn handle_timeout(&mut self, now: Instant);

    /// When [`Stack::handle_timeout`] is wanted next.
    fn next_deadline(&self) -> Option<Instant>;

    /// The next event; to be called until `None`.
    fn poll_event(&mut self) -> Option<StackEvent>;

    /// How many TCP connections exist, those that end in the background included.
    fn connections(&self) -> usize;

    /// The TCP connections that are established and not over: our port and the other end of each.
    fn established(&self) -> Vec<(u16, SocketAddrV6)>;

    /// Counters.
    fn stats(&self) -> StackStats;
}

/// Addresses that a stack has at most; an agent has two. (smoltcp's list holds two unless it is
/// built otherwise.)
pub const MAX_OWN_ADDRESSES: usize = 2;

/// Something that waits for a decision; see [`Stack::forward`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// A SYN. It waits until [`Stack::accept_syn`] or [`Stack::refuse_syn`].
    Tcp {
        /// To answer it with.
        id: SynId,
        /// Our address and the port that is asked for.
        local: SocketAddrV6,
        /// Who asks.
        remote: SocketAddrV6,
    },
    /// The first datagram of a flow: of one port of one peer to one of ours. The flow is a UDP
    /// socket, whose first datagram waits; it lasts until [`Stack::udp_close`].
    Udp {
        /// The flow.
        id: UdpId,
        /// Our address and port.
        local: SocketAddrV6,
        /// The other end.
        remote: SocketAddrV6,
    },
}

/// Where a [`Stack`] puts its packets.
pub trait PacketSink {
    /// Whether a packet for `destination` can be taken now.
    fn admit(&mut self, destination: Ipv6Addr) -> Admission;

    /// An empty buffer with room for one packet of [`crate::packet::MTU`] bytes.
    fn buffer(&mut self) -> BytesMut;

    /// Takes a packet, in the buffer or in one of its own. Called once after `admit` agreed.
    fn send(&mut self, destination: Ipv6Addr, packet: BytesMut);
}

/// What a [`PacketSink`] says to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It can be sent.
    Yes,
    /// Not to this destination now; others may do.
    NotThere,
    /// Nothing at all can be taken now.
    Full,
}

/// What happened in a [`Stack`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StackEvent {
    /// A connection we opened is established.
    Connected(ConnectionId),
    /// Bytes arrived.
    Readable(ConnectionId),
    /// There is room again after a `send` that was cut short.
    Writable(ConnectionId),
    /// The other side will send no more; what arrived before can still be read.
    PeerClosed(ConnectionId),
    /// The other side answered our SYN with a RST. The connection is over, as after `Closed`.
    Refused(ConnectionId),
    /// The other side reset the connection. It is over, as after `Closed`.
    Reset(ConnectionId),
    /// The connection is over for another reason: finished, timed out, or its peer is gone. One of
    /// these three is the last event of a connection; its id stays valid for reading what arrived
    /// before, until `release` or `abort`, and [`ConnectionStatus::ended`] tells the reason too.
    Closed(ConnectionId, CloseReason),
    /// A connection waits to be accepted.
    Incoming(ListenerId),
    /// A datagram arrived.
    UdpReadable(UdpId),
    /// A ping was answered after this time.
    Pong(PingId, Duration),
    /// A ping was not answered in time, or its peer is gone.
    PingLost(PingId),
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// Both sides closed it.
    #[error("closed")]
    Finished,
    /// Nobody listens there.
    #[error("the connection was refused")]
    Refused,
    /// The other side reset it.
    #[error("the connection was reset by the other side")]
    Reset,
    /// The other side did not answer in time.
    #[error("the other side does not answer")]
    TimedOut,
    /// The peer is gone.
    #[error("the peer is gone")]
    PeerGone,
}

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// The other end.
    pub remote: SocketAddrV6,
    /// Our port.
    pub local_port: u16,
    /// The handshake is done and the connection not over.
    pub established: bool,
    /// Bytes that wait to be read.
    pub readable: usize,
    /// Bytes that `send` would take now.
    pub writable: usize,
    /// Bytes sent and not yet acknowledged, or not yet sent.
    pub unsent: usize,
    /// The other side has closed its direction.
    pub peer_closed: bool,
    /// We have closed ours.
    pub closed: bool,
    /// Why the connection is over, once it is.
    pub ended: Option<CloseReason>,
}

/// Why something could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StackError {
    /// An address or port that cannot be used inside the tunnel.
    #[error("not an address inside the tunnel")]
    Unaddressable,
    /// The port has another user.
    #[error("the port is in use")]
    PortInUse,
    /// All ephemeral ports are taken.
    #[error("no free port is left")]
    NoPort,
    /// Too many at once.
    #[error("too many at once")]
    TooMany,
}

/// Why nothing could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// Nothing has arrived yet.
    #[error("nothing to read yet")]
    Empty,
    /// The other side closed its direction, and everything was read.
    #[error("the other side has closed")]
    Finished,
    /// The connection failed.
    #[error(transparent)]
    Ended(CloseReason),
    /// No such connection.
    #[error("no such connection")]
    Unknown,
}

/// Why nothing could be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No room now.
    #[error("no room to send yet")]
    Full,
    /// We closed our direction.
    #[error("our direction is closed")]
    Closed,
    /// The connection is over.
    #[error(transparent)]
    Ended(CloseReason),
    /// The datagram does not fit a packet.
    #[error("a datagram of {0} bytes does not fit a packet")]
    TooLong(usize),
    /// Not an address inside the tunnel.
    #[error("not an address inside the tunnel")]
    Unaddressable,
    /// No such connection or socket.
    #[error("no such connection or socket")]
    Unknown,
}

/// Counters of a [`Stack`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StackStats {
    /// Packets taken in.
    pub packets_in: u64,
    /// Packets handed out.
    pub packets_out: u64,
    /// Packets dropped because they were malformed.
    pub malformed: u64,
    /// Packets dropped because they were not for us, or of a protocol we do not speak.
    pub unwanted: u64,
    /// Packets dropped because a queue was full (a backlog, a UDP socket, our answers).
    pub overflow: u64,
    /// TCP segments sent again.
    pub retransmitted: u64,
    /// RSTs sent to segments for no connection.
    pub strays: u64,
}
