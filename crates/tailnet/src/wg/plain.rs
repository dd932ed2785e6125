//! A stand-in that encrypts nothing.
//!
//! It keeps the shapes, sizes and timers of WireGuard (messages of 148, 92 and 32 + n bytes,
//! keys that must fit, replay protection, retransmission, renewal) and takes its time from the
//! caller, so that engines can meet in a simulated network and a failing run can be repeated byte
//! for byte. For tests only: it protects nothing.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, BytesMut};

use super::repeat::Repeat;
use super::timers::{KEEPALIVE, NEW_HANDSHAKE, REJECT_AFTER, REKEY_ATTEMPT, REKEY_TIMEOUT, Timers};
use super::{Handshake, OpenError, Tunnel, TunnelStats};

const INITIATION: u8 = 1;
const RESPONSE: u8 = 2;
const DATA: u8 = 4;
const INITIATION_LEN: usize = 148;
const RESPONSE_LEN: usize = 92;
const HEADER: usize = 16;
const TAG: usize = 16;
const QUEUE: usize = 256;
/// Replay window in packets, as wireguard-go's.
const WINDOW: u64 = 8192;

/// WireGuard's behaviour without its cryptography.
#[derive(Debug)]
pub struct PlainTunnel {
    own: [u8; 32],
    peer: [u8; 32],
    next_index: u32,
    /// The initiation under way: our index in it, and when the first of this attempt was sent.
    pending: Option<(u32, Instant)>,
    newest_initiation: u64,
    initiations: u64,
    current: Option<Session>,
    previous: Option<Session>,
    unconfirmed: Option<Session>,
    waiting: VecDeque<BytesMut>,
    outgoing: VecDeque<BytesMut>,
    repeat: Option<Repeat>,
    timers: Timers,
    expired: bool,
    stats: TunnelStats,
}

#[derive(Debug)]
struct Session {
    ours: u32,
    theirs: u32,
    sent: u64,
    seen: BTreeSet<u64>,
}

impl Session {
    fn new(ours: u32, theirs: u32) -> Self {
        Self { ours, theirs, sent: 0, seen: BTreeSet::new() }
    }

    fn accept(&mut self, counter: u64) -> bool {
        let newest = self.seen.last().copied().unwrap_or(0);
        if counter + WINDOW < newest || !self.seen.insert(counter) {
            return false;
        }
        while self.seen.first().is_some_and(|oldest| oldest + WINDOW < newest) {
            self.seen.pop_first();
        }
        true
    }
}

impl PlainTunnel {
    /// A tunnel between the owners of two public keys.
    pub fn new(own: &[u8; 32], peer: &[u8; 32]) -> Self {
        Self {
            own: *own,
            peer: *peer,
            next_index: 1,
            pending: None,
            newest_initiation: 0,
            initiations: 0,
            current: None,
            previous: None,
            unconfirmed: None,
            waiting: VecDeque::new(),
            outgoing: VecDeque::new(),
            repeat: None,
            timers: Timers::default(),
            expired: false,
            stats: TunnelStats::default(),
        }
    }

    fn index(&mut self) -> u32 {
        let index = self.next_index;
        self.next_index += 1;
        index
    }

    fn initiate(&mut self, replace: bool, now: Instant) {
        if self.pending.is_some() && !replace {
            return;
        }
        let index = self.index();
        let attempt = self.pending.map_or(now, |(_, since)| since);
        self.pending = Some((index, attempt));
        self.initiations += 1;
        self.expired = false;
        let mut message = BytesMut::with_capacity(INITIATION_LEN);
        message.put_u32_le(u32::from(INITIATION));
        message.put_u32_le(index);
        message.put_u64_le(self.initiations);
        message.put_slice(&self.own);
        message.put_slice(&self.peer);
        message.resize(INITIATION_LEN, 0);
        self.stats.handshakes_initiated += 1;
        self.timers.initiated(now);
        self.repeat = self.current.is_none().then(|| Repeat::new(message.clone()));
        self.outgoing.push_back(message);
    }

