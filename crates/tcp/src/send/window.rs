//! What the other end allows us to send (RFC 9293, 3.8.6; RFC 7323, 2.3).

use std::time::Duration;

use crate::seq::Seq;
use crate::time::Time;

/// The other end's window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerWindow {
    /// Nothing from here on.
    edge: Seq,
    largest: usize,
    shift: u8,
    /// The segment that told it last: sequence number and acknowledgement (SND.WL1, SND.WL2).
    told: Option<(Seq, Seq)>,
    pinch: Option<Pinch>,
}

/// The window is too small, with nothing under way that would open it.
#[derive(Debug, Clone, Copy)]
struct Pinch {
    since: Time,
    /// When it was asked about last, or began.
    last: Time,
    /// How often it was asked about.
    asked: u32,
}

impl PeerWindow {
    pub(crate) fn new(start: Seq, bytes: usize, shift: u8) -> Self {
        Self { edge: start + bytes, largest: bytes, shift, told: None, pinch: None }
    }

    /// A segment tells the window; an older one than told last does not. Says whether it changed.
    pub(crate) fn tell(&mut self, sequence: Seq, acknowledged: Seq, window: u16) -> bool {
        if self.told.is_some_and(|told| (sequence, acknowledged) < told) {
            return false;
        }
        let bytes = usize::from(window) << self.shift;
        let edge = acknowledged + bytes;
        let changed = edge != self.edge;
        self.told = Some((sequence, acknowledged));
        self.edge = edge;
        self.largest = self.largest.max(bytes);
        if changed {
            self.pinch = None;
        }
        changed
    }

    /// Bytes that may be sent from here on.
    pub(crate) const fn room(&self, from: Seq) -> usize {
        self.edge.since(from)
    }

    pub(crate) const fn largest(&self) -> usize {
        self.largest
    }

    /// The window keeps us from sending although nothing is under way: since when, or since it was
    /// asked about last, and how often it was.
    pub(crate) fn pinches(&mut self, now: Time) -> (Time, u32) {
        let pinch = self.pinch.get_or_insert(Pinch { since: now, last: now, asked: 0 });
        (pinch.last, pinch.asked)
    }

    /// It is asked about.
    pub(crate) fn asked(&mut self, now: Time) {
        if let Some(pinch) = &mut self.pinch {
            pinch.last = now;
            pinch.asked += 1;
        }
    }

    /// For how long it has kept us from sending.
    pub(crate) fn pinched_for(&self, now: Time) -> Duration {
        self.pinch.map_or(Duration::ZERO, |pinch| now.since(pinch.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_segment_does_not_tell() {
        let (theirs, ours) = (Seq::initial(1), Seq::initial(1000));
        let mut window = PeerWindow::new(ours, 100, 2);
        assert!(window.tell(theirs + 5, ours + 10, 50));
        assert_eq!(window.room(ours + 10), 200);
        assert!(!window.tell(theirs + 4, ours + 20, 1));
        assert!(!window.tell(theirs + 5, ours + 9, 1));
        assert_eq!(window.room(ours + 10), 200);
        assert!(window.tell(theirs + 5, ours + 10, 0), "windows may shrink");
        assert_eq!((window.room(ours + 10), window.largest()), (0, 200));
    }
}
