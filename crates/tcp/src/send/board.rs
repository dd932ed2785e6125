//! What is under way: every segment sent and not yet acknowledged, and what became of it.
//!
//! This is the scoreboard of RFC 6675, kept by segment as RFC 8985 needs it. Bytes under way count
//! as *flying* until they are acknowledged, reported as received out of order, or judged lost;
//! what flies is RFC 6675's `pipe`.

use std::collections::VecDeque;
use std::time::Duration;

use super::rate::Stamp;
use crate::seq::{Range, Seq};
use crate::time::Time;

/// Entries of [`Board::order`] that may be there for nothing.
const SPARE: usize = 64;

/// What is believed of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// On its way.
    Flying,
    /// The other end has it, ahead of its turn.
    Sacked,
    /// Gone; to be sent again.
    Lost,
}

/// A segment that was sent. It begins where the one before ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) end: Seq,
    /// When it was sent last.
    pub(crate) at: Time,
    pub(crate) mark: Mark,
    /// Sent more than once.
    pub(crate) again: bool,
    /// What had been delivered when it was sent last.
    pub(crate) stamp: Stamp,
}

/// What an acknowledgement brought.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Harvest {
    /// Bytes whose arrival is news.
    pub(crate) delivered: usize,
    /// Bytes acknowledged in order, news or not.
    pub(crate) advanced: usize,
    /// Bytes newly reported out of order.
    pub(crate) sacked: usize,
    /// Of the segments that are news, the one that was sent last.
    pub(crate) newest: Option<Sent>,
    /// When the last of them that was sent only once was sent: it measures the round trip, unless
    /// something that was repeated is acknowledged along with it.
    pub(crate) sample: Option<Time>,
    /// Something that was sent more than once is acknowledged in order. What lay behind it may have
    /// arrived long ago (Karn's rule; RFC 6298, 3).
    pub(crate) repeated: bool,
    /// Bytes arrived that were sent only once and taken for lost.
    pub(crate) was_not_lost: bool,
    /// The end of the furthest segment among them that was sent only once and overtaken by others
    /// (RFC 8985, 6.2, step 3).
    pub(crate) overtaken: bool,
}

/// A verdict on a segment that flies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is gone.
    Lost,
    /// It may still arrive.
    Flying,
    /// It may still arrive, and so may all behind it.
    Rest,
}

/// The scoreboard.
#[derive(Debug)]
pub(crate) struct Board {
    /// Everything before is acknowledged (SND.UNA).
    una: Seq,
    sent: VecDeque<Sent>,
    /// What was sent, in the order of time: when, and where it ends. What became of it since, and
    /// whether it was sent again later, is to be looked up.
    order: VecDeque<(Time, Seq)>,
    sacked: usize,
    lost: usize,
    sacked_segments: usize,
    /// No segment that starts before is lost.
    lost_from: Seq,
    /// The furthest that was reported as received (RFC 8985's RACK.fack).
    furthest: Seq,
    /// The blocks of the last report: the next repeats most of them.
    known: [Option<Range>; 4],
}

impl Board {
    pub(crate) fn new(start: Seq) -> Self {
        Self {
            una: start,
            sent: VecDeque::new(),
            order: VecDeque::new(),
            sacked: 0,
            lost: 0,
            sacked_segments: 0,
            lost_from: start,
            furthest: start,
            known: [None; 4],
        }
    }

    /// Everything before is acknowledged.
    pub(crate) const fn una(&self) -> Seq {
        self.una
    }

    /// Everything before was sent (SND.NXT).
    pub(crate) fn next(&self) -> Seq {
        self.sent.back().map_or(self.una, |sent| sent.end)
    }

