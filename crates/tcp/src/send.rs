//! Our half of a connection: bytes that the application gave, until the other end has them.
//!
//! ```text
//!   write ──► [ ring ............................ ]
//!             una          next                end
//!              └─ under way ─┘└─ waits for room ─┘   (the Board knows each segment under way)
//! ```
//!
//! [`Sender::next`] decides what is to leave, [`Sender::sent`] notes that it did. The
//! acknowledgements are in the module `acked`, the alarm that goes off when they do not come in
//! `alarm`.

use std::time::Duration;

mod acked;
mod alarm;
mod board;
mod pacer;
mod rack;
mod rate;
mod recovery;
mod rtt;
mod width;
mod window;

pub(crate) use acked::Acknowledgement;
pub use rate::Rate;
pub(crate) use rtt::Rtt;
pub(crate) use width::News as WidthNews;

use alarm::{Alarm, Urgent};
use board::Board;
use pacer::Pacer;
use rack::Rack;
use rate::Meter;
use recovery::{Doubt, Recovery};
use width::Width;
use window::PeerWindow;

use crate::congestion::{Congestion, Controller};
use crate::ring::Ring;
use crate::seq::{Range, Seq};
use crate::time::Time;

/// Bytes that are waited for at most, to leave in one turn: two dozen datagrams, half of what the kernel
/// takes in one system call.
const GATHERED: usize = 32 * 1024;

/// Bytes that the application may have in the ring beyond what is under way, whatever the window:
/// enough that a new connection has something to send in its first round trips.
const AHEAD: usize = 128 * 1024;

/// Bytes in the ring at most (upstream's stack: 4 MiB; tailscale/wgengine/netstack).
const MOST: usize = 4 << 20;

/// Whether our direction is to end, or has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fin {
    /// More may come.
    None,
    /// It follows the last byte.
    Queued,
    /// It was sent.
    Sent,
    /// The other end has it.
    Acknowledged,
}

/// What is to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// A segment: what it covers, the FIN included.
    Segment(Range),
    /// A question whether the window is open again: a segment without bytes, from before what is
    /// acknowledged, which the other end has to answer. (RFC 9293, 3.8.6.1 would have it carry a
    /// byte; a byte that is refused would be under way for nothing. Linux: `tcp_xmit_probe_skb`.)
    Question,
    /// Nothing before this time.
    Later(Time),
    /// Nothing before something else happens.
    Nothing,
}

/// A probe for a lost tail (RFC 8985, 7) that is under way.
#[derive(Debug, Clone, Copy)]
struct Tail {
    end: Seq,
    /// It repeated the last segment, rather than sending a new one.
    again: bool,
}

/// Our half of a connection.
#[derive(Debug)]
pub(crate) struct Sender {
    ring: Ring,
    board: Board,
    fin: Fin,
    window: PeerWindow,
    rtt: Rtt,
    rack: Rack,
    meter: Meter,
    /// A new round trip begins when so much is delivered.
    round_ends: u64,
    recovery: Recovery,
    doubt: Option<Doubt>,
    controller: Box<dyn Controller>,
    pacer: Pacer,
    alarm: Alarm,
    urgent: Option<Urgent>,
    tail: Option<Tail>,
    /// What may only be reordered is lost then.
    look_again: Option<Time>,
    /// Since when the retransmission timeout runs.
    timing_since: Time,
    /// When a segment was sent last.
    last_sent: Time,
    /// When an acknowledgement came last.
    last_heard: Time,
    duplicates: u32,
    /// Bytes in a segment that passes on every way. All that is counted in segments is counted in
    /// these.
    mss: usize,
    width: Width,
    sack: bool,
}

/// What a sender is made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// The first byte's place.
    pub(crate) start: Seq,
    /// Bytes in a segment that passes on every way.
    pub(crate) mss: usize,
    /// Bytes in a segment that the other end takes.
    pub(crate) taken: usize,
    /// The other end reports what arrives out of order.
    pub(crate) sack: bool,
    /// The other end's windows are scaled by this.
    pub(crate) shift: u8,
    /// The window in its SYN, which is not.
    pub(crate) window: usize,
    /// The round trip of the handshake, if it was measured.
    pub(crate) rtt: Option<Duration>,
    pub(crate) congestion: Congestion,
}

