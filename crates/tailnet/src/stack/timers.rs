//! When connections want to be looked at again.
//!
//! A connection's deadline moves with every packet, nearly always to a later time. So an entry is
//! added only when a deadline comes before the connection's earliest entry, and an entry that
//! turns out to be too early is put back at the right time: about one entry for each connection.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::ConnectionId;

/// Deadlines of connections, earliest first.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, ConnectionId)>>,
}

/// One connection's part in [`Timers`].
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Timer {
    /// When the connection wants to be looked at.
    deadline: Option<Instant>,
    /// Its earliest entry in the heap.
    entry: Option<Instant>,
}

impl Timers {
    /// Sets a connection's deadline.
    pub(super) fn set(&mut self, id: ConnectionId, timer: &mut Timer, deadline: Option<Instant>) {
        timer.deadline = deadline;
        let Some(deadline) = deadline else { return };
        if timer.entry.is_none_or(|entry| deadline < entry) {
            timer.entry = Some(deadline);
            self.heap.push(Reverse((deadline, id)));
        }
    }

    /// The time of the earliest entry. May be too early, never too late.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes an entry that is due; to be judged by [`Timers::fired`].
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Instant, ConnectionId)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Whether the deadline of the connection whose entry was popped has come. If not, the entry
    /// is put back where it belongs.
    pub(super) fn fired(
        &mut self,
        id: ConnectionId,
        timer: &mut Timer,
        entry: Instant,
        now: Instant,
    ) -> bool {
        if timer.entry != Some(entry) {
            return false;
        }
        timer.entry = None;
        match timer.deadline {
            Some(deadline) if deadline <= now => true,
            later => {
                self.set(id, timer, later);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_deadline_that_moves_keeps_one_entry() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let (mut timers, mut timer, id) = (Timers::default(), Timer::default(), ConnectionId(1));
        for ms in 100..200 {
            timers.set(id, &mut timer, Some(after(ms)));
        }
        assert_eq!(timers.heap.len(), 1);
        let (entry, popped) = timers.pop(after(100)).expect("the first entry is due");
        assert_eq!((entry, popped), (after(100), id));
        assert!(!timers.fired(id, &mut timer, entry, after(100)));
        assert_eq!(timers.next(), Some(after(199)));
        let (entry, _) = timers.pop(after(199)).expect("put back");
        assert!(timers.fired(id, &mut timer, entry, after(199)));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn an_earlier_deadline_wins_and_the_old_entry_is_ignored() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let (mut timers, mut timer, id) = (Timers::default(), Timer::default(), ConnectionId(1));
        timers.set(id, &mut timer, Some(after(100)));
        timers.set(id, &mut timer, Some(after(50)));
        let (entry, _) = timers.pop(after(50)).expect("due");
        assert!(timers.fired(id, &mut timer, entry, after(50)));
        timers.set(id, &mut timer, None);
        let (stale, _) = timers.pop(after(100)).expect("the old entry");
        assert!(!timers.fired(id, &mut timer, stale, after(100)));
        assert_eq!(timers.next(), None);
    }
}
