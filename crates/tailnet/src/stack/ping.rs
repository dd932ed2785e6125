//! In-tunnel pings under way.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::PingId;

/// Pings that may be unanswered at once.
const MOST: usize = 256;

/// Our pings: those that wait for a tunnel and those that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Pings {
    /// By what they carry, which nobody can guess.
    open: BTreeMap<[u8; 8], Ping>,
    unsent: VecDeque<[u8; 8]>,
}

#[derive(Debug)]
struct Ping {
    id: PingId,
    remote: Ipv6Addr,
    sent: Option<Instant>,
    deadline: Instant,
}

impl Pings {
    /// Whether one more is allowed.
    pub(super) fn has_room(&self) -> bool {
        self.open.len() < MOST
    }

    pub(super) fn start(&mut self, id: PingId, data: [u8; 8], remote: Ipv6Addr, deadline: Instant) {
        self.open.insert(data, Ping { id, remote, sent: None, deadline });
        self.unsent.push_back(data);
    }

    pub(super) fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// The next ping that was not sent yet and where it goes. Either [`Pings::sent`] or
    /// [`Pings::put_back`] follows.
    pub(super) fn next(&mut self) -> Option<([u8; 8], Ipv6Addr)> {
        loop {
            let data = self.unsent.pop_front()?;
            if let Some(ping) = self.open.get(&data) {
                return Some((data, ping.remote));
            }
        }
    }

    pub(super) fn sent(&mut self, data: [u8; 8], now: Instant) {
        if let Some(ping) = self.open.get_mut(&data) {
            ping.sent = Some(now);
        }
    }

    pub(super) fn put_back(&mut self, data: [u8; 8]) {
        self.unsent.push_back(data);
    }

    /// Takes an answer. Only the pinged address may give it.
    pub(super) fn pong(
        &mut self,
        data: [u8; 8],
        from: Ipv6Addr,
        now: Instant,
    ) -> Option<(PingId, Duration)> {
        let ping = self.open.get(&data).filter(|ping| ping.remote == from)?;
        let answer = (ping.id, now.saturating_duration_since(ping.sent?));
        self.open.remove(&data);
        Some(answer)
    }

    /// Takes out those that waited for too long, and those to `gone`.
    pub(super) fn lost(&mut self, now: Instant, gone: Option<Ipv6Addr>) -> Vec<PingId> {
        let lost = |ping: &Ping| ping.deadline <= now || Some(ping.remote) == gone;
        let ids = self.open.values().filter(|ping| lost(ping)).map(|ping| ping.id).collect();
        self.open.retain(|_, ping| !lost(ping));
        ids
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.open.values().map(|ping| ping.deadline).min()
    }
}
