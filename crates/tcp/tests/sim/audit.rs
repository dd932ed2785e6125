//! What a host may never do, whatever the path does, seen from outside: segment by segment.
//!
//! * It sends nothing beyond what was offered to it (RFC 9293, 3.8.6), and takes back nothing of what
//!   it offers (3.8.6.2.1).
//! * It acknowledges and reports (RFC 2018) only what has arrived, and takes back no acknowledgement.
//! * It repeats no byte before anybody can have told that it is missing: a round trip, or the floor
//!   of the retransmission timeout (RFC 6298, 2.4).
//! * It answers every segment with bytes soon (RFC 9293, 3.8.6.3).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use coderctl_tcp::Time;

use super::IPV6;

/// The least that a retransmission timeout is.
const TIMEOUT: Duration = Duration::from_millis(200);

/// The latest that an acknowledgement is.
const DELAY: Duration = Duration::from_millis(10);

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// The ports here and there.
type Ports = (u16, u16);

/// All connections of a host.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    connections: HashMap<Ports, Seen>,
    /// Bytes that came, in order.
    came: VecDeque<(Time, Ports)>,
    /// No answer comes sooner.
    pub(crate) round_trip: Duration,
}

/// What was seen of a connection. Places are relative to the SYN of their direction.
#[derive(Debug, Default)]
struct Seen {
    ours: Direction,
    theirs: Direction,
    /// What was sent and not acknowledged: from, to, and when last.
    flying: BTreeMap<u32, (u32, Time)>,
    /// What arrived ahead of its turn: from and to.
    ahead: BTreeMap<u32, u32>,
    /// The newest timestamp that arrived; what is older may be refused (RFC 7323, 5.3).
    newest: u32,
    /// Bytes came then that were not answered yet.
    unanswered: Option<Time>,
    over: bool,
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Direction {
    start: Option<u32>,
    /// Scale of the windows that its sender offers.
    shift: Option<u8>,
    /// Everything before was sent; of theirs, has arrived.
    until: u32,
    /// What the other end has acknowledged of it, and where what it offers ends.
    acknowledged: u32,
    edge: u32,
    finished: bool,
}

/// What matters of a segment.
struct Segment<'a> {
    bytes: &'a [u8],
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    window: u32,
    shift: Option<u8>,
    stamp: Option<u32>,
    reports: Vec<(u32, u32)>,
    length: u32,
}

impl<'a> Segment<'a> {
    fn parse(packet: &'a [u8]) -> Self {
        let bytes = &packet[IPV6..];
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let header = usize::from(bytes[12] >> 4) * 4;
        let mut segment = Self {
            bytes,
            sequence: word(4),
            acknowledgement: word(8),
            flags: bytes[13],
            window: word(12) & 0xffff,
            shift: None,
            stamp: None,
            reports: Vec::new(),
            length: (bytes.len() - header) as u32,
        };
        let mut at = 20;
        while at < header && bytes[at] != 0 {
            match bytes[at] {
                1 => {
                    at += 1;
                    continue;
                }
                3 => segment.shift = Some(bytes[at + 2]),
                5 => {
                    let ends = (at + 2..at + usize::from(bytes[at + 1])).step_by(8);
                    segment.reports = ends.map(|at| (word(at), word(at + 4))).collect();
                }
                8 => segment.stamp = Some(word(at + 2)),
                _ => {}
            }
            at += usize::from(bytes[at + 1]);
        }
        segment
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn ports(&self) -> [u16; 2] {
        [0, 2].map(|at| u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]))
    }

    /// Where its bytes begin, relative to the first one of their direction.
    fn from(&self, start: u32) -> u32 {
        self.sequence.wrapping_sub(start).wrapping_add(u32::from(self.has(SYN)))
    }
}

impl Audit {
    /// A segment leaves the host.
    pub(crate) fn sent(&mut self, packet: &[u8], now: Time) {
        let segment = Segment::parse(packet);
        let [here, there] = segment.ports();
        let seen = self.connections.entry((here, there)).or_default();
        if segment.has(RST) {
            seen.over = true;
            return;
        }
        if segment.has(SYN) {
            if !segment.has(ACK) && seen.ours.start != Some(segment.sequence) {
                *seen = Seen::default();
            }
            seen.ours.begin(&segment);
        }
        if seen.ours.start.is_none() {
            // Of a connection that is forgotten.
            return;
        }
        if let (true, Some(start)) = (segment.has(ACK), seen.theirs.start) {
            seen.acknowledges(&segment, start);
        }
        seen.sends(&segment, self.round_trip.min(TIMEOUT), now);
    }

