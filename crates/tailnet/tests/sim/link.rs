//! One direction of a link.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::BytesMut;

/// What a link does to datagrams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkConfig {
    /// Time from one end to the other.
    pub(crate) delay: Duration,
    /// Up to this much more, different for each datagram: it reorders.
    pub(crate) jitter: Duration,
    /// Chance that a datagram is lost, in parts of a million.
    pub(crate) loss: u32,
    /// Chance that it arrives twice, in parts of a million.
    pub(crate) duplicate: u32,
    /// Bits per second; `None` for no limit.
    pub(crate) rate: Option<u64>,
    /// Datagrams that may wait for the rate; the newest is dropped beyond.
    pub(crate) queue: usize,
}

impl LinkConfig {
    /// A perfect link.
    pub(crate) const fn delay(delay: Duration) -> Self {
        Self { delay, jitter: Duration::ZERO, loss: 0, duplicate: 0, rate: None, queue: usize::MAX }
    }

    pub(crate) const fn rate(self, bits_per_second: u64) -> Self {
        Self { rate: Some(bits_per_second), ..self }
    }

    pub(crate) const fn queue(self, datagrams: usize) -> Self {
        Self { queue: datagrams, ..self }
    }

    pub(crate) const fn loss(self, parts_of_a_million: u32) -> Self {
        Self { loss: parts_of_a_million, ..self }
    }

    pub(crate) const fn duplicate(self, parts_of_a_million: u32) -> Self {
        Self { duplicate: parts_of_a_million, ..self }
    }

    pub(crate) const fn jitter(self, jitter: Duration) -> Self {
        Self { jitter, ..self }
    }
}

/// A link with datagrams on it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) config: LinkConfig,
    /// Datagrams under way, by arrival.
    under_way: BTreeMap<(Instant, u64), BytesMut>,
    sent: u64,
    /// When the sender's queue will be empty.
    free_at: Instant,
    leaving: std::collections::VecDeque<Instant>,
    pub(crate) dropped: u64,
    pub(crate) lost: u64,
}

impl Link {
    pub(crate) fn new(config: LinkConfig, now: Instant) -> Self {
        Self {
            config,
            under_way: BTreeMap::new(),
            sent: 0,
            free_at: now,
            leaving: std::collections::VecDeque::new(),
            dropped: 0,
            lost: 0,
        }
    }

    /// Datagrams that wait for the rate.
    pub(crate) fn queued(&mut self, now: Instant) -> usize {
        while self.leaving.front().is_some_and(|at| *at <= now) {
            self.leaving.pop_front();
        }
        self.leaving.len()
    }

    pub(crate) fn send(&mut self, datagram: BytesMut, now: Instant, rng: &mut Rng) {
        if self.queued(now) >= self.config.queue {
            self.dropped += 1;
            return;
        }
        let leaves = match self.config.rate {
            Some(rate) => {
                let time = Duration::from_nanos(datagram.len() as u64 * 8_000_000_000 / rate);
                self.free_at = self.free_at.max(now) + time;
                self.leaving.push_back(self.free_at);
                self.free_at
            }
            None => now,
        };
        if rng.chance(self.config.loss) {
            self.lost += 1;
            return;
        }
        if rng.chance(self.config.duplicate) {
            self.put(datagram.clone(), leaves, rng);
        }
        self.put(datagram, leaves, rng);
    }

    fn put(&mut self, datagram: BytesMut, leaves: Instant, rng: &mut Rng) {
        let jitter = self.config.jitter.as_nanos() as u64;
        let jitter = Duration::from_nanos(if jitter == 0 { 0 } else { rng.next() % jitter });
        self.sent += 1;
        self.under_way.insert((leaves + self.config.delay + jitter, self.sent), datagram);
    }

    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        self.under_way.keys().next().map(|(at, _)| *at)
    }

    pub(crate) fn receive(&mut self, now: Instant) -> Option<BytesMut> {
        let first = self.under_way.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }
}

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn chance(&mut self, parts_of_a_million: u32) -> bool {
        parts_of_a_million > 0 && self.below(1_000_000) < u64::from(parts_of_a_million)
    }
}
