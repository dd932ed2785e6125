//! The path in use, and what makes us ask whether it still is one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::TRUST;
use super::width::Width;

/// The best address so far.
#[derive(Debug)]
pub(super) struct Best {
    pub(super) address: SocketAddr,
    pub(super) latency: Duration,
    pub(super) trusted_until: Instant,
    /// The last pong.
    pub(super) proven: Instant,
    /// The first datagram that was sent there since something came back.
    pub(super) unanswered: Option<Instant>,
    pub(super) asked: Option<Asked>,
    pub(super) doubted: Option<Instant>,
    /// From where the peer saw us come there.
    pub(super) seen: SocketAddr,
    pub(super) width: Width,
}

/// A question for a pong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) since: Instant,
    pub(super) again: Instant,
    /// There is a reason to use the relay as well: the peer does, or it is silent.
    pub(super) warned: bool,
    /// The peer was told from where it sees us come.
    pub(super) named: bool,
}

impl Best {
    /// An address that has just answered.
    pub(super) fn new(
        address: SocketAddr,
        seen: SocketAddr,
        latency: Duration,
        width: Width,
        now: Instant,
    ) -> Self {
        Self {
            address,
            latency,
            trusted_until: now + TRUST,
            proven: now,
            unanswered: None,
            asked: None,
            doubted: None,
            seen,
            width,
        }
    }

    pub(super) fn is_trusted(&self, now: Instant) -> bool {
        self.doubted.is_none() && now < self.trusted_until
    }
}
