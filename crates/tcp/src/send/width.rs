//! How long a segment may be.
//!
//! Every segment of up to the MSS passes, on every way. Longer ones ([`WIDEST`](crate::WIDEST)) leave when the
//! other end takes them, the way carries them, and enough of them may be under way that losses are
//! still told apart by what arrives behind them. Whoever knows the ways finds out what they carry
//! (RFC 8899); here is noticed that somebody would gain by it, and that a long segment was lost.
//! What was lost is sent again in pieces that always pass, so a way that carries long segments no more
//! costs no more than the loss.

use crate::time::Time;

/// The window holds so many segments at least, or they are as short as the MSS: loss is told by three
/// segments behind the lost one (RFC 8985, 6.2), and an acknowledgement for every second one makes
/// steady room.
const SEGMENTS: usize = 8;

/// Segments so many times as long as those that always pass are worth finding out whether they do.
const WORTH_ASKING: usize = 2;

/// News of a sender about the length of its segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// It would send longer ones if the way were known to carry them.
    Wanted,
    /// A long one was lost.
    Lost,
}

/// The lengths, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Width {
    /// What passes on every way.
    mss: usize,
    /// What the other end takes, [`Width::mss`] at least.
    taken: usize,
    /// What the way carries, [`Width::mss`] at least, and since when.
    carried: usize,
    since: Time,
    wanted: Told,
    lost: Told,
}

/// News, each told once for each thing that is known of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Told {
    #[default]
    No,
    Owed,
    Yes,
}

impl Told {
    fn owe(&mut self) {
        if *self == Self::No {
            *self = Self::Owed;
        }
    }

    fn take(&mut self) -> bool {
        let owed = *self == Self::Owed;
        if owed {
            *self = Self::Yes;
        }
        owed
    }
}

impl Width {
    pub(super) fn new(mss: usize, taken: usize) -> Self {
        let (wanted, lost) = (Told::No, Told::No);
        Self { mss, taken: taken.max(mss), carried: mss, since: Time::default(), wanted, lost }
    }

    /// The way carries segments of so many bytes from now on.
    pub(super) fn set_carried(&mut self, bytes: usize, now: Time) {
        let carried = bytes.max(self.mss);
        *self = Self { carried, since: now, ..Self::new(self.mss, self.taken) };
    }

    /// The longest segment of a window.
    pub(super) fn longest(&self, window: usize) -> usize {
        self.worth(window).min(self.carried)
    }

    /// So much waits to be sent in such a window.
    pub(super) fn waits(&mut self, bytes: usize, window: usize) {
        let worth = self.worth(window).min(bytes);
        if worth > self.carried && worth >= WORTH_ASKING * self.mss {
            self.wanted.owe();
        }
    }

    /// How long segments of a window would be if every way carried them.
    fn worth(&self, window: usize) -> usize {
        (window / SEGMENTS).clamp(self.mss, self.taken)
    }

    /// So much was sent again, of a segment that was sent at some time and had some length.
    pub(super) fn repeated(&mut self, whole: Option<(Time, usize)>, bytes: usize) {
        // What left before the way was known to carry it says nothing about the way.
        if whole.is_some_and(|(at, length)| length > bytes && at >= self.since) {
            self.lost.owe();
        }
    }

    /// What is to be told.
    pub(super) fn news(&mut self) -> Option<News> {
        if self.lost.take() {
            return Some(News::Lost);
        }
        self.wanted.take().then_some(News::Wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: usize = 1000;
    const LONG: usize = 10_000;

    fn at(micros: u64) -> Time {
        Time::from_micros(micros)
    }

    #[test]
    fn a_segment_is_long_only_where_all_three_allow_it() {
        for (taken, carried, window, longest) in [
            (MSS, LONG, usize::MAX, MSS),
            (LONG, MSS, usize::MAX, MSS),
            (LONG, LONG, 0, MSS),
            (LONG, LONG, 7 * MSS, MSS),
            (LONG, LONG, 16 * MSS, 2 * MSS),
            (LONG, LONG, usize::MAX, LONG),
            (LONG, 5 * MSS, usize::MAX, 5 * MSS),
            (3 * MSS, LONG, usize::MAX, 3 * MSS),
            // What every way carries is carried, and what everybody takes is taken.
            (10, 10, usize::MAX, MSS),
        ] {
            let mut width = Width::new(MSS, taken);
            width.set_carried(carried, at(1));
            assert_eq!(width.longest(window), longest, "{taken} {carried} {window}");
        }
    }

    #[test]
    fn that_more_is_wanted_is_told_once_for_each_way() {
        let mut width = Width::new(MSS, LONG);
        width.waits(usize::MAX, 15 * MSS);
        width.waits(2 * MSS - 1, usize::MAX);
        assert_eq!(width.news(), None);
        for round in 1..=2 {
            width.waits(usize::MAX, usize::MAX);
            assert_eq!(width.news(), Some(News::Wanted));
            width.waits(usize::MAX, usize::MAX);
            assert_eq!(width.news(), None);
            width.set_carried(round * MSS, at(round as u64));
        }
        width.set_carried(LONG, at(3));
        width.waits(usize::MAX, usize::MAX);
        assert_eq!(width.news(), None, "there is nothing to gain");
    }

    #[test]
    fn a_loss_tells_of_the_way_that_the_segment_took() {
        let mut width = Width::new(MSS, LONG);
        width.set_carried(LONG, at(10));
        for (whole, news) in [
            (None, None),
            (Some((at(11), MSS)), None),
            (Some((at(9), LONG)), None),
            (Some((at(10), LONG)), Some(News::Lost)),
            (Some((at(11), LONG)), None),
        ] {
            width.repeated(whole, MSS);
            assert_eq!(width.news(), news, "{whole:?}");
        }
    }
}
