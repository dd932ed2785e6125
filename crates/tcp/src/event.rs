//! What a [`Tcp`](crate::Tcp) tells, and why it refuses.

use std::net::{Ipv6Addr, SocketAddrV6};

use bytes::BytesMut;

use crate::connection::State;

/// A connection. Never used twice within one [`Tcp`](crate::Tcp).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub(crate) u64);

/// What happened. Events are edges, at most one of a kind pending for each connection;
/// [`Tcp::status`](crate::Tcp::status) has the level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The handshake is done.
    Connected(Id),
    /// Bytes arrived.
    Readable(Id),
    /// There is room again after a write that was cut short.
    Writable(Id),
    /// The other side will send no more; what arrived before can still be read.
    PeerClosed(Id),
    /// The connection is over: its last event. What arrived before can still be read.
    Ended(Id, CloseReason),
}

impl Event {
    /// The connection that it happened to.
    pub const fn connection(&self) -> Id {
        match self {
            Self::Connected(id)
            | Self::Readable(id)
            | Self::Writable(id)
            | Self::PeerClosed(id)
            | Self::Ended(id, _) => *id,
        }
    }
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

/// What became of a segment that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to a connection.
    Taken,
    /// It asks for a connection. [`Tcp::answer`](crate::Tcp::answer) with the same bytes accepts
    /// it, [`Tcp::refuse`](crate::Tcp::refuse) refuses it; otherwise its sender will ask again.
    Asks {
        /// Our address and the port that is asked for.
        local: SocketAddrV6,
        /// Who asks.
        remote: SocketAddrV6,
    },
    /// A RST to no connection: perhaps it takes a SYN back that was not answered yet.
    TakesBack {
        /// Our address and port.
        local: SocketAddrV6,
        /// The other end.
        remote: SocketAddrV6,
    },
    /// It belongs to nothing, and is answered with a RST.
    Stray,
    /// It is damaged or contradicts itself, and is dropped.
    Malformed,
}

/// News about how long packets to somebody may be; see [`Tcp::poll_width`](crate::Tcp::poll_width).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WidthNews {
    /// The other end takes longer packets than the way is known to carry, and there is enough to send
    /// to gain by them.
    Wanted(Ipv6Addr),
    /// A packet longer than [`MTU`](crate::MTU) was lost. It is sent again in shorter ones.
    Lost(Ipv6Addr),
}

/// Where packets go.
pub trait PacketSink {
    /// Whether a packet for `destination` can be taken now.
    fn admit(&mut self, destination: Ipv6Addr) -> Admission;

    /// Takes a packet. Called once after `admit` agreed. Behind its end there is room to pad it to a
    /// multiple of 16 bytes.
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

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Our address and port.
    pub local: SocketAddrV6,
    /// The other end.
    pub remote: SocketAddrV6,
    /// What RFC 9293 calls it.
    pub state: State,
    /// Bytes that wait to be read.
    pub readable: usize,
    /// Bytes that a write would take now.
    pub writable: usize,
    /// Bytes not yet acknowledged, sent or not.
    pub unsent: usize,
    /// The other side has closed its direction.
    pub peer_closed: bool,
    /// We have closed ours.
    pub closed: bool,
    /// Why the connection is over, once it is.
    pub ended: Option<CloseReason>,
}

impl Status {
    /// The handshake is done and the connection not over.
    pub const fn is_open(&self) -> bool {
        match self.state {
            State::SynSent | State::SynReceived | State::Closed => false,
            State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck => true,
        }
    }
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
    /// No room now; [`Event::Writable`] follows.
    #[error("no room to send yet")]
    Full,
    /// We closed our direction.
    #[error("our direction is closed")]
    Closed,
    /// The connection is over.
    #[error(transparent)]
    Ended(CloseReason),
    /// No such connection.
    #[error("no such connection")]
    Unknown,
}

/// All ephemeral ports towards a destination are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no free port is left")]
pub struct NoPort;

/// Counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Segments taken in.
    pub segments_in: u64,
    /// Segments handed out.
    pub segments_out: u64,
    /// Segments dropped because they were malformed.
    pub malformed: u64,
    /// Segments sent again.
    pub retransmitted: u64,
    /// RSTs sent to segments for no connection.
    pub strays: u64,
    /// Answers dropped because too many waited.
    pub overflow: u64,
}