    /// A segment arrives at the host, undamaged.
    pub(crate) fn arrived(&mut self, packet: &[u8], now: Time) {
        let segment = Segment::parse(packet);
        let [there, here] = segment.ports();
        let seen = self.connections.entry((here, there)).or_default();
        if segment.has(SYN) {
            let another = seen.theirs.start.is_some_and(|start| start != segment.sequence);
            if !segment.has(ACK) && another {
                *seen = Seen::default();
            }
            seen.theirs.begin(&segment);
        }
        seen.over |= segment.has(RST);
        if let (true, Some(start)) = (segment.has(ACK), seen.ours.start) {
            seen.hears(&segment, start);
        }
        if let Some(start) = seen.theirs.start
            && seen.takes(&segment, start)
        {
            seen.unanswered.get_or_insert(now);
            self.came.push_back((now, (here, there)));
        }
    }

    /// Everything that was to leave now has left.
    pub(crate) fn rests(&mut self, now: Time) {
        while self.came.front().is_some_and(|(at, _)| now.since(*at) > DELAY) {
            let Some((at, ports)) = self.came.pop_front() else { return };
            let seen = &self.connections[&ports];
            let late = !seen.over && seen.unanswered.is_some_and(|since| since <= at);
            assert!(!late, "{ports:?}, {now:?}: bytes were not answered: {seen:?}");
        }
    }
}

impl Direction {
    fn begin(&mut self, segment: &Segment<'_>) {
        if self.start != Some(segment.sequence) {
            *self = Self { start: Some(segment.sequence), until: 1, edge: 1, ..Self::default() };
        }
        self.shift = segment.shift;
    }
}

impl Seen {
    /// The scale of a segment's window: there is one if both have offered it, and none in a SYN.
    fn shift(&self, segment: &Segment<'_>, of: &Direction) -> u32 {
        match (self.ours.shift, self.theirs.shift) {
            (Some(_), Some(_)) if !segment.has(SYN) => u32::from(of.shift.unwrap_or(0)),
            _ => 0,
        }
    }

    fn acknowledges(&mut self, segment: &Segment<'_>, start: u32) {
        let shift = self.shift(segment, &self.ours);
        let until = segment.acknowledgement.wrapping_sub(start);
        let theirs = &self.theirs;
        assert!(until <= theirs.until, "{until} is acknowledged: {self:?}");
        assert!(until >= theirs.acknowledged, "{until} is taken back: {self:?}");
        let edge = until + (segment.window << shift);
        // When all has arrived there is nothing to be offered.
        let shrinks = edge + (1 << shift) <= theirs.edge && !self.over;
        assert!(!shrinks, "offered until {edge}: {self:?}");
        for report in &segment.reports {
            let (from, to) = (report.0.wrapping_sub(start), report.1.wrapping_sub(start));
            let known = self.ahead.range(..=from).next_back().is_some_and(|(_, end)| to <= *end);
            assert!(to <= theirs.until || known, "{from} to {to} is reported: {self:?}");
        }
        (self.theirs.acknowledged, self.theirs.edge) = (until, edge.max(self.theirs.edge));
        self.unanswered = None;
    }

    fn sends(&mut self, segment: &Segment<'_>, patience: Duration, now: Time) {
        let Some(start) = self.ours.start else { return };
        let from = segment.from(start);
        let to = from + segment.length;
        self.ours.finished |= segment.has(FIN);
        if segment.length == 0 {
            return;
        }
        assert!(to <= self.ours.edge, "{from} to {to} is sent: {self:?}");
        while let Some((&known, &(end, last))) = self.flying.range(..to).next_back()
            && end > from
        {
            let early = now.since(last) < patience;
            assert!(!early, "{known} to {end} again at {now:?}: {self:?}");
            self.flying.remove(&known);
        }
        self.flying.insert(from, (to, now));
        self.ours.until = self.ours.until.max(to);
    }

    fn hears(&mut self, segment: &Segment<'_>, start: u32) {
        let shift = self.shift(segment, &self.theirs);
        let until = segment.acknowledgement.wrapping_sub(start);
        self.ours.acknowledged = self.ours.acknowledged.max(until);
        self.ours.edge = self.ours.edge.max(until + (segment.window << shift));
        while self.flying.first_key_value().is_some_and(|(_, (end, _))| *end <= until) {
            self.flying.pop_first();
        }
    }

    /// Takes in what arrives; whether it has to be answered.
    fn takes(&mut self, segment: &Segment<'_>, start: u32) -> bool {
        let from = segment.from(start);
        let old = segment.stamp.is_some_and(|it| (it.wrapping_sub(self.newest) as i32) < 0);
        if let Some(stamp) = segment.stamp.filter(|_| !old) {
            self.newest = stamp;
        }
        self.theirs.finished |= segment.has(FIN);
        self.over |= self.ours.finished && self.theirs.finished;
        // A FIN is a place of its own.
        let (mut first, mut end) = (from, from + segment.length + u32::from(segment.has(FIN)));
        while let Some((before, until)) = self.ahead.range(..=end).next_back()
            && *until >= first
        {
            (first, end) = (first.min(*before), end.max(*until));
            let before = *before;
            self.ahead.remove(&before);
        }
        if first <= self.theirs.until {
            self.theirs.until = self.theirs.until.max(end);
        } else {
            self.ahead.insert(first, end);
        }
        segment.length > 0 && !old && from < self.theirs.edge
    }
}
