//! The other end's half of a connection: bytes that arrived, until the application took them.
//!
//! ```text
//!            [ in order, unread | hole | ahead of its turn |            ]
//!                               next                                    edge
//! ```
//!
//! Everything up to the edge was offered as window and is never taken back (RFC 9293, 3.8.6).
//! Memory is used for what arrives, not for what is offered.

use std::time::Duration;

mod assembler;
mod owed;
mod tuning;

use assembler::Assembler;
use owed::Owed;
use tuning::Tuning;

use crate::ring::Ring;
use crate::segment::SackBlocks;
use crate::seq::{Range, Seq};
use crate::time::Time;

/// The other end's half of a connection.
#[derive(Debug)]
pub(crate) struct Receiver {
    ring: Ring,
    ahead: Assembler,
    /// The next byte in order (RCV.NXT).
    next: Seq,
    /// What was offered ends here.
    edge: Seq,
    /// Where the other end's bytes end, once its FIN told.
    end: Option<Seq>,
    owed: Owed,
    tuning: Tuning,
    /// A run that arrived once more, to be told (RFC 2883).
    copy: Option<Range>,
    /// Offered windows are scaled by this.
    shift: u8,
    mss: usize,
    last: Time,
}

/// What a segment brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Taken {
    /// Bytes that are in order now and were not before.
    pub(crate) in_order: usize,
    /// All of the other end's bytes are here.
    pub(crate) ended: bool,
    /// A segment was out of its turn: something is missing.
    pub(crate) missing: bool,
}

impl Receiver {
    /// A receiver whose first byte has the place `next`; a window of `offered` bytes was told.
    pub(crate) fn new(next: Seq, offered: usize, shift: u8, mss: usize, now: Time) -> Self {
        Self {
            ring: Ring::default(),
            ahead: Assembler::default(),
            next,
            edge: next + offered,
            end: None,
            owed: Owed::new(),
            tuning: Tuning::new(now),
            copy: None,
            shift,
            mss,
            last: now,
        }
    }

    /// The window for a SYN, which is not scaled.
    pub(crate) const fn first_window() -> u16 {
        if tuning::FIRST > 0xffff { 0xffff } else { tuning::FIRST as u16 }
    }

    /// What is acknowledged (RCV.NXT).
    pub(crate) fn next(&self) -> Seq {
        // A FIN occupies a place of its own.
        self.next + usize::from(self.is_finished())
    }

    /// The other end's FIN and all before it has arrived.
    pub(crate) fn is_finished(&self) -> bool {
        self.end == Some(self.next)
    }

    /// Bytes that wait for the application.
    pub(crate) const fn unread(&self) -> usize {
        self.ring.len()
    }

    /// When the last segment with bytes came.
    pub(crate) const fn last(&self) -> Time {
        self.last
    }

    /// Whether a segment of so many bytes, SYN and FIN counted, lies within what was offered
    /// (RFC 9293, 3.10.7.4).
    pub(crate) fn accepts(&self, sequence: Seq, length: usize) -> bool {
        let next = self.next();
        let window = self.edge.max(next);
        match (length, window > next) {
            (0, false) => sequence == next,
            (0, true) => sequence >= next && sequence < window,
            (_, false) => false,
            (_, true) => sequence < window && sequence + length > next,
        }
    }

    /// Takes in the bytes of an acceptable segment.
    pub(crate) fn take(&mut self, sequence: Seq, bytes: &[u8], fin: bool, now: Time) -> Taken {
        if bytes.is_empty() && !fin {
            return Taken::default();
        }
        self.last = now;
        let whole = Range::new(sequence, sequence + bytes.len());
        // What lies behind the window, or behind the end, is not taken.
        let limit = self.end.map_or(self.edge, |end| end.min(self.edge));
        let range = Range::new(whole.start.max(self.next), whole.end.min(limit));
        if fin && whole.end <= self.edge.max(self.next) && whole.end >= self.next {
            self.end.get_or_insert(whole.end);
        }
        let before = self.next;
        let mut taken = Taken::default();
        if range.is_empty() {
            self.note_copy(whole);
        } else if range.start > self.next {
            taken.missing = true;
            self.take_ahead(range, &bytes[range.start.since(sequence)..range.end.since(sequence)]);
        } else {
            self.note_copy(Range::new(whole.start, before));
            let new = &bytes[range.start.since(sequence)..range.end.since(sequence)];
            self.ring.put_ahead(0, new);
            let filled = !self.ahead.is_empty();
            self.next = self.ahead.advance(range.end);
            self.ring.advance(self.next.since(before));
            taken.in_order = self.next.since(before);
            // A hole that closes is told at once (RFC 5681, 4.2).
            if filled {
                self.owed.at_once();
            }
            self.owed.in_order(taken.in_order, self.mss, now);
        }
        taken.ended = self.is_finished();
        if taken.ended {
            self.owed.at_once();
        }
        taken
    }

