//! What connections have together: room on the way, and memory.
//!
//! Between us and a peer may be a relay that queues so many packets for it and drops the rest,
//! whatever connection they are of. So all in one lane ([`Lanes`]) together may have as much under
//! way as the queue holds and the way itself does. Each may fill an equal share, and each always has room for two
//! segments, so none is starved. A loss says that the queue holds less than was thought; long
//! without one it is tried again.

use std::time::Duration;

mod intake;
mod lanes;
mod memory;
mod way;

pub(crate) use intake::{Intake, Part};
pub use lanes::Lane;
pub(crate) use lanes::Lanes;
pub(crate) use memory::Memory;
use way::Between;

use crate::config::MSS;
use crate::time::Time;

/// Every connection may have this much under way, whatever the others do: two segments, because the
/// other end acknowledges every second one.
const LEAST: usize = 2 * MSS as usize;

/// For so long after somebody with little to send has sent it, those with much leave room.
const ATTENTIVE: Duration = Duration::from_secs(1);

/// Others have so much under way, in bytes, that they would have to leave room.
const MUCH: usize = 32 * 1024;

/// Room on the way out.
#[derive(Debug)]
pub(crate) struct Share {
    /// `None` for no limit at all.
    between: Option<Between>,
    used: usize,
    /// Somebody waits for short answers until then.
    attentive_until: Option<Time>,
    /// Connections with something under way.
    active: usize,
}

impl Share {
    pub(crate) fn new(most: Option<usize>) -> Self {
        Self { between: most.map(Between::new), used: 0, attentive_until: None, active: 0 }
    }

    /// Bytes were acknowledged.
    pub(crate) fn acknowledged(&mut self, bytes: usize, now: Time) {
        if let Some(between) = &mut self.between {
            between.carried(bytes, now);
        }
    }

    /// Bytes were lost.
    pub(crate) fn lost(&mut self, now: Time) {
        if let Some(between) = &mut self.between
            // A queue overflows only if what was under way came near to what it is thought to hold.
            && self.used * 2 >= between.holds()
        {
            between.lost(now);
        }
    }

    /// A round trip took this long.
    pub(crate) fn round_trip(&mut self, took: Duration, now: Time) {
        if let Some(between) = &mut self.between {
            between.round_trip(took, now);
        }
    }

    /// Replaces what a connection had under way by what it has now.
    pub(crate) fn update(&mut self, load: &mut usize, new: usize) {
        self.used = self.used - *load + new;
        self.active = self.active + usize::from(new > 0) - usize::from(*load > 0);
        *load = new;
    }

    /// A connection with little to send, and `load` under way, sends it.
    pub(crate) fn sends_little(&mut self, load: usize, now: Time) {
        if self.used - load >= MUCH {
            self.attentive_until = Some(now + ATTENTIVE);
        }
    }

    /// Bytes that a connection may have under way which has `load` now.
    pub(crate) fn cap(&self, load: usize, now: Time) -> usize {
        let Some(between) = &self.between else { return usize::MAX };
        let total = match self.attentive_until {
            Some(until) if now < until => between.holds_shortly(),
            Some(_) | None => between.holds(),
        };
        let streams = self.active + usize::from(load == 0);
        let free = total.saturating_sub(self.used);
        (total / streams.max(1)).min(load + free).max(LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::way::{CLEAN, LEAST_QUEUE};
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn connections_share_and_none_is_starved() {
        let mut share = Share::new(Some(100_000));
        let (mut first, mut second) = (0, 0);
        assert_eq!(share.cap(first, Time::default()), 100_000);
        share.update(&mut first, 100_000);
        assert_eq!(share.cap(second, Time::default()), LEAST);
        share.update(&mut second, LEAST);
        share.update(&mut first, 70_000);
        assert_eq!(share.cap(first, Time::default()), 50_000);
        assert_eq!(share.cap(second, Time::default()), 100_000 - 70_000);
        share.update(&mut first, 0);
        assert_eq!(share.cap(second, Time::default()), 100_000);
    }

    #[test]
    fn a_queue_that_drops_is_filled_less_and_tried_again() {
        let mut share = Share::new(Some(100_000));
        let mut load = 0;
        share.lost(Time::default());
        assert_eq!(share.cap(load, Time::default()), 100_000, "nothing was under way");
        share.update(&mut load, 90_000);
        let mut now = Time::default();
        for _ in 0..5 {
            now = now + MS(10);
            share.lost(now);
        }
        assert_eq!(share.cap(load, Time::default()), 75_000);
        for _ in 0..10 {
            now = now + MS(200);
            share.lost(now);
        }
        assert_eq!(share.cap(load, Time::default()), LEAST_QUEUE);
        for _ in 0..200 {
            share.acknowledged(CLEAN, now);
        }
        assert_eq!(share.cap(load, Time::default()), 100_000);
    }

    #[test]
    fn who_has_much_to_send_leaves_room_while_somebody_with_little_sends() {
        let mut share = Share::new(Some(400_000));
        let (mut much, little) = (0, 0);
        let mut now = Time::default();
        share.round_trip(MS(10), now);
        for _ in 0..200 {
            now = now + MS(1);
            share.acknowledged(10_000, now);
        }
        share.update(&mut much, MUCH - 1);
        share.sends_little(little, now);
        assert_eq!(share.cap(much, now), 500_000, "nobody is in the way");
        share.update(&mut much, 300_000);
        share.sends_little(little, now);
        assert_eq!(share.cap(much, now), 200_000);
        assert_eq!(share.cap(much, now + ATTENTIVE), 500_000);
    }

    #[test]
    fn a_long_way_holds_its_bandwidth_times_its_delay() {
        let mut share = Share::new(Some(100_000));
        share.round_trip(MS(50), Time::default());
        share.round_trip(MS(90), Time::default());
        for ms in 1..=200 {
            share.acknowledged(10_000, Time::default() + MS(ms));
        }
        assert_eq!(share.cap(0, Time::default()), 600_000);
    }
}
