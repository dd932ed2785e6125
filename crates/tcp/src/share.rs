//! What all connections have together: room on the way, and memory.
//!
//! Between us and a peer may be a relay that queues so many packets for it and drops the rest,
//! whatever connection they are of. So all of them together may have as much under way as the queue
//! holds and the way itself does. Each may fill an equal share, and each always has room for two
//! segments, so none is starved. A loss says that the queue holds less than was thought; long
//! without one it is tried again.

use std::time::Duration;

use crate::config::MSS;
use crate::time::Time;

/// Every connection may have this much under way, whatever the others do: two segments, because the
/// other end acknowledges every second one.
const LEAST: usize = 2 * MSS as usize;

/// No queue is taken to hold less: half of what a stock relay holds for a client (32 packets).
const LEAST_QUEUE: usize = 16 * MSS as usize;

/// The queue is taken to hold more again after so many bytes without a loss.
const CLEAN: usize = 16 << 20;

/// Losses this close belong together: connections lose in the same overflow.
const TOGETHER: Duration = Duration::from_millis(100);

/// Room on the way.
#[derive(Debug)]
pub(crate) struct Share {
    /// What the queue may hold at most, by configuration; `None` for no limit at all.
    most: Option<usize>,
    /// What it is thought to hold.
    queue: usize,
    clean: usize,
    lost: Option<Time>,
    way: Way,
    used: usize,
    /// Connections with something under way.
    active: usize,
}

impl Share {
    pub(crate) fn new(most: Option<usize>) -> Self {
        let queue = most.unwrap_or(0);
        Self { most, queue, clean: 0, lost: None, way: Way::default(), used: 0, active: 0 }
    }

    /// Bytes were acknowledged.
    pub(crate) fn acknowledged(&mut self, bytes: usize, now: Time) {
        let Some(most) = self.most else { return };
        self.way.acknowledged(bytes, now);
        self.clean += bytes;
        if self.clean >= CLEAN {
            self.clean = 0;
            self.queue = (self.queue + self.queue / 8).min(most);
        }
    }

    /// Bytes were lost.
    pub(crate) fn lost(&mut self, now: Time) {
        self.clean = 0;
        let known = |at| now.since(at) < TOGETHER;
        // Only if what was under way came near to what the queue is thought to hold.
        let full = self.used * 2 >= self.queue + self.way.holds();
        if full && !self.lost.replace(now).is_some_and(known) {
            self.queue = (self.queue / 4 * 3).max(LEAST_QUEUE);
        }
    }

    /// A round trip took this long.
    pub(crate) fn round_trip(&mut self, took: Duration, now: Time) {
        self.way.round_trip(took, now);
    }

    /// Replaces what a connection had under way by what it has now.
    pub(crate) fn update(&mut self, load: &mut usize, new: usize) {
        self.used = self.used - *load + new;
        self.active = self.active + usize::from(new > 0) - usize::from(*load > 0);
        *load = new;
    }

    /// Bytes that a connection may have under way which has `load` now.
    pub(crate) fn cap(&self, load: usize) -> usize {
        if self.most.is_none() {
            return usize::MAX;
        }
        let total = self.queue + self.way.holds();
        let streams = self.active + usize::from(load == 0);
        let free = total.saturating_sub(self.used);
        (total / streams.max(1)).min(load + free).max(LEAST)
    }
}

/// How much the way holds by itself: the rate of delivery times the shortest round trip (what
/// BBR calls the bandwidth-delay product).
#[derive(Debug, Default)]
struct Way {
    round_trip: Option<(Duration, Time)>,
    since: Time,
    delivered: usize,
    /// By the last measurements; the best counts, so that a pause does not cost the allowance.
    held: [usize; 8],
    next: usize,
}

/// Delivery is measured over a round trip, but no less than this: acknowledgements come in bursts,
/// and a burst is no rate.
const SHORTEST: Duration = Duration::from_millis(10);

/// A shortest round trip is believed for this long; ways change.
const BELIEVED: Duration = Duration::from_secs(300);

