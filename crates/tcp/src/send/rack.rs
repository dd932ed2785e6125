//! Loss by time: RACK (RFC 8985, 6).
//!
//! A segment is lost when another that was sent sufficiently later has arrived. "Sufficiently" is
//! the reordering window: nothing at first, and a part of the shortest round trip once the way was
//! seen to reorder.

use std::time::Duration;

use super::board::{Board, Harvest, Mark, Sent, Verdict};
use super::rtt::Rtt;
use crate::seq::Seq;
use crate::time::Time;

/// So many segments reported out of order are loss enough (RFC 6675's DupThresh), so that the
/// reordering window need not be waited for.
const DUPLICATES: usize = 3;

/// The reordering window grows by quarters of the shortest round trip (RFC 8985, 6.2, step 4), and
/// what it grew to is kept for so many recoveries.
const KEPT: u8 = 16;

/// What RACK remembers.
#[derive(Debug)]
pub(crate) struct Rack {
    /// Of all that arrived, what was sent last: when, and where it ended.
    latest: Option<(Time, Seq)>,
    /// Its round trip.
    rtt: Duration,
    reordered: bool,
    quarters: u32,
    recoveries_left: u8,
    /// The window grows once in a round trip: not before this is acknowledged.
    grows_from: Option<Seq>,
}

impl Rack {
    pub(crate) const fn new() -> Self {
        Self {
            latest: None,
            rtt: Duration::ZERO,
            reordered: false,
            quarters: 1,
            recoveries_left: 0,
            grows_from: None,
        }
    }

    /// An acknowledgement arrived (steps 1 to 3). `mistaken` if timestamps tell that a segment
    /// which was sent twice arrived by its first transmission.
    pub(crate) fn arrived(&mut self, harvest: &Harvest, rtt: &Rtt, mistaken: bool, now: Time) {
        self.reordered |= harvest.overtaken;
        let Some(newest) = harvest.newest else { return };
        let took = now.since(newest.at);
        // An answer quicker than any is one to an earlier transmission.
        let too_quick = rtt.shortest().is_some_and(|shortest| took < shortest);
        if newest.again && (mistaken || too_quick) {
            return;
        }
        self.rtt = took;
        let this = Some((newest.at, newest.end));
        self.latest = self.latest.max(this);
    }

    /// The other end got a copy that it did not need: too early for lost (step 4).
    pub(crate) fn copy_arrived(&mut self, una: Seq, next: Seq) {
        if self.grows_from.is_none_or(|from| una >= from) {
            self.grows_from = Some(next);
            self.quarters += 1;
            self.recoveries_left = KEPT;
        }
    }

    /// A recovery is over; without further mistakes the window becomes small again.
    pub(crate) fn recovered(&mut self) {
        self.recoveries_left = self.recoveries_left.saturating_sub(1);
        if self.recoveries_left == 0 {
            self.quarters = 1;
        }
    }

    /// Finds what is lost (step 5): how many bytes, and when to look again.
    pub(crate) fn detect(
        &self,
        board: &mut Board,
        rtt: &Rtt,
        recovering: bool,
        now: Time,
    ) -> (usize, Option<Time>) {
        let Some(latest) = self.latest else { return (0, None) };
        let patience = self.rtt + self.window(board, rtt, recovering);
        board.overdue(latest, patience, now)
    }

    /// The retransmission timeout expired: the first segment is lost, and all that had their time
    /// (RFC 8985, 6.3).
    pub(crate) fn timed_out(&self, board: &mut Board, rtt: &Rtt, now: Time) -> usize {
        let patience = self.rtt.max(rtt.smoothed().unwrap_or_default());
        let mut first = true;
        board.judge(|sent: &Sent| {
            debug_assert_eq!(sent.mark, Mark::Flying, "only these are judged");
            if std::mem::take(&mut first) || sent.at + patience <= now {
                Verdict::Lost
            } else {
                Verdict::Flying
            }
        })
    }

