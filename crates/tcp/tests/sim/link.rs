//! One direction of a path: delay, rate, a queue, and what can happen to a packet.

use std::collections::VecDeque;
use std::time::Duration;

use coderctl_tcp::{MTU, Time};

/// Random numbers from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True so many times in a million.
    pub(crate) fn chance(&mut self, per_million: u64) -> bool {
        self.below(1_000_000) < per_million
    }
}

/// What a direction is like. Chances are per million packets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) delay: Duration,
    /// Bits for each second.
    pub(crate) rate: u64,
    /// Packets that wait for their turn; further ones are lost.
    pub(crate) queue: usize,
    pub(crate) loss: u64,
    pub(crate) doubling: u64,
    pub(crate) damage: u64,
    /// Packets that are held back for up to `held`, and so overtaken.
    pub(crate) overtaking: u64,
    pub(crate) held: Duration,
    /// The longest packet, in bytes; longer ones are lost.
    pub(crate) mtu: usize,
}

impl Way {
    /// Half a round trip, a rate in Mbit/s and a queue.
    pub(crate) fn new(rtt_ms: u64, mbit: u64, queue: usize) -> Self {
        Self {
            delay: Duration::from_micros(rtt_ms * 500),
            rate: mbit * 1_000_000,
            queue,
            loss: 0,
            doubling: 0,
            damage: 0,
            overtaking: 0,
            held: Duration::ZERO,
            mtu: MTU,
        }
    }

    pub(crate) fn carrying(self, mtu: usize) -> Self {
        Self { mtu, ..self }
    }

    pub(crate) fn losing(self, per_million: u64) -> Self {
        Self { loss: per_million, ..self }
    }
}

/// A direction at work.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) way: Way,
    random: Random,
    /// When the packets in the queue will have left, and the one on the wire.
    leaving: VecDeque<Time>,
    pub(crate) dropped: u64,
    pub(crate) carried: u64,
    /// The longest packet that was to be carried.
    pub(crate) longest: usize,
}

impl Link {
    pub(crate) fn new(way: Way, seed: u64) -> Self {
        let leaving = VecDeque::new();
        Self { way, random: Random(seed), leaving, dropped: 0, carried: 0, longest: 0 }
    }

    /// A packet enters: when its copies arrive, and as what.
    pub(crate) fn carry(&mut self, packet: Vec<u8>, now: Time) -> Vec<(Time, Vec<u8>)> {
        while self.leaving.front().is_some_and(|at| *at <= now) {
            self.leaving.pop_front();
        }
        self.longest = self.longest.max(packet.len());
        let fits = packet.len() <= self.way.mtu;
        if !fits || self.leaving.len() > self.way.queue || self.random.chance(self.way.loss) {
            self.dropped += 1;
            return Vec::new();
        }
        let takes = Duration::from_nanos(packet.len() as u64 * 8 * 1_000_000_000 / self.way.rate);
        let left = self.leaving.back().copied().unwrap_or(now).max(now) + takes;
        self.leaving.push_back(left);
        let mut packet = packet;
        if self.random.chance(self.way.damage) {
            let at = self.random.below(packet.len() as u64) as usize;
            packet[at] ^= 1 << self.random.below(8);
        }
        let mut arrivals = Vec::new();
        if self.random.chance(self.way.doubling) {
            arrivals.push((left + self.way.delay + self.held(), packet.clone()));
        }
        let late =
            if self.random.chance(self.way.overtaking) { self.held() } else { Duration::ZERO };
        arrivals.push((left + self.way.delay + late, packet));
        self.carried += 1;
        arrivals
    }

    fn held(&mut self) -> Duration {
        let most = self.way.held.as_micros() as u64;
        Duration::from_micros(self.random.below(most + 1))
    }
}