    fn established(&mut self, session: Session, initiator: bool, now: Instant) {
        self.previous = self.current.replace(session);
        self.pending = None;
        self.repeat = None;
        self.expired = false;
        self.stats.handshakes_completed += 1;
        self.timers.established(initiator, now);
    }

    fn seal_now(&mut self, mut packet: BytesMut, now: Instant) -> Result<BytesMut, BytesMut> {
        let Some(session) = &mut self.current else { return Err(packet) };
        let data = !packet.is_empty();
        packet.resize(packet.len().next_multiple_of(16), 0);
        let mut message = BytesMut::with_capacity(HEADER + packet.len() + TAG);
        message.put_u32_le(u32::from(DATA));
        message.put_u32_le(session.theirs);
        message.put_u64_le(session.sent);
        message.put_slice(&packet);
        message.put_bytes(0, TAG);
        session.sent += 1;
        if data {
            self.stats.packets_sealed += 1;
        }
        self.timers.sent(data, now);
        Ok(message)
    }

    fn send_keepalive(&mut self, now: Instant) {
        if let Ok(message) = self.seal_now(BytesMut::new(), now) {
            self.outgoing.push_back(message);
        }
    }

    fn take_initiation(&mut self, mut message: BytesMut, now: Instant) -> Result<(), OpenError> {
        message.advance(4);
        let theirs = message.get_u32_le();
        let stamp = message.get_u64_le();
        if message[..32] != self.peer || message[32..64] != self.own {
            return Err(OpenError::Unauthentic);
        }
        if stamp <= self.newest_initiation {
            return Err(OpenError::Replay);
        }
        self.newest_initiation = stamp;
        let ours = self.index();
        let mut response = BytesMut::with_capacity(RESPONSE_LEN);
        response.put_u32_le(u32::from(RESPONSE));
        response.put_u32_le(ours);
        response.put_u32_le(theirs);
        response.resize(RESPONSE_LEN, 0);
        self.outgoing.push_back(response);
        self.unconfirmed = Some(Session::new(ours, theirs));
        self.repeat = None;
        self.timers.received(false, now);
        Ok(())
    }

    fn take_response(&mut self, mut message: BytesMut, now: Instant) -> Result<(), OpenError> {
        message.advance(4);
        let theirs = message.get_u32_le();
        let ours = message.get_u32_le();
        if self.pending.is_none_or(|(pending, _)| pending != ours) {
            return Err(OpenError::NoSession);
        }
        self.timers.received(false, now);
        self.established(Session::new(ours, theirs), true, now);
        self.send_keepalive(now);
        Ok(())
    }

    fn take_data(
        &mut self,
        mut message: BytesMut,
        now: Instant,
    ) -> Result<Option<BytesMut>, OpenError> {
        message.advance(4);
        let index = message.get_u32_le();
        let counter = message.get_u64_le();
        message.truncate(message.len() - TAG);
        if let Some(session) = self.unconfirmed.take_if(|session| session.ours == index) {
            self.established(session, false, now);
        }
        let session = [&mut self.current, &mut self.previous]
            .into_iter()
            .flatten()
            .find(|session| session.ours == index)
            .ok_or(OpenError::NoSession)?;
        if !session.accept(counter) {
            return Err(OpenError::Replay);
        }
        self.stats.packets_opened += 1;
        self.timers.received(!message.is_empty(), now);
        Ok((!message.is_empty()).then_some(message))
    }

    fn expire_sessions(&mut self, now: Instant) {
        if self.timers.session_age(now).is_some_and(|age| age >= REJECT_AFTER) {
            self.current = None;
            self.previous = None;
            self.timers.lost_session();
        }
    }

    fn retransmit(&mut self, now: Instant) {
        let Some((_, attempt)) = self.pending else { return };
        if now.saturating_duration_since(attempt) >= REKEY_ATTEMPT {
            self.pending = None;
            self.repeat = None;
            self.current = None;
            self.expired = true;
            self.stats.queue_dropped += self.waiting.len() as u64;
            self.waiting.clear();
            self.timers.gave_up(now);
        } else if self.timers.initiated_at().is_some_and(|at| at + REKEY_TIMEOUT <= now) {
            self.initiate(true, now);
        }
    }
}