impl Sender {
    pub(crate) fn new(terms: Terms, now: Time) -> Self {
        let mut rtt = Rtt::new();
        if let Some(took) = terms.rtt {
            rtt.measured(took, now);
        }
        Self {
            ring: Ring::default(),
            board: Board::new(terms.start),
            fin: Fin::None,
            window: PeerWindow::new(terms.start, terms.window, terms.shift),
            rtt,
            rack: Rack::new(),
            meter: Meter::default(),
            round_ends: 0,
            recovery: Recovery::None,
            doubt: None,
            controller: terms.congestion.start(terms.mss),
            pacer: Pacer::default(),
            alarm: Alarm::None,
            urgent: None,
            tail: None,
            look_again: None,
            timing_since: now,
            last_sent: now,
            last_heard: now,
            duplicates: 0,
            mss: terms.mss,
            width: Width::new(terms.mss, terms.taken),
            sack: terms.sack,
        }
    }

    /// Everything before is acknowledged (SND.UNA).
    pub(crate) const fn una(&self) -> Seq {
        self.board.una()
    }

    /// Everything before was sent (SND.NXT).
    pub(crate) fn next_seq(&self) -> Seq {
        self.board.next()
    }

    /// When something was sent last.
    pub(crate) const fn last_sent(&self) -> Time {
        self.last_sent
    }

    pub(crate) const fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    /// Bytes not yet acknowledged, sent or not.
    pub(crate) const fn queued(&self) -> usize {
        self.ring.len()
    }

    /// Bytes on their way.
    pub(crate) fn flying(&self) -> usize {
        self.board.flying()
    }

    /// The largest window that the other end ever offered, in bytes (RFC 5961's MAX.SND.WND).
    pub(crate) const fn largest_window(&self) -> usize {
        self.window.largest()
    }

    /// The other end owes an acknowledgement.
    pub(crate) fn waits(&self) -> bool {
        !self.board.is_empty() || self.unsent() > 0 || self.fin == Fin::Queued
    }

    /// Nothing is to be sent and nothing under way.
    pub(crate) fn is_idle(&self) -> bool {
        !self.waits()
    }

    /// The other end has our FIN.
    pub(crate) fn is_finished(&self) -> bool {
        self.fin == Fin::Acknowledged
    }

    /// Our FIN was sent.
    pub(crate) fn said_fin(&self) -> bool {
        matches!(self.fin, Fin::Sent | Fin::Acknowledged)
    }

    /// The application will give no more.
    pub(crate) fn is_closed(&self) -> bool {
        self.fin != Fin::None
    }

    /// Ends our direction behind what was given.
    pub(crate) fn close(&mut self) {
        if self.fin == Fin::None {
            self.fin = Fin::Queued;
        }
    }

