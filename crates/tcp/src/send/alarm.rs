//! What goes off when nothing arrives. One alarm at a time (RFC 8985, 8): whichever would act first
//! on what is under way, or, with nothing under way, the question whether a closed window is open.

use std::time::Duration;

use super::Sender;
use super::recovery::{Doubt, Recovery};
use crate::time::Time;

/// How long another stack may delay an acknowledgement (RFC 8985, 7.2: TLP.max_ack_delay).
const DELAYED: Duration = Duration::from_millis(200);

/// A closed window is asked about at least this often (as RTO's ceiling; RFC 9293, 3.8.6.1).
const SLOWEST_QUESTION: Duration = Duration::from_secs(60);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alarm {
    /// Nothing.
    None,
    /// Segments that may only be reordered are lost then (RFC 8985, 6.2).
    Reorder(Time),
    /// The last segments may be lost, and nothing behind them tells (RFC 8985, 7).
    Tail(Time),
    /// Nothing was acknowledged for too long (RFC 6298, 5).
    Timeout(Time),
    /// A window is closed (RFC 9293, 3.8.6.1).
    Question(Time),
}

/// What an alarm wants sent, whatever the windows say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgent {
    Tail,
    Question,
}

impl Sender {
    /// When [`Sender::fire`] is wanted.
    pub(crate) fn deadline(&self) -> Option<Time> {
        match self.alarm {
            Alarm::None => None,
            Alarm::Reorder(at) | Alarm::Tail(at) | Alarm::Timeout(at) | Alarm::Question(at) => {
                Some(at)
            }
        }
    }

    /// Time has passed.
    pub(crate) fn fire(&mut self, now: Time) {
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        match self.alarm {
            Alarm::None => {}
            Alarm::Reorder(_) => self.detect_loss(now),
            Alarm::Tail(_) => {
                self.urgent = Some(Urgent::Tail);
                // If it cannot leave, the timeout comes next.
                self.timing_since = now;
            }
            Alarm::Timeout(_) => self.time_out(now),
            Alarm::Question(_) => {
                self.urgent = Some(Urgent::Question);
                self.window.asked(now);
            }
        }
        self.set_alarm(now);
    }

    /// Sets the alarm by what is under way.
    pub(super) fn set_alarm(&mut self, now: Time) {
        self.alarm = if self.board.is_empty() {
            self.question_alarm(now)
        } else if let Some(at) = self.look_again {
            Alarm::Reorder(at)
        } else {
            let timeout = self.timing_since + self.rtt.timeout();
            match self.tail_alarm() {
                Some(at) => Alarm::Tail(at.min(timeout)),
                None => Alarm::Timeout(timeout),
            }
        };
    }

    fn question_alarm(&mut self, now: Time) -> Alarm {
        // With nothing under way, only the other end's window can keep bytes from leaving.
        if self.unsent() == 0 || self.new_segment(self.mss, now).is_some() {
            return Alarm::None;
        }
        let (since, asked) = self.window.pinches(now);
        let wait = self.rtt.timeout().saturating_mul(1 << asked.min(16)).min(SLOWEST_QUESTION);
        Alarm::Question(since + wait)
    }

    /// When to probe for a lost tail (RFC 8985, 7.2).
    fn tail_alarm(&self) -> Option<Time> {
        let calm = matches!(self.recovery, Recovery::None) && !self.board.has_lost();
        if !calm || !self.sack || self.tail.is_some() || self.urgent.is_some() {
            return None;
        }
        let smoothed = self.rtt.smoothed()?;
        let alone = self.board.flying() <= self.mss || self.board.is_single();
        let patience = smoothed * 2 + if alone { DELAYED } else { Duration::ZERO };
        Some(self.last_sent.max(self.last_heard) + patience)
    }

    /// The way may have failed, and there is another one. What was not answered in a round trip is
    /// repeated now; the timeout begins anew, for what it was doubled by was the old way's fault.
    pub(crate) fn doubt(&mut self, now: Time) {
        let silence = now.since(self.last_heard.max(self.timing_since));
        let patience = self.rtt.smoothed().unwrap_or(self.rtt.timeout());
        if self.board.is_empty() || !(self.rtt.is_backed_off() || silence >= patience) {
            return;
        }
        self.time_out(now);
        self.rtt.forgive();
        self.rtt.back_off();
        self.set_alarm(now);
    }

    fn time_out(&mut self, now: Time) {
        // Reports of what is missing at the very front contradict themselves: the other end has
        // dropped what it reported (RFC 2018, 8).
        self.board.forget_contradiction();
        let outstanding = self.board.outstanding();
        self.rack.timed_out(&mut self.board, &self.rtt, now);
        // Further expiries for the same segment say nothing new (RFC 5681, 3.1).
        if !self.rtt.is_backed_off() {
            self.controller.timed_out(outstanding, now);
            self.doubt = Some(Doubt::default());
        }
        self.recovery = Recovery::Timeout { until: self.board.next() };
        self.rtt.back_off();
        self.timing_since = now;
        (self.tail, self.urgent, self.look_again) = (None, None, None);
    }
}