    fn window(&self, board: &Board, rtt: &Rtt, recovering: bool) -> Duration {
        if !self.reordered && (recovering || board.sacked_segments() >= DUPLICATES) {
            return Duration::ZERO;
        }
        let shortest = rtt.shortest().unwrap_or_default();
        (shortest / 4 * self.quarters).min(rtt.smoothed().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::super::rate::Stamp;
    use super::*;
    use crate::seq::Range;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn at(ms: u64) -> Time {
        Time::default() + MS(ms)
    }

    fn seq(at: usize) -> Seq {
        Seq::initial(1) + at
    }

    /// Five segments, one in each millisecond, on a way of 40 ms.
    fn scene() -> (Rack, Board, Rtt) {
        let mut board = Board::new(seq(0));
        (1..=5).for_each(|it| board.push(seq(it * 100), at(it as u64), Stamp::default()));
        let mut rtt = Rtt::new();
        rtt.measured(MS(40), at(0));
        (Rack::new(), board, rtt)
    }

    /// The segments up to this one arrive, without the first ones.
    fn report(rack: &mut Rack, board: &mut Board, rtt: &Rtt, run: (usize, usize), now: Time) {
        let mut harvest = Harvest::default();
        board.sack([Range::new(seq(run.0), seq(run.1))].into_iter(), &mut harvest);
        rack.arrived(&harvest, rtt, false, now);
    }

    #[test]
    fn three_reports_lose_what_was_sent_before_at_once() {
        let (mut rack, mut board, rtt) = scene();
        report(&mut rack, &mut board, &rtt, (100, 300), at(43));
        assert_eq!(rack.detect(&mut board, &rtt, false, at(43)), (0, Some(at(1 + 40 + 10))));
        report(&mut rack, &mut board, &rtt, (100, 400), at(44));
        assert_eq!(rack.detect(&mut board, &rtt, false, at(44)), (100, None));
    }

    #[test]
    fn fewer_lose_it_after_a_quarter_of_a_round_trip() {
        let (mut rack, mut board, rtt) = scene();
        report(&mut rack, &mut board, &rtt, (100, 200), at(42));
        assert_eq!(rack.detect(&mut board, &rtt, false, at(50)), (0, Some(at(51))));
        assert_eq!(rack.detect(&mut board, &rtt, false, at(51)), (100, None));
    }

    #[test]
    fn a_way_that_reorders_gets_more_patience() {
        let (mut rack, mut board, rtt) = scene();
        report(&mut rack, &mut board, &rtt, (200, 300), at(43));
        report(&mut rack, &mut board, &rtt, (100, 200), at(44));
        report(&mut rack, &mut board, &rtt, (100, 500), at(45));
        assert_eq!(rack.detect(&mut board, &rtt, false, at(45)), (0, Some(at(51))));
        rack.copy_arrived(seq(0), seq(500));
        rack.copy_arrived(seq(0), seq(500));
        assert_eq!(rack.detect(&mut board, &rtt, false, at(45)), (0, Some(at(61))));
    }

    #[test]
    fn a_lost_retransmission_is_found_by_what_was_sent_after_it() {
        let (mut rack, mut board, rtt) = scene();
        report(&mut rack, &mut board, &rtt, (100, 400), at(44));
        assert_eq!(rack.detect(&mut board, &rtt, false, at(44)).0, 100);
        board.sent_again(Range::new(seq(0), seq(100)), at(44), Stamp::default());
        board.push(seq(600), at(45), Stamp::default());
        report(&mut rack, &mut board, &rtt, (500, 600), at(85));
        assert_eq!(rack.detect(&mut board, &rtt, true, at(85)).0, 200, "the first and the fifth");
    }

    #[test]
    fn a_timeout_spares_what_was_sent_just_now() {
        let (rack, mut board, rtt) = scene();
        board.push(seq(600), at(240), Stamp::default());
        assert_eq!(rack.timed_out(&mut board, &rtt, at(250)), 500);
    }
}
