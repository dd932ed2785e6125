//! What one client, and all of them, may cost.

use std::time::Duration;

/// What one client, and all of them, may cost. The default is for a deployment of thousands of
/// peers; nothing but memory and patience depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time, 16384. An agent has one, a client one.
    pub clients: usize,
    /// Connections with the same key, 8; the oldest gives way. A client that changes networks has
    /// two for a while.
    pub same_key: usize,
    /// Connections that have not introduced themselves yet, 256: each costs a curve
    /// multiplication, and nobody has vouched for it.
    pub logins: usize,
    /// Time for the introduction, 10 s (coder/tailscale: derp/derp_server.go).
    pub login_time: Duration,
    /// Bytes of packets that wait for one client, 1 MiB, beside one write of at most 64 KiB that
    /// is under way. Upstream waits with 512 packets, which are 0.7 MB when they are full (Coder
    /// raised it from 32 and gained a factor of six: derp/derp_server.go); bytes bound the memory
    /// and hold more acknowledgements.
    pub queued: usize,
    /// Bytes of urgent frames that wait for one client, 64 KiB: disco, pongs, notices.
    pub urgent: usize,
    /// Time for a client to take some of what is written, 20 s; then it is gone. Upstream allows
    /// 2 s, which throws out a laptop that sleeps for a moment; here a slow client holds up nobody
    /// and costs no more than its queue.
    pub write_time: Duration,
    /// Between two signs of life to a client, 60 s, plus up to a twelfth (same source).
    pub keep_alive: Duration,
    /// How often each client is looked at, 30 s: whether it lives, is known, and needs its buffer.
    pub look: Duration,
    /// How long a key may stay that the coordinator does not know, 60 s. Relay and coordinator are
    /// dialled at the same time, and after a restart an agent may need 10 s for its next dial.
    pub unknown: Duration,
    /// Frames other than packets that a client may send at once, 256, and then each second, 32.
    /// An honest one sends a few a minute.
    pub control_burst: u32,
    /// See [`control_burst`](Self::control_burst).
    pub control_rate: u32,
    /// Bytes of packets a second that one client may send, framing included, and as many at once;
    /// `None` for any number. A client is told and keeps to it itself; what comes above it is
    /// dropped.
    pub rate: Option<u64>,
    /// Peers that are remembered as having heard from a client, 4096; they are told when it leaves.
    pub remembered: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 16_384,
            same_key: 8,
            logins: 256,
            login_time: Duration::from_secs(10),
            queued: 1 << 20,
            urgent: 64 << 10,
            write_time: Duration::from_secs(20),
            keep_alive: Duration::from_secs(60),
            look: Duration::from_secs(30),
            unknown: Duration::from_secs(60),
            control_burst: 256,
            control_rate: 32,
            rate: None,
            remembered: 4096,
        }
    }
}
