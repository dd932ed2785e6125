//! How much the other ends may send us.
//!
//! A window is all that a receiver has to say about what its senders do, and it matters here:
//! between a sender and us are queues that drop what they cannot hold. The relay's holds 512
//! packets; an agent's own before the relay as many as its memory allows, from 32 up (67 with
//! 4 GiB, 386 with 23; coder/tailscale: wgengine/magicsock/derp.go, `bufferedDerpWritesBeforeDrop`).
//! A window beyond that is answered by bursts that are dropped again and again. (Measured with a
//! Go agent that holds 386 packets: 512 KiB, which are 443, cost 1,400 repeated acknowledgements
//! on 256 MiB and 40 % more of the agent's time than 384 KiB, which cost none.)
//!
//! So all that may be under way to us ([`Intake`]) begins with what the relay holds, shrinks when
//! something is missing (a relay does not reorder), and grows again slowly. To it comes what the
//! way itself holds ([`Way`]). Each of those that receive gets an equal share. What a connection
//! once offered it never takes back ([`Offer`]; RFC 9293, 3.8.6).

use std::time::{Duration, Instant};

use super::way::Way;
use crate::packet::{MSS, TcpSegment};

/// What may be in queues at first, and at most: the relay's, nearly full.
const MOST: usize = 512 * 1024;

/// What may be in queues at least: 54 packets; half the smallest queue is not worth more losses.
const LEAST: usize = 64 * 1024;

/// Growth after so many bytes without a loss. A loss costs about a round trip of throughput, so it
/// must stay rare: from 384 KiB it is half a gigabyte to the next try of 512.
const CLEAN: usize = 64 << 20;

/// How much it grows.
const STEP: usize = 16 * 1024;

/// Losses this close belong together: connections lose in the same overflow.
const TOGETHER: Duration = Duration::from_millis(100);

/// Whoever receives [`BULK`] bytes in this time counts as one of those that share; it must not be
/// shorter than a round trip.
const EPOCH: Duration = Duration::from_millis(250);

/// A connection that receives less has nothing of the queues.
const BULK: usize = 16 * 1024;

/// What all connections together may have under way to us.
#[derive(Debug)]
pub(super) struct Intake {
    queues: usize,
    way: Way,
    clean: usize,
    lost: Option<Instant>,
    epoch: u64,
    epoch_ends: Instant,
    /// Connections that received in this epoch, and in the one before.
    receiving: usize,
    received: usize,
}

/// One connection's part in [`Intake`].
#[derive(Debug, Default)]
pub(super) struct Part {
    epoch: u64,
    bytes: usize,
}

impl Intake {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            queues: MOST,
            way: Way::new(now),
            clean: 0,
            lost: None,
            epoch: 1,
            epoch_ends: now + EPOCH,
            receiving: 0,
            received: 0,
        }
    }

    /// A round trip through the tunnel took this long.
    pub(super) fn round_trip(&mut self, took: Duration, now: Instant) {
        self.way.round_trip(took, now);
    }

    /// Data arrived for a connection.
    pub(super) fn received(&mut self, part: &mut Part, bytes: usize, now: Instant) {
        self.turn(now);
        if part.epoch != self.epoch {
            *part = Part { epoch: self.epoch, bytes: 0 };
        }
        let before = part.bytes;
        part.bytes += bytes;
        self.receiving += usize::from(before < BULK && part.bytes >= BULK);
        self.way.acknowledged(bytes, now);
        self.clean += bytes;
        if self.clean >= CLEAN {
            self.clean = 0;
            self.queues = (self.queues + STEP).min(MOST);
        }
    }

    /// Something is missing on a connection.
    pub(super) fn lost(&mut self, now: Instant) {
        self.clean = 0;
        let known = |at| now.saturating_duration_since(at) < TOGETHER;
        if !self.lost.replace(now).is_some_and(known) {
            self.queues = (self.queues / 4 * 3).max(LEAST);
        }
    }

    /// How much one connection may have under way to us.
    pub(super) fn share(&self) -> usize {
        let streams = self.receiving.max(self.received).max(1);
        ((self.queues + self.way.holds()) / streams).max(2 * MSS)
    }

    fn turn(&mut self, now: Instant) {
        if now < self.epoch_ends {
            return;
        }
        // After a pause nobody is known to receive.
        let at_once = now < self.epoch_ends + EPOCH;
        self.received = if at_once { self.receiving } else { 0 };
        self.receiving = 0;
        self.epoch += 1;
        self.epoch_ends = now + EPOCH;
    }
}

/// What one connection offers its other end.
#[derive(Debug, Default)]
pub(super) struct Offer {
    /// How our window is written, if both ends scale.
    shift: Option<u8>,
    peer_scales: bool,
    /// The next byte in order.
    next: Option<u32>,
    /// The window in our SYN, which is never scaled.
    first: u32,
    /// The end of what was offered.
    edge: u32,
    /// Bytes up to here were under way when the last loss was seen.
    recover: Option<u32>,
}

