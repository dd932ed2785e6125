//! An open connection: our half, the other half, and what a segment means for both.

use std::time::Duration;

use super::syn::{self, Heard, Syn};
use super::{Noted, Reaction, State};
use crate::config::{Config, HEADERS, MSS};
use crate::event::CloseReason;
use crate::receive::Receiver;
use crate::segment::{Segment, Stamps};
use crate::send::{Acknowledgement, Next, Sender, Terms};
use crate::seq::Seq;
use crate::time::Time;

/// Bytes that the timestamps option takes of each segment.
const STAMPS: u16 = 12;

/// Buffers of a connection that neither sends nor receives for so long go back to the system.
const IDLE: Duration = Duration::from_secs(2);

/// A timestamp is too old to judge others by (RFC 7323, 5.5).
const STAMP_VALID: Duration = Duration::from_hours(24 * 24);

/// Answers to segments that may be forged, in each second (RFC 5961, 7).
const CHALLENGES: u32 = 10;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    /// Timestamps, if both sides have them (RFC 7323).
    stamping: Option<Stamping>,
    /// Both sides report what arrives out of order.
    pub(super) sack: bool,
    /// The other end closed before we did.
    closed_second: bool,
    /// The application asked for nothing, and a keep-alive question is due.
    pub(super) asks: bool,
    challenges: Challenges,
}

/// What RFC 7323 keeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamping {
    /// The timestamp to echo (TS.Recent), and when it came.
    pub(super) recent: u32,
    at: Time,
    /// The last acknowledgement that was sent (Last.ACK.sent).
    pub(super) acknowledged: Seq,
}

/// Answers to segments that may be forged, which must not become a flood.
#[derive(Debug, Clone, Copy, Default)]
struct Challenges {
    since: Time,
    answered: u32,
}

impl Challenges {
    fn may_answer(&mut self, now: Time) -> bool {
        if now.since(self.since) >= Duration::from_secs(1) {
            *self = Self { since: now, answered: 0 };
        }
        self.answered += 1;
        self.answered <= CHALLENGES
    }
}

impl Flow {
    /// The handshake is done.
    pub(super) fn new(syn: &Syn, heard: &Heard, config: &Config, now: Time) -> Self {
        let stamp = heard.stamp.filter(|_| config.timestamps);
        let options = if stamp.is_some() { STAMPS } else { 0 };
        let next = heard.irs + 1;
        let rtt = syn.round_trip(now);
        let shift = if heard.shift.is_some() { syn::SHIFT } else { 0 };
        let offered = usize::from(Receiver::first_window());
        let mut receiver = Receiver::new(next, offered, shift, usize::from(MSS), now);
        if let Some(rtt) = rtt {
            receiver.round_trip(rtt, now);
        }
        let terms = Terms {
            start: syn.iss + 1,
            mss: usize::from(heard.mss.min(MSS) - options),
            taken: usize::from(heard.mss - options),
            sack: heard.sack,
            shift: heard.shift.unwrap_or(0),
            window: usize::from(heard.window),
            rtt,
            congestion: config.congestion,
        };
        let stamping = stamp.map(|recent| Stamping { recent, at: now, acknowledged: next });
        Self {
            sender: Sender::new(terms, now),
            receiver,
            stamping,
            sack: heard.sack,
            closed_second: false,
            asks: false,
            challenges: Challenges::default(),
        }
    }

    /// The way carries packets of so many bytes from now on.
    pub(crate) fn set_width(&mut self, packet: usize, now: Time) {
        let options = if self.stamping.is_some() { usize::from(STAMPS) } else { 0 };
        self.sender.set_carried(packet.saturating_sub(HEADERS + options), now);
    }

    /// RFC 9293's name for who has closed and who knows.
    pub(super) fn state(&self) -> State {
        let acknowledged = self.sender.is_finished();
        match (self.sender.said_fin(), self.receiver.is_finished()) {
            (false, false) => State::Established,
            (false, true) => State::CloseWait,
            (true, false) if acknowledged => State::FinWait2,
            (true, false) => State::FinWait1,
            (true, true) if self.closed_second => State::LastAck,
            (true, true) => State::Closing,
        }
    }

    pub(super) fn ingest(&mut self, segment: &Segment<'_>, now: Time) -> Reaction {
        let header = &segment.header;
        let flags = header.flags;
        let sequence = self.receiver.next().near(header.sequence);
        if !self.check_stamp(header.options.stamps, flags.rst, now) {
            return self.challenge(now);
        }
        let acceptable = self.receiver.accepts(sequence, segment.occupies());
        if flags.rst {
            // RFC 5961, 3.2.
            return match (sequence == self.receiver.next(), acceptable) {
                (true, _) => Reaction::Ended(CloseReason::Reset),
                (false, true) => self.challenge(now),
                (false, false) => Reaction::Noted(Noted::default()),
            };
        }
        if flags.syn {
            // RFC 5961, 4.2.
            return self.challenge(now);
        }
        // A full receiver still hears what is acknowledged (RFC 9293, 3.10.7.4).
        let refused = !acceptable && sequence == self.receiver.next();
        if !acceptable && !refused {
            return self.repeated(sequence, segment, now);
        }
        if !flags.ack {
            return Reaction::Noted(Noted::default());
        }
        self.note_stamp(header.options.stamps, sequence, now);
        let mut noted = Noted::default();
        if !self.acknowledged(segment, sequence, &mut noted, now) {
            return self.challenge(now);
        }
        if refused {
            self.receiver.acknowledge_at_once();
        } else {
            let was_finished = self.receiver.is_finished();
            let taken = self.receiver.take(sequence, segment.payload, flags.fin, now);
            if flags.psh {
                self.receiver.pushed();
            }
            noted.received = taken.in_order;
            noted.missing = taken.missing;
            noted.peer_closed = taken.ended && !was_finished;
            self.closed_second |= noted.peer_closed && !self.sender.said_fin();
        }
        if self.sender.is_finished() && self.receiver.is_finished() {
            return Reaction::Finished { linger: !self.closed_second };
        }
        Reaction::Noted(noted)
    }

