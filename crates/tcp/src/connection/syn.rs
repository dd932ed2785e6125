//! The handshake (RFC 9293, 3.5).

use std::time::Duration;

use super::{Noted, Reaction, Tuple};
use crate::config::{Config, HEADERS, WIDEST};
use crate::event::CloseReason;
use crate::receive::Receiver;
use crate::segment::{Flags, Header, Options, Segment, Stamps};
use crate::seq::Seq;
use crate::time::Time;

/// The first repetition of a SYN comes after this (RFC 6298, 2.1), each further one after twice as
/// long.
const REPEAT: Duration = Duration::from_secs(1);

/// What we scale our windows by (RFC 7323, 2.3): enough for 8 MiB.
pub(super) const SHIFT: u8 = 7;

/// What an other end that names none takes (RFC 9293, 3.7.1, for IPv6).
const DEFAULT_MSS: u16 = 1220;

/// Smaller segments are not made, whatever the other end says: they would cost us more than it
/// (Linux: `TCP_MIN_MSS`).
const LEAST_MSS: u16 = 88;

/// Our SYN.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Syn {
    /// Its sequence number.
    pub(crate) iss: Seq,
    /// When it was sent first, and how often.
    first: Option<Time>,
    sent: u32,
    /// When it is to be sent next.
    due: Time,
}

/// The other end's SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Its sequence number.
    pub(crate) irs: Seq,
    pub(super) mss: u16,
    pub(super) shift: Option<u8>,
    pub(super) sack: bool,
    /// Its timestamp, if it has one.
    pub(super) stamp: Option<u32>,
    pub(super) window: u16,
    /// We did not ask, it did.
    passive: bool,
}

/// What follows from a segment.
pub(super) enum Step {
    Stay(Reaction),
    /// Both asked at the same time.
    Cross(Heard),
    Open(Heard),
}

const NOTHING: Step = Step::Stay(Reaction::Noted(Noted {
    received: 0,
    peer_closed: false,
    acknowledged: 0,
    rtt: None,
    lost: false,
    missing: false,
}));

impl Heard {
    /// Reads a SYN.
    pub(crate) fn read(header: &Header, passive: bool) -> Self {
        let options = header.options;
        Self {
            irs: Seq::initial(header.sequence),
            mss: options.mss.unwrap_or(DEFAULT_MSS).clamp(LEAST_MSS, largest(WIDEST)),
            shift: options.window_shift,
            sack: options.sack_permitted,
            stamp: options.stamps.map(|it| it.value),
            window: header.window,
            passive,
        }
    }
}

impl Syn {
    pub(crate) fn new(iss: Seq, now: Time) -> Self {
        Self { iss, first: None, sent: 0, due: now }
    }

    /// It was sent before.
    pub(super) const fn was_sent(&self) -> bool {
        self.sent > 0
    }

    /// When it is to be sent.
    pub(super) const fn due(&self) -> Time {
        self.due
    }

    /// The same SYN, to be sent at once with an acknowledgement of theirs.
    pub(super) fn crossed(&self, now: Time) -> Self {
        Self { due: now, ..*self }
    }

    /// The round trip since, if it is clear which SYN was answered.
    pub(super) fn round_trip(&self, now: Time) -> Option<Duration> {
        self.first.filter(|_| self.sent == 1).map(|sent| now.since(sent))
    }

    /// A segment in SYN-SENT (RFC 9293, 3.10.7.3).
    pub(super) fn ingest_sent(&mut self, tuple: &Tuple, segment: &Segment<'_>, _now: Time) -> Step {
        let header = &segment.header;
        let flags = header.flags;
        let acknowledges = flags.ack && header.acknowledgement == (self.iss + 1).wire();
        // Only what was sent can be acknowledged.
        if flags.ack && (!acknowledges || self.sent == 0) {
            return if flags.rst { NOTHING } else { refuse(tuple, segment) };
        }
        match (flags.rst, flags.syn, flags.ack) {
            (true, _, true) => Step::Stay(Reaction::Ended(CloseReason::Refused)),
            (false, true, true) => Step::Open(Heard::read(header, false)),
            (false, true, false) => Step::Cross(Heard::read(header, false)),
            (true, _, false) | (false, false, _) => NOTHING,
        }
    }

