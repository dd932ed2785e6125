//! What an acknowledgement means: what arrived, what is lost, how fast, and what of it was a
//! mistake.

use std::time::Duration;

use super::board::{Harvest, Verdict};
use super::recovery::{Doubt, Recovery, Reduction};
use super::{Fin, Sender, Tail};
use crate::congestion::Arrival;
use crate::segment::SackBlocks;
use crate::seq::{Range, Seq};
use crate::time::Time;

/// Without reports of what arrives out of order, this many repetitions of an acknowledgement mean a
/// loss (RFC 5681, 3.2).
const DUPLICATES: u32 = 3;

/// The acknowledging part of a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acknowledgement<'a> {
    /// The segment's own place.
    pub(crate) sequence: Seq,
    /// Everything before has arrived.
    pub(crate) una: Seq,
    /// As on the wire.
    pub(crate) window: u16,
    /// The blocks of its SACK option.
    pub(crate) sack: &'a [(u32, u32)],
    /// The timestamp that it echoes.
    pub(crate) echo: Option<u32>,
    /// It carries nothing else.
    pub(crate) bare: bool,
}

/// What became of ours by an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes acknowledged.
    pub(crate) bytes: usize,
    /// The round trip that was measured.
    pub(crate) rtt: Option<Duration>,
    /// Bytes were lost.
    pub(crate) lost: bool,
}

impl Sender {
    /// An acknowledgement of nothing that was not sent arrived.
    pub(crate) fn acknowledged(&mut self, it: &Acknowledgement<'_>, now: Time) -> Progress {
        let flying_before = self.flying();
        let window_changed = self.window.tell(it.sequence, it.una, it.window);
        let (blocks, copy) = self.blocks(it);
        let mut harvest = Harvest::default();
        self.board.acknowledge(it.una, &mut harvest);
        self.board.sack(blocks.iter(), &mut harvest);
        if harvest.advanced > self.ring.len() {
            self.fin = Fin::Acknowledged;
        }
        self.ring.consume(harvest.advanced);
        self.last_heard = now;
        self.urgent = None;
        if harvest.advanced > 0 {
            self.timing_since = now;
            self.rtt.forgive();
        }
        let sample = harvest.sample.filter(|_| !harvest.repeated).map(|sent| now.since(sent));
        if let Some(took) = sample {
            self.rtt.measured(took, now);
        }
        let mistaken = self.was_mistaken(it, &harvest, copy);
        if mistaken {
            self.take_back();
        }
        self.rack.arrived(&harvest, &self.rtt, mistaken, now);
        self.end_tail(copy, now);
        let repeated = it.bare && harvest.advanced == 0 && !window_changed;
        self.count_duplicates(repeated, harvest.advanced > 0);
        let flying = self.flying();
        self.detect_loss(now);
        let lost = flying - self.flying();
        self.recover(&harvest, lost > 0, now);
        self.inform_controller(&harvest, (flying_before, lost), sample, now);
        self.set_alarm(now);
        Progress { bytes: harvest.advanced, rtt: sample, lost: lost > 0 }
    }

    /// What the SACK option reports, apart from the copy that it may begin with (RFC 2883, 4).
    fn blocks(&mut self, it: &Acknowledgement<'_>) -> (Blocks, Option<Range>) {
        let mut blocks = Blocks::default();
        let mut copy = None;
        let range = |block: &(u32, u32)| Range::new(it.una.near(block.0), it.una.near(block.1));
        for (at, block) in it.sack.iter().map(range).enumerate() {
            let within = |outer: Range| outer.start <= block.start && block.end <= outer.end;
            let second = it.sack.get(1).map(range);
            let is_copy = at == 0 && (block.end <= it.una || second.is_some_and(within));
            if is_copy {
                copy = Some(block).filter(|it| !it.is_empty());
            } else {
                blocks.push(block);
            }
        }
        if copy.is_some() {
            self.rack.copy_arrived(it.una, self.board.next());
            if let Some(doubt) = &mut self.doubt {
                doubt.unexplained = doubt.unexplained.saturating_sub(1);
            }
        }
        (blocks, copy)
    }

    /// Whether the last recovery was begun for nothing.
    fn was_mistaken(
        &self,
        it: &Acknowledgement<'_>,
        harvest: &Harvest,
        copy: Option<Range>,
    ) -> bool {
        let Some(doubt) = self.doubt else { return false };
        // An answer to the original, by its timestamp (Eifel; RFC 3522, 3).
        let echoes_original = match (doubt.first_stamp, it.echo) {
            (Some(first), Some(echo)) => (echo.wrapping_sub(first) as i32) < 0,
            (_, None) | (None, _) => false,
        };
        let by_stamp =
            echoes_original && harvest.advanced > 0 && !matches!(self.recovery, Recovery::None);
        // The other end had all that was repeated (as RFC 3708, 2).
        let all_copies = copy.is_some() && doubt.again > 0 && doubt.unexplained == 0;
        // Behind a timeout something arrives that was not repeated yet (as RFC 5682, 3.1).
        let by_order = matches!(self.recovery, Recovery::Timeout { .. }) && harvest.was_not_lost;
        by_stamp || all_copies || by_order
    }

