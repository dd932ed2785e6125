//! What a terminal has shown, and how much of it each of its viewers has seen.
//!
//! Viewers read from one shared buffer at their own pace. The last 64 KiB are kept for whoever
//! comes next; what a viewer has not seen yet is kept too, up to a limit, at which the terminal's
//! program has to wait.

use std::collections::{BTreeMap, VecDeque};

/// Bytes that are replayed to a new viewer (`agent/reconnectingpty/buffered.go`).
pub(super) const SCROLLBACK: usize = 64 * 1024;

/// Bytes that a viewer may be behind before the program has to wait.
const MAX_BEHIND: u64 = 256 * 1024;

/// A viewer.
pub(super) type Viewer = u64;

/// What was shown, and who has seen how much.
#[derive(Debug, Default)]
pub(super) struct Screen {
    kept: VecDeque<u8>,
    /// Bytes ever shown.
    shown: u64,
    /// How many of those each viewer has seen.
    viewers: BTreeMap<Viewer, u64>,
    next_viewer: Viewer,
    ended: bool,
}

/// What there is for a viewer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Data(Vec<u8>),
    /// Nothing yet.
    Wait,
    /// Everything was seen, and there will be no more.
    End,
}

impl Screen {
    /// The program has shown something.
    pub(super) fn show(&mut self, data: &[u8]) {
        self.kept.extend(data);
        self.shown += data.len() as u64;
        self.forget();
    }

    /// Whether the program may show more.
    pub(super) fn has_room(&self) -> bool {
        self.viewers.values().all(|seen| self.shown - seen < MAX_BEHIND)
    }

    /// The program has ended.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// A new viewer, who sees the scrollback first.
    pub(super) fn attach(&mut self) -> Viewer {
        let viewer = self.next_viewer;
        self.next_viewer += 1;
        let scrollback = self.kept.len().min(SCROLLBACK) as u64;
        self.viewers.insert(viewer, self.shown - scrollback);
        viewer
    }

    pub(super) fn detach(&mut self, viewer: Viewer) {
        self.viewers.remove(&viewer);
        self.forget();
    }

    /// How many look at it.
    pub(super) fn viewers(&self) -> usize {
        self.viewers.len()
    }

    /// Takes what there is for a viewer.
    pub(super) fn take(&mut self, viewer: Viewer, max: usize) -> Piece {
        let Some(seen) = self.viewers.get_mut(&viewer) else { return Piece::End };
        let behind = usize::try_from(self.shown - *seen).unwrap_or(usize::MAX);
        if behind == 0 {
            return if self.ended { Piece::End } else { Piece::Wait };
        }
        let from = self.kept.len() - behind.min(self.kept.len());
        let data: Vec<u8> = self.kept.range(from..).take(max).copied().collect();
        *seen += data.len() as u64;
        self.forget();
        Piece::Data(data)
    }

    /// Drops what nobody will read.
    fn forget(&mut self) {
        let behind = self.viewers.values().map(|seen| self.shown - seen).max().unwrap_or(0);
        let wanted = usize::try_from(behind).unwrap_or(usize::MAX).max(SCROLLBACK);
        let excess = self.kept.len().saturating_sub(wanted);
        self.kept.drain(..excess);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_viewer_sees_the_last_64_kib() {
        let mut screen = Screen::default();
        for index in 0..100_u8 {
            screen.show(&[index; 1024]);
        }
        let viewer = screen.attach();
        let Piece::Data(data) = screen.take(viewer, usize::MAX) else { panic!("nothing") };
        assert_eq!((data.len(), data[0], data[SCROLLBACK - 1]), (SCROLLBACK, 36, 99));
        assert_eq!(screen.take(viewer, 10), Piece::Wait);
        screen.show(b"more");
        assert_eq!(screen.take(viewer, 2), Piece::Data(b"mo".to_vec()));
        screen.end();
        assert_eq!(screen.take(viewer, 9), Piece::Data(b"re".to_vec()), "all is seen first");
        assert_eq!(screen.take(viewer, 9), Piece::End);
    }

    #[test]
    fn a_slow_viewer_holds_the_program_up_and_loses_nothing() {
        let mut screen = Screen::default();
        let (slow, fast) = (screen.attach(), screen.attach());
        let mut shown = 0;
        while screen.has_room() {
            screen.show(&[7; 1000]);
            shown += 1000;
            assert!(matches!(screen.take(fast, usize::MAX), Piece::Data(_)));
        }
        assert!(shown as u64 >= MAX_BEHIND);
        let Piece::Data(data) = screen.take(slow, usize::MAX) else { panic!("nothing") };
        assert_eq!(data.len(), shown);
        assert!(screen.has_room() && screen.kept.len() == SCROLLBACK);
        screen.show(&[1; 300_000]);
        assert!(!screen.has_room());
        screen.detach(slow);
        screen.detach(fast);
        assert!(screen.has_room() && screen.kept.len() == SCROLLBACK);
        assert_eq!(screen.viewers.len(), 0);
    }
}