    /// Bytes believed to be on their way (RFC 6675, 4: `pipe`).
    pub(crate) fn flying(&self) -> usize {
        self.next().since(self.una) - self.sacked - self.lost
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// One segment is under way, however long.
    pub(crate) fn is_single(&self) -> bool {
        self.sent.len() == 1
    }

    pub(crate) fn has_lost(&self) -> bool {
        self.lost > 0
    }

    pub(crate) const fn sacked_segments(&self) -> usize {
        self.sacked_segments
    }

    /// Bytes neither acknowledged nor reported as received.
    pub(crate) fn outstanding(&self) -> usize {
        self.flying() + self.lost
    }

    /// Forgets all reports if they have the very first segment, which would then be acknowledged.
    pub(crate) fn forget_contradiction(&mut self) {
        if self.sent.front().is_some_and(|sent| sent.mark == Mark::Sacked) {
            for sent in &mut self.sent {
                if sent.mark == Mark::Sacked {
                    sent.mark = Mark::Flying;
                }
            }
            (self.sacked, self.sacked_segments, self.known) = (0, 0, [None; 4]);
            self.order_anew();
        }
    }

    /// Gives the memory back; for a connection that is idle.
    pub(crate) fn release(&mut self) {
        if self.sent.is_empty() {
            (self.sent, self.order) = (VecDeque::new(), VecDeque::new());
        }
    }

    /// Memory held, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.sent.capacity() * size_of::<Sent>() + self.order.capacity() * size_of::<(Time, Seq)>()
    }

    /// A segment was sent for the first time.
    pub(crate) fn push(&mut self, end: Seq, now: Time, stamp: Stamp) {
        self.sent.push_back(Sent { end, at: now, mark: Mark::Flying, again: false, stamp });
        self.note_order(end, now);
    }

    fn note_order(&mut self, end: Seq, now: Time) {
        // Mostly of segments that have arrived, if nobody asks what is overdue.
        if self.order.len() > 2 * self.sent.len() + SPARE {
            self.order_anew();
        } else {
            self.order.push_back((now, end));
        }
    }

    fn order_anew(&mut self) {
        let flying = self.sent.iter().filter(|sent| sent.mark == Mark::Flying);
        self.order = flying.map(|sent| (sent.at, sent.end)).collect();
        self.order.make_contiguous().sort();
    }

    /// The first segment that is lost.
    pub(crate) fn first_lost(&mut self) -> Option<Range> {
        if self.lost == 0 {
            return None;
        }
        let from = self.sent.partition_point(|sent| sent.end <= self.lost_from);
        let found = self.sent.iter().skip(from).position(|sent| sent.mark == Mark::Lost)?;
        let range = self.range(from + found);
        self.lost_from = range.start;
        Some(range)
    }

    /// The last segment of all, if anything is under way.
    pub(crate) fn last(&self) -> Option<Range> {
        self.sent.len().checked_sub(1).map(|at| self.range(at))
    }

    /// A segment, or a part of one, was sent again. The answer is when the whole was sent before,
    /// and how long it is.
    pub(crate) fn sent_again(
        &mut self,
        range: Range,
        now: Time,
        stamp: Stamp,
    ) -> Option<(Time, usize)> {
        let whole = self.sent.partition_point(|sent| sent.end <= range.start);
        let before = self.sent.get(whole).map(|sent| (sent.at, self.length(whole)));
        let at = self.cut(range.start);
        self.cut(range.end);
        let length = self.length(at);
        let sent = self.sent.get_mut(at)?;
        if sent.mark == Mark::Lost {
            sent.mark = Mark::Flying;
            self.lost -= length;
        }
        (sent.at, sent.again, sent.stamp) = (now, true, stamp);
        let end = sent.end;
        self.note_order(end, now);
        before
    }

    /// Has a segment begin here, which may lie within one. Where it stands.
    fn cut(&mut self, place: Seq) -> usize {
        let at = self.sent.partition_point(|sent| sent.end <= place);
        let Some(whole) = self.sent.get(at).copied() else { return at };
        if self.range(at).start >= place {
            return at;
        }
        self.sent.insert(at, Sent { end: place, ..whole });
        match whole.mark {
            Mark::Flying => self.order_anew(),
            Mark::Sacked => self.sacked_segments += 1,
            Mark::Lost => {}
        }
        at + 1
    }