impl Way {
    fn round_trip(&mut self, took: Duration, now: Time) {
        let stale = |at| now.since(at) > BELIEVED;
        if self.round_trip.is_none_or(|(shortest, at)| took <= shortest || stale(at)) {
            self.round_trip = Some((took, now));
        }
    }

    fn acknowledged(&mut self, bytes: usize, now: Time) {
        self.delivered += bytes;
        let Some((round_trip, _)) = self.round_trip else { return };
        let window = round_trip.max(SHORTEST);
        let elapsed = now.since(self.since);
        if elapsed < window {
            return;
        }
        // After a pause the time says nothing about the rate.
        if elapsed < window * 4 {
            let held = self.delivered as u128 * round_trip.as_micros() / elapsed.as_micros().max(1);
            self.held[self.next] = usize::try_from(held).unwrap_or(usize::MAX);
            self.next = (self.next + 1) % self.held.len();
        }
        (self.since, self.delivered) = (now, 0);
    }

    fn holds(&self) -> usize {
        self.held.iter().copied().max().unwrap_or(0)
    }
}

/// Memory of all buffers.
#[derive(Debug)]
pub(crate) struct Memory {
    most: usize,
    used: usize,
}

/// A connection may always use this much, in bytes: a few segments each way.
const LEAST_MEMORY: usize = 16 * 1024;

impl Memory {
    pub(crate) const fn new(most: usize) -> Self {
        Self { most, used: 0 }
    }

    /// Replaces what a connection had by what it has now.
    pub(crate) fn update(&mut self, before: &mut usize, new: usize) {
        self.used = self.used - *before + new;
        *before = new;
    }

    /// Bytes in use.
    pub(crate) const fn used(&self) -> usize {
        self.used
    }

    /// How large one buffer may be. As memory runs out it is a part of what is left, so that it
    /// never does.
    pub(crate) fn allowance(&self) -> usize {
        if self.used < self.most / 2 {
            return self.most;
        }
        (self.most.saturating_sub(self.used) / 8).max(LEAST_MEMORY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn connections_share_and_none_is_starved() {
        let mut share = Share::new(Some(100_000));
        let (mut first, mut second) = (0, 0);
        assert_eq!(share.cap(first), 100_000);
        share.update(&mut first, 100_000);
        assert_eq!(share.cap(second), LEAST);
        share.update(&mut second, LEAST);
        share.update(&mut first, 70_000);
        assert_eq!(share.cap(first), 50_000);
        assert_eq!(share.cap(second), 100_000 - 70_000);
        share.update(&mut first, 0);
        assert_eq!(share.cap(second), 100_000);
    }

    #[test]
    fn a_queue_that_drops_is_filled_less_and_tried_again() {
        let mut share = Share::new(Some(100_000));
        let mut load = 0;
        share.lost(Time::default());
        assert_eq!(share.cap(load), 100_000, "nothing was under way");
        share.update(&mut load, 90_000);
        let mut now = Time::default();
        for _ in 0..5 {
            now = now + MS(10);
            share.lost(now);
        }
        assert_eq!(share.queue, 75_000);
        for _ in 0..10 {
            now = now + MS(200);
            share.lost(now);
        }
        assert_eq!(share.queue, LEAST_QUEUE);
        for _ in 0..200 {
            share.acknowledged(CLEAN, now);
        }
        assert_eq!(share.queue, 100_000);
    }

    #[test]
    fn a_long_way_holds_its_bandwidth_times_its_delay() {
        let mut share = Share::new(Some(100_000));
        share.round_trip(MS(50), Time::default());
        share.round_trip(MS(90), Time::default());
        for ms in 1..=200 {
            share.acknowledged(10_000, Time::default() + MS(ms));
        }
        assert_eq!(share.cap(0), 600_000);
    }

    #[test]
    fn memory_never_runs_out() {
        let mut memory = Memory::new(1 << 20);
        let mut sizes = [0; 100];
        for size in &mut sizes {
            let new = memory.allowance();
            memory.update(size, new.min(400_000));
        }
        assert!(memory.used() <= (1 << 20) + 100 * LEAST_MEMORY);
        assert_eq!(memory.allowance(), LEAST_MEMORY);
    }
}