    /// The acknowledging half of a segment. Says whether it can be right.
    fn acknowledged(
        &mut self,
        segment: &Segment<'_>,
        sequence: Seq,
        noted: &mut Noted,
        now: Time,
    ) -> bool {
        let header = &segment.header;
        let una = self.sender.una().near(header.acknowledgement);
        // RFC 5961, 5.2: of what was never sent, or from long ago.
        let oldest = self.sender.una() - self.sender.largest_window();
        if una > self.sender.next_seq() || una < oldest {
            return false;
        }
        if una < self.sender.una() {
            return true;
        }
        let sack = if self.sack { header.options.sack.as_slice() } else { &[] };
        let progress = self.sender.acknowledged(
            &Acknowledgement {
                sequence,
                una,
                window: header.window,
                sack,
                echo: header.options.stamps.filter(|_| self.stamping.is_some()).map(|it| it.echo),
                bare: segment.occupies() == 0,
            },
            now,
        );
        noted.acknowledged = progress.bytes;
        noted.rtt = progress.rtt;
        noted.lost = progress.lost;
        if let Some(rtt) = progress.rtt {
            self.receiver.round_trip(rtt, now);
        }
        true
    }

    /// A segment outside of what is offered: an old one, a question, or a forged one. It is
    /// answered with where we are (RFC 9293, 3.10.7.4).
    fn repeated(&mut self, sequence: Seq, segment: &Segment<'_>, now: Time) -> Reaction {
        if sequence + segment.payload.len() <= self.receiver.next() && !segment.payload.is_empty() {
            // A copy is told so (RFC 2883).
            self.receiver.take(sequence, segment.payload, false, now);
            return Reaction::Noted(Noted::default());
        }
        self.challenge(now)
    }

    /// Answers with an acknowledgement, unless that was done too often.
    fn challenge(&mut self, now: Time) -> Reaction {
        if self.challenges.may_answer(now) {
            self.receiver.acknowledge_at_once();
        }
        Reaction::Noted(Noted::default())
    }

    /// Whether a segment may be taken by its timestamp (RFC 7323, 5.3).
    fn check_stamp(&self, stamps: Option<Stamps>, rst: bool, now: Time) -> bool {
        let Some(stamping) = &self.stamping else { return true };
        // One without is not taken either (RFC 7323, 3.2).
        let Some(stamps) = stamps else { return rst };
        let older = (stamps.value.wrapping_sub(stamping.recent) as i32) < 0;
        rst || !older || now.since(stamping.at) > STAMP_VALID
    }

    /// Notes the timestamp to echo (RFC 7323, 4.3).
    fn note_stamp(&mut self, stamps: Option<Stamps>, sequence: Seq, now: Time) {
        if let (Some(stamping), Some(stamps)) = (&mut self.stamping, stamps)
            && sequence <= stamping.acknowledged
        {
            (stamping.recent, stamping.at) = (stamps.value, now);
        }
    }

    /// The timestamps to send.
    pub(crate) fn stamps(&self, now: Time) -> Option<Stamps> {
        self.stamping.map(|it| Stamps { value: now.stamp(), echo: it.recent })
    }

    /// An acknowledgement leaves.
    pub(super) fn stamped(&mut self) {
        if let Some(stamping) = &mut self.stamping {
            stamping.acknowledged = self.receiver.next();
        }
    }

    /// When a segment is to be made.
    pub(super) fn due(&mut self, cap: usize, now: Time) -> Option<Time> {
        if self.asks {
            return Some(now);
        }
        let sends = match self.sender.next(cap, now) {
            Next::Segment(_) | Next::Question => Some(now),
            Next::Later(at) => Some(at),
            Next::Nothing => None,
        };
        [sends, self.receiver.due(now)].into_iter().flatten().min()
    }

    /// When [`Flow::fire`] is wanted.
    pub(super) fn deadline(&self) -> Option<Time> {
        [self.sender.deadline(), self.releases()].into_iter().flatten().min()
    }

    /// Time has passed.
    pub(super) fn fire(&mut self, now: Time) {
        self.sender.fire(now);
        if self.releases().is_some_and(|at| at <= now) {
            self.sender.release();
            self.receiver.release(now);
        }
    }

    /// When the buffers may go.
    fn releases(&self) -> Option<Time> {
        let unused = self.sender.is_idle() && self.receiver.unread() == 0;
        let held = self.memory() > 0 && !self.receiver.has_report();
        let last = self.sender.last_sent().max(self.receiver.last());
        (unused && held).then(|| last + IDLE)
    }

    /// Memory held in buffers, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.sender.memory() + self.receiver.memory()
    }
}
