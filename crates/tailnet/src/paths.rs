//! Which ways lead to a peer, and which of them its datagrams take.
//!
//! ```text
//!   candidates ── ping, pong ──► best (latency, trusted until) ──► Way::Direct
//!       ▲                             │ doubted, or its trust is over
//!       │                             ▼
//!   node · call-me-maybe · data    Way::Both ── no best at all ──► Way::Relay
//! ```
//!
//! Datagrams go through the relay until an address has answered a ping; from then on to that
//! address alone, as long as it keeps answering. When it does not, they take both ways until either
//! the address or another one answers, or none does: WireGuard drops what arrives twice, and TCP
//! notices nothing.
//!
//! **How a dead path is noticed.** Three things make us ask the peer for a pong on the path in use:
//! something was sent there and nothing came back for a while ([`quiet`]); the peer itself sends
//! through the relay, so it has its doubts; a heartbeat is due. A question is repeated every
//! [`ASK_EVERY`]; after another [`quiet`] without a pong datagrams take both ways, and after [`give_up`]
//! the path is in doubt and others are looked for. So a path that died is
//! left within about a second while data flows, in whichever direction it died. Upstream waits for
//! its trust to run out instead, [`TRUST`] after the last pong.
//!
//! **How the peer is made to leave it, too.** One that only waits goes on sending into a path that
//! carries nothing but small packets, or nothing in one direction, and upstream's TCP gives up when
//! the same segment was lost six times: 12.6 s after the first (coder/tailscale:
//! wgengine/netstack, `maxRetries`). But an address that one call-me-maybe names and the next does
//! not is dropped at once, and with it the path to it (`endpoint.go`, `handleCallMeMaybe`). So a
//! path that is no longer sure is named in a call-me-maybe, one that is given up is taken back in
//! an empty one, and the next names again where we may be reached, for the search goes on.
//!
//! **How long a datagram may be.** One with a packet of the MTU passes everywhere. What a direct path
//! carries beyond is found out with longer pings once somebody has much to send to a peer that takes
//! it, and forgotten with the path (the private `width` module).
//!
//! What is here is pure and about one peer; sealing, and who may ask at all, is the engine's.
//! Numbers without another source are those of coder/tailscale: wgengine/magicsock
//! (`magicsock.go`, `endpoint.go`).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::ids::{Prefix, RegionId};
use crate::packet::MTU;

mod best;
mod better;
mod candidates;
mod peer;
mod width;

pub(crate) use peer::{Call, Outgoing, PeerPaths};

/// A path is trusted for this long after a pong.
pub const TRUST: Duration = Duration::from_millis(6500);

/// How often the path in use is asked while data flows. Upstream's is 3 s; ours leaves room for
/// noticing within three seconds a path that died in one direction only.
pub const HEARTBEAT: Duration = Duration::from_secs(2);

/// A peer is in use for this long after the last data was sent to it.
pub const IN_USE: Duration = Duration::from_secs(45);

/// A candidate is not pinged again before this time, but when something new is known.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Nor before this time where the peer's own datagrams come from it: it very likely works, but for
/// a pong that was lost.
pub const HEARD_INTERVAL: Duration = Duration::from_secs(1);

/// A ping that has no pong by now will have none. A doubted path is given up then, too.
pub const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a path that is slower than [`GOOD_ENOUGH`] is compared with the others.
pub const UPGRADE_INTERVAL: Duration = Duration::from_secs(60);

/// A path of this latency needs no better one.
pub const GOOD_ENOUGH: Duration = Duration::from_millis(5);

/// A question on the path in use is repeated this often. With five of them unanswered, a path that
/// loses one datagram in ten each way is doubted once in four thousand questions.
pub const ASK_EVERY: Duration = Duration::from_millis(200);

/// Candidates kept of one peer; upstream prunes its own at the same number.
pub const MAX_CANDIDATES: usize = 100;

/// Candidates pinged at once: what a peer says is believed, but it shall not have us send more than
/// this to strangers for one small message.
pub const MAX_BURST: usize = 32;

/// Addresses from which a peer's WireGuard datagrams are taken.
pub const MAX_PROVEN: usize = 16;

/// The longest packet that goes through a relay, in bytes. Relays pass on 64 KiB (coder/tailscale:
/// derp/derp.go, `MaxPacketSize`), and on loopback longer ones gave 1.6 times the throughput. But on a
/// long way, with a short queue in the relay, several streams got less by them.
pub const RELAY_WIDTH: usize = MTU;

/// For how long the other end may be silent on a path of this latency before it is asked. TCP
/// answers within a round trip and its delayed acknowledgement.
#[must_use]
pub fn quiet(latency: Duration) -> Duration {
    (latency * 2).max(Duration::from_millis(200))
}

/// For how long a question on a path of this latency may go unanswered. Queues make a path slower
/// than its last pong said.
#[must_use]
pub fn give_up(latency: Duration) -> Duration {
    (latency * 4).clamp(Duration::from_millis(800), Duration::from_millis(2000))
}

/// A way that datagrams take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// Through a relay region.
    Relay(RegionId),
    /// Straight to an address.
    Direct(SocketAddr),
}

/// How a peer is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathInfo {
    /// The way its datagrams take.
    pub path: Path,
    /// Of the last disco ping on it, there and back; `None` for a relay that was not asked.
    pub latency: Option<Duration>,
    /// Since when it is this way.
    pub since: Instant,
}

/// The way of the next datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Relay,
    Direct(SocketAddr),
    Both(SocketAddr),
}

/// Whether a peer may really be at an address that it names. IPv6 link-local addresses lack the
/// interface, tunnel addresses would lead a tunnel into itself.
pub(crate) fn is_endpoint(endpoint: &SocketAddr) -> bool {
    let ip = endpoint.ip();
    let possible = match ip {
        IpAddr::V4(ip) => !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local() && !is_in_tunnel(&ip),
    };
    possible && endpoint.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()
}

/// Whether an address is of one of the networks inside the tunnel.
pub(crate) fn is_in_tunnel(ip: &std::net::Ipv6Addr) -> bool {
    [Prefix::Coder, Prefix::Tailscale].iter().any(|prefix| prefix.contains(ip))
}