impl Offer {
    /// Takes in a segment of the other end, of which `taken` bytes were new and in order (those that
    /// filled a hole bring along what came behind). Whether something is missing that was not
    /// missing before.
    pub(super) fn heard(&mut self, segment: &TcpSegment, taken: usize) -> bool {
        if segment.flags.syn() {
            self.peer_scales = segment.window_scale.is_some();
            let next = segment.sequence.wrapping_add(1);
            self.next = Some(next);
            self.edge = next.wrapping_add(self.first);
            return false;
        }
        let Some(next) = &mut self.next else { return false };
        let ahead = is_ahead(segment.sequence, *next);
        // Lengths are those of packets and buffers, far below 2^31.
        *next = next.wrapping_add(taken as u32);
        if self.recover.is_some_and(|recover| !is_ahead(recover, *next)) {
            self.recover = None;
        }
        let hole = segment.payload_len > 0 && taken == 0 && ahead;
        hole && self.recover.replace(self.edge).is_none()
    }

    /// The window field for a segment of ours that acknowledges everything in order, where smoltcp
    /// has written `field`: no more than `limit` beyond the `unread` bytes. `None` to leave it.
    pub(super) fn window(
        &mut self,
        segment: &TcpSegment,
        unread: usize,
        limit: usize,
    ) -> Option<u16> {
        if segment.flags.syn() {
            self.shift = segment.window_scale;
            self.first = u32::from(segment.window);
            self.edge = self.next.unwrap_or(0).wrapping_add(self.first);
            return None;
        }
        if !segment.flags.ack() || segment.flags.rst() || self.next.is_none() {
            return None;
        }
        let shift = self.shift.filter(|_| self.peer_scales).unwrap_or(0);
        let acknowledged = segment.acknowledgement;
        let offered = if is_ahead(self.edge, acknowledged) {
            self.edge.wrapping_sub(acknowledged) as usize
        } else {
            0
        };
        let unit = 1_usize << shift;
        let may = limit.saturating_sub(unread) / unit;
        let field = may.max(offered.div_ceil(unit)).min(usize::from(segment.window));
        self.edge = acknowledged.wrapping_add((field << shift) as u32);
        u16::try_from(field).ok()
    }

    /// The acknowledgement number and window field of a segment that says nothing but that there is
    /// room again, if that is worth one: half of the limit (RFC 9293, 3.8.6.2.2). smoltcp does not
    /// know what we made of its windows, so it cannot tell.
    pub(super) fn reopens(&self, unread: usize, limit: usize) -> Option<(u32, u16)> {
        let next = self.next?;
        let remaining =
            if is_ahead(self.edge, next) { self.edge.wrapping_sub(next) as usize } else { 0 };
        let may = limit.saturating_sub(unread);
        if may < remaining + (limit / 2).max(2 * MSS) {
            return None;
        }
        let shift = self.shift.filter(|_| self.peer_scales).unwrap_or(0);
        Some((next, u16::try_from(may >> shift).unwrap_or(u16::MAX)))
    }

    /// That segment was made.
    pub(super) fn reopened(&mut self, (next, field): (u32, u16)) {
        let shift = self.shift.filter(|_| self.peer_scales).unwrap_or(0);
        self.edge = next.wrapping_add(u32::from(field) << shift);
    }
}

