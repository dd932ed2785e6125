//! When connections want to be looked at again: one heap for all.
//!
//! A deadline moves with every segment, nearly always to a later time. So an entry is added only
//! when a deadline comes before the connection's earliest entry, and one that turns out to be too
//! early is put back at the right time: about one entry for each connection.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::event::Id;
use crate::time::Time;

/// Deadlines, earliest first.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Time, Id)>>,
}

/// One connection's part in [`Timers`].
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Timer {
    /// When the connection wants to be looked at.
    deadline: Option<Time>,
    /// Its earliest entry in the heap.
    entry: Option<Time>,
}

impl Timers {
    /// Sets a connection's deadline.
    pub(crate) fn set(&mut self, id: Id, timer: &mut Timer, deadline: Option<Time>) {
        timer.deadline = deadline;
        let Some(deadline) = deadline else { return };
        if timer.entry.is_none_or(|entry| deadline < entry) {
            timer.entry = Some(deadline);
            self.heap.push(Reverse((deadline, id)));
        }
    }

    /// The time of the earliest entry. May be too early, never too late.
    pub(crate) fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes an entry that is due; to be judged by [`Timers::fired`].
    pub(crate) fn pop(&mut self, now: Time) -> Option<(Time, Id)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Whether the deadline of the connection whose entry was popped has come. If not, the entry is
    /// put back where it belongs.
    pub(crate) fn fired(&mut self, id: Id, timer: &mut Timer, entry: Time, now: Time) -> bool {
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
    use super::*;

    const ID: Id = Id(1);

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    #[test]
    fn a_deadline_that_moves_keeps_one_entry() {
        let (mut timers, mut timer) = (Timers::default(), Timer::default());
        (100..200).for_each(|ms| timers.set(ID, &mut timer, Some(at(ms))));
        assert_eq!(timers.heap.len(), 1);
        assert_eq!(timers.pop(at(100)), Some((at(100), ID)));
        assert!(!timers.fired(ID, &mut timer, at(100), at(100)));
        assert_eq!(timers.next(), Some(at(199)));
        assert_eq!(timers.pop(at(199)), Some((at(199), ID)));
        assert!(timers.fired(ID, &mut timer, at(199), at(199)));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn an_earlier_deadline_wins_and_the_old_entry_is_ignored() {
        let (mut timers, mut timer) = (Timers::default(), Timer::default());
        timers.set(ID, &mut timer, Some(at(100)));
        timers.set(ID, &mut timer, Some(at(50)));
        assert_eq!(timers.pop(at(50)), Some((at(50), ID)));
        assert!(timers.fired(ID, &mut timer, at(50), at(50)));
        timers.set(ID, &mut timer, None);
        assert_eq!(timers.pop(at(100)), Some((at(100), ID)));
        assert!(!timers.fired(ID, &mut timer, at(100), at(100)));
        assert_eq!(timers.next(), None);
    }
}