    fn take_back(&mut self) {
        self.doubt = None;
        self.board.nothing_is_lost();
        self.controller.mistaken();
        self.recovery = Recovery::None;
        self.look_again = None;
        self.rtt.forgive();
    }

    /// RFC 8985, 7.4: a probe that repeated the last segment and was not superfluous has hidden a
    /// loss, to which the controller is to answer all the same.
    fn end_tail(&mut self, copy: Option<Range>, now: Time) {
        let Some(Tail { end, again }) = self.tail else { return };
        let una = self.una();
        if una < end {
            return;
        }
        if !again || copy.is_some() {
            self.tail = None;
        } else if una > end {
            self.tail = None;
            if self.controller.lost(self.board.outstanding(), now).is_some() {
                self.controller.recovered(now);
            }
        } else if self.board.is_empty() {
            // Nothing follows that would tell; the doubt is the other end's.
            self.tail = None;
        }
    }

    /// RFC 6582, for an other end that does not report what arrives out of order.
    fn count_duplicates(&mut self, repeated: bool, advanced: bool) {
        if self.sack || self.board.is_empty() {
            return;
        }
        let recovering = matches!(self.recovery, Recovery::Fast { .. });
        self.duplicates = match (repeated, advanced) {
            (true, _) => self.duplicates + 1,
            (false, true) => 0,
            (false, false) => self.duplicates,
        };
        let partial = recovering && advanced && !self.recovered();
        if partial || (!recovering && self.duplicates == DUPLICATES) {
            let mut first = true;
            self.board
                .judge(|_| if std::mem::take(&mut first) { Verdict::Lost } else { Verdict::Rest });
        }
    }

    /// Has RACK look for losses, and begins a recovery if there are any.
    pub(super) fn detect_loss(&mut self, now: Time) {
        let recovering = !matches!(self.recovery, Recovery::None);
        // Without reports, what is behind a hole tells nothing.
        if self.sack {
            let (_, again) = self.rack.detect(&mut self.board, &self.rtt, recovering, now);
            self.look_again = again;
        }
        if self.board.has_lost() && !recovering {
            let outstanding = self.board.outstanding();
            let target = self.controller.lost(outstanding, now);
            let mut reduction = target.map(|target| Reduction::new(outstanding, target));
            if let Some(reduction) = &mut reduction {
                reduction.arrived(0, self.board.flying(), true, self.mss);
            }
            self.doubt = Some(Doubt::default());
            self.tail = None;
            self.recovery = Recovery::Fast { until: self.board.next(), reduction };
        }
    }

    /// All that was under way when the recovery began has arrived.
    fn recovered(&self) -> bool {
        match self.recovery {
            Recovery::None => false,
            Recovery::Fast { until, .. } | Recovery::Timeout { until } => self.una() >= until,
        }
    }

    fn recover(&mut self, harvest: &Harvest, worse: bool, now: Time) {
        if self.recovered() {
            self.rack.recovered();
            self.controller.recovered(now);
            self.recovery = Recovery::None;
            // What was found lost meanwhile begins another one.
            self.detect_loss(now);
        } else if let Recovery::Fast { reduction: Some(reduction), .. } = &mut self.recovery {
            let flying = self.board.flying();
            reduction.arrived(harvest.delivered, flying, worse || harvest.advanced == 0, self.mss);
        }
    }

    fn inform_controller(
        &mut self,
        harvest: &Harvest,
        (flying_before, lost): (usize, usize),
        rtt: Option<Duration>,
        now: Time,
    ) {
        if harvest.delivered == 0 && lost == 0 {
            return;
        }
        let shortest = self.rtt.shortest();
        let newest = harvest.newest.map(|sent| (sent.at, sent.stamp));
        let rate = self.meter.delivered_now(harvest.delivered, newest, shortest, now);
        let round = newest.is_some_and(|(_, stamp)| stamp.delivered() >= self.round_ends);
        if round {
            self.round_ends = self.meter.delivered();
        }
        self.controller.arrived(&Arrival {
            now,
            delivered: harvest.delivered,
            flying_before,
            flying: self.board.flying(),
            lost,
            rtt,
            shortest,
            round,
            // RFC 7661, 4.1: a window is known to be good if at least half of it is used.
            window_limited: flying_before * 2 >= self.controller.window(),
            recovering: matches!(self.recovery, Recovery::Fast { .. }),
            rate,
        });
    }
}

/// The runs that a SACK option reports.
#[derive(Debug, Default)]
struct Blocks {
    runs: [Option<Range>; SackBlocks::MOST],
    count: usize,
}

impl Blocks {
    fn push(&mut self, run: Range) {
        if let Some(place) = self.runs.get_mut(self.count) {
            *place = Some(run);
            self.count += 1;
        }
    }

    fn iter(&self) -> impl Iterator<Item = Range> {
        self.runs.iter().flatten().copied()
    }
}