/// Whether sequence number `a` is behind `b` in the stream, which is later in time.
fn is_ahead(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::TcpFlags;

    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;

    fn segment(flags: u8, sequence: u32, acknowledgement: u32, payload_len: usize) -> TcpSegment {
        TcpSegment {
            source: 1,
            destination: 2,
            sequence,
            acknowledgement,
            flags: TcpFlags::from_bits(flags),
            window: 0x8000,
            window_scale: (flags & SYN != 0).then_some(4),
            payload_len,
        }
    }

    /// A connection whose other end begins at 1000.
    fn open() -> Offer {
        let mut offer = Offer::default();
        assert_eq!(offer.window(&segment(SYN, 1, 0, 0), 0, 1 << 20), None);
        assert!(!offer.heard(&segment(SYN | ACK, 999, 2, 0), 0));
        offer
    }

    fn offered(offer: &mut Offer, acknowledgement: u32, unread: usize, limit: usize) -> usize {
        let field = offer.window(&segment(ACK, 2, acknowledgement, 0), unread, limit);
        usize::from(field.expect("a window")) << 4
    }

    #[test]
    fn the_limit_holds_beside_what_is_unread() {
        let mut offer = open();
        // smoltcp's own: 0x8000, scaled by 4.
        assert_eq!(offered(&mut offer, 1000, 0, 1 << 20), 0x80000);
        let mut offer = open();
        assert_eq!(offered(&mut offer, 1000, 0, 200_000), 200_000);
        offer.heard(&segment(ACK, 1000, 2, 160_000), 160_000);
        assert_eq!(offered(&mut offer, 161_000, 100_000, 200_000), 100_000);
    }

    #[test]
    fn what_was_offered_is_not_taken_back() {
        let mut offer = open();
        assert_eq!(offered(&mut offer, 1000, 0, 400_000), 400_000);
        offer.heard(&segment(ACK, 1000, 2, 80_000), 80_000);
        assert_eq!(offered(&mut offer, 81_000, 0, 100_000), 320_000);
        offer.heard(&segment(ACK, 81_000, 2, 300_000), 300_000);
        assert_eq!(offered(&mut offer, 381_000, 0, 100_000), 100_000);
        // Neither is the window of the SYN.
        let mut offer = open();
        assert_eq!(offered(&mut offer, 1000, 0, 1000), 0x8000);
    }

    #[test]
    fn without_scaling_at_the_other_end_there_is_none() {
        let mut offer = Offer::default();
        offer.window(&segment(SYN, 1, 0, 0), 0, 1 << 20);
        offer.heard(&TcpSegment { window_scale: None, ..segment(SYN | ACK, 999, 2, 0) }, 0);
        let window = offer.window(&segment(ACK, 2, 1000, 0), 0, 40_000);
        assert_eq!(window, Some(0x8000));
    }

    #[test]
    fn a_hole_is_told_once() {
        let mut offer = open();
        offered(&mut offer, 1000, 0, 100_000);
        assert!(offer.heard(&segment(ACK, 2000, 2, 500), 0));
        assert!(!offer.heard(&segment(ACK, 2500, 2, 500), 0));
        // An old copy is no hole, and filling one ends nothing that was under way with it.
        assert!(!offer.heard(&segment(ACK, 1000, 2, 1000), 2000));
        assert!(!offer.heard(&segment(ACK, 1000, 2, 1000), 0));
        assert!(!offer.heard(&segment(ACK, 4000, 2, 500), 0));
        assert!(!offer.heard(&segment(ACK, 3000, 2, 99_000), 99_000));
        offered(&mut offer, 102_000, 0, 100_000);
        assert!(offer.heard(&segment(ACK, 103_000, 2, 500), 0));
    }

    #[test]
    fn room_is_told_when_it_is_half_of_the_limit() {
        let mut offer = open();
        assert_eq!(offered(&mut offer, 1000, 0, 100_000), 100_000);
        offer.heard(&segment(ACK, 1000, 2, 100_000), 100_000);
        assert_eq!(offered(&mut offer, 101_000, 100_000, 100_000), 0);
        assert_eq!(offer.reopens(50_016, 100_000), None);
        let update = offer.reopens(50_000, 100_000).expect("half of it is free");
        assert_eq!(update, (101_000, 50_000 >> 4));
        offer.reopened(update);
        assert_eq!(offer.reopens(50_000, 100_000), None);
        assert_eq!(offered(&mut offer, 101_000, 50_000, 100_000), 50_000);
    }

    #[test]
    fn losses_shrink_what_queues_may_hold_and_it_grows_back_slowly() {
        let mut now = Instant::now();
        let mut intake = Intake::new(now);
        let mut part = Part::default();
        assert_eq!(intake.share(), MOST);
        intake.lost(now);
        // Of the same overflow.
        intake.lost(now + TOGETHER / 2);
        assert_eq!(intake.share(), MOST / 4 * 3);
        intake.received(&mut part, CLEAN, now);
        assert_eq!(intake.share(), MOST / 4 * 3 + STEP);
        for _ in 0..20 {
            now += TOGETHER * 2;
            intake.lost(now);
        }
        assert_eq!(intake.share(), LEAST);
        for _ in 0..100 {
            intake.received(&mut part, CLEAN, now);
        }
        assert_eq!(intake.share(), MOST);
    }

    #[test]
    fn those_that_receive_share_and_those_that_only_chat_do_not() {
        let mut now = Instant::now();
        let mut intake = Intake::new(now);
        let mut parts: [Part; 3] = Default::default();
        for _ in 0..10 {
            now += EPOCH / 2;
            let [first, second, chat] = &mut parts;
            intake.received(first, BULK, now);
            intake.received(second, BULK, now);
            intake.received(chat, 100, now);
        }
        assert_eq!(intake.share(), MOST / 2);
        // One of them has ended.
        for _ in 0..6 {
            now += EPOCH / 2;
            intake.received(&mut parts[0], BULK, now);
        }
        assert_eq!(intake.share(), MOST);
    }
}