impl Tunnel for PlainTunnel {
    fn connect(&mut self, now: Instant) {
        if self.current.is_none() {
            self.initiate(false, now);
        }
    }

    fn is_ready(&self) -> bool {
        self.current.is_some()
    }

    fn seal(&mut self, packet: BytesMut, now: Instant) -> Option<BytesMut> {
        match self.seal_now(packet, now) {
            Ok(message) => Some(message),
            Err(packet) => {
                if self.waiting.len() == QUEUE {
                    self.waiting.pop_front();
                    self.stats.queue_dropped += 1;
                }
                self.waiting.push_back(packet);
                self.initiate(false, now);
                None
            }
        }
    }

    fn open(&mut self, datagram: BytesMut, now: Instant) -> Result<Option<BytesMut>, OpenError> {
        let result = match (datagram.first().copied(), datagram.len()) {
            (Some(INITIATION), INITIATION_LEN) => {
                self.take_initiation(datagram, now).map(|()| None)
            }
            (Some(RESPONSE), RESPONSE_LEN) => self.take_response(datagram, now).map(|()| None),
            (Some(DATA), len) if len >= HEADER + TAG => self.take_data(datagram, now),
            (Some(_) | None, _) => Err(OpenError::Malformed),
        };
        self.stats.refused += u64::from(result.is_err());
        result
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<BytesMut> {
        if let Some(datagram) = self.outgoing.pop_front() {
            if let Some(repeat) = &mut self.repeat {
                repeat.leaves(&datagram, now);
            }
            return Some(datagram);
        }
        self.current.as_ref()?;
        let packet = self.waiting.pop_front()?;
        self.seal_now(packet, now).ok()
    }

    fn wants_transmit(&self) -> bool {
        !self.outgoing.is_empty() || (self.current.is_some() && !self.waiting.is_empty())
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Some(repeat) = &mut self.repeat
            && let Some(copy) = repeat.poll(now)
            // One that still waits for its carrier is enough.
            && !self.outgoing.iter().any(|waiting| repeat.is_copy(waiting))
        {
            self.stats.initiation_copies += 1;
            self.outgoing.push_back(copy);
        }
        self.expire_sessions(now);
        self.retransmit(now);
        let due =
            |since: Option<Instant>, after: Duration| since.is_some_and(|at| at + after <= now);
        if due(self.timers.want_keepalive_since(), KEEPALIVE) {
            self.send_keepalive(now);
        }
        let silence = due(self.timers.want_handshake_since(), NEW_HANDSHAKE);
        let rekey = [self.timers.rekey_at(), self.timers.renew_at()];
        let rekey = rekey.into_iter().flatten().any(|at| at <= now);
        if silence || rekey {
            self.timers.asked_for_handshake();
            self.initiate(false, now);
        }
        if self.timers.keepalive_at().is_some_and(|at| at <= now) {
            self.send_keepalive(now);
            if self.current.is_none() || self.timers.renew_with_keepalive(now) {
                self.initiate(false, now);
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let repeat = self.repeat.as_ref().and_then(Repeat::deadline);
        [self.timers.deadline(), repeat].into_iter().flatten().min()
    }

    fn set_keepalive(&mut self, interval: Option<Duration>) {
        self.timers.keepalive = interval;
    }

    fn handshake(&self) -> Handshake {
        match (&self.current, self.expired, self.pending) {
            (Some(_), _, _) => Handshake::Established,
            (None, true, _) => Handshake::Expired,
            (None, false, Some(_)) => Handshake::InProgress,
            (None, false, None) => Handshake::Idle,
        }
    }

    fn since_handshake(&self, now: Instant) -> Option<Duration> {
        self.timers.session_age(now)
    }

    fn stats(&self) -> TunnelStats {
        self.stats
    }
}
