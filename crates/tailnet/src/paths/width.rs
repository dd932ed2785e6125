//! What a direct path carries, found out with pings as long as what is to be sent: path MTU discovery
//! at the packetization layer (DPLPMTUD; RFC 8899).
//!
//! ```text
//!   wanted ──► try the next step ── pong ──► carried; the next step, or the search is over
//!                 ▲     └── no pong, three times, or refused by our own system ──► the search is over
//!                 └── something long was lost: short packets, until this length has passed again
//! ```
//!
//! Nothing is tried before somebody wants it, so peers that take no more than the MTU see none of
//! this. Every peer answers, though: a pong says that the ping has arrived, however long it was.

use std::time::{Duration, Instant};

use crate::packet::{MTU, WIDEST};
use crate::wg::OVERHEAD;

/// Lengths of packets that are tried, in bytes: what passes where the network carries 1,452 bytes and
/// more (Ethernet's 1,500 and the cloud's 1,460, by IPv4 and IPv6), jumbo frames (9,000), and what is
/// only carried within a machine. Multiples of 16, to which WireGuard pads.
const STEPS: [usize; 3] = [1392, 8912, WIDEST];

/// Pings without a pong that prove a length not to pass (RFC 8899, 5.1.2: MAX_PROBES).
const TRIES: u32 = 3;

/// How long a pong is waited for (RFC 8899, 5.1.1: PROBE_TIMER, a second at least).
const PATIENCE: Duration = Duration::from_secs(1);

/// A search that is over begins again after this: paths change (RFC 8899, 5.1.1: PMTU_RAISE_TIMER).
const RAISE: Duration = Duration::from_secs(600);

/// What is known of a path.
#[derive(Debug)]
pub(super) struct Width {
    /// A packet of this length passes.
    carried: usize,
    /// One of this length does not.
    ceiling: usize,
    attempt: Option<Attempt>,
    /// What lies above is not tried before.
    rests_until: Option<Instant>,
}

/// A length that is being tried.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    packet: usize,
    pings: u32,
    /// When the next ping is due, or the length is given up.
    due: Instant,
}

impl Default for Width {
    fn default() -> Self {
        Self { carried: MTU, ceiling: usize::MAX, attempt: None, rests_until: None }
    }
}

impl Width {
    /// The longest packet that is known to pass, in bytes.
    pub(super) fn carried(&self) -> usize {
        self.carried
    }

    /// Somebody would send longer packets.
    pub(super) fn wanted(&mut self, now: Instant) {
        if self.attempt.is_some() || self.rests_until.is_some_and(|until| now < until) {
            return;
        }
        if self.rests_until.take().is_some() {
            self.ceiling = usize::MAX;
        }
        self.next_step(now);
    }

    fn next_step(&mut self, now: Instant) {
        let next = STEPS.into_iter().find(|step| *step > self.carried);
        self.attempt = next.filter(|packet| *packet < self.ceiling).map(|packet| Attempt {
            packet,
            pings: 0,
            due: now,
        });
        if self.attempt.is_none() {
            self.rests_until = Some(now + RAISE);
        }
    }

    /// The length of a packet to be tried now, if one is.
    pub(super) fn poll(&mut self, now: Instant) -> Option<usize> {
        loop {
            let attempt = self.attempt.as_mut().filter(|attempt| attempt.due <= now)?;
            if attempt.pings < TRIES {
                (attempt.pings, attempt.due) = (attempt.pings + 1, now + PATIENCE);
                return Some(attempt.packet);
            }
            self.ceiling = attempt.packet;
            self.next_step(now);
        }
    }