    /// Everything before `una` has arrived.
    pub(crate) fn acknowledge(&mut self, una: Seq, harvest: &mut Harvest) {
        while let Some(sent) = self.sent.front().copied() {
            let length = sent.end.min(una).since(self.una);
            if length == 0 {
                break;
            }
            harvest.advanced += length;
            match sent.mark {
                Mark::Sacked => self.sacked -= length,
                Mark::Lost => self.lost -= length,
                Mark::Flying => {}
            }
            if sent.mark != Mark::Sacked {
                harvest.delivered += length;
                harvest.repeated |= sent.again;
            }
            if sent.end > una {
                // A part of a segment: the rest stays what it is.
                self.una = una;
                break;
            }
            if sent.mark == Mark::Sacked {
                self.sacked_segments -= 1;
            } else {
                self.reap(sent, harvest);
            }
            self.una = sent.end;
            self.sent.pop_front();
        }
        self.furthest = self.furthest.max(self.una);
        self.lost_from = self.lost_from.max(self.una);
    }

    /// The other end reports a run that it has. Reports of what was never sent, or is acknowledged,
    /// say nothing.
    pub(crate) fn sack(&mut self, blocks: impl Iterator<Item = Range>, harvest: &mut Harvest) {
        let known = std::mem::take(&mut self.known);
        for (block, place) in blocks.zip(0..) {
            let block = Range::new(block.start.max(self.una), block.end);
            if block.is_empty() || block.end > self.next() {
                continue;
            }
            // Most of a block was in the last report, and is passed over.
            let begins = |old: &&Range| old.start <= block.start && block.start <= old.end;
            let known = known.iter().flatten().find(begins).map(|old| old.end.min(block.end));
            let from = known.unwrap_or(block.start);
            self.sack_run(block, from, harvest);
            if let Some(place) = self.known.get_mut::<usize>(place) {
                *place = Some(block);
            }
        }
    }

    /// Notes the segments of a run, of which everything before `from` is known.
    fn sack_run(&mut self, run: Range, from: Seq, harvest: &mut Harvest) {
        let mut at = self.sent.partition_point(|sent| sent.end <= from);
        // It may begin within a segment, whose first part is missing.
        if at < self.sent.len() && self.range(at).start < run.start {
            at += 1;
        }
        while let Some(sent) = self.sent.get(at).copied().filter(|sent| sent.end <= run.end) {
            let length = self.length(at);
            if sent.mark != Mark::Sacked {
                if sent.mark == Mark::Lost {
                    self.lost -= length;
                }
                self.sacked += length;
                self.sacked_segments += 1;
                harvest.delivered += length;
                harvest.sacked += length;
                self.reap(sent, harvest);
                self.sent[at].mark = Mark::Sacked;
            }
            at += 1;
        }
    }

    /// Notes what the arrival of a segment tells.
    fn reap(&mut self, sent: Sent, harvest: &mut Harvest) {
        if !sent.again {
            harvest.sample = harvest.sample.max(Some(sent.at));
            harvest.was_not_lost |= sent.mark == Mark::Lost;
            harvest.overtaken |= sent.end < self.furthest;
        }
        self.furthest = self.furthest.max(sent.end);
        let later = |newest: Sent| (sent.at, sent.end) > (newest.at, newest.end);
        if harvest.newest.is_none_or(later) {
            harvest.newest = Some(sent);
        }
    }

    /// Has every segment that flies judged, in order; the bytes lost by that.
    pub(crate) fn judge(&mut self, mut judge: impl FnMut(&Sent) -> Verdict) -> usize {
        let mut start = self.una;
        let mut lost = 0;
        for sent in &mut self.sent {
            if sent.mark == Mark::Flying {
                match judge(sent) {
                    Verdict::Lost => {
                        sent.mark = Mark::Lost;
                        lost += sent.end.since(start);
                        self.lost_from = self.lost_from.min(start);
                    }
                    Verdict::Flying => {}
                    Verdict::Rest => break,
                }
            }
            start = sent.end;
        }
        self.lost += lost;
        lost
    }

    /// Takes for lost what flies, was sent before `latest` and has had its time: the bytes, and when
    /// the next has. (RFC 8985, 6.2, step 5, over its list of segments in the order of time, so that
    /// what is known to have arrived is not looked at again and again.)
    pub(crate) fn overdue(
        &mut self,
        latest: (Time, Seq),
        patience: Duration,
        now: Time,
    ) -> (usize, Option<Time>) {
        let mut lost = 0;
        while let Some((at, end)) = self.order.front().copied().filter(|sent| *sent < latest) {
            let place = self.sent.partition_point(|sent| sent.end < end);
            let flies = |sent: &Sent| (sent.at, sent.end, sent.mark) == (at, end, Mark::Flying);
            if self.sent.get(place).is_some_and(flies) {
                if at + patience > now {
                    self.lost += lost;
                    return (lost, Some(at + patience));
                }
                let range = self.range(place);
                self.sent[place].mark = Mark::Lost;
                lost += range.len();
                self.lost_from = self.lost_from.min(range.start);
            }
            self.order.pop_front();
        }
        self.lost += lost;
        (lost, None)
    }