    /// A segment in SYN-RECEIVED (RFC 9293, 3.10.7.4).
    pub(super) fn ingest_received(
        &mut self,
        tuple: &Tuple,
        heard: Heard,
        segment: &Segment<'_>,
        now: Time,
    ) -> Step {
        let header = &segment.header;
        let flags = header.flags;
        let next = heard.irs + 1;
        let sequence = next.near(header.sequence);
        let acknowledges = flags.ack && header.acknowledgement == (self.iss + 1).wire();
        if flags.rst {
            // RFC 5961, 3.2: exactly in place, or it may be anybody's.
            return match (sequence == next, heard.passive) {
                (true, true) => Step::Stay(Reaction::Withdrawn),
                (true, false) => Step::Stay(Reaction::Ended(CloseReason::Refused)),
                (false, _) => NOTHING,
            };
        }
        if flags.syn {
            return if sequence == heard.irs && acknowledges {
                // Both asked, both are answered.
                Step::Open(heard)
            } else {
                // Our answer was lost; or another connection begins, which ours keeps out until it
                // is over. The answer tells where we are (RFC 5961, 4).
                self.due = now;
                NOTHING
            };
        }
        let end = next + usize::from(Receiver::first_window());
        if sequence < next || sequence >= end {
            self.due = now;
            return NOTHING;
        }
        match (flags.ack, acknowledges) {
            (true, true) => Step::Open(heard),
            (true, false) => refuse(tuple, segment),
            (false, _) => NOTHING,
        }
    }

    /// The SYN, with an acknowledgement of theirs if there is one.
    pub(super) fn make(
        &self,
        tuple: &Tuple,
        heard: Option<&Heard>,
        config: &Config,
        now: Time,
    ) -> Header {
        let offers = |theirs: Option<bool>| theirs.unwrap_or(true);
        let echo = heard.and_then(|it| it.stamp);
        let stamps = config.timestamps && offers(heard.map(|it| it.stamp.is_some()));
        Header {
            source: tuple.port,
            destination: tuple.remote_port,
            sequence: self.iss.wire(),
            acknowledgement: heard.map_or(0, |it| (it.irs + 1).wire()),
            flags: Flags { syn: true, ack: heard.is_some(), ..Flags::default() },
            window: Receiver::first_window(),
            options: Options {
                mss: Some(largest(config.widest)),
                window_shift: offers(heard.map(|it| it.shift.is_some())).then_some(SHIFT),
                sack_permitted: offers(heard.map(|it| it.sack)),
                stamps: stamps.then(|| Stamps { value: now.stamp(), echo: echo.unwrap_or(0) }),
                ..Options::default()
            },
        }
    }

    /// It is to be sent again.
    pub(super) fn repeat(&mut self, now: Time) {
        self.due = now;
    }

    /// It left.
    pub(super) fn sent(&mut self, now: Time) {
        self.first.get_or_insert(now);
        self.due = now + REPEAT.saturating_mul(1 << self.sent.min(6));
        self.sent += 1;
    }
}

/// The largest segment in packets of so many bytes.
fn largest(packet: usize) -> u16 {
    u16::try_from(packet.saturating_sub(HEADERS)).unwrap_or(u16::MAX)
}

/// The answer to a segment that is not of this connection.
fn refuse(tuple: &Tuple, segment: &Segment<'_>) -> Step {
    Step::Stay(Reaction::Reset(refusal(tuple, segment)))
}

/// The RST that answers a segment of no connection, which must not be a RST itself
/// (RFC 9293, 3.10.7.1).
pub(crate) fn refusal(tuple: &Tuple, segment: &Segment<'_>) -> Header {
    let header = &segment.header;
    if header.flags.ack {
        reset(tuple, Seq::initial(header.acknowledgement), None)
    } else {
        let end = Seq::initial(header.sequence) + segment.occupies();
        reset(tuple, Seq::initial(0), Some(end))
    }
}

/// A RST.
pub(super) fn reset(tuple: &Tuple, sequence: Seq, acknowledgement: Option<Seq>) -> Header {
    Header {
        source: tuple.port,
        destination: tuple.remote_port,
        sequence: sequence.wire(),
        acknowledgement: acknowledgement.map_or(0, Seq::wire),
        flags: Flags { rst: true, ack: acknowledgement.is_some(), ..Flags::default() },
        ..Header::default()
    }
}