    /// When [`Width::poll`] is wanted next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.attempt.map(|attempt| attempt.due)
    }

    /// A ping as long as such a packet has its pong.
    pub(super) fn passed(&mut self, packet: usize, now: Instant) {
        if self.attempt.is_some_and(|attempt| attempt.packet == packet) {
            self.carried = packet;
            self.next_step(now);
        }
    }

    /// A long packet was lost: perhaps the path carries them no more.
    pub(super) fn doubted(&mut self, now: Instant) {
        if self.carried > MTU {
            self.attempt = Some(Attempt { packet: self.carried, pings: 0, due: now });
            self.carried = MTU;
        }
    }

    /// Our own system refused a datagram of this length.
    pub(super) fn too_long(&mut self, datagram: usize, now: Instant) {
        let refused = |packet: usize| packet > MTU && packet + OVERHEAD >= datagram;
        let attempted = self.attempt.is_some_and(|attempt| refused(attempt.packet));
        if refused(self.carried) || attempted {
            let carried = if refused(self.carried) { MTU } else { self.carried };
            *self = Self { carried, ceiling: datagram.saturating_sub(OVERHEAD), ..Self::default() };
            self.next_step(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that carries packets of so many bytes, and what was tried on it.
    struct World {
        width: Width,
        now: Instant,
        carries: usize,
        tried: Vec<usize>,
    }

    impl World {
        fn new(carries: usize) -> Self {
            let (width, now, tried) = (Width::default(), Instant::now(), Vec::new());
            Self { width, now, carries, tried }
        }

        /// Lets everything happen until nothing is tried any more.
        fn settle(&mut self) -> (usize, Vec<usize>) {
            while let Some(due) = self.width.next_deadline() {
                self.now = self.now.max(due);
                if let Some(packet) = self.width.poll(self.now) {
                    self.tried.push(packet);
                    if packet <= self.carries {
                        self.width.passed(packet, self.now);
                    }
                }
            }
            (self.width.carried(), std::mem::take(&mut self.tried))
        }
    }

    #[test]
    fn each_step_is_tried_that_may_pass() {
        let [ethernet, jumbo, widest] = STEPS;
        for (carries, carried, tried) in [
            (MTU, MTU, vec![ethernet; 3]),
            (ethernet + 10, ethernet, vec![ethernet, jumbo, jumbo, jumbo]),
            (jumbo, jumbo, vec![ethernet, jumbo, widest, widest, widest]),
            (65_000, widest, vec![ethernet, jumbo, widest]),
        ] {
            let mut world = World::new(carries);
            assert_eq!(world.settle(), (MTU, vec![]), "nobody wants it");
            world.width.wanted(world.now);
            assert_eq!(world.settle(), (carried, tried.clone()));
            world.width.wanted(world.now);
            assert_eq!(world.settle(), (carried, vec![]), "it was tried a moment ago");
            world.now += RAISE;
            world.width.wanted(world.now);
            let again = tried.into_iter().filter(|step| *step > carried).collect();
            assert_eq!(world.settle(), (carried, again), "paths change");
        }
    }

    #[test]
    fn steps_are_packets_that_wireguard_need_not_pad() {
        assert!(STEPS.iter().chain(&[MTU]).all(|step| step.is_multiple_of(16)));
        assert!(STEPS.is_sorted() && STEPS[0] > MTU);
    }

    #[test]
    fn a_doubt_counts_at_once_and_is_cleared_by_a_pong_of_the_same_length() {
        let mut world = World::new(65_000);
        world.width.doubted(world.now);
        assert_eq!(world.settle(), (MTU, vec![]), "there is nothing to doubt");
        world.width.wanted(world.now);
        world.settle();
        world.width.doubted(world.now);
        assert_eq!(world.width.carried(), MTU);
        assert_eq!(world.settle(), (WIDEST, vec![WIDEST]));
    }

    #[test]
    fn a_doubt_that_was_right_finds_what_still_passes() {
        let [ethernet, jumbo, widest] = STEPS;
        for (carries, carried, tried) in [
            (MTU, MTU, vec![widest, widest, widest, ethernet, ethernet, ethernet]),
            (jumbo, jumbo, vec![widest, widest, widest, ethernet, jumbo]),
        ] {
            let mut world = World::new(65_000);
            world.width.wanted(world.now);
            world.settle();
            world.carries = carries;
            world.width.doubted(world.now);
            assert_eq!(world.settle(), (carried, tried));
        }
    }

    #[test]
    fn what_our_own_system_refuses_is_not_waited_for() {
        let [ethernet, jumbo, _] = STEPS;
        let mut world = World::new(65_000);
        world.width.wanted(world.now);
        for packet in [ethernet, jumbo] {
            assert_eq!(world.width.poll(world.now), Some(packet));
            if packet == ethernet {
                world.width.passed(packet, world.now);
            } else {
                world.width.too_long(packet + OVERHEAD, world.now);
            }
        }
        assert_eq!(world.settle(), (ethernet, vec![]));
        // Where less does not pass, what was known to pass does not, either.
        world.width.too_long(MTU + OVERHEAD, world.now);
        assert_eq!(world.settle(), (MTU, vec![]));
    }

    #[test]
    fn a_shorter_network_of_our_own_is_searched_again() {
        let [ethernet, jumbo, widest] = STEPS;
        let mut world = World::new(65_000);
        world.width.wanted(world.now);
        world.settle();
        world.carries = jumbo;
        world.width.too_long(widest + OVERHEAD, world.now);
        assert_eq!(world.width.carried(), MTU);
        assert_eq!(world.settle(), (jumbo, vec![ethernet, jumbo]));
    }
}
