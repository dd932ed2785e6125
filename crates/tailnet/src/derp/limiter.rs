//! The rate that a relay grants to one client.
//!
//! A relay that announces one stops reading when it is exceeded, which delays what matters along
//! with what does not; so what is too much is dropped here (coder/tailscale: derp/derp_client.go).

use std::time::Instant;

use super::frame::SEND_OVERHEAD;
use super::login::ServerInfo;

/// A token bucket of bytes.
#[derive(Debug, Clone)]
pub struct Limiter {
    rate: u64,
    burst: u64,
    /// Bytes times a billion, so that nothing is lost to rounding.
    tokens: u128,
    filled: Instant,
}

impl Limiter {
    /// As the relay announced it, `None` when it announced none.
    pub fn new(info: &ServerInfo, now: Instant) -> Option<Limiter> {
        if info.bytes_per_second == 0 {
            return None;
        }
        // A burst below one packet would let nothing pass.
        let burst = info.bytes_burst.max(2048);
        let tokens = u128::from(burst) * NANOS;
        Some(Limiter { rate: info.bytes_per_second, burst, tokens, filled: now })
    }

    /// Whether a packet keeps to the rate; framing counts.
    pub fn take_packet(&mut self, length: usize, now: Instant) -> bool {
        self.take((length + SEND_OVERHEAD) as u64, now)
    }

    /// Takes so many bytes out if they are there.
    pub fn take(&mut self, bytes: u64, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled).as_nanos();
        self.filled = now;
        let filled = self.tokens.saturating_add(elapsed.saturating_mul(self.rate.into()));
        self.tokens = filled.min(u128::from(self.burst) * NANOS);
        match self.tokens.checked_sub(u128::from(bytes) * NANOS) {
            Some(rest) => {
                self.tokens = rest;
                true
            }
            None => false,
        }
    }
}

const NANOS: u128 = 1_000_000_000;