    /// What was taken for lost was not, after all, and flies.
    pub(crate) fn nothing_is_lost(&mut self) {
        for sent in &mut self.sent {
            if sent.mark == Mark::Lost {
                sent.mark = Mark::Flying;
            }
        }
        self.lost = 0;
        self.order_anew();
    }

    fn range(&self, at: usize) -> Range {
        let start = at.checked_sub(1).map_or(self.una, |before| self.sent[before].end);
        Range::new(start, self.sent[at].end)
    }

    fn length(&self, at: usize) -> usize {
        if at < self.sent.len() { self.range(at).len() } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u32 = u32::MAX - 250;

    fn seq(at: usize) -> Seq {
        Seq::initial(START) + at
    }

    /// Ten segments of 100 bytes, one in each microsecond.
    fn board() -> Board {
        let mut board = Board::new(seq(0));
        for at in 1..=10 {
            board.push(seq(100 * at), Time::from_micros(at as u64), Stamp::default());
        }
        board
    }

    fn sack(board: &mut Board, runs: &[(usize, usize)]) -> Harvest {
        let mut harvest = Harvest::default();
        let runs: Vec<_> = runs.iter().map(|(from, to)| Range::new(seq(*from), seq(*to))).collect();
        board.sack(runs.into_iter(), &mut harvest);
        harvest
    }

    fn acknowledge(board: &mut Board, to: usize) -> Harvest {
        let mut harvest = Harvest::default();
        board.acknowledge(seq(to), &mut harvest);
        harvest
    }

    #[test]
    fn what_flies_is_what_is_neither_acknowledged_nor_reported_nor_lost() {
        let mut board = board();
        assert_eq!(board.flying(), 1000);
        assert_eq!(acknowledge(&mut board, 200).delivered, 200);
        assert_eq!(sack(&mut board, &[(300, 500)]).sacked, 200);
        assert_eq!(board.flying(), 600);
        let mut first = true;
        let lost =
            board.judge(|_| if std::mem::take(&mut first) { Verdict::Lost } else { Verdict::Rest });
        assert_eq!((lost, board.flying()), (100, 500));
        assert_eq!(board.first_lost(), Some(Range::new(seq(200), seq(300))));
        board.sent_again(Range::new(seq(200), seq(300)), Time::from_micros(20), Stamp::default());
        assert_eq!((board.first_lost(), board.flying()), (None, 600));
        let harvest = acknowledge(&mut board, 500);
        assert_eq!((harvest.delivered, harvest.advanced), (100, 300));
        assert_eq!((harvest.sample, harvest.repeated), (None, true), "it was sent twice");
        assert_eq!((board.flying(), board.sacked_segments()), (500, 0));
    }

    #[test]
    fn a_report_counts_once_and_only_for_whole_segments_that_were_sent() {
        let mut board = board();
        assert_eq!(sack(&mut board, &[(250, 450)]).sacked, 100);
        assert_eq!(sack(&mut board, &[(250, 450)]).sacked, 0);
        assert_eq!(sack(&mut board, &[(250, 520)]).sacked, 100);
        assert_eq!(sack(&mut board, &[(200, 600), (800, 900)]).sacked, 300);
        assert_eq!(sack(&mut board, &[(200, 700), (800, 900)]).sacked, 100);
        assert_eq!(sack(&mut board, &[(900, 1100), (0, 50)]).sacked, 0);
        assert_eq!((board.flying(), board.sacked_segments()), (400, 6));
        acknowledge(&mut board, 1000);
        assert_eq!((board.flying(), board.sacked_segments()), (0, 0));
        assert!(board.is_empty());
    }

    #[test]
    fn a_part_of_a_segment_can_be_acknowledged() {
        let mut board = board();
        board.judge(|_| Verdict::Lost);
        assert_eq!(acknowledge(&mut board, 150).advanced, 150);
        assert_eq!(board.flying(), 0);
        assert_eq!(board.first_lost(), Some(Range::new(seq(150), seq(200))));
        board.nothing_is_lost();
        assert_eq!(board.flying(), 850);
    }

    #[test]
    fn a_segment_can_be_sent_again_in_parts() {
        let mut board = board();
        let stamp = Stamp::default();
        let again = |board: &mut Board, from, to| {
            board.sent_again(Range::new(seq(from), seq(to)), Time::from_micros(20), stamp)
        };
        // The last, a part of which is asked about, and the first, which is lost.
        assert_eq!(again(&mut board, 970, 1000), Some((Time::from_micros(10), 100)));
        board.judge(|sent| if sent.end == seq(100) { Verdict::Lost } else { Verdict::Rest });
        assert_eq!(again(&mut board, 0, 40), Some((Time::from_micros(1), 100)));
        assert_eq!(board.first_lost(), Some(Range::new(seq(40), seq(100))));
        assert_eq!(again(&mut board, 40, 80), Some((Time::from_micros(1), 60)));
        assert_eq!(
            (board.flying(), board.first_lost()),
            (980, Some(Range::new(seq(80), seq(100))))
        );
        assert_eq!(again(&mut board, 80, 100), Some((Time::from_micros(1), 20)));
        assert_eq!((board.flying(), board.first_lost()), (1000, None));
        assert_eq!(sack(&mut board, &[(40, 80), (970, 1000)]).sacked, 70);
        assert_eq!(acknowledge(&mut board, 900).delivered, 860);
        // What was sent before the end of the last segment was repeated is found overdue.
        let latest = (Time::from_micros(20), seq(1000));
        let patience = Duration::from_micros(5);
        assert_eq!(board.overdue(latest, patience, Time::from_micros(25)), (70, None));
        assert_eq!(acknowledge(&mut board, 1000).delivered, 70);
        assert_eq!((board.flying(), board.is_empty()), (0, true));
    }

    #[test]
    fn an_arrival_tells_of_time_and_order() {
        let mut board = board();
        let harvest = sack(&mut board, &[(300, 500)]);
        assert_eq!(harvest.sample, Some(Time::from_micros(5)));
        assert!(!harvest.overtaken);
        let harvest = acknowledge(&mut board, 100);
        assert!(harvest.overtaken);
        assert!(!harvest.repeated);
        assert_eq!(harvest.newest.map(|it| it.end), Some(seq(100)));
    }

    #[test]
    fn what_is_overdue_is_found_in_the_order_of_time() {
        let micros = Time::from_micros;
        let patience = Duration::from_micros(10);
        let mut board = board();
        let latest = (micros(5), seq(500));
        assert_eq!(board.overdue(latest, patience, micros(10)), (0, Some(micros(11))));
        assert_eq!(board.overdue(latest, patience, micros(12)), (200, Some(micros(13))));
        // The first is sent again, the third arrives; what is later than the latest is not judged.
        board.sent_again(Range::new(seq(0), seq(100)), micros(12), Stamp::default());
        sack(&mut board, &[(200, 300)]);
        assert_eq!(board.overdue(latest, patience, micros(100)), (100, None));
        assert_eq!(
            (board.flying(), board.first_lost()),
            (700, Some(Range::new(seq(100), seq(200))))
        );
        let later = (micros(12), seq(1000));
        assert_eq!(board.overdue(later, patience, micros(21)), (600, Some(micros(22))));
        assert_eq!(board.overdue(later, patience, micros(22)), (100, None));
        // A mistake: all of them may be found again.
        board.nothing_is_lost();
        assert_eq!(board.overdue(later, patience, micros(22)), (900, None));
    }

    #[test]
    fn the_order_is_no_longer_than_it_has_to_be() {
        let mut board = Board::new(seq(0));
        for at in 1..=10_000 {
            board.push(seq(100 * at), Time::from_micros(at as u64), Stamp::default());
            acknowledge(&mut board, 100 * at);
        }
        assert!(board.order.len() <= SPARE + 2, "{}", board.order.len());
    }
}
