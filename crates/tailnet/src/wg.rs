//! WireGuard between us and one peer.
//!
//! A [`Tunnel`] turns IP packets into datagrams and back. It is driven like every pure part here:
//! `seal` and `open` for traffic, [`Tunnel::handle_timeout`] when [`Tunnel::next_deadline`] has
//! come, and after each of them [`Tunnel::poll_transmit`] until it is empty.
//!
//! ```text
//!            seal ─────────► ┌────────┐ ─► datagram
//!  IP packet                 │ Tunnel │     (initiation, response, keepalive,
//!            ◄───────── open └────────┘ ─►   what waited for a session: poll_transmit)
//! ```
//!
//! The life of a tunnel: [`Tunnel::connect`] sends an initiation as soon as the peer is known. The
//! peer may not know us yet, for the control plane tells both sides at about the same time and a
//! Go agent says it is ready before it is; it drops what it cannot place, and WireGuard itself
//! would stay silent for five seconds. So the *identical bytes* go out again after 2, 5, 10, 20, …
//! milliseconds (the private `repeat` module), which a peer that already has them drops as a
//! replay, until any handshake message comes back. Then data flows both ways; packets that were sealed before wait in a
//! short queue. The session is renewed while it is used, and a tunnel whose peer never answered
//! for 90 s sleeps until the next packet or keepalive wakes it.
//!
//! There are two implementations: [`NoiseTunnel`], the noise part of gotatun with our glue, and
//! [`PlainTunnel`], which encrypts nothing and takes its time from the caller, for simulations.

use std::time::{Duration, Instant};

use bytes::BytesMut;

mod noise;
mod plain;
mod repeat;
mod timers;

pub use noise::NoiseTunnel;
pub use plain::PlainTunnel;

/// Bytes that sealing adds to a packet: 16 of header, 16 of authentication tag
/// (WireGuard paper, 5.4.6).
pub const OVERHEAD: usize = 32;

/// Longest datagram of a tunnel that every way carries: a packet of the MTU and [`OVERHEAD`].
pub const MAX_DATAGRAM: usize = crate::packet::MTU + OVERHEAD;

/// How long a silent tunnel may stay silent while its peer is wanted (what Coder configures for a
/// peer in use: coder/coder: tailnet/configmaps.go).
pub const PERSISTENT_KEEPALIVE: Duration = Duration::from_secs(25);

/// One WireGuard relation with one peer key.
///
/// Nothing here blocks, and nothing reads the clock (the one exception is documented at
/// [`NoiseTunnel`]). `now` never goes backwards between calls.
pub trait Tunnel: Send {
    /// Starts a handshake at once, unless one is under way or a session exists.
    fn connect(&mut self, now: Instant);

    /// Whether [`Tunnel::seal`] would give a datagram right away.
    fn is_ready(&self) -> bool;

    /// Seals one IP packet. `None` when there is no session: the packet then waits in a short
    /// queue (the oldest makes room) and a handshake is started if none is under way.
    fn seal(&mut self, packet: BytesMut, now: Instant) -> Option<BytesMut>;

    /// Opens one datagram from the peer; `Ok(Some)` is an IP packet for the stack (perhaps with
    /// padding behind its end), `Ok(None)` something the tunnel needed for itself.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when the datagram does not belong here; nothing changed, it can be dropped.
    fn open(&mut self, datagram: BytesMut, now: Instant) -> Result<Option<BytesMut>, OpenError>;

    /// The next datagram the tunnel itself wants to send; to be called until `None`.
    fn poll_transmit(&mut self, now: Instant) -> Option<BytesMut>;

    /// Whether [`Tunnel::poll_transmit`] has something.
    fn wants_transmit(&self) -> bool;

    /// Lets timers fire that are due.
    fn handle_timeout(&mut self, now: Instant);

    /// When [`Tunnel::handle_timeout`] is wanted next. `None`: only traffic can change anything.
    fn next_deadline(&self) -> Option<Instant>;

    /// Sets the longest silence while the peer is wanted, `None` for no keepalives.
    fn set_keepalive(&mut self, interval: Option<Duration>);

    /// Where the handshake stands.
    fn handshake(&self) -> Handshake;

    /// Age of the current session, `None` without one.
    fn since_handshake(&self, now: Instant) -> Option<Duration>;

    /// What happened so far.
    fn stats(&self) -> TunnelStats;
}

/// Where a tunnel's handshake stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// No session, none wanted yet.
    Idle,
    /// An initiation is on its way and there is no session to send with.
    InProgress,
    /// A session exists.
    Established,
    /// The peer did not answer for 90 s; the next packet or keepalive starts over.
    Expired,
}

/// Counters of one tunnel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TunnelStats {
    /// Different initiations made by us; copies of one do not count.
    pub handshakes_initiated: u64,
    /// Handshakes completed, in either role.
    pub handshakes_completed: u64,
    /// Repeated initiations sent.
    pub initiation_copies: u64,
    /// Data packets sealed.
    pub packets_sealed: u64,
    /// Data packets opened.
    pub packets_opened: u64,
    /// Datagrams refused by [`Tunnel::open`].
    pub refused: u64,
    /// Packets dropped from the queue of those that wait for a session.
    pub queue_dropped: u64,
}

/// Why a datagram was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Neither the type nor the length of any WireGuard message.
    #[error("not a WireGuard message")]
    Malformed,
    /// The authentication failed, or the message is for another key.
    #[error("a WireGuard message that does not authenticate")]
    Unauthentic,
    /// Seen before, or too old: a copy of an initiation, a replayed data packet.
    #[error("a WireGuard message that was seen before")]
    Replay,
    /// For a session that is not (or no longer) ours.
    #[error("a WireGuard message for no current session")]
    NoSession,
}

impl std::ops::Add for TunnelStats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            handshakes_initiated: self.handshakes_initiated + other.handshakes_initiated,
            handshakes_completed: self.handshakes_completed + other.handshakes_completed,
            initiation_copies: self.initiation_copies + other.initiation_copies,
            packets_sealed: self.packets_sealed + other.packets_sealed,
            packets_opened: self.packets_opened + other.packets_opened,
            refused: self.refused + other.refused,
            queue_dropped: self.queue_dropped + other.queue_dropped,
        }
    }
}