    /// Memory held, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.ring.capacity() + self.board.memory()
    }

    /// Gives memory back that an idle connection does not need.
    pub(crate) fn release(&mut self) {
        self.ring.release();
        self.board.release();
    }

    /// Bytes that the application may add, when `most` may be in the ring: twice what may be under
    /// way, so that there is always something to send when room opens.
    pub(crate) fn room(&self, most: usize) -> usize {
        if self.is_closed() {
            return 0;
        }
        let wanted = self.controller.window().saturating_mul(2) + AHEAD;
        wanted.min(MOST).min(most).saturating_sub(self.ring.len())
    }

    /// Free memory for the application to write to, at most so much; to be followed by
    /// [`Sender::wrote`].
    pub(crate) fn vacant(&mut self, most: usize) -> &mut [u8] {
        // The ring grows by what is asked for, but not at once to all that is allowed.
        if self.ring.len() == self.ring.capacity() {
            let more = most.min(self.ring.len().max(1));
            self.ring.reserve(self.ring.len() + more);
        }
        self.ring.vacant(most)
    }

    /// The application wrote so many bytes.
    pub(crate) fn wrote(&mut self, bytes: usize, now: Time) {
        self.ring.advance(bytes);
        // A closed window is asked about from here on.
        if self.board.is_empty() {
            self.set_alarm(now);
        }
    }

    /// The bytes of a segment, and whether it has the FIN and is the last one there is.
    pub(crate) fn contents(&self, range: Range) -> ((&[u8], &[u8]), bool, bool) {
        let offset = range.start.since(self.una());
        let bytes = self.ring.slices(offset, range.len());
        let last = offset + range.len() >= self.ring.len();
        (bytes, range.end > self.data_end(), last)
    }

    /// The way carries segments of so many bytes from now on.
    pub(crate) fn set_carried(&mut self, bytes: usize, now: Time) {
        self.width.set_carried(bytes, now);
    }

    /// What is to be told about the length of segments.
    pub(crate) fn width_news(&mut self) -> Option<WidthNews> {
        self.width.news()
    }

    /// Packets take another way from now on; how short it is has to be seen.
    pub(crate) fn way_changed(&mut self) {
        self.rtt.forget_shortest();
    }

    fn data_end(&self) -> Seq {
        self.una() + self.ring.len()
    }

    /// Bytes given and never sent.
    pub(crate) fn unsent(&self) -> usize {
        self.data_end().since(self.next_seq())
    }

    fn congestion_window(&self) -> usize {
        match self.recovery {
            Recovery::Fast { reduction: Some(reduction), .. } => reduction.window(),
            Recovery::None | Recovery::Timeout { .. } | Recovery::Fast { reduction: None, .. } => {
                self.controller.window()
            }
        }
    }

    /// What is to leave, if not more than `cap` bytes may be under way.
    pub(crate) fn next(&mut self, cap: usize, now: Time) -> Next {
        match self.urgent {
            Some(Urgent::Tail) => return self.tail_probe(),
            Some(Urgent::Question) => return Next::Question,
            None => {}
        }
        let flying = self.flying();
        let window = self.congestion_window().min(cap);
        let room = window.saturating_sub(flying);
        let lost = self.board.first_lost().map(|range| self.piece(range));
        self.width.waits(self.unsent(), window);
        let longest = self.width.longest(window);
        let Some(range) = lost.or_else(|| self.new_segment(longest, now)) else {
            self.mark_limited(room, flying);
            return Next::Nothing;
        };
        // With nothing under way there is nothing to wait for.
        let waits = flying > 0;
        if waits && room < range.len() {
            return Next::Nothing;
        }
        self.pacer.set_rate(self.controller.rate(self.rtt.smoothed()));
        if waits && lost.is_none() && self.gathers(window, room, now) {
            return Next::Nothing;
        }
        match self.pacer.wait(self.mss, now) {
            Some(later) => Next::Later(later),
            None => Next::Segment(range),
        }
    }

    /// Whether new bytes wait for more room. While much is under way more acknowledgements are to
    /// come, and what they make room for leaves in one turn: a turn costs both ends system calls.
    /// It is worth what may leave in one burst, a third of the window at most. (Linux:
    /// `tcp_tso_autosize`, `tcp_tso_should_defer`.)
    fn gathers(&self, window: usize, room: usize, now: Time) -> bool {
        // What goes on in this turn does not wait, and neither does what is not paced yet.
        let Some(burst) = self.pacer.burst().filter(|_| self.last_sent != now) else {
            return false;
        };
        let worth = burst.min(GATHERED).min(window / 3);
        let room = room.min(self.window.room(self.next_seq()));
        // Nor does what is the last there is.
        room < worth && room < self.unsent()
    }

    /// Whether nothing may follow a segment before something is acknowledged, if not more than `cap`
    /// bytes may be under way.
    pub(crate) fn fills(&self, range: Range, cap: usize) -> bool {
        let room = self.congestion_window().min(cap).saturating_sub(self.flying());
        room.min(self.window.room(range.start)) < range.len() + self.mss
    }

    /// Something is to be sent for which there would be room but for the cap.
    pub(crate) fn is_capped(&self, cap: usize) -> bool {
        let wants = self.unsent() > 0 || self.board.has_lost();
        let longest = self.width.longest(cap);
        wants && cap < self.congestion_window() && self.flying() + longest > cap
    }

    /// The application gives less than may be sent, which the measured rate has to know.
    fn mark_limited(&mut self, room: usize, flying: usize) {
        if room >= self.mss && self.unsent() == 0 && !self.board.has_lost() {
            self.meter.limited(flying);
        }
    }

    /// What of a lost segment leaves at once: what was too long for the way passes in pieces.
    fn piece(&self, range: Range) -> Range {
        let bytes = range.end.min(self.data_end()).since(range.start);
        let end = if bytes > self.mss { range.start + self.mss } else { range.end };
        Range::new(range.start, end)
    }

    /// The next bytes never sent, at most `longest` of them, as the other end's window and the
    /// avoidance of small segments (RFC 9293, 3.8.6.2.1) allow.
    fn new_segment(&mut self, longest: usize, now: Time) -> Option<Range> {
        let start = self.next_seq();
        let unsent = self.unsent();
        if unsent == 0 {
            return (self.fin == Fin::Queued).then(|| Range::new(start, start + 1));
        }
        let offered = self.window.room(start);
        let bytes = unsent.min(longest).min(offered);
        let worth = bytes >= self.mss
            || bytes == unsent
            || (bytes > 0 && bytes >= self.window.largest() / 2)
            || (bytes > 0 && self.window.pinched_for(now) >= self.rtt.timeout());
        if !worth {
            return None;
        }
        let with_fin = bytes == unsent && self.fin == Fin::Queued;
        Some(Range::new(start, start + bytes + usize::from(with_fin)))
    }

    /// New bytes if there are any, or else the end of the last segment once more (RFC 8985, 7.3).
    fn tail_probe(&mut self) -> Next {
        let start = self.next_seq();
        let bytes = self.unsent().min(self.mss).min(self.window.room(start));
        let new = (bytes > 0).then(|| Range::new(start, start + bytes));
        let end_of = |range: Range| match range.len() > self.mss + 1 {
            true => Range::new(range.end - self.mss, range.end),
            false => range,
        };
        match new.or_else(|| self.board.last().map(end_of)) {
            Some(range) => Next::Segment(range),
            None => Next::Nothing,
        }
    }

    /// What [`Sender::next`] said has left; `stamp` is its timestamp.
    pub(crate) fn sent(&mut self, next: Next, stamp: u32, now: Time) {
        let urgent = self.urgent.take();
        let range = match next {
            Next::Segment(range) => range,
            Next::Question | Next::Later(_) | Next::Nothing => return self.set_alarm(now),
        };
        let nothing_under_way = self.board.is_empty();
        if nothing_under_way {
            self.wake(now);
        }
        let again = range.start < self.next_seq();
        let mark = self.meter.stamp(self.flying() == 0, now);
        if again {
            let whole = self.board.sent_again(range, now, mark);
            self.width.repeated(whole, range.len());
            // A timeout before its answer can be here would be a mistake (Linux:
            // `tcp_xmit_retransmit_queue`).
            if range.start == self.una() {
                self.timing_since = now;
            }
            if let Some(doubt) = &mut self.doubt {
                doubt.first_stamp.get_or_insert(stamp);
                doubt.again += 1;
                doubt.unexplained += 1;
            }
        } else {
            self.board.push(range.end, now, mark);
            if range.end > self.data_end() {
                self.fin = Fin::Sent;
            }
        }
        if urgent == Some(Urgent::Tail) {
            self.tail = Some(Tail { end: self.next_seq(), again });
            self.timing_since = now;
        }
        if let Recovery::Fast { reduction: Some(reduction), .. } = &mut self.recovery {
            reduction.sent(range.len());
        }
        self.pacer.sent(range.len(), now);
        self.last_sent = now;
        self.set_alarm(now);
    }

    /// Something is sent after nothing was under way: the timeout begins to run, and after a pause
    /// what was known of the way is old.
    fn wake(&mut self, now: Time) {
        let pause = now.since(self.last_sent);
        let timeouts = pause.as_micros() / self.rtt.timeout().as_micros().max(1);
        if timeouts > 0 {
            self.controller.idle(u32::try_from(timeouts).unwrap_or(u32::MAX), now);
        }
        self.timing_since = now;
    }
}
