//! What a [`Tcp`](crate::Tcp) is made with.

use std::time::Duration;

use crate::congestion::Congestion;

/// Largest IP packet inside the tunnel, in bytes (coder/coder: tailnet/conn.go; also IPv6's
/// minimum, RFC 8200, 5).
pub const MTU: usize = 1280;

/// Largest IP packet that is made where the other end takes it and the way carries it, in bytes: what
/// is spent on each packet is then small beside what is spent on its bytes (measured: less gains
/// less, more gains nothing). Four such datagrams fit one system call.
pub const WIDEST: usize = 15_712;

/// Both headers, in bytes.
pub(crate) const HEADERS: usize = 40 + 20;

/// Largest segment that passes on every way: the MTU without both headers (RFC 9293, 3.7.1).
pub(crate) const MSS: u16 = (MTU - HEADERS) as u16;

/// The configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Initial sequence numbers and ports follow from it (RFC 6528, RFC 6056), and so does the
    /// order of the table. Must be unpredictable in use, and may be fixed in a simulation.
    pub key: (u64, u64),
    /// How long a connection may wait for its other end, to be opened or to have data or the end
    /// acknowledged, while nothing at all arrives.
    pub user_timeout: Duration,
    /// Idle time after which a keep-alive question asks whether the other end is still there.
    pub keep_alive: Option<Duration>,
    /// Largest IP packet that other ends are told they may send, in bytes: [`MTU`] to [`WIDEST`].
    pub widest: usize,
    /// Whether timestamps (RFC 7323) are offered and accepted.
    pub timestamps: bool,
    /// What new connections have for congestion control.
    pub congestion: Congestion,
    /// Bytes that all connections of a [lane](crate::Lane) together may have in queues on their way,
    /// beyond what the way itself holds; `None` for no limit.
    pub in_flight: Option<usize>,
    /// Bytes that all other ends of a lane together may have in queues on their way to us, beyond
    /// what the way itself holds; `None` for no limit.
    pub intake: Option<usize>,
    /// Memory for the buffers of all connections together, in bytes. When most of it is used,
    /// buffers stop growing.
    pub memory: usize,
}

impl Config {
    /// A connection is dead when this many keep-alive intervals brought no answer.
    pub(crate) const KEEP_ALIVES: u32 = 2;

    /// Upstream gives up after five retransmissions, 15 to 30 s (coder/coder: tailnet/conn.go); a
    /// restarted relay takes up to 10 s to be reached again, so the upper end.
    pub const USER_TIMEOUT: Duration = Duration::from_secs(30);

    /// Upstream's interval on SSH ports (coder/coder: agent/agent.go).
    pub const KEEP_ALIVE: Duration = Duration::from_secs(72);

    /// 400 full segments: the embedded relay queues 512 packets for a client.
    pub const IN_FLIGHT: usize = 400 * MSS as usize;

    /// What the relay queues, nearly full; beyond it a Go agent's own queue drops (measured: 512 KiB
    /// gave 1.1 to 3 times the download of 1 MiB).
    pub const INTAKE: usize = 512 * 1024;

    /// Ten connections at their largest, both ways.
    pub const MEMORY: usize = 128 << 20;

    /// The usual limits.
    pub fn new(key: (u64, u64)) -> Self {
        Self {
            key,
            user_timeout: Self::USER_TIMEOUT,
            keep_alive: Some(Self::KEEP_ALIVE),
            widest: WIDEST,
            timestamps: true,
            congestion: Congestion::Cubic,
            in_flight: Some(Self::IN_FLIGHT),
            intake: Some(Self::INTAKE),
            memory: Self::MEMORY,
        }
    }
}