    /// The other end has nothing more to send for now.
    pub(crate) fn pushed(&mut self) {
        self.owed.pushed(self.mss);
    }

    fn take_ahead(&mut self, range: Range, bytes: &[u8]) {
        let known = self.ahead.holding(range).is_some();
        if known {
            self.copy = Some(range);
        }
        if known || self.ahead.add(range) {
            self.ring.put_ahead(range.start.since(self.next), bytes);
        }
        self.owed.lost();
        self.owed.one_more();
    }

    /// Bytes came that are here already.
    fn note_copy(&mut self, range: Range) {
        if !range.is_empty() {
            self.copy = Some(range);
            self.owed.one_more();
        }
    }

    /// A segment came that calls for an acknowledgement whatever it carries.
    pub(crate) fn acknowledge_at_once(&mut self) {
        self.owed.at_once();
    }

    /// When an acknowledgement is due.
    pub(crate) fn due(&self, now: Time) -> Option<Time> {
        self.owed.due(now)
    }

    /// Something leaves that acknowledges, with `sack` if reports are wanted: the window to tell in
    /// it, as on the wire, and the blocks.
    pub(crate) fn acknowledging(&mut self, most: usize) -> (u16, SackBlocks) {
        self.owed.paid();
        self.edge = self.edge.max(self.wanted_edge(most));
        let window = self.edge.since(self.next()) >> self.shift;
        let blocks = self.ahead.blocks(self.copy.take());
        (u16::try_from(window).unwrap_or(u16::MAX), blocks)
    }

    /// Where what is offered should end, when at most so many bytes should be; in steps of the
    /// window's scale, for what cannot be told is not offered.
    fn wanted_edge(&self, most: usize) -> Seq {
        let limit = self.tuning.window().min(most);
        let free = limit.saturating_sub(self.ring.len());
        let told = (free >> self.shift).min(usize::from(u16::MAX)) << self.shift;
        // A little room is not worth telling (RFC 9293, 3.8.6.2.2).
        let wanted = self.next + told;
        let worth = (limit / 2).min(self.mss);
        if wanted.since(self.edge) >= worth { wanted } else { self.edge }
    }

    /// Bytes in order for the application, as many as lie together.
    pub(crate) fn front(&self) -> &[u8] {
        self.ring.front()
    }

    /// The application took so many bytes. Says whether the other end should hear of the room.
    pub(crate) fn consume(&mut self, bytes: usize, most: usize, now: Time) {
        self.ring.consume(bytes);
        self.tuning.taken(bytes, now);
        if self.end.is_some() {
            return;
        }
        // Worth a segment of its own if the sender may be waiting: its room at least doubles, or it
        // is a good part of the window.
        let room = self.edge.since(self.next);
        let gain = self.wanted_edge(most).since(self.edge);
        if gain > 0 && (gain >= room || gain >= self.tuning.window().min(most) / 2) {
            self.owed.at_once();
        }
    }

    /// There is something to report besides what is acknowledged.
    pub(crate) fn has_report(&self) -> bool {
        self.copy.is_some() || !self.ahead.is_empty()
    }

    /// What the application has not read; nothing more will come.
    pub(crate) fn into_unread(self) -> Ring {
        self.ring
    }

    /// A round trip took this long.
    pub(crate) fn round_trip(&mut self, took: Duration, now: Time) {
        self.tuning.round_trip(took, now);
    }

    /// Memory held, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.ring.capacity()
    }

    /// Gives memory back, of a connection that is idle.
    pub(crate) fn release(&mut self, now: Time) {
        if self.ahead.is_empty() {
            self.ring.release();
            self.tuning.idle(now);
        }
    }
}
